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

/// Asks the scheduler for long slices, ns, at unchanged weight: the thread keeps its fair share, but any thread with a
/// shorter slice that wakes up takes the core from it at once (EEVDF's short-slice preemption, Linux commit
/// 85e511df3cec). Before Linux 6.12 it changes nothing. Slices are between 0.1 ms and 100 ms.
///
/// # Errors
///
/// `EPERM` or `EINVAL`, as `sched_setattr(2)` says.
pub fn set_slice(slice_ns: u64) -> io::Result<()> {
    // SAFETY: no pointers; 0 names the calling thread. Its niceness is never -1 here, so errno needs no look.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: a plain C struct of integers, for which zeros are a value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    attr.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    attr.sched_policy = libc::SCHED_OTHER.unsigned_abs();
    attr.sched_nice = nice;
    attr.sched_runtime = slice_ns;
    // SAFETY: the kernel reads `attr.size` bytes from a struct that lives through the call; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
