//! One reading of everything that is counted for a job, summed over its shards.
//!
//! # Order of reading
//!
//! A reading of a live system is not one instant. It is taken so that it is never absurd: what came later in the life
//! of a request is read first, the total it belongs to last. So in any reading
//! (given that a shard raises a total before what follows from it)
//!
//! - the outcomes of copies never exceed `copies`, those of requests never exceed `observed`, and the places of bytes
//!   never exceed `matched`; what is missing was on its way while the reading went on;
//! - `witnessed` is read before `observed`, so a response never counts against a request that came with it.
//!
//! At rest nothing is on its way and [`Snapshot::laws`](super::laws) must find every sum exact.

mod read;
mod values;

use std::sync::Arc;
use std::time::Instant;

use mirror_common::counter::{JobCounters, TapCounters};

use super::ledger::{Ledger, ShardLedger};
use super::rates::Health;
pub use values::{Counts, Latencies, ratio};

/// Where a job's numbers come from.
pub struct Source {
    /// Name of the job.
    pub job: String,
    /// Slot of the job in the kernel's maps.
    pub slot: u16,
    /// The shadows, in the order of [`Ledger::shadows`].
    pub shadows: Vec<ShadowLabel>,
    /// The books, one a shard.
    pub ledgers: Vec<Arc<Ledger>>,
    /// The shards' own books.
    pub shards: Vec<Arc<ShardLedger>>,
    /// What the BPF program counts.
    pub kernel: Arc<dyn KernelCounters>,
    /// What is tapped.
    pub taps: Arc<dyn Taps>,
    /// When the job began.
    pub started: Instant,
}

/// How a shadow is called in what is exported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ShadowLabel {
    /// Its URL, without user and password. Distinct within a job.
    pub url: String,
}

/// What the BPF program counts, summed over CPUs.
pub trait KernelCounters: Send + Sync {
    /// Counters of the whole tap.
    fn tap(&self) -> TapCounters;
    /// Counters of one job.
    fn job(&self, slot: u16) -> JobCounters;
}

/// What is tapped now.
pub trait Taps: Send + Sync {
    /// Every attachment of the job.
    fn taps(&self) -> Vec<TapInfo>;
    /// Whether requests come in, from taps or from elsewhere.
    fn feeds(&self) -> bool {
        !self.taps().is_empty()
    }
    /// What is wanted and not attached yet, a phrase each (`interface eth7 does not exist`).
    fn pending(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One attachment of the BPF program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TapInfo {
    /// Interface name.
    pub interface: String,
    /// Interface index in its namespace.
    pub ifindex: u32,
    /// The namespace as the user named it; absent for the agent's own.
    pub netns: Option<String>,
    /// `ingress` or `egress`.
    pub hook: String,
    /// `tcx` or `clsact`.
    pub mode: String,
    /// Programs that run before ours, first one first.
    pub before: Vec<String>,
}

/// Everything counted for a job at one moment. Serialises to the JSON of `/api/v1/stats`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Snapshot {
    /// Name of the job.
    pub job: String,
    /// Seconds since the job began.
    pub uptime_s: f64,
    /// Requests.
    pub requests: Requests,
    /// TCP payload bytes of the request direction.
    pub bytes: Bytes,
    /// Copies, a shadow each.
    pub shadows: Vec<Shadow>,
    /// The primary's answers.
    pub primary: Primary,
    /// HTTP/2 connections of clients.
    pub h2: H2,
    /// WebSocket connections of clients.
    pub websocket: WebSocket,
    /// Final response heads that the kernel saw leave the primary.
    pub witnessed: u64,
    /// Response heads that were witnessed but found no room in a ring: their requests' answers are unknown.
    pub responses_lost_in_ring: u64,
    /// Requests observed on HTTP/1 to responses witnessed, since the start; absent before the first response. Above 1 while
    /// answers are awaited.
    pub capture_ratio: Option<f64>,
    /// What the tap did with packets, for all jobs together.
    pub tap: Counts,
    /// What is tapped.
    pub taps: Vec<TapInfo>,
    /// Flows in the tables.
    pub flows: u64,
    /// Flows taken up.
    pub flows_opened: u64,
    /// Flows that were under way when they were taken up.
    pub flows_midstream: u64,
    /// Rings, one a shard.
    pub rings: Vec<Ring>,
    /// How the job does.
    pub health: Health,
}

impl Snapshot {
    /// Requests whose answers the witness can see: those of HTTP/1.
    #[must_use]
    pub const fn witnessable(&self) -> u64 {
        self.requests.observed.saturating_sub(self.h2.requests)
    }
}

/// Requests and the one outcome of each.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Requests {
    /// Recognised.
    pub observed: u64,
    /// At least one copy was planned.
    pub selected: u64,
    /// Selected requests whose end was seen.
    pub completed: u64,
    /// Left out by sampling.
    pub sampled_out: Counts,
    /// Left out by a rule.
    pub filtered: Counts,
    /// Not to be mirrored.
    pub dropped: Counts,
    /// Not decided yet.
    pub open: u64,
}

/// Bytes and the one place of each. `gap_bytes` and `gaps` stand beside the law.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Bytes {
    /// Matched by the tap.
    pub matched: u64,
    /// Part of a recognised request.
    pub parsed: u64,
    /// Not part of a request.
    pub not_http: Counts,
    /// Before the first provable request, or after a gap.
    pub skipped_before_sync: u64,
    /// Sent or seen more than once.
    pub duplicate: u64,
    /// Found no room in the ring.
    pub lost_in_ring: u64,
    /// Captured but not delivered to the framer.
    pub lost_in_reassembly: Counts,
    /// Waiting.
    pub buffered: u64,
    /// Bytes the framer never saw.
    pub gap_bytes: Counts,
    /// Holes given up.
    pub gaps: u64,
}

/// Copies for one shadow and the one outcome of each.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Shadow {
    /// Its URL.
    pub url: String,
    /// Copies planned.
    pub copies: u64,
    /// Delivered, whatever the status.
    pub delivered: u64,
    /// Delivered, by status class.
    pub delivered_by_class: Counts,
    /// Tried and failed, those with bytes written included.
    pub failed: Counts,
    /// Of `failed`, those with bytes written.
    pub failed_partial: Counts,
    /// Given up, those with bytes written included.
    pub dropped: Counts,
    /// Of `dropped`, those with bytes written.
    pub dropped_partial: Counts,
    /// Planned and without an outcome.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections opened.
    pub connects: u64,
    /// Bytes queued for it.
    pub queued_bytes: u64,
    /// Sent once more after a keep-alive race.
    pub resent: u64,
    /// Of `delivered`, those whose answer says by `grpc-status` that the call failed.
    pub grpc_failed: u64,
    /// Had to wait until it allowed another HTTP/2 stream.
    pub waited_for_stream: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Response bytes read and discarded.
    pub discarded_bytes: u64,
    /// Head written to first byte of the final response head, microseconds.
    #[serde(rename = "latency_us")]
    pub latency: Latencies,
    /// Head seen at the tap to head written, microseconds.
    #[serde(rename = "queued_us")]
    pub queued: Latencies,
}

/// What is known of the primary's answers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Primary {
    /// Final response heads matched to a request, by status class.
    pub answered: Counts,
    /// Requests whose response was not seen.
    pub unknown: u64,
    /// Request head seen to final response head seen, microseconds.
    #[serde(rename = "latency_us")]
    pub latency: Latencies,
}

/// HTTP/2 connections of clients.
#[derive(Clone, Debug, serde::Serialize)]
pub struct H2 {
    /// That began to speak it and could be read.
    pub connections: u64,
    /// Requests on them: observed, but of no interest to the witness.
    pub requests: u64,
    /// Given up.
    pub errors: Counts,
    /// Bytes that their state takes.
    pub memory_bytes: u64,
    /// That cannot be read before they reconnect, now.
    pub waiting: Counts,
    /// That ever came to wait.
    pub waited: Counts,
}

/// WebSocket connections of clients.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct WebSocket {
    /// That left HTTP for it.
    pub tunnels: u64,
    /// Frames of clients that came whole.
    pub frames: u64,
    /// Payload bytes of clients.
    pub payload_bytes: u64,
}

/// Fill of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ring {
    /// Index of the shard.
    pub shard: usize,
    /// Bytes of the data area.
    pub capacity: u64,
    /// The most bytes that were seen waiting.
    pub peak_fill: u64,
    /// Entries read.
    pub records: u64,
    /// Entries that were no records: 0 unless tap and agent disagree.
    pub bad_records: u64,
    /// Rounds of the shard's loop.
    pub rounds: u64,
    /// Times the shard fell asleep without a timer.
    pub sleeps: u64,
    /// Times the shard fell behind and refused new copies.
    pub overloads: u64,
    /// Times a connection gave up an unfinished head because all of them held too much.
    pub heads_given_up: u64,
}

/// Names of the status classes, in the order of [`ShadowLedger::delivered`](super::ledger::ShadowLedger::delivered).
pub const STATUS_CLASSES: [&str; 5] = ["other", "2xx", "3xx", "4xx", "5xx"];

#[cfg(test)]
mod tests;
