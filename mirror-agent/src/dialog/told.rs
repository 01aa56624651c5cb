//! What the HTTP room says of one side, on its way to the observer and into the books.

use super::waiting::Waiting;
use super::{Bytes, ConnInfo, Observer};
use crate::http::{
    self, AbortReason, Asked, Budget, Events, H2Error, HeaderField, Leaves, NotHttp, RequestHead, StreamHead,
    TunnelEnd,
};

/// The ears of one call into the HTTP room.
pub(super) struct Told<'a, O: Observer> {
    pub(super) observer: &'a mut O,
    pub(super) conn: &'a mut Option<O::Conn>,
    pub(super) info: &'a ConnInfo,
    pub(super) waiting: &'a mut Waiting,
    pub(super) bytes: &'a mut Bytes,
    pub(super) unanswered_limit: usize,
    /// Memory of HTTP/2 states, of all connections.
    pub(super) h2_memory: &'a mut Budget,
    /// Memory of requests whose answer the decoders wait for, of all connections.
    pub(super) unanswered_memory: &'a mut Budget,
    /// Bytes in the decoders, of all connections.
    pub(super) heads: &'a mut i64,
    /// Time of the bytes of this call, and what the client had read when it sent them.
    pub(super) read: Option<(u64, u64)>,
    /// A request head came.
    pub(super) asks: bool,
}

impl<O: Observer> Told<'_, O> {
    /// A request begins: its head ends at `end` and came at `time`.
    fn begins(&mut self, end: u64, time: u64, asked: Asked) {
        self.asks = true;
        // A head that was held until now was sent when less was read.
        let read = self.read.filter(|(sent, _)| *sent == time).map(|(_, read)| read);
        self.waiting.push(end, time, read, asked, self.unanswered_limit);
        self.conn.get_or_insert_with(|| self.observer.open(self.info));
    }

    fn tell(&mut self, what: impl FnOnce(&mut O::Requests<'_>)) {
        if let Some(conn) = self.conn {
            what(&mut self.observer.requests(conn));
        }
    }
}

impl<O: Observer> Events for Told<'_, O> {
    fn head(&mut self, head: &RequestHead<'_>) {
        let asked = match head.method {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        };
        self.begins(head.pos + head.raw.len() as u64, head.time, asked);
        if head.leaves == Some(Leaves::H2c) {
            self.waiting.h2c = Some(self.waiting.last());
        }
        self.tell(|to| to.head(head));
    }

    fn body(&mut self, bytes: &[u8], time: u64) {
        self.tell(|to| to.body(bytes, time));
    }

    fn end(&mut self, pos: u64) {
        self.tell(|to| to.end(pos));
    }

    fn abort(&mut self, why: AbortReason) {
        self.tell(|to| to.abort(why));
    }

    fn refused(&mut self, why: AbortReason) {
        self.asks = true;
        self.conn.get_or_insert_with(|| self.observer.open(self.info));
        self.tell(|to| to.refused(why));
    }

    fn h2_begin(&mut self, upgraded: bool) {
        self.asks = true;
        self.conn.get_or_insert_with(|| self.observer.open(self.info));
        self.tell(|to| to.h2_begin(upgraded));
    }

    fn stream_head(&mut self, head: &StreamHead<'_>) {
        self.waiting.streams += 1;
        self.tell(|to| to.stream_head(head));
    }

    fn stream_data(&mut self, stream: u32, bytes: &[u8], last: bool, time: u64) {
        self.tell(|to| to.stream_data(stream, bytes, last, time));
    }

    fn stream_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], time: u64) {
        self.tell(|to| to.stream_trailers(stream, fields, time));
    }

    fn stream_end(&mut self, stream: u32, pos: u64) {
        self.tell(|to| to.stream_end(stream, pos));
    }

    fn stream_abort(&mut self, stream: u32, why: AbortReason, code: Option<u32>) {
        self.tell(|to| to.stream_abort(stream, why, code));
    }

    fn stream_cancelled(&mut self, stream: u32, code: u32) {
        self.tell(|to| to.stream_cancelled(stream, code));
    }

    fn h2_memory(&mut self, delta: i64) -> bool {
        self.h2_memory.change(delta)
    }

    fn unanswered_memory(&mut self, delta: i64) -> bool {
        self.unanswered_memory.change(delta)
    }

    fn h2_error(&mut self, why: H2Error) {
        self.tell(|to| to.h2_error(why));
    }

    fn waiting(&mut self, why: http::Waiting, begins: bool) {
        self.tell(|to| to.waiting(why, begins));
    }

    fn tunnel(&mut self, time: u64) {
        self.tell(|to| to.tunnel(time));
    }

    fn tunnel_data(&mut self, bytes: &[u8], time: u64) {
        self.tell(|to| to.tunnel_data(bytes, time));
    }

    fn tunnel_frames(&mut self, frames: u64, payload: u64) {
        self.tell(|to| to.tunnel_frames(frames, payload));
    }

    fn tunnel_end(&mut self, why: TunnelEnd) {
        self.tell(|to| to.tunnel_end(why));
    }

    fn parsed(&mut self, bytes: u64) {
        self.bytes.parsed += bytes;
    }

    fn not_http(&mut self, why: NotHttp, bytes: u64) {
        if let Some(sum) = self.bytes.not_http.get_mut(why as usize) {
            *sum += bytes;
        }
    }

    fn skipped(&mut self, bytes: u64) {
        self.bytes.skipped += bytes;
    }

    fn buffered(&mut self, delta: i64) {
        *self.heads += delta;
        self.bytes.buffered += delta;
    }
}
