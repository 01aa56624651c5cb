//! `mirror cleanup`: removes what a killed agent left behind, and nothing else.

use std::fmt;

use anyhow::Context as _;

use crate::kernel::cleanup::{self, CleanupReport, FoundFilter, Removal};
use crate::kernel::netns::Netns;

/// What `mirror cleanup` is asked for.
#[derive(Clone, Debug, Default)]
pub struct CleanupRequest {
    /// Namespaces beside those that are found by themselves: paths or names of `ip netns`.
    pub netns: Vec<String>,
    /// Processes in whose namespaces to look too.
    pub pids: Vec<u32>,
    /// Tell what would be removed, remove nothing.
    pub dry_run: bool,
}

/// What `mirror cleanup` did. Prints as lines and serialises as JSON.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Cleaned {
    /// Nothing was removed, only looked for.
    pub dry_run: bool,
    /// What was found and done.
    #[serde(flatten)]
    pub report: CleanupReport,
}

impl Cleaned {
    /// Whether something could not be looked at or removed: exit code 1.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        !self.report.failed.is_empty()
    }
}

/// Removes stale filters in this namespace, in every one that a name or a process leads to, and in those of the request.
///
/// # Errors
/// When a process of the request is not there, or the kernel does not list its programs.
pub fn cleanup(request: &CleanupRequest) -> anyhow::Result<Cleaned> {
    let mut extra: Vec<Netns> = request.netns.iter().map(|name| Netns::named(name)).collect();
    for netns in &extra {
        netns.inode().with_context(|| format!("{netns} cannot be found (see `ip netns` for names)"))?;
    }
    for pid in &request.pids {
        extra
            .push(Netns::of_process(*pid).with_context(|| format!("--pid {pid}: there is no such process"))?);
    }
    let removal = if request.dry_run { Removal::LookOnly } else { Removal::Remove };
    let report = cleanup::everywhere(&extra, removal)
        .context("loaded programs cannot be listed (run as root or with CAP_SYS_ADMIN)")?;
    Ok(Cleaned { dry_run: request.dry_run, report })
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        for filter in &self.report.removed {
            writeln!(f, "{verb} {}", line(filter))?;
            if filter.with_qdisc {
                writeln!(f, "removed the clsact qdisc of {}, which an agent had made", filter.interface)?;
            }
        }
        for filter in &self.report.live {
            writeln!(f, "left {}: its agent lives", line(filter))?;
        }
        for failed in &self.report.failed {
            writeln!(f, "failed: {failed}")?;
        }
        if self.report.removed.is_empty() && self.report.failed.is_empty() {
            writeln!(f, "nothing to clean up")?;
        }
        Ok(())
    }
}

fn line(filter: &FoundFilter) -> String {
    let FoundFilter { netns, interface, hook, priority, handle, program, .. } = filter;
    format!("filter {handle:#x} (priority {priority}, program {program}) from {interface} {hook} in {netns}")
}

#[cfg(test)]
mod tests {
    use super::{Cleaned, CleanupRequest, cleanup};
    use crate::kernel::cleanup::CleanupReport;

    #[test]
    fn a_missing_namespace_or_process_is_named() {
        let request = CleanupRequest { netns: vec!["mta-none".into()], ..CleanupRequest::default() };
        let error = format!("{:#}", cleanup(&request).unwrap_err());
        assert!(error.contains("network namespace mta-none cannot be found"), "{error}");
        let request = CleanupRequest { pids: vec![u32::MAX], ..CleanupRequest::default() };
        let error = format!("{:#}", cleanup(&request).unwrap_err());
        assert!(error.contains("--pid 4294967295"), "{error}");
    }

    #[test]
    fn nothing_found_is_said_and_a_failure_is_never_called_nothing() {
        let mut cleaned = Cleaned { dry_run: false, report: CleanupReport::default() };
        assert_eq!(cleaned.to_string(), "nothing to clean up\n");
        cleaned.report.failed.push("netns x: refused".into());
        assert_eq!(cleaned.to_string(), "failed: netns x: refused\n");
        assert!(cleaned.is_failed());
    }
}
