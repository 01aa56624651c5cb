//! The agent of the traffic mirror: from the tap's rings to the shadow, one straight line.
//!
//! ```text
//! skb -> mirror-ebpf -> [ring, one per shard] -> kernel::ring -> packet -> flow -> http -> plan -> [target queue] -> replay -> stats
//! ```
//!
//! A room imports only rooms that stand before it on that line; `pipeline` puts them in a row, `app` wires and starts
//! them, and nobody imports `app`. `packet`, `flow`, `http` and `plan` are pure: bytes and time come in as arguments,
//! values go out. `cargo xtask lint` checks both rules.

pub mod api;
pub mod app;
pub mod capture;
pub mod cli;
pub mod config;
pub mod dialog;
pub mod flow;
pub mod http;
pub mod kernel;
pub mod packet;
pub mod pipeline;
pub mod plan;
pub mod record;
pub mod replay;
pub mod stats;

#[cfg(test)]
mod testing;
