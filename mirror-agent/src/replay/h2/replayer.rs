//! The machine that moves copies through streams.
//!
//! One state machine in rooms, as for HTTP/1: `admit` begins a copy and takes what comes of it; here is the shard's loop and
//! the books; `connect` makes connections, `conns` turns to them and loses them, `streams` moves bytes, `late` looks at the clock.

mod admit;
mod connect;
mod conns;
mod late;
mod room;
mod streams;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Registry;
use mio::event::Event;
use slab::Slab;

use self::conns::failure;
use super::conn::{Conn, State};
use super::copy::Copy;
use super::mux::Said;
use super::wire::Inbox;
use super::{H2Copy, H2Report};
use crate::replay::books::Books;
use crate::replay::outcome::{Dropped, Outcome};
use crate::replay::target::{Target, TargetConfig, Totals};
use crate::replay::transport::Progress;
use crate::replay::turns::Turns;
use crate::replay::{Exclude, LinkId, Report, SHARED_LINKS};

/// Tokens of HTTP/2 connections start here; those of HTTP/1 are smaller.
pub const H2_TOKENS: usize = 1 << 30;
/// What a connection may hold beside the bodies of its copies, booked with the target's queued bytes: buffers for a frame
/// in either direction, compression tables, streams.
pub const CONNECTION_BYTES: u64 = 32 * 1024;
/// The most queue bytes set aside for a body whose length is not known.
pub const MAX_UNKNOWN_BODY_RESERVE_BYTES: u64 = 16 * 1024;
/// How often a connection is polled within one call of flush.
const ROUNDS: usize = 8;
/// Where a shadow allows fewer streams than this, the next copy must not wait for the end of a tick.
const FEW_STREAMS: usize = 32;
/// How often waiting copies are looked at, ns.
const SCAN_NS: u64 = 100_000_000;

/// The copies of one client connection for one shadow (or those that share a connection).
#[derive(Debug)]
struct Link {
    shadow: usize,
    generation: u32,
    /// The connection that takes new streams.
    conn: Option<u32>,
    /// Copies that are on no stream yet, oldest first.
    waiting: VecDeque<u32>,
    /// Copies without an outcome.
    copies: usize,
    next_serial: u64,
    /// The owner will send no more: close when the last answer was read.
    orphan: bool,
    orphaned_at: u64,
    /// It waits until its connection may be begun.
    paced: bool,
    /// In the list of links to look at, or waits for its turn.
    dirty: bool,
    /// Copies that wait for more than their turn: for a connection, a stream, or a socket that takes bytes again.
    held_up: bool,
    /// The shadow allows so few streams that answers should be read at once.
    short: bool,
    /// Copies on streams that have more to send.
    touched: Vec<u32>,
    /// Bytes that came since its last turn.
    gathered: u64,
    /// Slot of time of its last turn.
    written_in: u64,
}

/// The replaying half of a shard, for HTTP/2.
pub struct H2Replayer {
    registry: Registry,
    books: Books,
    /// Links of `--connections shared`, for each target.
    shared: Vec<[Option<LinkId>; SHARED_LINKS]>,
    links: Slab<Link>,
    conns: Slab<Conn>,
    copies: Slab<Copy>,
    generation: u32,
    next_client: u64,
    dirty: Vec<LinkId>,
    turns: Turns<LinkId>,
    due: Vec<LinkId>,
    inbox: Inbox,
    /// Connections with something to do.
    woken: Vec<u32>,
    said: Vec<Said>,
    reports: Vec<H2Report>,
    head: Vec<u8>,
    clock: fn() -> (u64, u64),
    now: u64,
    /// Links that are short of streams.
    short: usize,
    next_scan: u64,
}

/// What becomes of a copy whose connection or stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The shadow says that it has not looked at it.
    Unprocessed,
    /// The same, on a connection that has answered others: it may happen again and again, for each time takes an answer.
    Behind,
    /// A connection was closed that had answered before, and nothing came since the copy was written.
    Race,
    /// Anything else.
    Final,
}

impl H2Replayer {
    /// A replayer for `targets`, whose sockets are polled through `registry` with tokens from [`H2_TOKENS`] to
    /// `2^31 - 1`. `clock` gives `CLOCK_MONOTONIC` and `CLOCK_REALTIME` in ns.
    #[must_use]
    pub fn new(
        targets: &[TargetConfig],
        registry: Registry,
        exclude: Box<dyn Exclude + Send>,
        clock: fn() -> (u64, u64),
    ) -> Self {
        Self {
            registry,
            books: Books::new(targets.iter().map(target).collect(), exclude),
            shared: targets.iter().map(|_| [None; SHARED_LINKS]).collect(),
            links: Slab::new(),
            conns: Slab::new(),
            copies: Slab::new(),
            generation: 0,
            next_client: 0,
            dirty: Vec::new(),
            turns: Turns::new(),
            due: Vec::new(),
            inbox: Inbox::new(),
            woken: Vec::new(),
            said: Vec::new(),
            reports: Vec::new(),
            head: Vec::new(),
            clock,
            now: clock().0,
            short: 0,
            next_scan: 0,
        }
    }

    /// The time of this round, `CLOCK_MONOTONIC` ns.
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
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
    pub fn reports(&mut self) -> std::vec::Drain<'_, H2Report> {
        self.reports.drain(..)
    }

    /// Copies without an outcome.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.books.unfinished()
    }

    /// Whether copies wait for a stream of a shadow that allows few: answers should be read at once.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.short > 0
    }

    /// Totals of one target.
    #[must_use]
    pub fn totals(&self, shadow: usize) -> Totals {
        self.books.totals(shadow)
    }

    /// A name for a client connection.
    pub fn new_client(&mut self) -> u64 {
        self.next_client += 1;
        self.next_client
    }

    /// Whether something can go on at once: the shard must not sleep.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.dirty.is_empty() || !self.woken.is_empty()
    }

    /// Opens streams, hands over bodies, writes, and reads what came.
    pub fn flush(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.turns.advance(self.now, &mut due);
        for id in due.drain(..) {
            self.pump(id);
        }
        self.due = due;
        for _ in 0..ROUNDS {
            self.pump_dirty();
            let mut woken = std::mem::take(&mut self.woken);
            let none = woken.is_empty();
            for index in woken.drain(..) {
                self.drive(index);
            }
            if self.woken.is_empty() {
                self.woken = woken;
            }
            if none {
                break;
            }
        }
    }

    /// Looks at the links with news: those that only have more to write may have to wait for their turn.
    fn pump_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(link) = self.link(id) else { continue };
            if link.held_up {
                self.pump(id);
            } else if let Some(id) = self.turns.hold(id, id.index, link.written_in, link.gathered) {
                self.pump(id);
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// What `epoll` said of one of our sockets; what there is to do is done by the next [`H2Replayer::flush`].
    pub fn on_event(&mut self, event: &Event) {
        let Some(index) = event.token().0.checked_sub(H2_TOKENS).and_then(|index| u32::try_from(index).ok())
        else {
            return;
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let over = event.is_read_closed() || event.is_error();
        match &mut conn.state {
            State::Connecting(transport) => match transport.advance() {
                Ok(Progress::Pending) => {}
                Ok(Progress::Ready) => self.connected(index),
                Err(error) => self.connect_failed(index, failure(&error)),
            },
            State::Open(session) => {
                let wire = &mut session.wire;
                if event.is_writable() && wire.transport.blocked {
                    wire.unblock();
                }
                if event.is_readable() || over {
                    wire.announced(over);
                }
                self.wake(index);
            }
            State::Gone => {}
        }
    }

    /// A copy has its outcome.
    fn settle(&mut self, at: u32, outcome: Outcome) {
        let Some(copy) = self.copies.try_remove(at as usize) else { return };
        let shadow = copy.shadow;
        match copy.conn {
            Some((index, stream)) => self.leave(index, stream),
            None => {
                if let Some(link) = self.links.get_mut(copy.link.index as usize)
                    && let Some(place) = link.waiting.iter().position(|other| *other == at)
                {
                    link.waiting.remove(place);
                }
            }
        }
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.in_flight.give(1);
            target.queued.give(copy.held + copy.reserve);
        }
        self.finish(shadow, outcome);
        if let Some(link) = self.link_mut(copy.link) {
            link.copies -= 1;
            if link.waiting.is_empty() {
                self.set_short(copy.link, false);
            } else if link.held_up {
                // Its stream may be another one's.
                self.mark_dirty(copy.link);
            }
            self.after_copies_left(copy.link);
        }
    }

    /// Takes a copy off the list of its connection.
    fn leave(&mut self, index: u32, stream: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.open.remove(&stream);
        let id = conn.link;
        if conn.draining.is_some() && conn.open.is_empty() {
            self.close(index, false);
            self.mark_dirty(id);
        }
    }

    /// What becomes of a link that has nothing to do.
    fn after_copies_left(&mut self, id: LinkId) {
        let Some(link) = self.link(id) else { return };
        if link.copies > 0 || !link.orphan {
            return;
        }
        if let Some(index) = link.conn {
            let settled = self.conns.get(index as usize).is_some_and(Conn::is_ready);
            self.close(index, !settled);
        }
        self.links.try_remove(id.index as usize);
    }

    fn finish(&mut self, shadow: usize, outcome: Outcome) {
        self.books.ended();
        self.reports.push(H2Report::Copy(Report::Outcome { shadow, outcome }));
    }

    fn give(&mut self, shadow: usize, bytes: u64) {
        if bytes > 0
            && let Some(target) = self.books.targets.get_mut(shadow)
        {
            target.queued.give(bytes);
        }
    }

    /// A copy has more to send, `bytes` of it new.
    fn touch(&mut self, at: u32, bytes: u64) {
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        let id = copy.link;
        let known = std::mem::replace(&mut copy.touched, true);
        let Some(link) = self.link_mut(id) else { return };
        link.gathered += bytes;
        if !known {
            link.touched.push(at);
        }
        self.mark_dirty(id);
    }

    fn mark_dirty(&mut self, id: LinkId) {
        if let Some(link) = self.link_mut(id)
            && !std::mem::replace(&mut link.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    fn copy(&mut self, id: H2Copy) -> Option<&mut Copy> {
        self.copies.get_mut(id.index as usize).filter(|copy| copy.generation == id.generation)
    }

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.index as usize).filter(|link| link.generation == id.generation)
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id.index as usize).filter(|link| link.generation == id.generation)
    }
}

/// A target whose TLS asks for HTTP/2.
fn target(config: &TargetConfig) -> Target {
    let mut config = config.clone();
    if let Some((tls, _)) = &mut config.tls {
        Arc::make_mut(tls).alpn_protocols = vec![b"h2".to_vec()];
    }
    Target::new(&config)
}
