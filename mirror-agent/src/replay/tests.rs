//! The replayer against scripted servers on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::rig::{Excluded, clock, server};
use super::*;
use crate::http::BodyKind;

struct Rig {
    poll: Poll,
    replayer: Replayer,
    excluded: Excluded,
    outcomes: Vec<Outcome>,
    resent: usize,
    answered: usize,
    latencies: Vec<u64>,
}

/// Timeouts beyond what a machine stalls: nothing but a fault runs into them.
fn settings(connections: Connections) -> Settings {
    Settings {
        connections,
        ordering: Ordering::Connection,
        timeouts: Timeouts { connect: 20_000_000_000, head: 20_000_000_000, idle: 20_000_000_000 },
        linger: LINGER_NS,
    }
}

/// For what has to run into a timeout.
fn impatient(connections: Connections) -> Settings {
    Settings {
        timeouts: Timeouts { connect: 1_000_000_000, head: 500_000_000, idle: 500_000_000 },
        ..settings(connections)
    }
}

impl Rig {
    fn new(addr: SocketAddr, settings: Settings) -> Self {
        Self::with_queue(addr, settings, 8 << 20)
    }

    fn with_queue(addr: SocketAddr, settings: Settings, queued: u64) -> Self {
        let poll = Poll::new().unwrap();
        let target = TargetConfig {
            settings,
            tls: None,
            in_flight: Budget::new(100),
            connections: Budget::new(10),
            queued: Budget::new(queued),
        };
        let excluded = Excluded::default();
        let registry = poll.registry().try_clone().unwrap();
        let mut replayer = Replayer::new(&[target], registry, Box::new(excluded.clone()), clock);
        replayer.set_addrs(0, &[addr]);
        Self { poll, replayer, excluded, outcomes: Vec::new(), resent: 0, answered: 0, latencies: Vec::new() }
    }

    fn get(&mut self, slot: &mut LinkSlot, path: &str) -> Option<CopyId> {
        let id = self.begin(slot, start(BodyKind::None), &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if let Some(id) = id {
            self.replayer.end(id);
        }
        id
    }

    fn begin(&mut self, slot: &mut LinkSlot, start: Start, head: &str) -> Option<CopyId> {
        self.replayer.begin(start, slot, |out| out.extend_from_slice(head.as_bytes()))
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.replayer.flush();
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        self.replayer.update_clock();
        for event in &events {
            self.replayer.on_event(event);
        }
        self.replayer.flush();
        self.replayer.tick();
        for report in self.replayer.reports() {
            match report {
                Report::Outcome { outcome, .. } => self.outcomes.push(outcome),
                Report::Resent { .. } => self.resent += 1,
                Report::Answered { latency_ns, .. } => {
                    assert!(latency_ns < 5_000_000_000, "latency of {latency_ns} ns");
                    self.answered += 1;
                    self.latencies.push(latency_ns);
                }
                Report::Written { .. } => {}
            }
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
}

fn start(body: BodyKind) -> Start {
    Start {
        shadow: 0,
        flow_hash: 7,
        head_request: false,
        idempotent: body == BodyKind::None,
        closes: false,
        pipelined: false,
        tunnel: false,
        body,
        head_time: clock().0,
    }
}

/// Reads up to the end of one head; empty at the end of the stream.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const DELIVERED: Outcome = Outcome::Delivered { status: 200 };

#[test]
fn copies_that_may_not_be_repeated_wait_for_each_other_on_one_connection() {
    let (addr, thread) = server(1, |_, mut stream| {
        let mut paths = Vec::new();
        for _ in 0..3 {
            let head = read_head(&mut stream);
            paths.push(head.split(' ').nth(1).unwrap().to_owned());
            // Nothing more may be there before this one is answered.
            stream.set_nonblocking(true).unwrap();
            let early = stream.read(&mut [0; 64]);
            assert!(early.is_err(), "a copy was written behind an unanswered one");
            stream.set_nonblocking(false).unwrap();
            stream.write_all(OK).unwrap();
        }
        read_head(&mut stream);
        paths
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for path in ["/1", "/2", "/3"] {
        let post = Start { idempotent: false, ..start(BodyKind::None) };
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        let id = rig.begin(&mut slot, post, &head).unwrap();
        rig.replayer.end(id);
    }
    assert!(rig.replayer.has_backlog());
    assert_eq!(rig.settle(), [DELIVERED; 3]);
    assert_eq!(rig.answered, 3);
    assert!(!rig.replayer.has_backlog());
    assert_eq!(rig.replayer.totals(0).connections, 1);
    assert_eq!(rig.excluded.0.lock().unwrap().len(), 1);
    rig.replayer.release(slot);
    assert_eq!((rig.replayer.totals(0).connections, rig.replayer.totals(0).queued_bytes), (0, 0));
    assert_eq!(thread.join().unwrap(), [["/1", "/2", "/3"]]);
}

#[test]
fn gets_of_one_client_are_written_as_they_come_and_a_post_behind_them_waits() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.set_nonblocking(true).unwrap();
        assert!(stream.read(&mut [0; 64]).is_err(), "this connection has not shown yet that it stays");
        stream.set_nonblocking(false).unwrap();
        stream.write_all(OK).unwrap();
        for _ in 0..3 {
            assert!(read_head(&mut stream).starts_with("GET"));
        }
        stream.set_nonblocking(true).unwrap();
        assert!(stream.read(&mut [0; 64]).is_err(), "the POST did not wait");
        stream.set_nonblocking(false).unwrap();
        for _ in 0..3 {
            stream.write_all(OK).unwrap();
        }
        assert!(read_head(&mut stream).starts_with("POST"));
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for path in ["/0", "/1", "/2", "/3"] {
        rig.get(&mut slot, path).unwrap();
    }
    let post = Start { idempotent: false, ..start(BodyKind::None) };
    let id = rig.begin(&mut slot, post, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED; 5]);
    assert_eq!(rig.replayer.totals(0).connects, 1);
    rig.replayer.release(slot);
    thread.join().unwrap();
}

#[test]
fn answers_set_the_pace_only_where_a_shadow_may_run_out_of_work() {
    for (ahead, paced) in [(15, true), (16, false)] {
        let (addr, thread) = server(1, |_, mut stream| {
            read_head(&mut stream);
            stream.write_all(OK).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
        });
        let mut rig = Rig::new(addr, settings(Connections::PerClient));
        let mut slot = LinkSlot::default();
        rig.get(&mut slot, "/").unwrap();
        assert_eq!(rig.settle(), [DELIVERED]);
        for _ in 0..ahead {
            rig.get(&mut slot, "/").unwrap();
        }
        assert!(!rig.replayer.has_backlog(), "nothing waits yet");
        let post = Start { idempotent: false, ..start(BodyKind::None) };
        let id = rig.begin(&mut slot, post, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
        rig.replayer.end(id);
        assert_eq!(rig.replayer.has_backlog(), paced, "{ahead} ahead of one that waits");
        drop(rig);
        thread.join().unwrap();
    }
}

#[test]
fn shared_links_pipeline_idempotent_copies_and_give_a_body_a_connection_of_its_own() {
    let (addr, thread) = server(2, |_, mut stream| {
        let first = read_head(&mut stream);
        if first.starts_with("POST") {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(OK).unwrap();
            return 1;
        }
        stream.write_all(OK).unwrap();
        for _ in 0..3 {
            assert!(read_head(&mut stream).starts_with("GET"));
        }
        for _ in 0..3 {
            stream.write_all(OK).unwrap();
        }
        4
    });
    let mut rig = Rig::new(addr, settings(Connections::Shared));
    let mut slots = [LinkSlot::default(); 5];
    for slot in &mut slots[..4] {
        rig.get(slot, "/").unwrap();
    }
    while rig.replayer.totals(0).written_bytes < 4 * 26 {
        rig.turn();
    }
    let id =
        rig.begin(&mut slots[4], start(BodyKind::Length(5)), "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    rig.replayer.body(id.unwrap(), b"12345");
    rig.replayer.end(id.unwrap());
    assert_eq!(rig.settle(), [DELIVERED; 5]);
    assert_eq!(rig.replayer.totals(0).connects, 2);
    drop(rig);
    assert_eq!(thread.join().unwrap(), [4, 1]);
}

#[test]
fn a_large_body_arrives_whole_in_bounded_memory() {
    const SIZE: usize = 20 << 20;
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        let mut got = 0usize;
        let mut buffer = vec![0; 1 << 16];
        while got < SIZE {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0);
            for (i, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, ((got + i) % 251) as u8);
            }
            got += count;
        }
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {SIZE}\r\n\r\n");
    let id = rig.begin(&mut slot, start(BodyKind::Length(SIZE as u64)), &head).unwrap();
    let body: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    for piece in body.chunks(60_000) {
        // The client is as fast as the shadow here: a slower shadow is another test.
        while rig.replayer.totals(0).queued_bytes > 1 << 20 {
            rig.turn();
        }
        rig.replayer.body(id, piece);
    }
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.replayer.release(slot);
    thread.join().unwrap();
}

#[test]
fn a_body_that_outgrows_the_queue_is_given_up_by_a_reset() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        // Reads nothing until the copy was given up.
        while stream.take_error().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut rig = Rig::with_queue(addr, settings(Connections::PerClient), 2 << 20);
    let mut slot = LinkSlot::default();
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let id = rig.begin(&mut slot, start(BodyKind::Chunked), head).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while rig.outcomes.is_empty() && Instant::now() < end {
        for _ in 0..16 {
            rig.replayer.body(id, &[b'x'; 65_536]);
        }
        rig.turn();
    }
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::QueueFull, partial: true }]);
    assert_eq!(rig.replayer.totals(0).queued_bytes, 0);
    thread.join().unwrap();
}

#[test]
fn a_keep_alive_race_is_tried_once_more_on_a_new_connection() {
    let (addr, thread) = server(2, |i, mut stream| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
        if i == 0 {
            // The next copy is on its way while this side closes.
            read_head(&mut stream);
        }
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    rig.get(&mut slot, "/1").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.get(&mut slot, "/2").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    assert_eq!((rig.resent, rig.replayer.totals(0).connects), (1, 2));
    thread.join().unwrap();
}

#[test]
fn a_post_is_never_sent_twice() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    rig.get(&mut slot, "/1").unwrap();
    rig.settle();
    let mut post = start(BodyKind::None);
    post.idempotent = false;
    let id = rig.begin(&mut slot, post, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::ClosedEarly, partial: true }]);
    assert_eq!(rig.resent, 0);
    thread.join().unwrap();
}

#[test]
fn a_shadow_that_closes_after_each_answer_loses_nothing() {
    let (addr, thread) = server(20, |i, mut stream| {
        read_head(&mut stream);
        let answer: &[u8] = if i % 2 == 0 {
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
        } else {
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        };
        stream.write_all(answer).unwrap();
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for i in 0..20 {
        rig.get(&mut slot, &format!("/{i}")).unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 20]);
    assert_eq!(rig.replayer.totals(0).connects, 20);
    thread.join().unwrap();
}

#[test]
fn a_shadow_that_closes_without_a_word_after_every_second_answer_loses_nothing() {
    let (addr, thread) = server(10, |_, mut stream| {
        for _ in 0..2 {
            read_head(&mut stream);
            stream.write_all(OK).unwrap();
        }
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for i in 0..20 {
        rig.get(&mut slot, &format!("/{i}")).unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 20]);
    thread.join().unwrap();
}

#[test]
fn a_shadow_that_closes_after_so_many_answers_is_sent_no_more_than_that() {
    // It closes after ten answers: what was written behind the tenth the first time is sent again, and never after that.
    let (addr, thread) = server(10, |_, mut stream| {
        for left in (0..10).rev() {
            if read_head(&mut stream).is_empty() {
                return 0;
            }
            let close = if left == 0 { "Connection: close\r\n" } else { "" };
            write!(stream, "HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nhi").unwrap();
        }
        // What came beyond the last answer.
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ended_or_silent = stream.read_to_end(&mut rest);
        rest.len()
    });
    let mut rig = Rig::new(addr, settings(Connections::Shared));
    let mut slot = LinkSlot::default();
    for i in 0..100 {
        rig.get(&mut slot, &format!("/{i}")).unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 100]);
    let totals = rig.replayer.totals(0);
    assert_eq!(totals.connects, 10);
    rig.replayer.shutdown();
    let beyond = thread.join().unwrap();
    assert!(beyond[0] > 0, "copies are pipelined");
    assert_eq!(beyond[1..], [0; 9], "the second connection was known to end");
    assert_eq!(rig.resent, 90);
}

#[test]
fn a_shadow_that_reads_one_request_at_a_time_is_not_pipelined_to_for_long() {
    // Whatever it reads together with a request, it throws away.
    let (addr, thread) = server(2, |_, mut stream| {
        let mut answered = 0;
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            stream.write_all(OK).unwrap();
            answered += 1;
        }
        answered
    });
    let mut rig = Rig::new(addr, impatient(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for i in 0..10 {
        rig.get(&mut slot, &format!("/{i}")).unwrap();
    }
    let outcomes = rig.settle();
    // The first, and the first of those behind it, were answered; the others taught.
    let failed = Outcome::Failed { why: Failed::HeadTimeout, partial: true };
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == DELIVERED).count(), 2);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == failed).count(), 8);
    for i in 0..10 {
        rig.get(&mut slot, &format!("/again/{i}")).unwrap();
    }
    assert_eq!(rig.settle(), [DELIVERED; 10]);
    rig.replayer.shutdown();
    assert_eq!(thread.join().unwrap(), [2, 10]);
}

#[test]
fn copies_of_one_client_gather_and_those_of_a_quiet_one_go_at_once() {
    // Time stands still but for what the test says.
    static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000_000_000);
    const { assert!(1_000_000_000 % (GATHER_SLOT_NS * GATHER_SLOTS as u64) == 0) };
    let time = |slot: u64| 1_000_000_000 + slot * GATHER_SLOT_NS;
    let at = |slot: u64| NOW.store(time(slot), std::sync::atomic::Ordering::Relaxed);
    let turns = GATHER_SLOTS as u64;
    let (addr, thread) = server(1, |_, mut stream| {
        let mut reads = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let requests = buffer[..count].windows(4).filter(|end| end == b"\r\n\r\n").count();
            // A long head comes in several reads.
            reads.extend((requests > 0).then_some(requests));
            for _ in 0..requests {
                stream.write_all(OK).unwrap();
            }
        }
        reads
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let registry = rig.poll.registry().try_clone().unwrap();
    let target = TargetConfig {
        settings: settings(Connections::PerClient),
        tls: None,
        in_flight: Budget::new(100),
        connections: Budget::new(10),
        queued: Budget::new(1 << 20),
    };
    let clock = || (NOW.load(std::sync::atomic::Ordering::Relaxed), clock().1);
    rig.replayer = Replayer::new(&[target], registry, Box::new(Excluded::default()), clock);
    rig.replayer.set_addrs(0, &[addr]);
    let mut slot = LinkSlot::default();
    rig.get(&mut slot, "/first").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    let written = |rig: &Rig| rig.replayer.totals(0).written_bytes;
    // Quiet for long: at once.
    at(100 * turns);
    rig.replayer.update_clock();
    let before = written(&rig);
    rig.get(&mut slot, "/second").unwrap();
    rig.replayer.flush();
    assert!(written(&rig) > before);
    assert_eq!(rig.settle(), [DELIVERED]);
    // The first link has the slots that are divisible by the number of turns: that was one.
    for passed in 1..turns {
        at(100 * turns + passed);
        rig.replayer.update_clock();
        let before = written(&rig);
        rig.get(&mut slot, "/gathers").unwrap();
        rig.replayer.flush();
        assert_eq!(written(&rig), before);
        assert_eq!(rig.replayer.next_deadline(), Some(time(100 * turns + passed + 1)));
        assert!(!rig.replayer.is_busy());
    }
    at(101 * turns);
    assert_eq!(rig.settle(), [DELIVERED; GATHER_SLOTS - 1]);
    // Much to write does not wait.
    at(101 * turns + 1);
    rig.replayer.update_clock();
    let before = written(&rig);
    let long = "x".repeat(GATHER_BYTES as usize);
    rig.get(&mut slot, &format!("/{long}")).unwrap();
    rig.replayer.flush();
    assert!(written(&rig) > before);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.replayer.shutdown();
    assert_eq!(thread.join().unwrap(), [[1, 1, GATHER_SLOTS - 1, 1]]);
}

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

/// Opens a tunnel and says `hello` in it, before the shadow had a chance to answer.
fn open_tunnel(rig: &mut Rig, slot: &mut LinkSlot) -> CopyId {
    let begin = Start { tunnel: true, idempotent: false, ..start(BodyKind::None) };
    let id = rig.begin(slot, begin, "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    rig.replayer.body(id, b"hello");
    id
}

#[test]
fn a_tunnel_waits_for_the_shadow_to_agree_and_is_delivered_when_both_have_ended_it() {
    for connections in [Connections::PerClient, Connections::Shared] {
        let (addr, thread) = server(1, |_, mut stream| {
            assert!(read_head(&mut stream).starts_with("GET /ws"));
            stream.set_nonblocking(true).unwrap();
            assert!(stream.read(&mut [0; 64]).is_err(), "the tunnel is not open yet");
            stream.set_nonblocking(false).unwrap();
            // What the shadow says in the tunnel looks like nothing, and is nobody's answer.
            stream.write_all(&[SWITCH, b"\x81\x05howdy"].concat()).unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            stream.write_all(b"bye").unwrap();
            said
        });
        let mut rig = Rig::new(addr, impatient(connections));
        let mut slot = LinkSlot::default();
        let id = open_tunnel(&mut rig, &mut slot);
        let large = vec![b'x'; 100_000];
        // Silence for longer than any timeout ends no tunnel.
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            rig.turn();
        }
        assert_eq!(rig.outcomes, []);
        rig.replayer.body(id, &large);
        rig.replayer.end(id);
        rig.replayer.release(slot);
        assert_eq!(rig.settle(), [Outcome::Delivered { status: 101 }]);
        assert_eq!(thread.join().unwrap(), [[b"hello".as_slice(), &large].concat()]);
        let totals = rig.replayer.totals(0);
        assert_eq!((totals.connections, totals.queued_bytes), (0, 0));
    }
}

#[test]
fn a_tunnel_that_the_shadow_refuses_carries_nothing_and_its_connection_goes_on() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        let next = read_head(&mut stream);
        stream.write_all(OK).unwrap();
        next
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let id = open_tunnel(&mut rig, &mut slot);
    assert_eq!(rig.settle(), [Outcome::Delivered { status: 404 }]);
    rig.replayer.body(id, b"more");
    rig.replayer.end(id);
    rig.get(&mut slot, "/next").unwrap();
    assert_eq!(rig.settle(), [DELIVERED]);
    assert!(thread.join().unwrap()[0].starts_with("GET /next"));
    assert_eq!(rig.replayer.totals(0).queued_bytes, 0);
}

#[test]
fn a_shadow_that_hangs_up_a_tunnel_fails_it_only_if_more_was_to_come() {
    for more in [false, true] {
        let (addr, thread) = server(1, |_, mut stream| {
            read_head(&mut stream);
            stream.write_all(SWITCH).unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        });
        let mut rig = Rig::new(addr, settings(Connections::PerClient));
        let mut slot = LinkSlot::default();
        let id = open_tunnel(&mut rig, &mut slot);
        let end = Instant::now() + Duration::from_secs(5);
        while rig.replayer.totals(0).connections > 0 || rig.replayer.totals(0).connects == 0 {
            assert!(Instant::now() < end);
            rig.turn();
        }
        if more {
            rig.replayer.body(id, b"are you there?");
        }
        rig.replayer.end(id);
        let failed = Outcome::Failed { why: Failed::ClosedEarly, partial: true };
        assert_eq!(rig.settle(), [if more { failed } else { Outcome::Delivered { status: 101 } }]);
        thread.join().unwrap();
    }
}

#[test]
fn a_shadow_that_hangs_up_in_the_moment_the_client_ends_is_no_loss() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let id = open_tunnel(&mut rig, &mut slot);
    let end = Instant::now() + Duration::from_secs(5);
    let all = "GET /ws HTTP/1.1\r\nHost: a\r\n\r\nhello".len() as u64;
    while rig.replayer.totals(0).written_bytes < all {
        assert!(Instant::now() < end);
        rig.turn();
    }
    thread.join().unwrap();
    // The end is told, and before anything is written of it the socket is read.
    rig.replayer.end(id);
    let mut events = Events::with_capacity(64);
    rig.poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
    for event in &events {
        rig.replayer.on_event(event);
    }
    assert_eq!(rig.settle(), [Outcome::Delivered { status: 101 }]);
}

#[test]
fn a_shadow_that_never_hangs_up_a_tunnel_that_ended_is_not_waited_for_for_ever() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        // It keeps its half open until the other side has gone.
        stream.set_nonblocking(true).unwrap();
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end && stream.write_all(b"still here").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Instant::now() < end
    });
    let mut rig = Rig::new(addr, impatient(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let id = open_tunnel(&mut rig, &mut slot);
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [Outcome::Delivered { status: 101 }]);
    assert_eq!(thread.join().unwrap(), [true]);
}

#[test]
fn a_tunnel_with_a_gap_is_reset_and_a_silent_handshake_times_out() {
    let (addr, thread) = server(2, |i, mut stream| {
        read_head(&mut stream);
        if i == 0 {
            stream.write_all(SWITCH).unwrap();
        }
        let mut said = Vec::new();
        (stream.read_to_end(&mut said).is_err(), said.len())
    });
    let mut rig = Rig::new(addr, impatient(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let id = open_tunnel(&mut rig, &mut slot);
    let end = Instant::now() + Duration::from_secs(5);
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".len() as u64;
    while rig.replayer.totals(0).written_bytes < head + 5 {
        assert!(Instant::now() < end);
        rig.turn();
    }
    rig.replayer.abort(id, Dropped::Gap);
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::Gap, partial: true }]);
    open_tunnel(&mut rig, &mut slot);
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::HeadTimeout, partial: true }]);
    let seen = thread.join().unwrap();
    assert!(seen[0].0, "the connection is reset");
    assert_eq!(seen[1].1, 0, "nothing goes into a tunnel that is not open");
}

#[test]
fn replies_of_every_framing_are_read_to_their_end() {
    let replies: [&[u8]; 5] = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ];
    let (addr, thread) = server(1, move |_, mut stream| {
        for reply in replies {
            read_head(&mut stream);
            for byte in reply {
                stream.write_all(&[*byte]).unwrap();
            }
        }
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n").unwrap();
        stream.write_all(&vec![b'z'; 9_000_000]).unwrap();
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for i in 0..6 {
        rig.get(&mut slot, &format!("/{i}")).unwrap();
    }
    let statuses: Vec<_> = rig
        .settle()
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Delivered { status } => status,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(statuses, [200, 200, 204, 304, 503, 200]);
    assert!(rig.replayer.totals(0).discarded_bytes > 9_000_000);
    thread.join().unwrap();
}

#[test]
fn garbage_hangs_and_early_ends_have_names() {
    let cases: [(&'static [u8], bool, Failed); 4] = [
        (b"SSH-2.0-nothing\r\n\r\n", true, Failed::BadResponse),
        (b"", false, Failed::ClosedEarly),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false, Failed::ClosedEarly),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", true, Failed::IdleTimeout),
    ];
    for (reply, hold, why) in cases {
        let (addr, thread) = server(1, move |_, mut stream| {
            read_head(&mut stream);
            stream.write_all(reply).unwrap();
            if hold {
                read_head(&mut stream);
            }
        });
        let patience = if why == Failed::IdleTimeout { impatient } else { settings };
        let mut rig = Rig::new(addr, patience(Connections::PerClient));
        rig.get(&mut LinkSlot::default(), "/").unwrap();
        assert_eq!(rig.settle(), [Outcome::Failed { why, partial: true }]);
        drop(rig);
        thread.join().unwrap();
    }
    let (addr, thread) = server(1, |_, mut stream| while !read_head(&mut stream).is_empty() {});
    let mut rig = Rig::new(addr, impatient(Connections::PerClient));
    rig.get(&mut LinkSlot::default(), "/").unwrap();
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::HeadTimeout, partial: true }]);
    thread.join().unwrap();
}

#[test]
fn a_latency_is_never_shorter_than_the_shadow_itself_took() {
    let (addr, thread) = server(1, |_, mut stream| {
        let mut took = Vec::new();
        for _ in 0..300 {
            read_head(&mut stream);
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(30) {}
            took.push(began.elapsed().as_nanos() as u64);
            stream.write_all(OK).unwrap();
        }
        read_head(&mut stream);
        took
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for _ in 0..300 {
        rig.get(&mut slot, "/").unwrap();
        assert_eq!(rig.settle(), [DELIVERED]);
    }
    rig.replayer.release(slot);
    for (told, took) in rig.latencies.iter().zip(&thread.join().unwrap()[0]) {
        assert!(told >= took, "a latency of {told} ns, of which the shadow thought for {took} ns");
    }
}

#[test]
fn a_dead_target_is_left_alone_for_a_while() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    rig.get(&mut slot, "/1");
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::Refused, partial: false }]);
    rig.get(&mut slot, "/2");
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::BackOff, partial: false }]);
    // Nothing answers at this address; the port is excluded from the tap no longer.
    assert!(rig.excluded.0.lock().unwrap().is_empty());
}

#[test]
fn the_connections_of_a_burst_are_begun_one_after_the_other() {
    for connections in [Connections::PerClient, Connections::Shared] {
        let (addr, thread) = server(3, |_, mut stream| {
            let head = read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
            head
        });
        let mut rig = Rig::new(addr, settings(connections));
        let mut slots = [LinkSlot::default(); 4];
        for (n, slot) in (0..3).zip(&mut slots) {
            let get = Start { flow_hash: n, ..start(BodyKind::None) };
            let id = rig.begin(slot, get, &format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            rig.replayer.end(id);
        }
        assert_eq!(rig.excluded.0.lock().unwrap().len(), 1);
        // The client of one that waits goes away: no connection is begun for it.
        let gone = rig.begin(&mut slots[3], start(BodyKind::Length(5)), "POST / HTTP/1.1\r\n\r\n").unwrap();
        rig.replayer.abort(gone, Dropped::ClientClosed);
        let outcomes = rig.settle();
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
        let heads = thread.join().unwrap();
        let order: Vec<_> = heads.iter().map(|head| &head[..6]).collect();
        assert_eq!(order, ["GET /0", "GET /1", "GET /2"]);
    }
}

#[test]
fn a_burst_at_a_dead_target_tries_it_once() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::new(dead, settings(Connections::PerClient));
    let mut slots = [LinkSlot::default(); 3];
    for slot in &mut slots {
        rig.get(slot, "/").unwrap();
    }
    let outcomes = rig.settle();
    let refused =
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed { why: Failed::Refused, .. }));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
    let left =
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Dropped { why: Dropped::BackOff, .. }));
    assert_eq!((left.count(), outcomes.len()), (2, 3), "{outcomes:?}");
}

#[test]
fn an_aborted_body_is_withdrawn_before_its_first_byte_and_reset_after_it() {
    let (addr, thread) = server(2, |i, mut stream| {
        if i == 0 {
            read_head(&mut stream);
            let mut rest = Vec::new();
            assert!(stream.read_to_end(&mut rest).is_err(), "a reset, not an end");
            return rest.len();
        }
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
        0
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    let head = "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    let id = rig.begin(&mut slot, start(BodyKind::Length(100)), head).unwrap();
    rig.replayer.body(id, b"ten bytes.");
    while rig.replayer.totals(0).written_bytes < head.len() as u64 + 10 {
        rig.turn();
    }
    rig.replayer.abort(id, Dropped::Gap);
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::Gap, partial: true }]);
    // Withdrawn: nothing of it was written, and the connection goes on.
    let id = rig.begin(&mut slot, start(BodyKind::Length(100)), head).unwrap();
    rig.replayer.abort(id, Dropped::ClientClosed);
    rig.get(&mut slot, "/after").unwrap();
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::ClientClosed, partial: false }, DELIVERED]);
    assert_eq!(rig.replayer.totals(0).queued_bytes, 0);
    thread.join().unwrap();
}

#[test]
fn limits_refuse_at_the_head_and_shutdown_names_what_is_left() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        read_head(&mut stream);
    });
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let mut slot = LinkSlot::default();
    for i in 0..101 {
        rig.get(&mut slot, &format!("/{i}"));
    }
    let mut other = LinkSlot::default();
    rig.replayer.set_refusal(Some(Dropped::Overload));
    rig.get(&mut other, "/overload");
    rig.turn();
    assert_eq!(
        rig.outcomes,
        [
            Outcome::Dropped { why: Dropped::InFlight, partial: false },
            Outcome::Dropped { why: Dropped::Overload, partial: false },
        ]
    );
    while rig.replayer.totals(0).written_bytes == 0 {
        rig.turn();
    }
    rig.outcomes.clear();
    rig.replayer.shutdown();
    rig.turn();
    assert_eq!(rig.outcomes.len(), 100);
    assert_eq!(rig.outcomes[0], Outcome::Dropped { why: Dropped::Shutdown, partial: true });
    assert_eq!(rig.outcomes[1], Outcome::Dropped { why: Dropped::Shutdown, partial: false });
    assert_eq!((rig.replayer.unfinished(), rig.replayer.totals(0).connections), (0, 0));
    assert!(rig.excluded.0.lock().unwrap().is_empty());
    thread.join().unwrap();
}

#[test]
fn who_can_wait_is_told_whether_there_is_room_and_whether_waiting_may_help() {
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
    });
    let mut rig = Rig::with_queue(addr, settings(Connections::PerClient), 1000);
    let mut slot = LinkSlot::default();
    let post = start(BodyKind::Length(2));
    assert!(!rig.replayer.lacks_room(&post, slot, 998) && rig.replayer.lacks_room(&post, slot, 999));
    assert!(!rig.replayer.goes_on(), "there is nothing to wait for");
    let head = format!("POST / HTTP/1.1\r\nContent-Length: 2\r\nX: {}\r\n\r\n", "x".repeat(900));
    let id = rig.begin(&mut slot, post, &head).unwrap();
    assert!(rig.replayer.lacks_room(&post, slot, 100) && rig.replayer.goes_on(), "it is being written");
    let end = Instant::now() + Duration::from_secs(10);
    while rig.replayer.goes_on() {
        rig.turn();
        assert!(Instant::now() < end, "a body that its client has not sent is nothing to wait for");
    }
    assert!(!rig.replayer.lacks_room_for(id, 2), "room was set aside");
    assert!(rig.replayer.lacks_room_for(id, 1003));
    rig.replayer.body(id, b"ab");
    rig.replayer.end(id);
    assert!(rig.replayer.goes_on(), "an answer is to come");
    assert_eq!(rig.settle(), [DELIVERED]);
    assert!(!rig.replayer.lacks_room(&post, slot, 998) && !rig.replayer.goes_on());
    // Whoever stops asks for no room.
    rig.replayer.set_refusal(Some(Dropped::Shutdown));
    assert!(!rig.replayer.lacks_room(&post, slot, 999));
    rig.get(&mut slot, "/");
    assert_eq!(rig.settle(), [Outcome::Dropped { why: Dropped::Shutdown, partial: false }]);
    rig.replayer.release(slot);
    thread.join().unwrap();
}

#[test]
fn a_target_that_takes_no_connection_is_waited_for_as_long_as_it_is_left_alone() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::new(addr, settings(Connections::PerClient));
    let get = start(BodyKind::None);
    rig.get(&mut LinkSlot::default(), "/");
    assert_eq!(rig.settle(), [Outcome::Failed { why: Failed::Refused, partial: false }]);
    assert!(rig.replayer.lacks_room(&get, LinkSlot::default(), 10) && rig.replayer.goes_on());
    let end = Instant::now() + Duration::from_secs(10);
    while rig.replayer.lacks_room(&get, LinkSlot::default(), 10) {
        rig.turn();
        assert!(Instant::now() < end, "it may be tried again");
    }
    assert!(!rig.replayer.goes_on());
}

#[test]
fn a_body_that_needs_room_gives_up_what_was_kept_for_sending_it_again() {
    const SIZE: usize = 20_000;
    let (addr, thread) = server(1, |_, mut stream| {
        read_head(&mut stream);
        let mut body = vec![0; SIZE];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
        body
    });
    // Small pieces are never written from where they lie, and a PUT may be repeated: all of it would be kept.
    let mut rig = Rig::with_queue(addr, settings(Connections::PerClient), 4000);
    let mut slot = LinkSlot::default();
    let put = Start { idempotent: true, ..start(BodyKind::Length(SIZE as u64)) };
    let head = format!("PUT / HTTP/1.1\r\nContent-Length: {SIZE}\r\n\r\n");
    let id = rig.begin(&mut slot, put, &head).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    for piece in vec![b'p'; SIZE].chunks(1000) {
        while rig.replayer.lacks_room_for(id, piece.len() as u64) {
            assert!(rig.replayer.goes_on() && Instant::now() < end, "written bytes make room");
            rig.turn();
        }
        rig.replayer.body(id, piece);
    }
    rig.replayer.end(id);
    assert_eq!(rig.settle(), [DELIVERED]);
    rig.replayer.release(slot);
    assert_eq!(thread.join().unwrap(), [vec![b'p'; SIZE]]);
}
