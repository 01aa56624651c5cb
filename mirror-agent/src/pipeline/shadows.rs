//! Both replayers as one: what the loop of a shard drives.

use std::net::SocketAddr;

use mio::event::Event;

use crate::replay::{Dropped, H2_TOKENS, H2Replayer, Replayer};

/// The copies of a shard on their way, whichever protocol they are in.
pub struct Shadows {
    pub(super) h1: Replayer,
    pub(super) h2: H2Replayer,
}

impl Shadows {
    /// Both over one registry, with one clock.
    #[must_use]
    pub fn new(h1: Replayer, h2: H2Replayer) -> Self {
        Self { h1, h2 }
    }

    /// What `epoll` said of a shadow's socket.
    pub fn on_event(&mut self, event: &Event) {
        if event.token().0 >= H2_TOKENS {
            self.h2.on_event(event);
        } else {
            self.h1.on_event(event);
        }
    }

    /// The addresses of a target, as its name stands for them now.
    pub fn set_addrs(&mut self, target: usize, addrs: &[SocketAddr]) {
        self.h1.set_addrs(target, addrs);
        self.h2.set_addrs(target, addrs);
    }

    /// Writes what there is to write, reads on where a reply was cut off.
    pub(super) fn flush(&mut self) {
        self.h1.flush();
        self.h2.flush();
    }

    /// Reads the clocks; the returned `CLOCK_MONOTONIC` time, ns, is the round's now.
    pub(super) fn update_clock(&mut self) -> u64 {
        let now = self.h1.update_clock();
        self.h2.set_now(now);
        now
    }

    /// Ends what has waited too long.
    pub(super) fn tick(&mut self) {
        self.h1.tick();
        self.h2.tick();
    }

    /// The earliest time at which [`Shadows::tick`] has something to do, ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        [self.h1.next_deadline(), self.h2.next_deadline()].into_iter().flatten().min()
    }

    /// With a reason, new copies are refused at their head.
    pub(super) fn set_refusal(&mut self, why: Option<Dropped>) {
        self.h1.set_refusal(why);
        self.h2.set_refusal(why);
    }

    /// Copies wait for the answer of another one, and the shadow may have nothing to do until then: answers should be read at
    /// once.
    pub(super) fn has_backlog(&self) -> bool {
        self.h1.has_backlog() || self.h2.has_backlog()
    }

    /// Whether something can go on without waiting.
    pub(super) fn is_busy(&self) -> bool {
        self.h1.is_busy() || self.h2.is_busy()
    }

    /// Whether something goes on without another byte of a client, sooner or later.
    pub(super) fn goes_on(&self) -> bool {
        self.h1.goes_on() || self.h2.goes_on()
    }

    /// How far copies are: those without an outcome, and bytes that were written for any.
    pub(super) fn progress(&self, targets: usize) -> (u64, u64) {
        let written = |target| self.h1.totals(target).written_bytes + self.h2.totals(target).written_bytes;
        (self.unfinished(), (0..targets).map(written).sum())
    }

    /// The longest that a copy can go without news before it fails, ns.
    pub(super) fn patience(&self) -> u64 {
        self.h1.patience().max(self.h2.patience())
    }

    /// Copies without an outcome.
    pub(super) fn unfinished(&self) -> u64 {
        self.h1.unfinished() + self.h2.unfinished()
    }

    /// Gives up what has no outcome yet.
    pub(super) fn shutdown(&mut self) {
        self.h1.shutdown();
        self.h2.shutdown();
    }
}
