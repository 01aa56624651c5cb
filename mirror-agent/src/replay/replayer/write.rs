//! Bytes out: heads and bodies from the queue of a link, or straight from the ring, to its socket.

use std::io::IoSlice;

use super::{CopyId, DIRECT_WRITE_BYTES, Replayer};
use crate::replay::LinkId;
use crate::replay::link::State;
use crate::replay::outcome::{Dropped, Failed, Report};
use crate::replay::queue::MAX_SLICES;

impl Replayer {
    /// More of the body of a copy, exactly as the client sent it.
    pub fn body(&mut self, id: CopyId, bytes: &[u8]) {
        let Some(link) = self.live(id.link) else { return };
        let Some(copy) = link.current(id.serial) else { return };
        if copy.hung_up {
            return self.lose(id.link, Failed::ClosedEarly, false);
        }
        let mut rest = bytes;
        let direct = bytes.len() >= DIRECT_WRITE_BYTES
            && link.gate() == link.queue.end()
            && link.transport().is_some_and(|transport| !transport.blocked);
        if direct {
            rest = self.write_direct(id, bytes);
        }
        if rest.is_empty() || !self.charge_body(id, rest.len() as u64) {
            return;
        }
        if let Some(link) = self.live(id.link) {
            link.queue.push(rest);
        }
        self.mark_dirty(id.link);
    }

    /// Writes what is queued and then `bytes` from where they lie; returns what the socket did not take.
    pub(super) fn write_direct<'b>(&mut self, id: CopyId, bytes: &'b [u8]) -> &'b [u8] {
        let clock = self.clock;
        let Some(link) = self.live(id.link) else { return &[] };
        let end = link.queue.end();
        let mut slices = link.queue.unsent(end);
        let queued: usize = slices.iter().map(|slice| slice.len()).sum();
        if queued as u64 != end - link.queue.written() {
            return bytes;
        }
        slices.push(IoSlice::new(bytes));
        let State::Open(transport) = &mut link.state else { return bytes };
        let began = clock();
        let wrote = transport.write(&slices);
        drop(slices);
        let wrote = match wrote {
            Ok(wrote) => wrote,
            Err(error) => {
                self.broken(id.link, &error);
                return &[];
            }
        };
        link.queue.wrote(wrote.min(queued) as u64);
        let past = wrote.saturating_sub(queued);
        if past > 0 {
            if let Some(copy) = link.copies.back_mut() {
                copy.retained = false;
            }
            link.queue.wrote_past(past as u64);
        }
        self.wrote(id.link, wrote as u64, began);
        bytes.get(past..).unwrap_or_default()
    }

    /// Books `bytes` of body with the target, from what was set aside for it first. If there is no room, the copy is
    /// given up.
    pub(super) fn charge_body(&mut self, id: CopyId, bytes: u64) -> bool {
        let Some(link) = self.links.get_mut(id.link.index as usize) else { return false };
        let Some(copy) = link.current(id.serial) else { return false };
        let reserved = copy.reserve.min(bytes);
        copy.reserve -= reserved;
        let shadow = link.shadow;
        let more = bytes - reserved;
        let take = |replayer: &mut Self| {
            replayer.books.targets.get_mut(shadow).is_some_and(|target| more == 0 || target.queued.take(more))
        };
        let room = take(self) || self.let_go(id) && take(self);
        if let Some(link) = self.links.get_mut(id.link.index as usize) {
            link.charged += if room { bytes } else { reserved };
        }
        if !room {
            self.abort(id, Dropped::QueueFull);
        }
        room
    }

    /// Keeps the written bytes of a copy in mid-body no longer: it will not be sent once more. Whether that made room.
    pub(super) fn let_go(&mut self, id: CopyId) -> bool {
        let Some(link) = self.live(id.link) else { return false };
        let Some(copy) = link.current(id.serial).filter(|copy| copy.retained) else { return false };
        copy.retained = false;
        let before = link.queue.held();
        link.forget_written();
        let less = link.queue.held() < before;
        self.discharge(id.link);
        less
    }

    /// Writes what the last batch left in the links, and reads on where a reply was cut off.
    pub fn flush(&mut self) {
        for id in std::mem::take(&mut self.unread) {
            if let Some(link) = self.live(id) {
                link.unread = false;
                self.read(id, false);
            }
        }
        let mut due = std::mem::take(&mut self.due);
        self.turns.advance(self.now, &mut due);
        for id in due.drain(..) {
            self.write_dirty(id);
        }
        self.due = due;
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(link) = self.links.get(id.index as usize) else { continue };
            if link.generation != id.generation {
                continue;
            }
            let bytes = link.queue.end() - link.queue.written();
            if let Some(id) = self.turns.hold(id, id.index, link.written_in, bytes) {
                self.write_dirty(id);
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    fn write_dirty(&mut self, id: LinkId) {
        let slot = self.turns.slot();
        if let Some(link) = self.live(id) {
            link.dirty = false;
            link.written_in = slot;
            self.write(id);
        }
    }

    pub(super) fn write(&mut self, id: LinkId) {
        let clock = self.clock;
        loop {
            let Some(link) = self.live(id) else { return };
            let gate = link.gate();
            let slices = link.queue.unsent(gate);
            let State::Open(transport) = &mut link.state else { return };
            if transport.blocked {
                return;
            }
            let blocks = slices.len();
            if blocks == 0 {
                drop(slices);
                self.settle_written(id);
                return;
            }
            let began = clock();
            let wrote = transport.write(&slices);
            drop(slices);
            match wrote {
                // The socket takes no more now.
                Ok(0) => return,
                Ok(wrote) => {
                    link.queue.wrote(wrote as u64);
                    self.wrote(id, wrote as u64, began);
                    // One write takes so many blocks and no more; the socket seldom takes as many.
                    self.settle_written(id);
                    if blocks < MAX_SLICES {
                        return;
                    }
                }
                Err(error) => return self.broken(id, &error),
            }
        }
    }

    /// `count` bytes went out: stamps the heads among them and forgets what is not needed any more. The time is that from
    /// before the write: a shadow nearby may answer before the write returns.
    pub(super) fn wrote(&mut self, id: LinkId, count: u64, (mono, real): (u64, u64)) {
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        link.progress = mono;
        let written = link.queue.written();
        let front = link.copies.front().map(|copy| copy.serial);
        // From the back: what was stamped before lies in front of what is stamped now.
        let unsent = link.copies.iter_mut().rev().skip_while(|copy| copy.head_end > written);
        for copy in unsent.take_while(|copy| copy.written_at.is_none()) {
            copy.written_at = Some(real);
            if front == Some(copy.serial) {
                let queued_ns = mono.saturating_sub(copy.head_time);
                self.reports.push(Report::Written { shadow: link.shadow, queued_ns });
            }
        }
        link.forget_written();
        if let Some(target) = self.books.targets.get_mut(link.shadow) {
            target.totals.written_bytes += count;
        }
        self.discharge(id);
    }

    /// Gives back the queue bytes that a link does not hold any more.
    pub(super) fn discharge(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        let held = link.queue.held();
        if let Some(target) = self.books.targets.get_mut(link.shadow) {
            target.queued.give(link.charged.saturating_sub(held));
        }
        link.charged = link.charged.min(held);
    }

    /// A copy that was answered is delivered once it is written to its end; whether it was. A tunnel is told to end then,
    /// and delivered when the shadow has ended it too.
    pub(super) fn settle_written(&mut self, id: LinkId) -> bool {
        let now = self.now;
        let Some(link) = self.live(id) else { return false };
        let written = link.queue.written();
        let Some(copy) = link.copies.front_mut() else { return false };
        let done = copy.answered && copy.end.is_some_and(|end| end <= written);
        if done && copy.tunnels() {
            if copy.shut.is_none() {
                copy.shut = Some(now);
                if let State::Open(transport) = &mut link.state
                    && let Err(error) = transport.shut()
                {
                    self.broken(id, &error);
                }
            }
            return false;
        }
        if done {
            self.deliver(id);
        }
        done
    }
}
