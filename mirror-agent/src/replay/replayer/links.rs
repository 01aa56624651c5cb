//! Links and their connections: chosen, opened, lost, closed.

use std::io::ErrorKind;

use mio::Token;

use super::{LinkSlot, Replayer, SHARED_LINKS, Start};
use crate::http::BodyKind;
use crate::replay::LinkId;
use crate::replay::link::{Link, Owner, State};
use crate::replay::outcome::{Dropped, Failed, Outcome, Report};
use crate::replay::settings::{Connections, Ordering};
use crate::replay::transport::Transport;

/// The link for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This one.
    Link(LinkId),
    /// The next of the pool.
    Pooled,
    /// One that is to be opened.
    None(Owner),
}

impl Replayer {
    pub(super) fn choose_link(&mut self, start: &Start, slot: &mut LinkSlot) -> Result<LinkId, Dropped> {
        match self.find_link(start, *slot).ok_or(Dropped::Unresolved)? {
            Found::Link(id) => Ok(id),
            Found::Pooled => {
                let target = self.books.targets.get_mut(start.shadow).ok_or(Dropped::Unresolved)?;
                let id = target.pool.pop().ok_or(Dropped::Connections)?;
                let link = self.live(id).ok_or(Dropped::Connections)?;
                link.pooled = false;
                link.taken = link.taken.wrapping_add(1);
                *slot = LinkSlot(Some((id, link.taken)));
                Ok(id)
            }
            Found::None(owner) => {
                let id = self.open_link(start.shadow, owner)?;
                match owner {
                    Owner::Flow | Owner::Pool => *slot = LinkSlot(Some((id, 0))),
                    Owner::Shared(index) => {
                        let target = self.books.targets.get_mut(start.shadow);
                        if let Some(place) = target.and_then(|target| target.shared.get_mut(index)) {
                            *place = Some(id);
                        }
                    }
                }
                Ok(id)
            }
        }
    }

    /// Where a copy goes that begins now; none if there is no such target.
    pub(super) fn find_link(&self, start: &Start, slot: LinkSlot) -> Option<Found> {
        let whole_head = start.body == BodyKind::None;
        let target = self.books.targets.get(start.shadow)?;
        Some(match (target.settings.connections, target.settings.ordering) {
            (Connections::PerClient, Ordering::Connection) => {
                match slot.0.filter(|(id, _)| self.is_live(*id)) {
                    Some((id, _)) => Found::Link(id),
                    None => Found::None(Owner::Flow),
                }
            }
            // A client connection that has a link to itself keeps it until its copies are answered, for their order.
            (Connections::Shared, Ordering::Connection) if self.holds(slot).is_some() => {
                Found::Link(self.holds(slot)?)
            }
            (Connections::Shared, ordering) if whole_head && start.idempotent && !start.closes => {
                let index = match ordering {
                    Ordering::Connection => start.flow_hash as usize % SHARED_LINKS,
                    Ordering::None => self.least_loaded(start.shadow),
                };
                match target.shared.get(index).copied().flatten().filter(|id| self.is_live(*id)) {
                    Some(id) => Found::Link(id),
                    None => Found::None(Owner::Shared(index)),
                }
            }
            // What is in the pool is open and idle.
            (Connections::PerClient | Connections::Shared, _) if !target.pool.is_empty() => Found::Pooled,
            (Connections::PerClient | Connections::Shared, _) => Found::None(Owner::Pool),
        })
    }

    /// The link out of the pool that the client connection of `slot` still has.
    pub(super) fn holds(&self, slot: LinkSlot) -> Option<LinkId> {
        let (id, taken) = slot.0?;
        let link = self.links.get(id.index as usize).filter(|link| link.generation == id.generation)?;
        (link.taken == taken && !link.pooled).then_some(id)
    }

    pub(super) fn least_loaded(&self, shadow: usize) -> usize {
        let waiting = |id: &Option<LinkId>| {
            id.and_then(|id| self.links.get(id.index as usize)).map_or(0, |link| link.copies.len())
        };
        let shared =
            self.books.targets.get(shadow).map(|target| target.shared.as_slice()).unwrap_or_default();
        (0..shared.len()).min_by_key(|i| shared.get(*i).map_or(0, waiting)).unwrap_or(0)
    }

    pub(super) fn open_link(&mut self, shadow: usize, owner: Owner) -> Result<LinkId, Dropped> {
        let target = self.books.targets.get_mut(shadow).ok_or(Dropped::Unresolved)?;
        if !target.connections.take(1) {
            // An idle link of the pool can make room.
            let spare = target.pool.pop().ok_or(Dropped::Connections)?;
            self.close_link(spare, false);
            let target = self.books.targets.get_mut(shadow).ok_or(Dropped::Unresolved)?;
            if !target.connections.take(1) {
                return Err(Dropped::Connections);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        let mut link = Link::new(shadow, self.generation, owner, self.now);
        link.pipelines = self.books.targets.get(shadow).is_some_and(|target| target.pipelines(self.now));
        let index = u32::try_from(self.links.insert(link)).unwrap_or(u32::MAX);
        Ok(LinkId { index, generation: self.generation })
    }

    /// The client connection of `slot` is gone: its link closes when the last answer was read.
    pub fn release(&mut self, slot: LinkSlot) {
        let Some((id, _)) = slot.0 else { return };
        let now = self.now;
        let Some(link) = self.live(id).filter(|link| link.owner == Owner::Flow) else { return };
        link.orphan = true;
        link.orphaned_at = now;
        self.after_copies_left(id);
    }

    /// Begins the connection of a link, or has it wait until that is its turn.
    pub(super) fn connect(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.live(id).filter(|link| !link.paced) else { return };
        let shadow = link.shadow;
        let Some(target) = self.books.targets.get_mut(shadow) else { return };
        if target.pace.begin(id, now) {
            self.connect_now(id);
        } else if let Some(link) = self.live(id) {
            link.paced = true;
        }
    }

    /// Begins the connections whose turn has come.
    pub(super) fn connect_waiting(&mut self) {
        let now = self.now;
        for shadow in 0..self.books.targets.len() {
            while let Some(id) = self.books.targets.get_mut(shadow).and_then(|target| target.pace.next(now)) {
                let waits = self.live(id).is_some_and(|link| {
                    link.paced = false;
                    !link.copies.is_empty()
                });
                let backs_off = self.books.targets.get(shadow).is_some_and(|target| target.backs_off(now));
                if waits && !backs_off {
                    self.connect_now(id);
                    continue;
                }
                self.books.settled(shadow, id);
                if waits {
                    self.give_up(id, Dropped::BackOff);
                }
            }
        }
    }

    fn connect_now(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        let Some(target) = self.books.targets.get_mut(link.shadow) else { return };
        let Some(addr) = target.next_addr() else { return };
        match Transport::connect(addr, target.tls.as_ref(), &self.registry, Token(id.index as usize)) {
            Ok(transport) => {
                self.books.connecting(&transport);
                link.state = State::Connecting(transport, now);
            }
            Err(error) => self.connect_failed(id, connect_failure(&error)),
        }
    }

    pub(super) fn connected(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        if let State::Connecting(transport, _) = std::mem::replace(&mut link.state, State::Idle) {
            link.state = State::Open(transport);
        }
        link.progress = now;
        if let Some(target) = self.books.targets.get_mut(link.shadow) {
            target.succeeded();
            target.totals.connections += 1;
            target.totals.connects += 1;
        }
        self.write(id);
    }

    /// The connection could not be made: every copy that waited for it has failed.
    pub(super) fn connect_failed(&mut self, id: LinkId, why: Failed) {
        let now = self.now;
        self.disconnect(id, true);
        let Some(link) = self.live(id) else { return };
        let shadow = link.shadow;
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.failed(now);
        }
        while let Some(copy) = self.pop(id) {
            self.settle(shadow, &copy, Outcome::Failed { why, partial: false });
        }
        self.clear_queue(id);
        self.after_copies_left(id);
    }

    /// A read or write failed.
    pub(super) fn broken(&mut self, id: LinkId, error: &std::io::Error) {
        let over = |link: &mut Link| {
            let written = link.queue.written();
            link.copies.front().is_some_and(|copy| copy.is_over(written))
        };
        if self.live(id).is_some_and(over) {
            // A tunnel that had ended: its other half ends as it likes.
            return self.deliver(id);
        }
        let why = if error.kind() == ErrorKind::InvalidData { Failed::Tls } else { Failed::Reset };
        self.disconnect(id, true);
        self.lose(id, why, true);
    }

    /// Takes the connection of a link away.
    pub(super) fn disconnect(&mut self, id: LinkId, reset: bool) {
        let now = self.now;
        let Some(link) = self.live(id) else { return };
        let shadow = link.shadow;
        let (transport, open) = match std::mem::replace(&mut link.state, State::Idle) {
            State::Idle => return,
            State::Connecting(transport, _) => (transport, false),
            State::Open(transport) => (transport, true),
        };
        self.books.close(shadow, transport, open, reset, (&self.registry, now));
        self.books.settled(shadow, id);
    }

    /// The connection of a link is gone: books what is lost with it and goes on with the rest on a new one.
    pub(super) fn lose(&mut self, id: LinkId, why: Failed, race: bool) {
        let now = self.now;
        let Some(link) = self.live(id) else { return };
        let shadow = link.shadow;
        let barren =
            link.answers == 0 && link.queue.written() <= link.copies.front().map_or(0, |copy| copy.start);
        let had_backlog = link.has_backlog();
        let (lost, again) = link.lose(race);
        let now_backlog = link.has_backlog();
        self.count_backlog(had_backlog, now_backlog);
        for (copy, partial) in &lost {
            let outcome = if copy.answered {
                // The response was complete, only the rest of the copy could not be written any more.
                Outcome::Failed { why: Failed::ClosedEarly, partial: true }
            } else {
                Outcome::Failed { why, partial: *partial }
            };
            self.settle(shadow, copy, outcome);
        }
        for _ in 0..again {
            self.reports.push(Report::Resent { shadow });
        }
        self.discharge(id);
        let waits = self.live(id).is_some_and(|link| !link.copies.is_empty());
        if waits && barren && lost.is_empty() {
            // A target that takes connections and drops them at once would be tried for ever.
            self.connect_failed(id, why);
        } else if waits && self.books.targets.get(shadow).is_some_and(|target| target.backs_off(now)) {
            self.give_up(id, Dropped::BackOff);
        } else if waits {
            self.connect(id);
        } else {
            self.after_copies_left(id);
        }
    }

    /// Gives up every copy of a link whose connection was taken away.
    pub(super) fn give_up(&mut self, id: LinkId, why: Dropped) {
        let Some(link) = self.live(id) else { return };
        let (shadow, written) = (link.shadow, link.queue.written());
        while let Some(copy) = self.pop(id) {
            let partial = copy.start < written;
            self.settle(shadow, &copy, Outcome::Dropped { why, partial });
        }
        self.clear_queue(id);
        self.after_copies_left(id);
    }

    pub(super) fn clear_queue(&mut self, id: LinkId) {
        if let Some(link) = self.live(id) {
            let _nothing_waits = link.lose(false);
        }
        self.discharge(id);
    }

    /// What becomes of a link that has nothing to do.
    pub(super) fn after_copies_left(&mut self, id: LinkId) {
        let Some(link) = self.live(id) else { return };
        if !link.copies.is_empty() {
            return;
        }
        match link.owner {
            Owner::Flow if link.orphan => self.close_link(id, false),
            Owner::Pool if matches!(link.state, State::Idle) => self.close_link(id, false),
            Owner::Pool if !link.pooled => {
                link.pooled = true;
                let shadow = link.shadow;
                if let Some(target) = self.books.targets.get_mut(shadow) {
                    target.pool.push(id);
                }
            }
            Owner::Flow | Owner::Pool | Owner::Shared(_) => {}
        }
    }

    pub(super) fn close_link(&mut self, id: LinkId, reset: bool) {
        self.disconnect(id, reset);
        if self.live(id).is_none() {
            return;
        }
        self.discharge(id);
        let link = self.links.remove(id.index as usize);
        if let Some(target) = self.books.targets.get_mut(link.shadow) {
            target.connections.give(1);
            target.queued.give(link.charged);
            if link.pooled {
                target.pool.retain(|pooled| *pooled != id);
            }
        }
    }
}

/// What a failed `connect` says of the target.
pub(in crate::replay) fn connect_failure(error: &std::io::Error) -> Failed {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failed::Refused,
        ErrorKind::TimedOut => Failed::ConnectTimeout,
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Failed::Tls,
        _ => Failed::Connect,
    }
}
