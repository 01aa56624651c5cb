//! When what stands in a file is due. Pure.

use std::num::NonZeroU32;

/// How fast a file goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the slowest shadow takes it.
    Max,
    /// So many thousandths of the pace in which it was captured.
    Thousandths(NonZeroU32),
}

/// Places the times of a file on our own clock.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    pace: Pace,
    /// A time of the file, and ours that it stands for; ns.
    anchor: Option<(u64, u64)>,
}

impl Timeline {
    /// A file that has not begun.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, anchor: None }
    }

    /// What comes next has nothing to do with what came before: it is due when it comes.
    pub fn restart(&mut self) {
        self.anchor = None;
    }

    /// When what stands at `file` in the file is due on our clock, which shows `now`; ns. The first that is asked for is due
    /// now.
    pub fn due(&mut self, file: u64, now: u64) -> u64 {
        if self.anchor.is_none() && file > 0 {
            self.anchor = Some((file, now));
        }
        self.at(file, now)
    }

    /// The same for what was in time or is late.
    #[must_use]
    pub fn at(&self, file: u64, now: u64) -> u64 {
        let (Pace::Thousandths(speed), Some((from, ours))) = (self.pace, self.anchor) else { return now };
        let scaled = |ns: u64| {
            let ns = u128::from(ns) * 1000 / u128::from(speed.get());
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        if file >= from {
            ours.saturating_add(scaled(file - from))
        } else {
            ours.saturating_sub(scaled(from - file))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Pace, Timeline};

    const S: u64 = 1_000_000_000;

    fn at(thousandths: u32) -> Timeline {
        Timeline::new(Pace::Thousandths(thousandths.try_into().unwrap()))
    }

    #[test]
    fn distances_are_those_of_the_file_divided_by_the_speed() {
        for (speed, distance) in [(1000, 10 * S), (2000, 5 * S), (500, 20 * S), (3000, 3_333_333_333)] {
            let mut line = at(speed);
            assert_eq!(line.due(1_000 * S, 7 * S), 7 * S, "the first is due at once");
            assert_eq!(line.due(1_010 * S, 8 * S), 7 * S + distance);
            // However late it is asked for.
            assert_eq!(line.due(1_010 * S, 900 * S), 7 * S + distance);
            // What was captured before the first, and stands behind it.
            assert_eq!(line.at(1_000 * S - 1000, 8 * S), 7 * S - 1_000_000 / u64::from(speed));
        }
    }

    #[test]
    fn a_capture_that_begins_anew_is_due_when_it_comes() {
        let mut line = at(1000);
        line.due(1_000 * S, S);
        line.restart();
        assert_eq!(line.due(3 * S, 50 * S), 50 * S);
        assert_eq!(line.due(4 * S, 50 * S), 51 * S);
    }

    #[test]
    fn at_the_highest_pace_everything_is_due_now() {
        let mut line = Timeline::new(Pace::Max);
        assert_eq!([line.due(5, 9), line.due(5_000 * S, 10), line.at(1, 11)], [9, 10, 11]);
    }

    #[test]
    fn a_first_packet_without_a_time_does_not_set_the_beginning() {
        let mut line = at(1000);
        assert_eq!(line.due(0, S), S);
        assert_eq!(line.due(1_700_000_000 * S, 2 * S), 2 * S);
    }

    proptest! {
        /// Rounding does not add up: each time is placed by its distance from the beginning.
        #[test]
        fn no_time_is_off_by_more_than_a_nanosecond(
            speed in 1_u32..=1_000_000, steps in prop::collection::vec(0_u64..10 * S, 1..100)
        ) {
            let mut line = at(speed);
            let (begin, mut file) = (1_700_000_000 * S, 1_700_000_000 * S);
            line.due(begin, 0);
            let mut last = 0;
            for step in steps {
                file += step;
                let due = line.due(file, 0);
                let exact = u128::from(file - begin) * 1000;
                let back = u128::from(due) * u128::from(speed);
                prop_assert!(back <= exact && exact - back < u128::from(speed));
                prop_assert!(due >= last, "never backwards");
                last = due;
            }
        }
    }
}
