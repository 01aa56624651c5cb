//! From the client: what a copy must pass before it is begun, and what comes of it after.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::room::{Found, reserve};
use super::{H2Replayer, Link};
use crate::replay::LinkId;
use crate::replay::h2::copy::{Answer, Copy, MAX_RETAINED_BODY_BYTES};
use crate::replay::h2::{H2Copy, H2Slot, H2Start};
use crate::replay::outcome::{Dropped, Outcome};

impl H2Replayer {
    /// Admits a copy. `write_head` appends its fields to the buffer it is given, as a [`crate::plan::FieldWriter`] does.
    /// `None` if it was refused; the outcome is in the reports either way.
    pub fn begin(
        &mut self,
        start: &H2Start,
        slot: &mut H2Slot,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Option<H2Copy> {
        self.books.begun();
        match self.admit(start, slot, write_head) {
            Ok(id) => Some(id),
            Err(why) => {
                self.finish(start.shadow, Outcome::Dropped { why, partial: false });
                None
            }
        }
    }

    pub(super) fn admit(
        &mut self,
        start: &H2Start,
        slot: &mut H2Slot,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<H2Copy, Dropped> {
        let now = self.now;
        let target = self.books.admit(start.shadow, now)?;
        self.head.clear();
        write_head(&mut self.head);
        let head: Box<[u8]> = self.head.as_slice().into();
        let held = head.len() as u64;
        let reserve = reserve(start, target);
        if !target.queued.take(held + reserve) {
            target.in_flight.give(1);
            return Err(Dropped::QueueFull);
        }
        let link_id = self.choose_link(start.shadow, slot);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let Some(link) = self.links.get_mut(link_id.index as usize) else { return Err(Dropped::Connections) };
        let copy = Copy {
            generation,
            shadow: start.shadow,
            link: link_id,
            serial: link.next_serial,
            client: start.client,
            stream: start.stream,
            head,
            pending: BytesMut::new(),
            retained: Some(Vec::new()),
            trailers: None,
            ended: false,
            end_sent: false,
            flushed: false,
            idempotent: start.idempotent,
            resent: false,
            waited: false,
            touched: false,
            head_time: start.head_time,
            written_at: None,
            received_then: 0,
            held,
            reserve,
            progress: now,
            opened: now,
            conn: None,
            window: 0,
            owed: 0,
            expected: None,
            answer: Answer::None,
            status: None,
            grpc_failed: false,
        };
        link.next_serial += 1;
        link.copies += 1;
        link.gathered += held;
        let index = u32::try_from(self.copies.insert(copy)).unwrap_or(u32::MAX);
        link.waiting.push_back(index);
        if link.conn.is_some() {
            self.mark_dirty(link_id);
        } else {
            // Whether there is room for another connection is known at once.
            self.pump(link_id);
        }
        Ok(H2Copy { index, generation })
    }

    fn choose_link(&mut self, shadow: usize, slot: &mut H2Slot) -> LinkId {
        let place = match self.find_link(shadow, *slot) {
            Found::Link(id) => return id,
            Found::None(place) => place,
        };
        let id = self.new_link(shadow);
        match place {
            None => *slot = H2Slot(Some(id)),
            Some(place) => {
                if let Some(known) = self.shared.get_mut(shadow).and_then(|known| known.get_mut(place)) {
                    *known = Some(id);
                }
            }
        }
        id
    }

    pub(super) fn new_link(&mut self, shadow: usize) -> LinkId {
        self.generation = self.generation.wrapping_add(1);
        let link = Link {
            shadow,
            generation: self.generation,
            conn: None,
            waiting: VecDeque::new(),
            copies: 0,
            next_serial: 0,
            orphan: false,
            orphaned_at: 0,
            paced: false,
            dirty: false,
            held_up: false,
            short: false,
            touched: Vec::new(),
            gathered: 0,
            written_in: 0,
        };
        let index = u32::try_from(self.links.insert(link)).unwrap_or(u32::MAX);
        LinkId { index, generation: self.generation }
    }

    /// More of the body of a copy.
    pub fn body(&mut self, id: H2Copy, bytes: &[u8]) {
        let Some(copy) = self.copy(id).filter(|copy| !copy.ended) else { return };
        let count = bytes.len() as u64;
        let reserved = copy.reserve.min(count);
        let more = count - reserved;
        let shadow = copy.shadow;
        if more > 0 && !self.books.targets.get_mut(shadow).is_some_and(|target| target.queued.take(more)) {
            return self.abort(id, Dropped::QueueFull, None);
        }
        let Some(copy) = self.copy(id) else { return };
        copy.reserve -= reserved;
        copy.push(bytes);
        if copy.retained_bytes() + copy.pending.len() > MAX_RETAINED_BODY_BYTES {
            let forgotten = copy.forget();
            self.give(shadow, forgotten);
        }
        self.touch(id.index, count);
    }

    /// The trailer section of a copy, as a [`crate::plan::FieldWriter`] wrote it; [`H2Replayer::end`] comes next.
    pub fn trailers(&mut self, id: H2Copy, fields: &[u8]) {
        let Some(copy) = self.copy(id).filter(|copy| !copy.ended) else { return };
        let (shadow, count) = (copy.shadow, fields.len() as u64);
        let reserved = copy.reserve.min(count);
        let more = count - reserved;
        if more > 0 && !self.books.targets.get_mut(shadow).is_some_and(|target| target.queued.take(more)) {
            return self.abort(id, Dropped::QueueFull, None);
        }
        if let Some(copy) = self.copy(id) {
            copy.reserve -= reserved;
            copy.held += count;
            copy.trailers = Some(fields.into());
        }
    }

    /// The copy is whole.
    pub fn end(&mut self, id: H2Copy) {
        let Some(copy) = self.copy(id).filter(|copy| !copy.ended) else { return };
        copy.ended = true;
        let reserve = std::mem::take(&mut copy.reserve);
        let shadow = copy.shadow;
        self.give(shadow, reserve);
        self.touch(id.index, 0);
    }

    /// The copy is given up: withdrawn if it is on no stream, else its stream is reset, with `code` if the client gave one.
    pub fn abort(&mut self, id: H2Copy, why: Dropped, code: Option<u32>) {
        if self.copy(id).is_some() {
            self.give_up(id.index, why, code);
        }
    }

    /// The client does not want the rest of the answers on `stream` of the connection that has `slot`.
    pub fn cancel(&mut self, slot: H2Slot, shadow: usize, client: u64, stream: u32, code: u32) {
        let shared = self.shared.get(shadow).copied().unwrap_or_default();
        let ids: Vec<u32> = self
            .copies
            .iter()
            .filter(|(_, copy)| {
                let linked = slot.0 == Some(copy.link) || shared.contains(&Some(copy.link));
                linked && copy.client == client && copy.stream == stream && copy.ended
            })
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        for index in ids {
            self.give_up(index, Dropped::ClientCancelled, Some(code));
        }
    }

    /// The client connection of `slot` is gone: its connection closes when the last answer was read.
    pub fn release(&mut self, slot: H2Slot) {
        let Some(id) = slot.0 else { return };
        let now = self.now;
        let Some(link) = self.link_mut(id) else { return };
        link.orphan = true;
        link.orphaned_at = now;
        self.after_copies_left(id);
    }
}
