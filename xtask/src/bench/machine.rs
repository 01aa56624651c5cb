//! What the numbers were measured on.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::repo;

/// The machine, the kernel, the compiler and the commit, as a table.
pub(super) fn table() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(first_number).unwrap_or(0);
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let mut git = Command::new("git");
    git.current_dir(repo::root()).args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let rows = [
        ("processor", model.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("cores", std::thread::available_parallelism()?.to_string()),
        ("memory", format!("{} GiB", total_kib / (1024 * 1024))),
        ("kernel", std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        // Taken before the first phase: on a busy machine the ratios below say little.
        ("load average before", load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        (
            "compiler",
            repo::output(Command::new("rustc").current_dir(repo::root()).arg("--version"))?.trim().to_owned(),
        ),
        ("commit", repo::output(&mut git)?.trim().to_owned()),
    ];
    let mut table = String::from("| what | value |\n|---|---|\n");
    for (what, value) in rows {
        writeln!(table, "| {what} | {value} |")?;
    }
    Ok(table)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
