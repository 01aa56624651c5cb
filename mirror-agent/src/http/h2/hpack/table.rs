//! The static and the dynamic table of header fields (RFC 7541 section 2.3, appendix A).

use std::collections::VecDeque;

/// Size of a dynamic table that nobody spoke of (RFC 9113 section 6.5.2), bytes.
pub(super) const INITIAL_BYTES: u32 = 4096;

/// Name and value of the static entries; the first has index 1.
#[rustfmt::skip]
const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// A static entry.
#[cfg(test)]
pub(in crate::http::h2) fn fixed(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    STATIC.get(index - 1).copied()
}

/// Both tables of a decoder.
///
/// The bytes of all dynamic entries lie one after the other, the oldest first, so that an entry costs no allocation of its
/// own. Memory: up to twice the size of the table, and the slack of a growing vector.
#[derive(Debug)]
pub(super) struct Table {
    /// The youngest is at the front: it has the lowest index.
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// Where in the bytes of all entries that ever were `bytes` begins.
    base: u64,
    /// Size as section 4.1 counts it.
    size: u32,
    max_size: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it begins among the bytes of all entries that ever were.
    at: u64,
    name: u32,
    value: u32,
}

impl Entry {
    /// What an entry costs beside its bytes (section 4.1).
    const COST: u32 = 32;

    fn end(self) -> u64 {
        self.at + u64::from(self.name) + u64::from(self.value)
    }

    fn size(self) -> u32 {
        self.name + self.value + Self::COST
    }
}

impl Table {
    pub(super) fn new(max_size: u32) -> Self {
        Self { entries: VecDeque::new(), bytes: Vec::new(), base: 0, size: 0, max_size }
    }

    /// Memory it takes beside its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Name and value at `index` (section 2.3.3).
    pub(super) fn get(&self, index: u32) -> Option<(&[u8], &[u8])> {
        let index = (index as usize).checked_sub(1)?;
        if let Some(&fixed) = STATIC.get(index) {
            return Some(fixed);
        }
        let entry = self.entries.get(index - STATIC.len())?;
        let from = usize::try_from(entry.at - self.base).ok()?;
        let to = usize::try_from(entry.end() - self.base).ok()?;
        self.bytes.get(from..to)?.split_at_checked(entry.name as usize)
    }

    /// Adds an entry; older ones make room. One that is larger than the table empties it (section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let at = self.base + self.bytes.len() as u64;
        let fits = |len: usize| u32::try_from(len).ok().filter(|&len| len <= self.max_size);
        let (Some(name_len), Some(value_len)) = (fits(name.len()), fits(value.len())) else {
            return self.shrink(0);
        };
        let entry = Entry { at, name: name_len, value: value_len };
        let Some(room) = self.max_size.checked_sub(entry.size()) else { return self.shrink(0) };
        self.shrink(room);
        // What is gone makes room once it is the larger part, so that a byte is moved at most once.
        let gone = self.entries.back().map_or(self.bytes.len() as u64, |oldest| oldest.at - self.base);
        if gone * 2 >= self.bytes.len() as u64 {
            self.bytes.drain(..usize::try_from(gone).unwrap_or(0).min(self.bytes.len()));
            self.base += gone;
        }
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// Changes its size (section 4.3).
    pub(super) fn resize(&mut self, max_size: u32) {
        self.max_size = max_size;
        self.shrink(max_size);
    }

    /// Lets entries go until it is at most `size` large.
    fn shrink(&mut self, size: u32) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size();
        }
    }
}
