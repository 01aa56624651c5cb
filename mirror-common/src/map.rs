//! Keys and values of the BPF maps.

use core::mem::size_of;

/// Jobs that one agent can hold at a time; a job is a slot below this number.
pub const MAX_JOBS: usize = 64;
/// Shards, each with a ring of its own.
pub const MAX_SHARDS: u16 = 64;
/// Largest data area of a ring, bytes. Rings are powers of two.
pub const MAX_RING_BYTES: u32 = 256 << 20;
/// Smallest data area of a ring, bytes. It has no room for the largest record.
pub const RING_FLOOR_BYTES: u32 = 64 << 10;
/// Primary endpoints over all jobs.
pub const MAX_PRIMARIES: u32 = 4096;
/// Local endpoints of the agent's own replays that are excluded at a time.
pub const MAX_OWN_ENDPOINTS: u32 = 65_536;
/// Response heads that the witness remembers, to count each once.
pub const MAX_REMEMBERED_HEADS: usize = 131_072;

/// An address and port, the key of `PRIMARIES` and `OWN`. IPv4 is IPv4-mapped IPv6; the all-zero address in
/// `PRIMARIES` stands for any address. `PRIMARIES` also holds each address once with port 0, so that a fragment, which
/// carries no ports, is counted if it may be of a primary.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address, network order.
    pub addr: [u8; 16],
    /// Port, host order.
    pub port: u16,
    /// Always 0: hash maps compare every byte of a key.
    pub reserved: [u8; 2],
}

/// Value of `PRIMARIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Primary {
    /// Slot of the job.
    pub job: u16,
    /// Always 0.
    pub reserved: [u8; 6],
}

/// One bit a port: looked at before any hash map, so that an unmatched packet costs one load.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBitmap {
    /// Bit `port % 64` of word `port / 64`.
    pub words: [u64; 1024],
}

impl PortBitmap {
    /// A bitmap with no bit set.
    pub const EMPTY: Self = Self { words: [0; 1024] };

    /// Sets the bit of `port`.
    pub const fn set(&mut self, port: u16) {
        self.words[(port >> 6) as usize] |= 1 << (port & 63);
    }

    /// Whether the bit of `port` is set.
    #[must_use]
    pub const fn has(&self, port: u16) -> bool {
        self.words[(port >> 6) as usize] & (1 << (port & 63)) != 0
    }
}

/// The single value of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapConfig {
    /// Shards in use, 1 to [`MAX_SHARDS`].
    pub shards: u32,
    /// Seed of the flow hash.
    pub seed: u32,
    /// Bytes of one ring's data area.
    pub ring_bytes: u32,
    /// 1: the program does nothing when `HEARTBEAT` is over [`HEARTBEAT_LIMIT_NS`] old (clsact, which outlives the agent).
    pub needs_heartbeat: u32,
}

/// Age of the agent's heartbeat at which a clsact filter goes inert, ns.
pub const HEARTBEAT_LIMIT_NS: u64 = 1_000_000_000;

/// One value of the memory-mapped `SHARDS` array: how reader and tap talk about sleep.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    /// 1 while the reader sleeps without a timer: the next record wakes it and sets this back to 0.
    pub asleep: u32,
    /// 1 after the tap woke the reader because the ring was over half full; the reader sets it back to 0 as it drains.
    pub pressed: u32,
    /// Always 0: one state a cache line.
    pub reserved: [u32; 14],
}

const _: () = {
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<Primary>() == 8);
    assert!(size_of::<PortBitmap>() == 8192);
    assert!(size_of::<TapConfig>() == 16);
    assert!(size_of::<ShardState>() == 64);
};

#[cfg(test)]
mod tests {
    use super::PortBitmap;

    #[test]
    fn a_port_sets_its_own_bit_only() {
        let mut map = PortBitmap::EMPTY;
        for port in [0, 63, 64, 8080, 65535] {
            assert!(!map.has(port));
            map.set(port);
            assert!(map.has(port));
        }
        assert_eq!(map.words.iter().map(|w| w.count_ones()).sum::<u32>(), 5);
    }
}
