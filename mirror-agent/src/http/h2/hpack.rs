//! Header compression (RFC 7541), decoding side.
//!
//! A passive reader has no say in the sizes: the table that the sender's encoder uses is announced by the other side's
//! SETTINGS, which may not be seen. It need not be: an encoder that uses anything but the initial 4096 bytes says so at
//! the beginning of a header block (section 4.2), so size updates are followed, up to a limit.
//!
//! Whatever comes, a block costs no more memory than its limits, and every block is read to its end even if its header
//! list is over them: the table must go on. A block that cannot be read leaves the table unknown and ends the connection.
//! Why this is not a crate: docs/adr/0008.

mod huffman;
mod table;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use self::{huffman::encode as huffman_encode, table::fixed as static_entry};

use table::Table;

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fail {
    /// It breaks RFC 7541.
    Broken,
    /// It asks for a larger table than is followed.
    TableTooLarge,
    /// Its header list is so large that reading on is not worth it.
    ListTooLarge,
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    max_table: u32,
}

/// A decoded header list; a buffer to use again.
#[derive(Debug, Default)]
pub(super) struct List {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// Size as section 4.1 counts it, of all fields, kept or not.
    size: u64,
    over: bool,
}

/// How large a list may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most fields kept.
    pub(super) fields: usize,
    /// Largest list kept: bytes of names and values, and 32 for each field.
    pub(super) keep: u64,
    /// Largest list read at all.
    pub(super) read: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: u32,
    value: u32,
    end: u32,
    never_indexed: bool,
}

/// What a field costs beside its bytes (section 4.1).
const FIELD_COST: u64 = 32;
/// Memory of a list that is kept from one block to the next.
const KEPT_BYTES: usize = 4 << 10;

impl Decoder {
    /// A decoder that follows tables of up to `max_table` bytes, taken as at most 16 MiB.
    pub(super) fn new(max_table: u32) -> Self {
        let max_table = max_table.min(16 << 20);
        Self { table: Table::new(max_table.min(table::INITIAL_BYTES)), max_table }
    }

    /// Reads a whole header block into `list`.
    ///
    /// # Errors
    /// If the block cannot be read. The decoder must not be used any more.
    pub(super) fn decode(&mut self, block: &[u8], bounds: Bounds, list: &mut List) -> Result<(), Fail> {
        list.clear();
        let mut rest = Reader { bytes: block };
        while let Some(&first) = rest.bytes.first() {
            if first & 0xe0 != 0x20 {
                break;
            }
            let size = rest.integer(5).ok_or(Fail::Broken)?;
            if size > self.max_table {
                return Err(Fail::TableTooLarge);
            }
            self.table.resize(size);
        }
        while let Some(&first) = rest.bytes.first() {
            self.field(first, &mut rest, bounds, list)?;
        }
        Ok(())
    }

    /// Memory it takes beside its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        self.table.memory()
    }

    fn field(
        &mut self,
        first: u8,
        rest: &mut Reader<'_>,
        bounds: Bounds,
        list: &mut List,
    ) -> Result<(), Fail> {
        let (prefix, indexed) = match first {
            0x80.. => {
                let index = rest.integer(7).ok_or(Fail::Broken)?;
                let (name, value) = self.table.get(index).ok_or(Fail::Broken)?;
                let start = list.bytes.len();
                list.bytes.extend_from_slice(name);
                let middle = list.bytes.len();
                list.bytes.extend_from_slice(value);
                return list.add(start, middle, false, bounds);
            }
            0x40..=0x7f => (6, true),
            // A size update can only come first.
            0x20..=0x3f => return Err(Fail::Broken),
            0x00..=0x1f => (4, false),
        };
        let start = list.bytes.len();
        match rest.integer(prefix).ok_or(Fail::Broken)? {
            0 => rest.string(&mut list.bytes).ok_or(Fail::Broken)?,
            index => list.bytes.extend_from_slice(self.table.get(index).ok_or(Fail::Broken)?.0),
        }
        let middle = list.bytes.len();
        rest.string(&mut list.bytes).ok_or(Fail::Broken)?;
        if indexed {
            self.table.insert(&list.bytes[start..middle], &list.bytes[middle..]);
        }
        list.add(start, middle, first & 0xf0 == 0x10, bounds)
    }
}

impl List {
    /// Its fields: name, value, and whether the sender forbids to index them.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        self.lines.iter().map(|line| {
            let bytes = |from: u32, to: u32| self.bytes.get(from as usize..to as usize).unwrap_or_default();
            (bytes(line.name, line.value), bytes(line.value, line.end), line.never_indexed)
        })
    }

    /// Memory it takes beside its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// It is over its bounds, and the rest of it was read but not kept.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Empties it, and gives back what is not worth keeping.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES / size_of::<Line>());
        self.size = 0;
        self.over = false;
    }

    /// Takes the bytes from `start` on for a field whose value begins at `middle`.
    fn add(&mut self, start: usize, middle: usize, never_indexed: bool, bounds: Bounds) -> Result<(), Fail> {
        self.size += (self.bytes.len() - start) as u64 + FIELD_COST;
        if self.size > bounds.read {
            return Err(Fail::ListTooLarge);
        }
        self.over |= self.size > bounds.keep || self.lines.len() >= bounds.fields;
        match (u32::try_from(start), u32::try_from(middle), u32::try_from(self.bytes.len())) {
            (Ok(name), Ok(value), Ok(end)) if !self.over => {
                self.lines.push(Line { name, value, end, never_indexed });
            }
            _ => self.bytes.truncate(start),
        }
        Ok(())
    }
}

/// What is left of a block.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    /// An integer whose prefix fills the low `prefix` bits of the first byte (section 5.1). None of a header block needs
    /// more than 32 bits, nor more bytes than those take.
    fn integer(&mut self, prefix: u32) -> Option<u32> {
        let (&first, mut rest) = self.bytes.split_first()?;
        let mask = (1u32 << prefix) - 1;
        let mut value = u32::from(first) & mask;
        if value == mask {
            for shift in (0..35).step_by(7) {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                let part = u64::from(byte & 0x7f) << shift;
                value = value.checked_add(u32::try_from(part).ok()?)?;
                if byte < 0x80 {
                    self.bytes = rest;
                    return Some(value);
                }
            }
            return None;
        }
        self.bytes = rest;
        Some(value)
    }

    /// A string literal (section 5.2), appended to `out`.
    fn string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let huffman = self.bytes.first()? & 0x80 != 0;
        let len = usize::try_from(self.integer(7)?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        if huffman {
            huffman::decode(text, out)
        } else {
            out.extend_from_slice(text);
            Some(())
        }
    }
}
