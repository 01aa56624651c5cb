//! The books: one [`Ledger`] per shard and job, raised where a thing happens, read by anyone.
//!
//! At rest (design section 3):
//!
//! ```text
//! observed      = selected + sampled_out + filtered + dropped + open
//! copies        = delivered + failed + dropped + in_flight              per shadow
//! matched bytes = parsed + not_http + skipped_before_sync + duplicate + lost_in_ring + lost_in_reassembly + buffered
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::flow::{GapReason, LostReason};
use crate::http::{AbortReason, H2Error, NotHttp, Waiting};
use crate::plan::{Filtered, SampledOut};
use crate::replay::{Dropped, Failed, Outcome};

/// A number with one writer (the shard's thread) and any number of readers.
///
/// Stores release and loads acquire (plain moves on x86): who reads an outcome and then the total it belongs to never
/// sees more outcomes than total.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the ledger may call this: it is a load and a store, not a locked add.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
    }

    /// Takes `n` away; as [`Counter::add`]. For gauges.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Release);
    }

    /// Adds `delta`, which may be negative; as [`Counter::add`]. For gauges.
    pub fn shift(&self, delta: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add_signed(delta), Ordering::Relaxed);
    }

    /// Sets it; as [`Counter::add`]. For gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Requests: `observed`, and the one outcome of each.
#[derive(Debug, Default)]
pub struct RequestLedger {
    /// Requests recognised.
    pub observed: Counter,
    /// At least one copy was planned.
    pub selected: Counter,
    /// Left out by sampling, by [`SampledOut`].
    pub sampled_out: [Counter; SampledOut::ALL.len()],
    /// Left out by a rule, by [`Filtered`].
    pub filtered: [Counter; Filtered::ALL.len()],
    /// Recognised, but not to be mirrored, by [`AbortReason`].
    pub dropped: [Counter; AbortReason::ALL.len()],
    /// Recognised and not decided yet.
    pub open: Counter,
    /// Selected requests whose end was seen.
    pub completed: Counter,
}

/// TCP payload bytes of the request direction.
#[derive(Debug, Default)]
pub struct ByteLedger {
    /// Part of a recognised request.
    pub parsed: Counter,
    /// Not part of a request, by [`NotHttp`].
    pub not_http: [Counter; NotHttp::ALL.len()],
    /// Before the first provable request of a connection that was under way, or after a gap.
    pub skipped_before_sync: Counter,
    /// Sent or seen more than once.
    pub duplicate: Counter,
    /// Captured but not delivered to the framer, by [`LostReason`].
    pub lost_in_reassembly: [Counter; LostReason::ALL.len()],
    /// Waiting behind a hole or for the rest of a head. A gauge.
    pub buffered: Counter,
    /// Bytes the framer never saw because the tap did not deliver them, by [`GapReason`]. Beside the law: they are
    /// `lost_in_ring`, or were never matched.
    pub gap_bytes: [Counter; GAP_REASONS.len()],
    /// Holes given up.
    pub gaps: Counter,
}

/// Every [`GapReason`] with its exported name.
pub const GAP_REASONS: [(GapReason, &str); 5] = [
    (GapReason::Acknowledged, "acknowledged"),
    (GapReason::Timeout, "timeout"),
    (GapReason::Memory, "memory"),
    (GapReason::Closed, "closed"),
    (GapReason::Cut, "cut"),
];

/// Copies for one shadow, and the one outcome of each.
#[derive(Debug, Default)]
pub struct ShadowLedger {
    /// Copies planned.
    pub copies: Counter,
    /// Delivered, by status class: index 0 is anything below 200 or over 599, then 2xx, 3xx, 4xx, 5xx.
    pub delivered: [Counter; 5],
    /// Tried and failed before a byte was written, by [`Failed`].
    pub failed: [Counter; Failed::ALL.len()],
    /// Tried and failed after a byte was written, by [`Failed`].
    pub failed_partial: [Counter; Failed::ALL.len()],
    /// Given up before a byte was written, by [`Dropped`].
    pub dropped: [Counter; Dropped::ALL.len()],
    /// Given up after a byte was written, by [`Dropped`].
    pub dropped_partial: [Counter; Dropped::ALL.len()],
    /// Planned and without an outcome. A gauge.
    pub in_flight: Counter,
    /// Sent once more after a keep-alive race.
    pub resent: Counter,
    /// Delivered, and the answer's `grpc-status` says that the call failed.
    pub grpc_failed: Counter,
    /// Had to wait until the shadow allowed another HTTP/2 stream.
    pub waited_for_stream: Counter,
    /// Open connections. A gauge.
    pub connections: Counter,
    /// Connections opened.
    pub connects: Counter,
    /// Bytes queued for the target. A gauge.
    pub queued_bytes: Counter,
    /// Bytes written to the target.
    pub written_bytes: Counter,
    /// Response bytes read and discarded.
    pub discarded_bytes: Counter,
}

impl ShadowLedger {
    /// Books the outcome of one copy: `in_flight` falls by one.
    pub fn book(&self, outcome: Outcome) {
        self.in_flight.sub(1);
        match outcome {
            Outcome::Delivered { status } => self.delivered[status_class(status)].add(1),
            Outcome::Failed { why, partial: false } => self.failed[why as usize].add(1),
            Outcome::Failed { why, partial: true } => self.failed_partial[why as usize].add(1),
            Outcome::Dropped { why, partial: false } => self.dropped[why as usize].add(1),
            Outcome::Dropped { why, partial: true } => self.dropped_partial[why as usize].add(1),
        }
    }
}

/// Index of a status in [`ShadowLedger::delivered`] and [`PrimaryLedger::answered`].
#[must_use]
pub fn status_class(status: u16) -> usize {
    match status {
        200..=299 => 1,
        300..=399 => 2,
        400..=499 => 3,
        500..=599 => 4,
        _ => 0,
    }
}

/// HTTP/2 connections of clients.
#[derive(Debug, Default)]
pub struct H2Ledger {
    /// Connections that began to speak it and could be read.
    pub connections: Counter,
    /// Requests among those observed that were answered on HTTP/2, where the witness sees no response.
    pub requests: Counter,
    /// Connections given up, by [`H2Error`].
    pub errors: [Counter; H2Error::ALL.len()],
    /// Connections that cannot be read before they reconnect, by [`Waiting`]. A gauge.
    pub waiting: [Counter; Waiting::ALL.len()],
    /// Memory of their state, bytes. A gauge.
    pub memory: Counter,
    /// Connections that ever came to wait, by [`Waiting`].
    pub waited: [Counter; Waiting::ALL.len()],
}

/// WebSocket connections of clients.
#[derive(Debug, Default)]
pub struct WebSocketLedger {
    /// Connections that left HTTP for WebSocket.
    pub tunnels: Counter,
    /// Frames of the clients that came whole.
    pub frames: Counter,
    /// Payload bytes of the clients' frames.
    pub payload_bytes: Counter,
}

/// What is known of the primary's answers.
#[derive(Debug, Default)]
pub struct PrimaryLedger {
    /// Final response heads matched to a request, by status class as in [`ShadowLedger::delivered`].
    pub answered: [Counter; 5],
    /// Requests whose response was not seen (asymmetric routing, pipelined answers, the client left).
    pub unknown: Counter,
}

/// Latencies in microseconds, two significant digits, up to [`LATENCY_MAX_US`].
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

/// The longest latency told apart, microseconds (10 minutes); longer ones count as this.
pub const LATENCY_MAX_US: u64 = 600_000_000;

/// An empty latency histogram.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts; the fallback is never reached.
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).unwrap_or_else(|_| Histogram::new_from(&fallback()))
}

fn fallback() -> Histogram<u64> {
    #[allow(
        clippy::unwrap_used,
        reason = "2 significant digits are within the range 0 to 5 of the constructor"
    )]
    Histogram::new(2).unwrap()
}

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(latency_histogram()))
    }
}

impl Latency {
    /// Merges what the shard recorded since the last call into the shared histogram, and empties `local`.
    pub fn publish(&self, local: &mut Histogram<u64>) {
        if local.is_empty() {
            return;
        }
        if let Ok(mut shared) = self.0.lock() {
            // Equal bounds by construction (`latency_histogram`), so the addition cannot overflow the range.
            let _same_bounds = shared.add(&*local);
        }
        local.reset();
    }

    /// Adds the shared histogram to `sum`.
    pub fn merge_into(&self, sum: &mut Histogram<u64>) {
        if let Ok(shared) = self.0.lock() {
            let _same_bounds = sum.add(&*shared);
        }
    }
}

/// The books of a shard that belong to no job.
#[derive(Debug, Default)]
pub struct ShardLedger {
    /// Ring entries that were no records: 0 unless tap and agent disagree.
    pub bad_records: Counter,
    /// Ring entries read.
    pub records: Counter,
    /// Rounds of the shard's loop.
    pub rounds: Counter,
    /// Times the shard fell asleep without a timer.
    pub sleeps: Counter,
    /// Bytes of the ring's data area.
    pub ring_capacity: Counter,
    /// The most bytes that waited in the ring.
    pub ring_peak: Counter,
    /// Times the shard fell behind and refused new copies.
    pub overloads: Counter,
    /// Times a connection gave up an unfinished head because all of them held too much.
    pub heads_given_up: Counter,
}

/// The books of one job on one shard.
#[derive(Debug)]
pub struct Ledger {
    /// Requests.
    pub requests: RequestLedger,
    /// Bytes.
    pub bytes: ByteLedger,
    /// The primary's answers.
    pub primary: PrimaryLedger,
    /// HTTP/2.
    pub h2: H2Ledger,
    /// WebSocket.
    pub websocket: WebSocketLedger,
    /// Copies, a shadow each.
    pub shadows: Vec<ShadowLedger>,
    /// Request head seen to final response head seen, of the primary, by kernel time.
    pub primary_latency: Latency,
    /// Copy's head written to first byte of the final response head, per shadow.
    pub shadow_latency: Vec<Latency>,
    /// Request head seen at the tap to copy's head written, per shadow.
    pub queued: Vec<Latency>,
    /// Flows in the table. A gauge.
    pub flows: Counter,
    /// Flows taken up.
    pub flows_opened: Counter,
    /// Flows that were under way when they were taken up.
    pub flows_midstream: Counter,
}

impl Ledger {
    /// Empty books for a job with `shadows` shadows.
    #[must_use]
    pub fn new(shadows: usize) -> Self {
        Self {
            requests: RequestLedger::default(),
            bytes: ByteLedger::default(),
            primary: PrimaryLedger::default(),
            h2: H2Ledger::default(),
            websocket: WebSocketLedger::default(),
            shadows: (0..shadows).map(|_| ShadowLedger::default()).collect(),
            primary_latency: Latency::default(),
            shadow_latency: (0..shadows).map(|_| Latency::default()).collect(),
            queued: (0..shadows).map(|_| Latency::default()).collect(),
            flows: Counter::default(),
            flows_opened: Counter::default(),
            flows_midstream: Counter::default(),
        }
    }
}
