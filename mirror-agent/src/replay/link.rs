//! A link: one connection to a shadow at a time, and the copies that wait for it.
//!
//! This file knows which copy may be written when, and what a lost connection costs; it does no I/O.

use std::collections::VecDeque;

use super::queue::OutQueue;
use super::transport::Transport;
use crate::http::ReplyReader;

/// Unanswered copies that a pipelined link may have at a time.
pub const PIPELINE_DEPTH: usize = 1024;
/// Unanswered copies on a link's way that are work enough for a shadow until the next tick of the shard.
const TICKFUL: usize = 16;

/// One copy on its way through a link. Positions are those of the link's [`OutQueue`].
#[derive(Debug)]
pub(super) struct QueuedCopy {
    /// Distinguishes it from earlier copies of this link.
    pub(super) serial: u64,
    /// First byte of the head.
    pub(super) start: u64,
    /// First byte after the head.
    pub(super) head_end: u64,
    /// First byte after the whole copy, once it is known.
    pub(super) end: Option<u64>,
    /// Kernel time at which the original's head passed the tap, `CLOCK_MONOTONIC` ns.
    pub(super) head_time: u64,
    /// `CLOCK_REALTIME` at which the last byte of the head was written, ns.
    pub(super) written_at: Option<u64>,
    /// The method is HEAD: its response has no body.
    pub(super) head_request: bool,
    /// Sending it twice does no harm (RFC 9110 section 9.2.2).
    pub(super) idempotent: bool,
    /// The client asked to close the connection after it.
    pub(super) closes: bool,
    /// It may be written while earlier copies are unanswered.
    pub(super) pipelined: bool,
    /// What follows its head is a tunnel, which opens when the shadow answers 101 and ends with the connection.
    pub(super) tunnel: bool,
    /// When the end of the tunnel was told to the shadow, `CLOCK_MONOTONIC` ns.
    pub(super) shut: Option<u64>,
    /// The shadow ended the tunnel, with everything written so far: fine, unless more comes.
    pub(super) hung_up: bool,
    /// It was sent once more after a keep-alive race.
    pub(super) resent: bool,
    /// All its bytes written so far are still in the queue.
    pub(super) retained: bool,
    /// Status of its final response head.
    pub(super) status: Option<u16>,
    /// Its response is complete, though the copy itself is not written to its end yet.
    pub(super) answered: bool,
    /// Queue bytes set aside for its body.
    pub(super) reserve: u64,
}

impl QueuedCopy {
    /// The shadow agreed to the tunnel.
    pub(super) fn tunnels(&self) -> bool {
        self.tunnel && self.status == Some(101)
    }

    /// It is a tunnel whose client has ended it, and all of it is written, up to `written`.
    pub(super) fn is_over(&self, written: u64) -> bool {
        self.tunnels() && self.end.is_some_and(|end| end <= written)
    }
}

/// Who feeds a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// One client connection.
    Flow,
    /// One copy at a time, then back to the pool.
    Pool,
    /// Many client connections, pipelined; the number of the link within its target.
    Shared(usize),
}

/// Where the connection of a link stands.
#[derive(Debug)]
pub(super) enum State {
    /// There is none.
    Idle,
    /// Shaking hands since then, `CLOCK_MONOTONIC` ns.
    Connecting(Transport, u64),
    /// Open.
    Open(Transport),
}

#[derive(Debug)]
pub(super) struct Link {
    /// Index of the target.
    pub(super) shadow: usize,
    /// Tells this link from an earlier one at the same index.
    pub(super) generation: u32,
    pub(super) owner: Owner,
    pub(super) state: State,
    pub(super) queue: OutQueue,
    pub(super) copies: VecDeque<QueuedCopy>,
    /// How many copies from the front may be written.
    released: usize,
    pub(super) reader: ReplyReader,
    /// The reader was told of the front copy.
    pub(super) expecting: bool,
    /// The last response head allows another request on this connection.
    pub(super) keep_alive: bool,
    /// When the last response head came, `CLOCK_REALTIME` ns.
    pub(super) answered_at: u64,
    /// Responses completed on this connection: over 0, the connection is a reused one.
    pub(super) answers: u64,
    /// Response bytes were seen for the front copy.
    pub(super) answering: bool,
    /// The owner will send no more: close when the last answer was read.
    pub(super) orphan: bool,
    /// It waits until its connection may be begun.
    pub(super) paced: bool,
    /// In the list of links to flush.
    pub(super) dirty: bool,
    /// The slot of time in which it was written last.
    pub(super) written_in: u64,
    /// In the pool of idle links.
    pub(super) pooled: bool,
    /// How often it was taken out of the pool.
    pub(super) taken: u32,
    /// Last time the connection moved, `CLOCK_MONOTONIC` ns.
    pub(super) progress: u64,
    /// Since when the front copy is the front copy, `CLOCK_MONOTONIC` ns.
    pub(super) front_since: u64,
    /// In the list of links to read again.
    pub(super) unread: bool,
    /// When the owner went away, `CLOCK_MONOTONIC` ns.
    pub(super) orphaned_at: u64,
    /// Queue bytes booked with the target.
    pub(super) charged: u64,
    next_serial: u64,
    /// Copies are written behind unanswered ones at all.
    pub(super) pipelines: bool,
    /// How many answers a connection is believed to give before the shadow closes it: behind the last of them nothing is
    /// written that is not answered yet.
    quota: u64,
}

impl Link {
    pub(super) fn new(shadow: usize, generation: u32, owner: Owner, now: u64) -> Self {
        Self {
            shadow,
            generation,
            owner,
            state: State::Idle,
            queue: OutQueue::default(),
            copies: VecDeque::new(),
            released: 0,
            reader: ReplyReader::default(),
            expecting: false,
            keep_alive: true,
            answered_at: 0,
            answers: 0,
            answering: false,
            orphan: false,
            paced: false,
            dirty: false,
            written_in: 0,
            pooled: false,
            taken: 0,
            progress: now,
            front_since: now,
            unread: false,
            orphaned_at: 0,
            charged: 0,
            next_serial: 0,
            pipelines: true,
            quota: u64::MAX,
        }
    }

    pub(super) fn transport(&mut self) -> Option<&mut Transport> {
        match &mut self.state {
            State::Open(transport) => Some(transport),
            State::Idle | State::Connecting(..) => None,
        }
    }

    /// Adds a copy whose head is `head`; returns its serial number.
    pub(super) fn add(&mut self, head: &[u8], mut copy: QueuedCopy) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        copy.serial = serial;
        copy.start = self.queue.end();
        self.queue.push(head);
        copy.head_end = self.queue.end();
        self.copies.push_back(copy);
        self.release();
        serial
    }

    /// The copy that is being added to, if it is the one called `serial`.
    pub(super) fn current(&mut self, serial: u64) -> Option<&mut QueuedCopy> {
        self.copies.back_mut().filter(|copy| copy.serial == serial && copy.end.is_none())
    }

    /// Bytes before this position may be written now.
    pub(super) fn gate(&self) -> u64 {
        match self.copies.front() {
            Some(front) if front.tunnel && !front.tunnels() => front.head_end,
            _ => self.copies.get(self.released).map_or_else(|| self.queue.end(), |copy| copy.start),
        }
    }

    /// Some copies wait for the answer of another one, and so few are on their way that the shadow may run out of work
    /// before the next tick. With more, its answers can be read in batches, however many copies wait behind.
    pub(super) fn has_backlog(&self) -> bool {
        self.released < self.copies.len().min(TICKFUL)
    }

    /// Lets copies go that may be written now: the first always; another one only behind whole idempotent ones, if it
    /// is whole itself and may be pipelined. The connection must have answered before, and not be about to end: a shadow
    /// that closes after so many answers shall lose nothing.
    pub(super) fn release(&mut self) {
        while let Some(next) = self.copies.get(self.released) {
            let may = match self.released.checked_sub(1).and_then(|i| self.copies.get(i)) {
                None => true,
                Some(before) => {
                    self.pipelines
                        && self.answers > 0
                        && self.answers + (self.released as u64) < self.quota
                        && next.pipelined
                        && !next.resent
                        && next.end.is_some()
                        && before.end.is_some()
                        && before.idempotent
                        && !before.closes
                        && self.released < PIPELINE_DEPTH
                }
            };
            if !may {
                break;
            }
            self.released += 1;
        }
    }

    /// The response of the front copy is complete.
    pub(super) fn answered(&mut self) {
        self.answers += 1;
        self.expecting = false;
        if self.answers > self.quota {
            // It is still open: the next ones may be worth the double.
            self.quota = self.quota.saturating_mul(2);
        }
        let Some(copy) = self.copies.front_mut() else { return };
        copy.answered = true;
        if copy.tunnel && !copy.tunnels() && copy.end.is_none() {
            // The shadow does not want it: what the client says in it ends here.
            copy.end = Some(copy.head_end);
            let end = copy.head_end;
            if self.copies.len() == 1 {
                self.queue.truncate(end);
            }
        }
    }

    /// Takes the front copy out, and lets the next ones go.
    pub(super) fn pop(&mut self) -> Option<QueuedCopy> {
        let copy = self.copies.pop_front()?;
        self.released = self.released.saturating_sub(1);
        self.answering = false;
        self.expecting = false;
        self.release();
        self.forget_written();
        Some(copy)
    }

    /// Takes the last copy out; not a byte of it was written.
    pub(super) fn withdraw(&mut self) -> Option<QueuedCopy> {
        let copy = self.copies.pop_back()?;
        self.queue.truncate(copy.start);
        self.released = self.released.min(self.copies.len());
        Some(copy)
    }

    /// Drops written bytes that no copy may need again.
    pub(super) fn forget_written(&mut self) {
        let keep = self
            .copies
            .iter()
            .take(self.released)
            .find(|copy| copy.retained && copy.idempotent && !copy.resent && copy.status.is_none())
            .map_or_else(|| self.queue.written(), |copy| copy.start);
        self.queue.release(keep);
    }

    /// The connection is gone. Returns the copies that are lost with it, front first, each with whether a byte of it
    /// had been written, and how many of those that stay are to be sent once more.
    ///
    /// With `race`, a written copy without any answer byte stays if the connection was a reused one (RFC 9112 section
    /// 9.3.1). Copies of which nothing was written always stay.
    pub(super) fn lose(&mut self, race: bool) -> (Vec<(QueuedCopy, bool)>, u64) {
        let written = self.queue.written();
        let may_repeat = race && self.answers > 0 && !self.answering;
        let lost = self
            .copies
            .iter()
            .rposition(|copy| {
                let touched = copy.start < written;
                touched
                    && !(may_repeat && copy.idempotent && copy.retained && !copy.resent && copy.end.is_some())
            })
            .map_or(0, |last| last + 1);
        let gone: Vec<_> = self
            .copies
            .drain(..lost)
            .map(|copy| {
                let touched = copy.start < written;
                (copy, touched)
            })
            .collect();
        let mut again = 0;
        for copy in self.copies.iter_mut().take_while(|copy| copy.start < written) {
            // Only the first was the shadow's turn; those behind it were never looked at, and go out again at no risk of
            // a loop: each further loss takes an answer or this one chance of the copy in front.
            copy.resent |= again == 0;
            copy.written_at = None;
            again += 1;
        }
        if again > 1 {
            self.quota = self.answers;
        }
        match self.copies.front().map(|copy| copy.start) {
            Some(start) if start < written => {
                self.queue.rewind(start);
                self.queue.release(start);
            }
            Some(start) => self.queue.skip_to(start),
            None => self.queue.skip_to(self.queue.end()),
        }
        self.released = 0;
        self.answers = 0;
        self.answering = false;
        self.expecting = false;
        self.reader = ReplyReader::default();
        self.release();
        (gone, again)
    }
}
