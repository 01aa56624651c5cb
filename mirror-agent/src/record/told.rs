//! What the http room tells of a client's stream, made into packets.

use super::LeftOut;
use super::out::Out;
use super::redact::veil;
use super::sieve::{Body, Line, Stream};
use crate::flow::{FlowInfo, Gap};
use crate::http::{
    AbortReason, BodyKind, Dechunker, Events, H2Error, HeaderField, NotHttp, Part, RequestHead, StreamHead,
    TunnelEnd, Waiting,
};

/// One call into the http room.
pub(super) struct Told<'a> {
    line: &'a mut Line,
    out: &'a mut Out,
    flow: &'a FlowInfo,
    stream: &'a mut Stream,
    /// Bytes that the http room gave a fate without telling them.
    pub(super) untold: [u64; LeftOut::ALL.len()],
}

impl<'a> Told<'a> {
    pub(super) fn new(
        line: &'a mut Line,
        out: &'a mut Out,
        flow: &'a FlowInfo,
        stream: &'a mut Stream,
    ) -> Self {
        Self { line, out, flow, stream, untold: [0; LeftOut::ALL.len()] }
    }

    /// The next bytes of the stream are missing.
    pub(super) fn gap(&mut self, gap: &Gap) {
        if let Some(frames) = &mut self.stream.h2 {
            frames.skip(gap.len);
        }
    }

    /// A trailer section that did not come whole is not written.
    pub(super) fn drop_trailers(&mut self) {
        if let Some(body) = &mut self.stream.body {
            let bytes = std::mem::take(&mut body.trailers).len() as u64;
            self.out.tally.buffered -= bytes.cast_signed();
            self.out.tally.leave_out(LeftOut::Incomplete, bytes);
        }
    }

    fn drop_body(&mut self) {
        self.drop_trailers();
        self.stream.body = None;
    }

    /// Bytes of the stream from `pos` on have this fate: they are in a packet, `veiled` of them as `x`.
    fn show(&mut self, pos: u64, bytes: &[u8], veiled: u64, time: u64) {
        let len = bytes.len() as u64;
        self.line.packet(self.flow, self.stream, (pos, len, time), bytes, self.out);
        self.out.tally.written += len - veiled;
        self.out.tally.leave_out(LeftOut::Redacted, veiled);
        self.stream.at = pos + len;
    }

    /// Bytes of the stream from `pos` on are left out; that they were there is told.
    fn hide(&mut self, pos: u64, len: u64, why: LeftOut, time: u64) {
        self.line.packet(self.flow, self.stream, (pos, len, time), &[], self.out);
        self.out.tally.leave_out(why, len);
        self.stream.at = pos + len;
    }

    /// Takes bytes out of those without a fate.
    fn account(&mut self, bytes: &[u8]) {
        let len = (bytes.len() as u64).min(self.stream.open);
        self.stream.open -= len;
        self.out.tally.buffered -= len.cast_signed();
    }

    fn chunked(&mut self, body: &mut Body, bytes: &[u8], time: u64) {
        let Some(mut parts) = body.parts.take() else { return };
        let redacts = self.line.rules.redact.is_some();
        let done = parts.parts(bytes, |part, bytes| match part {
            Part::Data => self.content(bytes, time),
            Part::Extension if redacts => {
                let mut text = std::mem::take(&mut self.line.scratch);
                text.clear();
                text.extend_from_slice(bytes);
                let veiled = veil(&mut text);
                self.show(self.stream.at, &text, veiled, time);
                self.line.scratch = text;
            }
            Part::Trailer if redacts => {
                if body.trailers.is_empty() {
                    body.trailers_at = self.stream.at;
                }
                body.trailers.extend_from_slice(bytes);
                self.out.tally.buffered += bytes.len().cast_signed() as i64;
                self.stream.at += bytes.len() as u64;
            }
            Part::Framing | Part::Extension | Part::Trailer => self.show(self.stream.at, bytes, 0, time),
        });
        if done && !body.trailers.is_empty() {
            let mut section = std::mem::take(&mut body.trailers);
            self.out.tally.buffered -= section.len().cast_signed() as i64;
            let veiled = self.line.rules.redact.as_ref().map_or(0, |redact| redact.trailers(&mut section));
            self.show(body.trailers_at, &section, veiled, time);
        }
        body.parts = Some(parts);
    }

    /// Content of a body or a tunnel, where the stream stands.
    fn content(&mut self, bytes: &[u8], time: u64) {
        if self.line.rules.headers_only {
            self.hide(self.stream.at, bytes.len() as u64, LeftOut::HeadersOnly, time);
        } else {
            self.show(self.stream.at, bytes, 0, time);
        }
    }
}

impl Events for Told<'_> {
    fn head(&mut self, head: &RequestHead<'_>) {
        self.drop_body();
        self.account(head.raw);
        match &self.line.rules.redact {
            None => self.show(head.pos, head.raw, 0, head.time),
            Some(redact) => {
                let mut raw = std::mem::take(&mut self.line.scratch);
                raw.clear();
                raw.extend_from_slice(head.raw);
                let veiled = redact.head(head, &mut raw);
                self.show(head.pos, &raw, veiled, head.time);
                self.line.scratch = raw;
            }
        }
        let asks = (head.expects_continue && self.line.rules.redact.is_some()).then_some(self.stream.at);
        let parts = (head.body == BodyKind::Chunked).then(Dechunker::default);
        if asks.is_some() || parts.is_some() {
            self.stream.body = Some(Box::new(Body { parts, asks, ..Body::default() }));
        }
    }

    fn body(&mut self, bytes: &[u8], time: u64) {
        self.account(bytes);
        let Some(mut body) = self.stream.body.take() else { return self.content(bytes, time) };
        if body.asks.is_some_and(|pos| !self.stream.is_invited(pos)) {
            // From here on the place in it is not followed: all of it is left out.
            body.asks = Some(u64::MAX);
            let why = if self.line.rules.headers_only { LeftOut::HeadersOnly } else { LeftOut::Unsure };
            self.hide(self.stream.at, bytes.len() as u64, why, time);
        } else if body.parts.is_some() {
            self.chunked(&mut body, bytes, time);
        } else {
            self.content(bytes, time);
        }
        self.stream.body = Some(body);
    }

    fn end(&mut self, pos: u64) {
        self.drop_body();
        self.stream.at = pos;
    }

    fn abort(&mut self, _why: AbortReason) {
        self.drop_body();
    }

    fn refused(&mut self, _why: AbortReason) {
        self.drop_body();
    }

    fn blank(&mut self, bytes: &[u8], pos: u64, time: u64) {
        self.account(bytes);
        self.show(pos, bytes, 0, time);
    }

    fn h2_begin(&mut self, _upgraded: bool) {
        self.drop_body();
        self.stream.h2 = Some(Box::default());
    }

    fn h2_bytes(&mut self, bytes: &[u8], pos: u64, time: u64) {
        self.account(bytes);
        self.stream.at = pos;
        let is_lost = self.stream.h2.as_ref().is_none_or(|frames| frames.is_lost());
        if self.line.rules.redact.is_some() || is_lost {
            // What a header block says cannot be overwritten in it: a value that is indexed stands for later ones too.
            return self.hide(pos, bytes.len() as u64, LeftOut::Http2, time);
        }
        let Some(mut frames) = self.stream.h2.take() else { return };
        frames.feed(bytes, |bytes, is_content| {
            if is_content {
                self.content(bytes, time);
            } else {
                self.show(self.stream.at, bytes, 0, time);
            }
        });
        self.stream.h2 = Some(frames);
    }

    fn tunnel(&mut self, _time: u64) {}

    fn tunnel_data(&mut self, bytes: &[u8], time: u64) {
        self.account(bytes);
        self.content(bytes, time);
    }

    fn not_http(&mut self, why: NotHttp, bytes: u64) {
        let why = match why {
            NotHttp::Http2 | NotHttp::Http2Waiting => LeftOut::Http2,
            NotHttp::Tls
            | NotHttp::Tunnel
            | NotHttp::Malformed
            | NotHttp::HeadTooLarge
            | NotHttp::ProxyHeader
            | NotHttp::Unknown => LeftOut::NotHttp,
        };
        self.untold[why as usize] += bytes;
    }

    fn skipped(&mut self, bytes: u64) {
        self.untold[LeftOut::Unproved as usize] += bytes;
    }

    fn h2_memory(&mut self, delta: i64) -> bool {
        self.line.h2_memory.change(delta)
    }

    fn unanswered_memory(&mut self, delta: i64) -> bool {
        self.line.unanswered.change(delta)
    }

    // What is read is told by the calls above.
    fn parsed(&mut self, _bytes: u64) {}
    // What waits is kept count of in `Stream::open`.
    fn buffered(&mut self, _delta: i64) {}
    fn stream_head(&mut self, _head: &StreamHead<'_>) {}
    fn stream_data(&mut self, _stream: u32, _bytes: &[u8], _last: bool, _time: u64) {}
    fn stream_trailers(&mut self, _stream: u32, _fields: &[HeaderField<'_>], _time: u64) {}
    fn stream_end(&mut self, _stream: u32, _pos: u64) {}
    fn stream_abort(&mut self, _stream: u32, _why: AbortReason, _code: Option<u32>) {}
    fn stream_cancelled(&mut self, _stream: u32, _code: u32) {}
    fn h2_error(&mut self, _why: H2Error) {}
    fn waiting(&mut self, _why: Waiting, _begins: bool) {}
    fn tunnel_frames(&mut self, _frames: u64, _payload: u64) {}
    fn tunnel_end(&mut self, _why: TunnelEnd) {}
}
