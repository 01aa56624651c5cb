//! Where heads and bodies begin and end, with no opinion of what to do about them.
//!
//! A head that lies whole in the input is read in place; only one that is cut is gathered. Bodies are never gathered.

use memchr::memchr;

use super::chunked::{Chunks, Piece};
use super::head::{self, Fail, Fields, Head};
use super::message::BodyKind;

/// Place in a stream of requests.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// The part of a head that came so far, if it did not come whole.
    buf: Vec<u8>,
    /// The request line in `buf` is complete and sound.
    line_seen: bool,
}

/// What delimits the bytes that come next.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Head,
    /// Bytes of a body of known length that are still to come; over 0.
    Length(u64),
    Chunked(Chunks),
}

/// What came of looking for a head.
#[derive(Debug)]
pub(super) enum HeadStep {
    /// The input was gathered; the head goes on.
    More,
    /// A head. If `gathered` its bytes are [`Framer::gathered`], else the first of the input.
    Head { head: Head, gathered: bool, consumed: usize },
    /// No head. What was gathered before this call and all of the input are outside of any request.
    Fail(Fail),
}

impl Framer {
    pub(super) const fn new() -> Self {
        Self { state: State::Head, buf: Vec::new(), line_seen: false }
    }

    /// Forgets the message it is in.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Between two messages.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.state, State::Head) && self.buf.is_empty()
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Goes back to a body.
    pub(super) fn resume(&mut self, state: State) {
        self.reset();
        self.state = state;
    }

    /// Bytes of an unfinished head.
    pub(super) fn gathered(&self) -> &[u8] {
        &self.buf
    }

    /// What came of a request line that is not whole yet.
    pub(super) fn line_so_far(&self) -> Option<&[u8]> {
        (!self.buf.is_empty() && !self.line_seen).then_some(&self.buf)
    }

    /// Keeps `bytes` of what may become a head or something else.
    pub(super) fn gather(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Gives away what was gathered. Memory is not kept: few heads are cut, and there are many connections.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.line_seen = false;
        std::mem::take(&mut self.buf)
    }

    /// Looks for a head. Each byte is looked at once when heads come whole, and at most twice when they are cut.
    pub(super) fn head(
        &mut self,
        bytes: &[u8],
        max_bytes: usize,
        max_fields: usize,
        fields: &mut Fields,
    ) -> HeadStep {
        if self.buf.is_empty() {
            match head::parse(&bytes[..bytes.len().min(max_bytes)], max_fields, fields) {
                Ok(head) => return HeadStep::Head { consumed: head.len, head, gathered: false },
                Err(Fail::Incomplete) => {}
                Err(fail) => return HeadStep::Fail(fail),
            }
        }
        let mut at = 0;
        while at < bytes.len() {
            let lf = memchr(b'\n', &bytes[at..]);
            let line = &bytes[at..lf.map_or(bytes.len(), |lf| at + lf + 1)];
            let room = max_bytes.saturating_sub(self.buf.len());
            if line.len() > room {
                if self.line_seen {
                    return HeadStep::Fail(Fail::TooLarge);
                }
                // What is wrong before the limit is wrong in whatever pieces it comes.
                self.buf.extend_from_slice(&line[..room]);
                return HeadStep::Fail(match head::check_start(&self.buf) {
                    Fail::Incomplete => Fail::LineTooLarge,
                    fail => fail,
                });
            }
            self.buf.extend_from_slice(line);
            at += line.len();
            if !self.line_seen {
                match head::check_start(&self.buf) {
                    Fail::Incomplete => self.line_seen = lf.is_some(),
                    fail => return HeadStep::Fail(fail),
                }
            } else if lf.is_some() && (self.buf.ends_with(b"\n\r\n") || self.buf.ends_with(b"\n\n")) {
                return match head::parse(&self.buf, max_fields, fields) {
                    Ok(head) => HeadStep::Head { head, gathered: true, consumed: at },
                    Err(fail) => HeadStep::Fail(fail),
                };
            }
        }
        HeadStep::More
    }

    /// Goes on to the body of the head that was found.
    pub(super) fn begin(&mut self, body: BodyKind) {
        if !self.buf.is_empty() {
            self.take();
        }
        self.line_seen = false;
        self.state = match body {
            BodyKind::None => State::Head,
            BodyKind::Length(length) => State::Length(length),
            BodyKind::Chunked => State::Chunked(Chunks::new()),
        };
    }

    /// How many of `bytes` belong to the body, and what follows them.
    pub(super) fn body(&mut self, bytes: &[u8]) -> (usize, Piece) {
        let (taken, piece) = match &mut self.state {
            State::Head => (0, Piece::Done),
            State::Chunked(chunks) => chunks.feed(bytes),
            State::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                (here, if *left == 0 { Piece::Done } else { Piece::More })
            }
        };
        if piece != Piece::More {
            self.state = State::Head;
        }
        (taken, piece)
    }

    /// Goes on by `n` bytes that nobody saw. `Some` if they lay among bytes that say nothing about framing, with
    /// whether the body is complete now; `None` if the position in the message is lost.
    pub(super) fn skip(&mut self, n: u64) -> Option<Piece> {
        match &mut self.state {
            State::Length(left) if n < *left => *left -= n,
            State::Length(left) if n == *left => {
                self.state = State::Head;
                return Some(Piece::Done);
            }
            State::Chunked(chunks) if n <= chunks.opaque() => chunks.skip(n),
            _ => return None,
        }
        Some(Piece::More)
    }
}
