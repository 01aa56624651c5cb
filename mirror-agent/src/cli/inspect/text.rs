//! Bytes of strangers as text: for a JSON reader, and for a terminal.

/// Appends bytes as a JSON string: as UTF-8 if they are, else byte by byte as ISO 8859-1.
pub(super) fn quote(bytes: &[u8], to: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => escaped(text, to),
        Err(_) => escaped(&bytes.iter().copied().map(char::from).collect::<String>(), to),
    }
}

fn escaped(text: &str, to: &mut String) {
    use std::fmt::Write as _;
    to.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        to.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => to.push_str("\\\""),
            b'\\' => to.push_str("\\\\"),
            _ => {
                let _infallible = write!(to, "\\u{byte:04x}");
            }
        }
    }
    to.push_str(&text[from..]);
    to.push('"');
}

/// Appends bytes for a terminal: what could move its cursor is escaped.
pub(super) fn plain(bytes: &[u8], to: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() { to.extend(character.escape_default()) } else { to.push(character) }
        }
        for byte in chunk.invalid() {
            to.extend(byte.escape_ascii().map(char::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{plain, quote};

    #[test]
    fn strings_survive_a_json_reader_whatever_their_bytes() {
        for bytes in [&b"plain"[..], b"q\"b\\s\x01\x7f\n", "grün \u{1f600}".as_bytes(), b"", b"/\xff\xe9"] {
            let mut text = String::new();
            quote(bytes, &mut text);
            let read: String = serde_json::from_str(&text).unwrap();
            let expected = String::from_utf8(bytes.to_vec())
                .unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect());
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let mut text = String::new();
        plain(b"/a\x1b[2J\xff\xc2\x9b", &mut text);
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
