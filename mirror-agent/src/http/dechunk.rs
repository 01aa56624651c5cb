//! The parts of a chunked body (RFC 9112 section 7.1).

use super::chunked::{Chunks, Part, Piece};

/// Takes a chunked body apart, in pieces of any size.
#[derive(Debug)]
pub struct Dechunker {
    chunks: Chunks,
}

impl Default for Dechunker {
    fn default() -> Self {
        Self { chunks: Chunks::new() }
    }
}

impl Dechunker {
    /// Calls `data` with each run of data bytes in the next piece of the body. What follows the end of the body, or a
    /// byte that cannot stand where it stands, is left alone.
    pub fn feed(&mut self, mut raw: &[u8], mut data: impl FnMut(&[u8])) {
        while !raw.is_empty() {
            let here = usize::try_from(self.chunks.opaque()).unwrap_or(usize::MAX).min(raw.len());
            if here > 0 {
                data(&raw[..here]);
                self.chunks.skip(here as u64);
                raw = &raw[here..];
            } else {
                let (taken, piece) = self.chunks.feed(&raw[..1]);
                raw = &raw[taken..];
                if piece != Piece::More {
                    return;
                }
            }
        }
    }
}

impl Dechunker {
    /// Calls `part` with each run of bytes of one kind in the next piece of the body. True when the body is complete.
    pub fn parts(&mut self, mut raw: &[u8], mut part: impl FnMut(Part, &[u8])) -> bool {
        while let Some(&first) = raw.first() {
            let kind = self.chunks.part(first);
            let mut len = 0;
            let mut ended = None;
            while let Some(&byte) = raw.get(len)
                && self.chunks.part(byte) == kind
            {
                // Data is passed over in one go, all else byte by byte.
                let data = usize::try_from(self.chunks.opaque()).unwrap_or(usize::MAX).min(raw.len() - len);
                let (taken, piece) = self.chunks.feed(&raw[len..len + data.max(1)]);
                len += taken;
                if piece != Piece::More {
                    ended = Some(piece);
                    break;
                }
            }
            if len > 0 {
                part(kind, &raw[..len]);
            }
            raw = &raw[len..];
            if let Some(piece) = ended {
                return piece == Piece::Done;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Dechunker, Part};

    #[test]
    fn the_parts_are_the_same_however_the_body_is_cut() {
        let body = b"5;a=\"b\"\r\nhello\r\n0006 \r\n world\r\n0;x\r\nsum: 1\r\nb:\r\n\r\nGET";
        for size in 1..=body.len() {
            let mut dechunker = Dechunker::default();
            let mut told = [
                (Part::Framing, vec![]),
                (Part::Extension, vec![]),
                (Part::Data, vec![]),
                (Part::Trailer, vec![]),
            ];
            let mut done = false;
            for piece in body.chunks(size) {
                if done {
                    break;
                }
                done = dechunker.parts(piece, |kind, bytes| {
                    let at = told.iter().position(|(known, _)| *known == kind).unwrap();
                    told[at].1.extend_from_slice(bytes);
                });
            }
            assert!(done, "pieces of {size}");
            let text = |at: usize| String::from_utf8(told[at].1.clone()).unwrap();
            assert_eq!(text(0), "5;\r\n\r\n0006 \r\n\r\n0;\r\n", "pieces of {size}");
            assert_eq!(text(1), "a=\"b\"x", "pieces of {size}");
            assert_eq!(text(2), "hello world", "pieces of {size}");
            assert_eq!(text(3), "sum: 1\r\nb:\r\n\r\n", "pieces of {size}");
        }
    }

    #[test]
    fn the_data_is_the_same_however_the_body_is_cut() {
        let body = b"5;a=\"b\"\r\nhello\r\n0006\r\n world\r\n0\r\nsum: 1\r\n\r\n";
        for size in 1..=body.len() {
            let mut dechunker = Dechunker::default();
            let mut data = Vec::new();
            for piece in body.chunks(size) {
                dechunker.feed(piece, |bytes| data.extend_from_slice(bytes));
            }
            assert_eq!(data, b"hello world", "pieces of {size}");
        }
    }
}
