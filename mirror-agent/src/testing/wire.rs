//! A client, a primary and a tap between them, and the book of what the framer told.

use std::fmt::Write as _;

use crate::flow::{Chunk, Evidence, Gap, GapReason, Start};
use crate::http::{
    AbortReason, Answer, Connection, Events, H2Error, HeaderField, Limits, NotHttp, Pickup, PseudoFields,
    RequestHead, StreamHead, TunnelEnd, Waiting,
};
use crate::packet::Seq;

/// What the room after this one was told. Bodies are joined, so that the book does not depend on cuts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    /// `GET /a`, `> body`, `end 12`, `abort Gap`, `refused`, one a line.
    pub(crate) log: String,
    pub(crate) heads: Vec<Seen>,
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) parsed: u64,
    pub(crate) skipped: u64,
    pub(crate) not_http: [u64; NotHttp::ALL.len()],
    buffered: i64,
    open: bool,
    pub(crate) streams: Vec<SeenStream>,
    /// The stream that must end now.
    last: Option<u32>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) waited: Vec<Waiting>,
    tunnel: Option<Vec<u8>>,
    /// Of HTTP/2 state, and how much there may be.
    pub(crate) memory: i64,
    pub(crate) room: Option<i64>,
    /// Of requests that wait for their answer, and how much there may be.
    pub(crate) unanswered: i64,
    pub(crate) unanswered_room: Option<i64>,
    /// Frames and payload bytes.
    frames: (u64, u64),
}

/// A stream as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenStream {
    pub(crate) id: u32,
    pub(crate) pos: u64,
    pub(crate) time: u64,
    open: bool,
    body: Vec<u8>,
    pub(crate) never_indexed: PseudoFields,
}

/// ` name: value`, with `!` before what must not be indexed.
fn fields_text(fields: &[HeaderField<'_>]) -> String {
    let line = |field: &HeaderField<'_>| {
        let mark = if field.never_indexed { "!" } else { "" };
        format!(" {mark}{}: {}", field.name.escape_ascii(), field.value.escape_ascii())
    };
    fields.iter().map(line).collect()
}

/// A head as it was told.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) raw: Vec<u8>,
    pub(crate) pos: u64,
    pub(crate) time: u64,
    pub(crate) pipelined: bool,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { raw, pos, time, pipelined } = self;
        write!(f, "\"{}\" at {pos} time {time} pipelined {pipelined}", raw.escape_ascii())
    }
}

impl Book {
    pub(crate) fn of(&self, why: NotHttp) -> u64 {
        self.not_http[why as usize]
    }

    fn stream(&mut self, id: u32) -> &mut SeenStream {
        self.streams.iter_mut().find(|stream| stream.id == id && stream.open).expect("the stream is open")
    }

    /// What the client said, whatever segments it came in: without times, and without what depends on where segments end.
    pub(crate) fn essence(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let heads: Vec<_> = self.heads.iter().map(|head| (head.raw.clone(), head.pos)).collect();
        let streams: Vec<_> = self.streams.iter().map(|stream| (stream.id, stream.pos)).collect();
        let counts = (self.parsed, self.skipped, self.not_http, self.frames);
        (self.log.clone(), heads, self.bodies.clone(), streams, counts, self.waited.clone())
    }

    fn total(&self) -> u64 {
        self.parsed + self.skipped + self.not_http.iter().sum::<u64>()
    }
}

impl Events for Book {
    fn head(&mut self, head: &RequestHead<'_>) {
        assert!(!self.open, "a head inside a request");
        self.open = true;
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        writeln!(self.log, "{} {}", text(head.method), text(head.target)).unwrap();
        for field in head.fields {
            assert!(head.slice(&field.line).starts_with(head.slice(&field.name)));
        }
        self.heads.push(Seen {
            raw: head.raw.to_vec(),
            pos: head.pos,
            time: head.time,
            pipelined: head.pipelined,
        });
        self.bodies.push(Vec::new());
    }

    fn body(&mut self, bytes: &[u8], _time: u64) {
        assert!(self.open && !bytes.is_empty());
        self.bodies.last_mut().unwrap().extend_from_slice(bytes);
    }

    fn end(&mut self, pos: u64) {
        assert!(std::mem::take(&mut self.open), "an end without a request");
        let body = self.bodies.last().unwrap();
        if !body.is_empty() {
            writeln!(self.log, "> {}", body.escape_ascii()).unwrap();
        }
        writeln!(self.log, "end {pos}").unwrap();
    }

    fn abort(&mut self, why: AbortReason) {
        assert!(std::mem::take(&mut self.open), "an abort without a request");
        writeln!(self.log, "abort {why:?}").unwrap();
    }

    fn refused(&mut self, why: AbortReason) {
        assert!(!self.open);
        match why {
            AbortReason::Malformed => self.log.push_str("refused\n"),
            AbortReason::HeadTooLarge => self.log.push_str("too large\n"),
            why => writeln!(self.log, "refused {why:?}").unwrap(),
        }
    }

    fn h2_begin(&mut self, upgraded: bool) {
        assert!(!self.open);
        self.log.push_str(if upgraded { "h2 upgraded\n" } else { "h2\n" });
    }

    fn stream_head(&mut self, head: &StreamHead<'_>) {
        assert!(head.stream > self.streams.last().map_or(0, |stream| stream.id) && self.last.is_none());
        assert!(head.fields.iter().all(|field| !field.name.is_empty()));
        let part = |part: Option<&[u8]>| part.unwrap_or(b"-").escape_ascii().to_string();
        let protocol = head.protocol.map(|name| format!(" {}", name.escape_ascii())).unwrap_or_default();
        writeln!(
            self.log,
            "#{} {} {} {} {}{protocol}{}",
            head.stream,
            head.method.escape_ascii(),
            part(head.scheme),
            part(head.authority),
            part(head.path),
            fields_text(head.fields),
        )
        .unwrap();
        self.streams.push(SeenStream {
            id: head.stream,
            pos: head.pos,
            time: head.time,
            open: true,
            body: Vec::new(),
            never_indexed: head.never_indexed,
        });
        if head.end_stream {
            self.last = Some(head.stream);
        }
    }

    fn stream_data(&mut self, stream: u32, bytes: &[u8], last: bool, _: u64) {
        assert!(!bytes.is_empty() && self.last.is_none());
        self.stream(stream).body.extend_from_slice(bytes);
        if last {
            self.last = Some(stream);
        }
    }

    fn stream_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], _: u64) {
        assert!(self.last.is_none());
        self.stream(stream);
        self.last = Some(stream);
        writeln!(self.log, "#{stream} trailers{}", fields_text(fields)).unwrap();
    }

    fn stream_end(&mut self, stream: u32, pos: u64) {
        assert!(self.last.take().is_none_or(|last| last == stream), "something came after the last bytes");
        let seen = self.stream(stream);
        seen.open = false;
        let body = std::mem::take(&mut seen.body);
        if !body.is_empty() {
            writeln!(self.log, "#{stream} > {}", body.escape_ascii()).unwrap();
        }
        writeln!(self.log, "#{stream} end {pos}").unwrap();
    }

    fn stream_abort(&mut self, stream: u32, why: AbortReason, code: Option<u32>) {
        assert!(self.last.is_none());
        let seen = self.stream(stream);
        seen.open = false;
        // How much of it was told depends on cuts.
        seen.body.clear();
        let code = code.map(|code| format!(" {code}")).unwrap_or_default();
        writeln!(self.log, "#{stream} abort {why:?}{code}").unwrap();
    }

    fn stream_cancelled(&mut self, stream: u32, code: u32) {
        writeln!(self.log, "#{stream} cancelled {code}").unwrap();
    }

    fn h2_error(&mut self, why: H2Error) {
        assert!(self.streams.iter().all(|stream| !stream.open));
        writeln!(self.log, "error {why:?}").unwrap();
    }

    fn h2_memory(&mut self, delta: i64) -> bool {
        self.memory += delta;
        assert!(self.memory >= 0);
        self.room.is_none_or(|room| self.memory <= room)
    }

    fn unanswered_memory(&mut self, delta: i64) -> bool {
        self.unanswered += delta;
        assert!(self.unanswered >= 0);
        delta < 0 || self.unanswered_room.is_none_or(|room| self.unanswered <= room)
    }

    fn waiting(&mut self, why: Waiting, begins: bool) {
        assert_eq!(self.waiting.is_none(), begins);
        self.waiting = Some(why).filter(|_| begins);
        self.waited.push(why);
        self.waited.dedup();
    }

    fn tunnel(&mut self, _: u64) {
        assert!(!self.open && self.tunnel.replace(Vec::new()).is_none());
    }

    fn tunnel_data(&mut self, bytes: &[u8], _: u64) {
        assert!(!bytes.is_empty());
        self.tunnel.as_mut().unwrap().extend_from_slice(bytes);
    }

    fn tunnel_frames(&mut self, frames: u64, payload: u64) {
        self.frames.0 += frames;
        self.frames.1 += payload;
    }

    fn tunnel_end(&mut self, why: TunnelEnd) {
        let bytes = self.tunnel.take().unwrap();
        writeln!(self.log, "tunnel {} {:?}", bytes.len(), self.frames).unwrap();
        writeln!(self.log, "tunnel {why:?}").unwrap();
    }

    fn parsed(&mut self, bytes: u64) {
        self.parsed += bytes;
    }

    fn not_http(&mut self, why: NotHttp, bytes: u64) {
        self.not_http[why as usize] += bytes;
    }

    fn skipped(&mut self, bytes: u64) {
        self.skipped += bytes;
    }

    fn buffered(&mut self, delta: i64) {
        self.buffered += delta;
    }
}

/// A client, a primary and a tap between them.
pub(crate) struct Wire {
    pub(crate) connection: Connection,
    pub(crate) book: Book,
    pub(crate) pos: u64,
    pub(crate) ack: Seq,
    pub(crate) time: u64,
    given: u64,
    /// Lengths of the pieces that a segment is cut into, over and over.
    cuts: Vec<usize>,
    pub(crate) answers: Vec<Answer>,
}

impl Wire {
    pub(crate) fn new(start: Start) -> Self {
        Self::with(start, Pickup::Prove, &Limits::default())
    }

    pub(crate) fn with(start: Start, pickup: Pickup, limits: &Limits) -> Self {
        Self {
            connection: Connection::new(start, limits, pickup),
            book: Book::default(),
            pos: 0,
            ack: Seq(u32::MAX - 300),
            time: 0,
            given: 0,
            cuts: vec![usize::MAX],
            answers: Vec::new(),
        }
    }

    pub(crate) fn cut(mut self, cuts: &[usize]) -> Self {
        self.cuts = cuts.to_vec();
        self
    }

    /// One segment of the client.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.time += 1;
        let mut rest = bytes.as_ref();
        let mut segment_start = true;
        let cuts = self.cuts.clone();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).clamp(1, rest.len()));
            let chunk =
                Chunk { pos: self.pos, bytes: piece, time: self.time, ack: Some(self.ack), segment_start };
            self.connection.data(&chunk, &mut self.book);
            self.pos += piece.len() as u64;
            self.given += piece.len() as u64;
            segment_start = false;
            rest = after;
            self.check();
        }
        self
    }

    /// A segment that the tap did not see.
    pub(crate) fn lose(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let len = bytes.as_ref().len() as u64;
        self.connection.gap(&Gap { pos: self.pos, len, reason: GapReason::Timeout }, &mut self.book);
        self.pos += len;
        self.check();
        self
    }

    /// The primary answers all that was sent, the tap sees it, the client reads it.
    pub(crate) fn answer(&mut self, status: u16) -> &mut Self {
        self.answer_at(status, self.pos)
    }

    pub(crate) fn answer_at(&mut self, status: u16, acked: u64) -> &mut Self {
        self.time += 1;
        let evidence = Evidence { acked, status, time: self.time };
        self.answers.extend(self.connection.response(&evidence, &mut self.book));
        self.check();
        self.unseen_answer()
    }

    /// The client reads a response that the tap did not see.
    pub(crate) fn unseen_answer(&mut self) -> &mut Self {
        self.ack = self.ack.plus(200);
        self
    }

    /// Gives up what is held.
    pub(crate) fn shed(&mut self) -> &mut Self {
        self.connection.shed(&mut self.book);
        self.check();
        self
    }

    pub(crate) fn fin(&mut self) -> &mut Self {
        self.connection.half_close(&mut self.book);
        self.check();
        self
    }

    /// Ends the connection; the number of requests without an answer and the book.
    pub(crate) fn close(mut self) -> (u64, Book) {
        let unknown = self.connection.close(&mut self.book);
        self.check();
        assert_eq!(self.book.buffered, 0, "bytes are left behind");
        assert!(!self.book.open, "a request is left open");
        assert!(self.book.streams.iter().all(|stream| !stream.open), "a stream is left open");
        assert!(self.book.waiting.is_none() && self.book.tunnel.is_none());
        assert_eq!((self.book.memory, self.book.unanswered), (0, 0), "memory is left behind");
        (unknown, self.book)
    }

    /// The byte law.
    pub(crate) fn check(&self) {
        assert_eq!(self.book.buffered, i64::try_from(self.connection.buffered()).unwrap());
        assert_eq!(self.given, self.book.total() + self.connection.buffered(), "\n{}", self.book.log);
    }
}

/// What comes of one segment on a new connection: the same whole, byte by byte, and in pieces of other lengths.
pub(crate) fn frame(bytes: impl AsRef<[u8]>) -> Book {
    let run = |cuts: &[usize]| {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send(bytes.as_ref());
        wire.close().1
    };
    let whole = run(&[usize::MAX]);
    for cuts in [&[1][..], &[2], &[3, 1, 7], &[16, 5]] {
        assert_eq!(run(cuts), whole, "cut into {cuts:?}");
    }
    whole
}

pub(crate) const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
