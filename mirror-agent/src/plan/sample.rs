//! Chance and rate: how many copies a request gets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use super::settings::{Percent, SampleBy};
use crate::packet::{FlowKey, Peer, Seq};

/// The percentage of a job, ready to be asked.
#[derive(Debug)]
pub(super) struct Share {
    certain: u8,
    threshold: u64,
    by: SampleBy,
    keyed: SipHasher13,
}

impl Share {
    pub(super) fn new(percent: Percent, by: SampleBy, seed: u64, job: &str) -> Self {
        // The job's name is part of the key, so that two jobs choose independently at one seed.
        let job = SipHasher13::new().hash(job.as_bytes());
        Self {
            certain: percent.certain(),
            threshold: percent.threshold(),
            by,
            keyed: SipHasher13::new_with_keys(seed, job),
        }
    }

    /// Copies of this request: the certain ones, and one more by chance. A client cannot steer it without the key, and
    /// requests that alternate fall on both sides of it.
    pub(super) fn copies(&self, flow: &FlowKey, origin: Seq, ordinal: u64) -> u8 {
        let more = self.threshold > 0 && self.hash(flow, origin, ordinal) < self.threshold;
        self.certain.saturating_add(u8::from(more))
    }

    /// By request the number alone decides, so that a run of so many requests selects the same share again at the same
    /// seed, whatever ports and sequence numbers the kernel gave.
    fn hash(&self, flow: &FlowKey, origin: Seq, ordinal: u64) -> u64 {
        if self.by == SampleBy::Request {
            return self.keyed.hash(&ordinal.to_le_bytes());
        }
        let mut key = [0; 40];
        let (client, rest) = key.split_at_mut(18);
        let (primary, start) = rest.split_at_mut(18);
        write_peer(client, &flow.client);
        write_peer(primary, &flow.primary);
        start.copy_from_slice(&origin.0.to_le_bytes());
        self.keyed.hash(&key)
    }
}

/// Address and port into 18 bytes.
fn write_peer(out: &mut [u8], peer: &Peer) {
    let (addr, port) = out.split_at_mut(16);
    addr.copy_from_slice(&peer.addr);
    port.copy_from_slice(&peer.port.to_le_bytes());
}

/// Requests a second, as spacing and burst (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Rate {
    /// Nanoseconds between two requests at the rate, rounded up.
    interval: u64,
    /// How far ahead of its time a request may be: a burst of a tenth of a second.
    tolerance: u64,
}

impl Rate {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let per_second = u64::from(per_second.get());
        let interval = 1_000_000_000_u64.div_ceil(per_second);
        let burst = (per_second / 10).max(1);
        Self { interval, tolerance: (burst - 1) * interval }
    }
}

/// What sampling remembers from one request to the next: the rate's bucket. Clones share it, one for each shard, so the
/// rate holds for the job however its flows fall on shards. In any second at most the rate and a tenth are selected.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// When the next request is due if requests came exactly at the rate, ns.
    due: Arc<AtomicU64>,
}

impl Sampler {
    /// A full bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one request out of the bucket; false if it is empty. Relaxed: the word guards nothing but itself.
    pub(super) fn take(&self, rate: &Rate, now_ns: u64) -> bool {
        let latest = now_ns.saturating_add(rate.tolerance);
        self.due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                (due <= latest).then(|| due.max(now_ns).saturating_add(rate.interval))
            })
            .is_ok()
    }
}
