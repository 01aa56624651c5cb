//! The maps, and the words the loader sets. Capacities and their memory are in [`mirror_ebpf::capacity`].

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use mirror_common::counter::{JobCounters, TapCounter, TapCounters};
use mirror_common::map::{Endpoint, MAX_JOBS, MAX_SHARDS, PortBitmap, Primary, ShardState, TapConfig};
use mirror_ebpf::{capacity, witness};

/// Set by the loader in read-only memory: the verifier knows the values, and removes branches that they rule out.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Global<TapConfig> =
    Global::new(TapConfig { shards: 1, seed: 0, ring_bytes: 0, needs_heartbeat: 0 });

/// One bit a port of any primary.
#[btf_map]
pub(crate) static PORTS: Array<PortBitmap, 1> = Array::new();

/// One bit a port that is watched on any address.
#[btf_map]
pub(crate) static WILDCARDS: Array<PortBitmap, 1> = Array::new();

/// Primary endpoints, keyed as [`Endpoint`].
#[btf_map]
pub(crate) static PRIMARIES: HashMap<Key, Primary, { capacity::PRIMARIES }> = HashMap::new();

/// Local endpoints of the agent's own replays, keyed as [`Endpoint`].
#[btf_map]
pub(crate) static OWN: HashMap<Key, u8, { capacity::OWN }, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The shards' rings. The size here is of the template only; the loader makes the real ones.
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<Ring, { MAX_SHARDS as usize }> = ArrayOfMaps::new();

/// How reader and tap talk about sleep, one state a shard.
#[btf_map]
pub(crate) static SHARDS: Array<ShardState, { MAX_SHARDS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// `CLOCK_MONOTONIC` of the agent's last sign of life, ns.
#[btf_map]
pub(crate) static HEARTBEAT: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The response heads that were counted last. Mapped by nobody: the flag lays buckets on cache lines.
#[btf_map]
pub(crate) static WITNESS: Array<witness::Bucket, { witness::BUCKETS }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map]
static TAP_COUNTERS: PerCpuArray<TapCounters, 1> = PerCpuArray::new();

#[btf_map]
static JOB_COUNTERS: PerCpuArray<JobCounters, MAX_JOBS> = PerCpuArray::new();

/// A shard's ring.
pub(crate) type Ring = RingBuf<u64, 4096>;

/// [`Endpoint`] with its address in words: written and compared by the word, the same bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// Address in network order, as it lies in memory.
    pub(crate) addr: [u32; 4],
    /// Port, host order.
    pub(crate) port: u16,
    /// Always 0.
    pub(crate) reserved: u16,
}

const _: () = {
    assert!(size_of::<Key>() == size_of::<Endpoint>());
    assert!(core::mem::offset_of!(Key, port) == core::mem::offset_of!(Endpoint, port));
};

/// Raises a counter of the tap.
#[inline(always)]
pub(crate) fn count(counter: TapCounter) {
    // Behind the barrier the compiler cannot drop the check below: the verifier needs it.
    let index = core::hint::black_box(counter as usize);
    if let Some(counters) = tap_counters()
        && let Some(value) = counters.values.get_mut(index)
    {
        *value += 1;
    }
}

/// This CPU's counters of the tap. There always are some; the verifier wants it checked.
#[inline(always)]
pub(crate) fn tap_counters() -> Option<&'static mut TapCounters> {
    // SAFETY: the map's value of this CPU, which no other packet interrupts; never held twice at a time.
    unsafe { TAP_COUNTERS.get_ptr_mut(0)?.as_mut() }
}

/// This CPU's counters of a job, `None` for a slot that does not exist.
#[inline(always)]
pub(crate) fn job_counters(job: u16) -> Option<&'static mut JobCounters> {
    // SAFETY: the map's value of this CPU. It is taken once a packet, and no packet interrupts another on one CPU.
    unsafe { JOB_COUNTERS.get_ptr_mut(job as u32)?.as_mut() }
}
