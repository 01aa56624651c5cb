//! When a shard's ring is so full that new copies must be refused.
//!
//! A shard that shares its core with the primary is kept from it for milliseconds, and meanwhile the tap goes on writing. What is
//! admitted now is torn then, if what comes does not fit. So the shard looks ahead: it wants as much of the ring free as came
//! lately in the time it may be away. Slow traffic may fill most of the ring before anything is refused, fast traffic little. A
//! ring that could not hold what comes in that time at all gains nothing by looking ahead.

/// How long a shard of normal priority may be kept from its core by others, ns: as long as it plans for.
pub(super) const AWAY_NS: u64 = 8_000_000;
/// The same with `--priority high`, ns.
pub(super) const AWAY_HIGH_NS: u64 = 2_000_000;
/// A ring fuller than this is too full, however slow the traffic, percent.
const MOST_PERCENT: usize = 75;
/// A ring emptier than this is not too full, however fast the traffic, percent.
const LEAST_PERCENT: usize = 25;
/// What comes is measured over at least so long, ns.
const WINDOW_NS: u64 = 10_000_000;

/// Watches the ring of one shard.
#[derive(Debug)]
pub(super) struct Headroom {
    capacity: usize,
    away_ns: u64,
    /// When the window began, and what had been written to the ring then.
    since: u64,
    written: u64,
    /// Bytes that came in the last window, for each time away.
    coming: usize,
    behind: bool,
}

impl Headroom {
    /// For a ring of `capacity` bytes whose reader may be away for `away_ns`.
    pub(super) const fn new(capacity: usize, away_ns: u64) -> Self {
        Self { capacity, away_ns, since: 0, written: 0, coming: 0, behind: false }
    }

    /// Looks at the ring: at `now` (ns) `used` of its bytes are taken, and `written` were written since it exists.
    pub(super) fn look(&mut self, now: u64, used: usize, written: u64) {
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW_NS {
            let came = written.wrapping_sub(self.written);
            self.coming = usize::try_from(came.saturating_mul(self.away_ns) / passed).unwrap_or(usize::MAX);
            (self.since, self.written) = (now, written);
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
        if self.coming >= self.capacity {
            return percent(MOST_PERCENT);
        }
        self.capacity.saturating_sub(self.coming).clamp(percent(LEAST_PERCENT), percent(MOST_PERCENT))
    }
}

#[cfg(test)]
mod tests {
    use super::{AWAY_NS, Headroom, WINDOW_NS};

    const MIB: usize = 1 << 20;

    /// A ring of 32 MiB to which `rate` bytes were written in each millisecond so far.
    fn steady(rate: usize) -> Headroom {
        let mut headroom = Headroom::new(32 * MIB, AWAY_NS);
        let window = (rate as u64) * (WINDOW_NS / 1_000_000);
        for n in 1..=3 {
            headroom.look(n * WINDOW_NS, 0, n * window);
        }
        headroom
    }

    /// Whether a ring with so many MiB taken is too full.
    fn behind(headroom: &mut Headroom, mib: usize) -> bool {
        headroom.look(headroom.since, mib * MIB, headroom.written);
        headroom.is_behind()
    }

    #[test]
    fn the_faster_it_fills_the_earlier_it_is_too_full_as_long_as_looking_ahead_helps() {
        for (rate, fits) in [
            (0, 23),
            (MIB, 23),
            (2 * MIB, 15),
            (5 * MIB / 2, 11),
            (3 * MIB, 8),
            (7 * MIB / 2, 7),
            (100 * MIB, 23),
        ] {
            let mut headroom = steady(rate);
            assert!(!behind(&mut headroom, fits), "{rate} bytes a ms: {fits} MiB");
            assert!(behind(&mut headroom, fits + 2), "{rate} bytes a ms: {} MiB", fits + 2);
        }
    }

    #[test]
    fn once_too_full_it_has_to_become_a_third_emptier() {
        let mut headroom = steady(2 * MIB);
        assert!(behind(&mut headroom, 17));
        assert!(behind(&mut headroom, 11));
        assert!(!behind(&mut headroom, 10));
        assert!(!behind(&mut headroom, 15));
    }

    #[test]
    fn what_came_long_ago_or_while_it_slept_does_not_count() {
        let mut headroom = steady(3 * MIB);
        assert!(behind(&mut headroom, 10));
        // A second without a byte.
        headroom.look(headroom.since + 1_000_000_000, 10 * MIB, headroom.written);
        assert!(!headroom.is_behind());
    }
}
