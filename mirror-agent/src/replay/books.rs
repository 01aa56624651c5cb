//! What a replayer knows of its targets whatever protocol their copies speak: whether one may begin, what it takes of the
//! limits, and which local ends the tap must pass by.

use std::net::SocketAddr;

use mio::Registry;

use super::LinkId;
use super::outcome::Dropped;
use super::settings::Exclude;
use super::target::{MAX_TIME_WAIT, TIME_WAIT_NS, Target, Totals};
use super::transport::Transport;

/// The targets of a replayer and its copies without an outcome.
pub(super) struct Books {
    pub(super) targets: Vec<Target>,
    exclude: Box<dyn Exclude + Send>,
    unfinished: u64,
    /// Why new copies are refused.
    refusal: Option<Dropped>,
}

impl Books {
    pub(super) fn new(targets: Vec<Target>, exclude: Box<dyn Exclude + Send>) -> Self {
        Self { targets, exclude, unfinished: 0, refusal: None }
    }

    /// The addresses that a target's name stands for now.
    pub(super) fn set_addrs(&mut self, shadow: usize, addrs: &[SocketAddr]) {
        if let Some(target) = self.targets.get_mut(shadow) {
            target.set_addrs(addrs);
        }
    }

    /// With a reason, new copies are refused until it is called with none.
    pub(super) fn set_refusal(&mut self, why: Option<Dropped>) {
        self.refusal = why;
    }

    /// Whether new copies are refused, whatever room there is.
    pub(super) fn refuses(&self) -> bool {
        self.refusal.is_some()
    }

    /// Totals of one target.
    pub(super) fn totals(&self, shadow: usize) -> Totals {
        let target = self.targets.get(shadow);
        target
            .map(|target| Totals { queued_bytes: target.queued.used(), ..target.totals })
            .unwrap_or_default()
    }

    /// The longest that a copy can go without news before it fails, ns.
    pub(super) fn patience(&self) -> u64 {
        let each = self.targets.iter().map(|target| {
            let timeouts = target.settings.timeouts;
            timeouts.connect.saturating_add(timeouts.head).saturating_add(timeouts.idle)
        });
        each.max().unwrap_or(0)
    }

    // ---- copies

    /// Copies without an outcome.
    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// A copy wants to begin, and will end by [`Books::ended`].
    pub(super) fn begun(&mut self) {
        self.unfinished += 1;
    }

    /// A copy has its outcome.
    pub(super) fn ended(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
    }

    /// Takes a copy for `shadow` in, before anything is done for it.
    ///
    /// # Errors
    /// Why it must not begin; nothing is taken then.
    pub(super) fn admit(&mut self, shadow: usize, now: u64) -> Result<&mut Target, Dropped> {
        if let Some(why) = self.refusal {
            return Err(why);
        }
        let target = self.targets.get_mut(shadow).ok_or(Dropped::Unresolved)?;
        target.is_worth_trying(now)?;
        if !target.in_flight.take(1) {
            return Err(Dropped::InFlight);
        }
        Ok(target)
    }

    // ---- connections

    /// A connection of ours begins at the local end of `transport`.
    pub(super) fn connecting(&self, transport: &Transport) {
        if let Some(local) = transport.local() {
            self.exclude.insert(local);
        }
    }

    /// Closes a connection to `shadow`, with a reset or in good order; `open` if it had come about.
    pub(super) fn close(
        &mut self,
        shadow: usize,
        transport: Transport,
        open: bool,
        reset: bool,
        (registry, now): (&Registry, u64),
    ) {
        let local = transport.local();
        let target = self.targets.get_mut(shadow);
        let reset = reset || target.as_ref().is_none_or(|target| target.time_wait.len() >= MAX_TIME_WAIT);
        transport.close(registry, reset);
        let Some(target) = target else { return };
        if open {
            target.totals.connections = target.totals.connections.saturating_sub(1);
            target.pace.ended(now);
        }
        if let Some(local) = local {
            if reset {
                self.exclude.remove(local);
            } else {
                target.time_wait.push_back((now + TIME_WAIT_NS, local));
            }
        }
    }

    /// The connection to `shadow` that was begun last for a link is not fresh any more.
    pub(super) fn settled(&mut self, shadow: usize, id: LinkId) {
        if let Some(target) = self.targets.get_mut(shadow) {
            target.pace.settled(id);
        }
    }

    /// When the next connection may be begun that waits for its turn, `CLOCK_MONOTONIC` ns.
    pub(super) fn next_connect(&self) -> Option<u64> {
        self.targets.iter().filter_map(|target| target.pace.due()).min()
    }

    /// When the next local end leaves TIME_WAIT, `CLOCK_MONOTONIC` ns.
    pub(super) fn next_time_wait(&self) -> Option<u64> {
        self.targets.iter().filter_map(|target| target.time_wait.front()).map(|(at, _)| *at).min()
    }

    /// Forgets the local ends that have left TIME_WAIT by `now`; with `u64::MAX` all of them.
    pub(super) fn leave_time_wait(&mut self, now: u64) {
        for target in &mut self.targets {
            while let Some((_, local)) = target.time_wait.pop_front_if(|(at, _)| *at <= now) {
                self.exclude.remove(local);
            }
        }
    }
}
