//! The end of the way of requests out of captures.

use super::line::{Line, Pause, Source};
use super::pace::Timeline;
use super::requests::{Asks, Requests};
use super::{Job, Shadows};
use crate::dialog::{Answered, Bytes, ConnInfo, Counters, DialogLimits, Dialogs, Observer};
use crate::flow::{self, FlowId, FlowInfo, Table};
use crate::http;
use crate::packet::FlowKey;
use crate::replay::Dropped;

/// Whether a request is taken, by connection, method, target and authority.
pub type Fits = Box<dyn Fn(&FlowKey, &[u8], &[u8], &[u8]) -> bool + Send>;

/// What a request can be chosen by when it begins. Its authority is looked for only if somebody asks.
pub(super) struct Asked<'a, A> {
    /// The connection.
    pub(super) flow: &'a FlowKey,
    pub(super) method: &'a [u8],
    /// As sent.
    pub(super) target: &'a [u8],
    /// Gives the host and port it is meant for.
    pub(super) authority: A,
}

/// What the rooms before this one get of the memory.
#[derive(Clone, Debug)]
pub struct CapturedShares {
    /// Of the flow table.
    pub flow: flow::Limits,
    /// Of each connection.
    pub http: http::Limits,
    /// Of what waits for the other direction.
    pub dialog: DialogLimits,
}

impl CapturedShares {
    /// For `memory` bytes: half of it for connections with their decoders, a quarter for what waits behind holes, an eighth
    /// for the state of HTTP/2 (three of four parts for requests), a sixteenth for responses that wait for requests, the rest
    /// for what is remembered of requests and connections. `patient` has the times.
    #[must_use]
    pub fn for_memory(memory: usize, patient: &flow::Limits) -> Self {
        let per_flow = Table::<usize>::FLOW_BYTES + Dialogs::<Captured>::CONNECTION_BYTES / 2;
        let flows = (memory / 2 / (per_flow + HEAD_BYTES)).max(64);
        let out_of_order_bytes_total = (memory / 4).min(patient.out_of_order_bytes_total);
        let remembered = |part: usize, each: usize, most: u32| {
            let places = u32::try_from(memory / part / each).unwrap_or(u32::MAX);
            // Tables of these sizes are powers of two.
            (places.max(1) + 1).next_power_of_two().checked_div(2).unwrap_or(1).min(most)
        };
        let default = DialogLimits::default();
        Self {
            flow: flow::Limits {
                flows: u32::try_from(flows).unwrap_or(u32::MAX).min(patient.flows),
                out_of_order_bytes_total,
                out_of_order_bytes_per_flow: patient
                    .out_of_order_bytes_per_flow
                    .min(out_of_order_bytes_total),
                syns_remembered: remembered(64, 64, patient.syns_remembered),
                closed_remembered: remembered(64, 64, patient.closed_remembered),
                ..patient.clone()
            },
            http: http::Limits {
                h2_memory_bytes: (memory / 32 * 3) as u64,
                h2_responses_memory_bytes: (memory / 32) as u64,
                unanswered_bytes: (memory / 128) as u64,
                ..http::Limits::default()
            },
            dialog: DialogLimits {
                held_bytes_per_connection: default.held_bytes_per_connection.min(memory / 32),
                held_bytes_total: default.held_bytes_total.min(memory / 16),
                unanswered_total: default.unanswered_total.min(memory / 128 / 48),
                syns: remembered(64, 64, default.syns),
                heads_total: flows * HEAD_BYTES,
                ..default
            },
        }
    }
}

/// Bytes of unfinished heads, for each direction that the table may have, over all of them.
const HEAD_BYTES: usize = super::MAX_HELD_BYTES_PER_FLOW / 2;

/// One client connection.
pub struct Asker {
    flow: FlowInfo,
    asks: Asks,
}

/// What becomes of requests out of captures: the same as of live ones, when they are due.
pub struct Captured {
    line: Line,
}

impl Captured {
    /// For one job, whose requests are placed in time by `timeline`. With `waits` each waits for what it needs.
    #[must_use]
    pub fn new(
        job: Job,
        shadows: Shadows,
        timeline: Timeline,
        fits: Option<Fits>,
        pause: Box<dyn Pause + Send>,
        waits: bool,
    ) -> Self {
        let mut line = Line::live(
            vec![job],
            shadows,
            &http::Limits {
                h2_memory_bytes: u64::MAX,
                unanswered_bytes: u64::MAX,
                ..http::Limits::default()
            },
        );
        line.now = line.shadows.update_clock();
        line.source = Some(Source::new(timeline, fits, pause, waits));
        Self { line }
    }

    /// What comes next has nothing to do with what came before.
    pub fn restart(&mut self) {
        if let Some(source) = &mut self.line.source {
            source.timeline.restart();
        }
    }

    /// When what stands at `file` in the file is due, by the clock of [`Captured::now`].
    pub fn due(&mut self, file: u64) -> u64 {
        let now = self.line.now;
        self.line.source.as_mut().map_or(now, |source| source.timeline.due(file, now))
    }

    /// `CLOCK_MONOTONIC` at the last turn, ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.line.now
    }

    /// One turn of the loop: writes, then listens to sockets, until `until` (ns) at most. False: it is to be left.
    pub fn turn(&mut self, until: Option<u64>) -> bool {
        self.line.turn(until);
        !self.is_leaving()
    }

    /// Whether it is to be left.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.line.source.as_ref().is_none_or(|source| source.leaving)
    }

    /// Refuses what begins from now on, and gives up what is not whole.
    pub fn leave(&mut self) {
        self.line.leave();
    }

    /// Why nobody could wait, if that came about.
    pub fn failure(&mut self) -> Option<std::io::Error> {
        self.line.source.as_mut().and_then(|source| source.failed.take())
    }

    /// Copies without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.line.shadows.unfinished()
    }

    /// Gives up what has no outcome yet.
    pub fn shutdown(&mut self) {
        self.line.shutdown();
    }

    /// Makes visible what the rooms before this one counted. Bytes of responses are left out: the books are about requests.
    pub fn publish(&mut self, bytes: &Bytes, counters: &Counters, open: u64, h2_memory: u64) {
        if let Some(ledger) = self.line.ledger(0) {
            let books = &ledger.bytes;
            books.parsed.set(bytes.parsed);
            books.skipped_before_sync.set(bytes.skipped);
            books.duplicate.set(bytes.duplicate);
            books.buffered.set(u64::try_from(bytes.buffered).unwrap_or(0));
            books.gaps.set(bytes.holes);
            let places = books.not_http.iter().zip(&bytes.not_http);
            for (counter, count) in places.chain(books.lost_in_reassembly.iter().zip(&bytes.lost)) {
                counter.set(*count);
            }
            ledger.primary.unknown.set(counters.unanswered);
            ledger.h2.memory.set(h2_memory);
            ledger.flows.set(open);
            ledger.flows_opened.set(counters.connections);
            ledger.flows_midstream.set(counters.midstream);
        }
        self.line.publish();
    }
}

impl Observer for Captured {
    type Conn = Asker;
    type Requests<'a> = Requests<'a>;

    fn open(&mut self, info: &ConnInfo) -> Asker {
        let key = FlowKey { client: info.client, primary: info.server };
        let (hash, start, origin) = (info.hash, info.start, info.origin);
        Asker { flow: FlowInfo { id: FlowId(0), key, job: 0, hash, start, origin }, asks: Asks::default() }
    }

    fn requests<'a>(&'a mut self, conn: &'a mut Asker) -> Requests<'a> {
        Requests { line: &mut self.line, flow: &conn.flow, asks: &mut conn.asks }
    }

    fn answer(&mut self, _conn: &mut Asker, answer: &Answered) {
        if !answer.interim {
            let latency = answer.asked.map(|asked| answer.time.saturating_sub(asked));
            self.line.answered(0, answer.status, latency);
        }
    }

    fn evicted(&mut self, conn: &mut Asker) {
        let why = if self.is_leaving() { Dropped::Shutdown } else { Dropped::FlowEvicted };
        self.line.forsake(&mut conn.asks, why);
    }

    fn close(&mut self, mut conn: Asker) {
        self.requests(&mut conn).end_asking();
        self.line.release(conn.asks);
    }
}

#[cfg(test)]
mod tests {
    use super::{Captured, CapturedShares};
    use crate::dialog::Dialogs;
    use crate::flow::{Limits, Table};

    #[test]
    fn the_shares_of_the_memory_add_up_to_no_more_than_it() {
        let patient = Limits { flows: 262_144, out_of_order_bytes_total: 64 << 20, ..Limits::default() };
        for memory in [16 << 20, 64 << 20, 100_000_000, 1 << 30] {
            let shares = CapturedShares::for_memory(memory, &patient);
            let flow = Table::<usize>::FLOW_BYTES + Dialogs::<Captured>::CONNECTION_BYTES / 2;
            let remembered = shares.flow.syns_remembered + shares.flow.closed_remembered + shares.dialog.syns;
            let sum = shares.flow.flows as usize * flow
                + shares.dialog.heads_total
                + shares.flow.out_of_order_bytes_total
                + usize::try_from(
                    shares.http.h2_memory_bytes
                        + shares.http.h2_responses_memory_bytes
                        + shares.http.unanswered_bytes,
                )
                .unwrap()
                + shares.dialog.held_bytes_total
                + shares.dialog.unanswered_total * 48
                + remembered as usize * 64;
            assert!(sum <= memory, "{sum} of {memory}: {shares:?}");
            assert!(shares.flow.flows >= 1_000 && shares.flow.flows <= patient.flows, "{shares:?}");
            assert!(shares.flow.out_of_order_bytes_per_flow <= shares.flow.out_of_order_bytes_total);
            assert!(shares.dialog.held_bytes_per_connection <= shares.dialog.held_bytes_total);
        }
    }
}
