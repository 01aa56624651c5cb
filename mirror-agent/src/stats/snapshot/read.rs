//! Taking a reading, in the order that `snapshot` promises.

use mirror_common::counter::TapCounter;

use super::{
    Bytes, Counts, H2, Latencies, Primary, Requests, Ring, STATUS_CLASSES, Shadow, Snapshot, Source,
    WebSocket, ratio,
};
use crate::flow::LostReason;
use crate::http::{AbortReason, H2Error, NotHttp, Waiting};
use crate::plan::{Filtered, SampledOut};
use crate::replay::{Dropped, Failed};
use crate::stats::ledger::{Counter, GAP_REASONS, Ledger, ShadowLedger};
use crate::stats::rates::Health;

impl Source {
    /// Reads everything, in the order this module's docs give. Health is left at [`Health::default`]: it needs the
    /// last minute, see [`Monitor`](crate::stats::Monitor).
    #[must_use]
    pub fn read(&self) -> Snapshot {
        let witness = self.kernel.job(self.slot);
        let mut snapshot = self.empty();
        for ledger in &self.ledgers {
            snapshot.add(ledger);
        }
        snapshot.tap.set(&self.kernel.tap().values);
        let matched = self.kernel.job(self.slot);
        snapshot.bytes.lost_in_ring = matched.lost_in_ring_bytes;
        snapshot.bytes.matched = matched.matched_bytes;
        snapshot.witnessed = witness.witnessed;
        snapshot.responses_lost_in_ring = witness.responses_lost_in_ring;
        snapshot.capture_ratio = ratio(snapshot.witnessable(), witness.witnessed);
        snapshot.taps = self.taps.taps();
        let shards = self.shards.iter().enumerate();
        snapshot.rings = shards
            .map(|(shard, books)| Ring {
                shard,
                capacity: books.ring_capacity.get(),
                peak_fill: books.ring_peak.get(),
                records: books.records.get(),
                bad_records: books.bad_records.get(),
                rounds: books.rounds.get(),
                sleeps: books.sleeps.get(),
                overloads: books.overloads.get(),
                heads_given_up: books.heads_given_up.get(),
            })
            .collect();
        snapshot.uptime_s = self.started.elapsed().as_secs_f64();
        snapshot
    }

    fn empty(&self) -> Snapshot {
        Snapshot {
            job: self.job.clone(),
            uptime_s: 0.0,
            requests: Requests {
                observed: 0,
                selected: 0,
                completed: 0,
                sampled_out: Counts::zero(SampledOut::ALL.iter().map(|(_, name)| *name)),
                filtered: Counts::zero(Filtered::ALL.iter().map(|(_, name)| *name)),
                dropped: Counts::zero(AbortReason::ALL.iter().map(|(_, name)| *name)),
                open: 0,
            },
            bytes: Bytes {
                matched: 0,
                parsed: 0,
                not_http: Counts::zero(NotHttp::ALL.iter().map(|(_, name)| *name)),
                skipped_before_sync: 0,
                duplicate: 0,
                lost_in_ring: 0,
                lost_in_reassembly: Counts::zero(LostReason::ALL.iter().map(|(_, name)| *name)),
                buffered: 0,
                gap_bytes: Counts::zero(GAP_REASONS.iter().map(|(_, name)| *name)),
                gaps: 0,
            },
            shadows: self.shadows.iter().map(|label| Shadow::empty(label.url.clone())).collect(),
            primary: Primary {
                answered: Counts::zero(STATUS_CLASSES),
                unknown: 0,
                latency: Latencies::default(),
            },
            h2: H2 {
                requests: 0,
                connections: 0,
                memory_bytes: 0,
                errors: Counts::zero(H2Error::ALL.iter().map(|(_, name)| *name)),
                waiting: Counts::zero(Waiting::ALL.iter().map(|(_, name)| *name)),
                waited: Counts::zero(Waiting::ALL.iter().map(|(_, name)| *name)),
            },
            websocket: WebSocket::default(),
            witnessed: 0,
            responses_lost_in_ring: 0,
            capture_ratio: None,
            tap: Counts::zero(TapCounter::ALL.iter().map(|(_, name)| *name)),
            taps: Vec::new(),
            flows: 0,
            flows_opened: 0,
            flows_midstream: 0,
            rings: Vec::new(),
            health: Health::default(),
        }
    }
}

impl Snapshot {
    /// Adds one shard's books: outcomes, then gauges, then totals.
    fn add(&mut self, ledger: &Ledger) {
        for (index, shadow) in self.shadows.iter_mut().enumerate() {
            if let Some(books) = ledger.shadows.get(index) {
                shadow.add(books);
            }
            if let Some(latency) = ledger.shadow_latency.get(index) {
                shadow.latency.add_shared(latency);
            }
            if let Some(queued) = ledger.queued.get(index) {
                shadow.queued.add_shared(queued);
            }
        }

        self.primary.answered.add_counters(&ledger.primary.answered);
        add(&mut self.primary.unknown, &ledger.primary.unknown);
        self.primary.latency.add_shared(&ledger.primary_latency);

        let (h2, books) = (&mut self.h2, &ledger.h2);
        h2.errors.add_counters(&books.errors);
        h2.waiting.add_counters(&books.waiting);
        h2.waited.add_counters(&books.waited);
        add(&mut h2.memory_bytes, &books.memory);
        add(&mut h2.connections, &books.connections);
        add(&mut h2.requests, &books.requests);

        let (websocket, books) = (&mut self.websocket, &ledger.websocket);
        add(&mut websocket.payload_bytes, &books.payload_bytes);
        add(&mut websocket.frames, &books.frames);
        add(&mut websocket.tunnels, &books.tunnels);

        let (requests, books) = (&mut self.requests, &ledger.requests);
        add(&mut requests.completed, &books.completed);
        add(&mut requests.selected, &books.selected);
        requests.sampled_out.add_counters(&books.sampled_out);
        requests.filtered.add_counters(&books.filtered);
        requests.dropped.add_counters(&books.dropped);
        add(&mut requests.open, &books.open);
        add(&mut requests.observed, &books.observed);

        let (bytes, books) = (&mut self.bytes, &ledger.bytes);
        add(&mut bytes.parsed, &books.parsed);
        bytes.not_http.add_counters(&books.not_http);
        add(&mut bytes.skipped_before_sync, &books.skipped_before_sync);
        add(&mut bytes.duplicate, &books.duplicate);
        bytes.lost_in_reassembly.add_counters(&books.lost_in_reassembly);
        bytes.gap_bytes.add_counters(&books.gap_bytes);
        add(&mut bytes.gaps, &books.gaps);
        add(&mut bytes.buffered, &books.buffered);

        add(&mut self.flows, &ledger.flows);
        add(&mut self.flows_midstream, &ledger.flows_midstream);
        add(&mut self.flows_opened, &ledger.flows_opened);
    }
}

impl Shadow {
    pub(super) fn empty(url: String) -> Self {
        let failed = Counts::zero(Failed::ALL.iter().map(|(_, name)| *name));
        let dropped = Counts::zero(Dropped::ALL.iter().map(|(_, name)| *name));
        Self {
            url,
            copies: 0,
            delivered: 0,
            delivered_by_class: Counts::zero(STATUS_CLASSES),
            failed_partial: failed.clone(),
            failed,
            dropped_partial: dropped.clone(),
            dropped,
            in_flight: 0,
            connections: 0,
            connects: 0,
            queued_bytes: 0,
            resent: 0,
            grpc_failed: 0,
            waited_for_stream: 0,
            written_bytes: 0,
            discarded_bytes: 0,
            latency: Latencies::default(),
            queued: Latencies::default(),
        }
    }

    /// Adds one shard's books: outcomes, then gauges, then the total.
    pub(super) fn add(&mut self, books: &ShadowLedger) {
        self.delivered_by_class.add_counters(&books.delivered);
        self.delivered = self.delivered_by_class.total();
        let mut failed_partial = Counts::zero(Failed::ALL.iter().map(|(_, name)| *name));
        failed_partial.add_counters(&books.failed_partial);
        self.failed.add_counters(&books.failed);
        self.failed.add(&failed_partial);
        self.failed_partial.add(&failed_partial);
        let mut dropped_partial = Counts::zero(Dropped::ALL.iter().map(|(_, name)| *name));
        dropped_partial.add_counters(&books.dropped_partial);
        self.dropped.add_counters(&books.dropped);
        self.dropped.add(&dropped_partial);
        self.dropped_partial.add(&dropped_partial);

        add(&mut self.resent, &books.resent);
        add(&mut self.grpc_failed, &books.grpc_failed);
        add(&mut self.waited_for_stream, &books.waited_for_stream);
        add(&mut self.connections, &books.connections);
        add(&mut self.connects, &books.connects);
        add(&mut self.queued_bytes, &books.queued_bytes);
        add(&mut self.written_bytes, &books.written_bytes);
        add(&mut self.discarded_bytes, &books.discarded_bytes);
        add(&mut self.in_flight, &books.in_flight);
        add(&mut self.copies, &books.copies);
    }
}

fn add(sum: &mut u64, counter: &Counter) {
    *sum = sum.wrapping_add(counter.get());
}
