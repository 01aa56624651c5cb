//! The `mirror` binary under test.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client::Conn;
use crate::eventually::wait_for;
use crate::netns::Namespace;
use crate::process::Process;
use crate::stats::Stats;

/// Where the lab's mirror serves its admin API, inside its own namespace.
pub const ADMIN: &str = "127.0.0.1:9901";
/// How long a start may take on a busy machine; the verifier runs in this time.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take until nothing is on its way any more.
const REST_PATIENCE: Duration = Duration::from_secs(20);
/// How long SIGTERM may take: 2 s are promised, the rest is for a busy machine.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Path of the binary: `MIRROR_BIN`, or the release binary of this workspace, in `CARGO_TARGET_DIR` if that is set.
#[must_use]
pub fn binary() -> PathBuf {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::env::var_os("MIRROR_BIN").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            workspace.join(target).join("release/mirror")
        },
        PathBuf::from,
    )
}

/// Runs `mirror inspect` with these arguments, and `input` as standard input.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn inspect(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(binary());
    command.arg("inspect").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("mirror starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    std::thread::scope(|scope| {
        // It may end before it read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("mirror ends")
    })
}

/// A running `mirror run`.
#[derive(Debug)]
pub struct Mirror<'ns> {
    namespace: &'ns Namespace,
    process: Process,
    ready: Value,
}

impl<'ns> Mirror<'ns> {
    /// Starts `mirror run` with `args` in `namespace` and waits until its taps are in place.
    ///
    /// # Errors
    /// When it ends or says nothing instead.
    pub fn start(namespace: &'ns Namespace, args: &[String]) -> Result<Self> {
        Self::start_command(namespace, namespace.command(binary()), args)
    }

    /// The same with a command that was prepared (other user, other environment).
    ///
    /// # Errors
    /// As [`Mirror::start`].
    pub fn start_command(namespace: &'ns Namespace, mut command: Command, args: &[String]) -> Result<Self> {
        command.arg("run").args(args).args(["--json", "--admin", ADMIN]);
        let shown = format!("{command:?}");
        let mut process = Process::spawn("mirror", command)?;
        let ready =
            process.wait_line(START_PATIENCE, |line| event(line, "ready")).with_context(|| shown.clone())?;
        Ok(Self { namespace, process, ready })
    }

    /// The `ready` event.
    #[must_use]
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// GET from the admin API: status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn admin(&self, path: &str) -> Result<(u16, String)> {
        let to: SocketAddr = ADMIN.parse()?;
        let mut conn = Conn::open(self.namespace, to)?;
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let answer = conn.response("GET")?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Its numbers now.
    ///
    /// # Errors
    /// When the admin API does not give them.
    pub fn stats(&self) -> Result<Stats> {
        let (status, body) = self.admin("/api/v1/stats")?;
        ensure!(status == 200, "/api/v1/stats: {status}: {body}");
        let value: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        // One job today; a list of jobs has it first.
        Ok(Stats(value.get(0).cloned().unwrap_or(value)))
    }

    /// Waits until `holds` for its numbers; the numbers then.
    ///
    /// Panics with the last numbers when that does not come to be.
    #[track_caller]
    pub fn wait_stats(&self, what: &str, patience: Duration, mut holds: impl FnMut(&Stats) -> bool) -> Stats {
        let mut last = Stats::default();
        let found = wait_for(patience, || {
            last = self.stats().expect("the admin API answers while the mirror runs");
            holds(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("not within {patience:?}: {what}; the mirror says {last:?}"))
    }

    /// Waits until `observed` requests were seen and nothing is on its way, and checks both laws.
    ///
    /// Panics with the numbers when that does not come to be.
    #[track_caller]
    pub fn rest(&self, observed: u64) -> Stats {
        let stats = self.wait_stats(&format!("{observed} observed and at rest"), REST_PATIENCE, |stats| {
            stats.observed() >= observed && stats.at_rest() && stats.broken_laws().is_empty()
        });
        assert_eq!(stats.observed(), observed, "requests observed; the mirror says {stats:?}");
        stats
    }

    /// Waits until nothing is on its way and both laws hold, however many requests that were.
    #[track_caller]
    pub fn rest_at_all(&self) -> Stats {
        let mut before = None;
        self.wait_stats("at rest", REST_PATIENCE, |stats| {
            // Twice the same reading: what the ring still holds is not yet in any number.
            let now = (stats.observed(), stats.n("/bytes/matched"), stats.n("/witnessed"));
            let same = before.replace(now) == Some(now);
            same && stats.at_rest() && stats.broken_laws().is_empty()
        })
    }

    /// Ends it by SIGTERM: its exit status and the last numbers it said.
    ///
    /// # Errors
    /// When it does not end, or says no `final` event.
    pub fn stop(mut self) -> Result<(ExitStatus, Stats)> {
        self.process.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Waits for its end (after a signal, or by `--duration`): its exit status and the last numbers it said.
    ///
    /// # Errors
    /// As [`Mirror::stop`].
    pub fn ended(&mut self) -> Result<(ExitStatus, Stats)> {
        let status = self.process.wait(STOP_PATIENCE).context("the mirror does not end")?;
        let last = self.process.wait_line(Duration::from_secs(2), |line| event(line, "final"))?;
        Ok((status, Stats(last)))
    }
}

/// The JSON of a line that is event `name`.
#[must_use]
pub fn event(line: &str, name: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("event")?.as_str()? == name).then_some(value)
}
