//! An HPACK encoder as plain as can be: the model that the decoder is held against.

use super::super::hpack::{huffman_encode, static_entry};

/// How a field is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By its index if it is in a table, else added to the table.
    Index,
    /// A literal that is added to the table.
    Add,
    /// A literal that is not.
    Plain,
    /// A literal that never is.
    Never,
}

#[derive(Debug)]
pub(crate) struct Encoder {
    /// The youngest entry first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
    max: usize,
    pub(crate) huffman: bool,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { table: Vec::new(), max: 4096, huffman: false }
    }

    pub(crate) fn resize(&mut self, max: usize, out: &mut Vec<u8>) {
        integer(0x20, 5, max, out);
        self.max = max;
        self.fit(0);
    }

    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], how: How, out: &mut Vec<u8>) {
        let entries = || {
            let fixed = (1..=61).map(|at| static_entry(at).unwrap());
            fixed.chain(self.table.iter().map(|(name, value)| (&name[..], &value[..])))
        };
        let whole = entries().position(|entry| entry == (name, value));
        let named = entries().position(|entry| entry.0 == name);
        if let (How::Index, Some(at)) = (how, whole) {
            return integer(0x80, 7, at + 1, out);
        }
        let (first, prefix) = match how {
            How::Index | How::Add => (0x40, 6),
            How::Plain => (0, 4),
            How::Never => (0x10, 4),
        };
        integer(first, prefix, named.map_or(0, |at| at + 1), out);
        if named.is_none() {
            self.string(name, out);
        }
        self.string(value, out);
        if first == 0x40 {
            let size = name.len() + value.len() + 32;
            self.fit(size);
            if size <= self.max {
                self.table.insert(0, (name.to_vec(), value.to_vec()));
            }
        }
    }

    fn fit(&mut self, room: usize) {
        let size =
            |table: &[(Vec<u8>, Vec<u8>)]| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while !self.table.is_empty() && size(&self.table) + room > self.max {
            self.table.pop();
        }
    }

    fn string(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.huffman {
            let mut coded = Vec::new();
            huffman_encode(text, &mut coded);
            integer(0x80, 7, coded.len(), out);
            out.extend(coded);
        } else {
            integer(0, 7, text.len(), out);
            out.extend(text);
        }
    }
}

/// RFC 7541 section 5.1.
pub(crate) fn integer(first: u8, prefix: u32, mut value: usize, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    value -= most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
