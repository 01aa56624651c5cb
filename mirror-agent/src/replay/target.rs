//! One shadow as a shard sees it: its addresses, its limits, and whether it is worth trying.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::LinkId;
use super::budget::{Budget, Lease};
use super::outcome::Dropped;
use super::pace::Pace;
use super::replayer::{MAX_BODY_RESERVE_BYTES, SHARED_LINKS};
use super::settings::{Connections, Settings};
use crate::http::BodyKind;

/// First pause after a failed connection, ns.
pub const BACK_OFF_FIRST_NS: u64 = 100_000_000;
/// Longest pause after failed connections, ns.
pub const BACK_OFF_MAX_NS: u64 = 5_000_000_000;
/// How long copies wait for each other at a target that fell silent when they did not, ns.
pub const DISTRUST_FIRST_NS: u64 = 60_000_000_000;
/// The same for one that does so again and again, ns.
pub const DISTRUST_MAX_NS: u64 = 3_600_000_000_000;
/// How long whoever can wait waits for a target that takes no connection, ns: as long as a restart takes.
pub const MAX_ABSENCE_NS: u64 = 10_000_000_000;
/// Connections closed in good order within [`TIME_WAIT_NS`] by one shard; beyond it they are reset, so that TIME_WAIT
/// cannot use up the local ports.
pub const MAX_TIME_WAIT: usize = 4096;
/// How long the kernel keeps the ports of a connection that we closed first, ns (`TCP_TIMEWAIT_LEN`).
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

/// What all shards share of a target.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// How its copies are replayed.
    pub settings: Settings,
    /// TLS, if the shadow is `https://`.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Unanswered copies.
    pub in_flight: Arc<Budget>,
    /// Connections.
    pub connections: Arc<Budget>,
    /// Queued bytes.
    pub queued: Arc<Budget>,
}

/// Totals that the shard publishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Open connections.
    pub connections: u64,
    /// Connections opened.
    pub connects: u64,
    /// Bytes in queues, and bytes set aside for bodies to come.
    pub queued_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Response bytes discarded.
    pub discarded_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) settings: Settings,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) in_flight: Lease,
    pub(super) connections: Lease,
    pub(super) queued: Lease,
    pub(super) totals: Totals,
    /// Which connections may be begun.
    pub(super) pace: Pace,
    /// Idle links that any copy may take.
    pub(super) pool: Vec<LinkId>,
    /// Links of `--connections shared`.
    pub(super) shared: Vec<Option<LinkId>>,
    /// Until when copies wait for each other, `CLOCK_MONOTONIC` ns, and how long they did so the last time.
    distrusted_until: u64,
    distrust: u64,
    addrs: Vec<SocketAddr>,
    next_addr: usize,
    failures: u32,
    /// When the first of them was.
    failing_since: u64,
    blocked_until: u64,
    /// When the connections that were closed in good order leave TIME_WAIT, and their local ends.
    pub(super) time_wait: VecDeque<(u64, SocketAddr)>,
}

impl Target {
    pub(super) fn new(config: &TargetConfig) -> Self {
        let shared_links = if config.settings.connections == Connections::Shared { SHARED_LINKS } else { 0 };
        Self {
            settings: config.settings,
            tls: config.tls.clone(),
            in_flight: Lease::new(config.in_flight.clone(), 8),
            connections: Lease::new(config.connections.clone(), 1),
            queued: Lease::new(config.queued.clone(), 256 * 1024),
            totals: Totals::default(),
            pace: Pace::default(),
            pool: Vec::new(),
            shared: vec![None; shared_links],
            distrusted_until: 0,
            distrust: 0,
            addrs: Vec::new(),
            next_addr: 0,
            failures: 0,
            failing_since: 0,
            blocked_until: 0,
            time_wait: VecDeque::new(),
        }
    }

    /// Queue bytes to set aside for a body when its copy is admitted: never so many that it could not be.
    pub(super) fn reserve(&self, body: BodyKind) -> u64 {
        let reserve = match body {
            BodyKind::None => 0,
            BodyKind::Length(length) => length.min(MAX_BODY_RESERVE_BYTES),
            BodyKind::Chunked => 64 * 1024,
        };
        reserve.min(self.queued.limit() / 4)
    }

    /// The addresses its name stands for now; an empty list leaves the old ones in use.
    pub(super) fn set_addrs(&mut self, addrs: &[SocketAddr]) {
        if !addrs.is_empty() && self.addrs != addrs {
            self.addrs = addrs.to_vec();
            self.next_addr = 0;
            self.blocked_until = 0;
        }
    }

    /// The next address in turn.
    pub(super) fn next_addr(&mut self) -> Option<SocketAddr> {
        let addr = *self.addrs.get(self.next_addr % self.addrs.len().max(1))?;
        self.next_addr = self.next_addr.wrapping_add(1);
        Some(addr)
    }

    pub(super) fn resolved(&self) -> bool {
        !self.addrs.is_empty()
    }

    /// Whether a copy may be begun for it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn is_worth_trying(&self, now: u64) -> Result<(), Dropped> {
        if !self.resolved() {
            return Err(Dropped::Unresolved);
        }
        if self.backs_off(now) { Err(Dropped::BackOff) } else { Ok(()) }
    }

    /// Whether it failed a moment ago and is left alone.
    pub(super) fn backs_off(&self, now: u64) -> bool {
        now < self.blocked_until
    }

    /// Whether it is left alone and may come back soon, see [`MAX_ABSENCE_NS`].
    pub(super) fn is_absent(&self, now: u64) -> bool {
        self.backs_off(now) && now.saturating_sub(self.failing_since) < MAX_ABSENCE_NS
    }

    pub(super) fn failed(&mut self, now: u64) {
        if self.failures == 0 {
            self.failing_since = now;
        }
        let pause =
            BACK_OFF_FIRST_NS.checked_shl(self.failures.min(20)).unwrap_or(u64::MAX).min(BACK_OFF_MAX_NS);
        self.failures = self.failures.saturating_add(1);
        self.blocked_until = self.blocked_until.max(now + pause);
    }

    /// Whether copies may be written behind unanswered ones.
    pub(super) fn pipelines(&self, now: u64) -> bool {
        now >= self.distrusted_until
    }

    /// It fell silent behind copies that did not wait for each other: perhaps it cannot read them, perhaps it was only busy.
    /// So it is tried again after a while, and after a longer one if that fails.
    pub(super) fn distrust(&mut self, now: u64) {
        if !self.pipelines(now) {
            return;
        }
        let held = now.saturating_sub(self.distrusted_until) >= DISTRUST_MAX_NS;
        self.distrust = if held {
            DISTRUST_FIRST_NS
        } else {
            (2 * self.distrust).clamp(DISTRUST_FIRST_NS, DISTRUST_MAX_NS)
        };
        self.distrusted_until = now + self.distrust;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.blocked_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BACK_OFF_FIRST_NS, BACK_OFF_MAX_NS, Budget, Connections, DISTRUST_FIRST_NS, DISTRUST_MAX_NS,
        MAX_ABSENCE_NS, Settings, Target, TargetConfig,
    };
    use crate::replay::{Ordering, Timeouts};

    fn target() -> Target {
        let config = TargetConfig {
            settings: Settings {
                connections: Connections::PerClient,
                ordering: Ordering::Connection,
                timeouts: Timeouts { connect: 1, head: 1, idle: 1 },
                linger: 1,
            },
            tls: None,
            in_flight: Budget::new(1),
            connections: Budget::new(1),
            queued: Budget::new(1),
        };
        Target::new(&config)
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_ends_with_a_success() {
        let mut target = target();
        assert!(!target.backs_off(0));
        let mut now = 0;
        for expected in [BACK_OFF_FIRST_NS, 2 * BACK_OFF_FIRST_NS, 4 * BACK_OFF_FIRST_NS] {
            target.failed(now);
            assert!(target.backs_off(now + expected - 1) && !target.backs_off(now + expected));
            now += expected;
        }
        for _ in 0..100 {
            target.failed(now);
        }
        assert!(!target.backs_off(now + BACK_OFF_MAX_NS));
        target.succeeded();
        assert!(!target.backs_off(now));
    }

    #[test]
    fn a_target_that_fell_silent_is_pipelined_to_again_after_a_while_and_a_longer_one_each_time() {
        let mut target = target();
        assert!(target.pipelines(0));
        let mut now = 5;
        for expected in [DISTRUST_FIRST_NS, 2 * DISTRUST_FIRST_NS, 4 * DISTRUST_FIRST_NS] {
            target.distrust(now);
            // Other connections that fell silent at the same time say nothing new.
            target.distrust(now + 1);
            assert!(!target.pipelines(now + expected - 1) && target.pipelines(now + expected));
            now += expected;
        }
        for _ in 0..10 {
            target.distrust(now);
            assert!(target.pipelines(now + DISTRUST_MAX_NS));
            now += DISTRUST_MAX_NS;
        }
        // It has behaved for as long as it can be distrusted.
        now += 2 * DISTRUST_MAX_NS;
        target.distrust(now);
        assert!(target.pipelines(now + DISTRUST_FIRST_NS));
    }

    #[test]
    fn an_absence_ends_with_a_success_or_when_it_lasts_too_long() {
        let mut target = target();
        target.failed(1_000);
        assert!(target.is_absent(1_001) && !target.is_absent(1_000 + BACK_OFF_FIRST_NS));
        target.failed(MAX_ABSENCE_NS);
        assert!(target.is_absent(MAX_ABSENCE_NS), "it began at 1,000");
        assert!(!target.is_absent(MAX_ABSENCE_NS + 1_000) && target.backs_off(MAX_ABSENCE_NS + 1_000));
        target.succeeded();
        target.failed(2 * MAX_ABSENCE_NS);
        assert!(target.is_absent(2 * MAX_ABSENCE_NS));
    }

    #[test]
    fn addresses_are_used_in_turn_and_an_empty_answer_keeps_the_old_ones() {
        let mut target = target();
        assert!(!target.resolved() && target.next_addr().is_none());
        let two = ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
        target.set_addrs(&two);
        assert_eq!(
            [target.next_addr(), target.next_addr(), target.next_addr()],
            [Some(two[0]), Some(two[1]), Some(two[0])]
        );
        target.set_addrs(&[]);
        assert!(target.resolved());
    }
}
