//! Load: many connections, a thread each, as fast as they can or at a fixed rate that no slow answer holds back.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Conn, noise, request};
use crate::netns::Namespace;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub to: SocketAddr,
    /// Connections, each with at most one request at a time.
    pub connections: u64,
    /// Requests a second over all connections; `None`: as fast as answers come.
    pub rate: Option<f64>,
    /// Requests in all; each connection sends its share.
    pub requests: u64,
    /// No request is begun after this time.
    pub at_most: Duration,
    /// Every Nth request of a connection is a POST; 0: none is.
    pub post_every: u64,
    /// Bytes of a POST's body.
    pub body: usize,
    /// Requests after which a connection is replaced; 0: never.
    pub per_connection: u64,
    /// Begins every `X-Request-Id`; told apart from other loads of a scenario.
    pub tag: String,
    /// More headers, each with CRLF.
    pub headers: String,
}

impl Load {
    /// `requests` GETs over `connections`, as fast as answers come.
    #[must_use]
    pub fn new(to: SocketAddr, connections: u64, requests: u64) -> Self {
        Self {
            to,
            connections,
            rate: None,
            requests,
            at_most: Duration::from_secs(60),
            post_every: 0,
            body: 0,
            per_connection: 0,
            tag: "r".to_owned(),
            headers: String::new(),
        }
    }
}

/// Numbers of a load while it runs, and the switch to end it.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests written.
    pub sent: AtomicU64,
    /// Answers read.
    pub answered: AtomicU64,
    /// Ends the load after the requests that are under way.
    pub stop: AtomicBool,
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Requests written whole.
    pub sent: u64,
    /// Complete answers.
    pub answered: u64,
    /// Answers that were not 2xx.
    pub not_fine: u64,
    /// What went wrong, in words.
    pub errors: Vec<String>,
    /// Request written to answer read, microseconds, sorted.
    pub latencies_us: Vec<u64>,
    /// The most requests that were under way at a time.
    pub peak: u64,
    /// Time it took.
    pub took: Duration,
}

impl LoadReport {
    /// Latency below which a share `q` of the answers came, microseconds.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below the length"
        )]
        let index = (self.latencies_us.len() as f64 * q) as usize;
        self.latencies_us.get(index.min(self.latencies_us.len().saturating_sub(1))).copied().unwrap_or(0)
    }

    /// Panics unless every request was answered well.
    #[track_caller]
    pub fn all_answered(&self) -> &Self {
        assert!(self.errors.is_empty(), "the primary's clients saw errors: {:?}", self.errors);
        assert_eq!((self.answered, self.not_fine), (self.sent, 0), "the primary answers everything well");
        self
    }
}

/// Runs `load` from inside `from` to its end.
pub fn run(from: &Namespace, load: &Load) -> LoadReport {
    run_live(from, load, &Live::default())
}

/// Runs `load` from inside `from` until it is done or `live` says stop.
pub fn run_live(from: &Namespace, load: &Load, live: &Live) -> LoadReport {
    let busy = AtomicU64::new(0);
    let peak = AtomicU64::new(0);
    let body = noise(load.body, 7);
    let start = Instant::now();
    let worker = |index: u64| {
        let share = load.requests / load.connections + u64::from(index < load.requests % load.connections);
        let mut worker =
            Worker { load, live, body: &body, index, conn: None, used: 0, report: LoadReport::default() };
        for n in 0..share {
            #[allow(clippy::cast_precision_loss, reason = "a schedule needs no more than 52 bits")]
            let due = load
                .rate
                .map(|rate| start + Duration::from_secs_f64((n * load.connections + index) as f64 / rate));
            if let Some(due) = due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if live.stop.load(Ordering::Relaxed) || start.elapsed() > load.at_most {
                break;
            }
            peak.fetch_max(busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            if let Err(err) = worker.exchange(n) {
                worker.report.errors.push(format!("connection {index}, request {n}: {err:#}"));
                worker.conn = None;
            }
            busy.fetch_sub(1, Ordering::Relaxed);
        }
        worker.report
    };
    // Threads begun inside stay inside.
    let parts: Vec<LoadReport> = from.run(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..load.connections).map(|index| scope.spawn(move || worker(index))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
        })
    });
    let mut sum = LoadReport { peak: peak.into_inner(), took: start.elapsed(), ..LoadReport::default() };
    for part in parts {
        sum.sent += part.sent;
        sum.answered += part.answered;
        sum.not_fine += part.not_fine;
        sum.errors.extend(part.errors);
        sum.latencies_us.extend(part.latencies_us);
    }
    sum.latencies_us.sort_unstable();
    sum
}

struct Worker<'a> {
    load: &'a Load,
    live: &'a Live,
    body: &'a [u8],
    index: u64,
    conn: Option<Conn>,
    used: u64,
    report: LoadReport,
}

impl Worker<'_> {
    fn exchange(&mut self, n: u64) -> Result<()> {
        let load = self.load;
        if load.per_connection > 0 && self.used >= load.per_connection {
            self.conn = None;
        }
        if self.conn.is_none() {
            self.conn = Some(Conn::over(TcpStream::connect_timeout(&load.to, Duration::from_secs(10))?)?);
            self.used = 0;
        }
        let Some(conn) = &mut self.conn else { return Ok(()) };
        self.used += 1;
        let post = load.post_every > 0 && n.is_multiple_of(load.post_every);
        let (method, body) = if post { ("POST", self.body) } else { ("GET", &[][..]) };
        let id = format!("{}-{}-{n}", load.tag, self.index);
        let last = load.per_connection > 0 && self.used == load.per_connection;
        let headers =
            if last { format!("Connection: close\r\n{}", load.headers) } else { load.headers.clone() };
        let bytes = request(method, &format!("/{}/{n}", load.tag), &id, &headers, body);
        let began = Instant::now();
        conn.send(&bytes)?;
        self.report.sent += 1;
        self.live.sent.fetch_add(1, Ordering::Relaxed);
        let answer = conn.response(method)?;
        self.report.answered += 1;
        self.live.answered.fetch_add(1, Ordering::Relaxed);
        self.report.not_fine += u64::from(!(200..300).contains(&answer.status));
        self.report.latencies_us.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.conn = None;
        }
        Ok(())
    }
}
