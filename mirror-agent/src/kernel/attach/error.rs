//! What can go wrong when taps are attached, each with its mend.

use std::io;

use super::{MAX_TAPPED_INTERFACES, TapMode};
use crate::kernel::Hook;
use crate::kernel::interfaces::SelectError;
use crate::kernel::netns::Netns;

/// Why taps could not be attached. Each is one line with its mend. After any of them nothing new is attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The selection is wrong or empty.
    #[error("{netns}: {source}")]
    Select {
        /// Where.
        netns: Netns,
        /// What is wrong.
        source: SelectError,
    },
    /// There is nothing to tap at all.
    #[error("no interface is asked for: give a primary or an interface")]
    NoSpec,
    /// The namespace cannot be entered.
    #[error("{netns} cannot be entered: {error}{}", enter_mend(error))]
    Enter {
        /// Which.
        netns: Netns,
        /// Why.
        error: io::Error,
    },
    /// Its interfaces cannot be listed.
    #[error("the interfaces of {netns} cannot be listed: {error}")]
    List {
        /// Which.
        netns: Netns,
        /// Why.
        error: io::Error,
    },
    /// The kernel refused a program on a hook.
    #[error("{interface} {hook} in {netns} cannot be tapped by {mode}: {error}{}", attach_mend(error))]
    Attach {
        /// Where.
        netns: Netns,
        /// On which interface.
        interface: String,
        /// On which hook.
        hook: Hook,
        /// In which way.
        mode: TapMode,
        /// Why.
        error: io::Error,
    },
    /// TCX was asked for and is not there.
    #[error("this kernel has no TCX, which came with Linux 6.6: use --attach auto or --attach clsact")]
    NoTcx,
    /// The kernel does not answer `bpf(2)`.
    #[error("the kernel does not say whether it has TCX: {error}{}", attach_mend(error))]
    Ask {
        /// Why.
        error: io::Error,
    },
    /// Too many interfaces.
    #[error(
        "{wanted} interfaces are wanted, {MAX_TAPPED_INTERFACES} can be tapped: name fewer with --interface"
    )]
    TooMany {
        /// How many.
        wanted: usize,
    },
}

fn enter_mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run as root or with CAP_SYS_ADMIN and CAP_SYS_PTRACE)",
        io::ErrorKind::NotFound => " (see `ip netns` for names; a process must be alive)",
        io::ErrorKind::InvalidInput => " (the path must be a network namespace, as /proc/PID/ns/net is)",
        _ => "",
    }
}

fn attach_mend(error: &io::Error) -> &'static str {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => {
            " (run as root or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"
        }
        (_, Some(libc::EMFILE)) => {
            " (raise the limit of open files: ulimit -n, LimitNOFILE=; each interface takes two)"
        }
        (_, Some(libc::ERANGE | libc::E2BIG)) => " (64 programs are on its chain, the kernel takes no more)",
        _ => "",
    }
}
