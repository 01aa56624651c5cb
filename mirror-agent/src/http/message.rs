//! What the HTTP room tells the room after it.

use std::net::SocketAddr;
use std::ops::Range;

use super::stream::{HeaderField, StreamHead};

/// Version in a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the body of a request is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// No body.
    None,
    /// `Content-Length`, over 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// One field line of a head, as ranges into [`RequestHead::raw`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The whole line (folded lines included) with its line end.
    pub line: Range<u32>,
    /// The name, as spelled.
    pub name: Range<u32>,
    /// The value without surrounding white space.
    pub value: Range<u32>,
}

/// A request head, exactly as sent. Borrowed from the segment if it came whole in one, else from the framer's buffer.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// From the first byte of the request line to the blank line, both included.
    pub raw: &'a [u8],
    /// Method.
    pub method: &'a [u8],
    /// Request target as spelled.
    pub target: &'a [u8],
    /// Offset of the first field line in `raw`, and with it the length of the request line.
    pub fields_start: u32,
    /// Version.
    pub version: Version,
    /// Field lines in order.
    pub fields: &'a [Field],
    /// How the body is delimited.
    pub body: BodyKind,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// The client will not send another request on this connection (`Connection: close`, or 1.0 without keep-alive).
    pub closes: bool,
    /// The request asks to leave HTTP/1: `CONNECT`, or an `Upgrade` field that counts (HTTP/1.1 and named by
    /// `Connection: upgrade`, RFC 9110 section 7.8). What for.
    pub leaves: Option<Leaves>,
    /// The client's address as a PROXY protocol header in front of the first request told it.
    pub proxied: Option<SocketAddr>,
    /// Stream position of the first byte.
    pub pos: u64,
    /// Kernel time of the segment that carried the last byte of the head, ns.
    pub time: u64,
    /// True if it arrived while an earlier request of the connection had no final response yet, in the same segment as
    /// the end of an earlier request or after one whose response was not seen although responses are seen.
    pub pipelined: bool,
}

impl RequestHead<'_> {
    /// Values of the fields called `name` (compared without case), in order.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> + 's {
        self.fields
            .iter()
            .filter(|field| self.slice(&field.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| self.slice(&field.value))
    }

    /// The bytes of a range of `raw`.
    #[must_use]
    pub fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.raw.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

/// What an HTTP/1 request asks to leave HTTP/1 for. Whether the primary agreed is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// `CONNECT`: a tunnel.
    Connect,
    /// `Upgrade: websocket` with a key (RFC 6455 section 4.1). If the primary agrees, [`Events::tunnel`] follows the
    /// request's end.
    WebSocket,
    /// `Upgrade: h2c` with `HTTP2-Settings` (RFC 7540 section 3.2). If the primary agrees, the request is stream 1 of the
    /// connection that [`Events::h2_begin`] tells; it is not told again as a stream.
    H2c,
    /// An upgrade to something else.
    Other,
}

/// Why a request that was recognised cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AbortReason {
    /// Its framing is ambiguous or broken (RFC 9112 section 6.3, 7.1), or its stream is malformed (RFC 9113 section 8.1.1).
    Malformed,
    /// Bytes of it are missing.
    Gap,
    /// The connection ended in mid-body.
    Closed,
    /// The primary answered before the body (`Expect: 100-continue`) and the client went on without it.
    BodyWithheld,
    /// The client reset its stream before the end of the request.
    ClientReset,
    /// An error of its HTTP/2 connection, see [`H2Error`].
    ConnectionError,
    /// Its header list is over the limit (HTTP/2; the list was read all the same, for the compression state).
    HeadTooLarge,
    /// Too many streams of the connection are open.
    TooManyStreams,
    /// The connection opens and resets streams faster than the limit.
    ResetFlood,
    /// An HTTP/2 stream: recognised and counted, but its replay is not built yet.
    Unsupported,
}

impl AbortReason {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Malformed, "malformed"),
        (Self::Gap, "gap"),
        (Self::Closed, "client_closed"),
        (Self::BodyWithheld, "body_withheld"),
        (Self::ClientReset, "client_reset"),
        (Self::ConnectionError, "connection_error"),
        (Self::HeadTooLarge, "head_too_large"),
        (Self::TooManyStreams, "too_many_streams"),
        (Self::ResetFlood, "reset_flood"),
        (Self::Unsupported, "unsupported"),
    ];
}

/// Why the decoding of an HTTP/2 connection ended. A server would end the connection as well (but for the last three).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum H2Error {
    /// The bytes after the preface's first line, or the first frame, are not what RFC 9113 section 3.4 asks for.
    Preface,
    /// A frame of a length that its type or the protocol does not allow (section 4.2).
    FrameSize,
    /// A frame on a stream where it cannot stand: stream 0, an idle, even or earlier one (sections 5.1, 5.1.1).
    Stream,
    /// A header block that is interrupted, or continued without having begun (section 6.10).
    Continuation,
    /// More padding than payload, or another value that a frame cannot hold (section 6).
    Frame,
    /// A header block that cannot be read (RFC 7541).
    Compression,
    /// A compression table over [`Limits::h2_table_bytes`](super::Limits): it is not followed.
    TableTooLarge,
    /// The HTTP/2 state of all connections together is over [`Limits::h2_memory_bytes`](super::Limits).
    NoRoom,
    /// A header block over [`Limits::h2_block_bytes`](super::Limits), frame headers included, or with a list over
    /// [`Limits::h2_list_bytes`](super::Limits).
    BlockTooLarge,
}

impl H2Error {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Preface, "preface"),
        (Self::FrameSize, "frame_size"),
        (Self::Stream, "stream"),
        (Self::Continuation, "continuation"),
        (Self::Frame, "frame"),
        (Self::Compression, "compression"),
        (Self::TableTooLarge, "table_too_large"),
        (Self::NoRoom, "no_room"),
        (Self::BlockTooLarge, "block_too_large"),
    ];
}

/// Why an HTTP/2 connection cannot be read before the client opens a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiting {
    /// It was under way when the tap came: the compression state is unknown. Its frames tell that it is HTTP/2.
    MidStream,
    /// A gap may hide a header block: the compression state is lost.
    Gap,
}

impl Waiting {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::MidStream, "mid_stream"), (Self::Gap, "gap")];
}

/// How a WebSocket tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelEnd {
    /// The connection ended; `close_frame` if the client sent a close frame before.
    Closed {
        /// The client sent a close frame.
        close_frame: bool,
    },
    /// Bytes of it are missing.
    Gap,
    /// Not a frame that a client may send (RFC 6455 section 5): what follows is not told.
    Malformed,
}

/// Why delivered bytes are not part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotHttp {
    /// A TLS record (the tap stands before the terminator).
    Tls,
    /// HTTP/2 where it cannot be read: after an error of the connection, or a stream that is refused.
    Http2,
    /// HTTP/2 of a connection whose compression state is not known, see [`Waiting`].
    Http2Waiting,
    /// A tunnel after `CONNECT`, or the protocol after an `Upgrade`.
    Tunnel,
    /// A request whose framing is ambiguous, and what follows it.
    Malformed,
    /// A head over the limit.
    HeadTooLarge,
    /// A PROXY protocol header before the first request.
    ProxyHeader,
    /// No protocol that is known here.
    Unknown,
}

impl NotHttp {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Tls, "tls"),
        (Self::Http2, "http2"),
        (Self::Http2Waiting, "http2_waiting"),
        (Self::Tunnel, "tunnel"),
        (Self::Malformed, "malformed"),
        (Self::HeadTooLarge, "head_too_large"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::Unknown, "unknown"),
    ];
}

/// The room after `http`.
///
/// HTTP/1: for one connection `head`, then `body` any number of times, then `end` or `abort`; a head whose framing is
/// ambiguous or too large comes as `refused` and nothing follows for it.
///
/// HTTP/2: for one stream `stream_head`, then `stream_data` any number of times, then `stream_trailers` at most once, then
/// `stream_end` or `stream_abort`. Calls of different streams mix; none mix with those of HTTP/1 but for the first
/// request of a connection that upgrades. A stream that is recognised but not to be read comes as `refused`.
///
/// WebSocket: after `end` of the request that asked for it `tunnel`, then `tunnel_data` any number of times, then
/// `tunnel_end`.
pub trait Events {
    /// A whole head was recognised.
    fn head(&mut self, head: &RequestHead<'_>);
    /// Raw bytes of the body as sent: chunk sizes, extensions and trailers included.
    fn body(&mut self, bytes: &[u8], time: u64);
    /// The request is complete; `pos` is the stream position after its last byte.
    fn end(&mut self, pos: u64);
    /// The request cannot be completed.
    fn abort(&mut self, why: AbortReason);
    /// A request was recognised, by its request line or its HTTP/2 header block, but it is ambiguous, malformed or over a
    /// limit: counted as observed, never mirrored.
    fn refused(&mut self, why: AbortReason);

    /// The connection speaks HTTP/2 from here on. `upgraded`: the HTTP/1 request told last is its stream 1, and the
    /// primary answers it there.
    fn h2_begin(&mut self, upgraded: bool);
    /// A request opened a stream.
    fn stream_head(&mut self, head: &StreamHead<'_>);
    /// Bytes of the body, never empty, padding left out. `last`: END_STREAM stands on their frame and no byte follows;
    /// `stream_end` comes next.
    fn stream_data(&mut self, stream: u32, bytes: &[u8], last: bool, time: u64);
    /// The trailer section; `stream_end` comes next.
    fn stream_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], time: u64);
    /// The request is complete; `pos` is the stream position after its last frame's payload, padding aside.
    fn stream_end(&mut self, stream: u32, pos: u64);
    /// The request cannot be completed. `code` is the client's error code if it reset the stream.
    fn stream_abort(&mut self, stream: u32, why: AbortReason, code: Option<u32>);
    /// The client reset a stream whose request it had completed: it does not want the rest of the answer. The request
    /// stays complete. Also told for streams that were refused or aborted before, where it means nothing.
    fn stream_cancelled(&mut self, stream: u32, code: u32);
    /// The HTTP/2 connection is read no further; its open streams were aborted by calls before this one.
    fn h2_error(&mut self, why: H2Error);
    /// The memory of the connection's HTTP/2 state changed by `delta` bytes. False if there is no room for so much: the
    /// connection is given up. The sum over a closed connection is 0. Who does not say otherwise has room.
    fn h2_memory(&mut self, delta: i64) -> bool {
        let _ = delta;
        true
    }
    /// The memory of the requests that wait for their final response changed by `delta` bytes, beyond what each connection
    /// has of its own. False if there is no room for so much: the connection keeps its last few only, and the answers of
    /// the others are unknown. The sum over a closed connection is 0. Who does not say otherwise has room.
    fn unanswered_memory(&mut self, delta: i64) -> bool {
        let _ = delta;
        true
    }
    /// The connection began (`true`) or ceased (`false`) to wait; it ceases at its close at the latest.
    fn waiting(&mut self, why: Waiting, begins: bool);

    /// Blank lines before a request head, from stream position `pos` on: for who keeps the stream itself.
    fn blank(&mut self, bytes: &[u8], pos: u64, time: u64) {
        let _ = (bytes, pos, time);
    }
    /// Raw bytes of an HTTP/2 connection from stream position `pos` on, the preface included, that were read without an error
    /// of the connection: for who keeps the stream itself. What they mean was told by calls before this one.
    fn h2_bytes(&mut self, bytes: &[u8], pos: u64, time: u64) {
        let _ = (bytes, pos, time);
    }

    /// The client left HTTP for WebSocket with the request told last, and the primary agreed, or nobody saw its answer
    /// and the client sends frames.
    fn tunnel(&mut self, time: u64);
    /// Raw bytes of the client after the handshake, frame headers and masking included, never empty.
    fn tunnel_data(&mut self, bytes: &[u8], time: u64);
    /// In the bytes told since the last such call so many frames ended, and so many payload bytes came.
    fn tunnel_frames(&mut self, frames: u64, payload: u64);
    /// The tunnel is over, for what is told of it.
    fn tunnel_end(&mut self, why: TunnelEnd);

    /// `bytes` of the stream are part of a recognised request (or a blank line before one), of the frames of an HTTP/2
    /// connection that is read, or of a WebSocket tunnel that is told.
    fn parsed(&mut self, bytes: u64);
    /// `bytes` of the stream are part of no request.
    fn not_http(&mut self, why: NotHttp, bytes: u64);
    /// `bytes` of the stream lie before the first provable request, or between a gap and the next one.
    fn skipped(&mut self, bytes: u64);
    /// The bytes that wait in the connection for a decision changed by `delta`; each is told by one of the three calls
    /// above when it leaves. The sum over a closed connection is 0.
    fn buffered(&mut self, delta: i64);
}
