//! Segments of the request direction: which stream they belong to, and what they do to it.

use super::super::index::Hash;
use super::super::stream::{Arrival, Full, Room, signed};
use super::super::{Close, GapReason, Handler, LostReason, Start};
use super::{Class, Table, follows};
use crate::packet::{Segment, Seq};

impl<S> Table<S> {
    /// A segment of the request direction with something special about it, or about its flow.
    #[inline(never)]
    pub(super) fn request<H: Handler<State = S>>(
        &mut self,
        hash: Hash,
        place: u32,
        seg: &Segment<'_>,
        handler: &mut H,
    ) {
        let window = self.limits.window;
        let bytes = seg.payload.len();
        let stream = &mut self.slots[place as usize].stream;
        if seg.flags.rst() {
            let believed = stream.locate(seg.seq, bytes, window).is_some();
            let why = if believed { LostReason::Closed } else { LostReason::OutOfWindow };
            // RFC 9293 section 3.5.3: text in a reset is not data.
            lose(seg.job, why, bytes, handler);
            if believed {
                self.reset(place, handler);
            } else {
                self.counters.resets_ignored += 1;
            }
            return;
        }
        if seg.flags.syn() && stream.is_unsettled() && bytes == 0 {
            let pos = i64::from(seg.seq.plus(1).since(stream.info.origin));
            self.on(place, |stream, state| stream.begin_at(state, pos, handler));
            self.settle(place, handler);
            return;
        }
        if seg.flags.syn() && seg.seq.plus(1) != stream.info.origin {
            if Class::of(stream) == Class::Ending {
                self.replace(hash, place, seg, handler);
            } else {
                // A forged SYN must not end a flow. If it is real, its SYN-ACK or its data will tell.
                stream.reopening = Some(seg.seq);
                lose(seg.job, LostReason::OutOfWindow, bytes, handler);
            }
            return;
        }
        let first = if seg.flags.syn() { seg.seq.plus(1) } else { seg.seq };
        if let Some(isn) = stream.reopening.filter(|_| bytes > 0) {
            let fits_old = stream.locate(first, bytes, window).is_some();
            let begins_new = first == isn.plus(1) && first != stream.next_seq();
            if begins_new || (!fits_old && follows(first, isn, window)) {
                self.remember_syn(hash, seg.flow, isn);
                self.replace(hash, place, seg, handler);
                return;
            }
        }
        let Some(pos) = self.locate(place, first, seg, handler) else {
            self.touch(place);
            return;
        };
        if seg.job != self.slots[place as usize].stream.info.job && self.brings_news(place, pos, bytes) {
            // The new stream begins where the old one stood: what was stale stays stale.
            let stood = self.slots[place as usize].stream.next_seq();
            self.close(place, Close::Replaced, handler);
            let place = self.open(hash, seg, Start::MidStream, stood, handler);
            let origin = self.slots[place as usize].stream.info.origin;
            self.take(place, seg, i64::from(first.since(origin)), handler);
            return;
        }
        self.take(place, seg, pos, handler);
    }

    /// Payload and FIN of a segment that belongs to the flow; `pos` is the position of its first byte.
    pub(super) fn take<H: Handler<State = S>>(
        &mut self,
        place: u32,
        seg: &Segment<'_>,
        pos: i64,
        handler: &mut H,
    ) {
        let now = self.now;
        let arrival = Arrival { pos, bytes: seg.payload, job: seg.job, time: seg.time, now, ack: seg.ack };
        loop {
            let room = Room {
                flow_memory: self.limits.out_of_order_bytes_per_flow,
                flow_pieces: self.limits.segments_out_of_order_per_flow,
                table_memory: self.limits.out_of_order_bytes_total.saturating_sub(self.memory),
            };
            let taken = self.on(place, |stream, state| stream.accept(state, arrival, room, handler));
            // Each turn gives up a hole: of the table's oldest that frees memory, or the first of this flow.
            let victim = match taken {
                None | Some(Ok(())) => break,
                Some(Err(Full::Flow)) => place,
                Some(Err(Full::Table)) => self.oldest_hole().unwrap_or(place),
            };
            if victim == place {
                let until = pos.max(0).cast_unsigned();
                self.on(place, |stream, state| {
                    let target = stream.hole_end().map_or(until, |end| end.min(until));
                    stream.give_up_to(state, target, GapReason::Memory, handler);
                });
                self.arm(place);
            } else {
                self.give_up_hole(victim, GapReason::Memory, handler);
                self.settle(victim, handler);
            }
        }
        if self.slots[place as usize].stream.is_settled_by_now() {
            self.give_up_hole(place, GapReason::Timeout, handler);
        }
        let end = pos + i64::from(seg.len);
        let captured = pos + signed(seg.payload.len());
        if captured < end {
            self.on(place, |stream, state| stream.cut(state, captured, end, handler));
        }
        if seg.flags.fin() {
            self.on(place, |stream, state| stream.finish(state, end, now, handler));
        }
        self.settle(place, handler);
    }

    /// Position of a segment's first byte; `None` after counting it as lost if it lies outside the window.
    fn locate<H: Handler<State = S>>(
        &mut self,
        place: u32,
        first: Seq,
        seg: &Segment<'_>,
        handler: &mut H,
    ) -> Option<i64> {
        let window = self.limits.window;
        let bytes = seg.payload.len();
        let stream = &mut self.slots[place as usize].stream;
        if let Some(pos) = stream.locate(first, bytes, window) {
            return Some(pos);
        }
        if bytes == 0 {
            return None;
        }
        if !stream.has_moved_to(first, window) {
            // The length of a segment is far below 2^32.
            stream.note_stray(first.plus(bytes as u32));
            lose(seg.job, LostReason::OutOfWindow, bytes, handler);
            return None;
        }
        self.counters.moved += 1;
        self.on(place, |stream, state| {
            stream.move_to(state, first, handler);
            stream.locate(first, bytes, window)
        })?
    }

    /// Another connection of the same two ends begins with this segment.
    fn replace<H: Handler<State = S>>(&mut self, hash: Hash, place: u32, seg: &Segment<'_>, handler: &mut H) {
        self.close(place, Close::Replaced, handler);
        self.newcomer(hash, seg, handler);
    }

    /// Whether a segment has bytes that the flow has not seen.
    fn brings_news(&self, place: u32, pos: i64, bytes: usize) -> bool {
        bytes > 0 && self.slots[place as usize].stream.is_ahead(pos + signed(bytes))
    }

    /// The flow whose hole is open longest, if giving it up frees memory.
    fn oldest_hole(&self) -> Option<u32> {
        let &(_, place) = self.holes.first()?;
        (self.slots[place as usize].stream.memory() > 0).then_some(place)
    }
}

pub(super) fn lose<H: Handler>(job: u16, why: LostReason, bytes: usize, handler: &mut H) {
    if bytes > 0 {
        handler.lost(job, why, bytes as u64);
    }
}
