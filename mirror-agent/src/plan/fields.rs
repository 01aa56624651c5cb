//! The head of an HTTP/2 copy in one run of bytes: what the plan writes once and every copy of a request shares.

use crate::http::HeaderField;

/// Appends fields to a buffer: for each the length of its name and of its value (4 bytes each, little-endian; the top
/// bit of the first says "never indexed"), then both. Pseudo-fields stand in front, in the order of RFC 9113 section
/// 8.3.1.
#[derive(Debug)]
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// Set in the length of a name: the field must not be put into a compression table (RFC 7541 section 6.2.3).
const NEVER_INDEXED: u32 = 1 << 31;
/// Bytes in front of a name.
const LENGTHS: usize = 8;

impl<'a> FieldWriter<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// One field; `value` in pieces. A field that is longer than a header list can be is cut, which nobody asks for.
    pub fn push(&mut self, name: &[u8], value: &[&[u8]], never_indexed: bool) {
        let flag = if never_indexed { NEVER_INDEXED } else { 0 };
        let length = |len: usize| u32::try_from(len).unwrap_or(0) & !NEVER_INDEXED;
        let value_len = length(value.iter().map(|piece| piece.len()).sum());
        self.out.extend_from_slice(&(length(name.len()) | flag).to_le_bytes());
        self.out.extend_from_slice(&value_len.to_le_bytes());
        self.out.extend_from_slice(name);
        for piece in value {
            self.out.extend_from_slice(piece);
        }
    }

    /// A field as the client sent it; gRPC's binary metadata that client and primary agreed to send as it is goes in base64,
    /// which every peer takes (gRPC over HTTP2, "Custom-Metadata"). One that says something about the client's connection is
    /// left out.
    pub fn copy(&mut self, field: &HeaderField<'_>) {
        if field.is_of_connection() {
            return;
        }
        match field.value.split_first() {
            Some((0, binary)) => self.push(field.name, &[&base64(binary)], field.never_indexed),
            _ => self.push(field.name, &[field.value], field.never_indexed),
        }
    }

    /// Fields that another writer wrote.
    pub fn append(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }
}

/// RFC 4648 section 4, without padding.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digits = (0..=three.len()).map(|at| (bits >> (18 - 6 * at) & 63) as usize);
        out.extend(digits.filter_map(|digit| DIGITS.get(digit)));
    }
    out
}

/// One field of a run of bytes, as ranges into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldAt {
    /// The name.
    pub name: std::ops::Range<usize>,
    /// The value.
    pub value: std::ops::Range<usize>,
    /// It must not be put into a compression table.
    pub never_indexed: bool,
}

/// The fields of what a [`FieldWriter`] wrote, in order.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = FieldAt> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let lengths: [u8; LENGTHS] = bytes.get(at..at + LENGTHS)?.try_into().ok()?;
        let [a, b, c, d, e, f, g, h] = lengths;
        let (first, second) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let name = at + LENGTHS..at + LENGTHS + (first & !NEVER_INDEXED) as usize;
        let value = name.end..name.end + second as usize;
        at = value.end;
        (at <= bytes.len()).then_some(FieldAt { name, value, never_indexed: first & NEVER_INDEXED != 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::{FieldWriter, base64, fields};
    use crate::http::HeaderField;

    #[test]
    fn binary_metadata_goes_in_base64_and_nothing_else_does() {
        for (binary, text) in [
            (&b""[..], &b""[..]),
            (b"f", b"Zg"),
            (b"fo", b"Zm8"),
            (b"foo", b"Zm9v"),
            (b"foobar", b"Zm9vYmFy"),
            (b"\0\xff\xfe", b"AP/+"),
        ] {
            assert_eq!(base64(binary), text);
        }
        let mut bytes = Vec::new();
        for value in [&b"\0\xffa"[..], b"AP8"] {
            FieldWriter::new(&mut bytes).copy(&HeaderField { name: b"x-bin", value, never_indexed: false });
        }
        let values: Vec<_> = fields(&bytes).map(|field| &bytes[field.value]).collect();
        assert_eq!(values, [b"/2E", b"AP8"]);
    }

    #[test]
    fn fields_come_back_in_order_with_their_flag() {
        let mut bytes = Vec::new();
        let mut writer = FieldWriter::new(&mut bytes);
        writer.push(b":path", &[b"/"], false);
        writer.push(b"cookie", &[b"a", b"=b"], true);
        writer.push(b"empty", &[], false);
        let read: Vec<_> = fields(&bytes)
            .map(|field| (&bytes[field.name.clone()], &bytes[field.value.clone()], field.never_indexed))
            .collect();
        assert_eq!(
            read,
            [
                (&b":path"[..], &b"/"[..], false),
                (&b"cookie"[..], &b"a=b"[..], true),
                (&b"empty"[..], &b""[..], false)
            ]
        );
    }

    #[test]
    fn bytes_that_are_cut_end_the_list_without_a_panic() {
        let mut bytes = Vec::new();
        FieldWriter::new(&mut bytes).push(b"name", &[b"value"], false);
        for end in 0..bytes.len() {
            assert_eq!(fields(&bytes[..end]).count(), 0);
        }
    }
}
