//! For sources that can be kept waiting: whether there is room, and whether waiting for it may help.

use super::links::Found;
use super::{CopyId, LinkSlot, Replayer, Start};
use crate::replay::link::{Link, State};

impl Replayer {
    /// Whether a copy that begins now, with a head of `head` bytes, would be refused for want of room, or because its
    /// target fails and may come back soon.
    #[must_use]
    pub fn lacks_room(&self, start: &Start, slot: LinkSlot, head: u64) -> bool {
        let Some(target) = self.books.targets.get(start.shadow).filter(|_| !self.books.refuses()) else {
            return false;
        };
        let opens = matches!(self.find_link(start, slot), Some(Found::None(_)));
        target.is_absent(self.now)
            || !target.in_flight.fits(1)
            || !target.queued.fits(head + target.reserve(start.body))
            || opens && target.pool.is_empty() && !target.connections.fits(1)
    }

    /// Whether there may be no room for `bytes` more of the body of a copy.
    pub fn lacks_room_for(&mut self, id: CopyId, bytes: u64) -> bool {
        self.is_full(id, bytes) && (!self.let_go(id) || self.is_full(id, bytes))
    }

    /// The longest that a copy can go without news before it fails, ns.
    #[must_use]
    pub fn patience(&self) -> u64 {
        self.books.patience()
    }

    fn is_full(&mut self, id: CopyId, bytes: u64) -> bool {
        let Some(link) = self.live(id.link) else { return false };
        let shadow = link.shadow;
        let Some(copy) = link.current(id.serial) else { return false };
        let more = bytes.saturating_sub(copy.reserve);
        self.books.targets.get(shadow).is_some_and(|target| !target.queued.fits(more))
    }

    /// Whether anything gets its outcome, or makes room, without another byte of any client: sooner or later it does, by
    /// the timeouts.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.is_busy()
            || self.books.targets.iter().any(|target| target.is_absent(self.now))
            || self.links.iter().any(|(_, link)| goes_on(link))
    }
}

fn goes_on(link: &Link) -> bool {
    let Some(front) = link.copies.front() else { return false };
    match link.state {
        State::Idle => false,
        State::Connecting(..) => true,
        // Whole, with bytes that the shadow has yet to take, or a handshake that it has yet to answer.
        State::Open(_) => {
            let asks = front.tunnel && !front.tunnels();
            front.end.is_some() || asks || link.queue.written() < link.gate()
        }
    }
}
