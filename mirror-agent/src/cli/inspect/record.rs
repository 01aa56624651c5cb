//! One request on its way to a line of output.

use ring::digest::{Context, SHA256};

use super::text::{plain, quote};
use super::time;
use crate::config::Passed;
use crate::dialog::ConnInfo;
use crate::http::{AbortReason, BodyKind, Dechunker, HeaderField, RequestHead, StreamHead, Version};
use crate::packet::Peer;

/// Most gRPC messages of one request whose lengths are kept.
pub const MAX_GRPC_MESSAGES: usize = 65_536;

/// What a record costs beside its text.
const OVERHEAD: usize = 512;

/// Which request of its connection a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Nth(u64),
    Stream(u32),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Aborted(AbortReason),
}

/// A request whose line is not written yet.
pub(super) struct Record {
    pub(super) id: Id,
    pub(super) passed: Passed,
    pub(super) end: Option<End>,
    pub(super) status: Option<u16>,
    /// Time of the last byte of the head, and of the first byte of the response.
    pub(super) time: u64,
    pub(super) answered: Option<u64>,
    /// The beginning of the line, as far as the head decides it.
    head: String,
    /// The columns of a table that stand after what the response decides.
    tail: String,
    framing: &'static str,
    /// Length of the body as its head announces it.
    declared: Option<u64>,
    body: Body,
    grpc: Option<Grpc>,
    trailers: Option<String>,
}

struct Body {
    len: u64,
    hash: Context,
    dechunker: Option<Dechunker>,
}

/// The lengths of length-prefixed messages, read out of a body in pieces of any size.
#[derive(Default)]
struct Grpc {
    lengths: Vec<u32>,
    /// Bytes of a prefix that is not whole.
    prefix: Vec<u8>,
    /// Bytes of the message that are still to come.
    left: u64,
}

impl Record {
    /// As one line of JSON, up to what is not known yet.
    pub(super) fn json(id: Id, passed: Passed, info: &ConnInfo, head: &Summed<'_>) -> Self {
        let mut text = String::with_capacity(256 + head.size());
        text.push_str("{\"time\":\"");
        time::rfc3339(head.time, &mut text);
        text.push_str("\",\"client\":\"");
        peer(info.client, &mut text);
        text.push_str("\",\"server\":\"");
        peer(info.server, &mut text);
        text.push('"');
        for (name, value) in [
            ("protocol", head.protocol.as_bytes()),
            ("method", head.method),
            ("target", head.target),
            ("authority", head.authority),
        ] {
            text.push_str(",\"");
            text.push_str(name);
            text.push_str("\":");
            quote(value, &mut text);
        }
        text.push_str(",\"headers\":");
        fields(head.fields(), &mut text);
        Self::new(id, passed, head, text, String::new())
    }

    /// As one line of a table.
    pub(super) fn table(id: Id, passed: Passed, info: &ConnInfo, head: &Summed<'_>) -> Self {
        let mut text = String::new();
        time::time_of_day(head.time, &mut text);
        let [mut client, mut server] = [String::new(), String::new()];
        peer(info.client, &mut client);
        peer(info.server, &mut server);
        text.push_str(&format!("  {client:<21}  {server:<21}  {:<8}", head.protocol));
        let absolute = head.target.windows(3).any(|three| three == b"://") && !head.target.starts_with(b"/");
        let authority: &[u8] = if absolute || head.method == b"CONNECT" { b"" } else { head.authority };
        let mut tail = String::new();
        plain(head.method, &mut tail);
        tail.push(' ');
        plain(authority, &mut tail);
        plain(head.target, &mut tail);
        Self::new(id, passed, head, text, tail)
    }

    fn new(id: Id, passed: Passed, head: &Summed<'_>, text: String, tail: String) -> Self {
        Self {
            id,
            passed,
            end: None,
            status: None,
            time: head.time,
            answered: None,
            head: text,
            tail,
            framing: head.framing,
            declared: head.declared,
            body: Body {
                len: 0,
                hash: Context::new(&SHA256),
                dechunker: (head.framing == "chunked").then(Dechunker::default),
            },
            grpc: head.is_grpc().then(Grpc::default),
            trailers: None,
        }
    }

    /// What it costs to keep it.
    pub(super) fn memory(&self) -> usize {
        let grpc = self.grpc.as_ref().map_or(0, |grpc| grpc.lengths.capacity() * size_of::<u32>());
        self.head.len() + self.tail.len() + self.trailers.as_ref().map_or(0, String::len) + grpc + OVERHEAD
    }

    /// Bytes of the body as sent.
    pub(super) fn body(&mut self, raw: &[u8]) {
        let Self { body: Body { len, hash, dechunker }, grpc, .. } = self;
        let mut data = |bytes: &[u8]| {
            *len += bytes.len() as u64;
            hash.update(bytes);
            if let Some(grpc) = grpc {
                grpc.read(bytes);
            }
        };
        match dechunker {
            Some(dechunker) => dechunker.feed(raw, data),
            None => data(raw),
        }
    }

    /// The trailer section of an HTTP/2 request.
    pub(super) fn trailers(&mut self, list: &[HeaderField<'_>]) {
        let mut text = String::new();
        fields(list.iter().map(|field| (field.name, field.value)), &mut text);
        self.trailers = Some(text);
    }

    /// The whole line with its end, as JSON.
    pub(super) fn json_line(self) -> String {
        use std::fmt::Write as _;
        let mut line = self.head;
        let hash = self.body.hash.finish();
        let _infallible = write!(line, ",\"body_len\":{},\"body_sha256\":\"", self.body.len);
        for byte in hash.as_ref() {
            let _infallible = write!(line, "{byte:02x}");
        }
        let _infallible = write!(
            line,
            "\",\"framing\":\"{}\",\"complete\":{}",
            self.framing,
            self.end == Some(End::Complete)
        );
        if let Some(End::Aborted(why)) = self.end {
            let _infallible = write!(line, ",\"incomplete\":\"{}\"", name(why));
            if let Some(declared) = self.declared {
                let _infallible = write!(line, ",\"declared_len\":{declared}");
            }
        }
        if let Some(trailers) = &self.trailers {
            line.push_str(",\"trailers\":");
            line.push_str(trailers);
        }
        if let Some(grpc) = &self.grpc {
            let lengths: Vec<String> = grpc.lengths.iter().map(u32::to_string).collect();
            let _infallible = write!(line, ",\"grpc_messages\":[{}]", lengths.join(","));
        }
        match self.status {
            Some(status) => {
                let _infallible = write!(line, ",\"status\":{status}");
            }
            None => line.push_str(",\"status\":null"),
        }
        match self.answered {
            Some(answered) => {
                let _infallible = write!(line, ",\"latency_ns\":{}", answered.saturating_sub(self.time));
            }
            None => line.push_str(",\"latency_ns\":null"),
        }
        line.push_str("}\n");
        line
    }

    /// The whole line with its end, for a table.
    pub(super) fn table_line(self) -> String {
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let latency = self
            .answered
            .map_or_else(|| "-".to_owned(), |answered| millis(answered.saturating_sub(self.time)));
        let note = match self.end {
            Some(End::Aborted(why)) => format!("  ({})", name(why)),
            _ => String::new(),
        };
        let Self { head, tail, body, .. } = self;
        format!("{head}  {status:>6}  {latency:>10}  {:>10}  {tail}{note}\n", body.len)
    }
}

/// The heading of the table.
pub(super) fn heading() -> String {
    format!(
        "{:<12}  {:<21}  {:<21}  {:<8}  {:>6}  {:>10}  {:>10}  REQUEST\n",
        "TIME", "CLIENT", "SERVER", "PROTOCOL", "STATUS", "LATENCY", "BODY"
    )
}

fn millis(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

impl Grpc {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.prefix.push(bytes[0]);
            bytes = &bytes[1..];
            // A flag, then the length in network order.
            if let [_, a, b, c, d] = self.prefix[..] {
                let length = u32::from_be_bytes([a, b, c, d]);
                if self.lengths.len() < MAX_GRPC_MESSAGES {
                    self.lengths.push(length);
                }
                self.left = u64::from(length);
                self.prefix.clear();
            }
        }
    }
}

/// What a record takes from a head of either protocol.
pub(super) struct Summed<'a> {
    pub(super) protocol: &'static str,
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) authority: &'a [u8],
    pub(super) time: u64,
    framing: &'static str,
    declared: Option<u64>,
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    H1(&'a RequestHead<'a>),
    H2(&'a StreamHead<'a>),
}

impl<'a> Summed<'a> {
    pub(super) fn h1(head: &'a RequestHead<'a>) -> Self {
        Self {
            protocol: match head.version {
                Version::Http10 => "http/1.0",
                Version::Http11 => "http/1.1",
            },
            method: head.method,
            target: head.target,
            authority: head.authority(),
            time: head.time,
            declared: match head.body {
                BodyKind::Length(length) => Some(length),
                BodyKind::None | BodyKind::Chunked => None,
            },
            framing: match head.body {
                BodyKind::None => "none",
                BodyKind::Length(_) => "length",
                BodyKind::Chunked => "chunked",
            },
            source: Source::H1(head),
        }
    }

    pub(super) fn h2(head: &'a StreamHead<'a>) -> Self {
        let target = head.path.or(head.authority);
        Self {
            protocol: "h2",
            method: head.method,
            target: target.unwrap_or_default(),
            authority: head.meant_for(),
            time: head.time,
            framing: "stream",
            declared: None,
            source: Source::H2(head),
        }
    }

    /// Name and value of each field line, in order.
    fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (h1, h2) = match self.source {
            Source::H1(head) => (Some(head), None),
            Source::H2(head) => (None, Some(head)),
        };
        let old = h1.into_iter().flat_map(|head| {
            head.fields.iter().map(move |field| (head.slice(&field.name), head.slice(&field.value)))
        });
        let new = h2.into_iter().flat_map(|head| head.fields.iter().map(|field| (field.name, field.value)));
        old.chain(new)
    }

    fn size(&self) -> usize {
        match self.source {
            Source::H1(head) => head.raw.len() * 2,
            Source::H2(head) => head.fields.len() * 64,
        }
    }

    fn is_grpc(&self) -> bool {
        self.fields().any(|(name, value)| {
            name.eq_ignore_ascii_case(b"content-type") && value.starts_with(b"application/grpc")
        })
    }
}

/// The exported name of a reason.
pub(super) fn name(why: AbortReason) -> &'static str {
    AbortReason::ALL.iter().find(|(reason, _)| *reason == why).map_or("unknown", |(_, name)| name)
}

fn peer(peer: Peer, to: &mut String) {
    use std::fmt::Write as _;
    let _infallible = write!(to, "{}", peer.socket_addr());
}

fn fields<'a>(list: impl Iterator<Item = (&'a [u8], &'a [u8])>, to: &mut String) {
    to.push('[');
    for (at, (name, value)) in list.enumerate() {
        to.push_str(if at == 0 { "[" } else { ",[" });
        quote(name, to);
        to.push(',');
        quote(value, to);
        to.push(']');
    }
    to.push(']');
}

#[cfg(test)]
mod tests {
    use super::Grpc;

    #[test]
    fn message_lengths_are_the_same_however_the_body_is_cut() {
        let mut body = Vec::new();
        for length in [0_u32, 3, 300, 1] {
            body.push(0);
            body.extend(length.to_be_bytes());
            body.extend(vec![7; length as usize]);
        }
        for size in [1, 2, 5, 7, 64, 1000] {
            let mut grpc = Grpc::default();
            body.chunks(size).for_each(|piece| grpc.read(piece));
            assert_eq!(grpc.lengths, [0, 3, 300, 1], "pieces of {size}");
        }
    }
}
