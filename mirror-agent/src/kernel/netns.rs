//! Network namespaces: how one is named, who it is, and work inside it.
//!
//! Work in another namespace runs on a thread that enters it once, does that work and ends. Nothing else of this room ever
//! holds a descriptor of a namespace or a socket in it, so that a dead pod's namespace can go.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use super::sys;

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";
/// Most processes looked at when namespaces are searched.
const MAX_PROCESSES: usize = 65_536;

/// Who a network namespace is. Equality is that of the cookie: an inode may be given to another namespace later, a cookie never
/// is until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct NetnsId {
    /// `SO_NETNS_COOKIE`.
    pub cookie: u64,
    /// The number in `net:[N]` as `lsns` and `/proc/PID/ns/net` show it.
    pub inode: u64,
}

/// How a network namespace is found. Cheap to clone; holds no descriptor of the namespace.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Source>);

#[derive(Debug)]
enum Source {
    Current,
    Path(PathBuf),
    /// The directory of the process stays open: it is bound to this very process, and a later one with the same
    /// number is not mistaken for it.
    Process {
        pid: u32,
        directory: File,
    },
}

impl Netns {
    /// The namespace of the calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self(Arc::new(Source::Current))
    }

    /// A namespace by path, or by the name that `ip netns` gave it. Nothing is opened yet.
    #[must_use]
    pub fn named(path_or_name: &str) -> Self {
        let path = if path_or_name.contains('/') {
            PathBuf::from(path_or_name)
        } else {
            Path::new(NAMED).join(path_or_name)
        };
        Self(Arc::new(Source::Path(path)))
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let directory = File::open(format!("/proc/{pid}"))?;
        Ok(Self(Arc::new(Source::Process { pid, directory })))
    }

    /// Who the namespace is now. Only looks at its file.
    ///
    /// # Errors
    /// When the path or the process is gone, or the path is no network namespace.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(File::from(self.open()?).metadata()?.ino())
    }

    /// Runs `work` inside the namespace: on this thread if it is there already, else on one that enters it and ends.
    ///
    /// # Errors
    /// When the namespace cannot be opened or entered (`CAP_SYS_ADMIN`), or the thread cannot be made.
    pub fn within<T: Send>(&self, work: impl FnOnce(NetnsId) -> T + Send) -> io::Result<T> {
        match &*self.0 {
            Source::Current => Ok(work(current_id()?)),
            Source::Path(_) | Source::Process { .. } => enter(self.open()?, work),
        }
    }

    /// As [`Self::within`], but only if the namespace is still `id`, wherever it may be found now: by this source, by a name, or
    /// by any process that lives in it.
    ///
    /// # Errors
    /// `NotFound` when nothing leads to the namespace any more.
    pub(super) fn within_same<T: Send>(
        &self,
        id: NetnsId,
        work: impl FnOnce(NetnsId) -> T + Send,
    ) -> io::Result<T> {
        if current_id()?.cookie == id.cookie {
            return Ok(work(id));
        }
        let mut work = Some(work);
        let mut attempt = |file: OwnedFd| -> Option<T> {
            enter(
                file,
                |found| if found.cookie == id.cookie { work.take().map(|work| work(found)) } else { None },
            )
            .ok()
            .flatten()
        };
        if let Some(done) = self.open().ok().and_then(&mut attempt) {
            return Ok(done);
        }
        for path in candidates() {
            // The inode alone proves nothing, but spares the entering of all others.
            if fs::metadata(&path).is_ok_and(|m| m.ino() == id.inode)
                && let Some(done) = File::open(&path).ok().and_then(|f| attempt(f.into()))
            {
                return Ok(done);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no way leads into net:[{}] any more", id.inode)))
    }

    /// The flag that leads there, `None` for this namespace.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        match &*self.0 {
            Source::Current => None,
            Source::Path(path) => {
                let name = path.strip_prefix(NAMED).unwrap_or(path);
                Some(format!("--netns {}", name.display()))
            }
            Source::Process { pid, .. } => Some(format!("--pid {pid}")),
        }
    }

    /// A descriptor of the namespace; it must not outlive the work in hand.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        match &*self.0 {
            Source::Current => Ok(File::open("/proc/thread-self/ns/net")?.into()),
            Source::Path(path) => Ok(File::open(path)?.into()),
            Source::Process { directory, .. } => {
                Ok(openat(directory.as_fd(), "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
            }
        }
    }
}

impl PartialEq for Netns {
    /// Whether both are found in the same way.
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (Source::Current, Source::Current) => true,
            (Source::Path(a), Source::Path(b)) => a == b,
            (Source::Process { pid: a, .. }, Source::Process { pid: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl Eq for Netns {}

impl std::fmt::Display for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Source::Current => f.write_str("this network namespace"),
            Source::Path(path) => match path.strip_prefix(NAMED) {
                Ok(name) => write!(f, "network namespace {}", name.display()),
                Err(_) => write!(f, "network namespace {}", path.display()),
            },
            Source::Process { pid, .. } => write!(f, "the network namespace of process {pid}"),
        }
    }
}

/// Every namespace of this host that a name or a process leads to, each once: this one first, then named ones, then those of
/// processes. What a container with its own PID namespace sees of it is less.
#[must_use]
pub fn all() -> Vec<Netns> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let current = Netns::current();
    if let Ok(inode) = current.inode() {
        seen.insert(inode);
    }
    found.push(current);
    for path in candidates() {
        // Reading an inode opens nothing, so a namespace is opened at most once.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !seen.insert(metadata.ino()) {
            continue;
        }
        let pid = path.strip_prefix("/proc").ok().and_then(|p| p.iter().next()?.to_str()?.parse().ok());
        let netns = match pid {
            Some(pid) => Netns::of_process(pid),
            None => Ok(Netns(Arc::new(Source::Path(path)))),
        };
        found.extend(netns);
    }
    found
}

/// The namespace of the calling thread.
pub(super) fn current_id() -> io::Result<NetnsId> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let probe = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let cookie = sys::netns_cookie(probe.as_fd())?;
    Ok(NetnsId { cookie, inode: fs::metadata("/proc/thread-self/ns/net")?.ino() })
}

fn enter<T: Send>(file: OwnedFd, work: impl FnOnce(NetnsId) -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                drop(file);
                Ok(work(current_id()?))
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let named = fs::read_dir(NAMED).into_iter().flatten().flatten().map(|entry| entry.path());
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
        })
        .take(MAX_PROCESSES)
        .map(|entry| entry.path().join("ns/net"));
    named.chain(processes)
}
