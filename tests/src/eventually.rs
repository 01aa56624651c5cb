//! Bounded waiting: a condition is polled until it holds or the patience is over. No scenario sleeps for a fixed time
//! and hopes.

use std::time::{Duration, Instant};

/// Time between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value; `None` when `patience` is over.
pub fn wait_for<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(STEP);
    }
}

/// Polls `holds` until it is true. Panics, naming `what`, when `patience` is over.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let held = wait_for(patience, || holds().then_some(()));
    assert!(held.is_some(), "not within {patience:?}: {what}");
}
