//! What a copy must pass before it is begun.

use super::{CopyId, LinkSlot, Replayer, Start};
use crate::replay::link::{QueuedCopy, State};
use crate::replay::outcome::{Dropped, Outcome};

impl Replayer {
    /// Admits a copy and queues its head, which `write_head` appends to the buffer it is given. `None` if it was
    /// refused; the outcome is in the reports either way.
    pub fn begin(
        &mut self,
        start: Start,
        slot: &mut LinkSlot,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Option<CopyId> {
        self.books.begun();
        match self.admit(&start, slot, write_head) {
            Ok(id) => Some(id),
            Err(why) => {
                self.finish(start.shadow, Outcome::Dropped { why, partial: false });
                None
            }
        }
    }

    fn admit(
        &mut self,
        start: &Start,
        slot: &mut LinkSlot,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<CopyId, Dropped> {
        let now = self.now;
        let target = self.books.admit(start.shadow, now)?;
        self.head.clear();
        write_head(&mut self.head);
        let head_bytes = self.head.len() as u64;
        let pipelines = target.pipelines(now);
        let reserve = target.reserve(start.body);
        if !target.queued.take(head_bytes + reserve) {
            target.in_flight.give(1);
            return Err(Dropped::QueueFull);
        }
        let id = match self.choose_link(start, slot) {
            Ok(id) => id,
            Err(why) => {
                if let Some(target) = self.books.targets.get_mut(start.shadow) {
                    target.in_flight.give(1);
                    target.queued.give(head_bytes + reserve);
                }
                return Err(why);
            }
        };
        let Some(link) = self.links.get_mut(id.index as usize) else { return Err(Dropped::Connections) };
        let had_backlog = link.has_backlog();
        link.charged += head_bytes;
        link.pipelines |= pipelines;
        if link.copies.is_empty() {
            link.progress = now;
            link.front_since = now;
        }
        let serial = link.add(
            &self.head,
            QueuedCopy {
                serial: 0,
                start: 0,
                head_end: 0,
                end: None,
                head_time: start.head_time,
                written_at: None,
                head_request: start.head_request,
                idempotent: start.idempotent,
                closes: start.closes,
                pipelined: (start.pipelined || start.idempotent) && !start.tunnel,
                tunnel: start.tunnel,
                shut: None,
                hung_up: false,
                resent: false,
                retained: true,
                status: None,
                answered: false,
                reserve,
            },
        );
        let now_backlog = link.has_backlog();
        let idle = matches!(link.state, State::Idle);
        self.count_backlog(had_backlog, now_backlog);
        if idle {
            self.connect(id);
        }
        self.mark_dirty(id);
        Ok(CopyId { link: id, serial })
    }
}
