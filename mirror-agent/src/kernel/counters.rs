//! The tap's counters, summed over the CPUs.

use aya::maps::{MapData, MapError, PerCpuArray};
use mirror_common::counter::{JobCounters, TapCounters};

/// Reads the tap's counters. They only rise; a slot that gets a new job goes on from the old one's values.
pub struct Counters {
    tap: PerCpuArray<MapData, TapCounters>,
    jobs: PerCpuArray<MapData, JobCounters>,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Counters {
    pub(super) const fn new(
        tap: PerCpuArray<MapData, TapCounters>,
        jobs: PerCpuArray<MapData, JobCounters>,
    ) -> Self {
        Self { tap, jobs }
    }

    /// What the tap did, whatever the job.
    ///
    /// # Errors
    ///
    /// The kernel's, none of which is expected.
    pub fn tap(&self) -> Result<TapCounters, MapError> {
        let mut sum = TapCounters::default();
        for cpu in self.tap.get(&0, 0)?.iter() {
            for (sum, value) in sum.values.iter_mut().zip(cpu.values) {
                *sum = sum.wrapping_add(value);
            }
        }
        Ok(sum)
    }

    /// What the laws of the job in `slot` need from the kernel.
    ///
    /// # Errors
    ///
    /// A slot that is not below [`mirror_common::map::MAX_JOBS`].
    pub fn job(&self, slot: u16) -> Result<JobCounters, MapError> {
        let mut sum = JobCounters::default();
        for cpu in self.jobs.get(&u32::from(slot), 0)?.iter() {
            sum.matched_bytes = sum.matched_bytes.wrapping_add(cpu.matched_bytes);
            sum.lost_in_ring_bytes = sum.lost_in_ring_bytes.wrapping_add(cpu.lost_in_ring_bytes);
            sum.witnessed = sum.witnessed.wrapping_add(cpu.witnessed);
            sum.responses_lost_in_ring = sum.responses_lost_in_ring.wrapping_add(cpu.responses_lost_in_ring);
        }
        Ok(sum)
    }
}
