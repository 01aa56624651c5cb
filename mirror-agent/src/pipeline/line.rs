//! What all requests of a shard share, and how one that can be kept waiting waits.

use std::io;
use std::time::Duration;

use super::pace::Timeline;
use super::requests::Asks;
use super::{Fits, Job, Shadows, record};
use crate::http::{self, Budget};
use crate::plan::{Decision, Plan, SampledOut, Sampler};
use crate::replay::Dropped;
use crate::stats::ledger::{Ledger, status_class};

/// The longest wait in one go while there is no room, ns.
const WAIT_NS: u64 = 100_000_000;
/// The wait for the next request of a rate, ns.
const RATE_WAIT_NS: u64 = 1_000_000;
/// How often histograms and gauges are published, ns.
const PUBLISH_NS: u64 = 200_000_000;

/// Lets time go by.
pub trait Pause {
    /// Waits until a socket of `shadows` has news, `timeout` at most, and tells them. False: nobody waits any more.
    ///
    /// # Errors
    /// When the operating system does not let anyone wait.
    fn pause(&mut self, timeout: Option<Duration>, shadows: &mut Shadows) -> io::Result<bool>;
}

/// What all requests of a shard share.
pub(super) struct Line {
    pub(super) jobs: Vec<Job>,
    pub(super) shadows: Shadows,
    /// Room for the state of HTTP/2 connections, bytes.
    pub(super) h2_memory: u64,
    /// Of requests that wait for the primary's answer.
    pub(super) unanswered: Budget,
    /// Bytes in the decoders of all flows.
    pub(super) held: u64,
    pub(super) source: Option<Source>,
    pub(super) now: u64,
}

/// A source that is not live.
pub(super) struct Source {
    pub(super) timeline: Timeline,
    /// Which requests are taken at all.
    pub(super) fits: Option<Fits>,
    pub(super) pause: Box<dyn Pause + Send>,
    /// A request waits for what it needs: the source goes as fast as the shadows.
    pub(super) waits: bool,
    /// Nothing is to be waited for any more.
    pub(super) leaving: bool,
    pub(super) failed: Option<io::Error>,
    publish_at: u64,
    /// Where the size of a head is measured.
    scratch: Vec<u8>,
}

impl Source {
    pub(super) fn new(
        timeline: Timeline,
        fits: Option<Fits>,
        pause: Box<dyn Pause + Send>,
        waits: bool,
    ) -> Self {
        Self {
            timeline,
            fits,
            pause,
            waits,
            leaving: false,
            failed: None,
            publish_at: 0,
            scratch: Vec::new(),
        }
    }
}

impl Line {
    /// For a source that cannot be kept waiting, with times of `CLOCK_MONOTONIC`.
    pub(super) fn live(jobs: Vec<Job>, shadows: Shadows, http: &http::Limits) -> Self {
        let unanswered = Budget::new(http.unanswered_bytes);
        Self { jobs, shadows, h2_memory: http.h2_memory_bytes, unanswered, held: 0, source: None, now: 0 }
    }

    pub(super) fn ledger(&self, job: u16) -> Option<&Ledger> {
        self.jobs.get(usize::from(job)).map(|job| &*job.ledger)
    }

    pub(super) fn flush(&mut self) {
        self.shadows.flush();
        self.book();
    }

    pub(super) fn tick(&mut self) {
        self.shadows.tick();
        self.book();
    }

    /// Gives up what has no outcome yet.
    pub(super) fn shutdown(&mut self) {
        self.shadows.shutdown();
        self.book();
        self.publish();
    }

    /// A final answer of the primary.
    pub(super) fn answered(&mut self, job: u16, status: u16, latency_ns: Option<u64>) {
        if let Some(job) = self.jobs.get_mut(usize::from(job)) {
            if let Some(counter) = job.ledger.primary.answered.get(status_class(status)) {
                counter.add(1);
            }
            if let Some(latency) = latency_ns {
                record(Some(&mut job.primary), latency);
            }
        }
    }

    /// Ends what a client has not ended, for a reason that is not its own.
    pub(super) fn forsake(&mut self, asks: &mut Asks, why: Dropped) {
        for copy in asks.copies.drain(..) {
            self.shadows.h1.abort(copy, why);
        }
        if let Some(streams) = &mut asks.streams {
            streams.abort_all(why, &mut self.shadows.h2);
        }
    }

    /// A client is gone.
    pub(super) fn release(&mut self, asks: Asks) {
        for link in asks.links {
            self.shadows.h1.release(link);
        }
        if let Some(streams) = asks.streams {
            streams.release(&mut self.shadows.h2);
        }
    }

    /// Our own time of something in the source.
    pub(super) fn at(&self, time: u64) -> u64 {
        self.source.as_ref().map_or(time, |source| source.timeline.at(time, self.now))
    }

    /// Counts a request and decides; how many copies each shadow gets, if any. `decide` is given the number of the request
    /// and the time.
    pub(super) fn select(
        &mut self,
        job: u16,
        time: u64,
        decide: impl Fn(&Plan, &Sampler, u64, u64) -> Decision,
    ) -> Option<u8> {
        let place = usize::from(job);
        let ordinal = self.jobs.get_mut(place)?.observed();
        let mut time = time;
        loop {
            let job = self.jobs.get(place)?;
            let decision = decide(&job.plan, &job.sampler, ordinal, time);
            // A rate is kept by waiting, where one can wait.
            if decision != Decision::SampledOut(SampledOut::Rate) || !self.waits() {
                return job.decided(decision);
            }
            self.turn(Some(self.now + RATE_WAIT_NS));
            time = self.now;
        }
    }

    /// Whether what comes can be kept waiting.
    pub(super) fn waits(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.waits && !source.leaving)
    }

    /// Waits as long as something lacks room and may get it. Not for ever on answers that have no end: where no copy gets its
    /// outcome and nothing is written for as long as a copy may stand still, the wait is over.
    pub(super) fn wait_while(&mut self, mut lacks: impl FnMut(&mut Shadows) -> bool) {
        if !self.waits() || !lacks(&mut self.shadows) {
            return;
        }
        // Often what there is to write makes the room.
        self.flush();
        let targets = self.jobs.iter().map(|job| job.shadow.len()).sum();
        let mut progress = self.shadows.progress(targets);
        let mut since = self.now;
        while self.waits()
            && lacks(&mut self.shadows)
            && self.shadows.goes_on()
            && self.now.saturating_sub(since) <= self.shadows.patience()
        {
            self.turn(Some(self.now + WAIT_NS));
            let now = self.shadows.progress(targets);
            if now != progress {
                (progress, since) = (now, self.now);
            }
        }
    }

    /// How many bytes `write` writes.
    pub(super) fn measure(&mut self, write: impl FnOnce(&Plan, &mut Vec<u8>), job: u16) -> u64 {
        let (Some(source), Some(job)) = (&mut self.source, self.jobs.get(usize::from(job))) else { return 0 };
        source.scratch.clear();
        write(&job.plan, &mut source.scratch);
        source.scratch.len() as u64
    }

    /// Nothing is waited for any more: what begins from now on is refused, what is not whole will be given up.
    pub(super) fn leave(&mut self) {
        if let Some(source) = &mut self.source {
            source.leaving = true;
        }
        self.shadows.set_refusal(Some(Dropped::Shutdown));
    }

    /// One turn of the loop: what there is to write is written, then sockets are listened to, until `until` (ns) at most.
    pub(super) fn turn(&mut self, until: Option<u64>) {
        self.flush();
        self.now = self.shadows.update_clock();
        let Some(source) = &mut self.source else { return };
        let next = [until, self.shadows.next_deadline()].into_iter().flatten().min();
        let timeout = if self.shadows.is_busy() {
            Some(Duration::ZERO)
        } else {
            next.map(|next| Duration::from_nanos(next.saturating_sub(self.now)))
        };
        match source.pause.pause(timeout, &mut self.shadows) {
            Ok(true) => {}
            Ok(false) => self.leave(),
            Err(error) => {
                source.failed = Some(error);
                self.leave();
            }
        }
        self.now = self.shadows.update_clock();
        if self.shadows.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.shadows.tick();
        }
        // What came may have made room, and whoever waits for it looks next.
        self.flush();
        if let Some(source) = &mut self.source
            && self.now >= source.publish_at
        {
            source.publish_at = self.now + PUBLISH_NS;
            self.publish();
        }
    }
}
