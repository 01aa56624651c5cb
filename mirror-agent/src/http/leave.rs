//! Leaving HTTP/1: HTTP/2 with prior knowledge or by upgrade, WebSocket, tunnels.
//!
//! A request asks to leave, a response agrees. Where the response was not seen the client's next bytes tell: the HTTP/2
//! preface and the frames of a WebSocket client do not look like a request, and a client sends them only when it was
//! answered 101. What else an upgrade may lead to is not known, so there only the response counts.

use super::connection::{Connection, Mode};
use super::h2::{self, PREFACE};
use super::input::{Input, Tally};
use super::message::{AbortReason, Events, H2Error, Leaves, NotHttp, TunnelEnd, Waiting};
use super::ws;

/// What the bytes after a request to leave are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Too few to tell.
    More,
    /// The next request: the wish was not granted.
    Request,
    /// What the request asked for.
    Left,
}

impl Connection {
    /// A request to leave ended and its answer was not seen.
    pub(super) fn leaving(
        &mut self,
        leaves: Leaves,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        if self.framer.at_boundary() {
            match next(leaves, &input.bytes[at..]) {
                Next::More => {}
                next => {
                    self.decided(leaves, next, ev);
                    return at;
                }
            }
            self.gathered_with = (input.segment_start && at == 0, input.read);
        }
        // Cut within the first few bytes: seldom, so byte by byte.
        while at < input.bytes.len() {
            self.framer.gather(&input.bytes[at..=at]);
            at += 1;
            match next(leaves, self.framer.gathered()) {
                Next::More => {}
                next => {
                    self.decided(leaves, next, ev);
                    self.pump_gathered(input.pos + at as u64, input, ev, tally);
                    return at;
                }
            }
        }
        at
    }

    fn decided(&mut self, leaves: Leaves, next: Next, ev: &mut impl Events) {
        if next == Next::Left {
            return self.leave(leaves, ev);
        }
        // Servers may ignore an upgrade. Other protocols do not look like a request.
        self.maybe_left = true;
        self.mode = Mode::Sync;
    }

    /// A request that asked to leave HTTP/1 was answered.
    pub(super) fn left(&mut self, leaves: Leaves, left: bool, ev: &mut impl Events, tally: &mut Tally) {
        if let Some(current) = &mut self.current
            && current.leaves.is_some()
        {
            current.left = Some(left);
        } else if left {
            match self.mode {
                Mode::H2 | Mode::Tunnel | Mode::Off(_) => {}
                Mode::Leaving(_) => self.left_while_waiting(leaves, ev, tally),
                Mode::Search(_) if leaves == Leaves::H2c => {
                    self.stop(NotHttp::Http2Waiting, ev, tally);
                    self.wait(Waiting::Gap);
                }
                Mode::Opening | Mode::First | Mode::Sync | Mode::Last | Mode::Search(_) => {
                    // Whatever was taken for a request since was none.
                    self.abandon(ev, tally);
                    self.stop(NotHttp::Tunnel, ev, tally);
                }
            }
        } else if matches!(self.mode, Mode::Leaving(_)) {
            self.mode = if self.closing { Mode::Off(NotHttp::Unknown) } else { Mode::Sync };
        } else {
            self.maybe_left = false;
        }
    }

    /// The client has left HTTP/1.
    pub(super) fn leave(&mut self, leaves: Leaves, ev: &mut impl Events) {
        match leaves {
            Leaves::H2c => self.begin_h2(true, ev),
            Leaves::WebSocket => {
                ev.tunnel(self.time);
                self.tunnel = Some(Box::default());
                self.mode = Mode::Tunnel;
            }
            Leaves::Connect | Leaves::Other => self.mode = Mode::Off(NotHttp::Tunnel),
        }
    }

    /// The primary agreed while the client's first bytes waited to be told apart.
    pub(super) fn left_while_waiting(&mut self, leaves: Leaves, ev: &mut impl Events, tally: &mut Tally) {
        self.leave(leaves, ev);
        let pos = self.next.unwrap_or(0);
        let input =
            Input { bytes: &[], pos, time: self.time, ack: self.ack, segment_start: false, read: None };
        self.pump_gathered(pos, &input, ev, tally);
    }

    /// Takes what was gathered before `end` through the new mode.
    pub(super) fn pump_gathered(
        &mut self,
        end: u64,
        like: &Input<'_>,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) {
        let gathered = self.framer.take();
        let pos = end.saturating_sub(gathered.len() as u64);
        let (segment_start, read) = self.gathered_with;
        self.pump(&Input { bytes: &gathered, pos, segment_start, read, ..*like }, ev, tally);
    }

    /// The bytes that come are HTTP/2. `upgraded`: by the HTTP/1 request told last.
    pub(super) fn begin_h2(&mut self, upgraded: bool, ev: &mut impl Events) {
        ev.h2_begin(upgraded);
        self.h2 = Some(Box::new(h2::Requests::new(&self.limits, upgraded)));
        self.mode = Mode::H2;
    }

    /// Bytes of an HTTP/2 connection.
    pub(super) fn speak_h2(&mut self, input: &Input<'_>, at: usize, ev: &mut impl Events, tally: &mut Tally) {
        let place = h2::Place {
            pos: input.pos + at as u64,
            time: input.time,
            proxied: self.proxied,
            limits: &self.limits,
        };
        let Some(h2) = &mut self.h2 else { return };
        if let Err(why) = h2.data(&input.bytes[at..], place, ev, tally) {
            ev.h2_error(why);
            self.unanswered_streams += h2.heads();
            self.h2 = None;
            self.mode = Mode::Off(NotHttp::Http2);
            return;
        }
        if at < input.bytes.len() {
            ev.h2_bytes(&input.bytes[at..], input.pos + at as u64, input.time);
        }
    }

    /// The compression state of the HTTP/2 connection is lost.
    pub(super) fn lose_h2(&mut self, ev: &mut impl Events, tally: &mut Tally) {
        self.end_h2(AbortReason::Gap, NotHttp::Http2Waiting, ev, tally);
        self.wait(Waiting::Gap);
    }

    /// The client is waited for to reconnect.
    pub(super) fn wait(&mut self, why: Waiting) {
        self.waiting = Some(why);
        self.mode = match why {
            Waiting::Gap => Mode::Off(NotHttp::Http2Waiting),
            Waiting::MidStream => Mode::Search(Some(NotHttp::Http2Waiting)),
        };
    }

    /// No stream goes on; bytes that waited count as `as_what`.
    pub(super) fn end_h2(
        &mut self,
        why: AbortReason,
        as_what: NotHttp,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) {
        let Some(mut h2) = self.h2.take() else { return };
        h2.abort_all(why, ev);
        tally.out(Some(as_what), h2.held(), ev);
        self.unanswered_streams += h2.heads();
        self.mode = Mode::Off(as_what);
    }

    /// Tells how much memory the state of HTTP/2 takes; without room for more it is given up.
    pub(super) fn settle_memory(&mut self, ev: &mut impl Events, tally: &mut Tally) {
        let now = self.h2.as_ref().map_or(0, |h2| h2.memory());
        let Some(delta) = self.told_memory.change(now) else { return };
        if !ev.h2_memory(delta) && self.h2.is_some() {
            self.end_h2(AbortReason::ConnectionError, NotHttp::Http2, ev, tally);
            ev.h2_error(H2Error::NoRoom);
            if let Some(delta) = self.told_memory.change(0) {
                ev.h2_memory(delta);
            }
        }
    }

    /// Bytes of a WebSocket client.
    pub(super) fn speak_ws(
        &mut self,
        input: &Input<'_>,
        at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        let Some(tunnel) = &mut self.tunnel else { return input.bytes.len() };
        let bytes = &input.bytes[at..];
        let seen = tunnel.feed(bytes);
        tally.parsed += seen.taken as u64;
        if seen.taken > 0 {
            ev.tunnel_data(&bytes[..seen.taken], input.time);
        }
        if seen.frames > 0 || seen.payload > 0 {
            ev.tunnel_frames(seen.frames, seen.payload);
        }
        if seen.taken < bytes.len() {
            self.end_tunnel(TunnelEnd::Malformed, ev);
        }
        at + seen.taken
    }

    /// The client's direction is over.
    pub(super) fn close_tunnel(&mut self, ev: &mut impl Events) {
        let close_frame = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_closing());
        self.end_tunnel(TunnelEnd::Closed { close_frame }, ev);
    }

    pub(super) fn end_tunnel(&mut self, why: TunnelEnd, ev: &mut impl Events) {
        if self.tunnel.take().is_some() {
            ev.tunnel_end(why);
            self.mode = Mode::Off(NotHttp::Tunnel);
        }
    }
}

/// Judges the bytes after a request to leave; more of them do not change what is not [`Next::More`].
fn next(leaves: Leaves, bytes: &[u8]) -> Next {
    match leaves {
        Leaves::H2c if bytes.starts_with(PREFACE) => Next::Left,
        Leaves::H2c if PREFACE.starts_with(bytes) => Next::More,
        Leaves::WebSocket if ws::may_begin(bytes) => {
            if bytes.len() < 2 {
                Next::More
            } else {
                Next::Left
            }
        }
        // A client that goes on after a refused CONNECT waits for the refusal, so it would have been seen; and what is in
        // a tunnel may look like requests.
        Leaves::Connect => Next::Left,
        _ => Next::Request,
    }
}
