//! `reviews`: an HTTP/1 server that logs every request by the bytes it received, and misbehaves on demand.
//!
//! One thread a connection, blocking reads, no framework: what it does with a byte can be read off the page. A request
//! is logged, one JSON line, before its answer leaves, so whoever has the answer finds the line.
//!
//! Over 400 lines: one server with all the faults a shadow can have; each is a few lines that share its
//! connection loop.

use std::fs::File;
use std::hash::Hasher;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;
use siphasher::sip128::{Hasher128, SipHasher13};
use socket2::{Domain, Protocol, Socket, Type};

/// The longest head that is read.
const MAX_HEAD: usize = 1 << 20;
/// An endless reply ends here, so that a test that fails leaves no writer behind.
const ENDLESS: u64 = 64 << 30;

/// How to listen, what to log, how to answer.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Address and port.
    #[arg(long)]
    pub listen: SocketAddr,
    /// File for the log, one JSON object a request.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Put the raw head into the log too.
    #[arg(long)]
    pub heads: bool,
    /// Time from the end of a request to its answer, milliseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Answer every Nth request with status 500; 0 is never.
    #[arg(long, default_value_t = 0)]
    pub fail_every: u64,
    /// Close each connection after this many requests; 0 is never.
    #[arg(long, default_value_t = 0)]
    pub close_every: u64,
    /// Close without saying so (no `Connection: close`).
    #[arg(long)]
    pub close_silently: bool,
    /// How it answers.
    #[arg(long, value_enum, default_value_t = Reply::Length)]
    pub reply: Reply,
    /// Bytes of the answer's body.
    #[arg(long, default_value_t = 64)]
    pub reply_bytes: usize,
    /// Receive buffer of its sockets, bytes; small with `slow-read`.
    #[arg(long)]
    pub receive_buffer: Option<usize>,
}

/// How a server answers, or fails to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reply {
    /// With `Content-Length`.
    Length,
    /// In chunks, with an extension and a trailer.
    Chunked,
    /// Delimited by the end of the connection.
    Close,
    /// As HTTP/1.0 with keep-alive.
    Http10,
    /// 102 and 103 before the final response.
    Interim,
    /// Accepts, reads, never answers.
    Hang,
    /// RST after the request.
    Reset,
    /// Half a body, then RST.
    ResetInBody,
    /// Bytes that are no HTTP.
    Garbage,
    /// A chunked body that does not end.
    Endless,
    /// Reads 4 KiB each 10 ms.
    SlowRead,
    /// Answers before it read the body, then reads it.
    Early,
    /// 417 to `Expect: 100-continue`, else as `length`.
    RefuseExpect,
}

/// Serves until it is killed. Prints `listening ADDRESS` once it does.
///
/// # Errors
/// When it cannot listen or make its log.
pub fn serve(options: Options) -> Result<()> {
    let listener = listen(&options).with_context(|| format!("listening on {}", options.listen))?;
    let log = match &options.log {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let shop = Arc::new(Shop {
        options,
        log: log.map(|file| Mutex::new(BufWriter::new(file))),
        start: Instant::now(),
        served: AtomicU64::new(0),
        busy: AtomicU64::new(0),
    });
    println!("listening {}", listener.local_addr()?);
    for number in 0_u64.. {
        // A client that left before it was accepted is no reason to end.
        let Ok((stream, peer)) = listener.accept() else { continue };
        let shop = Arc::clone(&shop);
        let work = move || Guest { shop, stream, peer, number, buffer: Vec::new(), eof: false }.serve();
        std::thread::Builder::new().stack_size(256 << 10).spawn(work)?;
    }
    Ok(())
}

fn listen(options: &Options) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&options.listen.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

struct Shop {
    options: Options,
    log: Option<Mutex<BufWriter<File>>>,
    start: Instant,
    served: AtomicU64,
    busy: AtomicU64,
}

impl Shop {
    fn write_log(&self, line: &serde_json::Value) {
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written makes the test fail by what it then lacks.
            let _shows_in_the_test = writeln!(log, "{line}").and_then(|()| log.flush());
        }
    }
}

/// One connection.
struct Guest {
    shop: Arc<Shop>,
    stream: TcpStream,
    peer: SocketAddr,
    number: u64,
    buffer: Vec<u8>,
    eof: bool,
}

/// What was read of a request.
struct Request {
    head: Vec<u8>,
    method: String,
    target: String,
    version: String,
    fields: Vec<(String, String)>,
}

impl Request {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.field(name)
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
    }
}

/// Raw bytes of a body: how many, their hash, and whether it was cut short.
struct Body {
    raw: u64,
    hash: SipHasher13,
    whole: bool,
}

impl Guest {
    fn serve(mut self) {
        let _client_left = self.stream.set_nodelay(true);
        let mut count = 0;
        while let Some(more) = self.exchange(count) {
            count += 1;
            if !more {
                break;
            }
        }
    }

    /// One request and its answer. `None`: the connection is over; `Some(false)`: this was its last one.
    fn exchange(&mut self, count: u64) -> Option<bool> {
        let head = self.read_head()?;
        let began = Instant::now();
        let Some(request) = parse(&head) else {
            self.shop.write_log(
                &json!({"bad": true, "conn": self.number, "head": String::from_utf8_lossy(&head)}),
            );
            let _client_left = self
                .stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return None;
        };
        let concurrent = self.shop.busy.fetch_add(1, Ordering::Relaxed) + 1;
        let more = self.answer(&request, began, concurrent, count);
        self.shop.busy.fetch_sub(1, Ordering::Relaxed);
        more
    }

    fn answer(&mut self, request: &Request, began: Instant, concurrent: u64, count: u64) -> Option<bool> {
        let shop = Arc::clone(&self.shop);
        let options = &shop.options;
        let served = shop.served.fetch_add(1, Ordering::Relaxed) + 1;
        let status =
            if options.fail_every > 0 && served.is_multiple_of(options.fail_every) { 500 } else { 200 };
        let upgrade = request.method == "CONNECT" || request.field("upgrade").is_some();
        let expects = request.has_token("expect", "100-continue");
        let withheld = expects && options.reply == Reply::RefuseExpect;
        let status = match () {
            () if withheld => 417,
            () if upgrade && request.method != "CONNECT" => 101,
            () => status,
        };
        if options.reply == Reply::Early {
            self.stream.write_all(&plain_answer(status, options.reply_bytes, true)).ok()?;
        } else if expects && !withheld && self.buffer.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let body = if withheld || upgrade {
            Body { raw: 0, hash: SipHasher13::new(), whole: true }
        } else {
            self.read_body(request)
        };
        let said_close = request.has_token("connection", "close")
            || (request.version == "HTTP/1.0" && !request.has_token("connection", "keep-alive"));
        let last = options.close_every > 0 && count + 1 >= options.close_every;
        let host = request.field("host").unwrap_or_default();
        let mut line = json!({
            "conn": self.number, "peer": self.peer.to_string(), "method": request.method, "target": request.target,
            "host": host, "id": request.field("x-request-id").unwrap_or_default(), "status": status,
            "head_bytes": request.head.len(), "head_hash": hash(&request.head),
            "body_bytes": body.raw, "body_hash": format!("{:032x}", body.hash.finish128().as_u128()),
            "cut": !body.whole, "concurrent": concurrent, "at_us": micros(began.duration_since(shop.start)),
        });
        if options.heads {
            line["head"] = json!(String::from_utf8_lossy(&request.head));
        }
        if !body.whole {
            self.shop.write_log(&line);
            return None;
        }
        if options.delay_ms > 0 {
            std::thread::sleep(Duration::from_millis(options.delay_ms));
        }
        line["took_us"] = json!(micros(began.elapsed()));
        self.shop.write_log(&line);
        if options.reply == Reply::Early {
            return Some(!(said_close || last));
        }
        if upgrade {
            let switched: &[u8] = if status == 101 {
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            } else {
                b"HTTP/1.1 200 Connected\r\n\r\n"
            };
            self.stream.write_all(switched).ok()?;
            return self.echo();
        }
        let closing = said_close || (last && !options.close_silently);
        let sent = self.reply(request, status, closing)?;
        Some(sent && !closing && !last)
    }

    /// Sends the answer. `Some(false)`: the answer ends with the connection.
    fn reply(&mut self, request: &Request, status: u16, closing: bool) -> Option<bool> {
        let options = &self.shop.options;
        let size = if request.method == "HEAD" { 0 } else { options.reply_bytes };
        let close = if closing { "Connection: close\r\n" } else { "" };
        let text = "x".repeat(size);
        match options.reply {
            Reply::Chunked if request.method != "HEAD" && request.version != "HTTP/1.0" => {
                let (one, two) = text.split_at(size / 2);
                let mut all = format!("HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n{close}\r\n");
                for part in [one, two].into_iter().filter(|part| !part.is_empty()) {
                    all.push_str(&format!("{:X};note=\"a;b\"\r\n{part}\r\n", part.len()));
                }
                all.push_str("0\r\nX-Trailer: end\r\n\r\n");
                self.stream.write_all(all.as_bytes()).ok()?;
            }
            Reply::Close => {
                self.stream.write_all(format!("HTTP/1.1 {status} OK\r\n\r\n{text}").as_bytes()).ok()?;
                return Some(false);
            }
            Reply::Http10 => {
                let all = format!(
                    "HTTP/1.0 {status} OK\r\nContent-Length: {size}\r\nConnection: {}\r\n\r\n{text}",
                    if closing { "close" } else { "keep-alive" }
                );
                self.stream.write_all(all.as_bytes()).ok()?;
            }
            Reply::Interim => {
                self.stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").ok()?;
                self.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").ok()?;
                self.stream.write_all(&plain_answer(status, size, !closing)).ok()?;
            }
            Reply::Hang => {
                let mut rest = [0; 4096];
                while matches!(self.stream.read(&mut rest), Ok(1..)) {}
                return None;
            }
            Reply::Reset => return self.reset(),
            Reply::ResetInBody => {
                self.stream
                    .write_all(
                        format!("HTTP/1.1 {status} OK\r\nContent-Length: 1000000\r\n\r\n{text}").as_bytes(),
                    )
                    .ok()?;
                return self.reset();
            }
            Reply::Garbage => {
                self.stream.write_all(b"\x16\x03\x01 this is no answer \x00\xff\r\n\r\n").ok()?;
            }
            Reply::Endless => {
                self.stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                let chunk = format!("{:x}\r\n{}\r\n", 16 << 10, "x".repeat(16 << 10));
                let mut sent = 0;
                while sent < ENDLESS {
                    self.stream.write_all(chunk.as_bytes()).ok()?;
                    sent += 16 << 10;
                }
                return None;
            }
            Reply::Length | Reply::Chunked | Reply::SlowRead | Reply::Early | Reply::RefuseExpect => {
                if request.method == "HEAD" {
                    let head = format!(
                        "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n{close}\r\n",
                        options.reply_bytes
                    );
                    self.stream.write_all(head.as_bytes()).ok()?;
                } else {
                    self.stream.write_all(&plain_answer(status, size, !closing)).ok()?;
                }
            }
        }
        Some(true)
    }

    fn reset(&mut self) -> Option<bool> {
        let clone = self.stream.try_clone().ok()?;
        Socket::from(clone).set_linger(Some(Duration::ZERO)).ok()?;
        // The last descriptor of the connection goes with `self`; closing it then sends RST.
        None
    }

    /// What comes after an upgrade goes back as it came.
    fn echo(&mut self) -> Option<bool> {
        let early = std::mem::take(&mut self.buffer);
        self.stream.write_all(&early).ok()?;
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = self.stream.read(&mut piece) {
            self.stream.write_all(&piece[..n]).ok()?;
        }
        None
    }

    /// The next head with its blank line; `None` at the end of the connection.
    fn read_head(&mut self) -> Option<Vec<u8>> {
        let mut looked = 0;
        loop {
            // Empty lines before a request line are skipped (RFC 9112 section 2.2).
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            let from = looked.min(self.buffer.len());
            if let Some(at) = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(self.buffer.drain(..from + at + 4).collect());
            }
            looked = self.buffer.len().saturating_sub(3);
            if self.buffer.len() > MAX_HEAD || !self.fill() {
                if !self.buffer.is_empty() {
                    self.shop.write_log(&json!({"cut": true, "in_head": true, "conn": self.number, "head_bytes": self.buffer.len()}));
                }
                return None;
            }
        }
    }

    fn read_body(&mut self, request: &Request) -> Body {
        let mut body = Body { raw: 0, hash: SipHasher13::new(), whole: false };
        let done = if request.has_token("transfer-encoding", "chunked") {
            self.read_chunks(&mut body)
        } else {
            let length = request.field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            self.take(length, &mut body)
        };
        body.whole = done.is_some();
        body
    }

    fn read_chunks(&mut self, body: &mut Body) -> Option<()> {
        loop {
            let line = self.take_line(body)?;
            let size = u64::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                while !self.take_line(body)?.is_empty() {}
                return Some(());
            }
            self.take(size, body)?;
            self.take_line(body)?.is_empty().then_some(())?;
        }
    }

    fn take_line(&mut self, body: &mut Body) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.take(end as u64 + 2, body)?;
                return Some(line);
            }
            self.fill().then_some(())?;
        }
    }

    fn take(&mut self, mut length: u64, body: &mut Body) -> Option<()> {
        loop {
            let n = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            body.hash.write(&self.buffer[..n]);
            body.raw += n as u64;
            length -= n as u64;
            self.buffer.drain(..n);
            if length == 0 {
                return Some(());
            }
            self.fill().then_some(())?;
        }
    }

    /// Reads more; false at the end of the connection.
    fn fill(&mut self) -> bool {
        if self.eof {
            return false;
        }
        let slow = self.shop.options.reply == Reply::SlowRead;
        if slow {
            std::thread::sleep(Duration::from_millis(10));
        }
        let size = if slow { 4 << 10 } else { 256 << 10 };
        let before = self.buffer.len();
        self.buffer.resize(before + size, 0);
        let n = self.stream.read(&mut self.buffer[before..]).unwrap_or(0);
        self.buffer.truncate(before + n);
        self.eof = n == 0;
        n > 0
    }
}

/// Reads a head strictly: what is not plainly a request is none.
fn parse(head: &[u8]) -> Option<Request> {
    let text: String = head.iter().copied().map(char::from).collect();
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_request = words.next().is_none()
        && !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        && !target.is_empty()
        && (version == "HTTP/1.1" || version == "HTTP/1.0");
    if !is_request {
        return None;
    }
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            // obs-fold (RFC 9112 section 5.2)
            let (_, value) = fields.last_mut()?;
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return None;
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request {
        head: head.to_vec(),
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
    })
}

fn plain_answer(status: u16, size: usize, keep: bool) -> Vec<u8> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    let mut all = format!("HTTP/1.1 {status} OK\r\nServer: reviews\r\nContent-Length: {size}\r\n{close}\r\n")
        .into_bytes();
    all.resize(all.len() + size, b'x');
    all
}

/// Hash of `bytes` as the log writes it.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    format!("{:032x}", hasher.finish128().as_u128())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
