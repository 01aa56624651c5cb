//! From the plan's fields to a header block (RFC 7541): every field as it stands and in its place.
//!
//! Without a table of its own: names and values that the static table has go by their number, all others as they are. It
//! costs the shadow nothing to read, and nothing of it has to be kept.

use crate::plan::fields;

/// Appends the header block of `written`, which a [`crate::plan::FieldWriter`] wrote.
pub(super) fn encode(written: &[u8], out: &mut Vec<u8>) {
    for field in fields(written) {
        let name = written.get(field.name).unwrap_or_default();
        let value = written.get(field.value).unwrap_or_default();
        if !field.never_indexed
            && let Some(index) = whole(name, value)
        {
            out.push(0x80 | index);
            continue;
        }
        let first = if field.never_indexed { 0x10 } else { 0 };
        match known(name) {
            0 => {
                out.push(first);
                string(name, out);
            }
            index => integer(first, 4, index.into(), out),
        }
        string(value, out);
    }
}

/// The method of a request.
pub(super) fn method(written: &[u8]) -> &[u8] {
    fields(written)
        .find(|field| written.get(field.name.clone()) == Some(b":method"))
        .and_then(|field| written.get(field.value))
        .unwrap_or_default()
}

/// The number of a field in the static table (RFC 7541 appendix A).
fn whole(name: &[u8], value: &[u8]) -> Option<u8> {
    Some(match (name, value) {
        (b":method", b"GET") => 2,
        (b":method", b"POST") => 3,
        (b":path", b"/") => 4,
        (b":scheme", b"http") => 6,
        (b":scheme", b"https") => 7,
        (b"accept-encoding", b"gzip, deflate") => 16,
        _ => return None,
    })
}

/// The number of a name there, of those that requests have; 0 for the others.
fn known(name: &[u8]) -> u8 {
    match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 4,
        b":scheme" => 6,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept" => 19,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"expect" => 35,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"max-forwards" => 47,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"user-agent" => 58,
        b"via" => 60,
        _ => 0,
    }
}

/// Section 5.1; `first` holds the bits before the prefix.
fn integer(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Section 5.2, not compressed.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer(0, 7, bytes.len(), out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::{encode, method};
    use crate::http::{AnswerHead, AnswerHeads};
    use crate::plan::FieldWriter;

    fn written(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FieldWriter::new(&mut bytes);
        for (name, value) in fields {
            writer.push(name.as_bytes(), &[value], *name == "authorization");
        }
        bytes
    }

    #[test]
    fn fields_go_by_their_number_by_the_number_of_their_name_or_as_they_are() {
        let fields: [(&str, &[u8]); 8] = [
            (":method", b"GET"),
            (":scheme", b"https"),
            (":authority", b"a"),
            (":path", b"/#<"),
            ("user-agent", b"x"),
            ("authorization", b"s"),
            ("z", b""),
            ("z", b"\xff"),
        ];
        let written = written(&fields);
        assert_eq!(method(&written), b"GET");
        let mut out = Vec::new();
        encode(&written, &mut out);
        let expected: [&[u8]; 8] = [
            b"\x82",
            b"\x87",
            b"\x01\x01a",
            b"\x04\x03/#<",
            b"\x0f\x2b\x01x",
            b"\x1f\x08\x01s",
            b"\x00\x01z\x00",
            b"\x00\x01z\x01\xff",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn values_of_any_length_are_read_to_their_end_and_no_further() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 20_000] {
            let mut block = vec![0x88];
            encode(&written(&[("x", &vec![b'0'; length]), ("content-length", b"7")]), &mut block);
            let head = AnswerHead { status: Some(200), content_length: Some(7), ..AnswerHead::default() };
            assert_eq!(AnswerHeads::new(64 * 1024).read(&block), Some(head), "{length} bytes");
        }
    }
}
