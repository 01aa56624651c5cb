//! Real clients: curl, wrk, ab.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;
use crate::process::Process;

/// Runs curl with `args` inside `from`; what it printed. Fails on any HTTP error.
///
/// # Errors
/// What curl said.
pub fn curl(from: &Namespace, args: &[&str]) -> Result<String> {
    let mut command = from.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--noproxy", "*"]).args(args);
    crate::netns::run_checked(&mut command)
}

/// What a load tool reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Answers complete.
    pub answered: u64,
    /// Answers that were not 2xx or 3xx, and socket errors.
    pub failed: u64,
}

/// Runs wrk for `seconds` inside `from`. wrk leaves requests unanswered at its end: the server's log has up to one more
/// a connection than it reports.
///
/// # Errors
/// When wrk fails or its report cannot be read.
pub fn wrk(from: &Namespace, seconds: u64, connections: u64, args: &[&str]) -> Result<Report> {
    let mut command = from.command("wrk");
    command.args(["-t2", &format!("-c{connections}"), &format!("-d{seconds}s")]).args(args);
    let said = said(Process::spawn("wrk", command)?, Duration::from_secs(seconds + 20))?;
    let answered = number_before(&said, " requests in").context("wrk's report")?;
    let not_fine = number_after(&said, "Non-2xx or 3xx responses:").unwrap_or(0);
    let errors: u64 =
        said.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).map_or(0, |line| {
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum()
        });
    Ok(Report { answered, failed: not_fine + errors })
}

/// Runs ab with `args` (which end with the URL) inside `from`.
///
/// # Errors
/// When ab fails or its report cannot be read.
pub fn ab(from: &Namespace, args: &[&str]) -> Result<Report> {
    let mut command = from.command("ab");
    command.args(["-q", "-s", "20"]).args(args);
    let said = said(Process::spawn("ab", command)?, Duration::from_secs(60))?;
    let answered = number_after(&said, "Complete requests:").context("ab's report")?;
    let failed = number_after(&said, "Failed requests:").context("ab's report")?;
    Ok(Report { answered, failed: failed + number_after(&said, "Non-2xx responses:").unwrap_or(0) })
}

fn said(process: Process, patience: Duration) -> Result<String> {
    let (status, stdout, stderr) = process.finish(patience)?;
    let text = stdout.join("\n");
    ensure!(status.success(), "{status}: {text} {}", stderr.join("\n"));
    Ok(text)
}

fn number_before(text: &str, mark: &str) -> Option<u64> {
    let (before, _) = text.split_once(mark)?;
    before.rsplit(char::is_whitespace).next()?.parse().ok()
}

fn number_after(text: &str, mark: &str) -> Option<u64> {
    let (_, after) = text.split_once(mark)?;
    after.split_whitespace().next()?.parse().ok()
}
