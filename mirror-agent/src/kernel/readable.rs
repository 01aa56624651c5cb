//! Descriptors of the kernel room that the control runtime waits for.
#![allow(unsafe_code, reason = "tokio registers a descriptor by number and trusts its owner to keep it open")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Owns something that becomes readable. Its descriptor must stay the same while it is owned, as that of every type
/// in this room does.
#[derive(Debug)]
pub struct Readable<T: AsFd>(AsyncFd<Numbered<T>>);

/// A descriptor by number, as tokio wants it.
#[derive(Debug)]
struct Numbered<T>(T);

impl<T: AsFd> AsRawFd for Numbered<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: AsFd> Readable<T> {
    /// Takes `inner` over. To be called on the control runtime.
    ///
    /// # Errors
    ///
    /// When epoll does not take the descriptor.
    pub fn new(inner: T) -> io::Result<Self> {
        // SAFETY: `AsFd` gives a descriptor that is open as long as `inner` lives; `inner` is owned by the returned value
        // and only lent out after this, so it cannot be closed or replaced before the registration ends.
        let registered = unsafe { AsyncFd::register_with_interest(Numbered(inner), Interest::READABLE) };
        registered.map(Self).map_err(io::Error::from)
    }

    /// Waits until it is readable. The readiness is used up: read everything before waiting again.
    pub async fn ready(&self) {
        if let Ok(mut guard) = self.0.readable().await {
            guard.clear_ready();
        }
    }

    /// What is inside.
    pub fn get(&self) -> &T {
        &self.0.get_ref().0
    }

    /// What is inside, to read from.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0.get_mut().0
    }
}
