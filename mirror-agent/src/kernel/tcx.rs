//! TCX links (Linux 6.6 and newer): gone with their descriptor, whatever becomes of the process.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::sys::{self, Hook};

/// An attachment at the head of a hook's TCX chain. Dropping it detaches, from any namespace.
#[derive(Debug)]
pub(super) struct TcxLink {
    link: OwnedFd,
    program_id: u32,
}

impl TcxLink {
    /// Attaches `program` before all others. The interface is that of the calling thread's namespace.
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<Self> {
        let program_id = sys::program_info(program)?.id;
        Ok(Self { link: sys::tcx_link_create(program, ifindex, hook)?, program_id })
    }

    /// Whether it is still attached: its interface is there, and nobody forced it off.
    pub(super) fn is_attached(&self) -> bool {
        sys::tcx_link_ifindex(self.link.as_fd()).is_ok_and(|ifindex| ifindex != 0)
    }

    /// Id of the program it runs.
    pub(super) fn program_id(&self) -> u32 {
        self.program_id
    }
}

/// Ids of the programs on the hook's TCX chain in running order; empty where the kernel has no TCX.
pub(super) fn chain(ifindex: u32, hook: Hook) -> io::Result<Vec<u32>> {
    match sys::tcx_query(ifindex, hook) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
        other => other,
    }
}

/// Whether the kernel has TCX. Attaches nothing: it asks for the chain of an interface that cannot be there.
///
/// # Errors
/// When the kernel does not let us ask.
pub(super) fn is_available() -> io::Result<bool> {
    match sys::tcx_query(u32::try_from(i32::MAX).unwrap_or(1), Hook::Ingress) {
        Ok(_) => Ok(true),
        // An older kernel does not know the attach type; one that has TCX does not know the interface.
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV) => Ok(true),
            Some(libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}
