//! Four network namespaces, an nginx at both ends, and wrk: just enough to load a mirror and read what it cost.
//!
//! ```text
//! cli --(vcli) node (vpri)-- pri        mirror runs in `node`
//!                   (vsha)-- sha
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::repo;

/// The primary's address.
pub(super) const PRIMARY: &str = "10.77.2.2";
/// The shadow's address.
pub(super) const SHADOW: &str = "10.77.3.2";
/// The port that is mirrored.
pub(super) const PORT: u16 = 8080;
/// A port of the primary that no job matches.
pub(super) const OTHER_PORT: u16 = 8090;

/// Begins the name of every namespace made here; the process id follows.
const PREFIX: &str = "mxb";
const ROLES: [&str; 4] = ["cli", "node", "pri", "sha"];
/// Clock ticks a second in /proc/PID/stat; fixed in the kernel's interface to user space.
const TICKS: f64 = 100.0;

/// The lab; gone, with all that runs in it, when dropped.
pub(super) struct Lab {
    servers: Vec<(&'static str, Running)>,
    files: PathBuf,
}

/// A way to load the primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Name in the tables.
    pub(super) name: &'static str,
    /// Bytes of each request's body; 0 is a GET.
    pub(super) body: usize,
    pub(super) connections: u32,
}

/// What one phase of load did and cost.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) requests_per_second: f64,
    /// Requests that the primary and the shadow logged as complete.
    pub(super) primary: u64,
    pub(super) shadow: u64,
    /// CPU seconds: `client`, `pri`, `sha`, `mirror`, `softirq`.
    pub(super) cpu: BTreeMap<&'static str, f64>,
}

impl Phase {
    /// CPU seconds a request, of everything but the shadow.
    pub(super) fn cost_without_shadow(&self) -> f64 {
        let all: f64 = self.cpu.iter().filter(|(who, _)| **who != "sha").map(|(_, seconds)| seconds).sum();
        all / self.primary.max(1) as f64
    }
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        remove_leftovers()?;
        let files = repo::target_dir().join("bench");
        fs::create_dir_all(&files)?;
        // Owned before the first namespace is made: whatever fails from here on is cleaned up.
        let mut lab = Self { servers: Vec::new(), files };
        for role in ROLES {
            ip(&["netns", "add", &namespace(role)])?;
            ip(&["-n", &namespace(role), "link", "set", "lo", "up"])?;
        }
        for (net, role) in [(1, "cli"), (2, "pri"), (3, "sha")] {
            let (node, far) = (namespace("node"), namespace(role));
            let near = format!("v{role}");
            ip(&["-n", &node, "link", "add", &near, "type", "veth", "peer", "name", "eth0", "netns", &far])?;
            for (netns, device, host) in [(&node, near.as_str(), 1), (&far, "eth0", 2)] {
                ip(&["-n", netns, "addr", "add", &format!("10.77.{net}.{host}/24"), "dev", device])?;
                ip(&["-n", netns, "link", "set", device, "up"])?;
            }
            ip(&["-n", &far, "route", "add", "default", "via", &format!("10.77.{net}.1")])?;
        }
        repo::output(&mut lab.command("node", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]))?;
        for role in ["pri", "sha"] {
            lab.serve(role)?;
        }
        Ok(lab)
    }

    /// Starts `mirror run` in the node's namespace and waits until it mirrors.
    pub(super) fn mirror(&self, flags: &[&str]) -> Result<Running> {
        let binary = repo::mirror_binary();
        let primary = format!("{PRIMARY}:{PORT}");
        let shadow = format!("http://{SHADOW}:{PORT}");
        let mut command = self.command("node", &binary.to_string_lossy(), &["run", "--interface", "vcli"]);
        command.args(["--primary", &primary, "--shadow", &shadow]).args(flags);
        let log = self.files.join("mirror.log");
        let running = Running::start(&mut command, &log)?;
        let from = self.logged("sha")?;
        // It is ready when a copy arrives, which is also the first thing worth knowing.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let mut probe = self.command("cli", "curl", &["-fsS", "-o", "/dev/null", "-m", "2"]);
            repo::output(probe.arg(format!("http://{primary}/")))?;
            sleep(Duration::from_millis(400));
            if self.logged("sha")? > from {
                return Ok(running);
            }
            ensure!(running.is_alive(), "mirror ended: {}", tail(&log));
        }
        bail!("no copy reached the shadow within 10 s: {}", tail(&log));
    }

    /// Loads the primary for some seconds and reads what that did and cost.
    pub(super) fn load(
        &self,
        load: Load,
        port: u16,
        seconds: u32,
        mirror: Option<&Running>,
    ) -> Result<Phase> {
        self.settle()?;
        let logged = (self.logged("pri")?, self.logged("sha")?);
        let before = self.cpu(mirror)?;
        let output = repo::output(&mut self.wrk(load, port, seconds)?)?;
        // What the mirror does after the last request belongs to the phase.
        self.settle()?;
        let after = self.cpu(mirror)?;
        let cpu =
            after.into_iter().map(|(who, seconds)| (who, seconds - before.get(who).copied().unwrap_or(0.0)));
        let per_second = output
            .lines()
            .find_map(|line| line.trim().strip_prefix("Requests/sec:"))
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("wrk printed no rate: {output}"))?;
        Ok(Phase {
            requests_per_second: per_second,
            primary: self.logged("pri")? - logged.0,
            shadow: self.logged("sha")? - logged.1,
            cpu: cpu.collect(),
        })
    }

    fn wrk(&self, load: Load, port: u16, seconds: u32) -> Result<Command> {
        let duration = format!("-d{seconds}s");
        let connections = format!("-c{}", load.connections);
        let mut wrk = self.command("cli", "wrk", &["-t2", &connections, &duration, "--timeout", "10s"]);
        if load.body > 0 {
            let script = self.files.join(format!("{}.lua", load.name));
            fs::write(
                &script,
                format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {})\n", load.body),
            )?;
            wrk.arg("-s").arg(script);
        }
        let path = if load.body > 0 { "post" } else { "item" };
        wrk.arg(format!("http://{PRIMARY}:{port}/{path}"));
        Ok(wrk)
    }

    fn serve(&mut self, role: &'static str) -> Result<()> {
        let address = if role == "pri" { PRIMARY } else { SHADOW };
        let config = self.files.join(format!("{role}.conf"));
        fs::write(&config, nginx_config(&self.files.to_string_lossy(), role, address))?;
        // A log of an earlier run would be counted as requests of this one.
        File::create(self.access_log(role))?;
        let mut command = self.command(role, "nginx", &[]);
        command.arg("-c").arg(&config).arg("-e").arg(self.files.join(format!("{role}.err")));
        let running = Running::start(&mut command, &self.files.join(format!("{role}.out")))?;
        let listens = format!("{address}:{PORT} ");
        let deadline = Instant::now() + Duration::from_secs(8);
        while !repo::output(&mut self.command(role, "ss", &["-Hltn"]))?.contains(&listens) {
            ensure!(running.is_alive() && Instant::now() < deadline, "nginx does not listen on {listens}");
            sleep(Duration::from_millis(50));
        }
        self.servers.push((role, running));
        Ok(())
    }

    /// Waits until both servers have logged nothing more for a while.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(6);
        let mut last = (0, 0);
        let mut since = Instant::now();
        while Instant::now() < deadline && since.elapsed() < Duration::from_millis(600) {
            let now = (self.log_size("pri")?, self.log_size("sha")?);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn access_log(&self, role: &str) -> PathBuf {
        self.files.join(format!("{role}.log"))
    }

    fn log_size(&self, role: &str) -> Result<u64> {
        Ok(fs::metadata(self.access_log(role))?.len())
    }

    /// Requests that a server has answered with 200; each is logged as one byte and a line end.
    fn logged(&self, role: &str) -> Result<u64> {
        Ok(self.log_size(role)? / 2)
    }

    /// CPU seconds used so far.
    fn cpu(&self, mirror: Option<&Running>) -> Result<BTreeMap<&'static str, f64>> {
        let mut used = BTreeMap::new();
        for (role, server) in &self.servers {
            used.insert(*role, cpu_of_tree(server.child.id()));
        }
        if let Some(mirror) = mirror {
            used.insert("mirror", cpu_of_tree(mirror.child.id()));
        }
        used.insert("softirq", cpu_of_softirq()?);
        // wrk is the only child that is waited for within a phase.
        used.insert("client", stat(std::process::id()).map_or(0.0, |stat| stat.waited_for));
        Ok(used)
    }

    fn command(&self, role: &str, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(role), program]).args(args).current_dir(&self.files);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.servers.clear();
        for role in ROLES {
            // Those that were not made yet are reported by ip and harmless.
            let _absent = ip(&["netns", "del", &namespace(role)]);
        }
    }
}

/// A program of the lab; asked to end, then killed, when dropped.
pub(super) struct Running {
    child: Child,
}

impl Running {
    fn start(command: &mut Command, log: &std::path::Path) -> Result<Self> {
        let log = File::create(log)?;
        let words = repo::spelled(command);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("could not start `{words}`"))? })
    }

    /// Peak resident memory so far, MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = peak.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
        kib / 1024.0
    }

    fn is_alive(&self) -> bool {
        // A zombie still has its directory, but no memory map.
        fs::read_to_string(format!("/proc/{}/statm", self.child.id()))
            .is_ok_and(|statm| !statm.starts_with("0 "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _gone = repo::succeeds(Command::new("kill").args(["-TERM", &pid]));
        let deadline = Instant::now() + Duration::from_secs(4);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn namespace(role: &str) -> String {
    format!("{PREFIX}{}-{role}", std::process::id())
}

fn ip(args: &[&str]) -> Result<String> {
    repo::output(Command::new("ip").args(args))
}

/// Removes namespaces of runs that were killed.
fn remove_leftovers() -> Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !std::path::Path::new(&format!("/proc/{owner}")).exists()
        {
            ip(&["netns", "del", name])?;
        }
    }
    Ok(())
}

/// CPU times of a process, seconds.
struct Stat {
    own: f64,
    waited_for: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold blanks; what follows it is numbered from field 3 (proc(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |field: usize| fields.get(field - 3)?.parse::<f64>().ok().map(|ticks| ticks / TICKS);
    Some(Stat { own: seconds(14)? + seconds(15)?, waited_for: seconds(16)? + seconds(17)? })
}

fn cpu_of_tree(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_children = children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_of_tree);
    stat(pid).map_or(0.0, |stat| stat.own) + of_children.sum::<f64>()
}

fn cpu_of_softirq() -> Result<f64> {
    let mut total = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd/")) {
            total += stat(pid).map_or(0.0, |stat| stat.own);
        }
    }
    Ok(total)
}

fn tail(log: &std::path::Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

/// Answers a GET with 1 KiB, reads a POST to its end, and logs one character for each 200.
fn nginx_config(files: &str, role: &str, address: &str) -> String {
    let body = "x".repeat(1000);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("  {what}_temp_path {files}/{role}-{what};\n"))
        .concat();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;\n\
         user root;\nworker_processes auto;\ndaemon off;\npid {files}/{role}.pid;\n\
         worker_rlimit_nofile 65536;\nevents {{ worker_connections 8192; }}\nhttp {{\n\
         \x20 map $status $ok {{ default 0; 200 1; }}\n\
         \x20 log_format one 1;\n  access_log {files}/{role}.log one buffer=64k flush=200ms if=$ok;\n\
         \x20 error_log {files}/{role}.err warn;\n\
         \x20 keepalive_requests 1000000000;\n  keepalive_timeout 300s;\n\
         \x20 client_body_buffer_size 2m;\n  client_max_body_size 64m;\n{temporary}\
         \x20 server {{\n    listen {address}:{PORT} backlog=8192;\n    listen {address}:{OTHER_PORT} backlog=8192;\n\
         \x20   location / {{ return 200 '{body}'; }}\n\
         \x20   location /post {{ echo_read_request_body; echo ok; }}\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn cpu_times_are_read_past_a_name_with_blanks_and_parentheses() {
        let text = "42 (a b) c) S 1 42 42 0 -1 4194304 10 20 0 0 150 50 300 100 20 0 1 0 5 6 7";
        let stat = parse_stat(text).expect("a stat line");
        assert!((stat.own - 2.0).abs() < 1e-9);
        assert!((stat.waited_for - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_cut_line_is_nothing() {
        assert!(parse_stat("42 (x) S 1 2").is_none());
    }
}
