//! Only what is proved to be HTTP, and of that only what may be written.
//!
//! Segments go through the flow table and the http room as in `mirror run`. What these tell ([`Told`]) becomes packets; what
//! they do not tell is left out. So a byte is written for one reason only: because it is known what it is.

use smallvec::SmallVec;

use super::frames::Frames;
use super::out::Out;
use super::told::Told;
use super::{LeftOut, Rules};
use crate::capture::TcpPacket;
use crate::flow::{self, Chunk, Close, Evidence, FlowInfo, Gap, Handler, LostReason, Table};
use crate::http::{self, Budget, Connection, Dechunker, Pickup};
use crate::packet::{FirstBytes, Flags, Segment, Seq};
use mirror_common::record::{Direction, tcp_flags};

/// Bytes that the decoders of a shard may hold, for each flow that its table may have.
const MAX_HELD_BYTES_PER_FLOW: usize = 1024;
/// What a flow may cost beside its place in the table, bytes.
pub(super) const CLIENT_BYTES: usize = size_of::<Client>() + Connection::OWN_BYTES + MAX_HELD_BYTES_PER_FLOW;
/// Chunks of a stream whose acknowledgements are kept apart while they wait; later ones count with the last before them.
const MAX_MARKS: usize = 16;

/// A shard's sieve.
pub(super) struct Sieve {
    table: Table<Client>,
    line: Line,
}

/// What all flows share.
pub(super) struct Line {
    pub(super) rules: Rules,
    http: http::Limits,
    /// Bytes in decoders and trailers, and the most of them.
    held: u64,
    max_held: u64,
    pub(super) h2_memory: Budget,
    pub(super) unanswered: Budget,
    window: u16,
    pub(super) scratch: Vec<u8>,
}

/// What is kept for each client connection.
pub(super) struct Client {
    http: Connection,
    pub(super) stream: Stream,
}

/// Where a client's stream stands.
#[derive(Default)]
pub(super) struct Stream {
    /// Position after the last byte that was told.
    pub(super) at: u64,
    /// What the client had acknowledged from which position on, for bytes that wait.
    marks: SmallVec<[(u64, Option<Seq>); 1]>,
    /// Bytes that were delivered and have no fate yet.
    pub(super) open: u64,
    pub(super) body: Option<Box<Body>>,
    /// It speaks HTTP/2.
    pub(super) h2: Option<Box<Frames>>,
    /// Position that the primary had acknowledged when it said 100 last.
    invited: Option<u64>,
}

/// The body of the request that was told last.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Takes a chunked one apart.
    pub(super) parts: Option<Dechunker>,
    /// Where it begins, if it must not be written before the primary asked for it.
    pub(super) asks: Option<u64>,
    /// A trailer section that is not whole, and where it begins.
    pub(super) trailers: Vec<u8>,
    pub(super) trailers_at: u64,
}

impl Stream {
    fn ack(&self, pos: u64) -> Option<Seq> {
        let mark = self.marks.iter().rev().find(|(from, _)| *from <= pos).or(self.marks.first());
        mark.and_then(|(_, ack)| *ack)
    }

    /// Whether the primary asked for the body that begins at `pos`.
    pub(super) fn is_invited(&self, pos: u64) -> bool {
        self.invited.is_some_and(|invited| invited >= pos)
    }
}

impl Sieve {
    pub(super) fn new(rules: Rules, flows: flow::Limits, http: http::Limits) -> Self {
        let alone = u64::from(http.max_head_bytes.max(http.max_held_bytes));
        let max_held = (u64::from(flows.flows) * MAX_HELD_BYTES_PER_FLOW as u64).max(alone);
        Self {
            table: Table::new(flows),
            line: Line {
                rules,
                h2_memory: Budget::new(http.h2_memory_bytes),
                unanswered: Budget::new(http.unanswered_bytes),
                http,
                held: 0,
                max_held,
                window: 0,
                scratch: Vec::new(),
            },
        }
    }

    /// Takes a segment. Openings and endings of a connection are written as they come, and the beginnings of answers after
    /// what they show of the requests.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, first: &FirstBytes<'_>, out: &mut Out) {
        self.line.window = segment.window;
        let Flags(flags) = segment.flags;
        if segment.direction == Direction::Response {
            self.table.segment(segment, &mut Way { line: &mut self.line, out });
            out.segment(segment, first.as_slice());
            return;
        }
        let bare = Segment { len: 0, payload: &[], ..*segment };
        if segment.flags.syn() {
            let flags = Flags(flags & !(tcp_flags::FIN | tcp_flags::RST | tcp_flags::PSH));
            out.segment(&Segment { flags, ..bare }, &[]);
        }
        self.table.segment(segment, &mut Way { line: &mut self.line, out });
        if segment.flags.fin() || segment.flags.rst() {
            let seq = segment.seq.plus(segment.len).plus(u32::from(segment.flags.syn()));
            let flags = Flags(flags & !(tcp_flags::SYN | tcp_flags::PSH));
            out.segment(&Segment { seq, flags, ..bare }, &[]);
        }
    }

    pub(super) fn tick(&mut self, now: u64, out: &mut Out) {
        self.table.tick(now, &mut Way { line: &mut self.line, out });
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.table.next_deadline()
    }

    pub(super) fn close(&mut self, now: u64, out: &mut Out) {
        self.table.close_all(now, &mut Way { line: &mut self.line, out });
    }
}

/// The table's listener for one call.
struct Way<'a> {
    line: &'a mut Line,
    out: &'a mut Out,
}

impl Way<'_> {
    /// Lets the http room work, and leaves out what it gave a fate without telling it.
    fn work(
        &mut self,
        flow: &FlowInfo,
        client: &mut Client,
        work: impl FnOnce(&mut Connection, &mut Told<'_>),
    ) {
        let before = client.held();
        let mut told = Told::new(self.line, self.out, flow, &mut client.stream);
        work(&mut client.http, &mut told);
        let untold = told.untold;
        client.settle(untold, self.out);
        self.line.held = self.line.held + client.held() - before;
        if self.line.held > self.line.max_held {
            self.shed(flow, client);
        }
    }

    /// The decoders hold too much, so the flow that came last gives up what it holds.
    #[cold]
    fn shed(&mut self, flow: &FlowInfo, client: &mut Client) {
        let before = client.held();
        let mut told = Told::new(self.line, self.out, flow, &mut client.stream);
        told.drop_trailers();
        client.http.shed(&mut told);
        let untold = told.untold;
        client.settle(untold, self.out);
        self.line.held = self.line.held + client.held() - before;
    }
}

impl Client {
    /// Bytes that it holds.
    fn held(&self) -> u64 {
        self.http.buffered() + self.stream.body.as_ref().map_or(0, |body| body.trailers.len() as u64)
    }

    /// Leaves out what was delivered, is not held and was not told: `untold` of it for these reasons.
    fn settle(&mut self, untold: [u64; LeftOut::ALL.len()], out: &mut Out) {
        // The frames of HTTP/2 were told as they came, whatever the decoder still holds of them.
        let waits = if self.stream.h2.is_some() { 0 } else { self.http.buffered() };
        let mut rest = self.stream.open.saturating_sub(waits);
        self.stream.open -= rest;
        out.tally.buffered -= rest.cast_signed();
        if self.stream.open == 0 {
            self.stream.marks.clear();
        }
        let mut leave = |why, bytes: u64| {
            let here = bytes.min(rest);
            out.tally.leave_out(why, here);
            rest -= here;
        };
        for ((why, _), bytes) in LeftOut::ALL.into_iter().zip(untold) {
            leave(why, bytes);
        }
        leave(if self.stream.h2.is_some() { LeftOut::Http2 } else { LeftOut::Incomplete }, u64::MAX);
    }
}

impl Handler for Way<'_> {
    type State = Client;

    fn open(&mut self, flow: &FlowInfo) -> Client {
        Client {
            http: Connection::new(flow.start, &self.line.http, Pickup::Prove),
            stream: Stream::default(),
        }
    }

    fn data(&mut self, flow: &FlowInfo, client: &mut Client, chunk: Chunk<'_>) {
        let stream = &mut client.stream;
        stream.open += chunk.bytes.len() as u64;
        self.out.tally.buffered += chunk.bytes.len().cast_signed() as i64;
        if stream.marks.len() < MAX_MARKS {
            stream.marks.push((chunk.pos, chunk.ack));
        }
        self.work(flow, client, |http, told| http.data(&chunk, told));
    }

    fn gap(&mut self, flow: &FlowInfo, client: &mut Client, gap: Gap) {
        self.work(flow, client, |http, told| {
            told.gap(&gap);
            http.gap(&gap, told);
        });
    }

    fn response(&mut self, flow: &FlowInfo, client: &mut Client, evidence: Evidence) {
        if evidence.status == 100 {
            client.stream.invited = Some(evidence.acked);
        }
        self.work(flow, client, |http, told| {
            http.response(&evidence, told);
        });
    }

    fn half_close(&mut self, flow: &FlowInfo, client: &mut Client) {
        self.work(flow, client, |http, told| http.half_close(told));
    }

    fn close(&mut self, flow: &FlowInfo, mut client: Client, _why: Close) {
        self.work(flow, &mut client, |http, told| {
            http.close(told);
            told.drop_trailers();
        });
    }

    fn duplicate(&mut self, _job: u16, bytes: u64) {
        self.out.tally.leave_out(LeftOut::Duplicate, bytes);
    }

    fn lost(&mut self, _job: u16, _why: LostReason, bytes: u64) {
        self.out.tally.leave_out(LeftOut::Reassembly, bytes);
    }

    fn buffered(&mut self, _job: u16, delta: i64) {
        self.out.tally.buffered += delta;
    }
}

impl Line {
    /// Writes a packet of a client's stream: `len` bytes at `pos`, of which `bytes` are shown.
    pub(super) fn packet(
        &self,
        flow: &FlowInfo,
        stream: &Stream,
        (pos, len, time): (u64, u64, u64),
        bytes: &[u8],
        out: &mut Out,
    ) {
        let ack = stream.ack(pos);
        let flags = tcp_flags::PSH | if ack.is_some() { tcp_flags::ACK } else { 0 };
        // The low 32 bits are what the sequence number counts.
        let seq = flow.origin.plus((pos & u64::from(u32::MAX)) as u32);
        // A piece is not longer than what the http room tells at a time, which is far below 4 GiB.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        out.packet(&TcpPacket {
            time,
            src: flow.key.client,
            dst: flow.key.primary,
            seq: seq.0,
            ack: ack.map_or(0, |ack| ack.0),
            flags,
            window: self.window,
            len,
            bytes,
        });
    }
}
