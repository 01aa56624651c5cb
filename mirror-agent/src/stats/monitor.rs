//! The one handle on a job's numbers for `app`, `api` and the live line.

use std::sync::{Mutex, PoisonError};

use super::rates::{Health, HealthState, History, Rates};
use super::snapshot::{Snapshot, Source};

/// Reads a job's numbers and judges them by the last minute.
pub struct Monitor {
    source: Source,
    history: Mutex<History>,
}

impl Monitor {
    /// Nothing is read yet. The first reading to compare with is the first [`Monitor::tick`].
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, history: Mutex::new(History::default()) }
    }

    /// A reading now, with its health. Changes nothing: any number of readers at any pace.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.source.read();
        snapshot.health = self.judge(&self.lock());
        snapshot
    }

    /// A reading now, taken into the history. The control thread calls this once a second (1 Hz keeps the minute of
    /// health; slower only makes it coarser), and once right after the taps are attached.
    #[must_use]
    pub fn tick(&self) -> (Snapshot, Rates) {
        let mut snapshot = self.source.read();
        let mut history = self.lock();
        let rates = history.tick(&snapshot);
        snapshot.health = self.judge(&history);
        (snapshot, rates)
    }

    /// Why nothing is tapped; none if something is.
    #[must_use]
    pub fn untapped(&self) -> Option<String> {
        let health = self.judge(&self.lock());
        (health.state == HealthState::Pending).then_some(health.reason)
    }

    fn judge(&self, history: &History) -> Health {
        history.health(self.source.taps.feeds(), &self.source.taps.pending())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
