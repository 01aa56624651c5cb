//! When a shard's ring is so full that new copies must be refused.
//!
//! A shard that shares its core with the primary is kept from it for milliseconds, and meanwhile the tap goes on writing. What is
//! admitted now is torn then, if what comes does not fit. So the shard looks ahead: at the rate of the last milliseconds, what comes
//! while it is away for as long as it lately was shall fit into the ring. Slow traffic may fill most of the ring before anything is
//! refused, fast traffic less. A ring that is too small for that when empty gains nothing by looking ahead.

/// The longest time away that a shard plans for, ns.
const AWAY_NS: u64 = 8_000_000;
/// The longest time away is remembered for at least so long, and for twice that at most, ns.
const MEMORY_NS: u64 = 100_000_000;
/// A ring fuller than this is too full, however slow the traffic, percent.
const MOST_PERCENT: usize = 75;
/// A ring emptier than this is not too full, however fast the traffic, percent.
const LEAST_PERCENT: usize = 40;
/// What comes is measured over at least so long, ns.
const WINDOW_NS: u64 = 10_000_000;

/// Watches the ring of one shard.
#[derive(Debug)]
pub(super) struct Headroom {
    capacity: usize,
    /// The last look, if the shard did not sleep since, ns.
    last: Option<u64>,
    /// The longest times between two looks, in this part of the memory and in the one before, ns, and when this began.
    away: [u64; 2],
    away_since: u64,
    /// When the window began, and what had been written to the ring then.
    since: u64,
    written: u64,
    /// Bytes that came in the last window, a millisecond.
    rate: u64,
    behind: bool,
}

impl Headroom {
    /// For a ring of `capacity` bytes.
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            last: None,
            away: [0; 2],
            away_since: 0,
            since: 0,
            written: 0,
            rate: 0,
            behind: false,
        }
    }

    /// The shard goes to sleep because there is nothing to do: until the next look it is not away, but asleep.
    pub(super) const fn sleeps(&mut self) {
        self.last = None;
    }

    /// Looks at the ring: at `now` (ns) `used` of its bytes are taken, and `written` were written since it exists.
    pub(super) fn look(&mut self, now: u64, used: usize, written: u64) {
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW_NS {
            let came = written.wrapping_sub(self.written);
            self.rate = came.saturating_mul(1_000_000) / passed;
            (self.since, self.written) = (now, written);
        }
        if now.saturating_sub(self.away_since) >= MEMORY_NS {
            (self.away, self.away_since) = ([0, self.away[0]], now);
        }
        if let Some(last) = self.last.replace(now) {
            self.away[0] = self.away[0].max(now.saturating_sub(last));
        }
        let limit = self.limit();
        // Once too full, it has to become clearly emptier.
        self.behind = used > if self.behind { limit / 3 * 2 } else { limit };
    }

    /// Whether new copies are to be refused.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind
    }

    /// The most bytes that may be taken.
    fn limit(&self) -> usize {
        let percent = |percent| self.capacity / 100 * percent;
        let away = self.away[0].max(self.away[1]).min(AWAY_NS);
        let coming = usize::try_from(self.rate.saturating_mul(away) / 1_000_000).unwrap_or(usize::MAX);
        if coming >= self.capacity {
            return percent(MOST_PERCENT);
        }
        self.capacity.saturating_sub(coming).clamp(percent(LEAST_PERCENT), percent(MOST_PERCENT))
    }
}

#[cfg(test)]
mod tests {
    use super::{AWAY_NS, Headroom, MEMORY_NS};

    const MIB: usize = 1 << 20;
    const MS: u64 = 1_000_000;

    /// A ring of 32 MiB, looked at every `gap` ns for a while, to which `rate` bytes a millisecond were written.
    fn steady(rate: usize, gap: u64) -> (Headroom, u64) {
        let mut headroom = Headroom::new(32 * MIB);
        let mut now = 1_000 * MS;
        for _ in 0..300 * MS / gap {
            now += gap;
            headroom.look(now, 0, now / MS * rate as u64);
        }
        (headroom, now)
    }

    /// Whether a ring with so many MiB taken is too full.
    fn behind((headroom, now): &mut (Headroom, u64), mib: usize) -> bool {
        headroom.look(*now, mib * MIB, headroom.written);
        headroom.is_behind()
    }

    #[test]
    fn the_faster_it_fills_the_earlier_it_is_too_full_as_long_as_looking_ahead_helps() {
        for (rate, gap, fits) in [
            (0, AWAY_NS, 23),
            (MIB, AWAY_NS, 23),
            (2 * MIB, AWAY_NS, 15),
            (9 * MIB / 4, AWAY_NS, 13),
            (3 * MIB, AWAY_NS, 12),
            // Longer than it plans for; never away; and hopeless.
            (2 * MIB, 5 * AWAY_NS, 15),
            (3 * MIB, MS, 23),
            (100 * MIB, AWAY_NS, 23),
        ] {
            let mut steady = steady(rate, gap);
            assert!(!behind(&mut steady, fits), "{rate} bytes a ms: {fits} MiB");
            assert!(behind(&mut steady, fits + 2), "{rate} bytes a ms: {} MiB", fits + 2);
        }
    }

    #[test]
    fn once_too_full_it_has_to_become_a_third_emptier() {
        let mut steady = steady(2 * MIB, AWAY_NS);
        assert!(behind(&mut steady, 17));
        assert!(behind(&mut steady, 11));
        assert!(!behind(&mut steady, 10));
        assert!(!behind(&mut steady, 15));
    }

    #[test]
    fn sleep_is_not_absence_and_old_absences_are_forgotten() {
        let (mut headroom, mut now) = steady(3 * MIB, AWAY_NS);
        let mut look = |headroom: &mut Headroom, gap: u64, mib: usize| {
            now += gap;
            headroom.look(now, mib * MIB, now / MS * 3 * MIB as u64);
            headroom.is_behind()
        };
        assert!(look(&mut headroom, MS, 15));
        for _ in 0..2 * MEMORY_NS / MS {
            look(&mut headroom, MS, 0);
        }
        assert!(!look(&mut headroom, MS, 15));
        headroom.sleeps();
        assert!(!look(&mut headroom, AWAY_NS, 15));
        assert!(!look(&mut headroom, AWAY_NS, 0));
        assert!(look(&mut headroom, MS, 15));
    }
}
