//! Books filled by hand, for the tests of this room and of those after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mirror_common::counter::{JobCounters, TapCounter, TapCounters};

use super::ledger::{Ledger, ShardLedger, latency_histogram};
use super::snapshot::{KernelCounters, ShadowLabel, Source, TapInfo, Taps};
use crate::replay::{Dropped, Failed, Outcome};

pub(crate) const SHADOWS: [&str; 2] = ["http://127.0.0.1:9081", "http://127.0.0.1:9082"];

/// A job on two shards with two shadows, and the hands that fill its books.
pub(crate) struct Bench {
    pub(crate) ledgers: Vec<Arc<Ledger>>,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) tapped: Arc<Tapped>,
}

#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) tap: Mutex<TapCounters>,
    pub(crate) job: Mutex<JobCounters>,
}

impl KernelCounters for Kernel {
    fn tap(&self) -> TapCounters {
        *self.tap.lock().unwrap()
    }

    fn job(&self, slot: u16) -> JobCounters {
        assert_eq!(slot, 3, "another job's counters were asked for");
        *self.job.lock().unwrap()
    }
}

pub(crate) struct Tapped(pub(crate) AtomicBool);

impl Taps for Tapped {
    fn taps(&self) -> Vec<TapInfo> {
        let tap = TapInfo {
            interface: "eth0".to_owned(),
            ifindex: 2,
            netns: None,
            hook: "ingress".to_owned(),
            mode: "tcx".to_owned(),
            before: vec!["cil_from_netdev".to_owned()],
        };
        if self.0.load(Ordering::Relaxed) { vec![tap] } else { Vec::new() }
    }

    fn pending(&self) -> Vec<String> {
        if self.0.load(Ordering::Relaxed) {
            Vec::new()
        } else {
            vec!["interface eth0 does not exist".to_owned()]
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            ledgers: (0..2).map(|_| Arc::new(Ledger::new(SHADOWS.len()))).collect(),
            kernel: Arc::default(),
            tapped: Arc::new(Tapped(AtomicBool::new(true))),
        }
    }

    pub(crate) fn source(&self) -> Source {
        let shard = ShardLedger::default();
        shard.ring_capacity.set(1 << 20);
        shard.ring_peak.set(4096);
        let kernel: Arc<dyn KernelCounters> = Arc::<Kernel>::clone(&self.kernel);
        let taps: Arc<dyn Taps> = Arc::<Tapped>::clone(&self.tapped);
        Source {
            job: "reviews".to_owned(),
            slot: 3,
            shadows: SHADOWS.map(|url| ShadowLabel { url: url.to_owned() }).to_vec(),
            ledgers: self.ledgers.clone(),
            shards: vec![Arc::new(shard), Arc::default()],
            kernel,
            taps,
            started: Instant::now(),
        }
    }

    /// One whole request of 100 bytes on `shard`, answered 200 by the primary in 1 ms, with a copy for each shadow that
    /// ends as given.
    pub(crate) fn exchange(&self, shard: usize, outcomes: [Outcome; 2]) {
        let ledger = &self.ledgers[shard];
        self.matched(100);
        ledger.bytes.parsed.add(100);
        ledger.requests.observed.add(1);
        ledger.requests.selected.add(1);
        ledger.requests.completed.add(1);
        for (index, (shadow, outcome)) in ledger.shadows.iter().zip(outcomes).enumerate() {
            shadow.copies.add(1);
            shadow.in_flight.add(1);
            shadow.book(outcome);
            if let Outcome::Delivered { .. } = outcome {
                record(&ledger.shadow_latency[index], 2_000);
                record(&ledger.queued[index], 50);
            }
        }
        self.answer(shard);
    }

    /// The primary answered a request that was observed.
    pub(crate) fn answer(&self, shard: usize) {
        self.witness(1);
        self.ledgers[shard].primary.answered[1].add(1);
        record(&self.ledgers[shard].primary_latency, 1_000);
    }

    pub(crate) fn witness(&self, n: u64) {
        self.kernel.job.lock().unwrap().witnessed += n;
    }

    pub(crate) fn matched(&self, bytes: u64) {
        self.kernel.job.lock().unwrap().matched_bytes += bytes;
    }

    /// Bytes that were matched, and found no room in a ring.
    pub(crate) fn lost_in_ring(&self, bytes: u64) {
        self.matched(bytes);
        self.kernel.job.lock().unwrap().lost_in_ring_bytes += bytes;
    }

    /// Something in every counter, a different number in each, so that all laws hold.
    pub(crate) fn fill(&self) {
        let mut next = 1..;
        let mut number = || next.next().unwrap();
        for ledger in &self.ledgers {
            let requests = &ledger.requests;
            let reasons = requests.sampled_out.iter().chain(&requests.filtered).chain(&requests.dropped);
            for counter in reasons.chain([&requests.selected]) {
                let n = number();
                requests.observed.add(n);
                counter.add(n);
            }
            requests.completed.add(number());
            let bytes = &ledger.bytes;
            let plain = [&bytes.parsed, &bytes.skipped_before_sync, &bytes.duplicate];
            for counter in bytes.not_http.iter().chain(&bytes.lost_in_reassembly).chain(plain) {
                let n = number();
                self.matched(n);
                counter.add(n);
            }
            let (h2, websocket) = (&ledger.h2, &ledger.websocket);
            let plain = [
                &h2.connections,
                &h2.requests,
                &h2.memory,
                &websocket.tunnels,
                &websocket.frames,
                &websocket.payload_bytes,
            ];
            let reasons = h2.errors.iter().chain(&h2.waiting).chain(&h2.waited);
            reasons.chain(plain).for_each(|counter| counter.add(number()));
            bytes.gap_bytes.iter().chain([&bytes.gaps]).for_each(|counter| counter.add(number()));
            for (shadow, latency) in ledger.shadows.iter().zip(&ledger.shadow_latency) {
                let outcomes =
                    [200, 302, 404, 500, 600].map(|status| Outcome::Delivered { status }).into_iter();
                let tried = Failed::ALL
                    .iter()
                    .flat_map(|(why, _)| [false, true].map(|partial| Outcome::Failed { why: *why, partial }));
                let given_up = Dropped::ALL.iter().flat_map(|(why, _)| {
                    [false, true].map(|partial| Outcome::Dropped { why: *why, partial })
                });
                for outcome in outcomes.chain(tried).chain(given_up) {
                    for _ in 0..number() {
                        shadow.copies.add(1);
                        shadow.in_flight.add(1);
                        shadow.book(outcome);
                    }
                }
                for counter in [
                    &shadow.resent,
                    &shadow.grpc_failed,
                    &shadow.waited_for_stream,
                    &shadow.connections,
                    &shadow.connects,
                    &shadow.queued_bytes,
                    &shadow.written_bytes,
                    &shadow.discarded_bytes,
                ] {
                    counter.add(number());
                }
                record(latency, 3_000);
            }
            ledger.primary.answered.iter().chain([&ledger.primary.unknown]).for_each(|c| c.add(number()));
            for counter in [&ledger.flows, &ledger.flows_opened, &ledger.flows_midstream] {
                counter.add(number());
            }
        }
        let mut job = self.kernel.job.lock().unwrap();
        job.lost_in_ring_bytes = number();
        job.matched_bytes += job.lost_in_ring_bytes;
        job.witnessed = number();
        job.responses_lost_in_ring = number();
        for (counter, _) in TapCounter::ALL {
            self.kernel.tap.lock().unwrap().values[counter as usize] = number();
        }
    }
}

pub(crate) const OK: Outcome = Outcome::Delivered { status: 200 };

pub(crate) fn record(latency: &super::ledger::Latency, us: u64) {
    let mut local = latency_histogram();
    local.record(us).unwrap();
    latency.publish(&mut local);
}
