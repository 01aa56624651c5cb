//! The chunked coding (RFC 9112 section 7.1): finds where it ends, changes nothing.
//!
//! Lines end in CRLF here, nothing else. Heads are taken with a bare LF because every reader that takes them ends the
//! head at the same byte; in a chunk line it is not so: some readers end the line at a bare LF, others skip to the CRLF
//! and lose count, which is how requests are smuggled. For the same reason a quoted extension must be closed on its line.
//! White space after a size is taken: senders pad sizes with it, and no reader sees another size.

use super::head::is_token;

/// Most bytes of one trailer section.
const MAX_TRAILER_BYTES: u32 = 64 << 10;
/// Most digits of one chunk size: 16 fill 64 bits, and the sum of a body is counted, not stored.
const MAX_SIZE_DIGITS: u8 = 16;

/// Place in a chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    /// Data bytes of the chunk that are still to come.
    left: u64,
    digits: u8,
    trailer: u32,
}

/// Where a piece of a body leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// All bytes belong to the body, and more are to come.
    More,
    /// The body is complete.
    Done,
    /// The next byte cannot stand there.
    Bad,
}

/// What a byte of a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Sizes and line ends.
    Framing,
    /// Text of a chunk extension.
    Extension,
    /// Content.
    Data,
    /// The trailer section, the blank line at its end included.
    Trailer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    AfterSize,
    Extension,
    Quoted,
    Escaped,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    Name,
    Value,
    ValueLf,
    LastLf,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { state: State::Size, left: 0, digits: 0, trailer: 0 }
    }

    /// Data bytes that may come now without anything to look at among them.
    pub(super) fn opaque(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Goes on by `n` data bytes unseen; `n` is at most [`Chunks::opaque`].
    pub(super) fn skip(&mut self, n: u64) {
        self.left = self.left.saturating_sub(n);
        if self.state == State::Data && self.left == 0 {
            self.state = State::DataCr;
        }
    }

    /// What `byte` is if it comes next and may stand there.
    pub(super) fn part(&self, byte: u8) -> Part {
        match self.state {
            State::Data => Part::Data,
            State::Extension if byte == b'\r' => Part::Framing,
            State::Extension | State::Quoted | State::Escaped => Part::Extension,
            State::LineStart | State::Name | State::Value | State::ValueLf | State::LastLf => Part::Trailer,
            State::Size | State::AfterSize | State::SizeLf | State::DataCr | State::DataLf => Part::Framing,
        }
    }

    /// How many of `bytes` belong to the body, and what follows them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (usize, Piece) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.skip(here as u64);
                at += here;
                continue;
            }
            let Some(next) = self.next(byte) else { return (at, Piece::Bad) };
            at += 1;
            match next {
                Some(state) => self.state = state,
                None => return (at, Piece::Done),
            }
        }
        (at, Piece::More)
    }

    /// The state after `byte`: `Some(None)` at the end of the body, `None` if the byte cannot stand here.
    fn next(&mut self, byte: u8) -> Option<Option<State>> {
        let next = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                if self.digits == MAX_SIZE_DIGITS {
                    return None;
                }
                let digit = (byte as char).to_digit(16)?;
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                State::Size
            }
            (State::Size | State::AfterSize, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size | State::AfterSize, b' ' | b'\t') if self.digits > 0 => State::AfterSize,
            (State::Size | State::AfterSize, b';') if self.digits > 0 => State::Extension,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Extension,
            (State::Quoted, b'\\') => State::Escaped,
            (State::Extension | State::Quoted, _) if is_text(byte) => self.state,
            (State::Escaped, _) if is_text(byte) => State::Quoted,
            (State::SizeLf, b'\n') if self.left > 0 => State::Data,
            (State::SizeLf, b'\n') => State::LineStart,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::LineStart, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => return Some(None),
            (State::LineStart | State::Name, _) if is_token(byte) => self.trailer_byte(State::Name)?,
            (State::Name, b':') => self.trailer_byte(State::Value)?,
            (State::Value, b'\r') => self.trailer_byte(State::ValueLf)?,
            (State::Value, _) if is_text(byte) => self.trailer_byte(State::Value)?,
            (State::ValueLf, b'\n') => self.trailer_byte(State::LineStart)?,
            _ => return None,
        };
        Some(Some(next))
    }

    fn trailer_byte(&mut self, next: State) -> Option<State> {
        self.trailer += 1;
        (self.trailer <= MAX_TRAILER_BYTES).then_some(next)
    }
}

fn is_text(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::{Chunks, Piece};

    /// The end of `body` found whole and one byte at a time, and what was said there.
    fn end(body: &[u8]) -> (usize, Piece) {
        let whole = Chunks::new().feed(body);
        let mut bytewise = Chunks::new();
        let mut taken = 0;
        let mut piece = Piece::More;
        for byte in body.chunks(1) {
            let (n, p) = bytewise.feed(byte);
            taken += n;
            piece = p;
            if p != Piece::More {
                break;
            }
        }
        assert_eq!(whole, (taken, piece), "cuts change the end of {:?}", body.escape_ascii().to_string());
        whole
    }

    #[test]
    fn a_body_ends_after_its_trailers() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"000A;a=b;c=\"d;\\\"\r\"\r\n".split_at(0).1,
            b"5  \r\nhello\r\n000;last\r\nx-sum: 1\r\nempty:\r\n\r\n",
            b"1;name=\"quoted \\\" ; \"\r\nx\r\n0\r\n\r\n",
            b"aF\r\n",
        ] {
            let (taken, piece) = end(body);
            let complete = body.ends_with(b"\r\n\r\n");
            if body.contains(&b'\r') && body.windows(2).any(|w| w[0] == b'\r' && w[1] != b'\n') {
                assert_eq!(piece, Piece::Bad);
            } else {
                assert_eq!((taken, piece), (body.len(), if complete { Piece::Done } else { Piece::More }));
            }
        }
    }

    #[test]
    fn bytes_after_the_end_are_left_alone() {
        assert_eq!(end(b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), (11, Piece::Done));
    }

    #[test]
    fn sizes_that_two_readers_may_read_differently_are_bad() {
        for body in [
            &b"\r\n"[..],
            b" 5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-1\r\n",
            b"5 5\r\n",
            b"5\nhello\n",
            b"5\r\nhello\n",
            b"5\r\nhello!\r\n",
            b"5;a\nb\r\n",
            b"5;a=\"open\r\nhello\r\n",
            b"5;\0\r\n",
            b"g\r\n",
            b"11111111111111111\r\n",
            b"00000000000000005\r\n",
            b"0\r\n folded: no\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\nbare: lf\n\r\n",
            b"0\n\n",
        ] {
            assert_eq!(end(body).1, Piece::Bad, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn the_largest_size_is_counted_without_overflow() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.feed(b"ffffffffffffffff\r\n"), (18, Piece::More));
        assert_eq!(chunks.opaque(), u64::MAX);
        chunks.skip(u64::MAX);
        assert_eq!(chunks.feed(b"\r\n0\r\n\r\n"), (7, Piece::Done));
    }

    #[test]
    fn endless_trailers_are_bad() {
        let mut body = b"0\r\n".to_vec();
        for _ in 0..8192 {
            body.extend_from_slice(b"a: 456\r\n");
        }
        assert_eq!(end(&body), (3 + (64 << 10), Piece::More));
        body.extend_from_slice(b"b");
        assert_eq!(end(&body).1, Piece::Bad);
    }
}
