//! Flags with a closed set of values. The names stand once, for help, completions and parsing.

use super::Error;

/// Order of the copies of one client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// As the client sent them, one after the other's answer unless the client pipelined.
    Connection,
    /// Any: a copy waits for none before it.
    None,
}

impl Ordering {
    /// Every choice with its name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Connection, "connection"), (Self::None, "none")];
}

/// Connections to a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One shadow connection stands for one client connection.
    PerClient,
    /// Few pipelined ones for all clients.
    Shared,
}

impl Connections {
    /// Every choice with its name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::PerClient, "per-client"), (Self::Shared, "shared")];
}

/// How the BPF program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// TCX links only (kernel 6.6 and newer).
    Tcx,
    /// clsact filters only.
    Clsact,
}

impl Attach {
    /// Every choice with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Auto, "auto"), (Self::Tcx, "tcx"), (Self::Clsact, "clsact")];
}

/// Names of `--priority`.
pub(super) const PRIORITY: [(bool, &str); 2] = [(false, "normal"), (true, "high")];

/// The value that `typed` names.
pub(super) fn of<T: Copy>(flag: &str, typed: &str, all: &[(T, &str)]) -> Result<T, Error> {
    all.iter().find(|(_, name)| *name == typed).map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(_, name)| *name).collect();
        Error::new(flag, typed, "unknown value", format!("choose one of {}", names.join(", ")))
    })
}

/// A clap parser that knows the names, for help, completions and the message of a typing error.
pub(super) fn names<T, const N: usize>(all: [(T, &'static str); N]) -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(all.map(|(_, name)| name))
}
