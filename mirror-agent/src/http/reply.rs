//! Responses on a connection to a shadow: status, whether the connection lives on, and where each one ends. Their
//! content is thrown away, so it is never kept, and mostly need not even be read (RFC 9112 section 6.3).
//!
//! More is taken here than from clients: nothing is copied on, and a shadow with a sloppy server is still a shadow.
//! What decides the end of a response is held to the rules, since a wrong end would mix up the answers that follow.

use std::collections::VecDeque;

use memchr::memchr;

use super::chunked::{Chunks, Piece};
use super::head::{decimal, trimmed};

/// Longest response head, bytes.
pub const MAX_REPLY_HEAD_BYTES: usize = 256 << 10;
/// Most interim responses before one final one.
const MAX_INTERIM: u16 = 256;

/// The final response to the oldest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// Status code, 101 or 200 to 999.
    pub status: u16,
    /// The connection can carry another request when this response is complete.
    pub keep_alive: bool,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes used. Less than were given only if `complete`: then the rest belongs to the next response.
    pub consumed: usize,
    /// Interim responses (1xx) that were passed over.
    pub interim: u16,
    /// The head of the final response was read in this call.
    pub head: Option<ReplyHead>,
    /// The response to the oldest request is complete, and that request is no longer expected.
    pub complete: bool,
}

/// What the end of the connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// No request waits.
    Idle,
    /// It ended the oldest response as that response said it would.
    Complete,
    /// The oldest response is cut short.
    Cut,
    /// Requests wait and no byte of the oldest response came.
    Unanswered,
}

/// Why bytes cannot be a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// Bytes without a request.
    #[error("bytes came that answer no request")]
    Unexpected,
    /// Not a status line of HTTP/1.
    #[error("the response does not begin with an HTTP/1 status line")]
    StatusLine,
    /// Over [`MAX_REPLY_HEAD_BYTES`].
    #[error("the response head is longer than 256 KiB")]
    HeadTooLarge,
    /// No or several different lengths.
    #[error("the response has a bad Content-Length")]
    ContentLength,
    /// The chunked coding is broken.
    #[error("the response has a bad chunk")]
    Chunk,
    /// Interim responses without end.
    #[error("over 256 interim responses came before a final one")]
    Interim,
}

/// Reads the responses of one connection in the order of its requests.
#[derive(Debug)]
pub struct ReplyReader {
    /// For each unanswered request whether it is HEAD.
    expected: VecDeque<bool>,
    state: State,
    /// The part of a head that came so far, if it did not come whole.
    buf: Vec<u8>,
    interim: u16,
}

#[derive(Debug)]
pub(super) enum State {
    Head,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyReader {
    /// A new connection.
    #[must_use]
    pub fn new() -> Self {
        Self { expected: VecDeque::new(), state: State::Head, buf: Vec::new(), interim: 0 }
    }

    /// A request was written (or begun). The response to HEAD has no body.
    pub fn expect(&mut self, method_is_head: bool) {
        self.expected.push_back(method_is_head);
    }

    /// Requests without a complete response.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Whether a byte of the oldest response came (an interim response counts).
    #[must_use]
    pub fn begun(&self) -> bool {
        !matches!(self.state, State::Head) || !self.buf.is_empty() || self.interim > 0
    }

    /// Reads on, up to the end of one response at most.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, BadResponse> {
        let mut progress = Progress::default();
        while progress.consumed < bytes.len() {
            let rest = &bytes[progress.consumed..];
            match &mut self.state {
                State::Head => {
                    let (taken, head) = self.head(rest)?;
                    progress.consumed += taken;
                    match head {
                        None => {}
                        Some(head) if head.interim() => {
                            self.interim += 1;
                            progress.interim += 1;
                            if self.interim > MAX_INTERIM {
                                return Err(BadResponse::Interim);
                            }
                        }
                        Some(head) => {
                            self.state = head.body(self.expected.front() == Some(&true))?;
                            let keep_alive = head.keep_alive() && !matches!(self.state, State::UntilClose);
                            progress.head = Some(ReplyHead { status: head.status, keep_alive });
                            if matches!(self.state, State::Length(0)) {
                                return Ok(self.complete(progress));
                            }
                        }
                    }
                }
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    progress.consumed += here;
                    if *left == 0 {
                        return Ok(self.complete(progress));
                    }
                }
                State::Chunked(chunks) => {
                    let (taken, piece) = chunks.feed(rest);
                    progress.consumed += taken;
                    match piece {
                        Piece::More => {}
                        Piece::Done => return Ok(self.complete(progress)),
                        Piece::Bad => return Err(BadResponse::Chunk),
                    }
                }
                State::UntilClose => progress.consumed = bytes.len(),
            }
        }
        Ok(progress)
    }

    /// How many of the bytes that come next need not be looked at: hand them to [`ReplyReader::skip`] unread.
    /// `Some(u64::MAX)` is a body without a known end.
    #[must_use]
    pub fn bytes_to_discard(&self) -> Option<u64> {
        match &self.state {
            State::Head => None,
            State::Length(left) => Some(*left),
            State::Chunked(chunks) => Some(chunks.opaque()).filter(|&n| n > 0),
            State::UntilClose => Some(u64::MAX),
        }
    }

    /// `n` bytes, at most [`ReplyReader::bytes_to_discard`], were thrown away unseen. True if that completes the response.
    pub fn skip(&mut self, n: u64) -> bool {
        match &mut self.state {
            State::Head | State::UntilClose => false,
            State::Chunked(chunks) => {
                chunks.skip(n);
                false
            }
            State::Length(left) => {
                *left = left.saturating_sub(n);
                let done = *left == 0;
                if done {
                    self.complete(Progress::default());
                }
                done
            }
        }
    }

    /// The shadow closed its direction.
    pub fn eof(&mut self) -> Eof {
        if self.expected.is_empty() {
            return Eof::Idle;
        }
        if matches!(self.state, State::UntilClose) {
            self.complete(Progress::default());
            return Eof::Complete;
        }
        if self.begun() { Eof::Cut } else { Eof::Unanswered }
    }

    fn complete(&mut self, progress: Progress) -> Progress {
        self.state = State::Head;
        self.interim = 0;
        self.expected.pop_front();
        Progress { complete: true, ..progress }
    }

    /// Looks for the end of a head in `bytes`, which are not empty. Gives how many were used.
    fn head(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), BadResponse> {
        if self.buf.is_empty() {
            // Some servers end a body with a line end that is not part of it.
            let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
            if blank > 0 {
                return Ok((blank, None));
            }
            if self.expected.is_empty() {
                return Err(BadResponse::Unexpected);
            }
            if let Some((len, head)) = parse(&bytes[..bytes.len().min(MAX_REPLY_HEAD_BYTES)])? {
                return Ok((len, Some(head)));
            }
        }
        let mut at = 0;
        while at < bytes.len() {
            let lf = memchr(b'\n', &bytes[at..]);
            let line = &bytes[at..lf.map_or(bytes.len(), |lf| at + lf + 1)];
            if self.buf.len() + line.len() > MAX_REPLY_HEAD_BYTES {
                return Err(BadResponse::HeadTooLarge);
            }
            let first = !self.buf.contains(&b'\n') && self.buf.len() <= STATUS_LINE;
            self.buf.extend_from_slice(line);
            at += line.len();
            if first {
                status_line(&self.buf)?;
            }
            if self.buf.ends_with(b"\n\r\n") || self.buf.ends_with(b"\n\n") {
                let buf = std::mem::take(&mut self.buf);
                return Ok((at, parse(&buf)?.map(|(_, head)| head)));
            }
        }
        Ok((at, None))
    }
}

/// What a response head says of its end.
pub(super) struct Head {
    pub(super) status: u16,
    old: bool,
    close: bool,
    keep: bool,
    length: Option<Result<u64, BadResponse>>,
    coding: bool,
    chunked: bool,
}

impl Head {
    pub(super) fn interim(&self) -> bool {
        is_interim(self.status)
    }

    fn keep_alive(&self) -> bool {
        // Both lengths, or a coding in 1.0: the end is known, but who sends this is not to be trusted with another.
        let doubtful = self.coding && (self.length.is_some() || self.old);
        !self.close && (!self.old || self.keep) && !doubtful && self.status != 101
    }

    pub(super) fn body(&self, to_head: bool) -> Result<State, BadResponse> {
        if to_head || matches!(self.status, 101 | 204 | 304) {
            return Ok(State::Length(0));
        }
        Ok(match self.length {
            _ if self.chunked => State::Chunked(Chunks::new()),
            _ if self.coding => State::UntilClose,
            Some(length) => State::Length(length?),
            None => State::UntilClose,
        })
    }
}

/// Whether the final response is still to come: after 101 none does.
pub(super) fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// Bytes of `HTTP/1.1 200`.
pub(super) const STATUS_LINE: usize = 12;

/// Status of a line that begins with `bytes`, which may end behind it.
pub(super) fn status(bytes: &[u8]) -> Result<u16, BadResponse> {
    match bytes.first_chunk::<STATUS_LINE>() {
        // As if a space followed.
        Some(line) if bytes.len() == STATUS_LINE => {
            let mut whole = [b' '; STATUS_LINE + 1];
            whole[..STATUS_LINE].copy_from_slice(line);
            status_line(&whole)?
        }
        _ => status_line(bytes)?,
    }
    .map(|(_, status)| status)
    .ok_or(BadResponse::StatusLine)
}

/// Version and status of a line that begins with `bytes`, or `None` if they are too few.
pub(super) fn status_line(bytes: &[u8]) -> Result<Option<(bool, u16)>, BadResponse> {
    let start = &bytes[..bytes.len().min(STATUS_LINE)];
    for (&byte, &form) in start.iter().zip(b"HTTP/1.d ddd") {
        let fits = if form == b'd' { byte.is_ascii_digit() } else { byte == form };
        if !fits {
            return Err(BadResponse::StatusLine);
        }
    }
    let &[.., minor, _, a, b, c] = start else { return Ok(None) };
    if start.len() < STATUS_LINE {
        return Ok(None);
    }
    let digit = |byte: u8| u16::from(byte - b'0');
    let status = digit(a) * 100 + digit(b) * 10 + digit(c);
    match bytes.get(STATUS_LINE) {
        _ if status < 100 => Err(BadResponse::StatusLine),
        None => Ok(None),
        Some(b' ' | b'\r' | b'\n') => Ok(Some((minor == b'0', status))),
        Some(_) => Err(BadResponse::StatusLine),
    }
}

/// Reads the head that `bytes` begins with; `None` if it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Head)>, BadResponse> {
    let Some((old, status)) = status_line(bytes)? else { return Ok(None) };
    let mut head =
        Head { status, old, close: false, keep: false, length: None, coding: false, chunked: false };
    let Some(lf) = memchr(b'\n', bytes) else { return Ok(None) };
    let mut at = lf + 1;
    loop {
        let rest = &bytes[at..];
        match rest {
            [b'\n', ..] => return Ok(Some((at + 1, head))),
            [b'\r', b'\n', ..] => return Ok(Some((at + 2, head))),
            _ => {}
        }
        let Some(lf) = memchr(b'\n', rest) else { return Ok(None) };
        field(&mut head, &rest[..lf]);
        at += lf + 1;
    }
}

/// Takes what a field line says of framing. Lines that are no fields say nothing.
fn field(head: &mut Head, line: &[u8]) {
    if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
        return;
    }
    let Some(colon) = memchr(b':', line) else { return };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let (from, to) = trimmed(value);
    let value = &value[from..to];
    match colon {
        10 if name.eq_ignore_ascii_case(b"connection") => {
            for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                head.close |= option.eq_ignore_ascii_case(b"close");
                head.keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            let length = decimal(value).ok_or(BadResponse::ContentLength);
            head.length = match head.length {
                Some(earlier) if earlier != length => Some(Err(BadResponse::ContentLength)),
                _ => Some(length),
            };
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            head.coding = true;
            let last = value.rsplit(|&b| b == b',').next().unwrap_or_default().trim_ascii();
            head.chunked = last.eq_ignore_ascii_case(b"chunked");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
