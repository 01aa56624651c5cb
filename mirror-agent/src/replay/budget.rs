//! Limits per target that all shards share: a limit is one relaxed atomic, and each shard holds a lease on a part of it.
//!
//! A shard takes from its own lease without touching the shared word; it goes there only when the lease runs out (to
//! borrow what no other shard uses) or has grown far too large (to give back). The sum of all leases never exceeds the
//! limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit shared by all shards.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    leased: AtomicU64,
}

impl Budget {
    /// A budget of `limit` units, none of them leased.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, leased: AtomicU64::new(0) })
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Units that nobody has leased.
    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.leased.load(Ordering::Relaxed))
    }

    /// Leases as much of `want` as is free, but at least `need`; 0 if `need` is not free.
    fn borrow(&self, need: u64, want: u64) -> u64 {
        let mut got = 0;
        // Relaxed: the word guards nothing but itself.
        let _all_or_nothing = self.leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |leased| {
            let free = self.limit.saturating_sub(leased);
            got = if free < need { 0 } else { want.min(free) };
            (got > 0).then_some(leased + got)
        });
        got
    }

    fn give_back(&self, units: u64) {
        self.leased.fetch_sub(units, Ordering::Relaxed);
    }
}

/// A lease borrows at most this part of a budget beyond what it needs.
const SMALLEST_SHARE: u64 = 64;

/// One shard's part of a [`Budget`].
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    quantum: u64,
    held: u64,
    used: u64,
}

impl Lease {
    /// An empty lease that borrows and returns about `quantum` units at a time, and exactly what it needs of a budget
    /// so small that others would lack what it keeps.
    #[must_use]
    pub fn new(budget: Arc<Budget>, quantum: u64) -> Self {
        let quantum = quantum.min(budget.limit / SMALLEST_SHARE);
        Self { budget, quantum, held: 0, used: 0 }
    }

    /// Whether [`Lease::take`] would take `units` now.
    #[must_use]
    pub fn fits(&self, units: u64) -> bool {
        (self.used + units).saturating_sub(self.held) <= self.budget.free()
    }

    /// Takes `units`; false (and nothing taken) if the limit does not allow it.
    #[must_use]
    pub fn take(&mut self, units: u64) -> bool {
        let missing = (self.used + units).saturating_sub(self.held);
        if missing > 0 {
            let got = self.budget.borrow(missing, missing.max(self.quantum));
            if got == 0 {
                return false;
            }
            self.held += got;
        }
        self.used += units;
        true
    }

    /// Gives `units` back.
    pub fn give(&mut self, units: u64) {
        debug_assert!(units <= self.used, "gives back more than was taken");
        self.used = self.used.saturating_sub(units);
        let spare = self.held - self.used;
        if spare > 2 * self.quantum {
            let back = spare - self.quantum;
            self.held -= back;
            self.budget.give_back(back);
        }
    }

    /// The limit that all leases together keep.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.budget.limit
    }

    /// Units taken by this shard.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{Budget, Lease};

    #[test]
    fn leases_together_never_exceed_the_limit_and_lend_what_is_unused() {
        let budget = Budget::new(100);
        let mut a = Lease::new(budget.clone(), 10);
        let mut b = Lease::new(budget.clone(), 30);
        assert!(a.take(10) && b.take(60));
        assert_eq!(a.used() + b.used(), 70);
        // 30 are free in the budget.
        assert!(!a.take(40) && a.take(30));
        assert!(!b.take(1));
        a.give(40);
        assert!(b.take(10), "what a does not use is lent to b");
        assert!(budget.leased.load(Ordering::Relaxed) <= 100);
        drop((a, b));
        assert_eq!(budget.leased.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_left_of_a_small_budget_is_kept_from_nobody() {
        let budget = Budget::new(1);
        let [mut a, mut b] = [Lease::new(budget.clone(), 8), Lease::new(budget, 8)];
        assert!(a.fits(1) && a.take(1));
        assert!(!b.fits(1) && !b.take(1));
        a.give(1);
        assert!(b.fits(1) && b.take(1), "a keeps nothing back");
        assert!(!a.fits(1) && a.fits(0));
    }

    #[test]
    fn a_refused_take_changes_nothing() {
        let budget = Budget::new(10);
        let mut lease = Lease::new(budget, 4);
        assert!(lease.take(8));
        assert!(!lease.take(3));
        assert_eq!(lease.used(), 8);
        assert!(lease.take(2));
    }
}
