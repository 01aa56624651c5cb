//! One HTTP/2 connection to a shadow.

use std::collections::BTreeMap;

use super::mux::Mux;
use super::wire::Wire;
use crate::replay::LinkId;
use crate::replay::transport::Transport;

/// A connection, from the moment `connect` was called.
#[derive(Debug)]
pub(super) struct Conn {
    /// Index of the target.
    pub(super) shadow: usize,
    /// Who opened it.
    pub(super) link: LinkId,
    pub(super) state: State,
    /// Copies on its streams.
    pub(super) open: BTreeMap<u32, u32>,
    /// Those of which something was handed over since the socket last took everything.
    pub(super) unflushed: Vec<u32>,
    /// Body bytes handed over since, which are still booked with the target.
    pub(super) handed: u64,
    /// Queue bytes booked for what it holds beyond [`super::CONNECTION_BYTES`].
    pub(super) extra: u64,
    /// Streams opened on it.
    pub(super) opened: u64,
    /// Answers completed on it.
    pub(super) answers: u64,
    /// A copy had something to hand over while the socket took nothing.
    pub(super) starved: bool,
    /// It takes no new streams: the shadow sent GOAWAY, with this code.
    pub(super) draining: Option<u32>,
    /// When it was asked for, then when it last moved, `CLOCK_MONOTONIC` ns.
    pub(super) progress: u64,
    /// `CLOCK_REALTIME` of the bytes read last, if the kernel told, ns.
    pub(super) stamp: Option<u64>,
    /// Of the wire's bytes, those that stand in the totals.
    pub(super) counted_received: u64,
    pub(super) counted_written: u64,
    /// In the list of connections with something to do.
    pub(super) woken: bool,
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum State {
    /// TCP or TLS shakes hands.
    Connecting(Transport),
    /// HTTP/2.
    Open(Box<Session>),
    /// Taken apart.
    Gone,
}

/// A connection that speaks HTTP/2 and the socket below it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) mux: Mux,
    pub(super) wire: Wire,
    /// The shadow's SETTINGS came.
    pub(super) ready: bool,
    /// Since when a sign of life is awaited, `CLOCK_MONOTONIC` ns, and bytes that had been received by then.
    asked: Option<(u64, u64)>,
    /// The answer to the PING is still to come.
    pinged: bool,
}

impl Conn {
    /// Copies can be sent, or could.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.state, State::Open(session) if session.ready)
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.counted_received
    }
}

impl Session {
    /// Speaks the preface on a connection that is ready.
    pub(super) fn begin(transport: Transport) -> Self {
        let mut wire = Wire::new(transport);
        let mux = Mux::begin(wire.out());
        Self { mux, wire, ready: false, asked: None, pinged: false }
    }

    /// Asks the shadow for a sign of life.
    pub(super) fn ask(&mut self, now: u64) {
        if self.asked.is_none() {
            if !std::mem::replace(&mut self.pinged, true) {
                Mux::ping(self.wire.out());
            }
            self.asked = Some((now, self.wire.received));
        }
    }

    /// The shadow has answered the PING.
    pub(super) fn pong(&mut self) {
        self.pinged = false;
    }

    /// Whether a sign of life is awaited.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it was asked for one and has given none for `patience` ns.
    pub(super) fn is_dead(&mut self, now: u64, patience: u64) -> bool {
        let Some((since, before)) = self.asked else { return false };
        let received = self.wire.received;
        if received > before {
            // Anything is a sign of life, though it may have been under way when it was asked for; so it goes on until the
            // answer to the ping.
            self.asked = self.pinged.then_some((now, received));
            return false;
        }
        now.saturating_sub(since) > patience
    }
}
