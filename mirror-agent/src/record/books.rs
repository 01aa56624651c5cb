//! The books of a shard.

use crate::stats::ledger::Counter;

/// Why a payload byte of a request's direction is not on the disk as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOut {
    /// `--headers-only`: a body, a message of a tunnel, the payload of a DATA frame.
    HeadersOnly,
    /// `--redact`: an `x` stands in its place.
    Redacted,
    /// `--redact`: a body that may be a request after all, because its client asked to be told to go on and was not.
    Unsure,
    /// HTTP/2 whose header blocks cannot be redacted, or that cannot be read.
    Http2,
    /// Not HTTP, not any more, or malformed.
    NotHttp,
    /// Before the first request that is proved to be one, or between a gap and the next one.
    Unproved,
    /// Of a request that was given up: after a gap in its body, or at the end of its connection.
    Incomplete,
    /// Sent again.
    Duplicate,
    /// No place in the flow table, or too late or too far away to belong to a stream.
    Reassembly,
    /// The disk did not take it.
    Disk,
    /// The time to end was over.
    Shutdown,
}

impl LeftOut {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::HeadersOnly, "headers_only"),
        (Self::Redacted, "redacted"),
        (Self::Unsure, "unsure"),
        (Self::Http2, "http2"),
        (Self::NotHttp, "not_http"),
        (Self::Unproved, "unproved"),
        (Self::Incomplete, "incomplete"),
        (Self::Duplicate, "duplicate"),
        (Self::Reassembly, "reassembly"),
        (Self::Disk, "disk"),
        (Self::Shutdown, "shutdown"),
    ];
}

/// Raised by one shard, read by anyone.
#[derive(Debug, Default)]
pub struct Books {
    /// Records of the ring.
    pub segments: Counter,
    /// Of these, beginnings of answers.
    pub answers: Counter,
    /// Entries of the ring that are no records.
    pub bad_records: Counter,
    /// Payload bytes of the request direction in files.
    pub written: Counter,
    /// The others that were read from the ring, by [`LeftOut`].
    pub left_out: [Counter; LeftOut::ALL.len()],
    /// Bytes that wait for a decision; 0 at rest.
    pub buffered: Counter,
}
