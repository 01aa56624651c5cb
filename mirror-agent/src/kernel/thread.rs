//! Scheduling of the calling thread.
#![allow(
    unsafe_code,
    reason = "setpriority and sched_setattr have no safe wrapper among the crates used here"
)]

use std::io;

/// Sets the niceness of the calling thread alone, -20 (first) to 19 (last).
///
/// # Errors
///
/// `EACCES` or `EPERM` without `CAP_SYS_NICE` for a niceness below the present one.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: no pointers; on Linux `PRIO_PROCESS` with 0 names the calling thread (setpriority(2), notes).
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread one that works in batches (`SCHED_BATCH`, sched(7)), at unchanged niceness: its fair share stays
/// what it is, but when it wakes up it interrupts nobody. It waits for an idle core, or until a thread sleeps or has had its
/// slice, and has more to do by then.
///
/// With `slice_ns` it asks for slices of its own, between 0.1 ms and 100 ms. With longer ones than others have, any of
/// them that wakes up takes the core from it at once (EEVDF's short-slice preemption, Linux commit 85e511df3cec). Before
/// Linux 6.12 they change nothing.
///
/// # Errors
///
/// `EPERM` or `EINVAL`, as `sched_setattr(2)` says.
pub fn set_batch(slice_ns: Option<u64>) -> io::Result<()> {
    // SAFETY: no pointers; 0 names the calling thread. Its niceness is never -1 here, so errno needs no look.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: a plain C struct of integers, for which zeros are a value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    attr.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    attr.sched_policy = libc::SCHED_BATCH.unsigned_abs();
    attr.sched_nice = nice;
    // 0 stands for the kernel's own.
    attr.sched_runtime = slice_ns.unwrap_or(0);
    // SAFETY: the kernel reads `attr.size` bytes from a struct that lives through the call; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_batches_keeps_its_niceness_and_its_neighbours_their_policy() {
        // SAFETY: no pointers; 0 names the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        // SAFETY: as above.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let neighbour = (policy(), nice());
        for slice in [Some(20_000_000), None] {
            let batch = std::thread::spawn(move || {
                // The last niceness is the last one also for tests that run at it.
                let wanted = (nice() + 1).min(19);
                set_nice(wanted).unwrap();
                set_batch(slice).unwrap();
                (policy(), nice(), wanted)
            });
            let (policy, nice, wanted) = batch.join().unwrap();
            assert_eq!((policy, nice), (libc::SCHED_BATCH, wanted), "{slice:?}");
        }
        assert_eq!((policy(), nice()), neighbour);
    }
}
