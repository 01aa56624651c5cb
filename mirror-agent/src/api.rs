//! The admin server: numbers and readiness over HTTP, on the control thread, read only.
//!
//! It cannot hurt the line: it lives on the control runtime, holds at most [`MAX_CONNECTIONS`] connections, gives each
//! exchange [`EXCHANGE_TIMEOUT`], and only reads shared counters. It asks for no password, so it belongs on loopback;
//! [`bind`] says so when it is elsewhere.

mod listener;
mod ready;
mod routes;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::stats::Monitor;
use listener::{Guarded, Limits};
pub use ready::{Blocker, Ready};

/// Connections open at a time; further ones are closed at once and counted (`mirror_admin_refused_total`).
pub const MAX_CONNECTIONS: usize = 64;
/// From the first byte of a request (or the start of the connection) to the next request. A connection that takes
/// longer is closed, and counted unless it was idle (`mirror_admin_timed_out_total`). Above the usual scrape interval.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long open exchanges may go on after the shutdown signal.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Why there is no admin server. One line that says what and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address cannot be listened on.
    #[error("--admin {addr}: {}; {}", plain(error), mend(error))]
    Bind {
        /// As given.
        addr: SocketAddr,
        /// What the kernel said; said in plainer words above.
        error: io::Error,
    },
    /// The runtime refused the listener.
    #[error("--admin: the listener cannot be served: {0}")]
    Serve(#[from] io::Error),
}

/// What the endpoints show.
pub struct Admin {
    monitor: Arc<Monitor>,
    ready: Ready,
    limits: Arc<Limits>,
}

impl Admin {
    /// Shows the numbers of `monitor`, and `ready` at `/readyz`.
    #[must_use]
    pub fn new(monitor: Arc<Monitor>, ready: Ready) -> Self {
        Self { monitor, ready, limits: Arc::new(Limits::new(MAX_CONNECTIONS, EXCHANGE_TIMEOUT)) }
    }

    /// The same with other limits than [`MAX_CONNECTIONS`] and [`EXCHANGE_TIMEOUT`].
    #[must_use]
    pub fn with_limits(mut self, connections: usize, exchange: Duration) -> Self {
        self.limits = Arc::new(Limits::new(connections, exchange));
        self
    }
}

/// Takes the address, before anything is attached: a port that is taken must leave nothing behind.
///
/// # Errors
///
/// [`ApiError::Bind`] if the address is taken, not local or not permitted.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, ApiError> {
    TcpListener::bind(addr).map_err(|error| ApiError::Bind { addr, error })
}

/// One line of warning if `addr` can be reached from elsewhere.
#[must_use]
pub fn exposure(addr: SocketAddr) -> Option<String> {
    let loopback = addr.ip().to_canonical().is_loopback();
    (!loopback).then(|| {
        format!(
            "--admin {addr}: anyone who reaches this address can read the counters, nobody is asked for a password; \
             use 127.0.0.1 or a firewall if that is not meant"
        )
    })
}

/// Serves until `shutdown` is done, then at most [`SHUTDOWN_GRACE`] longer. Runs on any tokio runtime with I/O and time.
///
/// # Errors
///
/// [`ApiError::Serve`] if the runtime refuses the listener. A failing connection ends alone and is no error.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ApiError> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let guarded = Guarded::new(listener, Arc::clone(&admin.limits));
    let (stopping, stopped) = oneshot::channel::<()>();
    let signal = async move {
        shutdown.await;
        drop(stopping);
    };
    let serving = axum::serve(guarded, routes::router(admin)).with_graceful_shutdown(signal);
    tokio::select! {
        served = serving => Ok(served?),
        () = async {
            let _signalled = stopped.await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } => Ok(()),
    }
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken".to_owned(),
        io::ErrorKind::AddrNotAvailable => "no interface has this address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        _ => error.to_string(),
    }
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that listens there or choose another port",
        io::ErrorKind::AddrNotAvailable => "use 127.0.0.1 or an address of this host",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 up",
        _ => "choose another address",
    }
}

#[cfg(test)]
mod tests;
