//! What became of a copy: exactly one of these.

use crate::http::AbortReason;

/// Why a copy was given up by the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dropped {
    /// The target's queued bytes are at their limit.
    QueueFull,
    /// The target's unanswered copies are at their limit.
    InFlight,
    /// The target's connections are at their limit.
    Connections,
    /// The target failed a moment ago and is left alone.
    BackOff,
    /// The shard was behind: new copies are refused until it has caught up.
    Overload,
    /// The address of the target is not known.
    Unresolved,
    /// Bytes of the request are missing.
    Gap,
    /// The framing of the request broke in mid-body.
    Malformed,
    /// The client ended the connection in mid-body.
    ClientClosed,
    /// The client never sent the body it announced with `Expect: 100-continue`.
    BodyWithheld,
    /// The client reset its HTTP/2 stream before the end of the request.
    ClientReset,
    /// The client reset its HTTP/2 stream after the request: it did not want the rest of the answer.
    ClientCancelled,
    /// An error of the client's HTTP/2 connection ended it.
    ConnectionError,
    /// Its stream was open and quiet for long when the connection had too many.
    TooManyStreams,
    /// The flow made room for another one, or idled out, in mid-body.
    FlowEvicted,
    /// The agent stopped.
    Shutdown,
}

impl Dropped {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::QueueFull, "queue_full"),
        (Self::InFlight, "in_flight"),
        (Self::Connections, "connections"),
        (Self::BackOff, "back_off"),
        (Self::Overload, "overload"),
        (Self::Unresolved, "unresolved"),
        (Self::Gap, "gap"),
        (Self::Malformed, "malformed"),
        (Self::ClientClosed, "client_closed"),
        (Self::BodyWithheld, "body_withheld"),
        (Self::ClientReset, "client_reset"),
        (Self::ClientCancelled, "client_cancelled"),
        (Self::ConnectionError, "connection_error"),
        (Self::TooManyStreams, "too_many_streams"),
        (Self::FlowEvicted, "flow_evicted"),
        (Self::Shutdown, "shutdown"),
    ];
}

impl From<AbortReason> for Dropped {
    fn from(why: AbortReason) -> Self {
        match why {
            AbortReason::Gap => Self::Gap,
            AbortReason::Closed => Self::ClientClosed,
            AbortReason::BodyWithheld => Self::BodyWithheld,
            AbortReason::ClientReset => Self::ClientReset,
            AbortReason::ConnectionError => Self::ConnectionError,
            AbortReason::TooManyStreams => Self::TooManyStreams,
            // But for the first, these are refused at their head: no copy exists.
            AbortReason::Malformed
            | AbortReason::HeadTooLarge
            | AbortReason::ResetFlood
            | AbortReason::Unsupported => Self::Malformed,
        }
    }
}

/// Why a copy that was tried was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failed {
    /// The target refused the connection.
    Refused,
    /// The target did not answer the connection in time.
    ConnectTimeout,
    /// No route, no local port, or another error of connect.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The target reset the connection.
    Reset,
    /// The target closed the connection before a complete response.
    ClosedEarly,
    /// No response head in time.
    HeadTimeout,
    /// The response (or the taking of the request) stood still for too long.
    IdleTimeout,
    /// What came back is not a response (HTTP/2: an error of protocol, of the stream or the connection).
    BadResponse,
    /// The target does not speak HTTP/2: no SETTINGS frame came first, TLS did not agree on `h2`, or it asked for
    /// HTTP/1.1 by a reset.
    NotH2,
    /// The target reset the stream before a complete response.
    StreamReset,
    /// The target reset the stream without having looked at it (`REFUSED_STREAM`), more than once or where it could not
    /// be sent again.
    RefusedStream,
    /// The target ended the connection by GOAWAY, the copy not being among those it still answers.
    GoAway,
    /// The target allowed no further stream in time (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    NoStream,
}

impl Failed {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Refused, "refused"),
        (Self::ConnectTimeout, "connect_timeout"),
        (Self::Connect, "connect"),
        (Self::Tls, "tls"),
        (Self::Reset, "reset"),
        (Self::ClosedEarly, "closed_early"),
        (Self::HeadTimeout, "head_timeout"),
        (Self::IdleTimeout, "idle_timeout"),
        (Self::BadResponse, "bad_response"),
        (Self::NotH2, "not_h2"),
        (Self::StreamReset, "stream_reset"),
        (Self::RefusedStream, "refused_stream"),
        (Self::GoAway, "go_away"),
        (Self::NoStream, "no_stream"),
    ];
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole copy was written and a complete final response was read, whatever its status.
    Delivered {
        /// Status code.
        status: u16,
    },
    /// It was tried, and the target or the way to it failed.
    Failed {
        /// Why.
        why: Failed,
        /// Some bytes of it were written.
        partial: bool,
    },
    /// The mirror gave it up.
    Dropped {
        /// Why.
        why: Dropped,
        /// Some bytes of it were written.
        partial: bool,
    },
}

/// What happened, for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A copy ended.
    Outcome {
        /// Index of the target.
        shadow: usize,
        /// How.
        outcome: Outcome,
    },
    /// The head of a copy was written and no copy before it waits for its answer.
    Written {
        /// Index of the target.
        shadow: usize,
        /// From the original's head at the tap to this, ns.
        queued_ns: u64,
    },
    /// The first byte of a final response head came.
    Answered {
        /// Index of the target.
        shadow: usize,
        /// Since the copy's head was written, or since the answer before it if it was written by then, ns.
        latency_ns: u64,
    },
    /// A copy is sent once more after a keep-alive race.
    Resent {
        /// Index of the target.
        shadow: usize,
    },
}
