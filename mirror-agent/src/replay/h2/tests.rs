//! The HTTP/2 replayer against scripted servers on loopback: most speak frames by hand, so that each says exactly what
//! its test is about; one is the h2 crate's own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::*;
use crate::plan::FieldWriter;
use crate::replay::rig::{Excluded, clock, server};
use crate::replay::{
    Budget, Connections, Dropped, Failed, Ordering, Outcome, SHARED_LINKS, Settings, TargetConfig, Timeouts,
};

struct Rig {
    poll: Poll,
    replayer: H2Replayer,
    excluded: Excluded,
    outcomes: Vec<Outcome>,
    resent: usize,
    answered: usize,
    waited: usize,
    grpc_failed: usize,
    next_stream: u32,
}

/// Timeouts beyond what a machine stalls: nothing but a fault runs into them.
fn config(connections: Connections, queued: u64) -> TargetConfig {
    TargetConfig {
        settings: Settings {
            connections,
            ordering: Ordering::Connection,
            timeouts: Timeouts { connect: 20_000_000_000, head: 20_000_000_000, idle: 20_000_000_000 },
            linger: crate::replay::LINGER_NS,
        },
        tls: None,
        in_flight: Budget::new(400),
        connections: Budget::new(10),
        queued: Budget::new(queued),
    }
}

impl Rig {
    fn new(addr: SocketAddr) -> Self {
        Self::with(addr, &config(Connections::PerClient, 8 << 20))
    }

    /// For what has to run into a timeout.
    fn impatient(addr: SocketAddr) -> Self {
        let mut config = config(Connections::PerClient, 8 << 20);
        config.settings.timeouts = Timeouts { connect: 1_000_000_000, head: 500_000_000, idle: 500_000_000 };
        Self::with(addr, &config)
    }

    fn with(addr: SocketAddr, config: &TargetConfig) -> Self {
        let poll = Poll::new().unwrap();
        let excluded = Excluded::default();
        let registry = poll.registry().try_clone().unwrap();
        let mut replayer =
            H2Replayer::new(std::slice::from_ref(config), registry, Box::new(excluded.clone()), clock);
        replayer.set_addrs(0, &[addr]);
        Self {
            poll,
            replayer,
            excluded,
            outcomes: Vec::new(),
            resent: 0,
            answered: 0,
            waited: 0,
            grpc_failed: 0,
            next_stream: 1,
        }
    }

    fn begin(
        &mut self,
        slot: &mut H2Slot,
        method: &str,
        path: &str,
        body: Option<Option<u64>>,
    ) -> Option<H2Copy> {
        let start = H2Start {
            shadow: 0,
            client: 1,
            stream: self.next_stream,
            idempotent: method == "GET",
            end_stream: body.is_none(),
            content_length: body.flatten(),
            head_time: clock().0,
        };
        self.next_stream += 2;
        self.replayer.begin(&start, slot, |out| {
            let mut out = FieldWriter::new(out);
            for (name, value) in
                [(":method", method), (":scheme", "http"), (":authority", "a-shadow"), (":path", path)]
            {
                out.push(name.as_bytes(), &[value.as_bytes()], false);
            }
        })
    }

    fn get(&mut self, slot: &mut H2Slot, path: &str) -> Option<H2Copy> {
        let id = self.begin(slot, "GET", path, None);
        if let Some(id) = id {
            self.replayer.end(id);
        }
        id
    }

    fn post(&mut self, slot: &mut H2Slot, path: &str) -> H2Copy {
        self.begin(slot, "POST", path, Some(None)).unwrap()
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.replayer.flush();
        let wait = if self.replayer.is_busy() { 0 } else { 5 };
        self.poll.poll(&mut events, Some(Duration::from_millis(wait))).unwrap();
        self.replayer.set_now(clock().0);
        for event in &events {
            self.replayer.on_event(event);
        }
        self.replayer.flush();
        self.replayer.tick();
        for report in self.replayer.reports() {
            match report {
                H2Report::Copy(Report::Outcome { outcome, .. }) => self.outcomes.push(outcome),
                H2Report::Copy(Report::Resent { .. }) => self.resent += 1,
                H2Report::Copy(Report::Answered { latency_ns, .. }) => {
                    assert!(latency_ns < 5_000_000_000, "latency of {latency_ns} ns");
                    self.answered += 1;
                }
                H2Report::Copy(Report::Written { .. }) => {}
                H2Report::Waited { .. } => self.waited += 1,
                H2Report::GrpcFailed { .. } => self.grpc_failed += 1,
            }
        }
    }

    /// Turns until `holds`.
    #[track_caller]
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(15);
        while !holds(self) {
            assert!(Instant::now() < end, "it does not come to be: {what}; outcomes {:?}", self.outcomes);
            self.turn();
        }
    }

    /// Turns until nothing is unfinished, and gives the outcomes in order.
    fn settle(&mut self) -> Vec<Outcome> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            self.turn();
            if self.replayer.unfinished() == 0 {
                break;
            }
            assert!(Instant::now() < end, "still {} unfinished", self.replayer.unfinished());
        }
        std::mem::take(&mut self.outcomes)
    }

    /// Ends the client and checks that nothing is left of it.
    fn close(mut self, slot: H2Slot) {
        self.replayer.release(slot);
        for _ in 0..3 {
            self.turn();
        }
        let totals = self.replayer.totals(0);
        assert_eq!((totals.connections, totals.queued_bytes, self.replayer.unfinished()), (0, 0, 0));
        self.replayer.shutdown();
        assert_eq!(self.excluded.0.lock().unwrap().len(), 0);
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status 200`, indexed (RFC 7541 appendix A).
const OK: &[u8] = &[0x88];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A literal without indexing (RFC 7541 section 6.2.2), of a name and a value shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A server that speaks frames.
struct Peer(TcpStream);

impl Peer {
    /// Takes the preface and sends `settings`.
    fn begin(mut stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut peer = Self(stream);
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [id.to_be_bytes().to_vec(), value.to_be_bytes().to_vec()].concat())
            .collect();
        peer.send(SETTINGS, 0, 0, &payload);
        peer
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&frames(&[(kind, flags, stream, payload)])).unwrap();
    }

    fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, OK);
    }

    /// The next frame of a request, acknowledging settings on the way; `None` at the end.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.raw()?;
            match frame.kind {
                SETTINGS if frame.flags == 0 => self.send(SETTINGS, 1, 0, &[]),
                SETTINGS | WINDOW => {}
                _ => return Some(frame),
            }
        }
    }

    fn raw(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("the connection ended");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// No frame of a request comes for a while.
    fn nothing_comes(&mut self) {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(self.next(), None);
        self.0.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    }

    /// Answers every request until the end.
    fn answer_all(&mut self) -> usize {
        let mut count = 0;
        while let Some(frame) = self.next() {
            if frame.flags & END_STREAM != 0 {
                self.answer(frame.stream);
                count += 1;
            }
        }
        count
    }
}

const DELIVERED: Outcome = Outcome::Delivered { status: 200 };

fn failed(why: Failed, partial: bool) -> Outcome {
    Outcome::Failed { why, partial }
}

fn dropped(why: Dropped, partial: bool) -> Outcome {
    Outcome::Dropped { why, partial }
}

#[test]
fn the_copies_of_a_client_share_one_connection_and_need_not_wait_for_each_other() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let streams: Vec<_> = (0..3).map(|_| peer.until(HEADERS).stream).collect();
        // Answered in the reverse order.
        for stream in streams.iter().rev() {
            peer.answer(*stream);
        }
        assert_eq!(peer.until(GOAWAY).payload[4..8], [0; 4], "closed in good order");
        streams
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for path in ["/1", "/2", "/3"] {
        rig.get(&mut slot, path).unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 3]);
    assert_eq!((rig.answered, rig.replayer.totals(0).connects), (3, 1));
    assert_eq!(rig.excluded.0.lock().unwrap().len(), 1);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [[1, 3, 5]]);
}

#[test]
fn no_copy_is_sent_before_the_settings_of_the_shadow_came() {
    let (addr, thread) = server(1, |_, mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        let mut peer = Peer(stream);
        assert_eq!(peer.raw().unwrap().kind, SETTINGS);
        peer.nothing_comes();
        peer.send(SETTINGS, 0, 0, &[]);
        let head = peer.until(HEADERS);
        peer.answer(head.stream);
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn settings_may_come_a_byte_at_a_time() {
    let (addr, thread) = server(1, |_, mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        for byte in [0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9] {
            stream.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
        let mut peer = Peer(stream);
        let head = peer.until(HEADERS);
        peer.answer(head.stream);
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_shadow_that_stops_reading_and_goes_on_gets_every_byte_in_order() {
    const BODIES: usize = 4;
    const SIZE: usize = 4_000_000;
    let (goes_on, told) = std::sync::mpsc::channel();
    let (stops, stopped) = std::sync::mpsc::channel();
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[(4, 1 << 30)]);
        peer.send(WINDOW, 0, 0, &(1u32 << 30).to_be_bytes());
        peer.until(HEADERS);
        stops.send(()).unwrap();
        told.recv().unwrap();
        let (mut bodies, mut ended) = (HashMap::<u32, Vec<u8>>::new(), 0);
        while ended < BODIES {
            let frame = peer.until(DATA);
            bodies.entry(frame.stream).or_default().extend(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                ended += 1;
                peer.answer(frame.stream);
            }
        }
        peer.next();
        bodies
    });
    // Before the first copy: making them takes time, and a connection that is not turned to in time is late.
    let body = |n: usize| (0..SIZE).map(move |i| ((i / 7 + n * 31) % 251) as u8).collect::<Vec<_>>();
    let bodies: Vec<_> = (0..BODIES).map(body).collect();
    let mut rig = Rig::with(addr, &config(Connections::PerClient, 40_000_000));
    let mut slot = H2Slot::default();
    let ids: Vec<_> = (0..BODIES).map(|_| rig.post(&mut slot, "/")).collect();
    rig.until("a stream arrives", |_| stopped.try_recv().is_ok());
    for at in (0..SIZE).step_by(50_000) {
        for (id, body) in ids.iter().zip(&bodies) {
            rig.replayer.body(*id, &body[at..at + 50_000]);
        }
        rig.replayer.flush();
    }
    for id in ids {
        rig.replayer.end(id);
    }
    assert!(
        rig.replayer.totals(0).queued_bytes > 1_000_000,
        "the socket took everything: {:?}",
        rig.outcomes
    );
    goes_on.send(()).unwrap();
    assert_eq!(rig.settle(), [DELIVERED; BODIES]);
    rig.close(slot);
    let got = thread.join().unwrap().remove(0);
    for (n, body) in bodies.iter().enumerate() {
        let stream = 1 + 2 * n as u32;
        assert!(got[&stream] == *body, "stream {stream}: {} bytes", got[&stream].len());
    }
}

#[test]
fn a_shadow_that_allows_one_stream_gets_one_at_a_time_and_the_waiting_is_told() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[(3, 1)]);
        for _ in 0..3 {
            let head = peer.until(HEADERS);
            peer.nothing_comes();
            peer.answer(head.stream);
        }
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for _ in 0..3 {
        rig.get(&mut slot, "/").unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 3]);
    assert_eq!(rig.waited, 2);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_copy_that_gets_no_stream_in_time_fails_unsent() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[(3, 0)]);
        assert!(peer.next().is_none_or(|frame| frame.kind != HEADERS));
    });
    let mut rig = Rig::impatient(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [failed(Failed::NoStream, false)]);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_body_goes_out_as_it_comes_and_is_not_waited_for() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let head = peer.until(HEADERS);
        assert_eq!(head.flags & END_STREAM, 0);
        let mut said = Vec::new();
        loop {
            let frame = peer.until(DATA);
            said.push(frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
            // A bidirectional call: an answer to each message.
            if said.len() == 1 {
                peer.send(HEADERS, END_HEADERS, 1, OK);
            }
            peer.send(DATA, 0, 1, b"heard");
        }
        peer.send(DATA, END_STREAM, 1, b"");
        peer.next();
        said
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/chat");
    rig.replayer.body(id, b"one");
    rig.until("the answer's head comes before the request's end", |rig| rig.answered == 1);
    let before = rig.replayer.totals(0).written_bytes;
    rig.replayer.body(id, b"two");
    rig.until("the second message leaves", |rig| rig.replayer.totals(0).written_bytes > before);
    assert_eq!(rig.outcomes, []);
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [[&b"one"[..], b"two", b""]]);
}

#[test]
fn a_whole_body_known_at_once_ends_with_its_last_data_frame() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        let frame = peer.until(DATA);
        peer.answer(1);
        peer.next();
        (frame.payload, frame.flags)
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    rig.replayer.body(id, b"body");
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [(b"body".to_vec(), END_STREAM)]);
}

#[test]
fn the_windows_of_the_shadow_hold_a_body_back_and_no_byte_is_lost() {
    const SIZE: usize = 300_000;
    let (addr, thread) = server(1, |_, stream| {
        // 1000 bytes a stream; the connection has 65535.
        let mut peer = Peer::begin(stream, &[(4, 1000)]);
        peer.until(HEADERS);
        let (mut got, mut most): (Vec<u8>, usize) = (Vec::new(), 0);
        loop {
            let frame = peer.until(DATA);
            most = most.max(frame.payload.len());
            got.extend(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
            let credit = (frame.payload.len() as u32).to_be_bytes();
            peer.send(WINDOW, 0, 0, &credit);
            peer.send(WINDOW, 0, 1, &credit);
        }
        peer.answer(1);
        peer.next();
        (got, most)
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    let body: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    for piece in body.chunks(7000) {
        rig.replayer.body(id, piece);
        rig.turn();
    }
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    let (got, most) = thread.join().unwrap().remove(0);
    assert!(got == body && most <= 1000, "{} bytes in frames up to {most}", got.len());
}

/// Frames as bytes, to be sent in one go.
fn frames(all: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
    let one = |(kind, flags, stream, payload): &(u8, u8, u32, &[u8])| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([*kind, *flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(*payload);
        frame
    };
    all.iter().flat_map(one).collect()
}

#[test]
fn a_window_that_is_taken_back_is_not_used_after_it_was_agreed_to() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[(4, 1000)]);
        peer.until(HEADERS);
        let first = peer.until(DATA).payload.len();
        // Given 1000 and taken back 900 in one read.
        let smaller = [0, 4, 0, 0, 0, 100];
        let both = frames(&[(WINDOW, 0, 1, &1000u32.to_be_bytes()), (SETTINGS, 0, 0, &smaller)]);
        peer.0.write_all(&both).unwrap();
        let second = peer.until(DATA).payload.len();
        peer.nothing_comes();
        peer.send(WINDOW, 0, 1, &5000u32.to_be_bytes());
        let mut rest = 0;
        loop {
            let frame = peer.until(DATA);
            rest += frame.payload.len();
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        peer.answer(1);
        peer.next();
        (first, second, rest)
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    rig.replayer.body(id, &[b'x'; 3000]);
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [(1000, 100, 1900)]);
}

#[test]
fn a_malformed_head_is_no_answer_and_costs_its_own_stream_only() {
    let heads: Vec<Vec<u8>> = [
        // Of those, the first two are sound.
        literal("connection", "close"),
        [literal("content-length", "0"), literal("content-length", "0")].concat(),
        [literal("content-length", "0"), literal("content-length", "00")].concat(),
        literal("content-length", "-1"),
        literal("transfer-encoding", "chunked"),
        literal(":status", "200"),
        literal(":path", "/"),
        literal("Upper", "x"),
        literal("", "x"),
        literal("a b", "x"),
        literal("a", "x\r\nb: y"),
        literal("a", "x "),
    ]
    .into_iter()
    .map(|rest| [OK, &rest].concat())
    .collect();
    let count = heads.len();
    let trailers = literal(":status", "200");
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let mut answer = |flags, block: &[u8]| {
            let copy = peer.until(HEADERS);
            peer.send(HEADERS, END_HEADERS | flags, copy.stream, block);
            copy.stream
        };
        for head in &heads {
            answer(END_STREAM, head);
        }
        let last = answer(0, OK);
        peer.send(HEADERS, END_HEADERS | END_STREAM, last, &trailers);
        peer.answer_all()
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for n in 0..=count {
        rig.get(&mut slot, "/").unwrap();
        let outcome = if n < 2 { DELIVERED } else { failed(Failed::BadResponse, true) };
        assert_eq!(rig.settle(), [outcome], "{n}");
    }
    rig.get(&mut slot, "/after").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    assert_eq!(rig.replayer.totals(0).connects, 1);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [1]);
}

#[test]
fn a_goodbye_on_a_connection_that_nobody_uses_holds_nobody_up() {
    let (addr, thread) = server(2, |i, stream| {
        let mut peer = Peer::begin(stream, &[]);
        if i == 1 {
            return peer.answer_all();
        }
        peer.send(GOAWAY, 0, 0, &[0; 8]);
        // Nothing is said to a client that may be gone.
        while peer.raw().is_some() {}
        0
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let taken_back = rig.get(&mut slot, "/").unwrap();
    rig.replayer.abort(taken_back, Dropped::ClientReset, None);
    rig.until("the connection came and went", |rig| {
        let totals = rig.replayer.totals(0);
        (totals.connects, totals.connections) == (1, 0)
    });
    rig.get(&mut slot, "/next").unwrap();
    assert_eq!(rig.settle(), [dropped(Dropped::ClientReset, false), DELIVERED]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [0, 1]);
}

#[test]
fn what_a_shadow_makes_a_connection_hold_is_booked_and_ends_it_where_there_is_no_room() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        // A header block that does not end.
        let block: &[u8] = &[0x82; 16_000];
        let endless = frames(&[(HEADERS, 0, 1, block), (9, 0, 1, block), (9, 0, 1, block)]);
        // It may be hung up on before all is written.
        let _hung_up = peer.0.write_all(&endless);
        while peer.raw().is_some() {}
    });
    // Room for the connection and little more.
    let mut rig = Rig::with(addr, &config(Connections::PerClient, CONNECTION_BYTES + 8_000));
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [failed(Failed::BadResponse, true)]);
    rig.replayer.release(slot);
    assert_eq!(rig.replayer.totals(0).queued_bytes, 0);
    drop(rig);
    thread.join().unwrap();
}

#[test]
fn a_body_over_the_budget_is_reset_and_counted_as_partial() {
    let (tells, told) = std::sync::mpsc::channel();
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[(4, 0)]);
        peer.until(HEADERS);
        tells.send(()).unwrap();
        let reset = peer.until(RST);
        peer.next();
        reset
    });
    let mut rig = Rig::with(addr, &config(Connections::PerClient, 200_000));
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    rig.until("the head arrives", |_| told.try_recv().is_ok());
    for _ in 0..40 {
        rig.replayer.body(id, &[7; 10_000]);
        rig.turn();
        assert!(rig.replayer.totals(0).queued_bytes <= 200_000);
    }
    assert_eq!(rig.settle(), [dropped(Dropped::QueueFull, true)]);
    rig.close(slot);
    let reset = thread.join().unwrap().remove(0);
    assert_eq!((reset.stream, reset.payload), (1, 8u32.to_be_bytes().to_vec()));
}

#[test]
fn a_reset_of_the_client_becomes_a_reset_at_the_shadow_with_its_code() {
    let (tells, told) = std::sync::mpsc::channel();
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let (mut resets, mut ended) = (Vec::new(), 0);
        while let Some(frame) = peer.next() {
            ended += usize::from(frame.kind != RST && frame.flags & END_STREAM != 0);
            if frame.kind == DATA {
                tells.send(()).unwrap();
            }
            if frame.kind == RST {
                resets.push((frame.stream, frame.payload));
            }
        }
        (resets, ended)
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    rig.replayer.body(id, b"half of it");
    rig.until("half of it arrives", |_| told.try_recv().is_ok());
    rig.replayer.abort(id, Dropped::ClientReset, Some(2));
    // Not on a stream yet: nobody hears of it.
    let early = rig.post(&mut slot, "/early");
    rig.replayer.abort(early, Dropped::ClientReset, Some(8));
    assert_eq!(rig.settle(), [dropped(Dropped::ClientReset, true), dropped(Dropped::ClientReset, false)]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [(vec![(1, 2u32.to_be_bytes().to_vec())], 0)]);
}

#[test]
fn a_client_that_takes_back_a_whole_request_takes_back_its_copy() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        peer.send(HEADERS, END_HEADERS, 1, OK);
        let reset = peer.until(RST);
        peer.next();
        reset
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/watch").unwrap();
    rig.until("the answer begins", |rig| rig.answered == 1);
    rig.replayer.cancel(slot, 0, 1, 3, 8);
    rig.replayer.cancel(slot, 0, 2, 1, 8);
    assert_eq!(rig.replayer.unfinished(), 1, "other streams and other clients");
    rig.replayer.cancel(slot, 0, 1, 1, 8);
    assert_eq!(rig.settle(), [dropped(Dropped::ClientCancelled, true)]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap()[0].stream, 1);
}

#[test]
fn streams_behind_the_last_one_of_a_goaway_are_sent_once_more_on_a_new_connection() {
    let (addr, thread) = server(2, |i, stream| {
        let mut peer = Peer::begin(stream, &[]);
        if i == 1 {
            return peer.answer_all();
        }
        // Four heads and a body.
        for _ in 0..5 {
            peer.next().unwrap();
        }
        let mut goaway = 3u32.to_be_bytes().to_vec();
        goaway.extend(0u32.to_be_bytes());
        peer.send(GOAWAY, 0, 0, &goaway);
        // What it has taken it still answers.
        peer.answer(3);
        peer.answer(1);
        peer.next();
        2
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for path in ["/1", "/2"] {
        rig.get(&mut slot, path).unwrap();
    }
    // A small body is kept, so a POST that nobody looked at can go again too.
    let id = rig.post(&mut slot, "/3");
    rig.replayer.body(id, b"small");
    rig.replayer.end(id);
    rig.get(&mut slot, "/4").unwrap();
    assert_eq!(rig.settle(), [DELIVERED; 4]);
    assert_eq!((rig.resent, rig.replayer.totals(0).connects), (2, 2));
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [2, 2]);
}

#[test]
fn a_shadow_that_says_goodbye_again_and_again_loses_nothing_as_long_as_it_answers() {
    let (addr, thread) = server(3, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        peer.until(HEADERS);
        peer.answer(1);
        peer.answer(3);
        peer.send(GOAWAY, 0, 0, &[3u32.to_be_bytes(), [0; 4]].concat());
        while peer.next().is_some() {}
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for _ in 0..6 {
        rig.get(&mut slot, "/").unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 6]);
    assert_eq!(rig.replayer.totals(0).connects, 3);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_copy_that_was_refused_twice_has_failed() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let mut heads = 0;
        while let Some(frame) = peer.next() {
            if frame.kind == HEADERS {
                heads += 1;
                peer.send(RST, 0, frame.stream, &7u32.to_be_bytes());
            }
        }
        heads
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [failed(Failed::RefusedStream, true)]);
    assert_eq!(rig.resent, 1);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [2]);
}

#[test]
fn resets_of_the_shadow_are_told_apart() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        for code in [2u32, 13] {
            let head = peer.until(HEADERS);
            peer.send(RST, 0, head.stream, &code.to_be_bytes());
        }
        // Answered, and no more of the request is wanted.
        let head = peer.until(HEADERS);
        peer.answer(head.stream);
        peer.send(RST, 0, head.stream, &0u32.to_be_bytes());
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [failed(Failed::StreamReset, true)]);
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [failed(Failed::NotH2, true)]);
    let id = rig.post(&mut slot, "/");
    rig.replayer.body(id, b"begun");
    assert_eq!(rig.settle(), [failed(Failed::ClosedEarly, true)]);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_copy_that_is_answered_before_its_end_is_delivered_at_its_end() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        peer.answer(1);
        let mut got = Vec::new();
        while let Some(frame) = peer.next() {
            got.extend(frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        peer.next();
        got
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/");
    rig.replayer.body(id, b"a");
    rig.until("the answer comes", |rig| rig.answered == 1);
    assert_eq!(rig.outcomes, []);
    rig.replayer.body(id, b"b");
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [b"ab"]);
}

#[test]
fn a_shadow_that_speaks_only_http_1_is_named_and_left_alone() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], b"<!DOCTYPE HTML>", b"HTTP/"]
    {
        let (addr, thread) = server(1, move |_, mut stream| {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).unwrap();
            stream.write_all(said).unwrap();
            // What it gets instead of a request is an end.
            let mut rest = Vec::new();
            let _reset = stream.read_to_end(&mut rest);
            rest
        });
        let mut rig = Rig::new(addr);
        let mut slot = H2Slot::default();
        rig.get(&mut slot, "/").unwrap();
        rig.get(&mut slot, "/").unwrap();
        assert_eq!(rig.settle(), [failed(Failed::NotH2, false); 2], "{said:?}");
        assert!(rig.get(&mut slot, "/").is_none());
        rig.turn();
        assert_eq!(rig.outcomes, [dropped(Dropped::BackOff, false)]);
        rig.outcomes.clear();
        rig.close(slot);
        let rest = thread.join().unwrap().remove(0);
        assert!(!rest.windows(3).any(|bytes| bytes == [HEADERS, 5, 0]), "a head was sent: {rest:?}");
    }
}

#[test]
fn a_shadow_that_takes_connections_and_says_nothing_or_goes_is_not_tried_for_ever() {
    for goaway in [false, true] {
        let (addr, thread) = server(1, move |_, stream| {
            if goaway {
                Peer::begin(stream, &[]).send(GOAWAY, 0, 0, &[0; 8]);
            }
        });
        let mut rig = Rig::new(addr);
        let mut slot = H2Slot::default();
        rig.get(&mut slot, "/").unwrap();
        let outcome = rig.settle().remove(0);
        assert!(matches!(outcome, Outcome::Failed { partial: false, .. }), "{outcome:?}");
        assert!(rig.get(&mut slot, "/").is_none(), "it is left alone");
        thread.join().unwrap();
    }
}

#[test]
fn a_reused_connection_that_closes_unanswered_costs_an_idempotent_copy_nothing() {
    let (addr, thread) = server(2, |i, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let head = peer.until(HEADERS);
        peer.answer(head.stream);
        if i == 0 {
            // The second request comes and the server goes.
            peer.until(HEADERS);
            peer.until(HEADERS);
        } else {
            peer.answer_all();
        }
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/1").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    let post = rig.begin(&mut slot, "POST", "/2", None).unwrap();
    rig.replayer.end(post);
    rig.get(&mut slot, "/3").unwrap();
    let outcomes = rig.settle();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.contains(&DELIVERED), "{outcomes:?}");
    assert!(
        outcomes.iter().any(|o| matches!(o, Outcome::Failed { partial: true, .. })),
        "a POST is not sent twice: {outcomes:?}"
    );
    assert_eq!(rig.resent, 1);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_shadow_that_does_not_answer_is_given_up_in_time() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        peer.until(HEADERS);
        let head = peer.until(HEADERS);
        peer.send(HEADERS, END_HEADERS, head.stream, OK);
        while peer.next().is_some() {}
    });
    let mut rig = Rig::impatient(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/silent").unwrap();
    rig.get(&mut slot, "/half").unwrap();
    let outcomes = rig.settle();
    assert!(outcomes.contains(&failed(Failed::HeadTimeout, true)), "{outcomes:?}");
    assert!(outcomes.contains(&failed(Failed::IdleTimeout, true)), "{outcomes:?}");
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_silent_answer_costs_no_other_call_of_its_connection() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        while let Some(frame) = peer.next() {
            if frame.kind == PING {
                peer.send(PING, 1, 0, &frame.payload);
            } else if frame.stream == 1 && frame.flags & END_STREAM != 0 {
                peer.answer(1);
            }
        }
    });
    let mut rig = Rig::impatient(addr);
    let mut slot = H2Slot::default();
    let quiet = rig.post(&mut slot, "/quiet");
    for _ in 0..2 {
        rig.get(&mut slot, "/silent").unwrap();
        let end = Instant::now() + Duration::from_millis(1800);
        while Instant::now() < end {
            rig.turn();
        }
        assert_eq!(std::mem::take(&mut rig.outcomes), [failed(Failed::HeadTimeout, true)]);
    }
    rig.replayer.end(quiet);
    assert_eq!(rig.settle(), [DELIVERED]);
    assert_eq!(rig.replayer.totals(0).connects, 1);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_connection_that_gives_no_sign_of_life_is_given_up() {
    let (addr, thread) = server(2, |i, stream| {
        let mut peer = Peer::begin(stream, &[]);
        if i == 1 {
            peer.answer_all();
        } else {
            // With this answer it has said all it has to say, SETTINGS and their acknowledgement included.
            let first = peer.until(HEADERS);
            peer.answer(first.stream);
            while peer.next().is_some() {}
        }
    });
    let mut rig = Rig::impatient(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/first").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    let quiet = rig.post(&mut slot, "/quiet");
    rig.get(&mut slot, "/silent").unwrap();
    let outcomes = rig.settle();
    assert_eq!(outcomes, [failed(Failed::HeadTimeout, true); 2]);
    rig.replayer.end(quiet);
    rig.get(&mut slot, "/").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    assert_eq!(rig.replayer.totals(0).connects, 2);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn a_call_that_waits_for_its_client_is_not_given_up() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        while let Some(frame) = peer.next() {
            if frame.kind == HEADERS && frame.stream == 1 {
                peer.send(HEADERS, END_HEADERS, 1, OK);
            }
            if frame.flags & END_STREAM != 0 {
                peer.send(DATA, END_STREAM, frame.stream, b"");
            }
        }
    });
    let mut rig = Rig::impatient(addr);
    let mut slot = H2Slot::default();
    let id = rig.post(&mut slot, "/quiet");
    let end = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < end {
        rig.turn();
    }
    assert_eq!(rig.outcomes, []);
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn grpc_status_tells_a_failed_call_from_a_good_one() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        for status in ["0", "14"] {
            let head = peer.until(HEADERS);
            peer.send(HEADERS, END_HEADERS, head.stream, OK);
            peer.send(DATA, 0, head.stream, &[0, 0, 0, 0, 0]);
            peer.send(HEADERS, END_HEADERS | END_STREAM, head.stream, &literal("grpc-status", status));
        }
        // Trailers only.
        let head = peer.until(HEADERS);
        let only = [OK.to_vec(), literal("grpc-status", "5")].concat();
        peer.send(HEADERS, END_HEADERS | END_STREAM, head.stream, &only);
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    for failures in [0, 1, 2] {
        rig.get(&mut slot, "/").unwrap();
        assert_eq!(rig.settle(), [DELIVERED]);
        assert_eq!(rig.grpc_failed, failures);
    }
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn answers_of_any_size_are_read_to_their_end_and_thrown_away() {
    const FRAMES: usize = 1000;
    const SIZE: i64 = 16_384;
    let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        let (mut of_all, mut of_stream, mut asked, mut sent) = (65_535_i64, 65_535_i64, false, 0);
        while sent < FRAMES {
            while !asked || of_all < SIZE || of_stream < SIZE {
                let frame = peer.raw().unwrap();
                match (frame.kind, frame.stream) {
                    (SETTINGS, _) => {
                        let window = frame.payload.chunks(6).find(|one| one[..2] == [0, 4]);
                        of_stream = window.map_or(of_stream, |one| number(&one[2..]));
                    }
                    (WINDOW, 0) => of_all += number(&frame.payload),
                    (WINDOW, _) => of_stream += number(&frame.payload),
                    (HEADERS, _) => {
                        asked = true;
                        peer.send(HEADERS, END_HEADERS, 1, OK);
                    }
                    _ => {}
                }
            }
            sent += 1;
            (of_all, of_stream) = (of_all - SIZE, of_stream - SIZE);
            peer.send(DATA, if sent == FRAMES { END_STREAM } else { 0 }, 1, &[9; SIZE as usize]);
        }
        peer.next();
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/large").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    assert!(rig.replayer.totals(0).discarded_bytes > FRAMES as u64 * SIZE as u64);
    rig.close(slot);
    thread.join().unwrap();
}

#[test]
fn shared_connections_are_few_and_the_least_loaded_takes_the_next_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let peers: Vec<_> = (0..SHARED_LINKS)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
                std::thread::spawn(move || Peer::begin(stream, &[]).answer_all())
            })
            .collect();
        peers.into_iter().map(|peer| peer.join().unwrap()).collect::<Vec<_>>()
    });
    let mut rig = Rig::with(addr, &config(Connections::Shared, 8 << 20));
    let mut slots = [H2Slot::default(); 40];
    for slot in &mut slots {
        rig.get(slot, "/").unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 40]);
    for slot in slots {
        rig.replayer.release(slot);
    }
    rig.turn();
    assert_eq!((rig.replayer.totals(0).connections, rig.replayer.totals(0).connects), (8, 8));
    rig.replayer.shutdown();
    assert_eq!(rig.replayer.totals(0).queued_bytes, 0);
    assert_eq!(thread.join().unwrap(), [5; SHARED_LINKS]);
}

#[test]
fn the_connections_of_a_burst_are_begun_one_after_the_other() {
    for connections in [Connections::PerClient, Connections::Shared] {
        let (addr, thread) = server(3, |_, stream| {
            let mut peer = Peer::begin(stream, &[]);
            let copy = peer.until(HEADERS);
            peer.answer(copy.stream);
            peer
        });
        let mut rig = Rig::with(addr, &config(connections, 8 << 20));
        let mut slots = [H2Slot::default(); 3];
        for slot in &mut slots {
            rig.get(slot, "/").unwrap();
        }
        assert_eq!(rig.excluded.0.lock().unwrap().len(), 1);
        assert_eq!(rig.settle(), [DELIVERED; 3]);
        assert_eq!(rig.replayer.totals(0).connects, 3);
        rig.replayer.shutdown();
        assert_eq!(thread.join().unwrap().len(), 3);
    }
}

#[test]
fn limits_refuse_at_the_head_and_shutdown_gives_up_the_rest() {
    let (tells, told) = std::sync::mpsc::channel();
    let (addr, thread) = server(1, move |_, stream| {
        let mut peer = Peer::begin(stream, &[]);
        for _ in 0..2 {
            peer.until(HEADERS);
        }
        tells.send(()).unwrap();
        while peer.next().is_some() {}
    });
    let mut one = config(Connections::PerClient, 8 << 20);
    one.in_flight = Budget::new(2);
    let mut rig = Rig::with(addr, &one);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/").unwrap();
    let id = rig.post(&mut slot, "/");
    assert!(rig.get(&mut slot, "/").is_none());
    rig.until("both heads arrive", |_| told.try_recv().is_ok());
    rig.replayer.set_refusal(Some(Dropped::Overload));
    assert!(rig.get(&mut slot, "/").is_none());
    rig.replayer.set_refusal(None);
    rig.replayer.shutdown();
    rig.replayer.body(id, b"too late");
    rig.turn();
    assert_eq!(
        rig.outcomes,
        [
            dropped(Dropped::InFlight, false),
            dropped(Dropped::Overload, false),
            dropped(Dropped::Shutdown, true),
            dropped(Dropped::Shutdown, true)
        ]
    );
    assert_eq!((rig.replayer.unfinished(), rig.replayer.totals(0).queued_bytes), (0, 0));
    thread.join().unwrap();
}

/// What a server of the h2 crate got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    line: (String, String),
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

#[test]
fn heads_bodies_and_trailers_arrive_as_they_were_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut connection = ::h2::server::handshake(stream).await.unwrap();
            let mut tasks = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tasks.push(tokio::spawn(async move {
                    let list = |map: &http::HeaderMap| {
                        map.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect()
                    };
                    let (parts, mut content) = request.into_parts();
                    let mut got = Got {
                        line: (parts.method.to_string(), parts.uri.to_string()),
                        fields: list(&parts.headers),
                        ..Got::default()
                    };
                    while let Some(Ok(bytes)) = content.data().await {
                        content.flow_control().release_capacity(bytes.len()).unwrap();
                        got.body.extend(&bytes);
                    }
                    got.trailers =
                        content.trailers().await.unwrap().map(|map| list(&map)).unwrap_or_default();
                    respond.send_response(http::Response::new(()), true).unwrap();
                    got
                }));
            }
            let mut all = HashMap::new();
            for task in tasks {
                let got = task.await.unwrap();
                all.insert(got.line.1.clone(), got);
            }
            all
        })
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    let fields: [(&str, &[u8]); 6] = [
        ("z", b"1"),
        ("cookie", b"a=1"),
        ("cookie", b"b=2"),
        ("a", b"caf\xe9"),
        ("te", b"trailers"),
        ("empty", b""),
    ];
    let trailers: [(&str, &[u8]); 2] = [("checksum", b"7"), ("other", b"x")];
    let body: Vec<u8> = (0..500_000u32).map(|i| (i % 253) as u8).collect();
    let mut ids = Vec::new();
    for path in ["/one?q=%20", "/two"] {
        let start = H2Start {
            shadow: 0,
            client: 1,
            stream: 1,
            idempotent: false,
            end_stream: false,
            content_length: None,
            head_time: clock().0,
        };
        let id = rig.replayer.begin(&start, &mut slot, |out| {
            let mut out = FieldWriter::new(out);
            for (name, value) in
                [(":method", "PATCH"), (":scheme", "https"), (":authority", "s:1"), (":path", path)]
            {
                out.push(name.as_bytes(), &[value.as_bytes()], false);
            }
            for (name, value) in fields {
                out.push(name.as_bytes(), &[value], name == "a");
            }
        });
        ids.push(id.unwrap());
    }
    for piece in body.chunks(9_999) {
        for id in &ids {
            rig.replayer.body(*id, piece);
        }
        rig.turn();
    }
    let mut written = Vec::new();
    for (name, value) in trailers {
        FieldWriter::new(&mut written).push(name.as_bytes(), &[value], false);
    }
    for id in ids {
        rig.replayer.trailers(id, &written);
        rig.replayer.end(id);
    }
    assert_eq!(rig.settle(), [DELIVERED; 2]);
    rig.close(slot);
    let got = thread.join().unwrap();
    let own = |list: &[(&str, &[u8])]| -> Vec<(String, Vec<u8>)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    };
    for path in ["https://s:1/one?q=%20", "https://s:1/two"] {
        let one = &got[path];
        assert_eq!((one.line.0.as_str(), &one.fields), ("PATCH", &own(&fields)));
        assert!(one.body == body, "{} bytes", one.body.len());
        assert_eq!(one.trailers, own(&trailers));
    }
}

/// A GET that somebody who can wait asks about.
const ASKED: H2Start = H2Start {
    shadow: 0,
    client: 1,
    stream: 1,
    idempotent: true,
    end_stream: true,
    content_length: None,
    head_time: 0,
};

#[test]
fn who_can_wait_begins_as_many_streams_as_the_shadow_allows_before_any_is_answered() {
    let (addr, thread) = server(1, |_, stream| {
        let mut peer = Peer::begin(stream, &[(3, 8)]);
        let streams: Vec<u32> = (0..8).map(|_| peer.until(HEADERS).stream).collect();
        peer.nothing_comes();
        streams.iter().for_each(|stream| peer.answer(*stream));
        peer.answer_all()
    });
    let mut rig = Rig::new(addr);
    let mut slot = H2Slot::default();
    rig.get(&mut slot, "/first").unwrap();
    rig.until("the connection is there", |rig| rig.replayer.totals(0).connects == 1);
    for _ in 1..8 {
        assert!(!rig.replayer.lacks_room(&ASKED, slot, 100), "a stream is free");
        rig.get(&mut slot, "/more").unwrap();
    }
    rig.get(&mut slot, "/waits").unwrap();
    rig.until("the ninth waits", |rig| rig.replayer.lacks_room(&ASKED, slot, 100));
    assert_eq!(rig.settle(), [DELIVERED; 9]);
    rig.close(slot);
    assert_eq!(thread.join().unwrap(), [1]);
}

#[test]
fn who_can_wait_is_told_when_a_stream_is_free_and_whether_waiting_may_help() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(Connections::PerClient, 8 << 20);
    config.connections = Budget::new(1);
    let mut rig = Rig::with(addr, &config);
    let (mut slot, other) = (H2Slot::default(), H2Slot::default());
    assert!(!rig.replayer.lacks_room(&ASKED, slot, 100) && !rig.replayer.goes_on());
    assert!(rig.replayer.lacks_room(&ASKED, slot, (8 << 20) - 100), "a connection needs room too");
    let first = rig.get(&mut slot, "/").unwrap();
    assert!(rig.replayer.lacks_room(&ASKED, slot, 100), "it waits for the connection");
    assert!(rig.replayer.lacks_room(&ASKED, other, 100), "there is no other connection");
    assert!(rig.replayer.goes_on() && !rig.replayer.lacks_room_for(first, 100));
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::Refused, partial: false }]);
    assert!(rig.replayer.lacks_room(&ASKED, slot, 100) && rig.replayer.goes_on(), "it may come back");
    rig.replayer.set_refusal(Some(Dropped::Shutdown));
    assert!(!rig.replayer.lacks_room(&ASKED, slot, 100));
}
