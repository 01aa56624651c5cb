//! The root of the package of fuzz targets (`mirror-agent/fuzz`): the rooms that take bytes apart, and what must hold for
//! them whatever bytes come.
//!
//! They are compiled here without the rest of the agent: with the sanitizer, the two hundred crates below it would be built
//! for the sake of five rooms. That they compile alone shows that they are pure.
//!
//! A target fails by a panic: of a decoder, of the books of the tests, or of a check of its own.

pub mod capture;
pub mod dialog;
pub mod flow;
pub mod http;
pub mod packet;

#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_sign_loss,
    reason = "written for the tests of the rooms, which use all of it and fail by panic"
)]
mod testing;

#[allow(clippy::unwrap_used, clippy::panic, reason = "a target fails by panic")]
#[path = "../fuzz/src/targets.rs"]
pub mod targets;
