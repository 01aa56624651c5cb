//! For sources that can be kept waiting: whether there is room, and whether waiting for it may help.

use super::H2Replayer;
use crate::replay::h2::conn::State;
use crate::replay::h2::copy::Copy;
use crate::replay::h2::{CONNECTION_BYTES, H2Copy, H2Slot, H2Start, MAX_UNKNOWN_BODY_RESERVE_BYTES};
use crate::replay::target::Target;
use crate::replay::{Connections, LinkId, MAX_BODY_RESERVE_BYTES};

/// The link for a copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// This one.
    Link(LinkId),
    /// One that is to be made, for this place among the shared ones or for the client connection alone.
    None(Option<usize>),
}

impl H2Replayer {
    /// Where a copy goes that begins now.
    pub(super) fn find_link(&self, shadow: usize, slot: H2Slot) -> Found {
        let target = self.books.targets.get(shadow);
        if target.is_none_or(|target| target.settings.connections != Connections::Shared) {
            let own = slot.0.filter(|id| self.link(*id).is_some_and(|link| !link.orphan));
            return own.map_or(Found::None(None), Found::Link);
        }
        let known = self.shared.get(shadow).copied().unwrap_or_default();
        let load =
            |id: &Option<LinkId>| id.and_then(|id| self.links.get(id.index as usize)).map_or(0, |l| l.copies);
        let place = (0..known.len()).min_by_key(|at| known.get(*at).map_or(0, load)).unwrap_or(0);
        known.get(place).copied().flatten().map_or(Found::None(Some(place)), Found::Link)
    }

    /// Whether a copy that begins now, with a head of `head` bytes, would be refused for want of room or have to wait for a
    /// stream, or its target fails and may come back soon.
    #[must_use]
    pub fn lacks_room(&self, start: &H2Start, slot: H2Slot, head: u64) -> bool {
        let Some(target) = self.books.targets.get(start.shadow).filter(|_| !self.books.refuses()) else {
            return false;
        };
        let link = match self.find_link(start.shadow, slot) {
            Found::Link(id) => self.link(id),
            Found::None(_) => None,
        };
        let opens = link.is_none_or(|link| link.conn.is_none());
        let connection = if opens { CONNECTION_BYTES } else { 0 };
        target.is_absent(self.now)
            || link.is_some_and(|link| link.held_up && !link.waiting.is_empty())
            || !target.in_flight.fits(1)
            || !target.queued.fits(head + reserve(start, target) + connection)
            || opens && !target.connections.fits(1)
    }

    /// Whether there may be no room for `bytes` more of the body of a copy.
    pub fn lacks_room_for(&mut self, id: H2Copy, bytes: u64) -> bool {
        let Some(copy) = self.copy(id) else { return false };
        let (shadow, more) = (copy.shadow, bytes.saturating_sub(copy.reserve));
        self.books.targets.get(shadow).is_some_and(|target| !target.queued.fits(more))
    }

    /// Whether anything gets its outcome, or makes room, without another byte of any client: sooner or later it does, by
    /// the timeouts.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.is_busy()
            || self.books.targets.iter().any(|target| target.is_absent(self.now))
            || self.conns.iter().any(|(_, conn)| !conn.is_ready())
            || self.copies.iter().any(|(_, copy)| self.moves(copy))
    }

    /// Whether a copy moves without another byte of a client. One that waits for a stream moves when those that have one do.
    fn moves(&self, copy: &Copy) -> bool {
        if copy.conn.is_some() {
            return copy.ended || !copy.pending.is_empty();
        }
        let conn = self.link(copy.link).and_then(|link| self.conns.get(link.conn? as usize));
        conn.is_none_or(|conn| match &conn.state {
            State::Open(session) => !session.ready || conn.open.len() < session.mux.max_streams,
            State::Connecting(_) | State::Gone => true,
        })
    }

    /// The longest that a copy can go without news before it fails, ns.
    #[must_use]
    pub fn patience(&self) -> u64 {
        self.books.patience()
    }
}

/// Queue bytes to set aside for a body when its copy is admitted: never so many that it could not be.
pub(super) fn reserve(start: &H2Start, target: &Target) -> u64 {
    let reserve = match start.content_length {
        _ if start.end_stream => 0,
        Some(length) => length.min(MAX_BODY_RESERVE_BYTES),
        None => MAX_UNKNOWN_BODY_RESERVE_BYTES,
    };
    reserve.min(target.queued.limit() / 4)
}
