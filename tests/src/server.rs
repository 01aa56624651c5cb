//! Servers in namespaces, and their logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::eventually::wait_for;
use crate::netns::Namespace;
use crate::process::Process;

const START_PATIENCE: Duration = Duration::from_secs(10);

/// One line of a server's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `X-Request-Id`.
    pub id: String,
    /// Method.
    pub method: String,
    /// Target as spelled.
    pub target: String,
    /// `Host`.
    pub host: String,
    /// Status answered.
    pub status: u64,
    /// Number of the connection at this server.
    pub conn: u64,
    /// The client's address.
    pub peer: String,
    /// Hash of the head's bytes; empty for nginx.
    pub head_hash: String,
    /// Hash of the body's bytes as received, framing included; empty for nginx.
    pub body_hash: String,
    /// Bytes of the body as received, framing included; for nginx of the whole request.
    pub bytes: u64,
    /// The head, if the server was told to keep heads.
    pub head: String,
    /// When its first byte was read, microseconds since the server began; 0 for nginx.
    pub at_us: u64,
    /// Requests in work when this one began, itself included.
    pub concurrent: u64,
    /// The connection ended within it.
    pub cut: bool,
    /// It is no HTTP request.
    pub bad: bool,
}

/// The project's own server, running.
#[derive(Debug)]
pub struct Reviews {
    /// Its process.
    pub process: Process,
    log: PathBuf,
    at: SocketAddr,
}

impl Reviews {
    /// Starts it in `namespace` at `at`; its log goes into `folder`. `options` as in [`crate::reviews::Options`].
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn start(namespace: &Namespace, folder: &Path, at: SocketAddr, options: &[&str]) -> Result<Self> {
        let log = folder.join(format!("reviews-{}-{}-{}.log", namespace.name(), at.port(), unique()));
        let mut command = namespace.command(program("reviews")?);
        command.arg("--listen").arg(at.to_string()).arg("--log").arg(&log).args(options);
        let mut process = Process::spawn("reviews", command)?;
        process.wait_line(START_PATIENCE, |line| line.starts_with("listening").then_some(()))?;
        Ok(Self { process, log, at })
    }

    /// Where it listens.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        read_log(&self.log)
    }

    /// The whole requests in its log so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Line> {
        self.log().into_iter().filter(|line| !line.cut && !line.bad).collect()
    }
}

/// Debian's nginx with the echo module, running as one process.
#[derive(Debug)]
pub struct Nginx {
    /// Its process.
    pub process: Process,
    log: PathBuf,
}

impl Nginx {
    /// Starts it in `namespace`, listening at each of `listens` (as nginx spells them, options included). `more` goes
    /// into the `server` block.
    ///
    /// # Errors
    /// When it does not come to accept connections.
    pub fn start(namespace: &Namespace, folder: &Path, listens: &[String], more: &str) -> Result<Self> {
        Self::start_with(namespace, folder, listens, more, 1_000_000)
    }

    /// The same, ending each connection after so many requests.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_with(
        namespace: &Namespace,
        folder: &Path,
        listens: &[String],
        more: &str,
        requests: u32,
    ) -> Result<Self> {
        let home = folder.join(format!("nginx-{}-{}", namespace.name(), unique()));
        std::fs::create_dir_all(&home)?;
        let shown = home.display();
        let listen: String = listens.iter().map(|listen| format!("listen {listen} backlog=4096; ")).collect();
        let module = "/usr/lib/nginx/modules/ngx_http_echo_module.so";
        let config = format!(
            "load_module {module};
daemon off; master_process off; pid {shown}/pid; error_log {shown}/error.log warn; user root;
worker_rlimit_nofile 65536;
events {{ worker_connections 8192; }}
http {{
  log_format lab escape=json '{{\"id\":\"$http_x_request_id\",\"method\":\"$request_method\",\"target\":\"$request_uri\",'
    '\"host\":\"$http_host\",\"status\":$status,\"conn\":$connection,\"peer\":\"$remote_addr:$remote_port\",\"bytes\":$request_length}}';
  access_log {shown}/access.log lab;
  keepalive_requests {requests}; keepalive_timeout 300s; client_max_body_size 4g; client_body_buffer_size 1m;
  client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy; fastcgi_temp_path {shown}/fastcgi;
  uwsgi_temp_path {shown}/uwsgi; scgi_temp_path {shown}/scgi;
  server {{
    {listen}
    {more}
    location / {{ echo_read_request_body; echo 'fine'; }}
    location /static {{ return 200 'static'; }}
    location /missing {{ return 404; }}
    location /wrong {{ return 500; }}
  }}
}}
"
        );
        let path = home.join("nginx.conf");
        std::fs::write(&path, config)?;
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&path).arg("-e").arg(home.join("error.log"));
        let mut process = Process::spawn("nginx", command)?;
        let first: SocketAddr = listens
            .first()
            .and_then(|listen| listen.split(' ').next())
            .context("nginx needs an address")?
            .parse()
            .context("nginx listens at ADDRESS:PORT")?;
        wait_for(START_PATIENCE, || {
            let up = namespace.connect(first).is_ok();
            (up || process.ended().is_some()).then_some(up)
        })
        .filter(|up| *up)
        .with_context(|| format!("nginx does not listen at {first}: {:?}", process.stderr()))?;
        Ok(Self { process, log: home.join("access.log") })
    }

    /// Its log so far. A line is written after its answer, so wait for the number that you expect.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        read_log(&self.log)
    }
}

/// Lines that both servers must have for the same requests: sorted ids.
#[must_use]
pub fn ids(lines: &[Line]) -> Vec<&str> {
    let mut ids: Vec<&str> = lines.iter().map(|line| line.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

/// The most requests that were in work at a time.
#[must_use]
pub fn peak(lines: &[Line]) -> u64 {
    lines.iter().map(|line| line.concurrent).max().unwrap_or(0)
}

/// A program of this package, which cargo builds beside the tests.
///
/// # Errors
/// When it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file()).with_context(
        || format!("no program {name} beside {}: cargo build -p mirror-tests --bins", here.display()),
    )
}

pub(crate) fn read_log(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|err| panic!("{}: {err}: {line}", path.display()));
            let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
            let is = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
            Line {
                id: word("id"),
                method: word("method"),
                target: word("target"),
                host: word("host"),
                status: number("status"),
                conn: number("conn"),
                peer: word("peer"),
                head_hash: word("head_hash"),
                body_hash: word("body_hash"),
                bytes: number("body_bytes") + number("bytes"),
                head: word("head"),
                at_us: number("at_us"),
                concurrent: number("concurrent"),
                cut: is("cut"),
                bad: is("bad"),
            }
        })
        .collect()
}

pub(crate) fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}
