//! What connections may keep waiting.

/// Limits of [`Dialogs`](super::Dialogs), beside those of the flow table and of each connection.
#[derive(Clone, Debug)]
pub struct DialogLimits {
    /// Response bytes of one connection that may wait for requests they answer. Over it the hole in the requests is given
    /// up. Default 1 MiB.
    pub held_bytes_per_connection: usize,
    /// The same for all connections together. Default 32 MiB.
    pub held_bytes_total: usize,
    /// Requests of one connection that may wait for their response; the oldest over it stays without. Default 1 024.
    pub unanswered: usize,
    /// The same for all connections together; over it a connection that asks keeps only its last four. Default
    /// 1,048,576.
    pub unanswered_total: usize,
    /// Bytes that the decoders of all connections may hold: heads that come in pieces, bytes that are not proved to be
    /// requests. The connection that goes over it gives up its unfinished head. Default 64 MiB.
    pub heads_total: usize,
    /// SYNs remembered to tell who opened a connection, one place for each hash. Default 131 072.
    pub syns: u32,
}

impl Default for DialogLimits {
    fn default() -> Self {
        Self {
            held_bytes_per_connection: 1 << 20,
            held_bytes_total: 32 << 20,
            unanswered: 1_024,
            unanswered_total: 1 << 20,
            heads_total: 64 << 20,
            syns: 131_072,
        }
    }
}
