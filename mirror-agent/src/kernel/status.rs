//! What the kernel says of a process in `/proc/PID/status` (proc_pid_status(5)).

/// The mask in the line called `name`, as `CapEff` or `SigIgn`; `None` if there is no such line, or no mask in it.
#[must_use]
pub fn mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
