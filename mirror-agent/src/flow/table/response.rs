//! Segments of the response direction: evidence.

use super::super::index::Hash;
use super::super::stream::Acked;
use super::super::{Close, Evidence, Handler};
use super::{Table, follows};
use crate::packet::Segment;

impl<S> Table<S> {
    /// A segment of the response direction.
    pub(super) fn response<H: Handler<State = S>>(
        &mut self,
        hash: Hash,
        place: u32,
        seg: &Segment<'_>,
        handler: &mut H,
    ) {
        let window = self.limits.window;
        let stream = &mut self.slots[place as usize].stream;
        if seg.flags.syn() {
            // The primary accepted the connection whose SYN waits: the old one is over, for it too.
            if let (Some(isn), Some(ack)) = (stream.reopening, seg.ack)
                && follows(ack, isn, window)
            {
                let key = stream.info.key;
                self.close(place, Close::Replaced, handler);
                self.remember_syn(hash, key, isn);
            }
            return;
        }
        let acked = match seg.ack {
            Some(ack) if stream.is_moved_by(ack, window) => {
                self.counters.moved += 1;
                self.on(place, |stream, state| {
                    stream.move_to(state, ack, handler);
                    stream.acked(ack, window)
                })
            }
            Some(ack) => Some(stream.acked(ack, window)),
            None => None,
        };
        let stream = &self.slots[place as usize].stream;
        let believed = match (acked, seg.ack) {
            (Some(_), Some(ack)) if seg.flags.rst() => stream.locate(ack, 0, window).is_some(),
            (Some(Acked::Implausible), _) => false,
            (Some(_), _) => true,
            (None, _) => stream.may_be_reset_by_primary(seg.seq, window),
        };
        if !believed {
            if seg.flags.rst() {
                self.counters.resets_ignored += 1;
            } else {
                self.counters.acks_ignored += 1;
            }
            return;
        }
        let patience = self.limits.acknowledged_hole_ns;
        let now = self.now;
        self.on(place, |stream, state| {
            if let Some(Acked::At(pos)) = acked {
                stream.proven |= pos > 0;
                stream.acknowledge(state, pos, now, patience, handler);
                if let Some(status) = seg.status {
                    // The primary still speaks for this connection: the SYN in between was forged or refused.
                    stream.reopening = None;
                    let evidence = Evidence { acked: pos, status, time: seg.time };
                    stream.answer(state, seg.seq, window, evidence, handler);
                }
            }
            stream.primary_fin |= seg.flags.fin();
        });
        if seg.flags.rst() {
            self.reset(place, handler);
        } else {
            self.settle(place, handler);
        }
    }
}
