//! The tap's programs in the real kernel, fed with frames made by hand (`BPF_PROG_TEST_RUN`).
//!
//! Needs root and the real BPF program, so it is behind a feature:
//! `MIRROR_BPF=build cargo test -p mirror-agent --features kernel-tests --test tap`. Without root or the program it fails and
//! says which is missing.
#![cfg(feature = "kernel-tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod bench;
mod frame;
mod load;
mod loss;
mod select;
mod shapes;
mod speed;
mod traffic;
