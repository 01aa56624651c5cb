//! The laws of the counters, and what is exported of them.
//!
//! [`ledger`] is raised by the shards; [`snapshot`] reads all ledgers of a job and the kernel's counters at one moment;
//! [`laws`] checks such a reading; [`rates`] keeps the last minute of readings and judges health; [`export`] writes
//! Prometheus text. [`Monitor`] is the one handle that `app`, `api` and the live line share.

pub mod export;
#[cfg(test)]
pub(crate) mod fixture;
pub mod laws;
pub mod ledger;
mod monitor;
pub mod rates;
pub mod snapshot;

pub use laws::{Law, LawBreak};
pub use monitor::Monitor;
pub use rates::{Health, HealthState, Rates};
pub use snapshot::{KernelCounters, ShadowLabel, Snapshot, Source, TapInfo, Taps};
