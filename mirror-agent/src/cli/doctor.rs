//! `mirror doctor`: says whether a tap would work here and why nothing would be seen, each with the mend.
//!
//! The facts come from `kernel::probe`; this file only judges and words them, so that each judgement has a test that needs no
//! kernel.

use std::fmt;
use std::net::IpAddr;

use anyhow::Context as _;

use crate::kernel::attach::AttachMode;
use crate::kernel::interfaces::Selection;
use crate::kernel::netns::Netns;
use crate::kernel::probe::{self, Facts, Wanted};

mod host;
mod network;

pub use host::TESTED_KERNELS;

/// What `mirror doctor` is asked about. All of it is optional.
#[derive(Clone, Debug, Default)]
pub struct DoctorRequest {
    /// The primary: address (none stands for any) and port.
    pub primary: Option<(Option<IpAddr>, u16)>,
    /// Interfaces named by the user.
    pub interfaces: Vec<String>,
    /// A network namespace: path or name of `ip netns`.
    pub netns: Option<String>,
    /// A process in whose network namespace the primary lives.
    pub pid: Option<u32>,
    /// How to attach.
    pub attach: AttachMode,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Something would be missed, or may be.
    Warn,
    /// Nothing would be seen.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at, a word.
    pub topic: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, a line.
    pub fact: String,
    /// What to do about it, a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All findings. Prints as lines and serialises as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// In the order of a packet's way: kernel, rights, program, namespace, interfaces, primary.
    pub findings: Vec<Finding>,
}

/// Looks at this machine with the eyes of a tap. Attaches nothing and changes nothing.
///
/// # Errors
/// When the request contradicts itself or names a process that is not there.
pub fn doctor(request: &DoctorRequest) -> anyhow::Result<Report> {
    let netns = match (&request.netns, request.pid) {
        (Some(_), Some(_)) => {
            anyhow::bail!("--netns and --pid both name a network namespace: give one of them")
        }
        (Some(name), None) => Netns::named(name),
        (None, Some(pid)) => {
            Netns::of_process(pid).with_context(|| format!("--pid {pid}: there is no such process"))?
        }
        (None, None) => Netns::current(),
    };
    let selection = if !request.interfaces.is_empty() {
        Selection::Named(request.interfaces.clone())
    } else if let Some((Some(ip), _)) = request.primary {
        Selection::Addresses(vec![ip])
    } else {
        Selection::All
    };
    let wanted = request.primary.map(|(ip, port)| Wanted { ip, port });
    Ok(judge(&probe::gather(&netns, &selection, wanted), request.attach, wanted))
}

impl Report {
    /// The worst of all findings; [`Severity::Fail`] is exit code 1.
    #[must_use]
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    fn ok(&mut self, topic: &'static str, fact: impl Into<String>) {
        self.findings.push(Finding { topic, severity: Severity::Ok, fact: fact.into(), mend: None });
    }

    fn warn(&mut self, topic: &'static str, fact: impl Into<String>, mend: impl Into<String>) {
        let (fact, mend) = (fact.into(), Some(mend.into()));
        self.findings.push(Finding { topic, severity: Severity::Warn, fact, mend });
    }

    fn fail(&mut self, topic: &'static str, fact: impl Into<String>, mend: impl Into<String>) {
        let (fact, mend) = (fact.into(), Some(mend.into()));
        self.findings.push(Finding { topic, severity: Severity::Fail, fact, mend });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { topic, severity, fact, mend } in &self.findings {
            let word = match severity {
                Severity::Ok => "ok",
                Severity::Warn => "warn",
                Severity::Fail => "FAIL",
            };
            writeln!(f, "{word:<5}{topic:<14}{fact}")?;
            if let Some(mend) = mend {
                writeln!(f, "{:<19}-> {mend}", "")?;
            }
        }
        writeln!(
            f,
            "{}",
            match self.worst() {
                Severity::Ok => "A tap works here.",
                Severity::Warn => "A tap works here, but read the warnings.",
                Severity::Fail => "A tap would see nothing here; mend what failed first.",
            }
        )
    }
}

fn judge(facts: &Facts, attach: AttachMode, wanted: Option<Wanted>) -> Report {
    let mut report = Report::default();
    host::judge_kernel(&mut report, facts);
    host::judge_rights(&mut report, facts);
    host::judge_descriptors(&mut report, facts);
    let mode = host::judge_mode(&mut report, facts, attach);
    host::judge_leftovers(&mut report, facts);
    match &facts.inside {
        Err(error) => report.fail(
            "namespace",
            format!("{} cannot be entered: {error}", facts.netns),
            "run as root or with CAP_SYS_ADMIN; names are those of `ip netns`, a process must be alive",
        ),
        Ok(inside) => {
            network::judge_interfaces(&mut report, facts, inside, wanted);
            network::judge_standing(&mut report, inside, mode);
            if let Some(wanted) = wanted {
                network::judge_primary(&mut report, facts, inside, wanted);
                network::judge_local_clients(&mut report, inside, wanted);
                network::judge_readable(&mut report, inside, wanted);
            }
            network::judge_bypass(&mut report, facts, inside);
        }
    }
    report
}

#[cfg(test)]
mod tests;
