//! What becomes of a request: decided at its head, its copies begun, its body handed on, its bytes booked.

use smallvec::SmallVec;

use super::streams::Streams;
use super::{Asked, Job, Line};
use crate::flow::FlowInfo;
use crate::http::{
    AbortReason, Events, H2Error, HeaderField, Leaves, NotHttp, RequestHead, StreamHead, TunnelEnd, Waiting,
};
use crate::plan::{Decision, Filtered};
use crate::replay::{CopyId, Dropped, LinkSlot, Start};
use crate::stats::ledger::Counter;

/// Copies of one request that find a place without an allocation.
pub(super) const INLINE_COPIES: usize = 2;

/// What a client connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Http1,
    /// The request told last asks for a WebSocket, and its copies wait for what becomes of that.
    AsksWebSocket,
    Http2,
}

/// What is kept of a client connection beside its decoder.
#[derive(Default)]
pub(super) struct Asks {
    /// Copies of the request that goes on.
    pub(super) copies: SmallVec<[CopyId; INLINE_COPIES]>,
    pub(super) links: SmallVec<[LinkSlot; INLINE_COPIES]>,
    /// Copies of its streams, if it speaks HTTP/2.
    pub(super) streams: Option<Box<Streams>>,
    pub(super) stage: Stage,
}

/// The requests of one client connection, on their way to the shadows.
pub struct Requests<'a> {
    pub(super) line: &'a mut Line,
    pub(super) flow: &'a FlowInfo,
    pub(super) asks: &'a mut Asks,
}

impl Events for Requests<'_> {
    fn head(&mut self, head: &RequestHead<'_>) {
        self.end_asking();
        let (flow, time) = (self.flow, self.line.at(head.time));
        let taken = self.line.takes(&Asked {
            flow: &flow.key,
            method: head.method,
            target: head.target,
            authority: || head.authority(),
        });
        let copies = self.line.select(flow.job, time, |plan, sampler, ordinal, now| {
            if taken {
                plan.decide(sampler, head, &flow.key, flow.origin, ordinal, now)
            } else {
                Decision::Filtered(Filtered::Expression)
            }
        });
        let Some(copies) = copies else { return };
        let client = head.proxied.unwrap_or_else(|| flow.key.client.socket_addr());
        let tunnel = head.leaves == Some(Leaves::WebSocket);
        if tunnel {
            self.asks.stage = Stage::AsksWebSocket;
        }
        let size = if self.line.waits() {
            self.line.measure(|plan, out| plan.rewrite(head, &client, out), flow.job)
        } else {
            0
        };
        let Some((first_target, shadows)) = self.line.targets(flow.job) else { return };
        let links = &mut self.asks.links;
        links.resize(links.len().max(usize::from(copies) * shadows), LinkSlot::default());
        for place in 0..usize::from(copies) * shadows {
            let shadow = place % shadows;
            let start = Start {
                shadow: first_target + shadow,
                flow_hash: flow.hash,
                head_request: head.method == b"HEAD",
                idempotent: is_idempotent(head.method) && !tunnel,
                closes: head.closes,
                pipelined: head.pipelined,
                tunnel,
                body: head.body,
                head_time: time,
            };
            let Some(slot) = self.asks.links.get_mut(place) else { continue };
            self.line.wait_while(|shadows| shadows.h1.lacks_room(&start, *slot, size));
            let Line { jobs, shadows, .. } = &mut *self.line;
            let Some(job) = jobs.get(usize::from(flow.job)) else { continue };
            job.planned(shadow);
            let copy = shadows.h1.begin(start, slot, |out| job.plan.rewrite(head, &client, out));
            self.asks.copies.extend(copy);
        }
    }

    fn body(&mut self, bytes: &[u8], _time: u64) {
        for copy in &self.asks.copies {
            self.line.wait_while(|shadows| shadows.h1.lacks_room_for(*copy, bytes.len() as u64));
            self.line.shadows.h1.body(*copy, bytes);
        }
    }

    fn end(&mut self, _pos: u64) {
        if self.asks.stage != Stage::AsksWebSocket {
            self.end_copies();
        }
        if let Some(job) = self.job() {
            job.ledger.requests.completed.add(1);
        }
    }

    fn abort(&mut self, why: AbortReason) {
        if self.asks.stage == Stage::AsksWebSocket {
            self.asks.stage = Stage::Http1;
        }
        let why = self.line.why(why);
        for copy in self.asks.copies.drain(..) {
            self.line.shadows.h1.abort(copy, why);
        }
    }

    fn refused(&mut self, why: AbortReason) {
        self.end_asking();
        if let Some(job) = self.job() {
            job.ledger.requests.observed.add(1);
            if self.asks.stage == Stage::Http2 {
                job.ledger.h2.requests.add(1);
            }
            count(&job.ledger.requests.dropped, why as usize, 1);
        }
    }

    fn h2_begin(&mut self, _upgraded: bool) {
        // Of a request that asked for it the witness saw the 101.
        self.asks.stage = Stage::Http2;
        if let Some(job) = self.job() {
            job.ledger.h2.connections.add(1);
        }
    }

    fn stream_head(&mut self, head: &StreamHead<'_>) {
        if let Some(job) = self.job() {
            job.ledger.h2.requests.add(1);
        }
        let h2 = &mut self.line.shadows.h2;
        let streams = self.asks.streams.get_or_insert_with(|| Box::new(Streams::new(h2.new_client())));
        streams.head(head, self.flow, self.line);
    }

    fn stream_data(&mut self, stream: u32, bytes: &[u8], _last: bool, _time: u64) {
        if let Some(streams) = &self.asks.streams {
            streams.data(stream, bytes, self.line);
        }
    }

    fn stream_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], _time: u64) {
        if let Some(streams) = &mut self.asks.streams {
            streams.trailers(stream, fields, self.line);
        }
    }

    fn stream_end(&mut self, stream: u32, _pos: u64) {
        if let Some(streams) = &mut self.asks.streams {
            streams.end(stream, &mut self.line.shadows.h2);
        }
        if let Some(job) = self.job() {
            job.ledger.requests.completed.add(1);
        }
    }

    fn stream_abort(&mut self, stream: u32, why: AbortReason, code: Option<u32>) {
        let why = self.line.why(why);
        if let Some(streams) = &mut self.asks.streams {
            streams.abort(stream, why, code, &mut self.line.shadows.h2);
        }
    }

    fn stream_cancelled(&mut self, stream: u32, code: u32) {
        if let Some(streams) = &mut self.asks.streams {
            streams.cancelled(stream, code, &mut self.line.shadows.h2);
        }
    }

    fn h2_error(&mut self, why: H2Error) {
        if let Some(counter) = self.job().and_then(|job| job.ledger.h2.errors.get(why as usize)) {
            counter.add(1);
        }
    }

    fn h2_memory(&mut self, delta: i64) -> bool {
        self.job().is_none_or(|job| {
            let memory = &job.ledger.h2.memory;
            memory.shift(delta);
            delta < 0 || memory.get() <= self.line.h2_memory
        })
    }

    fn unanswered_memory(&mut self, delta: i64) -> bool {
        self.line.unanswered.change(delta)
    }

    fn waiting(&mut self, why: Waiting, begins: bool) {
        let Some(books) = self.job().map(|job| &job.ledger.h2) else { return };
        if let (Some(now), Some(ever)) = (books.waiting.get(why as usize), books.waited.get(why as usize)) {
            if begins {
                now.add(1);
                ever.add(1);
            } else {
                now.sub(1);
            }
        }
    }

    fn tunnel(&mut self, _time: u64) {
        // The copies of the handshake carry it on.
        self.asks.stage = Stage::Http1;
        if let Some(job) = self.job() {
            job.ledger.websocket.tunnels.add(1);
        }
    }

    fn tunnel_data(&mut self, bytes: &[u8], time: u64) {
        self.body(bytes, time);
    }

    fn tunnel_frames(&mut self, frames: u64, payload: u64) {
        if let Some(job) = self.job() {
            job.ledger.websocket.frames.add(frames);
            job.ledger.websocket.payload_bytes.add(payload);
        }
    }

    fn tunnel_end(&mut self, why: TunnelEnd) {
        match why {
            TunnelEnd::Closed { .. } => self.end_copies(),
            TunnelEnd::Gap => self.abort(AbortReason::Gap),
            TunnelEnd::Malformed => self.abort(AbortReason::Malformed),
        }
    }

    fn parsed(&mut self, bytes: u64) {
        if let Some(job) = self.job() {
            job.ledger.bytes.parsed.add(bytes);
        }
    }

    fn not_http(&mut self, why: NotHttp, bytes: u64) {
        if let Some(job) = self.job() {
            count(&job.ledger.bytes.not_http, why as usize, bytes);
        }
    }

    fn skipped(&mut self, bytes: u64) {
        if let Some(job) = self.job() {
            job.ledger.bytes.skipped_before_sync.add(bytes);
        }
    }

    fn buffered(&mut self, delta: i64) {
        self.line.held = self.line.held.saturating_add_signed(delta);
        if let Some(job) = self.job() {
            job.ledger.bytes.buffered.shift(delta);
        }
    }
}

impl Requests<'_> {
    /// A WebSocket that was asked for did not come about: its copies end with their heads.
    pub(super) fn end_asking(&mut self) {
        if self.asks.stage == Stage::AsksWebSocket {
            self.asks.stage = Stage::Http1;
            self.end_copies();
        }
    }

    fn end_copies(&mut self) {
        for copy in self.asks.copies.drain(..) {
            self.line.shadows.h1.end(copy);
        }
    }

    fn job(&self) -> Option<&Job> {
        self.line.jobs.get(usize::from(self.flow.job))
    }
}

impl Line {
    /// Why a copy is given up whose request was: the client, or the end of us all.
    fn why(&self, why: AbortReason) -> Dropped {
        let leaving = self.source.as_ref().is_some_and(|source| source.leaving);
        if leaving { Dropped::Shutdown } else { why.into() }
    }

    /// Whether a request is one that was asked for.
    pub(super) fn takes<'a>(&self, asked: &Asked<'a, impl Fn() -> &'a [u8]>) -> bool {
        let fits = self.source.as_ref().and_then(|source| source.fits.as_ref());
        fits.is_none_or(|fits| fits(asked.flow, asked.method, asked.target, (asked.authority)()))
    }

    /// The first target of a job, and how many it has.
    pub(super) fn targets(&self, job: u16) -> Option<(usize, usize)> {
        let job = self.jobs.get(usize::from(job))?;
        Some((job.first_target, job.plan.shadows()))
    }
}

/// Adds to the counter of a reason. Each array has a place for every variant of its enum.
pub(super) fn count(counters: &[Counter], reason: usize, n: u64) {
    if let Some(counter) = counters.get(reason) {
        counter.add(n);
    }
}

impl Job {
    /// Counts a copy for the shadow with this number.
    pub(super) fn planned(&self, shadow: usize) {
        if let Some(books) = self.ledger.shadows.get(shadow) {
            books.copies.add(1);
            books.in_flight.add(1);
        }
    }

    /// Counts a request; its number.
    pub(super) fn observed(&mut self) -> u64 {
        let ordinal = self.ordinal;
        self.ordinal += 1;
        self.ledger.requests.observed.add(1);
        ordinal
    }

    /// Counts what was decided of it; how many copies each shadow gets, if any.
    pub(super) fn decided(&self, decision: Decision) -> Option<u8> {
        let requests = &self.ledger.requests;
        match decision {
            Decision::Selected { copies } => {
                requests.selected.add(1);
                return Some(copies);
            }
            Decision::SampledOut(why) => count(&requests.sampled_out, why as usize, 1),
            Decision::Filtered(why) => count(&requests.filtered, why as usize, 1),
        }
        None
    }
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2). Unknown ones may not.
pub(super) fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}
