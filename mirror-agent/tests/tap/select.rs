//! Which segments are taken, which way they go, and what of them is told.

use mirror_common::counter::TapCounter;
use mirror_common::map::{HEARTBEAT_LIMIT_NS, MAX_REMEMBERED_HEADS};
use mirror_common::record::{Direction, STATUS_LINE, status_line};

use super::bench::*;
use super::frame::*;

fn request(payload: &[u8]) -> Frame {
    Frame::new(CLIENT, PRIMARY, payload)
}

fn response(payload: &[u8]) -> Frame {
    Frame::new(PRIMARY, CLIENT, payload)
}

#[test]
fn nothing_is_captured_without_a_primary() {
    let mut bench = Bench::new(config(), &[]);
    for frame in [request(b"GET / HTTP/1.1\r\n\r\n"), response(b"HTTP/1.1 200 OK\r\n\r\n")] {
        bench.none(&frame, None);
    }
}

#[test]
fn the_address_and_the_port_both_count() {
    let mut bench = Bench::plain();
    bench.none(&Frame::new(CLIENT, "10.1.2.3:8081", b"x"), None);
    bench.none(&Frame::new(CLIENT, "10.1.2.4:8080", b"x"), None);
    bench.none(&Frame::new("10.1.2.4:8080", CLIENT, b"x"), None);
    bench.none(&Frame::new(CLIENT6, "[2001:db8::2]:8080", b"x"), None);
}

#[test]
fn jobs_are_told_apart_and_an_exact_address_goes_before_any() {
    let primaries = [("0.0.0.0:8080", 1), ("10.1.2.3:8080", 2), ("10.1.2.3:9000", 3), ("[::]:7000", 4)];
    let mut bench = Bench::new(config(), &primaries);
    let cases = [("10.1.2.3:8080", 2), ("10.7.7.7:8080", 1), ("10.1.2.3:9000", 3), ("10.1.2.3:7000", 4)];
    for (primary, job) in cases {
        let record = bench.one(&Frame::new(CLIENT, primary, b"x"));
        assert_eq!((record.header.job, record.header.direction), (job, Direction::Request as u8));
        assert_eq!(bench.job(job).matched_bytes, 1);
        let record = bench.one(&Frame::new(primary, CLIENT, b"HTTP/1.1 200 OK\r\n"));
        assert_eq!((record.header.job, record.header.direction), (job, Direction::Response as u8));
        assert_eq!(bench.job(job).witnessed, 1);
    }
    for (primary, job) in [("[2001:db8::1]:8080", 1), ("[2001:db8::1]:7000", 4)] {
        assert_eq!(bench.one(&Frame::new(CLIENT6, primary, b"x")).header.job, job);
    }
    bench.none(&Frame::new(CLIENT, "10.7.7.7:9000", b"x"), None);
}

#[test]
fn primaries_change_without_a_reload() {
    let mut bench = Bench::plain();
    bench.one(&request(b"x"));
    bench.loaded.primaries.replace(&wanted(&[("10.1.2.3:8081", 9)])).unwrap();
    bench.none(&request(b"x"), None);
    assert_eq!(bench.one(&Frame::new(CLIENT, "10.1.2.3:8081", b"x")).header.job, 9);
    bench.loaded.primaries.replace(&wanted(&[(PRIMARY, 9)])).unwrap();
    assert_eq!(bench.one(&request(b"x")).header.job, 9);
    bench.loaded.primaries.replace(&wanted(&[])).unwrap();
    bench.none(&request(b"x"), None);
}

#[test]
fn the_map_holds_as_many_primaries_as_it_says() {
    use mirror_common::map::MAX_PRIMARIES;
    let mut bench = Bench::plain();
    let endpoint = |n: u32| {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        (std::net::SocketAddr::from((ip, 8080)), 1)
    };
    bench.loaded.primaries.replace(&(0..MAX_PRIMARIES).map(endpoint).collect()).unwrap();
    let last = endpoint(MAX_PRIMARIES - 1).0.to_string();
    bench.one(&Frame::new(CLIENT, &last, b"x"));
    let error = bench.loaded.primaries.replace(&(0..=MAX_PRIMARIES).map(endpoint).collect()).unwrap_err();
    assert!(error.to_string().contains("4097"), "{error}");
    bench.one(&Frame::new(CLIENT, &last, b"x"));
}

#[test]
fn between_two_primaries_it_is_a_request_of_the_one_it_goes_to() {
    let mut bench = Bench::new(config(), &[("10.1.2.3:8080", 1), ("10.1.2.4:8080", 2)]);
    let record = bench.one(&Frame::new("10.1.2.3:8080", "10.1.2.4:8080", b"x"));
    assert_eq!((record.header.job, record.header.direction), (2, Direction::Request as u8));
}

#[test]
fn own_replays_are_passed_by_in_both_directions() {
    let mut bench = Bench::plain();
    let own = bench.loaded.own.clone();
    own.insert(CLIENT.parse().unwrap()).unwrap();
    bench.none(&request(b"x"), Some(TapCounter::OwnReplays));
    bench.none(&response(b"HTTP/1.1 200 OK\r\n"), Some(TapCounter::OwnReplays));
    assert_eq!(bench.job(JOB), Default::default());
    bench.one(&Frame::new("10.9.8.7:40002", PRIMARY, b"x"));
    // The primary's end is never own: only the client's is looked at.
    own.insert(PRIMARY.parse().unwrap()).unwrap();
    bench.one(&Frame::new("10.9.8.7:40002", PRIMARY, b"x"));
    own.remove(CLIENT.parse().unwrap()).unwrap();
    own.remove(CLIENT.parse().unwrap()).unwrap();
    bench.one(&request(b"x"));
}

#[test]
fn own_replays_are_excluded_on_ipv6_too() {
    let mut bench = Bench::plain();
    bench.loaded.own.insert(CLIENT6.parse().unwrap()).unwrap();
    bench.none(&Frame::new(CLIENT6, PRIMARY6, b"x"), Some(TapCounter::OwnReplays));
}

#[test]
fn request_segments_are_told_if_they_carry_or_change_anything() {
    let mut bench = Bench::plain();
    for flags in [SYN, FIN | ACK, RST, RST | ACK, FIN | PSH | ACK] {
        let frame = request(b"").flags(flags);
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    }
    bench.none(&request(b"").flags(ACK), Some(TapCounter::PureAcks));
    assert_eq!(bench.job(JOB).matched_bytes, 0);
    let frame = request(b"last words").flags(FIN | PSH | ACK);
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
}

#[test]
fn fast_open_data_stands_behind_the_number_of_its_syn() {
    let mut bench = Bench::plain();
    let frame = request(b"GET / HTTP/1.1\r\n\r\n").flags(SYN);
    let record = bench.one(&frame);
    record.assert_is(&frame, Direction::Request, 0);
    assert_eq!(record.header.seq, frame.seq, "the SYN's own");
    assert_eq!(bench.job(JOB).matched_bytes, frame.payload.len() as u64);
}

#[test]
fn responses_are_told_by_their_status_without_payload() {
    let mut bench = Bench::plain();
    let cases: [(&[u8], u16, u64); 7] = [
        (b"HTTP/1.1 200 OK\r\n\r\nbody", 200, 1),
        (b"HTTP/1.0 404 Not Found\r\n", 404, 1),
        (b"HTTP/1.1 599", 599, 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 100, 0),
        (b"HTTP/1.1 103 Early Hints\r\n", 103, 0),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101, 1),
        (b"HTTP/1.1 204 ", 204, 1),
    ];
    for (seq, (payload, status, witnessed)) in (1..).zip(cases) {
        let before = bench.job(JOB).witnessed;
        let frame = Frame { seq, ..response(payload) };
        let record = bench.one(&frame);
        record.assert_is(&frame, Direction::Response, status);
        let line = status_line(record.header.status, record.header.minor).unwrap();
        assert_eq!(line, payload[..STATUS_LINE], "the first bytes are known");
        assert_eq!(bench.job(JOB).witnessed - before, witnessed, "{status}");
    }
    assert_eq!(bench.job(JOB).matched_bytes, 0, "matched bytes are of the request direction");
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

#[test]
fn a_response_that_comes_again_is_told_again_and_witnessed_once() {
    let mut bench = Bench::plain();
    let frame = response(OK);
    for _ in 0..5 {
        bench.one(&frame).assert_is(&frame, Direction::Response, 200);
    }
    // From another interface, cut shorter, with another acknowledgement: one place in one stream is one head.
    let again = Frame { ack: frame.ack + 1, tags: vec![(0x8100, 7)], ..response(&OK[..15]) };
    bench.one(&again);
    bench.send_bytes("mirror_l3", &frame.ip_bytes());
    assert_eq!(bench.take().len(), 1);
    assert_eq!(bench.job(JOB).witnessed, 1);
    // The next one of this connection, and one at the same place of another, are others.
    bench.one(&Frame { seq: frame.seq + 100, ..frame.clone() });
    bench.one(&Frame::new(PRIMARY, "10.9.8.7:40002", OK));
    bench.one(&Frame::new(PRIMARY6, CLIENT6, OK));
    assert_eq!(bench.job(JOB).witnessed, 4);
}

#[test]
fn an_interim_response_is_no_witness_and_does_not_stand_for_the_final_one() {
    let mut bench = Bench::plain();
    let interim = Frame { seq: 1000, ..response(b"HTTP/1.1 100 Continue\r\n\r\n") };
    let last = Frame { seq: 1025, ..response(OK) };
    for _ in 0..2 {
        bench.one(&interim);
        bench.one(&last);
    }
    assert_eq!(bench.job(JOB).witnessed, 1);
}

#[test]
fn each_of_several_responses_under_way_is_witnessed_once_whatever_the_order() {
    let mut bench = Bench::plain();
    let heads: Vec<Frame> =
        (0..8_u32).map(|n| Frame { seq: (100 * n).wrapping_sub(300), ..response(OK) }).collect();
    for head in heads.iter().chain(heads.iter().rev()).chain(&heads) {
        bench.one(head);
    }
    assert_eq!(bench.job(JOB).witnessed, 8);
}

#[test]
fn a_new_response_is_never_missed_and_hardly_one_counts_twice_however_many_connections_there_are() {
    let config = mirror_agent::kernel::load::LoadConfig { ring_bytes: 32 << 20, ..config() };
    let mut bench = Bench::new(config, &[(PRIMARY, JOB)]);
    let client = |n: u32| format!("10.9.{}.7:{}", n / 40_000, 20_000 + n % 40_000);
    let head = |n: u32, seq: u32| Frame { seq, ..Frame::new(PRIMARY, &client(n), OK) };
    // More than are remembered.
    let all = u32::try_from(MAX_REMEMBERED_HEADS).unwrap() + 10_000;
    for n in 0..all {
        // Numbers as unlike as those that connections begin with.
        bench.send(&head(n, n.wrapping_mul(0x9e37_79b9)));
    }
    assert_eq!(bench.job(JOB).witnessed, u64::from(all));
    bench.take();
    // 3000 connections answer, and then all of that comes again, as after a pause of the network.
    let before = bench.job(JOB).witnessed;
    for _ in 0..2 {
        for n in 0..3000 {
            bench.send(&head(n, 1 << 20));
        }
    }
    let witnessed = bench.job(JOB).witnessed - before;
    assert!((3000..=3003).contains(&witnessed), "{witnessed} for 3000");
}

#[test]
fn what_only_looks_like_a_response_head_is_a_body() {
    let mut bench = Bench::plain();
    let cases: [&[u8]; 12] = [
        b"x",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 20x OK",
        b"HTTP/1.1 x00 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.x 200 OK",
        b"http/1.1 200 OK",
        b"HTTP-1.1 200 OK",
        b" HTTP/1.1 200 OK",
    ];
    for payload in cases {
        bench.none(&response(payload), Some(TapCounter::ResponseBodies));
    }
    assert_eq!(bench.job(JOB), Default::default());
}

#[test]
fn the_end_of_a_response_is_told_and_its_length_with_it() {
    let mut bench = Bench::plain();
    for (payload, flags) in [(&b""[..], FIN | ACK), (b"", RST), (b"the rest", FIN | ACK)] {
        let frame = response(payload).flags(flags);
        bench.one(&frame).assert_is(&frame, Direction::Response, 0);
    }
    bench.none(&response(b"").flags(ACK), Some(TapCounter::PureAcks));
    bench.none(&response(b"").flags(SYN | ACK), Some(TapCounter::PureAcks));
    let frame = response(b"HTTP/1.1 200 OK\r\n\r\n").flags(FIN | PSH | ACK);
    bench.one(&frame).assert_is(&frame, Direction::Response, 200);
}

#[test]
fn both_directions_of_a_connection_go_to_one_shard_and_connections_to_all() {
    let shards = 8;
    let mut bench = Bench::new(
        mirror_agent::kernel::load::LoadConfig { shards, ring_bytes: 1 << 20, ..config() },
        &[(PRIMARY, JOB)],
    );
    let mut seen = vec![0; shards as usize];
    for port in 0..400 {
        let client = format!("10.9.8.7:{}", 40_000 + port);
        let there = bench.one(&Frame::new(&client, PRIMARY, b"x"));
        let back = bench.one(&Frame::new(PRIMARY, &client, b"HTTP/1.1 200 OK\r\n"));
        assert_eq!((there.shard, there.header.hash), (back.shard, back.header.hash));
        assert_eq!(there.shard, ((u64::from(there.header.hash) * u64::from(shards)) >> 32) as usize);
        seen[there.shard] += 1;
    }
    assert!(seen.iter().all(|count| (20..90).contains(count)), "{seen:?}");
}

#[test]
fn a_tap_without_its_agent_is_inert_until_the_next_beat() {
    let config = mirror_agent::kernel::load::LoadConfig { needs_heartbeat: true, ..config() };
    let mut bench = Bench::new(config, &[(PRIMARY, JOB)]);
    let limit = std::time::Duration::from_nanos(HEARTBEAT_LIMIT_NS);
    // On a machine that stalls, the beat may be too old before the packet comes. That try says nothing.
    let alive = |bench: &mut Bench| {
        for _ in 0..20 {
            let beat = std::time::Instant::now();
            bench.loaded.heartbeat.beat();
            bench.send(&request(b"x"));
            let records = bench.take();
            if beat.elapsed() < limit {
                assert_eq!(records.len(), 1);
                return;
            }
        }
        panic!("20 times over a second between a beat and a packet");
    };
    alive(&mut bench);
    std::thread::sleep(limit + std::time::Duration::from_millis(100));
    bench.none(&request(b"x"), Some(TapCounter::Inert));
    alive(&mut bench);
    // The other kind of tap needs no beat.
    let mut bench = Bench::plain();
    std::thread::sleep(limit + std::time::Duration::from_millis(100));
    bench.one(&request(b"x"));
}
