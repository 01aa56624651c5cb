//! How the ceiling of `--memory` is shared out: rings, queues towards shadows, reassembly, flow tables.

use crate::config::shared_memory;
use crate::http;

/// Bytes for each room, for one shard where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Data area of each shard's ring: a power of two.
    pub(super) ring: u32,
    /// Flow table with its decoders and the segments that wait behind holes, each shard.
    pub(super) flows: usize,
}

impl Memory {
    /// Of what is shared out, a quarter for the rings, a quarter for flows and what waits behind their holes. A quarter is the
    /// queues' (`config` splits it over the shadows).
    pub(super) fn plan(memory: u64, ring: u32, shards: u16) -> Self {
        let flows = shared_memory(memory) / 4 / u64::from(shards.max(1));
        Self { ring, flows: usize::try_from(flows).unwrap_or(usize::MAX) }
    }

    /// Beside the flows: what the decoders of a shard may take together.
    pub(super) fn http(&self) -> http::Limits {
        http::Limits {
            h2_memory_bytes: self.flows as u64 / 4,
            unanswered_bytes: self.flows as u64 / 16,
            ..http::Limits::default()
        }
    }
}
