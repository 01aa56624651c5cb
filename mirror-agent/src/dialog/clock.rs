//! The time of a file.

/// The time of the file, made to go forward: files hold packets out of order, and now and then a broken time.
#[derive(Clone, Debug, Default)]
pub struct FileClock {
    now: u64,
    /// A time far ahead that waits for a second packet to agree.
    doubtful: Option<u64>,
}

impl FileClock {
    /// Steps over this are believed when two packets in a row agree, ns.
    const DOUBTFUL_NS: u64 = 3_600_000_000_000;

    /// A packet comes. Gives its time, which is never ahead of the clock: latencies are differences of these.
    #[inline]
    pub fn set(&mut self, time: u64) -> u64 {
        if self.now == 0 || time.saturating_sub(self.now) < Self::DOUBTFUL_NS {
            if time >= self.now {
                self.doubtful = None;
            }
            self.now = self.now.max(time);
        } else if self.doubtful.is_some_and(|doubtful| time.abs_diff(doubtful) < Self::DOUBTFUL_NS) {
            self.now = time;
            self.doubtful = None;
        } else {
            self.doubtful = Some(time);
        }
        time.min(self.now)
    }

    /// The latest time that is believed, 0 before the first packet, ns.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }
}
