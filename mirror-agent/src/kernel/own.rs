//! The agent's own replays, which the tap passes by.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::call;
use super::maps::endpoint;

/// Handle on the local endpoints of replay sockets. Each call is one system call; clones share the map.
///
/// The order that leaves no packet of a replay to be seen: bind, [`insert`](Self::insert), connect; close, wait for
/// TIME_WAIT to end, [`remove`](Self::remove).
#[derive(Clone, Debug)]
pub struct OwnEndpoints(Arc<OwnedFd>);

impl OwnEndpoints {
    pub(super) fn new(map: OwnedFd) -> Self {
        Self(Arc::new(map))
    }

    /// From now on the tap passes by segments that come from this address and port, or go to it.
    ///
    /// # Errors
    ///
    /// The map is full ([`mirror_common::map::MAX_OWN_ENDPOINTS`], `E2BIG`) or the kernel has no memory. Then do not connect:
    /// the replay would be mirrored.
    pub fn insert(&self, local: SocketAddr) -> io::Result<()> {
        call::update(self.0.as_fd(), &endpoint(local), &1_u8)
    }

    /// Ends [`OwnEndpoints::insert`]. One that is not there is no error.
    ///
    /// # Errors
    ///
    /// The kernel's, none of which is expected.
    pub fn remove(&self, local: SocketAddr) -> io::Result<()> {
        match call::delete(self.0.as_fd(), &endpoint(local)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
