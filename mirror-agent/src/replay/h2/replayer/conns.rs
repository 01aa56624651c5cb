//! Connections: turned to, and lost.

use std::io::ErrorKind;

use super::{CONNECTION_BYTES, FEW_STREAMS, H2Replayer, Loss};
use crate::replay::LinkId;
use crate::replay::h2::H2Report;
use crate::replay::h2::conn::{Session, State};
use crate::replay::h2::mux::{Mux, code};
use crate::replay::h2::wire::Opening;
use crate::replay::outcome::Failed;
use crate::replay::replayer::connect_failure;

impl H2Replayer {
    /// A link has its turn: hands over what its copies have to send, and opens the streams that they wait for, on a new
    /// connection if need be.
    pub(super) fn pump(&mut self, id: LinkId) {
        let slot = self.turns.slot();
        let Some(link) = self.link_mut(id) else { return };
        link.dirty = false;
        link.gathered = 0;
        link.written_in = slot;
        let mut touched = std::mem::take(&mut link.touched);
        for at in touched.drain(..) {
            if let Some(copy) = self.copies.get_mut(at as usize) {
                copy.touched = false;
                self.send_more(at);
            }
        }
        if let Some(link) = self.link_mut(id)
            && link.touched.is_empty()
        {
            link.touched = touched;
        }
        let short = self.open_waiting(id);
        let Some(link) = self.link_mut(id) else { return };
        link.held_up = !link.waiting.is_empty();
        self.set_short(id, short);
    }

    pub(super) fn set_short(&mut self, id: LinkId, short: bool) {
        let Some(link) = self.link_mut(id) else { return };
        match (std::mem::replace(&mut link.short, short), short) {
            (false, true) => self.short += 1,
            (true, false) => self.short = self.short.saturating_sub(1),
            _ => {}
        }
    }

    /// Opens streams as far as the shadow and the socket allow; whether the shadow allows few.
    pub(super) fn open_waiting(&mut self, id: LinkId) -> bool {
        let Some(link) = self.link(id).filter(|link| !link.waiting.is_empty()) else { return false };
        let Some(index) = link.conn else {
            self.connect(id);
            return false;
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        let State::Open(session) = &mut conn.state else { return false };
        if !session.ready {
            return false;
        }
        loop {
            let Some(conn) = self.conns.get_mut(index as usize) else { return false };
            let State::Open(session) = &mut conn.state else { return false };
            let Some(copy) = self.links.get(id.index as usize).and_then(|link| link.waiting.front().copied())
            else {
                return false;
            };
            let most = session.mux.max_streams;
            if conn.open.len() >= most {
                self.note_waiting(id);
                return most < FEW_STREAMS;
            }
            if !session.wire.takes() {
                return false;
            }
            let Some(stream) = session.mux.open() else {
                // Its numbers are used up: as if the shadow had said so.
                self.drain(index, u32::MAX, code::NO_ERROR);
                self.connect(id);
                return false;
            };
            self.open(index, stream, copy);
        }
    }

    /// Tells of the copies that begin to wait for a stream.
    pub(super) fn note_waiting(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id.index as usize) else { return };
        for index in link.waiting.iter().rev() {
            let Some(copy) = self.copies.get_mut(*index as usize) else { continue };
            if std::mem::replace(&mut copy.waited, true) {
                break;
            }
            self.reports.push(H2Report::Waited { shadow: copy.shadow });
        }
    }

    /// Turns to a connection: one read is made, what there is to write is written, and the copies that this concerns go on.
    pub(super) fn drive(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.woken = false;
        let State::Open(session) = &mut conn.state else { return };
        let Session { mux, wire, .. } = &mut **session;
        let mut said = std::mem::take(&mut self.said);
        // A shadow nearby may answer before a write returns, so the time is that from before it.
        let began = (self.clock)();
        let bytes = wire.receive(&mut self.inbox);
        let broken = mux.read(bytes, wire.out(), &mut said).is_err();
        wire.flush();
        let (flushed, opening, failed, eof) = (wire.is_flushed(), wire.opening, wire.failed, wire.eof);
        let (received, written, more_to_read) = (wire.received, wire.written, wire.has_more());
        let held = (mux.memory() + wire.excess()) as u64;
        conn.stamp = wire.stamp;
        let now_ready = !session.ready && opening == Opening::Whole && !broken;
        session.ready |= now_ready;
        let more = (received - conn.counted_received, written - conn.counted_written);
        (conn.counted_received, conn.counted_written) = (received, written);
        // Until then the time for connecting runs.
        if session.ready && more != (0, 0) {
            conn.progress = self.now;
        }
        let (shadow, link, has_unflushed) = (conn.shadow, conn.link, !conn.unflushed.is_empty());
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.totals.written_bytes += more.1;
            target.totals.discarded_bytes += more.0;
            if now_ready {
                target.succeeded();
                target.pace.settled(link);
                target.totals.connections += 1;
                target.totals.connects += 1;
            }
        }
        let broken = broken || !self.book_extra(index, held.saturating_sub(CONNECTION_BYTES / 2));
        let windows = self.take_windows(index, &said);
        let broken = broken || windows.is_none();
        if flushed && has_unflushed {
            self.flushed(index, began);
        }
        if flushed {
            self.feed(index);
        }
        for one in said.drain(..) {
            self.hear(index, one);
        }
        self.said = said;
        if windows == Some(true) {
            self.send_all(index);
        }
        if more_to_read {
            self.wake(index);
        }
        let draining = self.conns.get(index as usize).and_then(|conn| conn.draining);
        let why = match failed {
            _ if opening == Opening::Other => Some(Failed::NotH2),
            _ if broken => Some(Failed::BadResponse),
            Some(ErrorKind::InvalidData) => Some(Failed::Tls),
            _ if (eof || failed.is_some()) && draining.is_some_and(|code| code != code::NO_ERROR) => {
                Some(Failed::GoAway)
            }
            _ if eof => Some(Failed::ClosedEarly),
            Some(_) => Some(Failed::Reset),
            None => None,
        };
        if let Some(why) = why {
            return self.lost(index, why);
        }
        let waits = self.link(link).is_some_and(|link| link.held_up && !link.waiting.is_empty());
        if flushed && waits {
            self.mark_dirty(link);
        }
    }

    /// Books what a connection holds beyond what every one is booked with; whether there is room for it.
    fn book_extra(&mut self, index: u32, extra: u64) -> bool {
        let Some(conn) = self.conns.get_mut(index as usize) else { return true };
        let Some(target) = self.books.targets.get_mut(conn.shadow) else { return true };
        let more = extra.saturating_sub(conn.extra);
        if more > 0 && !target.queued.take(more) {
            return false;
        }
        target.queued.give(conn.extra.saturating_sub(extra));
        conn.extra = extra;
        true
    }

    /// A connection has something to do.
    pub(super) fn wake(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && !std::mem::replace(&mut conn.woken, true)
        {
            self.woken.push(index);
        }
    }

    /// A connection takes no new streams, and those behind `last` were not looked at: what is open may still be answered
    /// there, the rest goes elsewhere.
    pub(super) fn drain(&mut self, index: u32, last: u32, why: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.opened == 0 {
            return self.lost_unused(index, Failed::GoAway, false);
        }
        conn.draining = Some(why);
        let (id, answers) = (conn.link, conn.answers);
        let behind: Vec<u32> = conn.open.range(last.saturating_add(1)..).map(|(_, at)| *at).collect();
        if let Some(link) = self.link_mut(id)
            && link.conn == Some(index)
        {
            link.conn = None;
        }
        // RFC 9113 section 6.8.
        let loss = if answers > 0 { Loss::Behind } else { Loss::Unprocessed };
        for at in behind {
            self.lose(at, Failed::GoAway, loss);
        }
        if self.conns.get(index as usize).is_some_and(|conn| conn.open.is_empty()) {
            self.close(index, false);
        }
        if self.link(id).is_some_and(|link| !link.waiting.is_empty()) {
            self.mark_dirty(id);
        }
    }

    /// A connection that carried nothing is gone. If copies wait for it, its target failed: one that takes connections and drops
    /// them at once would be tried for ever.
    fn lost_unused(&mut self, index: u32, why: Failed, reset: bool) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let waits = self.link(conn.link).is_some_and(|link| !link.waiting.is_empty());
        if waits || !conn.is_ready() {
            self.connect_failed(index, why);
        } else {
            self.close(index, reset);
        }
    }

    /// A connection is gone, or is to go: what it carried is lost, what waits goes on elsewhere.
    pub(super) fn lost(&mut self, index: u32, why: Failed) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if !conn.is_ready() || conn.opened == 0 && conn.draining.is_none() {
            return self.lost_unused(index, why, true);
        }
        let (id, received, answers) = (conn.link, conn.received(), conn.answers);
        let timed_out = matches!(why, Failed::HeadTimeout | Failed::IdleTimeout);
        while let Some(at) =
            self.conns.get(index as usize).and_then(|conn| conn.open.last_key_value()).map(|(_, at)| *at)
        {
            let race = self.copies.get(at as usize).is_some_and(|copy| {
                !timed_out
                    && copy.idempotent
                    && answers > 0
                    && (!copy.flushed || received <= copy.received_then)
            });
            self.lose(at, why, if race { Loss::Race } else { Loss::Final });
        }
        self.close(index, true);
        self.mark_dirty(id);
    }

    /// Takes a connection away: in good order, or with a reset.
    pub(super) fn close(&mut self, index: u32, reset: bool) {
        let now = self.now;
        let Some(mut conn) = self.conns.try_remove(index as usize) else { return };
        let was_ready = conn.is_ready();
        let transport = match std::mem::replace(&mut conn.state, State::Gone) {
            State::Gone => None,
            State::Connecting(transport) => Some(transport),
            State::Open(session) => {
                let mut wire = session.wire;
                if !reset {
                    Mux::goodbye(wire.out());
                    wire.flush();
                }
                Some(wire.transport)
            }
        };
        if let Some(link) = self.link_mut(conn.link)
            && link.conn == Some(index)
        {
            link.conn = None;
        }
        let Some(target) = self.books.targets.get_mut(conn.shadow) else { return };
        target.connections.give(1);
        target.queued.give(CONNECTION_BYTES + conn.handed + conn.extra);
        if let Some(transport) = transport {
            self.books.close(conn.shadow, transport, was_ready, reset, (&self.registry, now));
        }
        self.books.settled(conn.shadow, conn.link);
    }
}

/// What a failed `connect` says of the target: one that knows the name of no protocol but HTTP/1.1 says so in TLS.
pub(super) fn failure(error: &std::io::Error) -> Failed {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => Failed::NotH2,
        _ => connect_failure(error),
    }
}
