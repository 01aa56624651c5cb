//! The client's half of an HTTP/2 connection (RFC 9113): frames to bytes, and the shadow's bytes to what they mean.
//!
//! Pure: bytes come in and go out, and nothing waits in here but a frame that is not whole yet. What a stream is about, and
//! how much of its window is left, its copy knows.
//!
//! Over 400 lines: both directions share the windows and the numbers of streams, and a reader checks them side by side
//! against the RFC.

use crate::http::frames::{HEADER, Head, flag, kind};
use crate::http::{AnswerHeads, PREFACE};

/// Credit for the content of one answer, bytes. It is thrown away as it comes, so nothing of this is ever held.
pub(super) const STREAM_WINDOW: u32 = 1024 * 1024;
/// Credit for the content of all answers of a connection, bytes.
pub(super) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Longest field section of an answer, bytes (as RFC 9113 section 6.5.2 counts).
pub const MAX_REPLY_FIELDS_BYTES: u32 = 64 * 1024;
/// Longest header block of an answer, its frames' headers included, bytes: so a flood of CONTINUATION frames ends.
pub const MAX_REPLY_BLOCK_BYTES: usize = 64 * 1024;
/// What every connection and stream may carry unless something else is said (section 6.9.2), bytes.
const INITIAL_WINDOW: i64 = 65_535;
/// Largest window (section 6.9.1).
pub(super) const LARGEST_WINDOW: i64 = 0x7fff_ffff;
/// Largest frame that a peer takes without saying so (section 4.2), and that we take.
const FRAME_BYTES: usize = 16_384;
/// Content of the only PING that is sent.
const PING: [u8; 8] = *b"mirror\0\0";

/// Identifiers of settings (section 6.5.2).
mod setting {
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const FRAME_SIZE: u16 = 5;
    pub(super) const HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (section 7).
pub(super) mod code {
    pub(in crate::replay::h2) const NO_ERROR: u32 = 0;
    pub(in crate::replay::h2) const PROTOCOL_ERROR: u32 = 1;
    pub(in crate::replay::h2) const REFUSED_STREAM: u32 = 7;
    pub(in crate::replay::h2) const CANCEL: u32 = 8;
    pub(in crate::replay::h2) const HTTP_1_1_REQUIRED: u32 = 13;
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Mux {
    next_stream: u32,
    /// What the peer allows: streams at a time, bytes of a frame, bytes of a new stream, bytes of the connection.
    pub(super) max_streams: usize,
    max_frame: usize,
    pub(super) stream_window: i64,
    pub(super) window: i64,
    /// Content bytes that came since the peer was last given credit.
    owed: u32,
    /// A frame that is not whole yet.
    partial: Vec<u8>,
    /// A header block that is not whole yet: its stream, whether it ends it, its bytes and how much it has cost.
    block: Option<(u32, bool, Vec<u8>, usize)>,
    answers: AnswerHeads,
    /// No header block was written yet.
    fresh: bool,
}

/// What the shadow said, of a stream if it is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stream: u32,
    pub(super) what: What,
}

/// What the shadow can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A head, interim or final, or with no status the trailers.
    Head { status: Option<u16>, content_length: Option<u64>, grpc_failed: bool, ends: bool },
    /// A header section that is malformed, or longer than allowed.
    BadHead,
    /// Content: so many bytes, and with its padding so many of the window.
    Data { bytes: u32, credit: u32, ends: bool },
    /// The stream is over.
    Reset(u32),
    /// The stream, or with stream 0 the connection, may carry so many bytes more.
    Window(i64),
    /// All streams may carry so many bytes more, or fewer.
    Windows(i64),
    /// Streams behind this one were not looked at, and no new ones will be; the error code.
    GoAway(u32, u32),
    /// The answer to our PING.
    Pong,
}

/// The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Mux {
    /// Says the preface (section 3.4).
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::HEADER_LIST_SIZE, MAX_REPLY_FIELDS_BYTES),
        ];
        frame(out, kind::SETTINGS, 0, 0, settings.len() * 6);
        for (id, value) in settings {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        credit(out, 0, CONNECTION_WINDOW - INITIAL_WINDOW as u32);
        Self {
            next_stream: 1,
            max_streams: usize::MAX,
            max_frame: FRAME_BYTES,
            stream_window: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            owed: 0,
            partial: Vec::new(),
            block: None,
            answers: AnswerHeads::new(MAX_REPLY_FIELDS_BYTES),
            fresh: true,
        }
    }

    // ---- out

    /// A number for the next stream; `None` if there is none left.
    pub(super) fn open(&mut self) -> Option<u32> {
        let stream = self.next_stream;
        (stream as i64 <= LARGEST_WINDOW).then(|| {
            self.next_stream += 2;
            stream
        })
    }

    /// The header section that `encode` appends to the buffer it is given.
    pub(super) fn headers(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        ends: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = out.len();
        frame(out, kind::HEADERS, flag::END_HEADERS | end(ends), stream, 0);
        let body = out.len();
        if std::mem::take(&mut self.fresh) {
            // Our encoder has no table, which must be said if the peer allows a smaller one (RFC 7541 section 4.2).
            out.push(0x20);
        }
        encode(out);
        let length = out.len() - body;
        if length <= self.max_frame {
            set_length(out, start, length);
            return;
        }
        let block = out.split_off(body);
        out.truncate(start);
        let mut pieces = block.chunks(self.max_frame).peekable();
        let mut first = true;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            if std::mem::take(&mut first) {
                frame(out, kind::HEADERS, last | end(ends), stream, piece.len());
            } else {
                frame(out, kind::CONTINUATION, last, stream, piece.len());
            }
            out.extend_from_slice(piece);
        }
    }

    /// How much of `bytes` bytes of a body may go in one frame now, of a stream whose window is `window`.
    pub(super) fn room(&self, window: i64, bytes: usize) -> usize {
        let window = usize::try_from(window.min(self.window)).unwrap_or(0);
        window.min(self.max_frame).min(bytes)
    }

    /// The header of a DATA frame whose payload of `bytes` bytes comes next.
    pub(super) fn data(&mut self, stream: u32, ends: bool, bytes: usize) -> [u8; HEADER] {
        self.window -= i64::try_from(bytes).unwrap_or(0);
        header(kind::DATA, end(ends), stream, bytes)
    }

    /// Ends a stream by an error, in both directions.
    pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: u32) {
        frame(out, kind::RST_STREAM, 0, stream, 4);
        out.extend_from_slice(&code.to_be_bytes());
    }

    /// Lets the peer send `bytes` more of an answer.
    pub(super) fn credit(out: &mut Vec<u8>, stream: u32, bytes: u32) {
        credit(out, stream, bytes);
    }

    /// Asks for a sign of life.
    pub(super) fn ping(out: &mut Vec<u8>) {
        frame(out, kind::PING, 0, 0, PING.len());
        out.extend_from_slice(&PING);
    }

    /// Takes leave in good order.
    pub(super) fn goodbye(out: &mut Vec<u8>) {
        frame(out, kind::GOAWAY, 0, 0, 8);
        // No stream of the peer's, and no error.
        out.extend_from_slice(&[0; 8]);
    }

    // ---- in

    /// Reads what came. What it means is appended to `said`, what it has to be answered with to `out`.
    ///
    /// # Errors
    /// If it breaks the protocol in a way that ends a connection.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        said: &mut Vec<Said>,
    ) -> Result<(), Broken> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            let whole = self.whole()?;
            let (taken, rest) = bytes.split_at((whole - self.partial.len()).min(bytes.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            // With its header complete, a frame may turn out to be longer.
            if self.partial.len() == self.whole()? {
                let frame = std::mem::take(&mut self.partial);
                let (head, payload) = split(&frame).ok_or(Broken)?;
                self.frame(head, payload, out, said)?;
            }
        }
        while let Some((head, rest)) = split(bytes) {
            if head.len as usize > FRAME_BYTES {
                return Err(Broken);
            }
            let Some((payload, rest)) = rest.split_at_checked(head.len as usize) else { break };
            self.frame(head, payload, out, said)?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Length of the partial frame when it is whole, or of its header as long as that is not.
    fn whole(&self) -> Result<usize, Broken> {
        let Some((head, _)) = split(&self.partial) else { return Ok(HEADER) };
        if head.len as usize > FRAME_BYTES { Err(Broken) } else { Ok(HEADER + head.len as usize) }
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Vec<u8>,
        said: &mut Vec<Said>,
    ) -> Result<(), Broken> {
        // Nothing may come between the frames of a header block (section 6.10).
        if let Some((stream, ..)) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != *stream)
        {
            return Err(Broken);
        }
        let stream = head.stream;
        let mut tell = |stream, what| said.push(Said { stream, what });
        match head.kind {
            kind::DATA => {
                self.known(stream)?;
                let content = unpadded(head, payload)?;
                let credit = head.len;
                self.owe(credit, out);
                let bytes = u32::try_from(content.len()).map_err(|_| Broken)?;
                tell(stream, What::Data { bytes, credit, ends: head.has(flag::END_STREAM) });
            }
            kind::HEADERS => {
                self.known(stream)?;
                let mut block = unpadded(head, payload)?;
                if head.has(flag::PRIORITY) {
                    block = block.get(5..).ok_or(Broken)?;
                }
                let ends = head.has(flag::END_STREAM);
                if head.has(flag::END_HEADERS) {
                    return self.section(stream, ends, block, said);
                }
                self.block = Some((stream, ends, block.to_vec(), HEADER + payload.len()));
            }
            kind::CONTINUATION => {
                let Some((_, _, block, cost)) = &mut self.block else { return Err(Broken) };
                *cost += HEADER + payload.len();
                if *cost > MAX_REPLY_BLOCK_BYTES {
                    return Err(Broken);
                }
                block.extend_from_slice(payload);
                if head.has(flag::END_HEADERS)
                    && let Some((stream, ends, block, _)) = self.block.take()
                {
                    return self.section(stream, ends, &block, said);
                }
            }
            kind::RST_STREAM => {
                self.known(stream)?;
                tell(stream, What::Reset(number(payload).ok_or(Broken)?));
            }
            kind::SETTINGS if stream == 0 => return self.settings(head, payload, out, said),
            kind::PING if stream == 0 => {
                let content: [u8; 8] = payload.try_into().map_err(|_| Broken)?;
                if !head.has(flag::ACK) {
                    frame(out, kind::PING, flag::ACK, 0, content.len());
                    out.extend_from_slice(&content);
                } else if content == PING {
                    tell(0, What::Pong);
                }
            }
            kind::GOAWAY if stream == 0 => {
                let last = payload.get(..4).and_then(number).ok_or(Broken)? & 0x7fff_ffff;
                let code = payload.get(4..8).and_then(number).ok_or(Broken)?;
                tell(0, What::GoAway(last, code));
            }
            kind::WINDOW_UPDATE => {
                let more = i64::from(number(payload).ok_or(Broken)? & 0x7fff_ffff);
                if stream != 0 {
                    self.known(stream)?;
                } else {
                    self.window += more;
                    if more == 0 || self.window > LARGEST_WINDOW {
                        return Err(Broken);
                    }
                }
                tell(stream, What::Window(more));
            }
            // It was forbidden. The others belong to another stream than they came on.
            kind::PUSH_PROMISE | kind::SETTINGS | kind::PING | kind::GOAWAY => return Err(Broken),
            // PRIORITY, and what extensions know (section 5.5).
            _ => {}
        }
        Ok(())
    }

    /// A header block is whole.
    fn section(&mut self, stream: u32, ends: bool, block: &[u8], said: &mut Vec<Said>) -> Result<(), Broken> {
        let head = self.answers.read(block).ok_or(Broken)?;
        let what = if head.bad {
            What::BadHead
        } else {
            What::Head {
                status: head.status,
                content_length: head.content_length,
                grpc_failed: head.grpc_failed,
                ends,
            }
        };
        said.push(Said { stream, what });
        Ok(())
    }

    fn settings(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Vec<u8>,
        said: &mut Vec<Said>,
    ) -> Result<(), Broken> {
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Broken) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Broken);
        }
        let before = self.stream_window;
        for one in payload.chunks_exact(6) {
            let [a, b, value @ ..] = one else { return Err(Broken) };
            let value = number(value).ok_or(Broken)?;
            match u16::from_be_bytes([*a, *b]) {
                setting::STREAMS => {
                    self.max_streams = usize::try_from(value).unwrap_or(usize::MAX);
                }
                setting::INITIAL_WINDOW_SIZE => {
                    let window = i64::from(value);
                    if window > LARGEST_WINDOW {
                        return Err(Broken);
                    }
                    self.stream_window = window;
                }
                setting::FRAME_SIZE => {
                    if !(16_384..=16_777_215).contains(&value) {
                        return Err(Broken);
                    }
                    self.max_frame = value as usize;
                }
                _ => {}
            }
        }
        if self.stream_window != before {
            said.push(Said { stream: 0, what: What::Windows(self.stream_window - before) });
        }
        frame(out, kind::SETTINGS, flag::ACK, 0, 0);
        Ok(())
    }

    /// Memory of what is not whole yet, bytes.
    pub(super) fn memory(&self) -> usize {
        self.partial.capacity() + self.block.as_ref().map_or(0, |(_, _, block, _)| block.capacity())
    }

    /// A stream that we have opened, though it may be over; frames on others end the connection (section 5.1).
    fn known(&self, stream: u32) -> Result<(), Broken> {
        if stream % 2 == 1 && stream < self.next_stream { Ok(()) } else { Err(Broken) }
    }

    /// Content came: half of the window at a time is given back.
    fn owe(&mut self, bytes: u32, out: &mut Vec<u8>) {
        self.owed += bytes;
        if self.owed >= CONNECTION_WINDOW / 2 {
            credit(out, 0, std::mem::take(&mut self.owed));
        }
    }
}

fn end(ends: bool) -> u8 {
    if ends { flag::END_STREAM } else { 0 }
}

fn header(kind: u8, flags: u8, stream: u32, length: usize) -> [u8; HEADER] {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    out.extend_from_slice(&header(kind, flags, stream, length));
}

fn set_length(out: &mut [u8], start: usize, length: usize) {
    let [_, bytes @ ..] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + bytes.len()) {
        place.copy_from_slice(&bytes);
    }
}

fn credit(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, stream, 4);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// A frame's header and what comes behind it.
fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEADER>()?;
    Some((Head::parse(*head), rest))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A payload without its padding (section 6.1).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Broken> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Broken)?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or(Broken)?;
    rest.get(..length).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use super::{Broken, FRAME_BYTES, INITIAL_WINDOW, MAX_REPLY_BLOCK_BYTES, Mux, Said, What, frame, kind};

    /// Kind, flags, stream, payload.
    type Frame<'a> = (u8, u8, u32, &'a [u8]);

    fn mux(streams: u32) -> Mux {
        let mut mux = Mux::begin(&mut Vec::new());
        for _ in 0..streams {
            mux.open().unwrap();
        }
        mux
    }

    fn bytes(frames: &[Frame<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, flags, stream, payload) in frames {
            frame(&mut bytes, *kind, *flags, *stream, payload.len());
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    fn read(mux: &mut Mux, input: &[u8], step: usize) -> (Vec<Said>, Vec<u8>, Result<(), Broken>) {
        let (mut said, mut out) = (Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            if let Err(broken) = mux.read(piece, &mut out, &mut said) {
                return (said, out, Err(broken));
            }
        }
        (said, out, Ok(()))
    }

    #[test]
    fn frames_mean_the_same_however_they_are_cut() {
        let input = bytes(&[
            (kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10, 0, 3, 0, 0, 0, 7, 0xff, 0, 1, 2, 3, 4]),
            (kind::HEADERS, 0, 1, &[0x88]),
            (kind::CONTINUATION, 4, 1, b"\x0f\x0d\x015"),
            (kind::DATA, 8, 1, b"\x03hello\0\0\0"),
            (kind::PRIORITY, 0, 1, &[0; 5]),
            (kind::HEADERS, 5, 1, b"\x00\x0bgrpc-status\x02\x31\x34"),
            (kind::PING, 0, 0, b"12345678"),
            (kind::WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]),
            (kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]),
            (200, 0, 5, b"of an extension"),
            (kind::GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\x02why"),
        ]);
        let head = |status, content_length, grpc_failed, ends| What::Head {
            status,
            content_length,
            grpc_failed,
            ends,
        };
        let expected = [
            (0, What::Windows(10 - INITIAL_WINDOW)),
            (1, head(Some(200), Some(5), false, false)),
            (1, What::Data { bytes: 5, credit: 9, ends: false }),
            (1, head(None, None, true, true)),
            (3, What::Window(256)),
            (3, What::Reset(8)),
            (0, What::GoAway(3, 2)),
        ]
        .map(|(stream, what)| Said { stream, what });
        for step in [1, 2, 7, 10, 1000] {
            let mut mux = mux(2);
            let (said, out, result) = read(&mut mux, &input, step);
            assert_eq!((said.as_slice(), result), (expected.as_slice(), Ok(())), "{step} bytes at a time");
            assert_eq!((mux.max_streams, mux.stream_window), (7, 10));
            let acknowledged = bytes(&[(kind::SETTINGS, 1, 0, b""), (kind::PING, 1, 0, b"12345678")]);
            assert_eq!(out, acknowledged);
        }
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_connection() {
        let cases: [(&str, &[Frame<'_>]); 14] = [
            ("a stream nobody opened", &[(kind::HEADERS, 4, 3, &[0x88])]),
            ("a stream of the shadow's", &[(kind::DATA, 0, 2, b"x")]),
            ("no stream", &[(kind::DATA, 0, 0, b"x")]),
            ("a push", &[(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x88])]),
            ("padding longer than the frame", &[(kind::DATA, 8, 1, &[5, 1])]),
            ("a frame inside a block", &[(kind::HEADERS, 0, 1, &[0x88]), (kind::PING, 0, 0, &[0; 8])]),
            ("another's block", &[(kind::HEADERS, 0, 1, &[0x88]), (kind::CONTINUATION, 4, 0, &[])]),
            ("a block without a beginning", &[(kind::CONTINUATION, 4, 1, &[0x88])]),
            ("a block that cannot be read", &[(kind::HEADERS, 4, 1, &[0xff, 0xff])]),
            ("half a setting", &[(kind::SETTINGS, 0, 0, &[0, 4, 0])]),
            ("too large a window", &[(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])]),
            ("credit beyond the largest window", &[(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
            ("no credit", &[(kind::WINDOW_UPDATE, 0, 0, &[0; 4])]),
            ("a frame too large", &[(kind::DATA, 0, 1, &[0; FRAME_BYTES + 1])]),
        ];
        for (what, frames) in cases {
            for step in [3, 100_000] {
                let result = read(&mut mux(1), &bytes(frames), step).2;
                assert_eq!(result, Err(Broken), "{what}, {step} bytes at a time");
            }
        }
    }

    #[test]
    fn a_flood_of_continuations_ends_the_connection_even_if_they_are_empty() {
        let mut mux = mux(1);
        read(&mut mux, &bytes(&[(kind::HEADERS, 0, 1, &[0x88])]), 100).2.unwrap();
        let more = bytes(&[(kind::CONTINUATION, 0, 1, &[])]);
        let end = (0..MAX_REPLY_BLOCK_BYTES).find(|_| read(&mut mux, &more, 100).2.is_err());
        assert!(end.is_some());
    }

    #[test]
    fn a_header_section_longer_than_a_frame_is_continued() {
        let mut mux = mux(1);
        let mut out = Vec::new();
        mux.headers(&mut out, 1, true, |out| out.extend_from_slice(&[0x82; 2 * FRAME_BYTES]));
        let mut at = 0;
        let mut got = Vec::new();
        while let Some((head, rest)) = super::split(&out[at..]) {
            got.push((head.kind, head.flags, head.len as usize, rest[0]));
            at += super::HEADER + head.len as usize;
        }
        // The first byte says that the encoder has no table.
        let full = FRAME_BYTES;
        let expected = [
            (kind::HEADERS, 1, full, 0x20),
            (kind::CONTINUATION, 0, full, 0x82),
            (kind::CONTINUATION, 4, 1, 0x82),
        ];
        assert_eq!(got, expected);
        out.clear();
        mux.headers(&mut out, 1, false, |out| out.push(0x82));
        assert_eq!(out, bytes(&[(kind::HEADERS, 4, 1, &[0x82])]));
    }
}
