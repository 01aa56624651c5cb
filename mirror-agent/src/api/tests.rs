use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::stats::export;
use crate::stats::fixture::{Bench, OK};

/// A server on a runtime and thread of its own, as `app` runs it; asked by plain sockets.
struct Server {
    bench: Bench,
    ready: Ready,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(MAX_CONNECTIONS, EXCHANGE_TIMEOUT)
    }

    fn start_with(connections: usize, exchange: Duration) -> Self {
        let bench = Bench::new();
        let ready = Ready::new();
        let monitor = Arc::new(Monitor::new(bench.source()));
        let admin = Admin::new(monitor, ready.clone()).with_limits(connections, exchange);
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve(listener, admin, shutdown)).unwrap();
        });
        Self { bench, ready, addr, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = self.connect();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Reads to the end: `Ok` with what came if the server closed, however it did it.
fn drain(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => all,
        Err(error) => panic!("the server keeps the connection: {error}"),
    }
}

#[test]
fn the_home_page_names_every_endpoint_and_each_answers() {
    let server = Server::start();
    let home = server.get("/");
    assert_eq!(home.status, 200);
    let paths: Vec<&str> = home.body.lines().filter_map(|line| line.split(' ').next()).collect();
    let paths: Vec<&str> = paths.into_iter().filter(|word| word.starts_with('/')).collect();
    assert_eq!(paths, ["/", "/metrics", "/healthz", "/readyz", "/api/v1/stats"]);
    for path in paths {
        assert_eq!(server.get(path).status, 200, "{path}");
        let head = server.ask("HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn stats_are_the_reading_as_json() {
    let server = Server::start();
    server.bench.exchange(1, [OK, OK]);
    let answer = server.get("/api/v1/stats");
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["job"], "reviews");
    assert_eq!((&json["requests"]["observed"], &json["capture_ratio"]), (&Value::from(1), &Value::from(1.0)));
    assert_eq!(json["shadows"][1]["delivered_by_class"]["2xx"], 1);
    assert_eq!(json["health"]["state"], "mirroring");
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Server::start();
    server.bench.exchange(0, [OK, OK]);
    let answer = server.get("/metrics");
    assert!(answer.head.contains(&format!("content-type: {}", export::CONTENT_TYPE)), "{}", answer.head);
    assert!(answer.body.contains("\nmirror_requests_observed_total{job=\"reviews\"} 1\n"));
    assert!(answer.body.ends_with("# EOF\n"));
}

#[test]
fn readiness_waits_for_every_blocker_and_for_a_tap_and_names_them() {
    let server = Server::start();
    let shards: Vec<Blocker> = (0..2).map(|i| server.ready.wait_for(format!("shard {i} runs"))).collect();
    server.bench.tapped.0.store(false, Ordering::Relaxed);
    let answer = server.get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "pending: shard 0 runs\npending: shard 1 runs\npending: interface eth0 does not exist\n"
    );
    assert_eq!(server.get("/healthz").status, 200);

    drop(shards);
    assert_eq!(server.get("/readyz").body, "pending: interface eth0 does not exist\n");
    server.bench.tapped.0.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/readyz").status, 200);
    // A tap that goes away later is said too.
    server.bench.tapped.0.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/readyz").status, 503);
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_with_the_mend() {
    let server = Server::start();
    let missing = server.get("/nope?x=1");
    let json: Value = serde_json::from_str(&missing.body).unwrap();
    assert_eq!((missing.status, &json["path"]), (404, &Value::from("/nope")));
    assert_eq!(json["mend"], "GET / lists the endpoints");

    let wrong = server.ask("DELETE", "/api/v1/stats");
    let json: Value = serde_json::from_str(&wrong.body).unwrap();
    assert_eq!((wrong.status, &json["error"]), (405, &Value::from("method not allowed")));
    assert!(wrong.head.contains("allow: get,head"), "{}", wrong.head);
}

#[test]
fn what_is_no_http_is_refused_without_harm() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    assert!(drain(stream).starts_with(b"HTTP/1.1 400"));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn connections_over_the_limit_are_closed_at_once_and_counted() {
    let server = Server::start_with(3, EXCHANGE_TIMEOUT);
    let mut held: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    // The three are taken up before the fourth: one task accepts, in order.
    let started = Instant::now();
    assert_eq!(drain(server.connect()), b"");
    assert!(started.elapsed() < Duration::from_secs(5));

    // One of the three lets go, and its place can be used again.
    drop(held.pop());
    let deadline = Instant::now() + Duration::from_secs(10);
    let counted = loop {
        let mut stream = server.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap_or(());
        let text = String::from_utf8(drain(stream)).unwrap();
        if let Some(n) = text.lines().find_map(|line| line.strip_prefix("mirror_admin_refused_total ")) {
            assert!(text.contains("\nmirror_admin_connections 3\n"), "two held and this one");
            break n.parse::<u64>().unwrap();
        }
        assert!(Instant::now() < deadline, "the place never became free");
    };
    assert!(counted >= 1);
}

#[test]
fn a_head_that_trickles_in_is_cut_off_and_counted() {
    let server = Server::start_with(4, Duration::from_secs(2));
    let mut stream = server.connect();
    let started = Instant::now();
    // Each byte comes in time; the whole head does not.
    let mut head = b"GET /healthz HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'a'));
    let cut_off = loop {
        if stream.write_all(&[*head.next().unwrap()]).is_err() {
            break true;
        }
        if started.elapsed() > Duration::from_secs(20) {
            break false;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(cut_off, "a byte now and then keeps a connection for ever");
    assert_eq!(server.metric("mirror_admin_timed_out_total"), 1);
}

#[test]
fn a_reader_that_never_reads_its_replies_is_cut_off_and_others_are_served() {
    let server = Server::start_with(4, Duration::from_secs(2));
    let mut stuck = server.connect();
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
    stuck.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    // More replies than the sockets' buffers hold; the writing itself may be stopped half way.
    let _ = stuck.write_all(requests.as_bytes());
    let deadline = Instant::now() + Duration::from_secs(40);
    while server.metric("mirror_admin_timed_out_total") == 0 {
        assert!(Instant::now() < deadline, "the stuck reader was never cut off");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_connection_kept_for_the_next_scrape_serves_it_and_is_closed_quietly_when_idle() {
    let server = Server::start_with(4, Duration::from_millis(1500));
    let mut stream = server.connect();
    let mut answers = 0;
    for _ in 0..4 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).unwrap();
        answers += usize::from(buffer[..n].starts_with(b"HTTP/1.1 200"));
        thread::sleep(Duration::from_millis(750));
    }
    assert_eq!(answers, 4, "four exchanges over twice the time that one may take");
    assert_eq!(drain(stream), b"");
    assert_eq!(server.metric("mirror_admin_timed_out_total"), 0);
}

#[test]
fn shutdown_ends_soon_though_connections_are_open() {
    let mut server = Server::start();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut half = server.connect();
    half.write_all(b"GET /healthz HT").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);

    let started = Instant::now();
    drop(server.stop.take());
    server.thread.take().map(JoinHandle::join).unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(TcpStream::connect(server.addr).is_err());
    // Give the drop of the server a thread to join.
    server.thread = Some(thread::spawn(|| ()));
}

#[test]
fn a_port_that_is_taken_says_so_in_one_line_with_the_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = bind(addr).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "--admin {addr}: the port is taken; stop the program that listens there or choose another port"
        )
    );
    let elsewhere = bind("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        elsewhere,
        "--admin 192.0.2.1:0: no interface has this address; use 127.0.0.1 or an address of this host"
    );
}

#[test]
fn only_an_address_beyond_loopback_is_warned_about() {
    for addr in ["127.0.0.1:9090", "127.3.2.1:9090", "[::1]:9090", "[::ffff:127.0.0.1]:9090"] {
        assert_eq!(exposure(addr.parse().unwrap()), None, "{addr}");
    }
    for addr in ["0.0.0.0:9090", "10.0.0.1:9090", "[::]:9090"] {
        let warning = exposure(addr.parse().unwrap()).unwrap();
        assert!(warning.starts_with(&format!("--admin {addr}: ")) && !warning.contains('\n'), "{warning}");
    }
}
