//! Connections that cannot stay for ever and cannot become many.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::stats::export::AdminCounts;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of the admin server, and what ran into them.
#[derive(Debug)]
pub(super) struct Limits {
    connections: usize,
    permits: Arc<Semaphore>,
    exchange: Duration,
    refused: AtomicU64,
    timed_out: AtomicU64,
}

impl Limits {
    pub(super) fn new(connections: usize, exchange: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(connections));
        Self { connections, permits, exchange, refused: AtomicU64::new(0), timed_out: AtomicU64::new(0) }
    }

    pub(super) fn counts(&self) -> AdminCounts {
        let open = self.connections.saturating_sub(self.permits.available_permits());
        AdminCounts {
            open: u64::try_from(open).unwrap_or(u64::MAX),
            refused: self.refused.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
        }
    }
}

/// A listener that closes what comes over the limit, and bounds the rest in time.
#[derive(Debug)]
pub(super) struct Guarded {
    listener: TcpListener,
    limits: Arc<Limits>,
}

impl Guarded {
    pub(super) fn new(listener: TcpListener, limits: Arc<Limits>) -> Self {
        Self { listener, limits }
    }
}

impl axum::serve::Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                // The peer left before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // No descriptor or no memory for it: that does not get better at once.
                Err(_) => {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Ok(permit) = Arc::clone(&self.limits.permits).try_acquire_owned() {
                return (Connection::new(stream, permit, Arc::clone(&self.limits)), peer);
            }
            self.limits.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection with a deadline for each exchange: it is set anew by the first bytes read after something was written.
/// So it bounds a head that trickles in, a reply that is not read (both counted), and idleness between two requests.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    answered: bool,
    limits: Arc<Limits>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, limits: Arc<Limits>) -> Self {
        let deadline = Box::pin(sleep(limits.exchange));
        Self { stream, deadline, answered: false, limits, _permit: permit }
    }

    /// What an operation that has to wait returns: pending until the deadline, an error from then on.
    fn wait<T>(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<io::Result<T>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                // A scraper that kept its connection for later did nothing wrong.
                if !idle {
                    self.limits.timed_out.fetch_add(1, Ordering::Relaxed);
                }
                // Not twice for one connection: what is polled after an error finds a deadline far ahead.
                self.deadline.as_mut().reset(Instant::now() + self.limits.exchange);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => {
                let idle = self.answered;
                self.wait(cx, idle)
            }
            ready @ Poll::Ready(_) => {
                if buf.filled().len() > before && self.answered {
                    self.answered = false;
                    let next = Instant::now() + self.limits.exchange;
                    self.deadline.as_mut().reset(next);
                }
                ready
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Pending => self.wait(cx, false),
            ready @ Poll::Ready(_) => {
                self.answered = true;
                ready
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.wait(cx, false),
            ready @ Poll::Ready(_) => {
                self.answered = true;
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
