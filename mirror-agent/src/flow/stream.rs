//! The request direction of one connection: segments in any order in, bytes and gaps in order out.
//!
//! Positions count from the stream's origin in 64 bits. `next` is the first position that was neither delivered nor
//! given up. Invariants between calls: every waiting piece begins after `next`; a FIN lies at or after `next` and after
//! every waiting byte.
//!
//! Over 400 lines: one stream's positions; what is in order, ahead, late or beyond its end is one case
//! analysis.

use std::ops::Range;

use super::reorder::{PIECE_OVERHEAD, Piece, Reorder};
use super::{Chunk, Evidence, FlowInfo, Gap, GapReason, Handler, Limits, LostReason};
use crate::packet::{Segment, Seq};

/// An acknowledgement farther ahead than this is not believed: windows end at 1 GiB (RFC 7323 section 2.3).
const MAX_ACK_AHEAD: i64 = 1 << 30;

/// Pieces after which nobody waits any longer for something that stands before the first bytes of a stream.
const ENOUGH_PIECES: usize = 64;

/// Payload of a segment and where it belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    /// Stream position of the first byte; below 0 before the origin.
    pub(super) pos: i64,
    pub(super) bytes: &'a [u8],
    pub(super) job: u16,
    pub(super) time: u64,
    /// The table's time.
    pub(super) now: u64,
    pub(super) ack: Option<Seq>,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Memory of the flow, what waits already included.
    pub(super) flow_memory: usize,
    /// Pieces of the flow, those that wait already included.
    pub(super) flow_pieces: usize,
    /// Memory that the table has left.
    pub(super) table_memory: usize,
}

/// Whose limit a piece that has to wait would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Flow,
    Table,
}

/// What an acknowledgement number means to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// The primary has everything before this position.
    At(u64),
    /// It stands a little before the origin: true, but about bytes the tap never saw.
    BeforeOrigin,
    /// Too far away to be about this stream.
    Implausible,
}

#[derive(Clone, Copy, Debug)]
struct Fin {
    pos: u64,
    time: u64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) info: FlowInfo,
    next: u64,
    fin: Option<Fin>,
    reorder: Option<Box<Reorder>>,
    /// What the client had acknowledged with its last segment.
    client_ack: Option<Seq>,
    /// Sequence number of the last response head.
    last_head: Option<Seq>,
    /// Initial sequence number of a SYN that may begin the next connection of these two ends.
    pub(super) reopening: Option<Seq>,
    /// End of the last segment that lay outside the window, if none inside came since.
    stray: Option<Seq>,
    pub(super) half_closed: bool,
    /// The primary sent FIN.
    pub(super) primary_fin: bool,
    /// The primary acknowledged a byte of it.
    pub(super) proven: bool,
}

impl Stream {
    pub(super) fn new(info: FlowInfo) -> Self {
        Self {
            info,
            next: 0,
            fin: None,
            reorder: None,
            client_ack: None,
            last_head: None,
            reopening: None,
            stray: None,
            half_closed: false,
            primary_fin: false,
            proven: false,
        }
    }

    /// Picked up by a patient table, which waits for what may stand before the first bytes it saw: nothing was delivered.
    pub(super) fn is_unsettled(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.unsettled)
    }

    /// Whether so much came since that what is not there yet was hardly ever sent.
    pub(super) fn is_settled_by_now(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.unsettled && reorder.len() >= ENOUGH_PIECES)
    }

    /// Picks it up with such a wait.
    pub(super) fn unsettle(&mut self) {
        self.reorder.get_or_insert_default().unsettled = true;
    }

    /// Its beginning is known now. True if it was not.
    fn settle(&mut self) -> bool {
        self.reorder.as_mut().is_some_and(|reorder| std::mem::take(&mut reorder.unsettled))
    }

    /// One side reset the connection, and the flow waits for what fills its holes.
    pub(super) fn is_parting(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.parting)
    }

    /// Begins that wait.
    pub(super) fn part(&mut self) {
        self.reorder.get_or_insert_default().parting = true;
    }

    /// Sequence number of the next byte.
    #[inline]
    pub(super) fn next_seq(&self) -> Seq {
        // The low 32 bits are what the sequence number counts.
        self.info.origin.plus((self.next & u64::from(u32::MAX)) as u32)
    }

    /// Memory of what waits, overhead included.
    pub(super) fn memory(&self) -> usize {
        self.reorder.as_deref().map_or(0, Reorder::memory)
    }

    /// Delivers the segment from where it lies if nothing about it or the stream is special. False if something is.
    #[inline]
    pub(super) fn deliver_next<H: Handler>(
        &mut self,
        state: &mut H::State,
        seg: &Segment<'_>,
        handler: &mut H,
    ) -> bool {
        let special = seg.flags.syn() | seg.flags.fin() | seg.flags.rst();
        if special
            || seg.seq != self.next_seq()
            || seg.payload.is_empty()
            || seg.job != self.info.job
            || seg.len as usize != seg.payload.len()
            || self.fin.is_some()
            || self.reopening.is_some()
            || self.reorder.as_ref().is_some_and(|reorder| !reorder.is_empty() || reorder.acked.is_some())
        {
            return false;
        }
        self.stray = None;
        self.client_ack = seg.ack.or(self.client_ack);
        let chunk =
            Chunk { pos: self.next, bytes: seg.payload, time: seg.time, ack: seg.ack, segment_start: true };
        self.next += seg.payload.len() as u64;
        handler.data(&self.info, state, chunk);
        true
    }

    /// Whether a segment of the primary says nothing that is not known: an acknowledgement of what was delivered.
    #[inline]
    pub(super) fn is_old_news(&self, seg: &Segment<'_>, window: u32) -> bool {
        let special = seg.flags.syn() | seg.flags.fin() | seg.flags.rst();
        let behind = seg
            .ack
            .is_some_and(|ack| (-i64::from(window)..=0).contains(&i64::from(ack.since(self.next_seq()))));
        !special
            && behind
            && seg.status.is_none()
            && self.proven
            && self.stray.is_none()
            && self.reopening.is_none()
            && self.reorder.is_none()
    }

    /// Position of a segment's first byte, `None` if it lies too far away.
    pub(super) fn locate(&self, seq: Seq, len: usize, window: u32) -> Option<i64> {
        let ahead = i64::from(seq.since(self.next_seq()));
        let window = i64::from(window);
        let near = ahead <= window && ahead + signed(len) >= -window;
        near.then_some(self.next.cast_signed() + ahead)
    }

    /// Whether the stream moved to `seq`: the last segment outside the window ended there or a little before.
    pub(super) fn has_moved_to(&self, seq: Seq, window: u32) -> bool {
        self.fin.is_none()
            && self.stray.is_some_and(|end| (0..=i64::from(window)).contains(&i64::from(seq.since(end))))
    }

    /// Notes where a segment outside the window ended.
    pub(super) fn note_stray(&mut self, end: Seq) {
        self.stray = Some(end);
    }

    /// Gives up everything before `seq`, which lies outside the window: ahead, by less than 4 GiB.
    pub(super) fn move_to<H: Handler>(&mut self, state: &mut H::State, seq: Seq, handler: &mut H) {
        let ahead = seq.0.wrapping_sub(self.next_seq().0);
        self.stray = None;
        self.give_up_to(state, self.next + u64::from(ahead), GapReason::Acknowledged, handler);
    }

    /// Takes payload in: what is next is delivered, what is ahead waits, the rest is counted. All of it, or nothing.
    ///
    /// # Errors
    ///
    /// [`Full`] if bytes would have to wait and there is no room for them; nothing has changed then.
    pub(super) fn accept<H: Handler>(
        &mut self,
        state: &mut H::State,
        arrival: Arrival<'_>,
        room: Room,
        handler: &mut H,
    ) -> Result<(), Full> {
        let start = arrival.pos;
        let end = start + signed(arrival.bytes.len());
        let next = self.next.cast_signed();
        let fin = self.fin.map_or(i64::MAX, |fin| fin.pos.cast_signed());
        let stale = start..end.min(next).max(start);
        let fresh = start.max(next)..end.min(fin);
        let beyond = start.max(fin)..end;

        if fresh.start < fresh.end {
            let skip = (fresh.start - start).cast_unsigned() as usize;
            let range = fresh.start.cast_unsigned()..fresh.end.cast_unsigned();
            if fresh.start > next {
                self.keep(range, skip, arrival, room, handler)?;
            } else {
                self.deliver(state, range, skip, arrival, handler);
            }
            self.stray = None;
        }
        if stale.start < stale.end {
            let bytes = (stale.end - stale.start).cast_unsigned();
            let known = stale.start.max(0).cast_unsigned()..stale.end.max(0).cast_unsigned();
            let late = self.reorder.as_ref().map_or(0, |reorder| reorder.late_bytes(&known));
            count(late, |late| handler.lost(arrival.job, LostReason::Late, late));
            count(bytes - late, |bytes| handler.duplicate(arrival.job, bytes));
        }
        if beyond.start < beyond.end {
            let bytes = (beyond.end - beyond.start).cast_unsigned();
            handler.lost(arrival.job, LostReason::OutOfWindow, bytes);
        }
        self.client_ack = arrival.ack.or(self.client_ack);
        self.reach_fin(state, handler);
        Ok(())
    }

    /// Copies what no piece covers of a range that lies ahead.
    fn keep<H: Handler>(
        &mut self,
        range: Range<u64>,
        skip: usize,
        arrival: Arrival<'_>,
        room: Room,
        handler: &mut H,
    ) -> Result<(), Full> {
        let (memory, pieces) = self.reorder.as_ref().map_or((0, 0), |all| (all.memory(), all.len()));
        let missing = match &self.reorder {
            Some(reorder) => reorder.missing(range.clone()),
            None => smallvec::smallvec![range.clone()],
        };
        let bytes: u64 = missing.iter().map(|part| part.end - part.start).sum();
        let cost = bytes as usize + missing.len() * PIECE_OVERHEAD;
        if bytes > 0 {
            if memory + cost > room.flow_memory || pieces + missing.len() > room.flow_pieces {
                return Err(Full::Flow);
            }
            if cost > room.table_memory {
                return Err(Full::Table);
            }
            let reorder = self.reorder.get_or_insert_default();
            for part in missing {
                let from = skip + (part.start - range.start) as usize;
                let to = skip + (part.end - range.start) as usize;
                reorder.insert(Piece {
                    pos: part.start,
                    bytes: arrival.bytes[from..to].into(),
                    time: arrival.time,
                    came: arrival.now,
                    ack: arrival.ack,
                    segment_start: from == 0,
                });
            }
            handler.buffered(arrival.job, bytes.cast_signed());
        }
        count(range.end - range.start - bytes, |bytes| handler.duplicate(arrival.job, bytes));
        Ok(())
    }

    /// Delivers a range that begins at `next`, and what waited for it. Waiting pieces came first, so they win.
    fn deliver<H: Handler>(
        &mut self,
        state: &mut H::State,
        range: Range<u64>,
        skip: usize,
        arrival: Arrival<'_>,
        handler: &mut H,
    ) {
        let mut covered = 0;
        self.settle();
        while self.next < range.end {
            let stop = self.first_waiting().unwrap_or(u64::MAX).min(range.end);
            let from = skip + (self.next - range.start) as usize;
            let to = skip + (stop - range.start) as usize;
            let chunk = Chunk {
                pos: self.next,
                bytes: &arrival.bytes[from..to],
                time: arrival.time,
                ack: arrival.ack,
                segment_start: from == 0,
            };
            self.next = stop;
            handler.data(&self.info, state, chunk);
            self.drain(state, handler);
            covered += self.next.min(range.end) - stop;
        }
        count(covered, |bytes| handler.duplicate(arrival.job, bytes));
    }

    /// Delivers the pieces that begin at `next`.
    fn drain<H: Handler>(&mut self, state: &mut H::State, handler: &mut H) {
        while let Some(piece) = self.reorder.as_mut().and_then(|reorder| reorder.take_at(self.next)) {
            let bytes = piece.bytes.len() as u64;
            handler.buffered(self.info.job, -bytes.cast_signed());
            let Piece { pos, bytes: ref payload, time, ack, segment_start, .. } = piece;
            self.next += bytes;
            handler.data(&self.info, state, Chunk { pos, bytes: payload, time, ack, segment_start });
        }
    }

    /// Gives up what is missing before `target` and delivers what waits there, and beyond it as far as it goes on.
    pub(super) fn give_up_to<H: Handler>(
        &mut self,
        state: &mut H::State,
        target: u64,
        reason: GapReason,
        handler: &mut H,
    ) {
        let target = self.fin.map_or(target, |fin| target.min(fin.pos));
        while self.next < target {
            let stop = self.first_waiting().unwrap_or(u64::MAX).min(target);
            let gap = Gap { pos: self.next, len: stop - self.next, reason };
            self.reorder.get_or_insert_default().remember_gap(self.next..stop);
            self.next = stop;
            // What lies before the first bytes that were seen is not missing: nobody knows whether it was ever sent.
            if !self.settle() {
                handler.gap(&self.info, state, gap);
            }
            self.drain(state, handler);
        }
        self.reach_fin(state, handler);
    }

    /// Gives up what is missing before `seq`, if that lies ahead and within the window.
    pub(super) fn give_up_to_seq<H: Handler>(
        &mut self,
        state: &mut H::State,
        seq: Seq,
        window: u32,
        handler: &mut H,
    ) {
        let ahead = u32::try_from(seq.since(self.next_seq())).unwrap_or(0);
        if ahead <= window {
            self.give_up_to(state, self.next + u64::from(ahead), GapReason::Cut, handler);
        }
    }

    /// The SYN of a stream whose first bytes were seen before it: its beginning is known now.
    pub(super) fn begin_at<H: Handler>(&mut self, state: &mut H::State, pos: i64, handler: &mut H) {
        if let Ok(pos) = u64::try_from(pos)
            && self.is_unsettled()
            && self.first_waiting().is_some_and(|first| pos <= first)
        {
            self.settle();
            self.next = pos;
            self.drain(state, handler);
        }
    }

    /// Where the first hole ends: at the first waiting byte, at the end of what was acknowledged, or at the FIN. `None`
    /// without a hole.
    pub(super) fn hole_end(&self) -> Option<u64> {
        // Before the first bytes of a stream that was under way nothing is known to be missing, whatever was acknowledged.
        let acked = self.acked_ahead().map(|(pos, _)| pos).filter(|_| !self.is_unsettled());
        let known = [self.first_waiting(), acked].into_iter().flatten().min();
        known.or(self.fin.map(|fin| fin.pos)).filter(|&end| end > self.next)
    }

    /// The hole at `next` and the time at which it is given up. `None` without a hole.
    pub(super) fn hole(&self, limits: &Limits) -> Option<(u64, u64)> {
        self.hole_end()?;
        let first = self.reorder.as_ref().and_then(|reorder| reorder.first()).map(|piece| piece.came);
        let seen = first.or(self.fin.map(|fin| fin.time));
        let timeout = if self.is_unsettled() { limits.acknowledged_hole_ns } else { limits.hole_timeout_ns };
        let waited = seen.map(|since| since.saturating_add(timeout));
        // A hole is there from what stands behind it, whatever was acknowledged of earlier ones.
        let acked = self
            .acked_ahead()
            .filter(|_| !self.is_unsettled())
            .map(|(_, since)| since.max(first.unwrap_or(0)));
        let acked = acked.map(|since| since.saturating_add(limits.acknowledged_hole_ns));
        Some((self.next, [waited, acked].into_iter().flatten().min()?))
    }

    /// The other side has everything before `pos`: what is missing before it is given up at once by a table without
    /// patience (0 ns), else after that.
    pub(super) fn acknowledge<H: Handler>(
        &mut self,
        state: &mut H::State,
        pos: u64,
        time: u64,
        patience: u64,
        handler: &mut H,
    ) {
        if patience == 0 {
            self.give_up_to(state, pos, GapReason::Acknowledged, handler);
        } else if pos > self.next {
            let acked = &mut self.reorder.get_or_insert_default().acked;
            // The wait for a hole begins with the first word of it.
            *acked = match *acked {
                Some((before, since)) if before > self.next => Some((pos.max(before), since)),
                _ => Some((pos, time)),
            };
        }
    }

    /// What was acknowledged and has not come, and since when.
    fn acked_ahead(&self) -> Option<(u64, u64)> {
        let (pos, since) = self.reorder.as_ref().and_then(|reorder| reorder.acked)?;
        // The FIN may have come after its acknowledgement, which counts it as a byte.
        let pos = self.fin.map_or(pos, |fin| pos.min(fin.pos));
        (pos > self.next).then_some((pos, since))
    }

    /// A segment whose payload was captured only up to `from`, and ended at `to`: if `from` is where the stream stands,
    /// the rest will not come.
    pub(super) fn cut<H: Handler>(&mut self, state: &mut H::State, from: i64, to: i64, handler: &mut H) {
        if from == self.next.cast_signed() {
            self.give_up_to(state, to.max(from).cast_unsigned(), GapReason::Cut, handler);
        }
    }

    /// Takes the client's FIN, which stands at `pos` and came at `time`. One that contradicts what is known is ignored.
    pub(super) fn finish<H: Handler>(&mut self, state: &mut H::State, pos: i64, time: u64, handler: &mut H) {
        let waiting = self.reorder.as_ref().and_then(|reorder| reorder.end()).unwrap_or(0);
        let least = self.next.max(waiting).cast_signed();
        if self.fin.is_none() && pos >= least {
            self.fin = Some(Fin { pos: pos.cast_unsigned(), time });
            self.reach_fin(state, handler);
        }
    }

    fn reach_fin<H: Handler>(&mut self, state: &mut H::State, handler: &mut H) {
        if self.acked_ahead().is_none()
            && let Some(reorder) = &mut self.reorder
        {
            reorder.acked = None;
        }
        if !self.half_closed && self.fin.is_some_and(|fin| fin.pos == self.next) {
            self.half_closed = true;
            handler.half_close(&self.info, state);
        }
    }

    /// What an acknowledgement by the primary says.
    pub(super) fn acked(&self, ack: Seq, window: u32) -> Acked {
        let ahead = i64::from(ack.since(self.next_seq()));
        if ahead > MAX_ACK_AHEAD {
            return Acked::Implausible;
        }
        let pos = self.next.cast_signed() + ahead;
        match u64::try_from(pos) {
            // The FIN takes a sequence number but is no byte.
            Ok(pos) => Acked::At(self.fin.map_or(pos, |fin| pos.min(fin.pos))),
            Err(_) if pos >= -i64::from(window) => Acked::BeforeOrigin,
            Err(_) => Acked::Implausible,
        }
    }

    /// Whether the primary has what the tap only saw outside the window: the stream is there, not here.
    pub(super) fn is_moved_by(&self, ack: Seq, window: u32) -> bool {
        let ahead = i64::from(ack.since(self.next_seq()));
        let near = |end| i64::from(ack.since(end)).unsigned_abs() <= u64::from(window);
        let far = ahead > MAX_ACK_AHEAD || ahead < -i64::from(window);
        far && self.fin.is_none() && self.stray.is_some_and(near)
    }

    /// Whether a position lies after all that was delivered or given up.
    pub(super) fn is_ahead(&self, pos: i64) -> bool {
        pos > self.next.cast_signed()
    }

    /// Reports a response head, unless it was reported before.
    pub(super) fn answer<H: Handler>(
        &mut self,
        state: &mut H::State,
        seq: Seq,
        window: u32,
        evidence: Evidence,
        handler: &mut H,
    ) {
        let again = |last| (-i64::from(window)..=0).contains(&i64::from(seq.since(last)));
        if !self.last_head.is_some_and(again) {
            self.last_head = Some(seq);
            handler.response(&self.info, state, evidence);
        }
    }

    /// Whether an RST of the primary without acknowledgement (RFC 9293 section 3.5.2: its sequence number is what the
    /// client acknowledged) may be about this stream.
    pub(super) fn may_be_reset_by_primary(&self, seq: Seq, window: u32) -> bool {
        self.client_ack.is_none_or(|ack| i64::from(seq.since(ack)).unsigned_abs() <= u64::from(window))
    }

    /// The end: an open hole is a gap, what waits behind it is lost.
    pub(super) fn shut<H: Handler>(&mut self, state: &mut H::State, handler: &mut H) {
        if let Some(end) = self.hole_end() {
            let gap = Gap { pos: self.next, len: end - self.next, reason: GapReason::Closed };
            handler.gap(&self.info, state, gap);
        }
        let waiting = self.reorder.take().map_or(0, |reorder| reorder.bytes() as u64);
        count(waiting, |bytes| {
            handler.buffered(self.info.job, -bytes.cast_signed());
            handler.lost(self.info.job, LostReason::Closed, bytes);
        });
    }

    fn first_waiting(&self) -> Option<u64> {
        self.reorder.as_ref().and_then(|reorder| reorder.first()).map(|piece| piece.pos)
    }
}

/// A length of a slice, which is far below 2^63.
pub(super) fn signed(len: usize) -> i64 {
    len.cast_signed() as i64
}

fn count(bytes: u64, book: impl FnOnce(u64)) {
    if bytes > 0 {
        book(bytes);
    }
}
