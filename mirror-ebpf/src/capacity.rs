//! Sizes: of the records, which BPF must know at compile time, and of the maps.

use mirror_common::map::{MAX_OWN_ENDPOINTS, MAX_PRIMARIES};
use mirror_common::record::MAX_CAPTURE;

/// Payload capacities of records with payload. A segment takes the smallest that holds it. Close together where requests
/// are (heads of 100 to 1100 bytes, one MSS of 1448), wider apart above; 512 bytes over a power of two leave room for a
/// head before a body of that size.
pub const CLASSES: [usize; 20] = [
    128,
    256,
    384,
    512,
    768,
    1024,
    1280,
    1536,
    2048,
    3072,
    4096 + 512,
    6144,
    8192 + 512,
    12_288,
    16_384 + 512,
    24_576,
    32_768 + 512,
    40_960,
    49_152,
    MAX_CAPTURE,
];

/// The most records one segment becomes: a BIG TCP segment has at most 8 * 65535 bytes.
pub const MAX_RECORDS: usize = 9;

/// Entries of `PRIMARIES`: each endpoint, and each address once more with port 0; twice, because new ones are put in before
/// old ones are taken out.
pub const PRIMARIES: usize = 4 * MAX_PRIMARIES as usize;

/// Entries of `OWN`.
pub const OWN: usize = MAX_OWN_ENDPOINTS as usize;

#[cfg(test)]
mod tests {
    use super::{CLASSES, MAX_RECORDS, OWN, PRIMARIES};
    use crate::witness::{BUCKETS, Bucket};
    use mirror_common::counter::{JobCounters, TapCounters};
    use mirror_common::map::{Endpoint, MAX_JOBS, MAX_SHARDS, PortBitmap, Primary, ShardState};
    use mirror_common::record::MAX_CAPTURE;

    #[test]
    fn classes_rise_and_waste_little() {
        assert!(CLASSES.is_sorted());
        assert_eq!(CLASSES[CLASSES.len() - 1], MAX_CAPTURE);
        for pair in CLASSES.windows(2) {
            assert!(pair[1] <= 2 * pair[0], "{pair:?}: over half of a record would be waste");
        }
        const { assert!(MAX_RECORDS * MAX_CAPTURE >= 8 * 65_535) };
    }

    #[test]
    fn maps_without_rings_stay_below_their_memory_budget() {
        // The kernel's hash table element: 48 bytes before the key, key and value rounded up to 8; a bucket has 16.
        let hash = |entries: usize, value: usize| {
            let entry = 48 + size_of::<Endpoint>().next_multiple_of(8) + value.next_multiple_of(8);
            entries * entry + entries.next_power_of_two() * 16
        };
        let cpus = 256;
        let shared = hash(PRIMARIES, size_of::<Primary>())
            + hash(OWN, 1)
            + 2 * size_of::<PortBitmap>()
            + usize::from(MAX_SHARDS) * size_of::<ShardState>()
            + BUCKETS * size_of::<Bucket>();
        let per_cpu = size_of::<TapCounters>() + MAX_JOBS * size_of::<JobCounters>();
        assert!(shared < 9 << 20, "{shared}");
        assert!(cpus * per_cpu < 1 << 20, "{per_cpu}");
    }
}
