//! The request side of one client connection: chunks in, requests and byte counts out.

use std::net::SocketAddr;

use super::answer::{Answer, Answers};
use super::chunked::Piece;
use super::framer::Framer;
use super::h2;
use super::input::{Input, Tally};
use super::limits::{LastTold, Limits, Pickup};
use super::message::{AbortReason, Events, Leaves, NotHttp, TunnelEnd, Waiting};
use super::requests::Current;
use super::sync::Trial;
use super::ws;
use crate::flow::{Chunk, Evidence, Gap, Start};
use crate::packet::Seq;

/// What the bytes that come next are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The first bytes of a connection.
    Opening,
    /// Requests, one after the other.
    Sync,
    /// A request ended that is the last one by the rules of HTTP/1.0. Some servers keep such a connection, and their
    /// clients go on when they have read the answer.
    Last,
    /// A request to leave HTTP/1 ended and nobody said what became of it.
    Leaving(Leaves),
    /// The first bytes of a connection that was under way, too few to tell whether a request begins (capture files).
    First,
    /// HTTP/2.
    H2,
    /// WebSocket.
    Tunnel,
    /// The position in a message is lost. Bytes count as skipped, or as the reason if there is one.
    Search(Option<NotHttp>),
    /// No request will come any more.
    Off(NotHttp),
}

/// The request side of one client connection.
///
/// Every byte given to [`Connection::data`] is told exactly once by [`Events::parsed`], [`Events::not_http`] or
/// [`Events::skipped`]; until then it is in [`Events::buffered`]. Chunks and gaps come in stream order without overlap,
/// responses in kernel order between them.
#[derive(Debug)]
pub struct Connection {
    pub(super) limits: Limits,
    pub(super) pickup: Pickup,
    pub(super) mode: Mode,
    pub(super) framer: Framer,
    pub(super) current: Option<Current>,
    pub(super) answers: Answers,
    pub(super) trial: Option<Box<Trial>>,
    /// The head that is being gathered: where it began, and whether it is pipelined.
    pub(super) head_start: u64,
    pub(super) head_pipelined: bool,
    /// Whether what waits to be told apart began a segment, and what the client had read on with it.
    pub(super) gathered_with: (bool, Option<u32>),
    /// Nothing but blank lines came of a segment so far: where they end, and what the client had read on with them.
    pub(super) blank_with: Option<(u64, Option<u32>)>,
    /// Off HTTP unless a request says otherwise: the request before asked for an upgrade and the answer was not seen.
    pub(super) maybe_left: bool,
    /// The request that asked to leave HTTP was to be the last in any case.
    pub(super) closing: bool,
    /// Position after the last byte or gap, once there was one.
    pub(super) next: Option<u64>,
    /// The client's ack on the bytes that end at `next`; `None` after a gap.
    pub(super) ack: Option<Seq>,
    /// All that came so far is one byte of a connection that was under way. A sign of life may carry one byte that was
    /// sent before (RFC 9293 section 3.8.4), and an idle connection shows nothing else before its next request.
    pub(super) lone_byte: bool,
    /// It was taken for the beginning of a request without proof, and no head came yet.
    pub(super) guessed: bool,
    /// Position at which the last final response stood.
    pub(super) answered_at: Option<u64>,
    /// Responses are seen on this connection.
    pub(super) visible: bool,
    pub(super) proxied: Option<SocketAddr>,
    pub(super) proxy_seen: bool,
    /// In [`Mode::H2`].
    pub(super) h2: Option<Box<h2::Requests>>,
    /// Streams of an HTTP/2 connection that is over.
    pub(super) unanswered_streams: u64,
    /// In [`Mode::Tunnel`].
    pub(super) tunnel: Option<Box<ws::Frames>>,
    /// Looks for HTTP/2 while nothing else was found.
    pub(super) pickup_h2: h2::Pickup,
    /// The compression state of HTTP/2 is not known.
    pub(super) waiting: Option<Waiting>,
    told_waiting: Option<Waiting>,
    /// When the last call's bytes or evidence passed.
    pub(super) time: u64,
    told_buffered: LastTold,
    pub(super) told_memory: LastTold,
}

impl Connection {
    /// What a connection may take on the heap that no budget and no `buffered` tells of.
    pub const OWN_BYTES: usize = Answers::OWN_BYTES;

    /// A connection that was just taken up.
    #[must_use]
    pub fn new(start: Start, limits: &Limits, pickup: Pickup) -> Self {
        Self {
            limits: Limits { max_head_bytes: limits.max_head_bytes.min(16 << 20), ..*limits },
            pickup,
            mode: match start {
                Start::Syn => Mode::Opening,
                Start::MidStream => Mode::Search(None),
            },
            framer: Framer::new(),
            current: None,
            answers: Answers::default(),
            trial: None,
            head_start: 0,
            head_pipelined: false,
            gathered_with: (false, None),
            blank_with: None,
            maybe_left: false,
            closing: false,
            next: None,
            ack: None,
            lone_byte: false,
            guessed: false,
            answered_at: None,
            visible: false,
            proxied: None,
            proxy_seen: false,
            h2: None,
            unanswered_streams: 0,
            tunnel: None,
            pickup_h2: h2::Pickup::default(),
            waiting: None,
            told_waiting: None,
            time: 0,
            told_buffered: LastTold::default(),
            told_memory: LastTold::default(),
        }
    }

    /// The next bytes of the request direction.
    pub fn data(&mut self, chunk: &Chunk<'_>, ev: &mut impl Events) {
        self.time = chunk.time;
        let joined = self.next == Some(chunk.pos);
        let read = match (self.ack, chunk.ack) {
            // An ack never goes back; one that seems to is an old segment and says nothing.
            (Some(before), Some(now)) if joined => u32::try_from(now.since(before)).ok(),
            _ => None,
        };
        let input = Input {
            bytes: chunk.bytes,
            pos: chunk.pos,
            time: chunk.time,
            ack: chunk.ack,
            segment_start: chunk.segment_start,
            read,
        };
        let mut tally = Tally::default();
        let lone_byte = self.next.is_none() && chunk.bytes.len() == 1 && matches!(self.mode, Mode::Search(_));
        self.pump(&input, ev, &mut tally);
        self.lone_byte = lone_byte;
        self.next = Some(chunk.pos + chunk.bytes.len() as u64);
        self.ack = if joined { chunk.ack.or(self.ack) } else { chunk.ack };
        self.settle(tally, ev);
    }

    /// The next bytes are missing for good.
    pub fn gap(&mut self, gap: &Gap, ev: &mut impl Events) {
        let mut tally = Tally::default();
        let end = gap.pos.saturating_add(gap.len);
        if self.trial.is_some() {
            self.reject(ev, &mut tally);
        }
        match self.mode {
            Mode::Sync if self.current.is_some() => match self.framer.skip(gap.len) {
                Some(piece) => {
                    self.abort(AbortReason::Gap, ev);
                    if let Some(current) = &mut self.current {
                        current.expects = false;
                    }
                    if piece == Piece::Done {
                        self.finish(end, ev);
                    }
                }
                None => {
                    self.abort(AbortReason::Gap, ev);
                    self.lose(None, ev, &mut tally);
                    self.answers.lost(gap.pos);
                }
            },
            // What follows a CONNECT is hardly ever HTTP again, and cannot be proved to be.
            Mode::Leaving(Leaves::Connect) => self.mode = Mode::Off(NotHttp::Tunnel),
            Mode::H2 => {
                if !self.h2.as_mut().is_some_and(|h2| h2.gap(gap.len, ev, &mut tally)) {
                    self.lose_h2(ev, &mut tally);
                }
            }
            Mode::Tunnel => self.end_tunnel(TunnelEnd::Gap, ev),
            Mode::Opening | Mode::First | Mode::Sync | Mode::Last | Mode::Leaving(_) => {
                self.lose(None, ev, &mut tally);
                self.answers.lost(gap.pos);
            }
            Mode::Search(_) => self.answers.lost(gap.pos),
            Mode::Off(_) => {}
        }
        self.pickup_h2.reset();
        self.lone_byte = false;
        self.next = Some(end);
        self.ack = None;
        self.settle(tally, ev);
    }

    /// A response head passed. Gives the request it answers, if one is known.
    pub fn response(&mut self, evidence: &Evidence, ev: &mut impl Events) -> Option<Answer> {
        let interim = (100..200).contains(&evidence.status) && evidence.status != 101;
        self.visible = true;
        self.time = evidence.time;
        if matches!(self.mode, Mode::H2 | Mode::Tunnel) && evidence.status != 101 {
            // What looks like a response head here is the content of something else.
            return None;
        }
        let mut tally = Tally::default();
        if !interim {
            self.answered_at = Some(evidence.acked);
            if self.trial.as_ref().is_some_and(|trial| trial.ends_within(evidence.acked)) {
                self.accept(ev, &mut tally);
            }
        }
        let answered = self.answers.answer(evidence);
        if let Some(current) = &mut self.current
            && current.expects
            && current.head_end == evidence.acked
            && answered.as_ref().is_some_and(|(answer, _)| self.answers.is_latest(answer))
        {
            current.withheld = !interim;
        }
        if let Some((_, Some((leaves, left)))) = answered {
            self.left(leaves, left, ev, &mut tally);
        }
        self.settle(tally, ev);
        answered.map(|(answer, _)| answer)
    }

    /// The client ended its direction: an unfinished request will stay so. Responses may still come.
    pub fn half_close(&mut self, ev: &mut impl Events) {
        let mut tally = Tally::default();
        self.abandon(ev, &mut tally);
        self.end_h2(AbortReason::Closed, NotHttp::Http2, ev, &mut tally);
        self.close_tunnel(ev);
        if self.trial.is_none() && !matches!(self.mode, Mode::Off(_)) {
            self.stop(NotHttp::Unknown, ev, &mut tally);
        }
        self.settle(tally, ev);
    }

    /// The connection is over. Gives how many requests nobody saw the final response of. Nothing may follow.
    pub fn close(&mut self, ev: &mut impl Events) -> u64 {
        self.half_close(ev);
        let mut tally = Tally::default();
        if self.trial.is_some() {
            self.reject(ev, &mut tally);
        }
        self.waiting = None;
        self.settle(tally, ev);
        self.answers.close(ev) + self.unanswered_streams
    }

    /// Gives up what is held in memory (heads that are not complete, bytes that are not proved): under memory pressure.
    pub fn shed(&mut self, ev: &mut impl Events) {
        if self.buffered() == 0 {
            return;
        }
        let mut tally = Tally::default();
        if self.trial.is_some() {
            self.reject(ev, &mut tally);
        } else if self.h2.is_some() {
            self.lose_h2(ev, &mut tally);
        } else {
            self.lose(None, ev, &mut tally);
        }
        self.settle(tally, ev);
    }

    /// Bytes that wait in memory for a decision.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.told_buffered.get()
    }

    /// Takes `input` through the modes to its end.
    pub(super) fn pump(&mut self, input: &Input<'_>, ev: &mut impl Events, tally: &mut Tally) {
        let mut at = 0;
        while at < input.bytes.len() {
            at = match self.mode {
                Mode::Opening => self.open(input, at, ev, tally),
                Mode::First => self.first(input, at, ev, tally),
                Mode::Sync => self.frame(input, at, ev, tally),
                Mode::Leaving(leaves) => self.leaving(leaves, input, at, ev, tally),
                Mode::H2 => {
                    self.speak_h2(input, at, ev, tally);
                    input.bytes.len()
                }
                Mode::Last => {
                    let answered = input.read_on() || self.answered_at == Some(input.pos);
                    let goes_on = at == 0 && input.segment_start && answered;
                    self.mode = if goes_on { Mode::Sync } else { Mode::Off(NotHttp::Unknown) };
                    at
                }
                Mode::Tunnel => self.speak_ws(input, at, ev, tally),
                Mode::Search(why) => self.search(why, input, at, ev, tally),
                Mode::Off(why) => {
                    tally.out(Some(why), (input.bytes.len() - at) as u64, ev);
                    input.bytes.len()
                }
            };
        }
    }

    /// Aborts the current request, if it is live, and keeps framing it.
    pub(super) fn abort(&mut self, why: AbortReason, ev: &mut impl Events) {
        if let Some(current) = &mut self.current
            && std::mem::replace(&mut current.live, false)
        {
            ev.abort(why);
        }
    }

    /// The current request will not go on, nor will an unfinished head.
    pub(super) fn abandon(&mut self, ev: &mut impl Events, tally: &mut Tally) {
        if self.trial.as_ref().is_some_and(|trial| trial.instead_of_body()) {
            self.reject(ev, tally);
        }
        let withheld = self.current.is_some_and(|current| current.withheld && current.expects);
        self.abort(if withheld { AbortReason::BodyWithheld } else { AbortReason::Closed }, ev);
        self.current = None;
        if self.trial.is_none() {
            let unfinished = self.framer.take();
            let why = if self.maybe_left { NotHttp::Tunnel } else { NotHttp::Unknown };
            tally.out(Some(why), unfinished.len() as u64, ev);
            self.framer.reset();
        }
    }

    /// The position in a message is lost: what was gathered is outside, the search begins.
    pub(super) fn lose(&mut self, why: Option<NotHttp>, ev: &mut impl Events, tally: &mut Tally) {
        let gathered = self.framer.take();
        tally.out(why, gathered.len() as u64, ev);
        self.framer.reset();
        self.current = None;
        self.maybe_left = false;
        self.mode = Mode::Search(why);
    }

    /// No request will come any more.
    pub(super) fn stop(&mut self, why: NotHttp, ev: &mut impl Events, tally: &mut Tally) {
        if self.trial.is_some() {
            self.reject(ev, tally);
        }
        let gathered = self.framer.take();
        tally.out(Some(why), gathered.len() as u64, ev);
        self.framer.reset();
        self.current = None;
        self.mode = Mode::Off(why);
    }

    /// Tells what the call counted, and how much memory waits now.
    fn settle(&mut self, mut tally: Tally, ev: &mut impl Events) {
        self.settle_memory(ev, &mut tally);
        self.answers.settle(ev);
        tally.tell(ev);
        let now = match (&self.trial, &self.h2) {
            (Some(trial), _) => trial.held_bytes(),
            (None, Some(h2)) => h2.held(),
            (None, None) => self.framer.gathered().len() as u64,
        };
        if let Some(delta) = self.told_buffered.change(now) {
            ev.buffered(delta);
        }
        if matches!(self.mode, Mode::Sync) {
            // It was HTTP/1 after all.
            self.waiting = None;
        }
        if self.waiting != self.told_waiting {
            if let Some(before) = self.told_waiting {
                ev.waiting(before, false);
            }
            if let Some(now) = self.waiting {
                ev.waiting(now, true);
            }
            self.told_waiting = self.waiting;
        }
    }
}
