//! The machine that moves copies through links.
//!
//! One state machine in rooms: `admit` begins a copy; here it is ended or given up, and booked; `links` makes and loses
//! connections, `write` and `read` move bytes, `late` looks at the clock.

mod admit;
mod late;
mod links;
mod read;
mod room;
mod write;

use std::net::SocketAddr;

use mio::Registry;
use mio::event::Event;
use slab::Slab;

pub(super) use self::links::connect_failure;
use super::LinkId;
use super::books::Books;
use super::link::{Link, QueuedCopy, State};
use super::outcome::{Dropped, Failed, Outcome, Report};
use super::settings::Exclude;
use super::target::{Target, TargetConfig, Totals};
use super::transport::{Progress, ReadBuffer};
use super::turns::Turns;
use crate::http::BodyKind;

/// Pipelined links for each target and shard with `--connections shared`. The shadow's workers, or its replicas, share
/// them: with too few, one of those may get them all.
pub const SHARED_LINKS: usize = 8;
/// Body bytes from this size on are offered to the socket from where they lie.
pub const DIRECT_WRITE_BYTES: usize = 2048;
/// The most queue bytes set aside for one body when it is admitted.
pub const MAX_BODY_RESERVE_BYTES: u64 = 1024 * 1024;
/// How long an unfinished response may outlive the client connection it belongs to, if it is a live one, ns.
pub const LINGER_NS: u64 = 15_000_000_000;
/// Response bytes from this size on are thrown away without being read.
const DISCARD_BYTES: u64 = 16 * 1024;
/// How often waiting links are looked at, ns.
const SCAN_NS: u64 = 100_000_000;

/// Where a client connection keeps its link to one shadow: the link, and which taking of it out of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSlot(Option<(LinkId, u32)>);

/// A copy that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyId {
    link: LinkId,
    serial: u64,
}

/// What [`Replayer::begin`] must know of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Index of the target.
    pub shadow: usize,
    /// Hash of the client connection: chooses among shared links.
    pub flow_hash: u32,
    /// The method is HEAD.
    pub head_request: bool,
    /// Sending it twice does no harm.
    pub idempotent: bool,
    /// The client asked to close the connection after it.
    pub closes: bool,
    /// The client did not wait for the answer of the request before.
    pub pipelined: bool,
    /// A tunnel follows the head, if the shadow agrees with 101: what comes as its body waits for that, and it ends with
    /// the connection.
    pub tunnel: bool,
    /// Body to come.
    pub body: BodyKind,
    /// Kernel time of the original's head, `CLOCK_MONOTONIC` ns.
    pub head_time: u64,
}

/// The replaying half of a shard.
pub struct Replayer {
    registry: Registry,
    books: Books,
    links: Slab<Link>,
    generation: u32,
    dirty: Vec<LinkId>,
    /// Links that wait for their turn to be written.
    turns: Turns<LinkId>,
    due: Vec<LinkId>,
    unread: Vec<LinkId>,
    reports: Vec<Report>,
    buffer: ReadBuffer,
    head: Vec<u8>,
    clock: fn() -> (u64, u64),
    /// `CLOCK_MONOTONIC` at the start of this round, ns.
    now: u64,
    backlog: u64,
    next_scan: u64,
}

impl Replayer {
    /// A replayer for `targets`, whose sockets are polled through `registry` with tokens from 0 to `2^31 - 1`. `clock`
    /// gives `CLOCK_MONOTONIC` and `CLOCK_REALTIME` in ns.
    #[must_use]
    pub fn new(
        targets: &[TargetConfig],
        registry: Registry,
        exclude: Box<dyn Exclude + Send>,
        clock: fn() -> (u64, u64),
    ) -> Self {
        let mut replayer = Self {
            registry,
            books: Books::new(targets.iter().map(Target::new).collect(), exclude),
            links: Slab::new(),
            generation: 0,
            dirty: Vec::new(),
            turns: Turns::new(),
            due: Vec::new(),
            unread: Vec::new(),
            reports: Vec::new(),
            buffer: ReadBuffer::new(),
            head: Vec::new(),
            clock,
            now: 0,
            backlog: 0,
            next_scan: 0,
        };
        replayer.update_clock();
        replayer
    }

    /// Reads the clocks; call it once a round of the shard's loop.
    pub fn update_clock(&mut self) -> u64 {
        self.now = (self.clock)().0;
        self.now
    }

    /// The addresses that a target's name stands for now.
    pub fn set_addrs(&mut self, shadow: usize, addrs: &[SocketAddr]) {
        self.books.set_addrs(shadow, addrs);
    }

    /// With a reason, new copies are refused at their head until it is called with none.
    pub fn set_refusal(&mut self, why: Option<Dropped>) {
        self.books.set_refusal(why);
    }

    /// Takes what happened since the last call.
    pub fn reports(&mut self) -> std::vec::Drain<'_, Report> {
        self.reports.drain(..)
    }

    /// Copies without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.books.unfinished()
    }

    /// Whether some copies can go on only after the answer of another one was read, and the shadow may have nothing to do
    /// until then: answers should be read at once.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.backlog > 0
    }

    /// Whether something can go on at once: the shard must not sleep.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.unread.is_empty() || !self.dirty.is_empty()
    }

    /// Totals of one target.
    #[must_use]
    pub fn totals(&self, shadow: usize) -> Totals {
        self.books.totals(shadow)
    }

    /// The copy is whole.
    pub fn end(&mut self, id: CopyId) {
        let Some(link) = self.live(id.link) else { return };
        let had_backlog = link.has_backlog();
        let end = link.queue.end();
        let Some(copy) = link.current(id.serial) else { return };
        copy.end = Some(end);
        let hung_up = copy.hung_up;
        let reserve = std::mem::take(&mut copy.reserve);
        link.release();
        let (shadow, now_backlog) = (link.shadow, link.has_backlog());
        self.count_backlog(had_backlog, now_backlog);
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.queued.give(reserve);
        }
        if hung_up {
            return self.deliver(id.link);
        }
        self.mark_dirty(id.link);
    }

    /// The copy is given up: withdrawn if nothing of it was written, else its connection is reset.
    pub fn abort(&mut self, id: CopyId, why: Dropped) {
        let Some(link) = self.live(id.link) else { return };
        let written = link.queue.written();
        let Some(copy) = link.current(id.serial) else { return };
        let partial = copy.start < written;
        let had_backlog = link.has_backlog();
        let Some(copy) = (if partial { link.copies.pop_back() } else { link.withdraw() }) else { return };
        let (shadow, now_backlog) = (link.shadow, link.has_backlog());
        self.count_backlog(had_backlog, now_backlog);
        self.settle(shadow, &copy, Outcome::Dropped { why, partial });
        if partial {
            // Only the front copy is written before it is whole, so the connection carries nothing else.
            self.disconnect(id.link, true);
            self.lose(id.link, Failed::Reset, false);
        }
        self.discharge(id.link);
        self.after_copies_left(id.link);
    }

    /// What `epoll` said of one of our sockets.
    pub fn on_event(&mut self, event: &Event) {
        let Some((index, link)) = u32::try_from(event.token().0)
            .ok()
            .and_then(|index| Some((index, self.links.get_mut(index as usize)?)))
        else {
            return;
        };
        let id = LinkId { index, generation: link.generation };
        if let State::Connecting(transport, _) = &mut link.state {
            match transport.advance() {
                Ok(Progress::Pending) => return,
                Ok(Progress::Ready) => self.connected(id),
                Err(error) => {
                    self.connect_failed(id, connect_failure(&error));
                    return;
                }
            }
        } else if event.is_writable()
            && let Some(transport) = link.transport()
            && transport.blocked
        {
            if let Err(error) = transport.flush() {
                self.broken(id, &error);
                return;
            }
            self.write(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(id, event.is_read_closed() || event.is_error());
        }
    }

    fn finish(&mut self, shadow: usize, outcome: Outcome) {
        self.books.ended();
        self.reports.push(Report::Outcome { shadow, outcome });
    }

    fn settle(&mut self, shadow: usize, copy: &QueuedCopy, outcome: Outcome) {
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.in_flight.give(1);
            target.queued.give(copy.reserve);
        }
        self.finish(shadow, outcome);
    }

    fn pop(&mut self, id: LinkId) -> Option<QueuedCopy> {
        let now = self.now;
        let link = self.live(id)?;
        link.front_since = now;
        let had_backlog = link.has_backlog();
        let copy = link.pop();
        let now_backlog = link.has_backlog();
        self.count_backlog(had_backlog, now_backlog);
        copy
    }

    fn count_backlog(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.backlog += 1,
            (true, false) => self.backlog = self.backlog.saturating_sub(1),
            _ => {}
        }
    }

    fn mark_dirty(&mut self, id: LinkId) {
        if let Some(link) = self.live(id)
            && !link.dirty
        {
            link.dirty = true;
            self.dirty.push(id);
        }
    }

    fn is_live(&self, id: LinkId) -> bool {
        self.links.get(id.index as usize).is_some_and(|link| link.generation == id.generation)
    }

    fn live(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id.index as usize).filter(|link| link.generation == id.generation)
    }
}
