//! The lab: network namespaces, real servers, clients that misbehave on demand, and the `mirror` binary between them.
//!
//! A scenario reads as: make a [`World`], start servers in it, start [`Mirror`], send traffic, then [`Scene::finish`],
//! which checks what every scenario must leave behind: the primary answered everything, both laws hold, the logs of
//! both servers agree with the mirror's books.
//!
//! ```text
//! cli --(vcli) node (vpri)-- pri        World::routed(): mirror runs in `node`
//!                   (vsha)-- sha
//! ```
//!
//! Everything lives in namespaces that the lab made, named `mt<pid>-<n>-<role>`; they go when the value that owns them
//! is dropped, also on panic, and what a killed run left behind is removed by the next one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a lab ends its test by a panic; nothing here runs in production"
)]

pub mod client;
pub mod copy;
pub mod dns;
pub mod eventually;
pub mod kernel;
pub mod load;
pub mod mirror;
pub mod netns;
pub mod peers;
pub mod process;
pub mod reviews;
pub mod server;
pub mod stats;
pub mod tcpdump;
pub mod tools;
pub mod wire;
pub mod world;

pub use client::{Conn, Response};
pub use eventually::{eventually, wait_for};
pub use load::{Load, LoadReport};
pub use mirror::Mirror;
pub use netns::Namespace;
pub use process::Process;
pub use server::{Line, Nginx, Reviews};
pub use stats::Stats;
pub use world::{Scene, Tap, World};
