//! HTTP/2 peers that others made: hypercorn, nghttpd and gRPC's own library as servers, nghttp, h2load, curl and gRPC as
//! clients. The Python ones live in an environment of their own that `cargo xtask setup` makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::eventually::{eventually, wait_for};
use crate::mirror::Mirror;
use crate::netns::Namespace;
use crate::process::Process;
use crate::server::{Line, read_log, unique};
use crate::stats::Stats;
use crate::world::{Tap, World, end};

const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client may take on a busy machine.
const CLIENT_PATIENCE: Duration = Duration::from_secs(90);

/// A program of the Python environment: `MIRROR_PEERS` names its folder, else it is where `cargo xtask setup` puts it.
///
/// # Errors
/// When it is not there.
pub fn python_program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("MIRROR_PEERS").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        Some(cache?.join("mirror").join("peers"))
    });
    let path = folder.context("no HOME to look for the Python peers in")?.join("bin").join(name);
    ensure!(path.is_file(), "{} is missing: run `cargo xtask setup --only programs`", path.display());
    Ok(path)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A server of HTTP/2 that logs what it got.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub process: Process,
    log: PathBuf,
    at: SocketAddr,
}

impl Server {
    /// hypercorn with `peers/asgi.py`, which speaks HTTP/1.1 and HTTP/2. `options` are hypercorn's.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn hypercorn(world: &World, namespace: &Namespace, at: SocketAddr, options: &[&str]) -> Result<Self> {
        let log = log_file(world, namespace, "hypercorn");
        let mut command = namespace.command(python_program("hypercorn")?);
        command
            .args(["--bind", &at.to_string(), "--log-level", "warning"])
            .args(options)
            .arg("asgi:app")
            .current_dir(script(""))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("LOG", &log);
        Self::started(Process::spawn("hypercorn", command)?, namespace, log, at)
    }

    /// gRPC's library with `peers/grpc_server.py`.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn grpc(world: &World, namespace: &Namespace, at: SocketAddr, options: &[&str]) -> Result<Self> {
        let log = log_file(world, namespace, "grpc");
        let mut command = namespace.command(python_program("python")?);
        command.arg(script("grpc_server.py")).arg(at.to_string()).arg(&log).args(options);
        Self::started(Process::spawn("grpc_server", command)?, namespace, log, at)
    }

    /// nghttpd without TLS, serving an empty folder. It logs nothing.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn nghttpd(world: &World, namespace: &Namespace, at: SocketAddr, options: &[&str]) -> Result<Self> {
        let log = log_file(world, namespace, "nghttpd");
        let mut command = namespace.command("nghttpd");
        command.arg("--no-tls").args(["-a", &at.ip().to_string(), "-d"]).arg(world.dir()).args(options);
        command.arg(at.port().to_string());
        Self::started(Process::spawn("nghttpd", command)?, namespace, log, at)
    }

    fn started(mut process: Process, namespace: &Namespace, log: PathBuf, at: SocketAddr) -> Result<Self> {
        wait_for(START_PATIENCE, || {
            let up = namespace.connect(at).is_ok();
            (up || process.ended().is_some()).then_some(up)
        })
        .filter(|up| *up)
        .with_context(|| format!("nobody listens at {at}: {:?}", process.stderr()))?;
        Ok(Self { process, log, at })
    }

    /// Where it listens.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its log so far, requests that were cut included.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        read_log(&self.log)
    }

    /// The whole requests in its log so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Line> {
        self.log().into_iter().filter(|line| !line.cut).collect()
    }

    /// Messages that a gRPC server got so far, those of calls that are not over included.
    #[must_use]
    pub fn messages(&self) -> usize {
        let mut path = self.log.clone().into_os_string();
        path.push(".messages");
        std::fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    /// Waits until its log has `count` whole requests.
    #[track_caller]
    pub fn has_logged(&self, count: usize) {
        eventually("the log has every request", Duration::from_secs(10), || self.requests().len() >= count);
        assert_eq!(self.requests().len(), count, "requests in the log");
    }
}

fn log_file(world: &World, namespace: &Namespace, name: &str) -> PathBuf {
    world.dir().join(format!("{name}-{}-{}.log", namespace.name(), unique()))
}

/// Runs curl over HTTP/2 with prior knowledge; what it printed. Fails on any HTTP error.
///
/// # Errors
/// What curl said.
pub fn curl(from: &Namespace, args: &[&str]) -> Result<String> {
    let mut all = vec!["--http2-prior-knowledge"];
    all.extend(args);
    crate::tools::curl(from, &all)
}

/// Runs nghttp, which must succeed.
///
/// # Errors
/// What nghttp said.
pub fn nghttp(from: &Namespace, args: &[&str]) -> Result<String> {
    let mut command = from.command("nghttp");
    command.args(["--timeout=30", "--no-dep"]).args(args);
    said("nghttp", command)
}

/// Runs h2load; how many of its requests succeeded.
///
/// # Errors
/// When it fails or its report cannot be read.
pub fn h2load(from: &Namespace, args: &[&str]) -> Result<u64> {
    let mut command = from.command("h2load");
    command.args(args);
    let text = said("h2load", command)?;
    let line = text.lines().find(|line| line.starts_with("requests:")).context("h2load's report")?;
    let word =
        line.split(", ").find_map(|part| part.strip_suffix(" succeeded")).context("h2load's report")?;
    Ok(word.trim().parse()?)
}

/// A gRPC client that runs; see `peers/grpc_client.py` for its modes.
///
/// # Errors
/// When it cannot be started.
pub fn grpc_client(from: &Namespace, to: SocketAddr, args: &[&str]) -> Result<Process> {
    let mut command = from.command(python_program("python")?);
    command.arg(script("grpc_client.py")).arg(to.to_string()).args(args);
    Process::spawn("grpc_client", command)
}

/// A WebSocket client that runs; see `peers/ws_client.py` for its modes.
///
/// # Errors
/// When it cannot be started.
pub fn ws_client(from: &Namespace, to: SocketAddr, args: &[&str]) -> Result<Process> {
    let mut command = from.command(python_program("python")?);
    command.arg(script("ws_client.py")).arg(to.to_string()).args(args);
    Process::spawn("ws_client", command)
}

/// Runs a gRPC client to its end: calls that went well, calls that did not.
///
/// # Errors
/// When it fails.
pub fn grpc_calls(from: &Namespace, to: SocketAddr, args: &[&str]) -> Result<(u64, u64)> {
    report(grpc_client(from, to, args)?)
}

/// What a client reports at its end: what went well, what did not.
///
/// # Errors
/// When it fails.
pub fn report(client: Process) -> Result<(u64, u64)> {
    let (status, stdout, stderr) = client.finish(CLIENT_PATIENCE)?;
    ensure!(status.success(), "{status}: {stderr:?}");
    let last = stdout.iter().find_map(|line| line.strip_prefix("done ")).context("the client's report")?;
    let (good, bad) = last.split_once(' ').context("the client's report")?;
    Ok((good.parse()?, bad.parse()?))
}

fn said(name: &str, command: Command) -> Result<String> {
    let (status, stdout, stderr) = Process::spawn(name, command)?.finish(CLIENT_PATIENCE)?;
    ensure!(status.success(), "{status}: {} {}", stdout.join("\n"), stderr.join("\n"));
    Ok(stdout.join("\n"))
}

/// Ends a scenario of which `sent` requests were observed: at rest, both laws, nothing left attached.
#[track_caller]
pub fn finish(world: &World, mirror: Mirror<'_>, sent: u64) -> Stats {
    mirror.rest(sent);
    end(world, Tap::HostSide, mirror)
}
