//! Bytes in: responses, read to their end and thrown away.

use std::io::ErrorKind;

use super::{DISCARD_BYTES, Replayer};
use crate::http::Eof;
use crate::replay::LinkId;
use crate::replay::link::{QueuedCopy, State};
use crate::replay::outcome::{Failed, Outcome, Report};

impl Replayer {
    pub(super) fn read(&mut self, id: LinkId, to_the_end: bool) {
        // A reply may be endless: one that keeps coming gets its turn, and then the others.
        for _ in 0..64 {
            let Some(link) = self.links.get_mut(id.index as usize).filter(|l| l.generation == id.generation)
            else {
                return;
            };
            let State::Open(transport) = &mut link.state else { return };
            let ahead = link.reader.bytes_to_discard().unwrap_or(0);
            let discarded = if ahead >= DISCARD_BYTES {
                transport.discard(ahead, &mut self.buffer).transpose()
            } else {
                None
            };
            let result = match discarded {
                Some(Ok(count)) => Ok((count, None, true)),
                Some(Err(errno)) => Err(errno),
                None => transport.read(&mut self.buffer).map(|got| (got.bytes, Some(got.time), got.more)),
            };
            let (bytes, time, more) = match result {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.broken(id, &error),
            };
            if bytes == 0 {
                return self.peer_closed(id);
            }
            link.progress = self.now;
            if let Some(target) = self.books.targets.get_mut(link.shadow) {
                target.totals.discarded_bytes += bytes as u64;
            }
            let fine = match time {
                Some(time) => self.responses(id, bytes, time),
                None => {
                    let done = link.reader.skip(bytes as u64);
                    if done {
                        self.answered(id);
                    }
                    true
                }
            };
            if !fine {
                self.disconnect(id, true);
                return self.lose(id, Failed::BadResponse, false);
            }
            if !more && !to_the_end {
                return;
            }
        }
        // Edge-triggered: what is left will not be announced again.
        if let Some(link) = self.live(id)
            && !link.unread
        {
            link.unread = true;
            self.unread.push(id);
        }
    }

    /// Reads the responses in the first `bytes` of the buffer; false if they are none.
    pub(super) fn responses(&mut self, id: LinkId, bytes: usize, time: Option<u64>) -> bool {
        let mut at = 0;
        while at < bytes {
            if self.live(id).is_some_and(|link| link.copies.front().is_some_and(QueuedCopy::tunnels)) {
                // The shadow's side of a tunnel.
                return true;
            }
            let Some(link) = self.links.get_mut(id.index as usize).filter(|l| l.generation == id.generation)
            else {
                return true;
            };
            if !link.expecting {
                let written = link.queue.written();
                // Bytes that answer nothing: the connection is not in step any more.
                let Some(copy) = link.copies.front().filter(|copy| copy.start < written && !copy.answered)
                else {
                    return false;
                };
                link.reader.expect(copy.head_request);
                link.expecting = true;
            }
            link.answering = true;
            let rest = self.buffer.get(bytes).get(at..).unwrap_or_default();
            let Ok(step) = link.reader.feed(rest) else { return false };
            at += step.consumed;
            if let Some(head) = step.head {
                link.keep_alive = head.keep_alive;
                link.answered_at = time.unwrap_or_else(|| (self.clock)().1);
                if let Some(copy) = link.copies.front_mut() {
                    copy.status = Some(head.status);
                    if let Some(written) = copy.written_at {
                        let latency_ns = link.answered_at.saturating_sub(written);
                        self.reports.push(Report::Answered { shadow: link.shadow, latency_ns });
                    }
                }
            }
            if step.complete {
                self.answered(id);
            } else if step.consumed == 0 {
                // Nothing was used and nothing is complete: the reader cannot go on.
                return false;
            }
        }
        true
    }

    /// The response of the front copy is complete.
    pub(super) fn answered(&mut self, id: LinkId) {
        let Some(link) = self.live(id) else { return };
        link.answered();
        let (first, shadow) = (link.answers == 1, link.shadow);
        if first {
            self.books.settled(shadow, id);
        }
        let Some(link) = self.live(id) else { return };
        if link.copies.front().is_some_and(QueuedCopy::tunnels) {
            // What waited for it may go now.
            self.mark_dirty(id);
        }
        self.settle_written(id);
    }

    /// The front copy is written and answered.
    pub(super) fn deliver(&mut self, id: LinkId) {
        let Some(link) = self.live(id) else { return };
        let (shadow, keep_alive) = (link.shadow, link.keep_alive);
        let Some(copy) = self.pop(id) else { return };
        self.take_turn(id);
        let status = copy.status.unwrap_or(0);
        self.settle(shadow, &copy, Outcome::Delivered { status });
        self.discharge(id);
        let closes = !keep_alive || copy.closes || copy.tunnels();
        if closes {
            self.disconnect(id, false);
        }
        let waits = self.live(id).is_some_and(|link| !link.copies.is_empty());
        match (waits, closes) {
            (true, true) => self.lose(id, Failed::ClosedEarly, true),
            (true, false) => self.mark_dirty(id),
            (false, closed) => {
                if closed && let Some(link) = self.live(id) {
                    let _nothing_waits = link.lose(false);
                }
                self.after_copies_left(id);
            }
        }
    }

    /// The shadow turns to the next copy of a link. If that one was written already, it waited behind the one before: its
    /// latency runs from now on, and the wait counts as time queued.
    pub(super) fn take_turn(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        if let Some(next) = link.copies.front_mut()
            && let Some(written) = next.written_at
        {
            let since_written = link.answered_at.saturating_sub(written);
            next.written_at = Some(written + since_written);
            let queued_ns = self.now.saturating_sub(next.head_time);
            self.reports.push(Report::Written { shadow: link.shadow, queued_ns });
        }
    }

    /// The shadow ended the connection.
    pub(super) fn peer_closed(&mut self, id: LinkId) {
        let Some(link) = self.live(id) else { return };
        let written = link.queue.written();
        let nothing_waits = written == link.queue.end();
        match link.copies.front_mut() {
            Some(copy) if copy.is_over(written) => return self.deliver(id),
            Some(copy) if copy.tunnels() && nothing_waits => {
                copy.hung_up = true;
                return self.disconnect(id, false);
            }
            _ => {}
        }
        if link.expecting && link.reader.eof() == Eof::Complete {
            // The end of the connection is the end of the response (RFC 9112 section 6.3, case 8).
            link.answered();
            if self.settle_written(id) {
                return;
            }
        }
        // It closed first: nothing of ours stays in TIME_WAIT, so closing in good order costs no port.
        self.disconnect(id, true);
        self.lose(id, Failed::ClosedEarly, true);
    }
}
