//! `--interface`, `--netns`, `--pid`, `--attach`.

use std::path::PathBuf;

use super::choice::{self, Attach};
use super::{Error, TapFlags};

/// Where and how to tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Interfaces by name; empty for those that hold the primary's address.
    pub interfaces: Vec<String>,
    /// The network namespace they are in.
    pub namespace: Namespace,
    /// How the program is attached.
    pub attach: Attach,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The one `mirror` runs in.
    Own,
    /// The one this file stands for.
    Path(PathBuf),
    /// The one this process is in.
    Pid(u32),
}

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";
/// Longest name of an interface, an alternative name included (`ALTIFNAMSIZ` less its end mark).
const MAX_INTERFACE_NAME: usize = 127;

/// What the flags of a tap mean.
pub(super) fn of(flags: &TapFlags) -> Result<Tap, Error> {
    resolve(&flags.interface, flags.netns.as_deref(), flags.pid, &flags.attach)
}

pub(super) fn resolve(
    interfaces: &[String],
    netns: Option<&str>,
    pid: Option<i64>,
    attach: &str,
) -> Result<Tap, Error> {
    for (index, name) in interfaces.iter().enumerate() {
        let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > MAX_INTERFACE_NAME || name.contains(bad) {
            let mend = "give a name that `ip link` shows";
            return Err(Error::new("--interface", name, "not the name of an interface", mend));
        }
        if interfaces.iter().take(index).any(|other| other == name) {
            return Err(Error::new("--interface", name, "given twice", "give each interface once"));
        }
    }
    Ok(Tap {
        interfaces: interfaces.to_vec(),
        namespace: namespace(netns, pid)?,
        attach: choice::of("--attach", attach, &Attach::ALL)?,
    })
}

fn namespace(netns: Option<&str>, pid: Option<i64>) -> Result<Namespace, Error> {
    match (netns, pid) {
        (None, None) => Ok(Namespace::Own),
        (Some(netns), Some(pid)) => {
            let mend = "give the one that names the namespace you mean";
            Err(Error::new("--netns", netns, format!("--pid {pid} is given too"), mend))
        }
        (Some(""), None) => {
            Err(Error::new("--netns", "", "empty", "give a name that `ip netns` shows, or a path"))
        }
        (Some(path), None) if path.contains('/') => Ok(Namespace::Path(PathBuf::from(path))),
        (Some(name), None) => Ok(Namespace::Path(PathBuf::from(NAMED).join(name))),
        (None, Some(pid)) => match u32::try_from(pid) {
            Ok(id) if id > 0 && i32::try_from(id).is_ok() => Ok(Namespace::Pid(id)),
            _ => Err(Error::new("--pid", pid, "not the id of a process", "give one that `ps` shows")),
        },
    }
}
