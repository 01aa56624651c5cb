//! Hears of interfaces, addresses and filters that go and come, in this network namespace and in those of the taps.
//!
//! A socket in another namespace would keep that alive. So there is one socket, here, that hears every namespace to which
//! this one has given a number; the kernel takes the number back when the namespace dies, and tells us.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::attach::{Change, Taps};
use super::netlink::{self, NLM_F_CREATE, NLM_F_EXCL, Request, Socket};
use super::netns::Netns;
use super::sys;

/// What changes in bursts is looked at once: so long after the first word of it.
pub const SETTLE: Duration = Duration::from_millis(20);
/// Least time between two words of [`Watcher::wait`]: a host on which something changes all the time is looked at so often.
pub const PACE: Duration = Duration::from_millis(200);
/// Most datagrams read at a time; a flood of news is no reason to do nothing else.
const MAX_READ: usize = 1024;

const RTM_NEWNSID: u16 = 88;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const NETLINK_LISTEN_ALL_NSID: i32 = 8;
const GROUPS: [u32; 5] = [1, 4, 5, 9, 28]; // LINK, TC, IPV4_IFADDR, IPV6_IFADDR, NSID

/// A socket that becomes readable when something changed.
pub struct Watcher {
    socket: Socket,
    hears_all: bool,
    last: Option<Instant>,
}

impl Watcher {
    /// Listens from now on. To be made before the taps, so that nothing falls between. Without `CAP_NET_BROADCAST` it hears this
    /// namespace only, and [`Self::follow`] says so.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn new() -> io::Result<Self> {
        let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let socket = Socket::with_groups(mask)?;
        let hears_all = sys::set_netlink_option(socket.as_fd(), NETLINK_LISTEN_ALL_NSID, 1).is_ok();
        Ok(Self { socket, hears_all, last: None })
    }

    /// Hears the namespaces of `taps` too. To be called after each change of their specs, and after a refresh, since a name may
    /// lead to another namespace then. Returns a line for each namespace that cannot be heard: refresh each second while
    /// there is one.
    pub fn follow(&self, taps: &Taps) -> Vec<String> {
        let deaf = |netns: Netns| match self.follow_one(&netns) {
            Ok(()) => None,
            Err(error) => Some(format!("changes in {netns} are not heard of: {error}")),
        };
        taps.namespaces().into_iter().filter_map(deaf).collect()
    }

    /// Waits until something changes and settles ([`SETTLE`]), or until `timeout`. Says whether something changed, at most
    /// once in [`PACE`].
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let milliseconds = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, milliseconds) {
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(0) if Instant::now() >= end => return Ok(false),
                Ok(0) => {}
                Ok(_) => {
                    let since = self.last.map_or(PACE, |last| last.elapsed());
                    std::thread::sleep(SETTLE.max(PACE.saturating_sub(since)));
                    self.last = Some(Instant::now());
                    return self.drain();
                }
            }
        }
    }

    /// Reads all news without waiting and says whether there was any.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut heard = false;
        for _ in 0..MAX_READ {
            match self.socket.try_hear() {
                Ok(Some(_)) => heard = true,
                Ok(None) => break,
                // News were lost for want of room, which is news.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard = true,
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }

    /// Reads the news, and if there is any refreshes `taps` and follows where they went. Who calls this from an event loop rather
    /// than after [`Self::wait`] keeps to [`PACE`].
    ///
    /// # Errors
    /// When the socket fails.
    pub fn refresh(&mut self, taps: &mut Taps) -> io::Result<Vec<Change>> {
        if !self.drain()? {
            return Ok(Vec::new());
        }
        let changes = taps.refresh();
        for line in self.follow(taps) {
            tracing::debug!("{line}");
        }
        Ok(changes)
    }

    fn follow_one(&self, netns: &Netns) -> io::Result<()> {
        if netns.inode()? == Netns::current().inode()? {
            return Ok(());
        }
        if !self.hears_all {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "CAP_NET_BROADCAST is missing"));
        }
        let file = netns.open()?;
        let request = Request::new(RTM_NEWNSID, NLM_F_CREATE | NLM_F_EXCL, &[0])
            .attribute(NETNSA_NSID, &(-1i32).to_ne_bytes())
            .attribute(NETNSA_FD, &file.as_raw_fd().to_ne_bytes());
        match Socket::open()?.request(&request) {
            // It has a number already.
            Err(error) if netlink::errno(&error) == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
