//! Connections that are to come about: begun in their turn, and what becomes of the copies that wait for one.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use mio::Token;

use super::conns::failure;
use super::{CONNECTION_BYTES, H2_TOKENS, H2Replayer};
use crate::replay::LinkId;
use crate::replay::h2::conn::{Conn, Session, State};
use crate::replay::outcome::{Dropped, Failed, Outcome};
use crate::replay::transport::Transport;

impl H2Replayer {
    /// Begins a connection for a link, or has it wait until that is its turn.
    pub(super) fn connect(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.link(id).filter(|link| !link.paced) else { return };
        let shadow = link.shadow;
        let Some(target) = self.books.targets.get_mut(shadow) else { return };
        if target.pace.begin(id, now) {
            self.connect_now(id);
        } else if let Some(link) = self.link_mut(id) {
            link.paced = true;
        }
    }

    /// Begins the connections whose turn has come.
    pub(super) fn connect_waiting(&mut self) {
        let now = self.now;
        for shadow in 0..self.books.targets.len() {
            while let Some(id) = self.books.targets.get_mut(shadow).and_then(|target| target.pace.next(now)) {
                let waits = self.link_mut(id).is_some_and(|link| {
                    link.paced = false;
                    link.conn.is_none() && !link.waiting.is_empty()
                });
                if waits {
                    self.connect_now(id);
                } else {
                    self.books.settled(shadow, id);
                }
            }
        }
    }

    fn connect_now(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.link(id) else { return };
        let shadow = link.shadow;
        let Some(target) = self.books.targets.get_mut(shadow) else { return };
        let refused = if target.backs_off(now) {
            Some(Dropped::BackOff)
        } else if !target.connections.take(1) {
            Some(Dropped::Connections)
        } else if !target.queued.take(CONNECTION_BYTES) {
            target.connections.give(1);
            Some(Dropped::QueueFull)
        } else {
            None
        };
        if let Some(why) = refused {
            self.books.settled(shadow, id);
            return self.drop_waiting(id, why);
        }
        let entry = self.conns.vacant_entry();
        let index = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let mut conn = Conn {
            shadow,
            link: id,
            state: State::Gone,
            open: BTreeMap::new(),
            unflushed: Vec::new(),
            handed: 0,
            opened: 0,
            answers: 0,
            starved: false,
            extra: 0,
            draining: None,
            progress: now,
            stamp: None,
            counted_received: 0,
            counted_written: 0,
            woken: false,
        };
        let token = Token(H2_TOKENS + entry.key());
        let result = match target.next_addr() {
            Some(addr) => Transport::connect(addr, target.tls.as_ref(), &self.registry, token),
            None => Err(ErrorKind::AddrNotAvailable.into()),
        };
        let failed = match result {
            Ok(transport) => {
                self.books.connecting(&transport);
                conn.state = State::Connecting(transport);
                None
            }
            Err(error) => Some(failure(&error)),
        };
        entry.insert(conn);
        if let Some(link) = self.link_mut(id) {
            link.conn = Some(index);
        }
        if let Some(why) = failed {
            self.connect_failed(index, why);
        }
    }

    /// TCP and TLS are done: now HTTP/2.
    pub(super) fn connected(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let State::Connecting(transport) = std::mem::replace(&mut conn.state, State::Gone) else { return };
        if !transport.agreed_on(b"h2") {
            conn.state = State::Connecting(transport);
            return self.connect_failed(index, Failed::NotH2);
        }
        let mut session = Session::begin(transport);
        // The end of a handshake may have brought more with it.
        session.wire.announced(false);
        conn.state = State::Open(Box::new(session));
        self.wake(index);
    }

    /// A connection did not come to the point where copies can be sent: every copy that waits for it has failed.
    pub(super) fn connect_failed(&mut self, index: u32, why: Failed) {
        let now = self.now;
        let Some(conn) = self.conns.get(index as usize) else { return };
        let (id, shadow) = (conn.link, conn.shadow);
        self.close(index, true);
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.failed(now);
        }
        while let Some(copy) = self.link(id).and_then(|link| link.waiting.front().copied()) {
            self.settle(copy, Outcome::Failed { why, partial: false });
        }
    }

    pub(super) fn drop_waiting(&mut self, id: LinkId, why: Dropped) {
        while let Some(copy) = self.link(id).and_then(|link| link.waiting.front().copied()) {
            self.settle(copy, Outcome::Dropped { why, partial: false });
        }
    }
}
