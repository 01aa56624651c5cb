//! Both directions of every connection of a capture: which side asks, what it asked, what was answered. Pure.
//!
//! A live tap knows the primary, sees segments in order, and shows of the responses only where they begin. A capture file
//! is otherwise: nobody says which side serves, a segment may stand behind the one it caused, and both payloads are there.
//! So each direction of a connection is a flow of its own in [`flow::Table`], with
//! [patience](crate::flow::Limits::acknowledged_hole_ns) for segments that come late in the file, and this room puts the
//! two together:
//!
//! ```text
//! segment -> syns (who opened)  -> flow::Table, once for its own direction, once as acknowledgement of the other
//!            both: which dialog and side a flow is
//!              dialog: who asks; holds responses back until what they acknowledge is there
//!                -> http::Connection -> Observer        (requests)
//!                -> http::ResponseReader -> waiting -> Observer   (which response answers which request)
//! ```
//!
//! **Who asks** is told by the ports that the user named, else by the SYN, else by what is said: the side that sends a
//! request asks, the side that begins a segment with a status line answers.
//!
//! **Cause before effect.** A response is read when all that it acknowledges of the requests was read or given up,
//! wherever the segments stand in the file.
//!
//! **Law of the bytes.** Captured payload = parsed + responses + not_http + skipped + duplicate + lost + buffered, the
//! last being 0 after [`Dialogs::finish`].

mod both;
mod clock;
mod limits;
mod one;
mod replies;
mod shared;
mod side;
mod syns;
mod told;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use mirror_common::record::Direction;

use crate::flow::{self, LostReason, Start, Table};
use crate::http::{self, Events, NotHttp};
use crate::packet::{FlowKey, Peer, Segment, Seq, TcpView};
use both::Both;
pub use clock::FileClock;
pub use limits::DialogLimits;

/// Segments between two looks at the clocks of the flow table.
const TICK_SEGMENTS: u32 = 256;
/// The file's time after which the clocks are looked at anyway, ns.
const TICK_NS: u64 = 10_000_000;

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Who asks.
    pub client: Peer,
    /// Who answers.
    pub server: Peer,
    /// How the client's direction was taken up.
    pub start: Start,
    /// Sequence number of the client's stream position 0.
    pub origin: Seq,
    /// The same for both directions of the connection.
    pub hash: u32,
}

/// A request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one before which so many others came, by [`Events::head`].
    Nth(u64),
    /// The one on this HTTP/2 stream.
    Stream(u32),
}

/// What was said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which request.
    pub request: Which,
    /// Status code.
    pub status: u16,
    /// Time of the first byte of the response head, ns.
    pub time: u64,
    /// A 1xx other than 101: the final response is still to come.
    pub interim: bool,
    /// Time of the last byte of the request's head, ns; unknown on HTTP/2.
    pub asked: Option<u64>,
}

/// The room after this one.
pub trait Observer {
    /// What the observer keeps for each connection that carries a request.
    type Conn;
    /// Who is told of one connection's requests.
    type Requests<'a>: Events
    where
        Self: 'a;

    /// The first request of a connection comes next.
    fn open(&mut self, info: &ConnInfo) -> Self::Conn;
    /// Whom to tell of the requests of a connection. The books of the bytes are kept here: [`Events::parsed`],
    /// [`Events::not_http`], [`Events::skipped`] and [`Events::buffered`] are not called.
    fn requests<'a>(&'a mut self, conn: &'a mut Self::Conn) -> Self::Requests<'a>;
    /// A response head, and which request it answers. Any time after that request's head.
    fn answer(&mut self, conn: &mut Self::Conn, answer: &Answered);
    /// The side that asks made room in the table, or was quiet for too long: what its requests lack is not their client's
    /// doing. The calls that end them follow, and [`Observer::close`] when the other side is gone too.
    fn evicted(&mut self, conn: &mut Self::Conn) {
        let _ = conn;
    }
    /// No call for this connection follows.
    fn close(&mut self, conn: Self::Conn);
}

/// Where captured TCP payload went, bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Payload in the file.
    pub captured: u64,
    /// Payload that was on the wire and is not in the file, because packets were cut. Beside the law.
    pub cut: u64,
    /// Part of a recognised request.
    pub parsed: u64,
    /// Sent by the side that answers.
    pub responses: u64,
    /// By [`NotHttp`].
    pub not_http: [u64; NotHttp::ALL.len()],
    /// Before the first provable request, or between a gap and the next one.
    pub skipped: u64,
    /// Seen before.
    pub duplicate: u64,
    /// By [`LostReason`].
    pub lost: [u64; LostReason::ALL.len()],
    /// Waiting behind holes, for a decision, or for requests.
    pub buffered: i64,
    /// Bytes that never came, in holes that were given up. Beside the law.
    pub gaps: u64,
    /// How many such holes there were.
    pub holes: u64,
}

impl Bytes {
    /// Whether the law of the bytes holds.
    #[must_use]
    pub fn balance(&self) -> bool {
        let told = self.parsed + self.responses + self.skipped + self.duplicate;
        let by_reason: u64 = self.not_http.iter().chain(&self.lost).sum();
        u64::try_from(self.buffered).is_ok_and(|buffered| self.captured == told + by_reason + buffered)
    }
}

/// What happened to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections with payload.
    pub connections: u64,
    /// Connections of which somebody turned out to be the client.
    pub with_client: u64,
    /// Connections that were under way when the capture began.
    pub midstream: u64,
    /// Final responses that were matched to a request.
    pub answered: u64,
    /// Final responses to requests that nobody saw.
    pub answers_unmatched: u64,
    /// Requests whose final response nobody saw.
    pub unanswered: u64,
    /// Times that too many responses waited for requests.
    pub held_overflows: u64,
    /// Times that a connection gave up an unfinished head because all of them held too much.
    pub heads_given_up: u64,
}

/// The connections of a capture.
pub struct Dialogs<O: Observer> {
    table: Table<usize>,
    flow_limits: flow::Limits,
    /// Of the tables before this one.
    earlier: flow::Counters,
    both: Both<O>,
    ports: BTreeSet<u16>,
    segments: u32,
    ticked: u64,
    clock: FileClock,
}

impl<O: Observer> Dialogs<O> {
    /// What a connection costs beside the places of its two directions in the flow table, bytes: what is known of it, two
    /// decoders, and what the observer keeps.
    pub const CONNECTION_BYTES: usize = Both::<O>::CONNECTION_BYTES;

    /// No connections yet. With `ports` those serve, and segments to and from others are left out.
    #[must_use]
    pub fn new(
        flow: flow::Limits,
        http: http::Limits,
        limits: DialogLimits,
        ports: BTreeSet<u16>,
        observer: O,
    ) -> Self {
        Self {
            table: Table::new(flow.clone()),
            flow_limits: flow,
            earlier: flow::Counters::default(),
            both: Both::new(http, limits, ports.clone(), observer),
            ports,
            segments: 0,
            ticked: 0,
            clock: FileClock::default(),
        }
    }

    /// Takes one segment, in the order of the file. False if its ports were not asked for. `sparse`: of a server's segments
    /// only those that begin an answer are in the file, so nothing that is missing before one will come.
    #[inline]
    pub fn segment(&mut self, view: &TcpView<'_>, time: u64, sparse: bool) -> bool {
        if !self.ports.is_empty()
            && !self.ports.contains(&view.src.port)
            && !self.ports.contains(&view.dst.port)
        {
            return false;
        }
        let time = self.clock.set(time);
        if view.flags.syn() {
            self.both.syn(view);
        }
        self.both.bytes.captured += view.payload.len() as u64;
        self.both.bytes.cut += u64::from(view.len) - view.payload.len() as u64;
        let there = Segment {
            flow: FlowKey { client: view.src, primary: view.dst },
            job: 0,
            direction: Direction::Request,
            hash: hash(view.src, view.dst),
            time,
            seq: view.seq,
            ack: view.ack,
            flags: view.flags,
            window: view.window,
            status: None,
            len: view.len,
            payload: view.payload,
        };
        self.table.segment(&there, &mut self.both);
        if sparse && (view.len as usize > view.payload.len() || view.flags.fin() || view.flags.rst()) {
            self.close_up(view);
        }
        let back = Segment {
            flow: FlowKey { client: view.dst, primary: view.src },
            direction: Direction::Response,
            payload: &[],
            ..there
        };
        self.table.segment(&back, &mut self.both);
        self.segments += 1;
        if self.segments >= TICK_SEGMENTS || time.saturating_sub(self.ticked) >= TICK_NS {
            self.tick(time);
        }
        self.relieve();
        true
    }

    /// The end of the capture: what waits is given up, every connection closed.
    pub fn finish(&mut self) {
        self.end(true);
    }

    /// The capture is left before its end: as [`Dialogs::finish`], but every connection is told to be
    /// [evicted](Observer::evicted).
    pub fn abandon(&mut self) {
        self.end(false);
    }

    fn end(&mut self, whole: bool) {
        self.both.ending = whole;
        // As if time went on and nothing more came: what waits longest is given up first, so that on both sides of a
        // connection things happen in their order.
        while let Some(deadline) = self.table.next_deadline() {
            self.table.tick(deadline, &mut self.both);
            self.relieve();
        }
        self.table.close_all(self.clock.now(), &mut self.both);
        self.both.ending = false;
    }

    /// Another capture follows, whose times have nothing to do with those before.
    pub fn restart(&mut self) {
        self.finish();
        self.earlier = self.flows();
        self.table = Table::new(self.flow_limits.clone());
        self.both.forget_syns();
        self.clock = FileClock::default();
        (self.segments, self.ticked) = (0, 0);
    }

    /// Where the bytes went.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.both.bytes
    }

    /// What happened to connections.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.both.counters
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.both.open()
    }

    /// Memory of the state of HTTP/2 connections, both directions, bytes.
    #[must_use]
    pub fn h2_memory(&self) -> u64 {
        self.both.h2_memory()
    }

    /// Memory of requests that wait for their response beyond what each connection has of its own, bytes.
    #[must_use]
    pub fn unanswered_memory(&self) -> u64 {
        self.both.unanswered_memory()
    }

    /// What happened in the flow table.
    #[must_use]
    pub fn flows(&self) -> flow::Counters {
        self.earlier.plus(self.table.counters())
    }

    /// The room after this one.
    pub fn observer(&mut self) -> &mut O {
        &mut self.both.observer
    }

    /// Gives up what is missing of the answers before the end of a segment.
    fn close_up(&mut self, view: &TcpView<'_>) {
        if let Some(flow) = self.both.server_flow(view.src, view.dst) {
            let end = view.seq.plus(view.len).plus(u32::from(view.flags.syn()));
            self.table.give_up_to(flow, end, &mut self.both);
        }
    }

    #[inline(never)]
    fn tick(&mut self, time: u64) {
        self.segments = 0;
        self.ticked = time;
        self.table.tick(time, &mut self.both);
    }

    /// Gives up holes that hold back too much.
    #[inline]
    fn relieve(&mut self) {
        while let Some((dialog, client)) = self.both.overdue() {
            if let Some(flow) = client {
                self.table.give_up(flow, &mut self.both);
            }
            self.both.release_all(dialog);
        }
    }
}

/// The same for both directions.
#[inline]
fn hash(a: Peer, b: Peer) -> u32 {
    const ODD: u32 = 0x9e37_79b1;
    let fold = |peer: Peer| {
        let [.., a, b, c, d] = peer.addr;
        (u32::from_ne_bytes([a, b, c, d]) ^ u32::from(peer.port).wrapping_mul(ODD)).wrapping_mul(ODD)
    };
    fold(a) ^ fold(b)
}
