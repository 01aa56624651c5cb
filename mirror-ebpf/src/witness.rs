//! The witness's memory: which final response heads were counted already.
//!
//! A response passes two taps where both ends of a veth are tapped, and TCP sends it again when it was lost. It is one
//! response all the same, so the tap remembers the last heads by flow hash and sequence number. Only what was counted is ever
//! remembered: a head that was not seen before is counted, whatever else happens. One that comes again after it was forgotten
//! is counted twice.
//!
//! The flow alone chooses the bucket. So other connections, however many, do not push out the heads of one that has a bucket
//! for itself; and a bucket has room for several heads that are under way at once (pipelining).

use core::sync::atomic::AtomicU64;

use mirror_common::map::MAX_REMEMBERED_HEADS;

/// Heads that one bucket remembers: a cache line.
pub const HEADS: usize = 8;
/// Entries of the map.
pub const BUCKETS: usize = MAX_REMEMBERED_HEADS / HEADS;

/// Heads of the connections that share a bucket, the newest first; 0 is none.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Bucket([AtomicU64; HEADS]);

/// Bucket of a flow. Its shard is made of the hash's upper bits, so the lower ones are taken.
#[inline(always)]
#[must_use]
pub const fn bucket(hash: u32) -> u32 {
    hash % BUCKETS as u32
}

/// Whether the head at `seq` of a flow is seen for the first time. From then on it is remembered, and the oldest one of the bucket
/// is not.
///
/// Two heads are taken for one if hash and number are alike: of one connection that is one head. A port that is used again
/// comes to the number of a head that is still remembered in one of 2^32 cases, and two flows with one hash hardly ever.
///
/// CPUs may meet in a bucket. With one head at a time: each exchanges it into the first place, and the second gets back what the
/// first put there. With several heads: each moves on what it read, so one may be forgotten early, and counted again if it comes
/// again. Nothing here waits.
#[inline(always)]
#[must_use]
pub fn is_first(bucket: &Bucket, hash: u32, seq: u32) -> bool {
    let head = (hash as u64) << 32 | seq as u64;
    // 0 is none. The number taken for it lies one byte on, where the same flow has no second head.
    let head = if head == 0 { 1 } else { head };
    let [p0, p1, p2, p3, p4, p5, p6, p7] = &bucket.0;
    // Spelled out: every place at a fixed offset, for the verifier, and nothing in a loop.
    let [h0, h1, h2, h3] = [word::get(p0), word::get(p1), word::get(p2), word::get(p3)];
    let [h4, h5, h6, h7] = [word::get(p4), word::get(p5), word::get(p6), word::get(p7)];
    if h0 == head
        || h1 == head
        || h2 == head
        || h3 == head
        || h4 == head
        || h5 == head
        || h6 == head
        || h7 == head
    {
        return false;
    }
    let h0 = word::exchange(p0, head);
    if h0 == head {
        return false;
    }
    word::set(p1, h0);
    word::set(p2, h1);
    word::set(p3, h2);
    word::set(p4, h3);
    word::set(p5, h4);
    word::set(p6, h5);
    word::set(p7, h6);
    true
}

/// Words that CPUs share. BPF reads and writes a word whole; its compiler knows no relaxed atomics, and the language knows no
/// exchange for it, though kernels have had one since 5.12.
#[cfg(target_arch = "bpf")]
#[allow(unsafe_code, reason = "instructions that have no safe name here")]
mod word {
    use super::AtomicU64;

    #[inline(always)]
    pub(super) fn get(word: &AtomicU64) -> u64 {
        // SAFETY: an aligned word that is borrowed.
        unsafe { word.as_ptr().read_volatile() }
    }

    #[inline(always)]
    pub(super) fn set(word: &AtomicU64, value: u64) {
        // SAFETY: as above.
        unsafe { word.as_ptr().write_volatile(value) };
    }

    #[inline(always)]
    pub(super) fn exchange(word: &AtomicU64, value: u64) -> u64 {
        let mut value = value;
        // SAFETY: as above; of registers only the one that is named is written.
        unsafe {
            core::arch::asm!(
                "{value} = xchg_64({word} + 0, {value})",
                word = in(reg) word.as_ptr(),
                value = inout(reg) value,
            );
        }
        value
    }
}

#[cfg(not(target_arch = "bpf"))]
mod word {
    use super::AtomicU64;
    use core::sync::atomic::Ordering::Relaxed;

    pub(super) fn get(word: &AtomicU64) -> u64 {
        word.load(Relaxed)
    }

    pub(super) fn set(word: &AtomicU64, value: u64) {
        word.store(value, Relaxed);
    }

    pub(super) fn exchange(word: &AtomicU64, value: u64) -> u64 {
        word.swap(value, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_head_is_first_once() {
        let bucket = Bucket::default();
        for (hash, seq) in [(7, 1000), (7, 1001), (8, 1000), (u32::MAX, u32::MAX), (0, 0), (0, 1 << 31)] {
            assert!(is_first(&bucket, hash, seq), "{hash} {seq}");
            assert!(!is_first(&bucket, hash, seq), "{hash} {seq}");
        }
        assert!(!is_first(&bucket, 7, 1000), "all of them have room");
    }

    #[test]
    fn as_many_heads_as_a_bucket_holds_may_be_under_way() {
        let bucket = Bucket::default();
        let all: Vec<u32> = (0..HEADS as u32).map(|n| n * 500).collect();
        assert!(all.iter().all(|seq| is_first(&bucket, 7, *seq)));
        assert!(all.iter().all(|seq| !is_first(&bucket, 7, *seq)));
        assert!(is_first(&bucket, 7, 1 << 20));
        assert!(is_first(&bucket, 7, 0), "the oldest made room");
        assert!(!is_first(&bucket, 7, 1 << 20));
    }

    #[test]
    fn it_is_a_queue_of_the_last_heads() {
        let bucket = Bucket::default();
        let mut model = VecDeque::new();
        let mut x = 88_172_645_463_325_252_u64;
        for _ in 0..100_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let (hash, seq) = ((x % 3) as u32, (x >> 32) as u32 % 9);
            // 0 is kept as 1, which no flow has beside it.
            let key = (hash, if (hash, seq) == (0, 0) { 1 } else { seq });
            let first = !model.contains(&key);
            if first {
                model.push_front(key);
                model.truncate(HEADS);
            }
            assert_eq!(is_first(&bucket, hash, seq), first);
        }
    }

    #[test]
    fn a_head_that_two_cpus_see_at_once_is_first_on_one_and_a_new_one_always() {
        let bucket = Bucket::default();
        let start = Barrier::new(2);
        let firsts = AtomicUsize::new(0);
        const ROUNDS: u32 = 20_000;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for seq in 1..=ROUNDS {
                        start.wait();
                        firsts.fetch_add(usize::from(is_first(&bucket, 7, seq)), Relaxed);
                    }
                });
            }
        });
        assert_eq!(firsts.into_inner(), ROUNDS as usize);

        // And none is lost, whoever else is at work in the bucket.
        std::thread::scope(|scope| {
            for hash in 0..4 {
                let bucket = &bucket;
                scope.spawn(move || {
                    for seq in 1 << 20..(1 << 20) + 100_000 {
                        assert!(is_first(bucket, hash, seq), "{hash} {seq}");
                    }
                });
            }
        });
    }

    #[test]
    fn neighbouring_client_ports_spread_over_the_buckets() {
        let primary = ([0, 0, 0xffff_0000, 0x0a00_0001], 80);
        let flows = 2000;
        let used: BTreeSet<u32> = (0..flows)
            .map(|n| crate::hash::flow(([0, 0, 0xffff_0000, 0x0a00_0007], 32_768 + 2 * n), primary, 1))
            .map(bucket)
            .collect();
        assert!(used.iter().all(|bucket| (*bucket as usize) < BUCKETS));
        // 2000 balls in 16,384 urns: 1882 urns are used, give or take 11.
        assert!(used.len() > 1800, "{}", used.len());
    }
}
