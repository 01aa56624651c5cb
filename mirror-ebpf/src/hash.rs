//! The symmetric flow hash: both directions of a connection get the same number, and so the same shard.

/// One end of a connection as the tap reads it: the address as it lies in memory, and the port.
pub type End = ([u32; 4], u16);

/// Hash of the connection between `a` and `b`, whichever way round they are given.
#[inline(always)]
#[must_use]
pub fn flow(a: End, b: End, seed: u32) -> u32 {
    let sum = spread(a, seed).wrapping_add(spread(b, seed));
    // The addition leaves the low bits weakest; the last multiplication lifts all of them into the half that is kept.
    ((sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Shard of a flow hash: scaled, not taken modulo, so that no division is needed.
#[inline(always)]
#[must_use]
pub fn shard(hash: u32, shards: u32) -> u32 {
    ((hash as u64 * shards as u64) >> 32) as u32
}

/// One end as 64 well mixed bits: odd multipliers with a fold after each, as in the known 64-bit finalisers.
#[inline(always)]
fn spread((addr, port): End, seed: u32) -> u64 {
    let low = addr[0] as u64 | (addr[1] as u64) << 32;
    let high = addr[2] as u64 | (addr[3] as u64) << 32;
    let mut x = (low ^ seed as u64 ^ ((port as u64) << 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 31;
    x = (x ^ high).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 29)
}

#[cfg(test)]
mod tests {
    use super::{End, flow, shard};

    fn v4(last: u32) -> [u32; 4] {
        [0, 0, 0xffff_0000, 0x0a00_0000 | last]
    }

    #[test]
    fn both_directions_hash_alike_and_other_flows_do_not() {
        let client: End = (v4(7), 40_000);
        let primary: End = (v4(1), 80);
        assert_eq!(flow(client, primary, 1), flow(primary, client, 1));
        assert_ne!(flow(client, primary, 1), flow(client, primary, 2), "the seed counts");
        assert_ne!(flow((v4(7), 40_001), primary, 1), flow(client, primary, 1));
        // Ports exchanged between the ends make another connection.
        assert_ne!(flow((v4(7), 80), (v4(1), 40_000), 1), flow(client, primary, 1));
    }

    #[test]
    fn neighbouring_client_ports_spread_evenly_over_the_shards() {
        for shards in [2, 3, 8, 64] {
            let mut seen = vec![0_u32; shards as usize];
            let flows = 1000 * shards;
            for n in 0..flows {
                // Linux hands out even ports to connect() first: the step of 2 is the hard case.
                let port = u16::try_from(2 * n % 28_232 + 32_768).unwrap();
                let hash = flow((v4(n / 14_000 + 7), port), (v4(1), 80), 0xdead_beef);
                seen[shard(hash, shards) as usize] += 1;
            }
            // 1000 expected in each, standard deviation about 32.
            assert!(seen.iter().all(|n| (840..1160).contains(n)), "{shards} shards: {seen:?}");
        }
    }

    #[test]
    fn a_shard_number_is_always_below_the_count() {
        for shards in 1..=64 {
            assert_eq!(shard(0, shards), 0);
            assert_eq!(shard(u32::MAX, shards), shards - 1);
        }
    }
}
