//! What the client's frames mean for the requests of a connection.
//!
//! # Errors
//!
//! A stream that is malformed (section 8.1.1) is refused at its head or aborted, and the connection goes on, as the
//! primary's does. What would make the primary end the connection ends the decoding: what would come after is not
//! known. In between stand frames on streams that are closed; they are answered in different ways by different servers,
//! so they are read for the compression state and told to nobody.
//!
//! # Gaps
//!
//! The payload of a DATA frame and of frames without a header block says nothing about what follows, so a gap inside one
//! costs at most its stream. A gap that reaches further may hide a header block: the compression state is lost with it,
//! and nothing of the connection can be read any more.
//!
//! # Streams that nobody ends
//!
//! A primary may answer and reset a stream before the request is complete; the client then sends no more of it, and no
//! sign of that. Such a stream stays open here until the connection ends, or until its place is needed.

use std::net::SocketAddr;

use super::PREFACE;
use super::frame::{Frames, Step};
use super::hpack::{Bounds, Decoder, Fail, List};
use super::request;
use super::streams::{Stream, Streams};
use crate::http::input::Tally;
use crate::http::limits::Limits;
use crate::http::message::{AbortReason, Events, H2Error, NotHttp};
use crate::http::stream::StreamHead;

/// The request direction of an HTTP/2 connection, from the client's preface on.
#[derive(Debug)]
pub(in crate::http) struct Requests {
    /// Bytes of the preface that came.
    preface: u8,
    frames: Frames,
    side: Side,
}

/// Where the bytes of a call stand.
#[derive(Clone, Copy)]
pub(in crate::http) struct Place<'a> {
    /// Stream position of the first byte.
    pub(in crate::http) pos: u64,
    /// Kernel time, ns.
    pub(in crate::http) time: u64,
    /// The client as a PROXY protocol header told it.
    pub(in crate::http) proxied: Option<SocketAddr>,
    /// What it may take.
    pub(in crate::http) limits: &'a Limits,
}

impl Requests {
    /// A connection that is to begin with the preface. `upgraded`: its stream 1 is the HTTP/1 request that asked for it.
    pub(in crate::http) fn new(limits: &Limits, upgraded: bool) -> Self {
        let mut streams = Streams::default();
        if upgraded {
            streams.used(1);
        }
        Self {
            preface: 0,
            frames: Frames::new(limits.h2_block_bytes),
            side: Side {
                hpack: Decoder::new(limits.h2_table_bytes),
                list: List::default(),
                streams,
                second: 0,
                resets: 0,
                heads: 0,
            },
        }
    }

    /// The next bytes; all of them are told or held after the call.
    ///
    /// # Errors
    /// If the connection cannot be read any further: its streams were aborted, all bytes told.
    pub(in crate::http) fn data(
        &mut self,
        bytes: &[u8],
        place: Place<'_>,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> Result<(), H2Error> {
        let mut at = 0;
        let rest = &PREFACE[usize::from(self.preface)..];
        if !rest.is_empty() {
            at = rest.len().min(bytes.len());
            if bytes[..at] != rest[..at] {
                // All of it is no preface, in whatever pieces it came.
                let left = self.held() + bytes.len() as u64;
                return Err(self.fail(H2Error::Preface, left, ev, tally));
            }
            self.preface += at as u8;
            if at == rest.len() {
                tally.parsed += PREFACE.len() as u64;
            }
        }
        while at < bytes.len() {
            let held = self.frames.held();
            let first = place.pos + at as u64 - held;
            let judged = match self.frames.step(&bytes[at..]) {
                Ok((taken, Step::More)) => {
                    at += taken;
                    continue;
                }
                Ok((taken, step)) => {
                    let after = place.pos + (at + taken) as u64;
                    self.side.take(step, first, after, place, ev).map(|what| (taken, what))
                }
                Err(why) => Err(why),
            };
            match judged {
                Ok((taken, what)) => {
                    at += taken;
                    let told = held + taken as u64;
                    match what {
                        None => tally.parsed += told,
                        Some(why) => tally.out(Some(why), told, ev),
                    }
                }
                Err(why) => {
                    let left = held + (bytes.len() - at) as u64;
                    return Err(self.fail(why, left, ev, tally));
                }
            }
        }
        Ok(())
    }

    /// Goes on by `n` bytes that nobody saw. False if the connection cannot be read any further: its streams were
    /// aborted, and what is held is to be told.
    pub(in crate::http) fn gap(&mut self, n: u64, ev: &mut impl Events, tally: &mut Tally) -> bool {
        let whole = usize::from(self.preface) == PREFACE.len();
        match self.frames.skip(n) {
            Ok(stream) if whole => {
                tally.parsed += self.frames.release();
                if let Some(stream) = stream
                    && self.side.streams.close(stream)
                {
                    ev.stream_abort(stream, AbortReason::Gap, None);
                }
                true
            }
            _ => {
                self.abort_all(AbortReason::Gap, ev);
                false
            }
        }
    }

    /// Aborts every open stream.
    pub(in crate::http) fn abort_all(&mut self, why: AbortReason, ev: &mut impl Events) {
        for stream in self.side.streams.drain() {
            ev.stream_abort(stream, why, None);
        }
    }

    /// Bytes that wait for the rest of the preface, of a frame header or of a header block.
    pub(in crate::http) fn held(&self) -> u64 {
        let preface = usize::from(self.preface);
        if preface < PREFACE.len() { preface as u64 } else { self.frames.held() }
    }

    /// Memory of its state, bytes.
    pub(in crate::http) fn memory(&self) -> u64 {
        let Side { hpack, list, streams, .. } = &self.side;
        (size_of::<Self>() + self.frames.memory() + hpack.memory() + list.memory() + streams.memory()) as u64
    }

    /// Streams told so far. Their answers are not seen.
    pub(in crate::http) fn heads(&self) -> u64 {
        self.side.heads
    }

    fn fail(&mut self, why: H2Error, left: u64, ev: &mut impl Events, tally: &mut Tally) -> H2Error {
        self.abort_all(AbortReason::ConnectionError, ev);
        tally.out(Some(NotHttp::Http2), left, ev);
        why
    }
}

/// What is known of the client's side beside the place in its frames.
#[derive(Debug)]
struct Side {
    hpack: Decoder,
    list: List,
    streams: Streams,
    /// The second in which streams were reset last, and how many in it.
    second: u64,
    resets: u32,
    heads: u64,
}

impl Side {
    /// What a step means. Gives why its bytes are part of no request, if they are not. `first` and `after` are the
    /// positions of its first byte and after its last.
    fn take(
        &mut self,
        step: Step<'_>,
        first: u64,
        after: u64,
        place: Place<'_>,
        ev: &mut impl Events,
    ) -> Result<Option<NotHttp>, H2Error> {
        match step {
            Step::More | Step::Other => Ok(None),
            // A client pushes nothing (section 8.4).
            Step::Block { promise: true, .. } => Err(H2Error::Frame),
            Step::Block { stream, end_stream, block, .. } => {
                if stream.is_multiple_of(2) {
                    return Err(H2Error::Stream);
                }
                self.decode(block, place.limits)?;
                if self.streams.is_open(stream) {
                    self.trailers(stream, end_stream, after, place.time, ev);
                    Ok(None)
                } else if self.streams.is_idle(stream) {
                    self.streams.used(stream);
                    Ok(self.head(stream, end_stream, first, after, place, ev))
                } else {
                    Ok(Some(NotHttp::Http2))
                }
            }
            Step::Data { stream, bytes, left, end_stream } => {
                if self.streams.is_idle(stream) {
                    return Err(H2Error::Stream);
                }
                Ok(self.data(stream, bytes, left, end_stream, after, place.time, ev))
            }
            Step::Reset { stream, code } => {
                // An even stream is one that the primary pushed.
                if stream.is_multiple_of(2) {
                    return Ok(None);
                }
                if self.streams.is_idle(stream) {
                    return Err(H2Error::Stream);
                }
                self.count_reset(place.time);
                if self.streams.close(stream) {
                    ev.stream_abort(stream, AbortReason::ClientReset, Some(code));
                } else {
                    ev.stream_cancelled(stream, code);
                }
                Ok(None)
            }
        }
    }

    fn decode(&mut self, block: &[u8], limits: &Limits) -> Result<(), H2Error> {
        let bounds = Bounds {
            fields: limits.max_fields as usize,
            keep: limits.max_head_bytes.into(),
            read: limits.h2_list_bytes.into(),
        };
        self.hpack.decode(block, bounds, &mut self.list).map_err(|fail| match fail {
            Fail::Broken => H2Error::Compression,
            Fail::TableTooLarge => H2Error::TableTooLarge,
            Fail::ListTooLarge => H2Error::BlockTooLarge,
        })
    }

    /// A stream is opened. Gives why it is none to be read, if so.
    fn head(
        &mut self,
        stream: u32,
        end_stream: bool,
        pos: u64,
        after: u64,
        place: Place<'_>,
        ev: &mut impl Events,
    ) -> Option<NotHttp> {
        let limits = place.limits;
        if self.list.is_over() {
            ev.refused(AbortReason::HeadTooLarge);
            return Some(NotHttp::HeadTooLarge);
        }
        let Ok(request) = request::request(&self.list) else {
            ev.refused(AbortReason::Malformed);
            return Some(NotHttp::Malformed);
        };
        if self.second == place.time / SECOND && self.resets >= limits.h2_resets_per_second {
            ev.refused(AbortReason::ResetFlood);
            return Some(NotHttp::Http2);
        }
        if !end_stream && self.streams.len() >= limits.h2_streams as usize {
            match self.streams.close_quietest(place.time, limits.h2_stream_quiet_ns) {
                Some(quiet) => ev.stream_abort(quiet, AbortReason::TooManyStreams, None),
                None => {
                    ev.refused(AbortReason::TooManyStreams);
                    return Some(NotHttp::Http2);
                }
            }
        }
        self.heads += 1;
        ev.stream_head(&StreamHead {
            stream,
            method: request.method,
            scheme: request.scheme,
            authority: request.authority,
            path: request.path,
            protocol: request.protocol,
            never_indexed: request.never_indexed,
            fields: &request.fields,
            content_length: request.content_length,
            end_stream,
            proxied: place.proxied,
            pos,
            time: place.time,
        });
        if end_stream {
            ev.stream_end(stream, after);
        } else {
            self.streams.open(Stream { id: stream, left: request.content_length, seen: place.time });
        }
        None
    }

    /// A header block on an open stream ends its request (section 8.1).
    fn trailers(&mut self, id: u32, end_stream: bool, after: u64, time: u64, ev: &mut impl Events) {
        let complete = self.streams.get(id).is_some_and(|stream| stream.left.is_none_or(|left| left == 0));
        self.streams.close(id);
        if self.list.is_over() {
            return ev.stream_abort(id, AbortReason::HeadTooLarge, None);
        }
        match request::trailers(&self.list) {
            Ok(fields) if end_stream && complete => {
                if !fields.is_empty() {
                    ev.stream_trailers(id, &fields, time);
                }
                ev.stream_end(id, after);
            }
            _ => ev.stream_abort(id, AbortReason::Malformed, None),
        }
    }

    /// Bytes of a DATA frame of which `left` are still to come after these.
    #[allow(clippy::too_many_arguments, reason = "what a DATA frame says, and where it stands")]
    fn data(
        &mut self,
        id: u32,
        bytes: &[u8],
        left: u32,
        end_stream: bool,
        after: u64,
        time: u64,
        ev: &mut impl Events,
    ) -> Option<NotHttp> {
        let Some(stream) = self.streams.get(id) else { return Some(NotHttp::Http2) };
        stream.seen = time;
        if let Some(announced) = stream.left {
            // More or less than was announced is told by the frame's length: so all of the frame has one verdict, in
            // whatever pieces it comes.
            let rest = announced.checked_sub(bytes.len() as u64 + u64::from(left));
            if rest.is_none_or(|rest| end_stream && rest > 0) {
                self.streams.close(id);
                ev.stream_abort(id, AbortReason::Malformed, None);
                return Some(NotHttp::Http2);
            }
            stream.left = Some(announced - bytes.len() as u64);
        }
        let last = left == 0 && end_stream;
        if !bytes.is_empty() {
            ev.stream_data(id, bytes, last, time);
        }
        if last {
            self.streams.close(id);
            ev.stream_end(id, after);
        }
        None
    }

    fn count_reset(&mut self, time: u64) {
        let second = time / SECOND;
        if self.second != second {
            self.second = second;
            self.resets = 0;
        }
        self.resets = self.resets.saturating_add(1);
    }
}

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
