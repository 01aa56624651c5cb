//! A client that does exactly what a scenario says, byte by byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// How long an answer may take; past every timeout that is under test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Head, from the status line to the blank line.
    pub head: String,
    /// Body without its framing.
    pub body: Vec<u8>,
    /// Interim responses that came before.
    pub interim: Vec<u16>,
}

impl Response {
    /// The value of header `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// One TCP connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Conn {
    /// Connects from inside `from`. Each [`Conn::send`] leaves at once (no Nagle).
    ///
    /// # Errors
    /// What connect said.
    pub fn open(from: &Namespace, to: SocketAddr) -> Result<Self> {
        Self::over(from.connect(to).with_context(|| format!("connecting to {to}"))?)
    }

    /// Connects from a given local port, which may have been used a moment ago.
    ///
    /// # Errors
    /// What bind or connect said.
    pub fn open_from(from: &Namespace, local: SocketAddr, to: SocketAddr) -> Result<Self> {
        let stream = from.run(|| -> Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&local.into())?;
            socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
            Ok(socket.into())
        })?;
        Self::over(stream)
    }

    /// Takes over a connected stream.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The local end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// The stream itself, for what this type has no word for.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends `bytes`.
    ///
    /// # Errors
    /// What write said.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends `bytes` in pieces that end at the given offsets, each acknowledged before the next leaves, so that no
    /// layer can join them.
    ///
    /// # Errors
    /// What write said, or when a piece is not acknowledged.
    pub fn send_split(&mut self, bytes: &[u8], at: &[usize]) -> Result<()> {
        let mut from = 0;
        for &to in at.iter().chain([&bytes.len()]) {
            if to > from {
                self.stream.write_all(&bytes[from..to])?;
                self.drained()?;
                from = to;
            }
        }
        Ok(())
    }

    /// Waits until all that was sent is acknowledged.
    fn drained(&self) -> Result<()> {
        crate::eventually::wait_for(Duration::from_secs(5), || {
            let waiting = crate::kernel::unacknowledged(&self.stream).ok()?;
            (waiting == 0).then_some(())
        })
        .context("what was sent is not acknowledged")
    }

    /// Reads one final response, and the interim ones before it. `method` is that of its request.
    ///
    /// # Errors
    /// When the connection ends before, or the response cannot be read.
    pub fn response(&mut self, method: &str) -> Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = self.head()?;
            let status =
                head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let body = self.body(method, status, &head)?;
            return Ok(Response { status, head, body, interim });
        }
    }

    /// Sends `bytes` and reads one response.
    ///
    /// # Errors
    /// As [`Conn::send`] and [`Conn::response`].
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<Response> {
        self.send(bytes)?;
        let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.response(&String::from_utf8_lossy(method))
    }

    /// Waits for an interim response with this status.
    ///
    /// # Errors
    /// When something else comes.
    pub fn interim(&mut self, status: u16) -> Result<()> {
        let head = self.head()?;
        ensure!(head.split(' ').nth(1) == Some(&status.to_string()), "expected {status}, got {head}");
        Ok(())
    }

    /// Sends FIN; the other direction stays open.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn half_close(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Sends RST.
    ///
    /// # Errors
    /// When the option cannot be set.
    pub fn reset(self) -> Result<()> {
        Ok(Socket::from(self.stream).set_linger(Some(Duration::ZERO))?)
    }

    /// True when the peer has ended the connection and nothing is left to read.
    pub fn at_end(&mut self) -> bool {
        self.buffer.is_empty() && matches!(uninterrupted(|| self.stream.peek(&mut [0])), Ok(0) | Err(_))
    }

    fn head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.fill()? == 0 {
                bail!("the peer closed before a response head; {} bytes came", self.buffer.len());
            }
        }
    }

    fn body(&mut self, method: &str, status: u16, head: &str) -> Result<Vec<u8>> {
        if method == "HEAD" || matches!(status, 101 | 204 | 304) || (method == "CONNECT" && status == 200) {
            return Ok(Vec::new());
        }
        if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        if let Some(length) = header(head, "content-length") {
            return self.exactly(length.parse()?);
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.append(&mut self.exactly(size)?);
            ensure!(self.line()?.is_empty(), "no line end after a chunk");
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            ensure!(self.fill()? > 0, "the peer closed in a response");
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.fill()? > 0, "the peer closed in a response body");
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> Result<usize> {
        let mut piece = [0; 16 << 10];
        let n = uninterrupted(|| self.stream.read(&mut piece))?;
        self.buffer.extend_from_slice(&piece[..n]);
        Ok(n)
    }
}

/// Makes `call` again as long as a signal cuts it short. A wait with a timeout is not restarted by the kernel even when
/// no handler runs (signal(7)), and a child that ends while its parent still starts it, all signals blocked, is such a
/// signal to whichever thread waits.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A request with an id, a body length if there is a body, and no other header than those given (each with CRLF).
#[must_use]
pub fn request(method: &str, target: &str, id: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: reviews:8080\r\nX-Request-Id: {id}\r\n{length}{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// `body` in chunks of `size` bytes, with the last chunk and `trailers` (each with CRLF).
#[must_use]
pub fn chunked(body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    bytes
}

/// Bytes that repeat only after a long time, so that a piece in the wrong place is noticed.
#[must_use]
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
