//! What the control thread of any command faces: signals, and readers of the admin server.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::{self, ApiError, Ready};
use crate::kernel::status;
use crate::stats::Monitor;

/// SIGINT, SIGTERM, and SIGHUP of a terminal that goes away, which ask for an orderly end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None if whoever started us has it ignored, as nohup(1) does: it stays so.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?,
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?,
            hangup: if ignores_hangup(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
                None
            } else {
                Some(signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?)
            },
        })
    }

    /// Waits for one. May be given up at any time.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = async { self.hangup.as_mut()?.recv().await } => {}
        }
    }
}

/// Whether a process with this `/proc/PID/status` ignores SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    // Signal 1 is the lowest bit.
    status::mask(status, "SigIgn").is_some_and(|mask| mask & 1 == 1)
}

/// The address of the admin server, taken before anything else is done.
pub(super) struct Bound(Option<(SocketAddr, TcpListener)>);

/// The admin server at work, if one was asked for.
pub(super) struct AdminServer(Option<Serving>);

/// What ends it, and its task.
type Serving = (oneshot::Sender<()>, JoinHandle<Result<(), ApiError>>);

impl Bound {
    /// Takes the address, if there is one.
    pub(super) fn new(addr: Option<SocketAddr>) -> Result<Self, ApiError> {
        Ok(Self(addr.map(|addr| Ok::<_, ApiError>((addr, api::bind(addr)?))).transpose()?))
    }

    /// Serves the numbers of `monitor`.
    pub(super) fn serve(self, monitor: &Arc<Monitor>, ready: &Ready) -> AdminServer {
        AdminServer(self.0.map(|(addr, listener)| {
            if let Some(warning) = api::exposure(addr) {
                tracing::warn!("{warning}");
            }
            let admin = api::Admin::new(monitor.clone(), ready.clone());
            let (stop, stopped) = oneshot::channel::<()>();
            let serve = api::serve(listener, admin, async move {
                let _either_way = stopped.await;
            });
            (stop, tokio::spawn(serve))
        }))
    }
}

impl AdminServer {
    /// Ends it, in its own time of grace.
    pub(super) async fn stop(self) {
        if let Some((stop, served)) = self.0 {
            drop(stop);
            let _its_end_is_not_ours = served.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn an_ignored_hangup_is_read_from_the_mask_of_ignored_signals() {
        let status = |mask| format!("Name:\tmirror\nSigCgt:\t0000000000000001\nSigIgn:\t{mask}\n");
        for (mask, ignored) in [
            ("0000000000000001", true),
            ("0000000000001001", true),
            ("0000000000001000", false),
            ("0000000000000000", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(&status(mask)), ignored, "{mask}");
        }
        assert!(!ignores_hangup(""));
    }
}
