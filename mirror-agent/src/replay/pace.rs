//! The pace at which connections to one shadow are opened.
//!
//! Clients come one by one, but their first copies come in bursts: a job begins on connections that are all open, and a batch
//! of records holds many new ones. A burst of connections overflows the shadow's queue of those to accept, and the first of
//! its workers to wake takes all that are in the queue: that one alone then serves all copies, on however many cores. So one
//! connection at a time is *fresh*: begun, and without an answer. A shadow that answers at once gets the next at once, any
//! other by the clock. One that takes the place of a connection that ended is no burst and does not wait.

use std::collections::VecDeque;

use super::LinkId;

/// A connection without an answer is fresh for so long, ns: a shard begins at least four connections a millisecond.
pub(super) const MAX_FRESH_NS: u64 = 250_000;
/// A connection that ended so long ago is not replaced any more, ns.
const REPLACED_NS: u64 = 100_000_000;

/// The connection that was just begun, and the links that wait to begin theirs.
#[derive(Debug, Default)]
pub(super) struct Pace {
    fresh: Option<(u64, LinkId)>,
    waiting: VecDeque<LinkId>,
    /// Connections that ended and were not replaced, and when the last of them did.
    ended: u32,
    ended_at: u64,
}

impl Pace {
    /// Whether `id` may begin its connection at `now`, `CLOCK_MONOTONIC` ns. If not, [`Pace::next`] gives it later.
    pub(super) fn begin(&mut self, id: LinkId, now: u64) -> bool {
        let begins = self.waiting.is_empty() && self.take_room(id, now);
        if !begins {
            self.waiting.push_back(id);
        }
        begins
    }

    /// The next link that waited and may begin its connection now.
    pub(super) fn next(&mut self, now: u64) -> Option<LinkId> {
        let id = *self.waiting.front()?;
        if !self.take_room(id, now) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// The connection of `id` is not fresh any more: it was answered, is gone, or was not begun after all.
    pub(super) fn settled(&mut self, id: LinkId) {
        self.fresh.take_if(|(_, fresh)| *fresh == id);
    }

    /// A connection ended that had come about.
    pub(super) fn ended(&mut self, now: u64) {
        self.ended = self.ended.saturating_add(1);
        self.ended_at = now;
    }

    /// When [`Pace::next`] gives something, `CLOCK_MONOTONIC` ns, if no answer and no end comes before.
    pub(super) fn due(&self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(match self.fresh {
            Some((begun, _)) if self.ended == 0 => begun + MAX_FRESH_NS,
            _ => 0,
        })
    }

    /// Whether a connection may begin now; if so, its place is taken.
    fn take_room(&mut self, id: LinkId, now: u64) -> bool {
        if now >= self.ended_at + REPLACED_NS {
            self.ended = 0;
        }
        if self.ended > 0 {
            self.ended -= 1;
            return true;
        }
        if self.fresh.is_some_and(|(begun, _)| now < begun + MAX_FRESH_NS) {
            return false;
        }
        self.fresh = Some((now, id));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkId, MAX_FRESH_NS, Pace, REPLACED_NS};

    fn id(index: u32) -> LinkId {
        LinkId { index, generation: 7 }
    }

    #[test]
    fn one_connection_at_a_time_is_fresh() {
        let mut pace = Pace::default();
        assert!(pace.begin(id(0), 1_000) && pace.due().is_none());
        assert!(!pace.begin(id(1), 1_000) && !pace.begin(id(2), 1_001) && !pace.begin(id(3), 1_002));
        assert_eq!((pace.next(2_000), pace.due()), (None, Some(1_000 + MAX_FRESH_NS)));
        // An answer lets the next one begin, the clock the one after it.
        pace.settled(id(0));
        assert_eq!((pace.due(), pace.next(2_000), pace.next(2_000)), (Some(0), Some(id(1)), None));
        assert_eq!((pace.due(), pace.next(2_000 + MAX_FRESH_NS)), (Some(2_000 + MAX_FRESH_NS), Some(id(2))));
        // A late answer of one that is not fresh any more says nothing.
        pace.settled(id(1));
        assert_eq!(pace.next(3_000 + MAX_FRESH_NS), None);
        pace.settled(id(2));
        assert_eq!((pace.next(3_000 + MAX_FRESH_NS), pace.due()), (Some(id(3)), None));
    }

    #[test]
    fn whoever_comes_later_waits_behind_those_who_wait() {
        let mut pace = Pace::default();
        assert!(pace.begin(id(0), 0) && !pace.begin(id(1), 0));
        pace.settled(id(0));
        assert!(!pace.begin(id(2), 0));
        assert_eq!(pace.next(0), Some(id(1)));
    }

    #[test]
    fn a_connection_that_ended_is_replaced_at_once_and_not_for_ever() {
        let mut pace = Pace::default();
        assert!(pace.begin(id(0), 0) && !pace.begin(id(1), 0) && !pace.begin(id(2), 0));
        pace.ended(5);
        assert_eq!((pace.due(), pace.next(5), pace.next(5)), (Some(0), Some(id(1)), None));
        pace.ended(6);
        assert_eq!(pace.next(6 + REPLACED_NS), Some(id(2)), "by the clock");
        assert!(!pace.begin(id(3), 6 + REPLACED_NS), "what ended is forgotten");
    }
}
