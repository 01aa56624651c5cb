//! The agent's own connections, kept out of the tap.

use std::net::SocketAddr;

use crate::kernel::own::OwnEndpoints;
use crate::replay::Exclude;

/// The kernel's list, as the replay room sees it.
pub(super) struct Own(pub(super) OwnEndpoints);

impl Exclude for Own {
    fn insert(&self, local: SocketAddr) {
        if let Err(error) = self.0.insert(local) {
            tracing::warn!(%local, %error, "an own connection could not be excluded from the tap");
        }
    }

    fn remove(&self, local: SocketAddr) {
        if let Err(error) = self.0.remove(local) {
            tracing::debug!(%local, %error, "an own connection was not in the tap's list");
        }
    }
}
