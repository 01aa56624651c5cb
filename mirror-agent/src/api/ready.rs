//! Readiness as values: who must be waited for holds a [`Blocker`], and dropping it says "done".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What start-up still waits for. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    pending: BTreeMap<u64, String>,
}

impl Ready {
    /// Nothing is waited for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the returned value is dropped. `what` is shown meanwhile (`shard 0 runs`).
    #[must_use = "dropping it at once says that it is done"]
    pub fn wait_for(&self, what: impl Into<String>) -> Blocker {
        let mut list = self.lock();
        let id = list.next;
        list.next += 1;
        list.pending.insert(id, what.into());
        Blocker { id, ready: self.clone() }
    }

    /// What is waited for, in the order it was asked for; empty when ready.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.lock().pending.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that start-up waits for; done when dropped.
#[derive(Debug)]
pub struct Blocker {
    id: u64,
    ready: Ready,
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.ready.lock().pending.remove(&self.id);
    }
}
