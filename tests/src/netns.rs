//! Network namespaces as values: made by name, entered by a thread or a child process, gone when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::kernel;

const RUN: &str = "/run/netns";
const PREFIX: &str = "mt";

/// A network namespace of this process; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// A new namespace with `lo` up. `role` ends its name.
    ///
    /// # Errors
    /// When not root, or when `ip` fails.
    pub fn new(role: &str) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab makes network namespaces: run it as root (cargo xtask test does, or leaves this level out and says so)"
        );
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run_checked(Command::new("ip").args(["netns", "add", &name]))?;
        let file = File::open(format!("{RUN}/{name}"))?;
        let made = Self { name, file };
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// Its name, as `ip netns exec` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("{RUN}/{}", self.name))
    }

    /// The descriptor that `setns` takes; open as long as this value lives.
    #[must_use]
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `ip -n NAME` with the words of `line`.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn ip(&self, line: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(line.split_whitespace());
        run_checked(&mut command)
    }

    /// Runs the words of `line` inside.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn sh(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("empty command")?);
        command.args(words);
        run_checked(&mut command)
    }

    /// Runs `nft` with `rules` inside.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn nft(&self, rules: &str) -> Result<String> {
        let mut command = self.command("nft");
        command.arg(rules);
        run_checked(&mut command)
    }

    /// Sets a `net.*` key, written with slashes (`ipv4/ip_forward`).
    ///
    /// # Errors
    /// When the key is not there.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| std::fs::write(&path, value)).with_context(|| path.clone())
    }

    /// A command that will run inside, and dies with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        kernel::enter_on_exec(&mut command, Some(self.file.as_raw_fd()), None);
        command
    }

    /// The same, as user `uid` with all capabilities dropped.
    #[must_use]
    pub fn command_as(&self, program: impl AsRef<std::ffi::OsStr>, uid: u32) -> Command {
        let mut command = Command::new(program);
        kernel::enter_on_exec(&mut command, Some(self.file.as_raw_fd()), Some(uid));
        command
    }

    /// Runs `work` on a thread inside. Sockets it makes stay in this namespace wherever they are used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering a namespace of this lab");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A connection from inside.
    ///
    /// # Errors
    /// What connect said.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))
    }

    /// Index of an interface.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(interface)).with_context(|| interface.to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "# was in namespace {}; to look inside, keep it with MIRROR_LAB_KEEP=1 and: ip netns exec {} bash",
                self.name, self.name
            );
        }
        if std::env::var_os("MIRROR_LAB_KEEP").is_some() {
            return;
        }
        if let Err(err) = run_checked(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("# {err:#}");
        }
    }
}

/// True if `pid` is the id of a process that has ended.
pub(crate) fn is_dead(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

/// Runs a command to its end; its output, or an error that holds what it said.
///
/// # Errors
/// When it cannot be started or does not exit 0.
pub fn run_checked(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Removes namespaces whose lab died without doing so.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(RUN) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        let dead = pid.is_some_and(is_dead);
        if dead && std::env::var_os("MIRROR_LAB_KEEP").is_none() {
            let _gone_already = run_checked(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}
