//! `mirror replay`: captures that tcpdump made of real clients, sent to real shadows. What the shadow's log holds is what
//! the primary's held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario ends by a panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mirror_tests::client::{chunked, noise, request};
use mirror_tests::copy::{expected, without_marker};
use mirror_tests::eventually::eventually;
use mirror_tests::mirror::{binary, event};
use mirror_tests::peers::{self, Server, grpc_calls, h2load, ws_client};
use mirror_tests::server::{Line, ids};
use mirror_tests::tcpdump::{Recording, records, retimed};
use mirror_tests::world::{Family, IDENTICAL};
use mirror_tests::{Conn, Load, Process, Reviews, Stats, World, load};
use nix::sys::signal::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
/// 2 s are promised, the rest is for a busy machine.
const END: Duration = Duration::from_millis(4500);

/// A `mirror replay` on the node.
struct Replay(Process);

/// How one ended.
struct Ended {
    status: ExitStatus,
    stats: Stats,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Replay {
    /// Replays `files` to the world's shadow.
    fn start(world: &World, files: &[&Path], args: &[&str]) -> Self {
        let mut command = world.node.command(binary());
        command.arg("replay").args(files).args(["--json", "--shadow"]);
        command.arg(format!("http://{}", world.shadow_at(Family::V4))).args(args);
        Self(Process::spawn("mirror replay", command).unwrap())
    }

    /// Waits for its end. Both laws hold in its last words, and nothing is on its way.
    #[track_caller]
    fn ended(self) -> Ended {
        let (status, stdout, stderr) = self.0.finish(PATIENCE).unwrap();
        let last = stdout.iter().find_map(|line| event(line, "final"));
        let stats = Stats(last.unwrap_or_else(|| panic!("no last words: {stdout:?} {stderr:?}")));
        assert_eq!(stats.broken_laws(), Vec::<String>::new(), "the mirror says {stats:?}");
        assert!(stats.at_rest(), "the mirror says {stats:?}");
        assert_eq!(stats.n("/flows"), 0, "{stats:?}");
        Ended { status, stats, stdout, stderr }
    }
}

/// Replays to the end, which must be a good one.
#[track_caller]
fn replay(world: &World, files: &[&Path], args: &[&str]) -> Stats {
    let ended = Replay::start(world, files, args).ended();
    assert!(ended.status.success(), "{}: {:?}", ended.status, ended.stderr);
    assert_eq!(ended.stderr, Vec::<String>::new());
    ended.stats
}

#[track_caller]
fn all_delivered(stats: &Stats, count: u64) {
    assert_eq!(stats.delivered(0), count, "{}; the mirror says {stats:?}", stats.losses(0));
    assert_eq!(stats.shadow(0, "copies"), count, "{stats:?}");
}

fn shadow(world: &World, options: &[&str]) -> Reviews {
    Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), options).unwrap()
}

/// A server of HTTP/1 at the primary's place, recorded while `say` talks to it; its log and the capture of `count` requests.
fn recorded(world: &World, count: u64, say: impl FnOnce(&Reviews)) -> (Vec<Line>, PathBuf) {
    let at = world.primary_at(Family::V4);
    let primary = Reviews::start(&world.pri, world.dir(), at, &["--heads"]).unwrap();
    let recording = Recording::start(&world.pri, world.dir(), at).unwrap();
    say(&primary);
    let capture = recording.end(count).unwrap();
    eventually("the log has every request", Duration::from_secs(10), || {
        primary.requests().len() as u64 >= count
    });
    assert_eq!(primary.requests().len() as u64, count, "requests in the primary's log");
    (primary.requests(), capture)
}

/// `count` GETs on each of some connections, one after the other.
fn gets(world: &World, primary: &Reviews, connections: u64, count: u64) {
    for n in 0..connections {
        let mut conn = world.open(primary.at());
        for i in 0..count {
            conn.exchange(&request("GET", "/", &format!("get-{n}-{i}"), "", b"")).unwrap();
        }
        // Both ends have ended it before the next one begins.
        conn.half_close().unwrap();
        assert!(conn.at_end());
    }
}

/// A capture of `count` GETs on one connection, made to last `micros` from its first packet to its last.
fn spread_gets(world: &World, count: u64, micros: u64) -> PathBuf {
    let (_, capture) = recorded(world, count, |primary| gets(world, primary, 1, count));
    let bytes = std::fs::read(capture).unwrap();
    let all = records(&bytes);
    let first = all[0].1;
    let span = all[all.len() - 1].1 - first;
    let path = world.dir().join("spread.pcap");
    let spread = |time: u64| first + (time - first) * micros / span;
    std::fs::write(&path, retimed(&bytes, spread)).unwrap();
    path
}

/// A load of GETs and POSTs over eight connections that are replaced each 20 requests.
fn mixed(world: &World, primary: &Reviews, requests: u64, body: usize) {
    let mut load = Load::new(primary.at(), 8, requests);
    (load.post_every, load.body, load.per_connection) = (4, body, 20);
    load::run(&world.cli, &load).all_answered();
}

/// Requests in many shapes: lengths, chunks, pipelined in one segment, split over many, `Connection: close`.
fn shapes(world: &World, primary: &Reviews) -> u64 {
    let body = noise(300_000, 5);
    let mut sent = 0;
    let mut conn = world.open(primary.at());
    for method in ["GET", "HEAD", "DELETE", "PUT", "POST"] {
        conn.exchange(&request(method, "/plain?a=%20", &format!("plain-{method}"), "", b"")).unwrap();
        sent += 1;
    }
    for (n, size) in [1, 1400, 70_000, 300_000].into_iter().enumerate() {
        conn.exchange(&request("POST", "/length", &format!("length-{n}"), "", &body[..size])).unwrap();
        let mut bytes =
            request("PUT", "/chunks", &format!("chunks-{n}"), "Transfer-Encoding: chunked\r\n", b"");
        bytes.extend(chunked(&body[..size], 3000, "X-Trailer: yes\r\n"));
        conn.exchange(&bytes).unwrap();
        sent += 2;
    }
    let pipelined: Vec<u8> =
        (0..6).flat_map(|n| request("GET", "/pipelined", &format!("pipelined-{n}"), "", b"")).collect();
    conn.send(&pipelined).unwrap();
    for _ in 0..6 {
        conn.response("GET").unwrap();
        sent += 1;
    }
    let whole = request("POST", "/split", "split", "X-Case: One\r\nx-case:  two \r\n", &body[..40]);
    conn.send_split(&whole, &(1..whole.len()).step_by(9).collect::<Vec<_>>()).unwrap();
    conn.response("POST").unwrap();
    let mut other = world.open(primary.at());
    other.exchange(&request("GET", "/closing", "closing", "Connection: close\r\n", b"")).unwrap();
    assert!(other.at_end());
    sent + 2
}

const SHAPES: u64 = 5 + 8 + 6 + 2;

#[test]
fn what_clients_sent_arrives_byte_for_byte_at_any_pace() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, SHAPES, |primary| assert_eq!(shapes(&world, primary), SHAPES));
    for args in [&["--speed", "1x"][..], &["--speed", "max"], &["--speed", "max", "--connections", "shared"]]
    {
        let shadow = shadow(&world, &["--heads"]);
        let stats = replay(&world, &[&capture], &[&IDENTICAL[..], args].concat());
        all_delivered(&stats, SHAPES);
        let copies = shadow.requests();
        assert_eq!(ids(&copies), ids(&sent), "{args:?}");
        for original in &sent {
            let copy = copies.iter().find(|line| line.id == original.id).unwrap();
            assert_eq!((&copy.head, &copy.body_hash), (&original.head, &original.body_hash), "{args:?}");
        }
        assert_eq!(stats.n("/primary/answered/2xx"), SHAPES, "the primary's answers are read too");
        assert_eq!(stats.n("/primary/latency_us/count"), SHAPES, "{stats:?}");
    }
}

#[test]
fn by_default_copies_are_changed_and_marked_as_live_ones_and_marked_ones_are_not_sent_again() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 6, |primary| {
        let mut conn = world.open(primary.at());
        for n in 0..6 {
            let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
            let mark = if n < 2 { "X-Mirror-Job: another\r\n" } else { trace };
            conn.exchange(&request("GET", "/", &format!("default-{n}"), mark, b"")).unwrap();
        }
    });
    let shadow = shadow(&world, &["--heads"]);
    let stats = replay(&world, &[&capture], &["--speed", "max", "--name", "again"]);
    all_delivered(&stats, 4);
    assert_eq!((stats.observed(), stats.n("/requests/filtered/marker")), (6, 2));
    for copy in shadow.requests() {
        let original = sent.iter().find(|line| line.id == copy.id).unwrap();
        let (rest, job) = without_marker(&copy.head);
        assert_eq!((rest, job.as_str()), (expected(&original.head), "again"));
    }
}

#[test]
fn the_distances_between_requests_are_kept_and_divided_by_the_speed() {
    let world = World::routed();
    let path = spread_gets(&world, 5, 4_000_000);
    let due: Vec<u64> = {
        let output =
            std::process::Command::new(binary()).args(["inspect", "--json"]).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| micros(serde_json::from_str::<Value>(line).unwrap()["time"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(due.len(), 5);
    for (speed, thousandths) in [("1x", 1000), ("2x", 2000), ("0.8", 800)] {
        let shadow = shadow(&world, &[]);
        let begun = Instant::now();
        all_delivered(&replay(&world, &[&path], &["--speed", speed]), 5);
        let whole = Duration::from_micros(4_000_000 * 1000 / thousandths);
        assert!(begun.elapsed() >= whole, "{speed}: {:?}", begun.elapsed());
        let came: Vec<u64> = shadow.requests().iter().map(|line| line.at_us).collect();
        for (n, at) in came.iter().enumerate() {
            // The server was there before the replay began, so none may come earlier by its clock; all may come later.
            let distance = (due[n] - due[0]) * 1000 / thousandths;
            assert!(*at >= distance, "{speed}: request {n} came after {at} us: {came:?}, due {due:?}");
        }
    }
}

/// Microseconds since midnight of an RFC 3339 time.
fn micros(time: &str) -> u64 {
    let (_, time) = time.split_once('T').unwrap();
    let (whole, part) = time.trim_end_matches('Z').split_once('.').unwrap();
    let whole = whole.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u64>().unwrap());
    whole * 1_000_000 + part[..6].parse::<u64>().unwrap()
}

#[test]
fn at_max_no_limit_drops_what_a_slow_shadow_takes_in_its_own_time() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 400, |primary| mixed(&world, primary, 400, 30_000));
    let shadow = shadow(&world, &["--delay-ms", "4"]);
    let args = ["--speed", "max", "--max-in-flight", "3", "--max-queued-bytes", "1MiB"];
    let begun = Instant::now();
    all_delivered(&replay(&world, &[&capture], &args), 400);
    assert_eq!(ids(&shadow.requests()), ids(&sent));
    assert!(begun.elapsed() >= Duration::from_millis(4 * 400 / 3), "three at a time: {:?}", begun.elapsed());
}

#[test]
fn at_max_bodies_larger_than_the_queue_wait_for_a_shadow_that_reads_slowly() {
    let world = World::routed();
    let body = noise(3 << 20, 3);
    let (sent, capture) = recorded(&world, 4, |primary| {
        for n in 0..4 {
            let method = if n % 2 == 0 { "PUT" } else { "POST" };
            let whole = request(method, "/large", &format!("large-{n}"), "", &body);
            world.open(primary.at()).exchange(&whole).unwrap();
        }
    });
    // 4 KiB each 10 ms would take a minute for all; a few connections at a time read side by side.
    let shadow = shadow(&world, &["--reply", "slow-read", "--receive-buffer", "65536"]);
    let args = ["--speed", "max", "--max-queued-bytes", "1MiB"];
    let stats = replay(&world, &[&capture], &args);
    all_delivered(&stats, 4);
    let (mut copies, mut sent) = (shadow.requests(), sent);
    for lines in [&mut copies, &mut sent] {
        lines.sort_by(|a, b| a.id.cmp(&b.id));
    }
    let bodies = |lines: &[Line]| lines.iter().map(|line| line.body_hash.clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&copies), bodies(&sent));
}

#[test]
fn at_max_a_connection_is_waited_for_and_so_is_the_next_second_of_a_rate() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 60, |primary| gets(&world, primary, 20, 3));
    let shadow = shadow(&world, &["--delay-ms", "2"]);
    let begun = Instant::now();
    let args = ["--speed", "max", "--max-connections", "2", "--max-rps", "50"];
    let stats = replay(&world, &[&capture], &args);
    all_delivered(&stats, 60);
    assert_eq!((ids(&shadow.requests()), stats.sum("/requests/sampled_out")), (ids(&sent), 0));
    // All but the first five, which are the burst.
    assert!(begun.elapsed() >= Duration::from_millis(1080), "{:?}", begun.elapsed());
}

#[test]
fn rounds_come_one_after_the_other_on_connections_of_their_own() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 12, |primary| gets(&world, primary, 3, 4));
    for speed in ["max", "4x"] {
        let shadow = shadow(&world, &[]);
        let stats = replay(&world, &[&capture], &["--speed", speed, "--loop", "3"]);
        all_delivered(&stats, 36);
        assert_eq!(stats.shadow(0, "connects"), 9, "{stats:?}");
        assert_eq!(ids(&shadow.requests()).len(), 3 * sent.len());
        assert_eq!(shadow.log().iter().map(|line| line.conn).max(), Some(8), "nine connections");
    }
}

#[test]
fn several_files_are_one_capture_and_several_shadows_get_each_request() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 8, |primary| gets(&world, primary, 1, 8));
    let bytes = std::fs::read(capture).unwrap();
    let all = records(&bytes);
    let middle = all[all.len() / 2].0;
    let (first, second) = (world.dir().join("1.pcap"), world.dir().join("2.pcap"));
    std::fs::write(&first, &bytes[..middle]).unwrap();
    std::fs::write(&second, [&bytes[..24], &bytes[middle..]].concat()).unwrap();
    let one = shadow(&world, &[]);
    let mut other = world.shadow_at(Family::V4);
    other.set_port(8082);
    let two = Reviews::start(&world.sha, world.dir(), other, &[]).unwrap();
    let url = format!("http://{other}");
    let stats = replay(&world, &[&first, &second], &["--speed", "max", "--shadow", &url]);
    all_delivered(&stats, 8);
    assert_eq!(stats.delivered(1), 8, "{stats:?}");
    assert_eq!((ids(&one.requests()), ids(&two.requests())), (ids(&sent), ids(&sent)));
    assert_eq!((stats.shadow(0, "connects"), stats.n("/flows_opened")), (1, 1), "{stats:?}");
}

#[test]
fn what_is_left_out_is_counted_and_the_same_seed_chooses_the_same() {
    let world = World::routed();
    let (_, capture) = recorded(&world, 40, |primary| {
        let mut conn = world.open(primary.at());
        for n in 0..20 {
            conn.exchange(&request("GET", "/api", &format!("get-{n}"), "", b"")).unwrap();
            conn.exchange(&request("POST", "/other", &format!("post-{n}"), "", b"x")).unwrap();
        }
    });
    let run = |args: &[&str]| {
        let shadow = shadow(&world, &[]);
        let stats = replay(&world, &[&capture], &[&["--speed", "max"], args].concat());
        let ids: Vec<String> = shadow.requests().into_iter().map(|line| line.id).collect();
        assert_eq!(stats.delivered(0), ids.len() as u64, "{stats:?}");
        assert_eq!(stats.observed(), if args.contains(&"--port") { 0 } else { 40 }, "{stats:?}");
        (stats, ids)
    };
    let (stats, half) = run(&["--percent", "50", "--seed", "7"]);
    assert!(!half.is_empty() && half.len() < 40, "{half:?}");
    assert_eq!(stats.n("/requests/sampled_out/percent"), 40 - half.len() as u64);
    assert_eq!(run(&["--percent", "50", "--seed", "7"]).1, half);
    assert_eq!(run(&["--percent", "0"]).1.len(), 0);
    assert_eq!(run(&["--percent", "200", "--methods", "safe"]).1.len(), 40);
    let twice = shadow(&world, &[]);
    let ended = Replay::start(&world, &[&capture], &["--speed", "max", "--percent", "200"]).ended();
    assert_eq!((ended.stats.delivered(0), twice.requests().len()), (80, 80), "{:?}", ended.stats);
    assert!(ended.stderr.len() == 1 && ended.stderr[0].contains("--methods safe"), "{:?}", ended.stderr);
    drop(twice);
    let (stats, reads) = run(&["--methods", "safe"]);
    assert_eq!((reads.len(), stats.n("/requests/filtered/method")), (20, 20));
    let (stats, api) = run(&["--filter", "path /api and dst port 8080 and authority reviews:8080"]);
    assert_eq!((api.len(), stats.n("/requests/filtered/expression")), (20, 20));
    let (stats, none) = run(&["--port", "80"]);
    assert_eq!((none.len(), stats.n("/bytes/matched")), (0, 0));
}

#[test]
fn grpc_and_other_http2_arrives_as_it_was_sent() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    let primary = Server::grpc(&world, &world.pri, at, &[]).unwrap();
    let recording = Recording::start(&world.pri, world.dir(), at).unwrap();
    assert_eq!(grpc_calls(&world.cli, at, &["all", "10"]).unwrap(), (40, 0));
    primary.has_logged(40);
    let capture = recording.end(40).unwrap();
    for speed in ["1x", "max"] {
        let shadow = Server::grpc(&world, &world.sha, world.shadow_at(Family::V4), &[]).unwrap();
        let stats = replay(&world, &[&capture], &["--speed", speed]);
        all_delivered(&stats, 40);
        assert_eq!((stats.shadow(0, "connects"), stats.shadow(0, "grpc_failed")), (1, 0), "{stats:?}");
        shadow.has_logged(40);
        let calls = |server: &Server| {
            let mut calls: Vec<_> = server
                .requests()
                .into_iter()
                .map(|line| (line.id, line.target, line.body_hash, line.concurrent))
                .collect();
            calls.sort();
            calls
        };
        assert_eq!(calls(&shadow), calls(&primary), "{speed}");
    }
}

#[test]
fn many_streams_wait_for_a_shadow_that_allows_few() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    let _primary = Server::nghttpd(&world, &world.pri, at, &[]).unwrap();
    std::fs::write(world.dir().join("file"), b"something").unwrap();
    let recording = Recording::start(&world.pri, world.dir(), at).unwrap();
    let url = format!("http://{at}/file");
    assert_eq!(h2load(&world.cli, &["-n", "1000", "-c", "4", "-m", "32", &url]).unwrap(), 1000);
    let capture = recording.end(1000).unwrap();
    let place = world.shadow_at(Family::V4);
    let _shadow = Server::nghttpd(&world, &world.sha, place, &["--max-concurrent-streams=2"]).unwrap();
    let stats = replay(&world, &[&capture], &["--speed", "max", "--max-in-flight", "5"]);
    all_delivered(&stats, 1000);
    assert_eq!(stats.shadow(0, "connects"), 4, "{stats:?}");
}

#[test]
fn websockets_say_again_what_their_clients_said() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    let primary = Server::hypercorn(&world, &world.pri, at, &["--workers", "0"]).unwrap();
    let recording = Recording::start(&world.pri, world.dir(), at).unwrap();
    let client = ws_client(&world.cli, at, &["close", "20"]).unwrap();
    assert_eq!(peers::report(client).unwrap(), (20, 0));
    primary.has_logged(20);
    let capture = recording.end(20).unwrap();
    for speed in ["2x", "max"] {
        let place = world.shadow_at(Family::V4);
        let shadow = Server::hypercorn(&world, &world.sha, place, &["--workers", "0"]).unwrap();
        let stats = replay(&world, &[&capture], &["--speed", speed]);
        all_delivered(&stats, 20);
        assert_eq!(stats.n("/websocket/tunnels"), 20, "{stats:?}");
        shadow.has_logged(20);
        let said = |server: &Server| {
            let mut said: Vec<_> = server
                .requests()
                .into_iter()
                .map(|line| (line.id, line.body_hash, line.bytes, line.concurrent, line.status))
                .collect();
            said.sort();
            said
        };
        assert_eq!(said(&shadow), said(&primary), "{speed}");
    }
}

#[test]
fn what_was_whole_in_a_damaged_capture_is_replayed_and_its_fault_said_once() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 10, |primary| gets(&world, primary, 1, 10));
    let bytes = std::fs::read(&capture).unwrap();
    let all = records(&bytes);
    let cut = world.dir().join("cut.pcap");
    std::fs::write(&cut, &bytes[..all[all.len() / 2].0 + 20]).unwrap();
    // Earlier than what is cut, and so a capture of its own.
    let whole = world.dir().join("whole.pcap");
    std::fs::write(&whole, retimed(&bytes, |time| time - 60_000_000)).unwrap();
    let text = world.dir().join("text.pcap");
    std::fs::write(&text, b"not a capture").unwrap();
    let shadow = shadow(&world, &[]);
    let ended = Replay::start(&world, &[&cut, &text, &whole], &["--speed", "max", "--loop", "2"]).ended();
    assert_eq!(ended.status.code(), Some(1));
    let said: Vec<_> = ended.stderr.iter().filter(|line| line.starts_with("mirror: ")).collect();
    assert_eq!(said.len(), 2, "{:?}", ended.stderr);
    let begins = format!("mirror: {}: at byte ", cut.display());
    assert!(said[0].starts_with(&begins) && said[0].contains("ends within a packet"), "{said:?}");
    assert!(said[1].contains("text.pcap: at byte 0: neither pcap nor pcapng"), "{said:?}");
    let delivered = ended.stats.delivered(0);
    assert_eq!(delivered, ended.stats.shadow(0, "copies"), "{}", ended.stats.losses(0));
    // Twice the whole one, and twice what was whole in the cut one.
    let (whole, part) = (2 * sent.len() as u64, delivered - 2 * sent.len() as u64);
    assert!(part >= 4 && part.is_multiple_of(2) && delivered > whole, "{delivered}");
    assert_eq!(shadow.requests().len() as u64, delivered);
}

#[test]
fn a_request_that_the_capture_does_not_hold_to_its_end_is_never_a_whole_one_at_the_shadow() {
    let world = World::routed();
    let body = noise(200_000, 9);
    let (_, capture) = recorded(&world, 1, |primary| {
        world.open(primary.at()).exchange(&request("POST", "/", "cut", "", &body)).unwrap();
    });
    let bytes = std::fs::read(&capture).unwrap();
    // In mid-body, between two packets: the file itself is whole.
    let data = records(&bytes).into_iter().find(|(at, _)| at - 24 > 100_000).unwrap().0;
    let part = world.dir().join("part.pcap");
    std::fs::write(&part, &bytes[..data]).unwrap();
    let shadow = shadow(&world, &[]);
    for speed in ["max", "1x"] {
        let stats = replay(&world, &[&part], &["--speed", speed]);
        assert_eq!((stats.delivered(0), stats.shadow(0, "dropped/client_closed")), (0, 1), "{stats:?}");
    }
    assert_eq!(shadow.requests(), []);
}

#[test]
fn a_shadow_that_refuses_fails_by_name_and_does_not_hold_the_replay_up_for_ever() {
    let world = World::routed();
    let (_, capture) = recorded(&world, 60, |primary| gets(&world, primary, 30, 2));
    for speed in ["50x", "max"] {
        let stats = replay(&world, &[&capture], &["--speed", speed]);
        let (refused, left_alone) = (stats.shadow(0, "failed/refused"), stats.shadow(0, "dropped/back_off"));
        assert_eq!(refused + left_alone, 60, "{stats:?}");
        assert!(refused > 0, "{stats:?}");
    }
}

#[test]
fn at_max_a_shadow_that_comes_a_moment_late_gets_what_was_not_tried_yet() {
    let world = World::routed();
    let (_, capture) = recorded(&world, 100, |primary| gets(&world, primary, 100, 1));
    let replay = Replay::start(&world, &[&capture], &["--speed", "max", "--admin", "127.0.0.1:9902"]);
    let stats = || {
        let to = "127.0.0.1:9902".parse().unwrap();
        let mut conn = Conn::open(&world.node, to).ok()?;
        let get = b"GET /api/v1/stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let body = conn.exchange(get).ok()?.body;
        Some(Stats(serde_json::from_slice(&body).ok()?))
    };
    eventually("a copy was refused", Duration::from_secs(20), || {
        stats().is_some_and(|stats| stats.sum("/shadows/0/failed/refused") > 0)
    });
    let shadow = shadow(&world, &[]);
    let ended = replay.ended();
    let delivered = ended.stats.delivered(0);
    assert_eq!(delivered, shadow.requests().len() as u64);
    // Those that waited for their connection when the first was refused end with it.
    let (refused, left_alone) =
        (ended.stats.shadow(0, "failed/refused"), ended.stats.shadow(0, "dropped/back_off"));
    assert_eq!(delivered + refused + left_alone, 100, "{:?}", ended.stats);
    assert!(delivered > 0, "{:?}", ended.stats);
}

#[test]
fn signals_and_the_duration_end_it_within_two_seconds_with_even_books() {
    let world = World::routed();
    // Half of the packets come an hour later.
    let (_, capture) = recorded(&world, 8, |primary| gets(&world, primary, 1, 8));
    let bytes = std::fs::read(capture).unwrap();
    let all = records(&bytes);
    let half = all[all.len() / 2].1;
    let path = world.dir().join("gap.pcap");
    let later = |time: u64| if time >= half { time + 3_500_000_000 } else { time };
    std::fs::write(&path, retimed(&bytes, later)).unwrap();
    let shadow = shadow(&world, &["--reply", "hang"]);
    for how in [Some(Signal::SIGTERM), Some(Signal::SIGINT), None] {
        let args: &[&str] = if how.is_none() { &["--duration", "2s"] } else { &[] };
        let before = shadow.requests().len();
        let mut replay = Replay::start(&world, &[&path], args);
        eventually("a copy is at the shadow", Duration::from_secs(20), || shadow.requests().len() > before);
        let begun = Instant::now();
        if let Some(signal) = how {
            replay.0.signal(signal);
        }
        let status = replay.0.wait(PATIENCE).unwrap();
        let took = begun.elapsed();
        assert!(took < END + if how.is_none() { Duration::from_secs(2) } else { Duration::ZERO }, "{took:?}");
        assert!(status.success());
        let ended = replay.ended();
        let copies = ended.stats.shadow(0, "copies");
        assert!(copies > 0 && ended.stats.shadow(0, "dropped/shutdown") == copies, "{:?}", ended.stats);
    }
    // At the highest pace it is stopped while it waits for room.
    let mut replay = Replay::start(&world, &[&path], &["--speed", "max", "--max-in-flight", "1"]);
    let before = shadow.requests().len();
    eventually("a copy is at the shadow", Duration::from_secs(20), || shadow.requests().len() > before);
    let begun = Instant::now();
    replay.0.signal(Signal::SIGTERM);
    assert!(replay.0.wait(PATIENCE).unwrap().success() && begun.elapsed() < END, "{:?}", begun.elapsed());
    let ended = replay.ended();
    assert_eq!(
        ended.stats.shadow(0, "dropped/shutdown"),
        ended.stats.shadow(0, "copies"),
        "{:?}",
        ended.stats
    );
}

#[test]
fn standard_input_is_replayed_while_it_comes() {
    let world = World::routed();
    let (sent, capture) = recorded(&world, 10, |primary| gets(&world, primary, 1, 10));
    let bytes = std::fs::read(&capture).unwrap();
    let shadow = shadow(&world, &[]);
    let mut command = world.node.command(binary());
    command.args(["replay", "-", "--json", "--speed", "max", "--shadow"]);
    command.arg(format!("http://{}", shadow.at()));
    let start = |command: &mut std::process::Command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all = records(&bytes);
    let mut child = start(&mut command);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&bytes[..all[all.len() / 2].0]).unwrap();
    eventually("the first half is at the shadow", Duration::from_secs(20), || shadow.requests().len() >= 3);
    assert!(shadow.requests().len() < sent.len());
    pipe.write_all(&bytes[all[all.len() / 2].0..]).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ids(&shadow.requests()), ids(&sent));
    // A pipe on which nothing comes does not keep it from its end.
    let mut child = start(&mut command);
    let mut pipe = child.stdin.take().unwrap();
    let before = shadow.requests().len();
    pipe.write_all(&bytes[..all[all.len() / 2].0]).unwrap();
    eventually("copies are at the shadow", Duration::from_secs(20), || shadow.requests().len() > before);
    let begun = Instant::now();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && begun.elapsed() < END, "{status} after {:?}", begun.elapsed());
    drop(pipe);
}

#[test]
fn it_says_each_second_how_it_does_and_serves_its_numbers() {
    let world = World::routed();
    let path = spread_gets(&world, 4, 4_000_000);
    let shadow = shadow(&world, &[]);
    let mut replay = Replay::start(&world, &[&path], &["--admin", "127.0.0.1:9902"]);
    replay.0.wait_line(Duration::from_secs(20), |line| event(line, "ready")).unwrap();
    let mut conn = Conn::open(&world.node, "127.0.0.1:9902".parse().unwrap()).unwrap();
    let metrics = conn.exchange(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(String::from_utf8_lossy(&metrics.body).contains("mirror_requests_observed_total"));
    let mut conn = Conn::open(&world.node, "127.0.0.1:9902".parse().unwrap()).unwrap();
    let ready = conn.exchange(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(ready.status, 200, "{}", String::from_utf8_lossy(&ready.body));
    let ended = replay.ended();
    assert!(ended.status.success());
    let seconds: Vec<_> = ended.stdout.iter().filter_map(|line| event(line, "stats")).collect();
    assert!(!seconds.is_empty(), "{:?}", ended.stdout);
    let health = seconds[0].pointer("/health/state").and_then(Value::as_str);
    assert_eq!(health, Some("mirroring"), "nothing is tapped, and nothing is to be");
    assert_eq!(shadow.requests().len(), 4);
}

#[test]
fn bad_input_is_one_line_and_nothing_is_sent() {
    let world = World::routed();
    let shadow = shadow(&world, &[]);
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/keepalive.pcap");
    let good = good.to_str().unwrap();
    for (args, code, said) in [
        (&["--speed", "fast", good][..], 2, "--speed fast: not a pace"),
        (&["--loop", "0", good], 2, "--loop"),
        (&["-", "--loop", "2"], 2, "standard input can be read once"),
        (&["--filter", "status 200", good], 2, "before its status is known"),
        (&["--percent", "1001", good], 2, "--percent 1001"),
        (&[], 2, "FILE"),
        (&[good, "/nowhere/at/all.pcap"], 1, "/nowhere/at/all.pcap: No such file or directory"),
        (&[good, "/tmp"], 1, "/tmp: a directory"),
        (&[good, "--shadow", "http://no-such-name.invalid:80"], 1, "no address is known for this name"),
    ] {
        let mut command = world.node.command(binary());
        command.arg("replay").args(args).args(["--shadow", &format!("http://{}", shadow.at())]);
        let (status, _, stderr) = Process::spawn("mirror", command).unwrap().finish(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {stderr:?}");
        let last = stderr.last().cloned().unwrap_or_default();
        assert!(last.starts_with("mirror: ") && last.contains(said), "{args:?}: {stderr:?}");
    }
    assert_eq!(shadow.log(), []);
}
