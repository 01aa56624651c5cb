//! Every limit of the flow room, by name.

use super::reorder::PIECE_OVERHEAD;
use super::table;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// Limits of one [`Table`](super::Table), that is of one shard. Times in ns, memory in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows in the table. When it is full the flow without proof that was quiet longest makes room, then a proven one
    /// that was quiet for [`evict_after_ns`](Self::evict_after_ns), else the newcomer is refused
    /// ([`LostReason::TableFull`](super::LostReason::TableFull)). Default 65 536.
    pub flows: u32,
    /// Pieces of segments that may wait behind the holes of one flow. Over it the first hole is given up
    /// ([`GapReason::Memory`](super::GapReason::Memory)). Default 4 096.
    pub segments_out_of_order_per_flow: usize,
    /// Memory for what waits behind the holes of one flow, 128 bytes of overhead for each piece included. Over it
    /// the first hole is given up. Default 6 MiB, the largest window that Linux gives by default (`tcp_rmem`): a sender cannot be further ahead.
    pub out_of_order_bytes_per_flow: usize,
    /// The same for the whole table. Over it the hole that is open longest, of whatever flow, is given up.
    /// Default 8 MiB.
    pub out_of_order_bytes_total: usize,
    /// A hole is given up when bytes waited behind it this long ([`GapReason::Timeout`](super::GapReason::Timeout)).
    /// Default 1 s.
    pub hole_timeout_ns: u64,
    /// How long a hole stays open after the other side acknowledged what is missing
    /// ([`GapReason::Acknowledged`](super::GapReason::Acknowledged)). 0 for a tap, which shows everything in order: what
    /// the primary has and the tap did not show will not come. A capture file may hold a segment behind the
    /// acknowledgement it caused; over 0 the table is *patient*: also a reset waits for holes this long, and what waits
    /// behind one is delivered at the end, not lost. Default 0.
    pub acknowledged_hole_ns: u64,
    /// A flow without any segment for this long is closed ([`Close::Idle`](super::Close::Idle)). Default 300 s.
    pub idle_timeout_ns: u64,
    /// The same for a flow of which one side sent FIN ([`Close::Fin`](super::Close::Fin) if it was the client).
    /// Default 30 s.
    pub half_closed_timeout_ns: u64,
    /// How long a proven flow must have been quiet to make room for a newcomer. Default 10 s.
    pub evict_after_ns: u64,
    /// How far a segment may lie before or after what was delivered. Farther ones are lost
    /// ([`LostReason::OutOfWindow`](super::LostReason::OutOfWindow)) until two in a row, or an acknowledgement, show
    /// that the stream has moved there. Default 16 MiB, at most 1 GiB.
    pub window: u32,
    /// SYNs remembered, in a table of one place per hash: a flood overwrites, and what it overwrote starts as
    /// [`Start::MidStream`](super::Start::MidStream). Rounded up to a power of two. Default 4 096.
    pub syns_remembered: u32,
    /// Closed flows remembered, so that a late retransmission opens no new flow; as
    /// [`syns_remembered`](Self::syns_remembered). Default 16 384: at 10 000 connections a second the most are remembered
    /// for more than a second.
    pub closed_remembered: u32,
    /// How long a closed flow is remembered. Default 10 s.
    pub closed_memory_ns: u64,
    /// How long bytes beyond the end of a reset flow are taken for its rest, not for a new flow
    /// ([`LostReason::Closed`](super::LostReason::Closed)). Default 1 s.
    pub reset_linger_ns: u64,
    /// Mixed into the hash of the table, so that who can choose addresses cannot choose collisions: set it to a random
    /// number. Results do not depend on it. Default 0.
    pub hash_seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 65_536,
            segments_out_of_order_per_flow: 4096,
            out_of_order_bytes_per_flow: 6 << 20,
            out_of_order_bytes_total: 8 << 20,
            hole_timeout_ns: SECOND,
            acknowledged_hole_ns: 0,
            idle_timeout_ns: 300 * SECOND,
            half_closed_timeout_ns: 30 * SECOND,
            evict_after_ns: 10 * SECOND,
            window: 16 << 20,
            syns_remembered: 4_096,
            closed_remembered: 16_384,
            closed_memory_ns: 10 * SECOND,
            reset_linger_ns: SECOND,
            hash_seed: 0,
        }
    }
}

impl Limits {
    /// The defaults, cut to a ceiling of `bytes` for one table whose handler keeps up to `state_bytes` a flow (inline
    /// and on the heap): half of it for flows, half for what waits behind holes. Never more than the defaults, never
    /// fewer than 64 flows and one segment of 64 KiB out of order. With them and 4 096 places for SYNs and as many for
    /// closed flows, the floor is about 600 KiB beside the states.
    #[must_use]
    pub fn for_memory(bytes: usize, state_bytes: usize) -> Self {
        let mut default = Self::default();
        if bytes < 16 << 20 {
            default.closed_remembered = default.syns_remembered;
        }
        let fixed = table::recent_bytes(&default);
        let per_flow = table::FLOW_BYTES + state_bytes;
        let flows = (bytes.saturating_sub(fixed) / 2 / per_flow).clamp(64, default.flows as usize);
        let total = (bytes.saturating_sub(fixed) / 2)
            .clamp((64 << 10) + PIECE_OVERHEAD, default.out_of_order_bytes_total);
        Self {
            flows: u32::try_from(flows).unwrap_or(default.flows),
            out_of_order_bytes_total: total,
            out_of_order_bytes_per_flow: default.out_of_order_bytes_per_flow.min(total),
            ..default
        }
    }
}
