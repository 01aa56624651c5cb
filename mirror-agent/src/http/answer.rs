//! Which response answers which request.
//!
//! A response head stands at the ack of its request's last segment, responses come in the order of requests, and a
//! client that has received something sends the next request (or the next batch of them) when it has read the answers to
//! the ones before. The first two match a response to the oldest unanswered request; the third finds out that responses
//! passed unseen (lost, or several heads in one segment, which count as one), so that the next is not taken for theirs.
//!
//! A client that keeps a window of requests open without waiting for all of a batch defeats the third: its answers may
//! count for a request a little younger than their own, for at most that window, and the rest is unknown.

use std::collections::VecDeque;

use super::limits::LastTold;
use super::message::{BodyKind, Events, Leaves};
use crate::flow::Evidence;

/// Places for requests that count as their connection's own.
pub(crate) const OWN_PLACES: usize = 4;

/// Gives back the places of a queue that stand empty after a crowd.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    // Twice what is needed stays, so that a queue that comes and goes does not ask for memory each time.
    if queue.capacity() > OWN_PLACES && queue.len() <= queue.capacity() / 4 {
        queue.shrink_to((queue.len() * 2).max(OWN_PLACES));
    }
}

/// Places of a queue beyond [`OWN_PLACES`].
pub(crate) fn extra_places<T>(queue: &VecDeque<T>) -> usize {
    queue.capacity().saturating_sub(OWN_PLACES)
}

/// What the primary said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request: the number of [`Events::head`] calls of this connection before its own.
    pub request: u64,
    /// Status code.
    pub status: u16,
    /// Kernel time of the segment that completed the request head, ns.
    pub head_time: u64,
    /// Kernel time of the response head, ns.
    pub time: u64,
    /// A 1xx other than 101, or the 101 of an upgrade to HTTP/2: the final response is still to come.
    pub interim: bool,
}

/// Whether `status` agrees to leave HTTP.
fn agrees(leaves: Leaves, status: u16) -> bool {
    match leaves {
        Leaves::Connect => (200..300).contains(&status),
        Leaves::WebSocket | Leaves::H2c | Leaves::Other => status == 101,
    }
}

/// A request head as far as its answer is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) start: u64,
    pub(super) head_end: u64,
    pub(super) head_time: u64,
    pub(super) leaves: Option<Leaves>,
    /// It was told; a request that was refused is answered all the same.
    pub(super) told: bool,
}

/// A request that waits for its final response.
#[derive(Debug)]
struct Pending {
    ordinal: u64,
    asked: Asked,
    /// After its last byte; unknown (`u64::MAX`) while the body goes on.
    end: u64,
}

/// The unanswered requests of a connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: VecDeque<Pending>,
    next: u64,
    unknown: u64,
    /// The last evidence was interim: an ack that grows may be for that.
    interim: bool,
    /// Position of the last hole after which the position in a message was lost.
    lost_at: Option<u64>,
    /// Memory of the queue.
    told_memory: LastTold,
}

impl Answers {
    /// What the places that are a connection's own take on the heap.
    pub(super) const OWN_BYTES: usize = OWN_PLACES * size_of::<Pending>();

    /// A request begins. True if it was sent before the one before it was answered. `shared`: in the segment in which
    /// that one ended. `read_on`: the client has received something since. `visible`: responses are seen at all.
    pub(super) fn begins(&mut self, shared: bool, read_on: bool, visible: bool) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        if shared {
            return true;
        }
        if read_on && !self.interim {
            self.forget(self.queue.len());
            return false;
        }
        visible
    }

    /// A head was recognised.
    pub(super) fn push(&mut self, asked: Asked, body: BodyKind, limit: usize) {
        if self.queue.len() >= limit.max(1) {
            self.forget(1);
        }
        let end = if body == BodyKind::None { asked.head_end } else { u64::MAX };
        self.queue.push_back(Pending { ordinal: self.next, asked, end });
        self.next += u64::from(asked.told);
    }

    /// Whether no head was recognised yet.
    pub(super) fn none_yet(&self) -> bool {
        self.next == 0
    }

    /// Whether an earlier request waits.
    pub(super) fn waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The youngest request, which began at `start`, ended at `end`.
    pub(super) fn ended(&mut self, start: u64, end: u64) {
        if let Some(last) = self.queue.back_mut()
            && last.asked.start == start
        {
            last.end = end;
        }
    }

    /// Requests may have been lost from `pos` on.
    pub(super) fn lost(&mut self, pos: u64) {
        self.lost_at = Some(pos);
    }

    /// Matches a response head. With it, if the request asked to leave HTTP/1, for what and whether it did.
    pub(super) fn answer(&mut self, evidence: &Evidence) -> Option<(Answer, Option<(Leaves, bool)>)> {
        let interim = (100..200).contains(&evidence.status) && evidence.status != 101;
        self.interim = interim;
        if let Some(lost_at) = self.lost_at
            && evidence.acked > lost_at
        {
            // It may answer a request that was lost as well as one before the hole.
            let before = self
                .queue
                .iter()
                .take_while(|p| p.asked.start <= lost_at && p.end == u64::MAX || p.end <= lost_at)
                .count();
            self.forget(before);
            self.lost_at = None;
        }
        let front = self.queue.front()?;
        if evidence.acked < front.asked.head_end {
            return None;
        }
        let leaves = front.asked.leaves;
        // After it the answer itself comes as HTTP/2 on stream 1 (RFC 7540 section 3.2), where it is not seen.
        let to_h2 = leaves == Some(Leaves::H2c) && evidence.status == 101;
        let answer = Answer {
            request: front.ordinal,
            status: evidence.status,
            head_time: front.asked.head_time,
            time: evidence.time,
            interim: interim || to_h2,
        };
        let told = front.asked.told;
        if !interim {
            self.queue.pop_front();
            self.unknown += u64::from(to_h2 && told);
        }
        if !told {
            return None;
        }
        let left = leaves.filter(|_| !interim).map(|leaves| (leaves, agrees(leaves, evidence.status)));
        Some((answer, left))
    }

    /// Whether it answers the request that was recognised last.
    pub(super) fn is_latest(&self, answer: &Answer) -> bool {
        answer.request + 1 == self.next
    }

    /// Tells how much memory the queue takes beyond the connection's own; without room for more, only the last
    /// [`OWN_PLACES`] requests stay in it.
    pub(super) fn settle(&mut self, ev: &mut impl Events) {
        give_back(&mut self.queue);
        if !self.tell_memory(ev) {
            self.forget(self.queue.len().saturating_sub(OWN_PLACES));
            self.queue.shrink_to(OWN_PLACES);
            self.tell_memory(ev);
        }
    }

    /// The connection is over. Gives how many requests nobody saw the final response of.
    pub(super) fn close(&mut self, ev: &mut impl Events) -> u64 {
        self.forget(self.queue.len());
        self.queue = VecDeque::new();
        self.tell_memory(ev);
        self.unknown
    }

    /// False if there is no room for so much.
    fn tell_memory(&mut self, ev: &mut impl Events) -> bool {
        let now = (extra_places(&self.queue) * size_of::<Pending>()) as u64;
        self.told_memory.change(now).is_none_or(|delta| ev.unanswered_memory(delta))
    }

    /// The final responses of the `n` oldest were not seen.
    fn forget(&mut self, n: usize) {
        let told = self.queue.drain(..n.min(self.queue.len())).filter(|p| p.asked.told).count();
        self.unknown += told as u64;
    }
}
