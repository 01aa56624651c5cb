//! Finding the next request when the position in the stream of messages is lost.
//!
//! # Problem
//!
//! A connection is picked up under way, or a hole swallows a head, the size of a chunk, or the end of a body. The bytes
//! that follow may be the middle of an upload, and the upload may hold text that reads like a request. A request made
//! out of a body must never reach the shadow, and in ordinary traffic the connection must be found again at once.
//!
//! # Rule
//!
//! Where a body has a known length (a `Content-Length`, or the rest of one chunk) a hole inside it loses no position:
//! that request is aborted, the next boundary is exact, and nothing needs proof.
//!
//! Else a *candidate* is a segment that begins with a strict request line (of which its first piece may hold so little that
//! the next ones must tell). It needs something that speaks for a boundary
//! *before* it:
//!
//! - (answered) the last final response stood exactly there: the primary had acknowledged all before and no more; or
//! - (read on) responses are not seen on this connection, the bytes directly before are known, and the client has since
//!   received more than a bare `100 Continue`; or
//! - (first) nothing at all came before, or one byte such as the probe of a keep-alive carries, because the connection was
//!   just picked up.
//!
//! None of them is enough. A primary may answer in the middle of an upload, and the upload goes on from exactly there.
//! So the candidate is framed on trial, its bytes are held, and something must speak for a boundary *after* it as well:
//! it frames to exactly the end of what was sent, and before anything else is sent
//!
//! - the next final response stands exactly there; or
//! - responses are not seen, and the next segment shows that the client received one.
//!
//! An upload gets one final response: it can speak for its beginning or for its end, never for both. Then the held
//! bytes become requests, with their own times. More bytes without an answer, bytes that do not frame, or another hole
//! refute the candidate; its bytes are skipped and the search goes on.
//!
//! A candidate that outgrows the memory it may hold is framed on without being held. If its end is confirmed it is
//! skipped itself, but the boundary after it is known and the next request is taken at once.
//!
//! # What remains
//!
//! - (first) has no proof before it. To invent a request the tap must attach in the middle of an upload, the first
//!   segment it sees must be whole requests to the byte, and the final response must stand exactly after that segment
//!   (it is the last of the upload, or the primary answers early just there). In return the first request on an idle
//!   keep-alive connection is not lost. [`Pickup::Trust`](super::Pickup) drops the proof after it too, for capture files.
//! - (read on) is blind to an upload and a response that stream at the same time, where no response head is seen.
//! - A pipelined request answered in the middle of the upload behind it, with a hole before that point, looks exactly
//!   like two requests to anyone who sees only the rest.
//!
//! # The body that may never come
//!
//! After `Expect: 100-continue` and a final response the client may leave the body out and send the next request in its
//! place. The same trial decides: if the bytes are answered as a request the body was withheld, else they are the body.

use smallvec::SmallVec;

use super::chunked::Piece;
use super::connection::{Connection, Mode};
use super::detect::looks_like_tls_record;
use super::framer::{HeadStep, State};
use super::h2::PREFACE;
use super::head::{Fields, may_begin, may_yet_begin};
use super::input::{Input, Tally};
use super::message::{AbortReason, Events, NotHttp, Waiting};
use super::requests::Current;
use crate::packet::Seq;

/// Segments of a candidate whose times are kept apart; later ones count with the last.
const MAX_PIECES: usize = 32;

/// A candidate.
#[derive(Debug)]
pub(super) struct Trial {
    start: u64,
    /// After the last byte that came.
    pos: u64,
    /// After the last byte of the last complete message; `None` before there is one or while one goes on.
    end: Option<u64>,
    ack: Option<Seq>,
    /// Its bytes, `None` once they were too many.
    held: Option<Vec<u8>>,
    /// Where in `held` each segment ends, and its time.
    pieces: SmallVec<[(usize, u64); 2]>,
    /// The last message closes the connection or leaves HTTP: nothing can follow it.
    last: bool,
    in_body: bool,
    /// It begins with a strict request line, or as much of one as it takes to tell.
    begun: bool,
    /// The body that it stands in place of.
    instead_of: Option<(State, Current)>,
}

impl Trial {
    fn new(input: &Input<'_>, begun: bool, instead_of: Option<(State, Current)>) -> Box<Self> {
        Box::new(Self {
            start: input.pos,
            pos: input.pos,
            end: None,
            ack: input.ack,
            held: Some(Vec::new()),
            pieces: SmallVec::new(),
            last: false,
            in_body: false,
            begun,
            instead_of,
        })
    }

    /// Whether a final response at `acked` stands at its end.
    pub(super) fn ends_within(&self, acked: u64) -> bool {
        self.end.is_some_and(|end| (end..=self.pos).contains(&acked))
    }

    pub(super) fn instead_of_body(&self) -> bool {
        self.instead_of.is_some()
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.len() as u64)
    }

    /// Keeps bytes that came at `time`, if they are still kept.
    fn hold(&mut self, bytes: &[u8], time: u64) {
        let Some(held) = &mut self.held else { return };
        held.extend_from_slice(bytes);
        // Pieces that came together are one.
        let together = self.pieces.last().is_some_and(|(_, last)| *last == time);
        if together || self.pieces.len() == MAX_PIECES {
            self.pieces.pop();
        }
        self.pieces.push((held.len(), time));
    }
}

impl Connection {
    /// Looks for a candidate at the start of a segment, or goes on with one. Gives how much of the input is done.
    pub(super) fn search(
        &mut self,
        why: Option<NotHttp>,
        input: &Input<'_>,
        at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        let all = input.bytes.len();
        if self.trial.is_none() && !(at == 0 && self.candidate(input, ev)) {
            // The reason may have become another.
            if !matches!(self.mode, Mode::Search(_)) {
                return at;
            }
            self.look_for_h2(input, at);
            let Mode::Search(why) = self.mode else { return at };
            tally.out(why, (all - at) as u64, ev);
            return all;
        }
        if let Some(trial) = &self.trial
            && input.segment_start
            && at == 0
            && trial.pos > trial.start
        {
            if !trial.begun {
                // A segment of its own that is no more than a word.
                self.reject(ev, tally);
                return at;
            }
            if trial.end.is_some() && !input.bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
                // The candidate is complete and something else follows it.
                if !self.visible && input.read_on() {
                    self.accept(ev, tally);
                } else {
                    self.reject(ev, tally);
                }
                return at;
            }
        }
        self.try_on(why, input, at, ev, tally)
    }

    /// Whether the segment may begin a request and something speaks for a boundary before it. May change the mode.
    fn candidate(&mut self, input: &Input<'_>, ev: &mut impl Events) -> bool {
        if self.nothing_yet() {
            if input.bytes.starts_with(PREFACE) {
                self.begin_h2(false, ev);
                return false;
            }
            if looks_like_tls_record(input.bytes) {
                // Too weak a sign to give the connection up for.
                self.mode = Mode::Search(Some(NotHttp::Tls));
            }
        }
        let first = self.nothing_yet();
        if !input.segment_start || !(first || self.stands_at_boundary(input)) {
            return false;
        }
        if first && self.trusts() && self.guess(input.bytes) {
            return false;
        }
        let begins = may_begin(input.bytes);
        if !begins && !may_yet_begin(input.bytes) {
            return false;
        }
        self.trial = Some(Trial::new(input, begins, None));
        true
    }

    /// Whether an answer speaks for a boundary before the segment: (answered) or (read on).
    pub(super) fn stands_at_boundary(&self, input: &Input<'_>) -> bool {
        self.answered_at == Some(input.pos) || (!self.visible && input.read_on())
    }

    /// Bytes that are no request may be frames of HTTP/2.
    fn look_for_h2(&mut self, input: &Input<'_>, at: usize) {
        if self.mode == Mode::Search(None)
            && self.answers.none_yet()
            && self.pickup_h2.look(&input.bytes[at..], input.segment_start && at == 0)
        {
            self.wait(Waiting::MidStream);
        }
    }

    /// The client may have gone on to its next request without the body it announced.
    pub(super) fn try_instead_of_body(&mut self, input: &Input<'_>, begins: bool) {
        let Some(current) = self.current.take() else { return };
        self.trial = Some(Trial::new(input, begins, Some((self.framer.state(), current))));
        self.framer.reset();
        self.mode = Mode::Search(None);
    }

    /// Holds the input from `at` on while there is room, and frames it without telling anyone. Gives how much of the input
    /// is done.
    fn try_on(
        &mut self,
        why: Option<NotHttp>,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        let limit = self.limits.max_held_bytes as usize;
        let Some(trial) = &mut self.trial else { return at };
        if let Some(held) = &trial.held {
            // To the byte, so that it does not matter in which pieces the bytes come.
            let room = limit.saturating_sub(held.len());
            let (fits, over) = input.bytes[at..].split_at(room.min(input.bytes.len() - at));
            trial.hold(fits, input.time);
            let all_fits = over.is_empty();
            if !self.frame_on_trial(fits, input.pos + at as u64) {
                self.reject(ev, tally);
                return at + fits.len();
            }
            at += fits.len();
            if all_fits {
                return at;
            }
            // From here on only its end counts.
            let Some(trial) = &mut self.trial else { return at };
            let held = trial.held.take().unwrap_or_default();
            tally.out(why, held.len() as u64, ev);
            if trial.instead_of.take().is_some() {
                // A client that read the refusal and sends this much that reads like a request is sending one.
                ev.abort(AbortReason::BodyWithheld);
            }
        }
        let rest = &input.bytes[at..];
        tally.out(why, rest.len() as u64, ev);
        if !self.frame_on_trial(rest, input.pos + at as u64) {
            self.reject(ev, tally);
        }
        input.bytes.len()
    }

    /// False if the bytes, which stand at `pos`, do not go on as requests do.
    fn frame_on_trial(&mut self, bytes: &[u8], pos: u64) -> bool {
        let max_bytes = self.limits.max_head_bytes as usize;
        let max_fields = self.limits.max_fields as usize;
        let Some(trial) = &mut self.trial else { return false };
        let mut fields = Fields::new();
        let mut at = 0;
        trial.pos = pos + bytes.len() as u64;
        while at < bytes.len() {
            if trial.in_body {
                let (taken, piece) = self.framer.body(&bytes[at..]);
                at += taken;
                match piece {
                    Piece::More => {}
                    Piece::Done => {
                        trial.in_body = false;
                        trial.end = Some(pos + at as u64);
                    }
                    Piece::Bad => return false,
                }
                continue;
            }
            if self.framer.at_boundary() {
                at += bytes[at..].iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
                if at == bytes.len() {
                    break;
                }
                if trial.last {
                    return false;
                }
            }
            trial.end = None;
            match self.framer.head(&bytes[at..], max_bytes, max_fields, &mut fields) {
                HeadStep::More => break,
                HeadStep::Fail(_) => return false,
                HeadStep::Head { head, consumed, .. } => {
                    at += consumed;
                    trial.begun = true;
                    trial.last = head.closes || head.leaves.is_some();
                    self.framer.begin(head.body);
                    trial.in_body = !self.framer.at_boundary();
                    if !trial.in_body {
                        trial.end = Some(pos + at as u64);
                    }
                }
            }
        }
        // Until its line is whole, each byte of it may show that it is none.
        let Some(line) = self.framer.line_so_far() else {
            // With a part of its fields, if there is a head.
            trial.begun |= !self.framer.gathered().is_empty();
            return true;
        };
        let begins = may_begin(line);
        trial.begun |= begins;
        begins || may_yet_begin(line)
    }

    /// The candidate is proved: what was held becomes requests.
    pub(super) fn accept(&mut self, ev: &mut impl Events, tally: &mut Tally) {
        let Some(trial) = self.trial.take() else { return };
        if trial.instead_of.is_some() {
            ev.abort(AbortReason::BodyWithheld);
        }
        self.framer.reset();
        self.current = None;
        match trial.held {
            Some(held) => {
                self.mode = Mode::Sync;
                self.replay(&held, &trial.pieces, trial.start, trial.ack, ev, tally);
            }
            // It was let go, and after it nothing is known.
            None if trial.last => {}
            None => self.mode = Mode::Sync,
        }
    }

    /// The candidate is refuted: what was held is skipped, or is the body after all.
    pub(super) fn reject(&mut self, ev: &mut impl Events, tally: &mut Tally) {
        let Some(trial) = self.trial.take() else { return };
        let held = trial.held.unwrap_or_default();
        match trial.instead_of {
            Some((state, mut current)) => {
                current.withheld = false;
                self.current = Some(current);
                self.framer.resume(state);
                self.mode = Mode::Sync;
                self.replay(&held, &trial.pieces, trial.start, trial.ack, ev, tally);
            }
            None => {
                self.framer.reset();
                let why = if let Mode::Search(why) = self.mode { why } else { None };
                tally.out(why, held.len() as u64, ev);
            }
        }
    }

    fn replay(
        &mut self,
        held: &[u8],
        pieces: &[(usize, u64)],
        start: u64,
        ack: Option<Seq>,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) {
        let mut from = 0;
        for &(to, time) in pieces {
            let bytes = &held[from..to];
            let input = Input { bytes, pos: start + from as u64, time, ack, segment_start: true, read: None };
            self.pump(&input, ev, tally);
            from = to;
        }
    }
}
