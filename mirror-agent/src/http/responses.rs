//! The primary's responses, read out of its whole direction: for sources that have all of it, that is capture files.
//!
//! A live tap shows only the beginning of each segment of that direction; there [`Connection`](super::Connection) must do
//! with heads at the beginning of segments. Here every head is found, also several in one segment and heads in pieces.

use memchr::memchr;

use super::chunked::{Chunks, Piece};
use super::reply::{self, BadResponse, Head, MAX_REPLY_HEAD_BYTES, STATUS_LINE};
use crate::flow::{Chunk, Gap};
use crate::packet::Seq;

/// A response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// A 1xx other than 101: the final response is still to come.
    pub interim: bool,
    /// Stream position of its first byte, in the response direction.
    pub pos: u64,
    /// Time of the segment with its first byte, ns.
    pub time: u64,
    /// What the primary had acknowledged with that segment.
    pub ack: Option<Seq>,
}

/// What a response answers, as far as its body depends on it (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody saw the request.
    Unknown,
    /// HEAD: no body follows.
    Head,
    /// CONNECT: after success a tunnel follows.
    Connect,
    /// Any other method.
    Other,
}

/// Finds the response heads of one connection.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    /// The request was seen, so the end of the response is not a guess.
    sure: bool,
    /// The part of a head that came so far, if it did not come whole.
    buf: Vec<u8>,
    /// Position, time and ack of the first byte in `buf`.
    begun: (u64, u64, Option<Seq>),
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    /// The position in a message is lost: the next head is looked for at the beginning of a segment.
    Lost,
    /// Another protocol.
    Off,
}

impl ResponseReader {
    /// The responses of a connection, from its first byte (`whole`) or from somewhere.
    #[must_use]
    pub fn new(whole: bool) -> Self {
        let state = if whole { State::Head } else { State::Lost };
        Self { state, sure: true, buf: Vec::new(), begun: (0, 0, None) }
    }

    /// The connection speaks another protocol now.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// The next bytes. `answer` is told each head and tells what it answers. Gives how many bytes are HTTP/1.
    pub fn data(&mut self, chunk: &Chunk<'_>, mut answer: impl FnMut(&ResponseHead) -> Asked) -> usize {
        let bytes = chunk.bytes;
        let lost = match self.state {
            State::Lost => true,
            State::Head | State::Off => false,
            State::Length(_) | State::Chunked(_) | State::UntilClose => !self.sure,
        };
        if lost && chunk.segment_start && is_status_line(bytes) {
            self.begin();
        }
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => match self.head(rest, chunk, chunk.pos + at as u64) {
                    Ok((taken, None)) => at += taken,
                    Ok((taken, Some(head))) => {
                        at += taken;
                        let (pos, time, ack) = self.begun;
                        let interim = head.interim();
                        let asked = answer(&ResponseHead { status: head.status, interim, pos, time, ack });
                        self.follow(&head, asked);
                    }
                    Err(_) => self.lose(),
                },
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.begin();
                    }
                }
                State::Chunked(chunks) => {
                    let (taken, piece) = chunks.feed(rest);
                    at += taken;
                    match piece {
                        Piece::More => {}
                        Piece::Done => self.begin(),
                        Piece::Bad => self.lose(),
                    }
                }
                State::UntilClose | State::Lost => return bytes.len(),
                State::Off => return at,
            }
        }
        at
    }

    /// The next bytes are missing for good. `answer` is told of a head that was cut behind its status.
    pub fn gap(&mut self, gap: &Gap, answer: impl FnOnce(&ResponseHead) -> Asked) {
        if let State::Head = self.state
            && is_status_line(&self.buf)
            && let Ok(status) = reply::status(&self.buf)
        {
            return self.cut(status, answer);
        }
        match &mut self.state {
            State::Length(left) if gap.len < *left => *left -= gap.len,
            State::Length(left) if gap.len == *left => self.begin(),
            State::Chunked(chunks) if gap.len <= chunks.opaque() => chunks.skip(gap.len),
            State::UntilClose | State::Off => {}
            State::Length(_) | State::Chunked(_) | State::Head | State::Lost => self.lose(),
        }
    }

    /// A head of which only the beginning is there: what follows it is not known.
    fn cut(&mut self, status: u16, answer: impl FnOnce(&ResponseHead) -> Asked) {
        let interim = reply::is_interim(status);
        let (pos, time, ack) = self.begun;
        let asked = answer(&ResponseHead { status, interim, pos, time, ack });
        self.lose();
        if status == 101 || (asked == Asked::Connect && (200..300).contains(&status)) {
            self.state = State::Off;
        }
    }

    fn begin(&mut self) {
        self.state = State::Head;
        self.buf = Vec::new();
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.buf = Vec::new();
    }

    /// Goes on to what follows a head.
    fn follow(&mut self, head: &Head, asked: Asked) {
        self.sure = asked != Asked::Unknown;
        if head.interim() {
            return;
        }
        self.state = match head.body(asked == Asked::Head) {
            _ if head.status == 101 || (asked == Asked::Connect && (200..300).contains(&head.status)) => {
                State::Off
            }
            Ok(reply::State::Head | reply::State::Length(0)) => State::Head,
            Ok(reply::State::Length(length)) => State::Length(length),
            Ok(reply::State::Chunked(chunks)) => State::Chunked(chunks),
            Ok(reply::State::UntilClose) => State::UntilClose,
            Err(_) => State::Lost,
        };
    }

    /// Looks for the end of a head in `bytes`, which are not empty and begin at `pos`. Gives how many were used.
    fn head(
        &mut self,
        bytes: &[u8],
        chunk: &Chunk<'_>,
        pos: u64,
    ) -> Result<(usize, Option<Head>), BadResponse> {
        if self.buf.is_empty() {
            // Some servers end a body with a line end that is not part of it.
            let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
            if blank > 0 {
                return Ok((blank, None));
            }
            self.begun = (pos, chunk.time, chunk.ack);
            if let Some((len, head)) = reply::parse(&bytes[..bytes.len().min(MAX_REPLY_HEAD_BYTES)])? {
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
            let first = self.buf.len() <= STATUS_LINE;
            self.buf.extend_from_slice(line);
            at += line.len();
            if first {
                reply::status_line(&self.buf)?;
            }
            if self.buf.ends_with(b"\n\r\n") || self.buf.ends_with(b"\n\n") {
                let buf = std::mem::take(&mut self.buf);
                return Ok((at, reply::parse(&buf)?.map(|(_, head)| head)));
            }
        }
        Ok((at, None))
    }
}

/// Whether bytes begin with a status line's version and status (RFC 9112 section 4). They may end right behind the status:
/// so much is there of the answers that `mirror record` wrote.
#[must_use]
pub fn is_status_line(bytes: &[u8]) -> bool {
    bytes.len() >= STATUS_LINE && reply::status_line(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Asked, ResponseReader, is_status_line};
    use crate::flow::{Chunk, Gap, GapReason};

    struct Told {
        reader: ResponseReader,
        pos: u64,
        statuses: Vec<(u16, u64)>,
        asked: Asked,
    }

    impl Told {
        fn new(whole: bool, asked: Asked) -> Self {
            Self { reader: ResponseReader::new(whole), pos: 0, statuses: Vec::new(), asked }
        }

        fn segment(&mut self, bytes: &[u8]) {
            let chunk = Chunk { pos: self.pos, bytes, time: 7, ack: None, segment_start: true };
            self.reader.data(&chunk, |head| {
                self.statuses.push((head.status, head.pos));
                self.asked
            });
            self.pos += bytes.len() as u64;
        }

        fn gap(&mut self, len: u64) {
            self.reader.gap(&Gap { pos: self.pos, len, reason: GapReason::Closed }, |head| {
                self.statuses.push((head.status, head.pos));
                self.asked
            });
            self.pos += len;
        }
    }

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";

    #[test]
    fn every_head_is_found_however_the_bytes_are_cut() {
        for size in 1..=TWO.len() {
            let mut told = Told::new(true, Asked::Other);
            TWO.chunks(size).for_each(|piece| told.segment(piece));
            let statuses: Vec<u16> = told.statuses.iter().map(|(status, _)| *status).collect();
            assert_eq!(statuses, [200, 100, 404, 204], "pieces of {size}");
        }
    }

    #[test]
    fn the_answer_to_head_has_no_body_and_a_tunnel_has_no_heads() {
        let mut told = Told::new(true, Asked::Head);
        told.segment(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 9\r\n\r\n",
        );
        assert_eq!(told.statuses.len(), 2);
        let mut told = Told::new(true, Asked::Connect);
        told.segment(b"HTTP/1.1 200 OK\r\n\r\n");
        told.segment(b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(told.statuses.len(), 1);
    }

    #[test]
    fn a_hole_in_a_body_of_known_length_loses_nothing_and_any_other_hole_is_found_over() {
        let mut told = Told::new(true, Asked::Other);
        told.segment(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
        told.gap(45);
        told.segment(b"HTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\n");
        told.gap(400);
        told.segment(b"rest of something");
        told.segment(b"HTTP/1.1 202 OK\r\n\r\n");
        let statuses: Vec<u16> = told.statuses.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [200, 201, 202]);
    }

    #[test]
    fn heads_that_are_cut_behind_their_status_are_answers() {
        let mut told = Told::new(false, Asked::Other);
        for (line, rest) in [("HTTP/1.1 100", 13), ("HTTP/1.0 404", 90_000), ("HTTP/1.1 200 OK\r\nA", 5)] {
            told.segment(line.as_bytes());
            told.gap(rest);
        }
        assert_eq!(told.statuses, [(100, 0), (404, 25), (200, 90_037)]);
        told.segment(b"HTTP/1.1 2");
        told.gap(20);
        assert_eq!(told.statuses.len(), 3, "no whole status");
        for (asked, status, heads) in
            [(Asked::Connect, "200", 1), (Asked::Other, "101", 1), (Asked::Other, "200", 2)]
        {
            let mut told = Told::new(true, asked);
            told.segment(format!("HTTP/1.1 {status}").as_bytes());
            told.gap(100);
            told.segment(b"HTTP/1.1 200");
            told.gap(100);
            assert_eq!(told.statuses.len(), heads, "{asked:?} {status}");
        }
    }

    #[test]
    fn a_body_whose_request_was_seen_is_not_searched_for_heads() {
        for (asked, heads) in [(Asked::Other, 1), (Asked::Unknown, 2)] {
            let mut told = Told::new(true, asked);
            told.segment(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
            told.segment(b"HTTP/1.1 500 quoted\r\n\r\n");
            assert_eq!(told.statuses.len(), heads, "{asked:?}");
        }
    }

    #[test]
    fn a_status_line_is_told_by_version_and_status() {
        assert!(is_status_line(b"HTTP/1.1 200 OK\r\n") && is_status_line(b"HTTP/1.0 404\r\n"));
        assert!(is_status_line(b"HTTP/1.1 200"), "cut behind its status");
        for no in [&b"HTTP/1.1 20"[..], b"HTTP/2 200 OK", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 2000"] {
            assert!(!is_status_line(no), "{}", no.escape_ascii());
        }
    }
}
