//! Copies of HTTP/2 requests: a connection to the shadow for each client connection, and a stream for each stream.
//!
//! [`mux`] knows the protocol and does no I/O, [`wire`] is a socket that never blocks, and [`H2Replayer::flush`] turns to the
//! connections that have something to do, once a round. A connection is given only what its socket and flow control take:
//! the rest waits in the copy, booked with the target.
//!
//! Calls are those of [`super::Replayer`], and every copy that was begun ends in exactly one [`Report::Outcome`] too.

mod conn;
mod copy;
mod head;
mod mux;
mod replayer;
mod wire;

#[cfg(test)]
mod tests;

use super::{LinkId, Report};

pub use copy::MAX_RETAINED_BODY_BYTES;
pub use mux::{MAX_REPLY_BLOCK_BYTES, MAX_REPLY_FIELDS_BYTES};
pub use replayer::{CONNECTION_BYTES, H2_TOKENS, H2Replayer, MAX_UNKNOWN_BODY_RESERVE_BYTES};

/// Where a client connection keeps its link to one shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct H2Slot(Option<LinkId>);

/// A copy that was begun; stale ids are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2Copy {
    index: u32,
    generation: u32,
}

/// What [`H2Replayer::begin`] must know of a copy.
#[derive(Clone, Copy, Debug)]
pub struct H2Start {
    /// Index of the target.
    pub shadow: usize,
    /// The client connection, as [`H2Replayer::new_client`] named it.
    pub client: u64,
    /// The stream there.
    pub stream: u32,
    /// Sending it twice does no harm.
    pub idempotent: bool,
    /// Nothing follows the head.
    pub end_stream: bool,
    /// `content-length`.
    pub content_length: Option<u64>,
    /// Kernel time of the original's head, `CLOCK_MONOTONIC` ns.
    pub head_time: u64,
}

/// What happened, for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Report {
    /// What happens to copies of HTTP/1 too.
    Copy(Report),
    /// The answer to a copy that is delivered says by `grpc-status` that the call failed.
    GrpcFailed {
        /// Index of the target.
        shadow: usize,
    },
    /// A copy has to wait until the shadow allows another stream.
    Waited {
        /// Index of the target.
        shadow: usize,
    },
}
