//! What a connection may take, and on whose word.

/// Bounds of the memory of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, bytes. A longer one is counted as [`NotHttp::HeadTooLarge`](super::NotHttp). Taken as at most 16 MiB.
    pub max_head_bytes: u32,
    /// Most field lines of a head; more count as too large.
    pub max_fields: u32,
    /// Most bytes held while it is open whether they are requests (see the module `sync`).
    pub max_held_bytes: u32,
    /// Most requests that wait for the primary's response; the oldest over it is unknown.
    pub max_unanswered: u32,
    /// Most memory of such requests of all connections of a shard, bytes, beyond four a connection: kept by who implements
    /// [`Events::unanswered_memory`](super::Events::unanswered_memory).
    pub unanswered_bytes: u64,
    /// Largest HPACK table that is followed, bytes. An encoder that is allowed and takes more ends the decoding of its
    /// connection.
    pub h2_table_bytes: u32,
    /// Most bytes of the frames of one header block (HEADERS and CONTINUATION), frame headers included. More ends the
    /// decoding of the connection. Taken as at most 16 MiB.
    pub h2_block_bytes: u32,
    /// Largest header list that is read at all, as RFC 7541 counts it. One over it ends the decoding of the connection; one
    /// over `max_head_bytes` or `max_fields` only its own stream.
    pub h2_list_bytes: u32,
    /// Most memory of the HTTP/2 state of all connections of a shard, bytes: kept by who implements
    /// [`Events::h2_memory`](super::Events::h2_memory).
    pub h2_memory_bytes: u64,
    /// The same for the other direction, where it is read: kept by who owns the [`Responses`](super::Responses).
    pub h2_responses_memory_bytes: u64,
    /// Most streams of a connection whose request goes on.
    pub h2_streams: u32,
    /// How long such a stream must be quiet to make room for a new one, ns.
    pub h2_stream_quiet_ns: u64,
    /// Streams that a client may reset in a second; new ones are refused for the rest of it.
    pub h2_resets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 64 << 10,
            max_fields: 256,
            max_held_bytes: 64 << 10,
            max_unanswered: 1024,
            unanswered_bytes: 2 << 20,
            h2_table_bytes: 64 << 10,
            h2_block_bytes: 256 << 10,
            h2_list_bytes: 256 << 10,
            h2_memory_bytes: 8 << 20,
            h2_responses_memory_bytes: 8 << 20,
            h2_streams: 1024,
            h2_stream_quiet_ns: 10_000_000_000,
            h2_resets_per_second: 500,
        }
    }
}

/// What makes the first bytes of a connection that was under way a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pickup {
    /// Only proof, as after a gap (live capture: the bytes may be the middle of an upload).
    Prove,
    /// A strict request line is enough (capture files, which often begin with the request).
    Trust,
}

/// Memory that the connections of a shard share.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    used: i64,
    limit: i64,
}

impl Budget {
    /// Of `limit` bytes, none of them in use.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { used: 0, limit: i64::try_from(limit).unwrap_or(i64::MAX) }
    }

    /// Use changed by `delta` bytes, which is noted in any case. False if it grew over the limit.
    pub fn change(&mut self, delta: i64) -> bool {
        self.used += delta;
        delta < 0 || self.used <= self.limit
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        u64::try_from(self.used).unwrap_or(0)
    }
}

/// The size that was told last of something whose changes are told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastTold(u64);

impl LastTold {
    /// The change to `now`, bytes, which counts as told from here on; `None` if it was told before.
    pub(crate) fn change(&mut self, now: u64) -> Option<i64> {
        let before = std::mem::replace(&mut self.0, now);
        (now != before).then(|| now.cast_signed() - before.cast_signed())
    }

    /// It, bytes.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}
