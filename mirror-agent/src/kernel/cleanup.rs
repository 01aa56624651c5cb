//! Removes clsact filters of agents that are dead. TCX links die with their agent and need none of this.
//!
//! Touched is only a filter that bears all marks of ours (see the room `clsact`) and whose agent's heartbeat has stopped; in which
//! namespace it stands is known at each step, so that another one's filter with the same index and handle is safe.

use std::collections::BTreeMap;
use std::io;

use super::clsact;
use super::interfaces;
use super::netns::{self, Netns};
use super::programs::{L2_NAME, L3_NAME, Life, Lives, loaded};
use super::sys::Hook;

/// What a clean-up did and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CleanupReport {
    /// Removed filters.
    pub removed: Vec<FoundFilter>,
    /// Filters of agents that live.
    pub live: Vec<FoundFilter>,
    /// What could not be looked at or removed, a line each.
    pub failed: Vec<String>,
    /// Namespaces looked at.
    pub namespaces: usize,
}

/// A filter of ours.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FoundFilter {
    /// How its namespace was found.
    pub netns: String,
    /// Interface.
    pub interface: String,
    /// Hook.
    pub hook: Hook,
    /// Priority.
    pub priority: u16,
    /// Handle.
    pub handle: u32,
    /// Program id.
    pub program: u32,
    /// Whether the clsact qdisc, which we had made, went with it.
    pub with_qdisc: bool,
}

/// Whether filters are removed or only told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Remove stale ones.
    Remove,
    /// Look only (`removed` then lists what would be).
    LookOnly,
}

/// Cleans up in every namespace that a name or a process leads to, and in `extra`. Quick where there is nothing to do: while
/// no program of our name is loaded no namespace is entered. To be called before the agent's own programs are loaded.
///
/// # Errors
/// When the kernel does not list its programs (`CAP_SYS_ADMIN`).
pub fn everywhere(extra: &[Netns], removal: Removal) -> io::Result<CleanupReport> {
    if !loaded()?.iter().any(|program| [L2_NAME, L3_NAME].contains(&program.name.as_str())) {
        return Ok(CleanupReport::default());
    }
    let mut namespaces = netns::all();
    namespaces.extend_from_slice(extra);
    Ok(within(&namespaces, removal))
}

/// Cleans up in these namespaces.
#[must_use]
pub fn within(namespaces: &[Netns], removal: Removal) -> CleanupReport {
    let mut report = CleanupReport::default();
    let mut lives = Lives::default();
    let mut seen = Vec::new();
    for netns in namespaces {
        let cleaned = netns.within(|id| {
            if seen.contains(&id) {
                return Ok(());
            }
            seen.push(id);
            report.namespaces += 1;
            clean_here(netns, removal, &mut lives, &mut report)
        });
        match cleaned {
            Ok(Ok(())) => {}
            // It went while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) | Err(error) => report.failed.push(format!("{netns}: {error}")),
        }
    }
    report
}

fn clean_here(
    netns: &Netns,
    removal: Removal,
    lives: &mut Lives,
    report: &mut CleanupReport,
) -> io::Result<()> {
    let indices = clsact::interfaces_with_clsact()?;
    if indices.is_empty() {
        return Ok(());
    }
    let names: BTreeMap<u32, String> = interfaces::list()?.into_iter().map(|i| (i.index, i.name)).collect();
    for ifindex in indices {
        for hook in Hook::BOTH {
            for filter in clsact::filters(ifindex, hook)? {
                let life = match lives.of(&filter) {
                    Ok(life) => life,
                    Err(error) => {
                        report.failed.push(format!("{netns}: whose the filter on {ifindex} is: {error}"));
                        continue;
                    }
                };
                let (Some(program), Life::Live | Life::Stale) = (filter.program_id, life) else { continue };
                let mut found = FoundFilter {
                    netns: netns.to_string(),
                    interface: names.get(&ifindex).cloned().unwrap_or_default(),
                    hook,
                    priority: filter.priority,
                    handle: filter.handle,
                    program,
                    with_qdisc: false,
                };
                if life == Life::Live {
                    report.live.push(found);
                    continue;
                }
                if removal == Removal::Remove {
                    match clsact::remove(ifindex, hook, &filter) {
                        Ok(with_qdisc) => found.with_qdisc = with_qdisc,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => {
                            report.failed.push(format!("{netns}: {} {hook}: {error}", found.interface));
                            continue;
                        }
                    }
                }
                report.removed.push(found);
            }
        }
    }
    Ok(())
}
