//! Turns of writing: small copies for one connection gather for a moment, so that one write carries them all and the
//! shadow serves them in one go.

/// Small copies for one connection gather over this many slots of [`GATHER_SLOT_NS`]. One that was quiet for that long writes
/// at once.
pub const GATHER_SLOTS: usize = 16;
/// Length of a slot, ns. Connections take turns, one slot each, so that they do not write all at a time and hold up a core.
pub const GATHER_SLOT_NS: u64 = 250_000;
/// From so many bytes on, a connection does not wait for more to gather.
pub const GATHER_BYTES: u64 = 16 * 1024;

/// Who waits for a turn.
#[derive(Debug)]
pub(super) struct Turns<T> {
    held: [Vec<T>; GATHER_SLOTS],
    /// The slot of time of the last look.
    slot: u64,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self { held: std::array::from_fn(|_| Vec::new()), slot: 0 }
    }

    /// Moves those whose turn has come by `now`, `CLOCK_MONOTONIC` ns, to `due`.
    pub(super) fn advance(&mut self, now: u64, due: &mut Vec<T>) {
        let slot = now / GATHER_SLOT_NS;
        let passed = slot.saturating_sub(self.slot).min(GATHER_SLOTS as u64);
        self.slot = slot;
        for turn in (0..passed).map(|back| turn_of(slot - back)) {
            if let Some(held) = self.held.get_mut(turn) {
                due.append(held);
            }
        }
    }

    /// The slot of time of the last look.
    pub(super) fn slot(&self) -> u64 {
        self.slot
    }

    /// Holds `who`, number `index`, which was written last in slot `written_in` and has `bytes` to write, until its turn
    /// comes; gives it back if it need not wait.
    pub(super) fn hold(&mut self, who: T, index: u32, written_in: u64, bytes: u64) -> Option<T> {
        let turn = turn_of(u64::from(index));
        let waits = turn != turn_of(self.slot)
            && written_in + GATHER_SLOTS as u64 > self.slot
            && bytes < GATHER_BYTES;
        match self.held.get_mut(turn) {
            Some(held) if waits => {
                held.push(who);
                None
            }
            _ => Some(who),
        }
    }

    /// When the next turn comes, `CLOCK_MONOTONIC` ns, if anybody waits for one.
    pub(super) fn next(&self) -> Option<u64> {
        let waits = self.held.iter().any(|turn| !turn.is_empty());
        waits.then_some((self.slot + 1) * GATHER_SLOT_NS)
    }
}

/// Whose turn a slot is.
fn turn_of(slot: u64) -> usize {
    usize::try_from(slot % GATHER_SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{GATHER_BYTES, GATHER_SLOT_NS, GATHER_SLOTS, Turns};

    #[test]
    fn the_busy_wait_for_their_turn_and_the_quiet_and_the_full_do_not() {
        let mut turns = Turns::new();
        let mut due = Vec::new();
        let all = GATHER_SLOTS as u64;
        let now = 100 * all;
        turns.advance(now * GATHER_SLOT_NS, &mut due);
        assert_eq!((due.len(), turns.next()), (0, None));
        // This slot is the turn of number 0, and of each that is so many on.
        assert_eq!(turns.hold("quiet", 1, now - all, 1), Some("quiet"));
        assert_eq!(turns.hold("full", 1, now - 1, GATHER_BYTES), Some("full"));
        assert_eq!(turns.hold("its turn", GATHER_SLOTS as u32, now - 1, 1), Some("its turn"));
        assert_eq!(turns.hold("next", 1, now, 1), None);
        assert_eq!(turns.hold("last", GATHER_SLOTS as u32 - 1, now - all + 1, 1), None);
        assert_eq!(turns.next(), Some((now + 1) * GATHER_SLOT_NS));
        turns.advance((now + 1) * GATHER_SLOT_NS + 5, &mut due);
        assert_eq!(due, ["next"]);
        // Nobody is forgotten when the loop was away for long.
        turns.advance(1000 * all * GATHER_SLOT_NS, &mut due);
        assert_eq!((due, turns.next()), (vec!["next", "last"], None));
    }
}
