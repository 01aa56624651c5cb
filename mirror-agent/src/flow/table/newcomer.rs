//! Connections that have no place in the table: who gets one, and who has to go for it.

use super::super::index::Hash;
use super::super::stream::signed;
use super::super::{Close, Handler, LostReason, Start};
use super::request::lose;
use super::{Class, Table, follows};
use crate::packet::{Segment, Seq};

impl<S> Table<S> {
    /// A segment of the request direction whose connection has no place.
    #[inline(never)]
    pub(super) fn newcomer<H: Handler<State = S>>(&mut self, hash: Hash, seg: &Segment<'_>, handler: &mut H) {
        let bytes = seg.payload.len();
        if seg.flags.rst() {
            lose(seg.job, LostReason::Closed, bytes, handler);
            return;
        }
        if seg.flags.syn() && bytes == 0 {
            self.remember_syn(hash, seg.flow, seg.seq);
            return;
        }
        if bytes == 0 {
            return;
        }
        let syn = self.syns.get(hash, &seg.flow).map(|(_, isn)| isn);
        let (start, origin) = match syn.filter(|&isn| follows(seg.seq, isn, self.limits.window)) {
            // RFC 7413: data in the SYN comes after its sequence number.
            _ if seg.flags.syn() => (Start::Syn, seg.seq.plus(1)),
            Some(isn) => (Start::Syn, isn.plus(1)),
            None => match self.after_close(hash, seg, handler) {
                Some(origin) => (Start::MidStream, origin),
                None => return,
            },
        };
        if !self.make_room(handler) {
            self.counters.refused += 1;
            lose(seg.job, LostReason::TableFull, bytes, handler);
            return;
        }
        self.syns.forget(hash, &seg.flow);
        let place = self.open(hash, seg, start, origin, handler);
        let first = if seg.flags.syn() { seg.seq.plus(1) } else { seg.seq };
        let origin = self.slots[place as usize].stream.info.origin;
        self.take(place, seg, i64::from(first.since(origin)), handler);
    }

    /// Where a flow without SYN begins: at its first byte, unless it is the rest of one that was closed a moment ago.
    /// `None` if nothing of the segment is new; it is counted then.
    fn after_close<H: Handler<State = S>>(
        &self,
        hash: Hash,
        seg: &Segment<'_>,
        handler: &mut H,
    ) -> Option<Seq> {
        let Some((time, parted)) = self.closed.get(hash, &seg.flow) else {
            return Some(seg.seq);
        };
        let age = self.now.saturating_sub(time);
        let window = i64::from(self.limits.window);
        let len = signed(seg.payload.len());
        let from = i64::from(seg.seq.since(parted.end));
        let to = from + len;
        if age >= self.limits.closed_memory_ns || from > window || to < -window {
            return Some(seg.seq);
        }
        let rest = match parted.why {
            // After a FIN there is no more; what begins behind it belongs to a connection whose SYN was missed.
            Close::Fin => from <= 0,
            Close::Reset => age < self.limits.reset_linger_ns,
            _ => false,
        };
        if to <= 0 {
            handler.duplicate(seg.job, len.cast_unsigned());
        } else if rest {
            let known = (-from).max(0);
            if known > 0 {
                handler.duplicate(seg.job, known.cast_unsigned());
            }
            handler.lost(seg.job, LostReason::Closed, (len - known).cast_unsigned());
        } else {
            return Some(if from < 0 { parted.end } else { seg.seq });
        }
        None
    }

    /// Finds a place for one more flow; false if nobody has to go.
    fn make_room<H: Handler<State = S>>(&mut self, handler: &mut H) -> bool {
        if self.len() < self.limits.flows as usize {
            return true;
        }
        if let Some(place) = self.lists.first(Class::Unproven as usize) {
            self.counters.evicted_unproven += 1;
            self.close(place, Close::Evicted, handler);
            return true;
        }
        for class in [Class::Ending, Class::Proven] {
            let quietest = self.lists.first(class as usize);
            let touched = quietest.map(|place| self.slots[place as usize].touched);
            if let (Some(place), Some(touched)) = (quietest, touched)
                && self.now.saturating_sub(touched) >= self.limits.evict_after_ns
            {
                self.counters.evicted_quiet += 1;
                self.close(place, Close::Evicted, handler);
                return true;
            }
        }
        false
    }
}
