//! Which response answers which request, by where both stand in their streams: no matter in which order they stood in the
//! file.
//!
//! A response acknowledges the whole head of the request it answers, and a client that sends a request has not yet
//! received its response. Between these two bounds, responses come in the order of requests. Only where the response
//! direction has a hole may a response be missing: there, a request is passed over if the client had received something
//! beyond the hole when it sent the one after.

use std::collections::VecDeque;

use crate::http::{Asked, OWN_PLACES, ResponseHead, extra_places, give_back};

/// A request without a final response.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    /// Position after its head, in the request direction.
    head_end: u64,
    /// Time of the last byte of its head, ns.
    time: u64,
    /// What the client had acknowledged of the response direction when it sent it.
    read: Option<u64>,
    asked: Asked,
}

/// The unanswered requests of one connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: VecDeque<Request>,
    next: u64,
    /// Where the first hole in the responses began that may have swallowed one.
    hole: Option<u64>,
    /// Requests whose response will not be found.
    pub(super) unanswered: u64,
    /// HTTP/2 streams without a final response.
    pub(super) streams: u64,
    /// The request that asks for HTTP/2.
    pub(super) h2c: Option<u64>,
}

impl Waiting {
    /// What the places that are a connection's own take on the heap.
    pub(super) const OWN_BYTES: usize = OWN_PLACES * Self::PLACE_BYTES;
    /// What one place takes.
    pub(super) const PLACE_BYTES: usize = size_of::<Request>();

    /// Places for requests that wait, beyond the connection's own.
    pub(super) fn extra_places(&self) -> usize {
        extra_places(&self.requests)
    }

    /// A request head that ends at `head_end` and came at `time`, sent when the client had read up to `read`. At most `limit` wait.
    pub(super) fn push(&mut self, head_end: u64, time: u64, read: Option<u64>, asked: Asked, limit: usize) {
        let over = (self.requests.len() + 1).saturating_sub(limit.max(1));
        self.requests.drain(..over);
        self.unanswered += over as u64;
        give_back(&mut self.requests);
        self.requests.push_back(Request { number: self.next, head_end, time, read, asked });
        self.next += 1;
    }

    /// The number of the request that came last.
    pub(super) fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Part of the response direction is missing from `pos` on.
    pub(super) fn hole(&mut self, pos: u64) {
        self.hole.get_or_insert(pos);
    }

    /// The request that a response answers, with what was asked and when.
    pub(super) fn answer(&mut self, head: &ResponseHead, acked: Option<u64>) -> Option<(u64, Asked, u64)> {
        if let Some(hole) = self.hole {
            while let [first, second, ..] = self.requests.make_contiguous()
                && second.read.is_some_and(|read| read > hole && read <= head.pos && first.read < Some(read))
            {
                self.requests.pop_front();
                self.unanswered += 1;
            }
        }
        let first = self.requests.front()?;
        if acked.is_some_and(|acked| acked < first.head_end) || first.read.is_some_and(|read| head.pos < read)
        {
            return None;
        }
        let found = (first.number, first.asked, first.time);
        if !head.interim {
            self.requests.pop_front();
            give_back(&mut self.requests);
            self.hole = None;
        }
        Some(found)
    }

    /// The connection is over. Gives how many requests nobody saw the final response of.
    pub(super) fn close(&mut self) -> u64 {
        self.unanswered += self.requests.len() as u64 + std::mem::take(&mut self.streams);
        self.requests = VecDeque::new();
        self.unanswered
    }
}
