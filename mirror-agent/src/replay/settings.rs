//! How copies are replayed.

use std::net::SocketAddr;

/// Which connections to a shadow copies take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One for each client connection.
    PerClient,
    /// A few pipelined ones for idempotent requests without a body; the others take one to themselves.
    Shared,
}

/// Whether the copies of one client connection wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// In the order of the original.
    Connection,
    /// At once.
    None,
}

/// Limits on waiting, ns.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP and TLS handshake.
    pub connect: u64,
    /// Copy written to response head.
    pub head: u64,
    /// No byte moved in either direction while one should.
    pub idle: u64,
}

/// How the copies for one target are replayed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which connections copies take.
    pub connections: Connections,
    /// Whether copies wait for each other.
    pub ordering: Ordering,
    /// Limits on waiting.
    pub timeouts: Timeouts,
    /// How long an unfinished answer may outlive the client connection it belongs to, ns.
    pub linger: u64,
}

/// Keeps the agent's own connections out of the tap.
pub trait Exclude {
    /// Connections from `local` are the agent's own.
    fn insert(&self, local: SocketAddr);
    /// They are not any more.
    fn remove(&self, local: SocketAddr);
}
