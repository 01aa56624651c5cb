//! The straight line of a request, from whichever source it comes: a segment, a chunk, a request, and its copies.
//!
//! ```text
//! ring -> Pipeline (packet, flow, http) -> Requests -> plan -> Shadows (replay)
//! file -> dialog   (flow, http) -> Captured -^
//! ```
//!
//! [`Pipeline::record`] is the whole way of a live request. A [`Captured`] is the end of the way of one out of a file: what
//! becomes of requests is said once, in `requests`. A file can be kept waiting, see [`Pause`].

mod books;
mod captured;
mod line;
mod pace;
mod requests;
mod shadows;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use hdrhistogram::Histogram;
use mio::event::Event;

use crate::flow::{self, Chunk, Close, Evidence, FlowInfo, Gap, Handler, LostReason, Table};
use crate::http::{self, Connection, Pickup};
use crate::packet::RecordView;
use crate::plan::{Plan, Sampler};
use crate::replay::Dropped;
use crate::stats::ledger::{GAP_REASONS, Ledger, ShardLedger, latency_histogram};
use books::record;
use captured::Asked;
pub use captured::{Asker, Captured, CapturedShares, Fits};
use line::Line;
pub use line::Pause;
pub use pace::{Pace, Timeline};
use requests::{Asks, Requests};
pub use shadows::Shadows;

/// Bytes that the decoders of a shard may hold (heads that come in pieces, bytes that are not proved to be requests), for
/// each flow that its table may have. Many may hold nothing, so that a few can hold much.
pub const MAX_HELD_BYTES_PER_FLOW: usize = 1024;

/// One job as a shard sees it.
pub struct Job {
    plan: Arc<Plan>,
    sampler: Sampler,
    ledger: Arc<Ledger>,
    /// Index of its first target in the replayer; its shadows follow in order.
    first_target: usize,
    /// Number of the next request, for sampling: those of different shards never meet.
    ordinal: u64,
    primary: Histogram<u64>,
    shadow: Vec<Histogram<u64>>,
    queued: Vec<Histogram<u64>>,
}

impl Job {
    /// A job of shard number `shard`, whose targets in the replayer start at `first_target`.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        sampler: Sampler,
        ledger: Arc<Ledger>,
        first_target: usize,
        shard: u16,
    ) -> Self {
        let shadows = ledger.shadows.len();
        Self {
            plan,
            sampler,
            ledger,
            first_target,
            ordinal: u64::from(shard) << 48,
            primary: latency_histogram(),
            shadow: (0..shadows).map(|_| latency_histogram()).collect(),
            queued: (0..shadows).map(|_| latency_histogram()).collect(),
        }
    }
}

/// The rooms of one shard in a row.
pub struct Pipeline {
    table: Table<Client>,
    line: Live,
    books: Arc<ShardLedger>,
}

/// What a shard keeps for each client connection.
struct Client {
    http: Connection,
    asks: Asks,
}

/// What all flows of a shard share.
struct Live {
    line: Line,
    http: http::Limits,
    pickup: Pickup,
    books: Arc<ShardLedger>,
    /// The most bytes that the decoders of all flows may hold.
    max_held: u64,
}

impl Pipeline {
    /// What a flow may cost beside its place in the table, bytes: its decoder, and its share of the heads that come in
    /// pieces.
    pub const CLIENT_BYTES: usize = size_of::<Client>() + Connection::OWN_BYTES + MAX_HELD_BYTES_PER_FLOW;

    /// A shard with empty tables; `jobs[slot]` is the job of that slot.
    #[must_use]
    pub fn new(
        flows: flow::Limits,
        http: http::Limits,
        pickup: Pickup,
        jobs: Vec<Job>,
        shadows: Shadows,
        books: Arc<ShardLedger>,
    ) -> Self {
        // One connection may always take what its own limits allow.
        let alone = u64::from(http.max_head_bytes.max(http.max_held_bytes));
        let max_held = (flows.flows as u64 * MAX_HELD_BYTES_PER_FLOW as u64).max(alone);
        let line =
            Live { line: Line::live(jobs, shadows, &http), http, pickup, books: books.clone(), max_held };
        Self { table: Table::new(flows), line, books }
    }

    /// One entry of the ring: the whole line, from bytes to planned copies.
    pub fn record(&mut self, bytes: &[u8]) {
        match RecordView::new_checked(bytes) {
            Ok(record) => self.table.segment(&record.segment(), &mut self.line),
            Err(_) => self.books.bad_records.add(1),
        }
    }

    /// After a batch of records: writes what it left for the shadows, and books what came of it.
    pub fn flush(&mut self) {
        self.line.line.flush();
    }

    /// What `epoll` said of a shadow's socket.
    pub fn on_event(&mut self, event: &Event) {
        self.line.line.shadows.on_event(event);
    }

    /// Reads the clocks; the returned `CLOCK_MONOTONIC` time, ns, is the round's now.
    pub fn update_clock(&mut self) -> u64 {
        self.line.line.shadows.update_clock()
    }

    /// Ends what has waited too long, in the flow table and at the shadows.
    pub fn tick(&mut self, now: u64) {
        self.table.tick(now, &mut self.line);
        self.line.line.tick();
    }

    /// The earliest time at which [`Pipeline::tick`] has something to do, ns.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        [self.table.next_deadline(), self.line.line.shadows.next_deadline()].into_iter().flatten().min()
    }

    /// Refuses new copies while the shard is behind.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.line.line.shadows.set_refusal(overloaded.then_some(Dropped::Overload));
    }

    /// The addresses of a target, as its name stands for them now.
    pub fn set_addrs(&mut self, target: usize, addrs: &[SocketAddr]) {
        self.line.line.shadows.set_addrs(target, addrs);
    }

    /// Copies wait for the answer of another one, and the shadow may have nothing to do until then: answers should be read at
    /// once.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.line.line.shadows.has_backlog()
    }

    /// Whether the shard can go on without waiting.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.line.line.shadows.is_busy()
    }

    /// Copies without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.line.line.shadows.unfinished()
    }

    /// Makes histograms and gauges visible to readers of the ledger.
    pub fn publish(&mut self) {
        self.line.line.publish();
    }

    /// Makes gauges alone visible: a shard that has little to do can afford that before each sleep.
    pub fn publish_gauges(&self) {
        self.line.line.publish_gauges();
    }

    /// Takes leave of the clients: requests in mid-body are given up, whole copies may still be answered.
    pub fn close_flows(&mut self, now: u64) {
        self.table.close_all(now, &mut self.line);
        self.flush();
    }

    /// Gives up what has no outcome yet.
    pub fn shutdown(&mut self) {
        self.line.line.shutdown();
    }
}

impl Live {
    /// The decoders hold too much, so the flow that came last gives up what it holds. Rare, and off the way of a request.
    #[cold]
    fn shed(&mut self, flow: &FlowInfo, client: &mut Client) {
        self.books.heads_given_up.add(1);
        let (http, mut requests) = self.requests(flow, client);
        http.shed(&mut requests);
    }

    fn ledger(&self, job: u16) -> Option<&Ledger> {
        self.line.ledger(job)
    }

    fn requests<'a>(
        &'a mut self,
        flow: &'a FlowInfo,
        client: &'a mut Client,
    ) -> (&'a mut Connection, Requests<'a>) {
        let Client { http, asks } = client;
        (http, Requests { line: &mut self.line, flow, asks })
    }
}

impl Handler for Live {
    type State = Client;

    fn open(&mut self, flow: &FlowInfo) -> Client {
        if let Some(ledger) = self.ledger(flow.job) {
            ledger.flows.add(1);
            ledger.flows_opened.add(1);
            if flow.start == flow::Start::MidStream {
                ledger.flows_midstream.add(1);
            }
        }
        Client { http: Connection::new(flow.start, &self.http, self.pickup), asks: Asks::default() }
    }

    fn data(&mut self, flow: &FlowInfo, client: &mut Client, chunk: Chunk<'_>) {
        let (http, mut requests) = self.requests(flow, client);
        http.data(&chunk, &mut requests);
        if self.line.held > self.max_held {
            self.shed(flow, client);
        }
    }

    fn gap(&mut self, flow: &FlowInfo, client: &mut Client, gap: Gap) {
        if let Some(ledger) = self.ledger(flow.job) {
            ledger.bytes.gaps.add(1);
            let index = GAP_REASONS.iter().position(|(reason, _)| *reason == gap.reason);
            if let Some(counter) = index.and_then(|index| ledger.bytes.gap_bytes.get(index)) {
                counter.add(gap.len);
            }
        }
        let (http, mut requests) = self.requests(flow, client);
        http.gap(&gap, &mut requests);
    }

    fn response(&mut self, flow: &FlowInfo, client: &mut Client, evidence: Evidence) {
        let (http, mut requests) = self.requests(flow, client);
        let Some(answer) = http.response(&evidence, &mut requests) else { return };
        if !answer.interim {
            let latency = answer.time.saturating_sub(answer.head_time);
            self.line.answered(flow.job, answer.status, Some(latency));
        }
    }

    fn half_close(&mut self, flow: &FlowInfo, client: &mut Client) {
        let (http, mut requests) = self.requests(flow, client);
        http.half_close(&mut requests);
    }

    fn close(&mut self, flow: &FlowInfo, mut client: Client, why: Close) {
        match why {
            // Not the client's doing: its requests in mid-body end with a reason of their own.
            Close::Evicted | Close::Idle => self.line.forsake(&mut client.asks, Dropped::FlowEvicted),
            Close::Shutdown => self.line.forsake(&mut client.asks, Dropped::Shutdown),
            Close::Fin | Close::Reset | Close::Replaced => {}
        }
        let (http, mut requests) = self.requests(flow, &mut client);
        let unanswered = http.close(&mut requests);
        requests.end_asking();
        self.line.release(client.asks);
        if let Some(ledger) = self.ledger(flow.job) {
            ledger.primary.unknown.add(unanswered);
            ledger.flows.sub(1);
        }
    }

    fn duplicate(&mut self, job: u16, bytes: u64) {
        if let Some(ledger) = self.ledger(job) {
            ledger.bytes.duplicate.add(bytes);
        }
    }

    fn lost(&mut self, job: u16, why: LostReason, bytes: u64) {
        if let Some(counter) =
            self.ledger(job).and_then(|ledger| ledger.bytes.lost_in_reassembly.get(why as usize))
        {
            counter.add(bytes);
        }
    }

    fn buffered(&mut self, job: u16, delta: i64) {
        if let Some(ledger) = self.ledger(job) {
            ledger.bytes.buffered.shift(delta);
        }
    }
}
