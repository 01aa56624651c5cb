//! Judgements on the kernel and on what this process may do.

use super::Report;
use crate::config::DEFAULT_MAX_CONNECTIONS;
use crate::kernel::attach::{AttachMode, TapMode};
use crate::kernel::load::OLDEST_KERNEL;
use crate::kernel::probe::Facts;

/// Kernels that the tests run on, as `major.minor`.
pub const TESTED_KERNELS: [(u32, u32); 3] = [(6, 1), (6, 12), (6, 18)];

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

pub(super) fn judge_kernel(report: &mut Report, facts: &Facts) {
    let tested: Vec<String> =
        TESTED_KERNELS.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    let tested = tested.join(", ");
    match version(&facts.release) {
        Some(version) if TESTED_KERNELS.contains(&version) => {
            report.ok("kernel", format!("Linux {}, a kernel that the tests run on", facts.release));
        }
        Some(version) if version < OLDEST_KERNEL => report.fail(
            "kernel",
            format!("Linux {} is too old", facts.release),
            format!("use Linux 6.1 or newer; the tests run on {tested}"),
        ),
        _ => report.warn(
            "kernel",
            format!("Linux {} is not among the kernels that the tests run on ({tested})", facts.release),
            "try it, and compare the capture ratio with the primary's own log",
        ),
    }
    if facts.btf {
        report.ok("BTF", "the kernel shows its types (/sys/kernel/btf/vmlinux)");
    } else {
        report.ok("BTF", "the kernel does not show its types; the tap needs none of them");
    }
    let mounted = if facts.bpf_fs { "mounted" } else { "not mounted" };
    report.ok("bpf fs", format!("{mounted}; not needed, nothing is pinned"));
    if let Some(mode) = facts.lockdown.as_deref().filter(|mode| *mode == "confidentiality") {
        report.warn(
            "lockdown",
            format!("the kernel is locked down ({mode}), which can forbid BPF programs to read packets"),
            "if loading fails, boot with lockdown=integrity",
        );
    }
}

pub(super) fn judge_rights(report: &mut Report, facts: &Facts) {
    const MEND: &str = "run as root, or give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
                        (systemd: AmbientCapabilities=, container: securityContext.capabilities.add)";
    if let Some(all) = facts.capabilities {
        let has = |capability: u32| all & (1 << capability) != 0;
        let needed = [(CAP_BPF, "CAP_BPF"), (CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_PERFMON, "CAP_PERFMON")];
        // CAP_SYS_ADMIN stands for all BPF rights, not for those on interfaces.
        let is_covered = |number: u32| has(number) || (has(CAP_SYS_ADMIN) && number != CAP_NET_ADMIN);
        let missing: Vec<&str> =
            needed.iter().filter(|(number, _)| !is_covered(*number)).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            report.fail("capabilities", format!("{} missing", missing.join(", ")), MEND);
        } else if has(CAP_SYS_ADMIN) {
            report.ok("capabilities", "all that are needed");
        } else {
            report.warn(
                "capabilities",
                "enough for this namespace; CAP_SYS_ADMIN is missing, without which no other namespace can be \
                 entered (--netns, --pid), programs of others have no names, and stale filters cannot be removed",
                "give CAP_SYS_ADMIN if you need one of these",
            );
        }
    }
    match (&facts.map, &facts.program) {
        (Ok(()), Ok(jited)) => {
            if *jited {
                report.ok("bpf()", "maps and classifiers can be made; programs are compiled");
            } else {
                report.warn(
                    "bpf()",
                    "maps and classifiers can be made, but programs are interpreted: a tapped packet costs several \
                     times as much",
                    "sysctl net.core.bpf_jit_enable=1",
                );
            }
        }
        (Err(error), _) => report.fail("bpf()", format!("maps cannot be made: {error}"), bpf_mend(facts)),
        (_, Err(error)) => {
            report.fail("bpf()", format!("classifiers cannot be loaded: {error}"), bpf_mend(facts));
        }
    }
    if let (Ok(()), Ok(_)) = (&facts.map, &facts.program) {
        match &facts.tap {
            Ok(()) => report.ok("tap", "this kernel's verifier takes the tap's programs"),
            Err(error) => report.fail(
                "tap",
                format!("the tap cannot be loaded: {error}"),
                "nothing can be mirrored here until it loads; `mirror run -vv` shows the verifier's log",
            ),
        }
    }
}

/// Each connection to a shadow is a descriptor.
pub(super) fn judge_descriptors(report: &mut Report, facts: &Facts) {
    let Some(limit) = facts.descriptors else { return };
    let wanted = u64::from(DEFAULT_MAX_CONNECTIONS);
    if limit.suffice(wanted) {
        report.ok("open files", format!("{}, to which `mirror run` raises its limit", limit.hard));
    } else {
        report.warn(
            "open files",
            format!("{} at most, fewer than the {wanted} connections that a shadow may have by default", limit.hard),
            "raise the hard limit (ulimit -Hn, systemd: LimitNOFILE=, container: ulimits), or give a smaller --max-connections",
        );
    }
}

fn bpf_mend(facts: &Facts) -> &'static str {
    let is_privileged = facts.capabilities.is_some_and(|all| all & (1 << CAP_SYS_ADMIN) != 0);
    if is_privileged {
        "the process has the rights, so a seccomp profile, an LSM or a kernel without CONFIG_BPF_SYSCALL refuses: in a \
         container use a profile that allows bpf(2)"
    } else {
        "run as root, or give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    }
}

pub(super) fn judge_mode(report: &mut Report, facts: &Facts, attach: AttachMode) -> TapMode {
    match (attach, &facts.tcx) {
        (AttachMode::Auto | AttachMode::Tcx, Ok(true)) => {
            report.ok("attach", "TCX: first in line, gone with the agent even when it is killed");
            TapMode::Tcx
        }
        (AttachMode::Tcx, Ok(false)) => {
            report.fail(
                "attach",
                "this kernel has no TCX, which came with Linux 6.6",
                "leave out --attach tcx",
            );
            TapMode::Tcx
        }
        (AttachMode::Auto, Ok(false)) => {
            report.ok(
                "attach",
                "clsact (no TCX before Linux 6.6): a killed agent's filters go inert within a second and are \
                 removed by the next start or by `mirror cleanup`",
            );
            TapMode::Clsact
        }
        (AttachMode::Clsact, Ok(true)) => {
            report.warn(
                "attach",
                "clsact is asked for although the kernel has TCX; every TCX program runs before it",
                "leave out --attach clsact",
            );
            TapMode::Clsact
        }
        (AttachMode::Clsact, _) => {
            report.ok("attach", "clsact, as asked for");
            TapMode::Clsact
        }
        (_, Err(error)) => {
            report.fail(
                "attach",
                format!("the kernel does not say whether it has TCX: {error}"),
                bpf_mend(facts),
            );
            TapMode::Clsact
        }
    }
}

pub(super) fn judge_leftovers(report: &mut Report, facts: &Facts) {
    match &facts.leftovers {
        Err(error) => report.warn(
            "leftovers",
            format!("filters of dead agents cannot be looked for: {error}"),
            "run as root or with CAP_SYS_ADMIN",
        ),
        Ok(found) => {
            if found.removed.is_empty() {
                report.ok("leftovers", "no filter of a dead agent");
            } else {
                let places: Vec<String> = found
                    .removed
                    .iter()
                    .map(|f| format!("{} {} in {}", f.interface, f.hook, f.netns))
                    .collect();
                report.warn(
                    "leftovers",
                    format!("inert filters of dead agents: {}", places.join("; ")),
                    "mirror cleanup (the next start does it too)",
                );
            }
            if !found.live.is_empty() {
                report.ok("leftovers", format!("{} filters of agents that live", found.live.len()));
            }
            for failed in &found.failed {
                report.warn("leftovers", failed.as_str(), "run as root on the host");
            }
        }
    }
}

pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
