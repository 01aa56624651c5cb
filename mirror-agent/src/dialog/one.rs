//! One connection: its two sides, which of them asks, and what waits.

use std::collections::VecDeque;

use super::replies::{Replies, Streams, begins_http2};
use super::shared::{HELD_OVERHEAD, Held, Shared};
use super::side::{Place, Side};
use super::syns::Opened;
use super::told::Told;
use super::waiting::Waiting;
use super::{Answered, ConnInfo, DialogLimits, Observer, Which, hash};
use crate::flow::{Chunk, Evidence, FlowId, FlowInfo, Gap, Start};
use crate::http::{self, Asked, Connection, Pickup, ResponseHead, is_status_line};
use crate::packet::{Peer, Seq};

pub(super) struct Dialog<O: Observer> {
    sides: [Side; 2],
    /// Which side asks.
    client: Option<usize>,
    /// What each side is read with as long as it may be the one that asks.
    http: [Option<Box<Connection>>; 2],
    replies: Option<Box<Replies>>,
    waiting: Waiting,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// It is on the list of those that hold too much.
    pub(super) overdue: bool,
    conn: Option<O::Conn>,
}

impl<O: Observer> Dialog<O> {
    /// A connection between two ends; `opened` if its SYN was seen, `server` if the user said who serves.
    pub(super) fn new(a: Peer, b: Peer, opened: Option<Opened>, server: Option<Peer>) -> Self {
        let side =
            |peer| Side { peer, flow: None, place: None, seen: false, done: false, start: Start::MidStream };
        let mut sides = [side(a), side(b)];
        let client = match (server, opened) {
            (Some(server), _) => Some(usize::from(server == a)),
            (None, Some(opened)) => Some(usize::from(opened.client == b)),
            (None, None) => None,
        };
        if let Some(Opened { client, isn: Some(isn), .. }) = opened {
            sides[usize::from(client == b)].place = Some(Place { origin: isn.plus(1), next: 0 });
        }
        Self {
            sides,
            client,
            http: [None, None],
            replies: None,
            waiting: Waiting::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            overdue: false,
            conn: None,
        }
    }

    /// Whether a new flow of this side begins another connection.
    pub(super) fn is_over_for(&self, side: usize) -> bool {
        self.sides[side].seen
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sides.iter().all(|side| side.flow.is_none())
    }

    /// The flow of the side that answers as far as is known, if `peer` is that side.
    pub(super) fn server_flow(&self, peer: Peer) -> Option<FlowId> {
        let side = self.sides.iter().position(|side| side.peer == peer)?;
        if self.client == Some(side) {
            return None;
        }
        self.sides[side].flow.map(|(flow, _)| flow)
    }

    /// The client's flow, while it is in the table.
    pub(super) fn client_flow(&self) -> Option<FlowId> {
        self.sides[self.client?].flow.map(|(flow, _)| flow)
    }

    /// The number of a side, while it is in the table.
    pub(super) fn half(&self, side: usize) -> Option<usize> {
        self.sides[side].flow.map(|(_, half)| half)
    }

    pub(super) fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// A side appeared in the flow table.
    pub(super) fn open(&mut self, side: usize, half: usize, flow: &FlowInfo, http: &http::Limits) {
        let place = Some(Place { origin: flow.origin, next: 0 });
        let peer = self.sides[side].peer;
        self.sides[side] =
            Side { peer, flow: Some((flow.id, half)), place, seen: true, done: false, start: flow.start };
        if self.client == Some(1 - side) {
            self.replies = Some(Box::new(Replies::new(flow.start == Start::Syn, true)));
        } else {
            self.http[side] = Some(Box::new(Connection::new(flow.start, http, Pickup::Trust)));
        }
    }

    /// Takes the side that is still open out of this connection and into `other`, which begins anew.
    pub(super) fn hand_over(&mut self, side: usize, other: &mut Self, http: &http::Limits) {
        other.sides[side] = Side { start: Start::MidStream, ..self.sides[side] };
        self.sides[side].flow = None;
        if other.client.is_none() {
            other.client = self.client;
        }
        if other.client.is_some() {
            other.replies = Some(Box::new(Replies::new(false, false)));
        }
        if other.client != Some(1 - side) {
            other.http[side] = Some(Box::new(Connection::new(Start::MidStream, http, Pickup::Prove)));
        }
    }

    /// The next bytes of a side.
    pub(super) fn data(&mut self, side: usize, chunk: &Chunk<'_>, shared: &mut Shared<'_, O>) {
        match self.client {
            Some(client) if client == side => self.request_data(side, chunk, shared),
            Some(_) => self.response_data(chunk, shared),
            None if chunk.segment_start && self.answers(side, chunk.bytes) => {
                self.decide(1 - side, shared);
                self.response_data(chunk, shared);
            }
            None => self.request_data(side, chunk, shared),
        }
        let end = chunk.pos + chunk.bytes.len() as u64;
        if let Some(place) = &mut self.sides[side].place {
            place.next = end;
        }
        self.release(false, shared);
    }

    /// The next bytes of a side are missing for good.
    pub(super) fn gap(&mut self, side: usize, gap: &Gap, shared: &mut Shared<'_, O>) {
        shared.bytes.gaps += gap.len;
        shared.bytes.holes += 1;
        if self.client == Some(1 - side) {
            if self.held.is_empty() {
                self.response_gap(gap, shared);
            } else {
                self.held.push_back(Held::Gap(*gap));
            }
        } else {
            self.with_http(side, None, shared, |http, told| http.gap(gap, told));
        }
        if let Some(place) = &mut self.sides[side].place {
            place.next = gap.pos + gap.len;
        }
        self.release(false, shared);
    }

    /// A side ended its direction, and all of it was read.
    pub(super) fn half_close(&mut self, side: usize, shared: &mut Shared<'_, O>) {
        self.sides[side].done = true;
        self.with_http(side, None, shared, |http, told| http.half_close(told));
        self.release(false, shared);
    }

    /// A side left the flow table; `evicted` if it did not end.
    pub(super) fn leave(&mut self, side: usize, evicted: bool, shared: &mut Shared<'_, O>) {
        if evicted
            && self.client == Some(side)
            && let Some(conn) = &mut self.conn
        {
            shared.observer.evicted(conn);
        }
        self.sides[side].flow = None;
        self.sides[side].done = true;
        // What its responses wait for will not come.
        self.release(self.client == Some(side), shared);
        self.with_http(side, None, shared, |http, told| http.half_close(told));
    }

    /// Both sides left.
    pub(super) fn close(&mut self, shared: &mut Shared<'_, O>) {
        self.release(true, shared);
        for side in 0..2 {
            self.with_http(side, None, shared, |http, told| {
                http.close(told);
            });
            self.http[side] = None;
        }
        if let Some(replies) = self.replies.take() {
            replies.close(shared.h2_responses_memory);
        }
        *shared.unanswered -= self.waiting.extra_places();
        let unanswered = self.waiting.close();
        if let Some(conn) = self.conn.take() {
            shared.counters.unanswered += unanswered;
            shared.observer.close(conn);
        }
    }

    /// Reads what waits: all of it, or as far as what it acknowledges was read.
    pub(super) fn release(&mut self, all: bool, shared: &mut Shared<'_, O>) {
        while let Some(first) = self.held.front() {
            if let Held::Chunk { ack, .. } = first
                && !all
                && self.is_early(*ack)
            {
                break;
            }
            let Some(first) = self.held.pop_front() else { break };
            match first {
                Held::Gap(gap) => self.response_gap(&gap, shared),
                Held::Chunk { pos, bytes, time, ack, segment_start } => {
                    self.held_bytes -= bytes.len() + HELD_OVERHEAD;
                    *shared.held -= bytes.len() + HELD_OVERHEAD;
                    shared.bytes.buffered -= bytes.len().cast_signed() as i64;
                    self.respond(&Chunk { pos, bytes: &bytes, time, ack, segment_start }, shared);
                }
            }
        }
        if self.held.is_empty() && self.held.capacity() > 0 {
            self.held = VecDeque::new();
        }
    }

    fn request_data(&mut self, side: usize, chunk: &Chunk<'_>, shared: &mut Shared<'_, O>) {
        let read = self.sides[1 - side].place.zip(chunk.ack).and_then(|(place, ack)| place.position(ack));
        let asks = self.with_http(side, read.map(|read| (chunk.time, read)), shared, |http, told| {
            http.data(chunk, told);
        });
        if asks && self.client.is_none() {
            self.decide(side, shared);
        }
    }

    fn response_data(&mut self, chunk: &Chunk<'_>, shared: &mut Shared<'_, O>) {
        if self.held.is_empty() && !self.is_early(chunk.ack) {
            self.respond(chunk, shared);
            return;
        }
        let cost = chunk.bytes.len() + HELD_OVERHEAD;
        self.held_bytes += cost;
        *shared.held += cost;
        shared.bytes.buffered += chunk.bytes.len().cast_signed() as i64;
        self.held.push_back(Held::Chunk {
            pos: chunk.pos,
            bytes: chunk.bytes.into(),
            time: chunk.time,
            ack: chunk.ack,
            segment_start: chunk.segment_start,
        });
    }

    /// Whether too much waits here.
    pub(super) fn holds_too_much(&self, limits: &DialogLimits, total: usize) -> bool {
        self.held_bytes > limits.held_bytes_per_connection
            || (total > limits.held_bytes_total && !self.held.is_empty())
    }

    /// Whether `ack` is about requests that did not come yet, and still may.
    fn is_early(&self, ack: Option<Seq>) -> bool {
        let Some(side) = self.client.map(|client| &self.sides[client]) else { return false };
        let may_come = !side.done && (side.flow.is_some() || !side.seen);
        let acked = side.place.zip(ack).and_then(|(place, ack)| place.position(ack));
        may_come && side.place.zip(acked).is_some_and(|(place, acked)| acked > place.next)
    }

    /// Whether bytes at the beginning of a segment are those of a server.
    fn answers(&self, side: usize, bytes: &[u8]) -> bool {
        is_status_line(bytes)
            || (self.sides[side].place.is_some_and(|place| place.next == 0) && begins_http2(bytes))
    }

    /// Reads bytes of the response direction.
    fn respond(&mut self, chunk: &Chunk<'_>, shared: &mut Shared<'_, O>) {
        shared.bytes.responses += chunk.bytes.len() as u64;
        let Some(client) = self.client else { return };
        let Some(mut replies) = self.replies.take() else { return };
        let mut rest = chunk.bytes;
        if !replies.is_http2(rest) {
            let used = replies.http1(chunk, |head| self.answered(client, head, shared));
            rest = &rest[used..];
        }
        if !rest.is_empty() && replies.is_http2(rest) {
            let Shared { observer, counters, http, h2_responses_memory, .. } = shared;
            let mut streams =
                Streams { observer: *observer, conn: &mut self.conn, waiting: &mut self.waiting, counters };
            replies.http2(rest, chunk.time, http, h2_responses_memory, &mut streams);
        }
        self.replies = Some(replies);
    }

    /// A response head of HTTP/1 came. Gives what it answers.
    fn answered(&mut self, client: usize, head: &ResponseHead, shared: &mut Shared<'_, O>) -> Asked {
        let acked = self.sides[client].place.zip(head.ack).and_then(|(place, ack)| place.position(ack));
        if let Some(acked) = acked {
            let evidence = Evidence { acked, status: head.status, time: head.time };
            self.with_http(client, None, shared, |http, told| {
                http.response(&evidence, told);
            });
        }
        *shared.unanswered -= self.waiting.extra_places();
        let found = self.waiting.answer(head, acked);
        *shared.unanswered += self.waiting.extra_places();
        // The answer to a request that goes on in HTTP/2 is given there.
        let goes_on =
            head.status == 101 && found.is_some_and(|(number, ..)| self.waiting.h2c == Some(number));
        let interim = head.interim || goes_on;
        shared.counters.answered += u64::from(found.is_some() && !interim);
        shared.counters.answers_unmatched += u64::from(found.is_none() && !interim);
        let Some((number, asked, time)) = found else { return Asked::Unknown };
        if let Some(conn) = &mut self.conn {
            let (request, asked) = (Which::Nth(number), Some(time));
            let answer = Answered { request, status: head.status, time: head.time, interim, asked };
            shared.observer.answer(conn, &answer);
        }
        asked
    }

    fn response_gap(&mut self, gap: &Gap, shared: &mut Shared<'_, O>) {
        if let (Some(client), Some(mut replies)) = (self.client, self.replies.take()) {
            replies.gap(gap, |head| self.answered(client, head, shared));
            self.replies = Some(replies);
        }
        self.waiting.hole(gap.pos);
    }

    /// It is known now who asks.
    fn decide(&mut self, client: usize, shared: &mut Shared<'_, O>) {
        self.client = Some(client);
        let server = 1 - client;
        // Whatever it was taken for, it asks nothing.
        self.with_http(server, None, shared, |http, told| {
            http.close(told);
        });
        self.http[server] = None;
        if self.sides[server].flow.is_some() {
            let untouched = self.sides[server].place.is_some_and(|place| place.next == 0);
            self.replies = Some(Box::new(Replies::new(untouched, untouched)));
        }
    }

    /// Lets the HTTP room work on a side. True if it found a request.
    fn with_http(
        &mut self,
        side: usize,
        read: Option<(u64, u64)>,
        shared: &mut Shared<'_, O>,
        work: impl FnOnce(&mut Connection, &mut Told<'_, O>),
    ) -> bool {
        let Some(http) = &mut self.http[side] else { return false };
        let before = self.waiting.extra_places();
        let info = ConnInfo {
            client: self.sides[side].peer,
            server: self.sides[1 - side].peer,
            start: self.sides[side].start,
            origin: self.sides[side].place.map_or(Seq(0), |place| place.origin),
            hash: hash(self.sides[0].peer, self.sides[1].peer),
        };
        let mut told = Told {
            observer: shared.observer,
            conn: &mut self.conn,
            info: &info,
            waiting: &mut self.waiting,
            bytes: shared.bytes,
            unanswered_limit: if *shared.unanswered > shared.limits.unanswered_total {
                http::OWN_PLACES
            } else {
                shared.limits.unanswered
            },
            h2_memory: shared.h2_memory,
            unanswered_memory: shared.unanswered_memory,
            heads: shared.heads,
            read,
            asks: false,
        };
        work(http, &mut told);
        if usize::try_from(*told.heads).is_ok_and(|heads| heads > shared.limits.heads_total) {
            shared.counters.heads_given_up += 1;
            http.shed(&mut told);
        }
        let asks = told.asks;
        *shared.unanswered = *shared.unanswered - before + self.waiting.extra_places();
        asks
    }
}
