//! Segments by hand, and a handler that keeps the books.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mirror_common::record::{Direction, tcp_flags};

use crate::flow::{Chunk, Close, Evidence, FlowInfo, Gap, GapReason, Handler, LostReason, Start};
use crate::packet::{Flags, FlowKey, Peer, Segment, Seq};

/// The slot of the job that segments match.
pub(crate) const JOB: u16 = 5;

/// A connection to send segments on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub(crate) key: FlowKey,
    pub(crate) hash: u32,
    pub(crate) job: u16,
}

impl Conn {
    pub(crate) fn new(number: u32) -> Self {
        let mut client = Peer::from(std::net::SocketAddr::from(([10, 0, 0, 1], 40_000)));
        client.addr[12..].copy_from_slice(&(0x0a00_0000 | number).to_be_bytes());
        let primary = Peer::from(std::net::SocketAddr::from(([10, 1, 1, 1], 9080)));
        Self { key: FlowKey { client, primary }, hash: number.wrapping_mul(0x9e37_79b9), job: JOB }
    }

    pub(crate) fn send<'a>(&self, time: u64, flags: u8, seq: u32, payload: &'a [u8]) -> Segment<'a> {
        Segment {
            flow: self.key,
            job: self.job,
            direction: Direction::Request,
            hash: self.hash,
            time,
            seq: Seq(seq),
            ack: (flags & tcp_flags::ACK != 0).then_some(Seq(7_000)),
            flags: Flags(flags),
            window: 512,
            status: None,
            len: payload.len() as u32,
            payload,
        }
    }

    pub(crate) fn data<'a>(&self, time: u64, seq: u32, payload: &'a [u8]) -> Segment<'a> {
        self.send(time, tcp_flags::ACK | tcp_flags::PSH, seq, payload)
    }

    pub(crate) fn syn(&self, time: u64, isn: u32) -> Segment<'static> {
        self.send(time, tcp_flags::SYN, isn, b"")
    }

    pub(crate) fn reply(&self, time: u64, flags: u8, seq: u32, ack: u32, status: u16) -> Segment<'static> {
        Segment {
            direction: Direction::Response,
            ack: (flags & tcp_flags::ACK != 0).then_some(Seq(ack)),
            status: (status != 0).then_some(status),
            len: 100,
            ..self.send(time, flags, seq, b"")
        }
    }

    pub(crate) fn head(&self, time: u64, seq: u32, ack: u32) -> Segment<'static> {
        self.reply(time, tcp_flags::ACK, seq, ack, 200)
    }
}

/// One flow as the handler saw it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) next: u64,
    /// The stream up to its first gap over 1 MiB: a byte, or `None` for a missing one.
    pub(crate) stream: Vec<Option<u8>>,
    pub(crate) half_closed: bool,
}

impl Log {
    /// A patient table counts from somewhere before the first byte that it saw of a flow that was under way.
    fn begin(&mut self, flow: &FlowInfo, pos: u64) {
        if flow.start == Start::MidStream && self.next == 0 {
            self.next = pos;
        }
    }
}

/// Writes down every call, keeps the books, and checks what must hold for every flow.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Calls since the last [`Book::said`], one word each.
    pub(crate) words: String,
    pub(crate) given: BTreeMap<u16, u64>,
    pub(crate) delivered: BTreeMap<u16, u64>,
    pub(crate) duplicate: BTreeMap<u16, u64>,
    pub(crate) lost: BTreeMap<(u16, LostReason), u64>,
    pub(crate) buffered: BTreeMap<u16, i64>,
    pub(crate) gap_bytes: u64,
    pub(crate) open: u64,
    pub(crate) closed: Vec<(FlowInfo, Log, Close)>,
}

impl Book {
    pub(crate) fn said(&mut self) -> String {
        std::mem::take(&mut self.words).trim_end().to_owned()
    }

    pub(crate) fn say(&mut self, word: std::fmt::Arguments<'_>) {
        write!(self.words, "{word} ").unwrap();
    }

    /// The law of the bytes, for each job.
    pub(crate) fn check(&self) {
        for (&job, &given) in &self.given {
            let get = |books: &BTreeMap<u16, u64>| books.get(&job).copied().unwrap_or(0);
            let lost: u64 = self.lost.iter().filter(|((of, _), _)| *of == job).map(|(_, n)| n).sum();
            let buffered = u64::try_from(self.buffered.get(&job).copied().unwrap_or(0)).unwrap();
            assert_eq!(
                given,
                get(&self.delivered) + get(&self.duplicate) + lost + buffered,
                "the law of job {job}, after: {}",
                self.words
            );
        }
        let unknown = |job: &u16| !self.given.contains_key(job);
        assert!(
            !self.delivered.keys().chain(self.duplicate.keys()).any(unknown),
            "bytes of nobody: {}",
            self.words
        );
        assert!(!self.lost.keys().any(|(job, _)| unknown(job)), "bytes of nobody: {}", self.words);
    }

    pub(crate) fn lost(&self, why: LostReason) -> u64 {
        self.lost.get(&(JOB, why)).copied().unwrap_or(0)
    }

    pub(crate) fn duplicate(&self) -> u64 {
        self.duplicate.get(&JOB).copied().unwrap_or(0)
    }

    pub(crate) fn buffered(&self) -> i64 {
        self.buffered.get(&JOB).copied().unwrap_or(0)
    }
}

impl Handler for Book {
    type State = Log;

    fn open(&mut self, flow: &FlowInfo) -> Log {
        self.open += 1;
        let start = match flow.start {
            Start::Syn => "syn",
            Start::MidStream => "mid",
        };
        self.say(format_args!("open:{start}"));
        Log { next: 0, stream: Vec::new(), half_closed: false }
    }

    fn data(&mut self, flow: &FlowInfo, log: &mut Log, chunk: Chunk<'_>) {
        log.begin(flow, chunk.pos);
        assert_eq!(chunk.pos, log.next, "bytes come in order, each once");
        assert!(!chunk.bytes.is_empty() && !log.half_closed);
        log.next += chunk.bytes.len() as u64;
        if chunk.pos == log.stream.len() as u64 {
            log.stream.extend(chunk.bytes.iter().map(|&byte| Some(byte)));
        }
        *self.delivered.entry(flow.job).or_default() += chunk.bytes.len() as u64;
        let cut = if chunk.segment_start { "" } else { "~" };
        self.say(format_args!("{cut}{}", chunk.bytes.escape_ascii()));
    }

    fn gap(&mut self, flow: &FlowInfo, log: &mut Log, gap: Gap) {
        log.begin(flow, gap.pos);
        assert_eq!(gap.pos, log.next, "gaps come in order");
        assert!(gap.len > 0 && !log.half_closed);
        self.gap_bytes += gap.len;
        log.next += gap.len;
        if gap.pos == log.stream.len() as u64 && gap.len < 1 << 20 {
            log.stream.extend(std::iter::repeat_n(None, gap.len as usize));
        }
        let why = match gap.reason {
            GapReason::Acknowledged => "acked",
            GapReason::Timeout => "timeout",
            GapReason::Memory => "memory",
            GapReason::Closed => "closed",
            GapReason::Cut => "cut",
        };
        self.say(format_args!("gap:{}:{why}", gap.len));
    }

    fn response(&mut self, _: &FlowInfo, log: &mut Log, evidence: Evidence) {
        assert!(evidence.acked <= log.next, "everything before it was told first");
        self.say(format_args!("{}@{}", evidence.status, evidence.acked));
    }

    fn half_close(&mut self, _: &FlowInfo, log: &mut Log) {
        assert!(!log.half_closed);
        log.half_closed = true;
        self.say(format_args!("half"));
    }

    fn close(&mut self, flow: &FlowInfo, log: Log, why: Close) {
        self.open -= 1;
        self.say(format_args!("close:{}", format!("{why:?}").to_lowercase()));
        self.closed.push((*flow, log, why));
    }

    fn duplicate(&mut self, job: u16, bytes: u64) {
        assert!(bytes > 0);
        *self.duplicate.entry(job).or_default() += bytes;
        self.say(format_args!("dup:{bytes}"));
    }

    fn lost(&mut self, job: u16, why: LostReason, bytes: u64) {
        assert!(bytes > 0);
        *self.lost.entry((job, why)).or_default() += bytes;
        let why = LostReason::ALL.iter().find(|(reason, _)| *reason == why).unwrap().1;
        self.say(format_args!("lost:{bytes}:{why}"));
    }

    fn buffered(&mut self, job: u16, delta: i64) {
        assert!(delta != 0);
        *self.buffered.entry(job).or_default() += delta;
        self.say(format_args!("{delta:+}"));
    }
}
