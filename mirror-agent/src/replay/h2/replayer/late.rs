//! What has waited too long, and the end of everything.

use super::{H2Replayer, SCAN_NS};
use crate::replay::h2::conn::State;
use crate::replay::h2::mux::code;
use crate::replay::outcome::{Dropped, Failed, Outcome};

impl H2Replayer {
    /// The earliest time at which [`H2Replayer::tick`] may have something to do, `CLOCK_MONOTONIC` ns.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let scan = (self.books.unfinished() > 0 || self.expecting()).then_some(self.next_scan);
        let all = [scan, self.books.next_time_wait(), self.books.next_connect(), self.turns.next()];
        all.into_iter().flatten().min()
    }

    /// A connection is to come about, or to give a sign of life.
    pub(super) fn expecting(&self) -> bool {
        self.conns.iter().any(|(_, conn)| match &conn.state {
            State::Open(session) => !session.ready || session.is_asked(),
            State::Connecting(_) | State::Gone => true,
        })
    }

    /// Ends what has waited too long.
    pub fn tick(&mut self) {
        let now = self.now;
        self.books.leave_time_wait(now);
        self.connect_waiting();
        if now < self.next_scan {
            return;
        }
        self.next_scan = now + SCAN_NS;
        self.scan_connections(now);
        self.scan_copies(now);
    }

    /// Gives up every copy that has no outcome and closes every connection.
    pub fn shutdown(&mut self) {
        for index in self.indices() {
            self.give_up(index, Dropped::Shutdown, None);
        }
        let conns: Vec<_> = self.conns.iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        for index in conns {
            self.close(index, false);
        }
        self.links.clear();
        self.short = 0;
        self.books.leave_time_wait(u64::MAX);
    }

    pub(super) fn indices(&self) -> Vec<u32> {
        self.copies.iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect()
    }

    pub(super) fn scan_connections(&mut self, now: u64) {
        let targets = &self.books.targets;
        let late: Vec<_> = self
            .conns
            .iter_mut()
            .filter_map(|(index, conn)| {
                let timeouts = targets.get(conn.shadow)?.settings.timeouts;
                let still = now.saturating_sub(conn.progress);
                let why = if !conn.is_ready() {
                    (still > timeouts.connect).then_some(Failed::ConnectTimeout)
                } else if let State::Open(session) = &mut conn.state {
                    let stuck = still > timeouts.idle && !session.wire.is_flushed();
                    let dead = session.is_dead(now, timeouts.connect).then_some(Failed::HeadTimeout);
                    dead.or_else(|| stuck.then_some(Failed::IdleTimeout))
                } else {
                    None
                };
                Some((u32::try_from(index).ok()?, why?))
            })
            .collect();
        for (index, why) in late {
            if why == Failed::ConnectTimeout {
                self.connect_failed(index, why);
            } else {
                self.lost(index, why);
            }
        }
    }

    pub(super) fn scan_copies(&mut self, now: u64) {
        let late: Vec<_> = self
            .copies
            .iter()
            .filter_map(|(index, copy)| {
                let index = u32::try_from(index).ok()?;
                let settings = self.books.targets.get(copy.shadow)?.settings;
                let timeouts = settings.timeouts;
                let link = self.link(copy.link)?;
                let alone = now.saturating_sub(link.orphaned_at.max(copy.opened));
                if link.orphan && copy.conn.is_some() && alone > settings.linger {
                    return Some((index, None));
                }
                let still = now.saturating_sub(copy.progress);
                let why = match (copy.conn, copy.status) {
                    // While there is no connection, its own time runs.
                    (None, _) => {
                        let conn = self.conns.get(link.conn? as usize)?;
                        (conn.is_ready() && still > timeouts.head).then_some(Failed::NoStream)
                    }
                    (Some(_), None) if copy.end_sent => {
                        (copy.flushed && still > timeouts.head).then_some(Failed::HeadTimeout)
                    }
                    (Some(_), _) if !copy.pending.is_empty() => {
                        (still > timeouts.idle).then_some(Failed::IdleTimeout)
                    }
                    // The rest of the request is the client's to send.
                    (Some(_), _) if !copy.end_sent => None,
                    (Some(_), _) => (still > timeouts.idle).then_some(Failed::IdleTimeout),
                };
                why.map(|why| (index, Some(why)))
            })
            .collect();
        for (index, why) in late {
            match why {
                None => self.give_up(index, Dropped::ClientClosed, None),
                Some(why) => self.too_late(index, why),
            }
        }
    }

    /// A copy has waited too long. Where nothing came since, the connection itself may be dead.
    pub(super) fn too_late(&mut self, index: u32, why: Failed) {
        let Some(copy) = self.copies.get(index as usize) else { return };
        if let Some(conn) = copy.conn.and_then(|(conn, _)| self.conns.get_mut(conn as usize))
            && conn.received() <= copy.received_then
            && let State::Open(session) = &mut conn.state
        {
            session.ask(self.now);
        }
        let partial = copy.conn.is_some();
        self.reset(index, code::CANCEL);
        self.settle(index, Outcome::Failed { why, partial });
    }
}
