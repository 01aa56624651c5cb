//! Connections put together here, with segments in any order, repeated, missing and cut.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::http::{AbortReason, H2Error, HeaderField, RequestHead, StreamHead, TunnelEnd, Waiting};
use crate::testing::quiet::Quiet;
use crate::testing::talk::{ACK, MS, RST, Sent, Talk};

/// What was heard, one line a request.
#[derive(Default)]
struct Log {
    requests: Vec<String>,
    conns: u64,
}

struct Conn {
    info: ConnInfo,
    /// Indices into the log.
    requests: Vec<usize>,
}

struct Heard<'a>(&'a mut Log, &'a mut Conn);

impl Observer for Log {
    type Conn = Conn;
    type Requests<'a> = Heard<'a>;

    fn open(&mut self, info: &ConnInfo) -> Conn {
        self.conns += 1;
        Conn { info: *info, requests: Vec::new() }
    }
    fn requests<'a>(&'a mut self, conn: &'a mut Conn) -> Heard<'a> {
        Heard(self, conn)
    }
    fn answer(&mut self, conn: &mut Conn, answer: &Answered) {
        let Which::Nth(number) = answer.request else { panic!("no stream was asked") };
        let line = &mut self.requests[conn.requests[usize::try_from(number).unwrap()]];
        line.push_str(&format!(" {}", answer.status));
    }
    fn close(&mut self, conn: Conn) {
        assert_eq!(conn.info.server.port, 80);
    }
}

impl Heard<'_> {
    fn add(&mut self, text: &str) {
        let at = *self.1.requests.last().unwrap();
        self.0.requests[at].push_str(text);
    }
}

impl Events for Heard<'_> {
    fn head(&mut self, head: &RequestHead<'_>) {
        self.1.requests.push(self.0.requests.len());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = format!("{}:{} {}", self.1.info.client.port, text(head.method), text(head.target));
        self.0.requests.push(line);
    }
    fn body(&mut self, bytes: &[u8], _: u64) {
        self.add(&format!("[{}]", bytes.len()));
    }
    fn end(&mut self, _: u64) {
        self.add(" end");
    }
    fn abort(&mut self, why: AbortReason) {
        self.add(&format!(" {why:?}"));
    }
    fn refused(&mut self, _: AbortReason) {}
    fn h2_begin(&mut self, _: bool) {}
    fn stream_head(&mut self, _: &StreamHead<'_>) {}
    fn stream_data(&mut self, _: u32, _: &[u8], _: bool, _: u64) {}
    fn stream_trailers(&mut self, _: u32, _: &[HeaderField<'_>], _: u64) {}
    fn stream_end(&mut self, _: u32, _: u64) {}
    fn stream_abort(&mut self, _: u32, _: AbortReason, _: Option<u32>) {}
    fn stream_cancelled(&mut self, _: u32, _: u32) {}
    fn h2_error(&mut self, _: H2Error) {}
    fn waiting(&mut self, _: Waiting, _: bool) {}
    fn tunnel(&mut self, _: u64) {}
    fn tunnel_data(&mut self, _: &[u8], _: u64) {}
    fn tunnel_frames(&mut self, _: u64, _: u64) {}
    fn tunnel_end(&mut self, _: TunnelEnd) {}
    fn parsed(&mut self, _: u64) {}
    fn not_http(&mut self, _: NotHttp, _: u64) {}
    fn skipped(&mut self, _: u64) {}
    fn buffered(&mut self, _: i64) {}
}

/// Requests in the order they were told, the law checked.
fn inspect(segments: &[Sent]) -> (Vec<String>, Counters) {
    let limits = flow::Limits { acknowledged_hole_ns: 3_000 * MS, ..flow::Limits::default() };
    inspect_with(limits, DialogLimits::default(), BTreeSet::new(), segments)
}

fn inspect_with(
    limits: flow::Limits,
    dialog: DialogLimits,
    ports: BTreeSet<u16>,
    segments: &[Sent],
) -> (Vec<String>, Counters) {
    let mut dialogs = Dialogs::new(limits, http::Limits::default(), dialog, ports, Log::default());
    for sent in segments {
        dialogs.segment(&sent.view(), sent.time, false);
        assert!(dialogs.bytes().balance(), "{:?}", dialogs.bytes());
    }
    dialogs.finish();
    assert!(dialogs.bytes().balance() && dialogs.bytes().buffered == 0, "{:?}", dialogs.bytes());
    assert_eq!((dialogs.h2_memory(), dialogs.unanswered_memory()), (0, 0), "memory is left behind");
    let counters = *dialogs.counters();
    (std::mem::take(&mut dialogs.observer().requests), counters)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Three requests with answers of their own, a body among them.
fn three(port: u16) -> Vec<Sent> {
    let mut talk = Talk::new(port);
    talk.ask(&get("/1")).say(OK);
    talk.ask("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").ask("world");
    talk.say("HTTP/1.1 404 No\r\nContent-Length: 1500\r\n\r\n").say(&"x".repeat(1500));
    talk.ask(&get("/3")).say("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    talk.end()
}

fn expected(port: u16) -> Vec<String> {
    [" GET /1 end 200", " POST /2[5][5] end 404", " GET /3 end 503"]
        .iter()
        .map(|line| format!("{port}:{}", line.trim_start()))
        .collect()
}

#[test]
fn requests_get_the_answers_that_were_given_to_them() {
    let (requests, counters) = inspect(&three(4_000));
    assert_eq!(requests, expected(4_000));
    assert_eq!((counters.connections, counters.answered, counters.unanswered), (1, 3, 0));
}

#[test]
fn who_asks_is_found_without_a_syn_and_without_either_direction() {
    let whole = three(4_000);
    let later: Vec<_> = whole[3..].to_vec();
    assert_eq!(inspect(&later).0, expected(4_000));
    let asked: Vec<_> = whole.iter().filter(|sent| sent.client).cloned().collect();
    let (requests, counters) = inspect(&asked);
    assert_eq!(requests, ["4000:GET /1 end", "4000:POST /2[5][5] end", "4000:GET /3 end"]);
    assert_eq!(counters.unanswered, 3);
    let said: Vec<_> = whole.iter().filter(|sent| !sent.client).cloned().collect();
    let (requests, counters) = inspect(&said);
    assert_eq!((requests.len(), counters.answers_unmatched), (0, 3));
}

#[test]
fn a_request_that_stands_behind_its_answer_in_the_file_gets_it() {
    let whole = three(4_000);
    // Each segment moved behind the five after it, the times in the order of the file.
    for from in 0..whole.len() {
        let mut moved = whole.clone();
        let segment = moved.remove(from);
        moved.insert((from + 5).min(moved.len()), segment);
        for (sent, at) in moved.iter_mut().zip(&whole) {
            sent.time = at.time;
        }
        assert_eq!(inspect(&moved).0, expected(4_000), "segment {from}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_by_heads_in_one_segment() {
    let mut talk = Talk::new(4_000);
    talk.ask(&[get("/a"), get("/b"), get("/c")].concat());
    talk.say(&format!("{OK}HTTP/1.1 304 Not\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    let (requests, _) = inspect(&talk.end());
    assert_eq!(requests, ["4000:GET /a end 200", "4000:GET /b end 304", "4000:GET /c end 100 500"]);
}

#[test]
fn the_answer_to_head_has_no_body() {
    let mut talk = Talk::new(4_000);
    talk.ask("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").say("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n");
    talk.ask(&get("/b")).say("HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(inspect(&talk.end()).0, ["4000:HEAD /a end 200", "4000:GET /b end 201"]);
}

#[test]
fn a_lost_answer_is_not_given_to_another_request() {
    let mut talk = Talk::new(4_000);
    for (path, status) in [("/a", 200), ("/b", 404), ("/c", 500)] {
        talk.ask(&get(path)).say(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    }
    let whole = talk.end();
    // The answer to /b is the seventh segment after the handshake's three, counted from 0.
    let lost: Vec<_> = whole.iter().enumerate().filter(|(at, _)| *at != 6).map(|(_, s)| s.clone()).collect();
    assert_eq!(inspect(&lost).0, ["4000:GET /a end 200", "4000:GET /b end", "4000:GET /c end 500"]);
}

#[test]
fn a_lost_request_takes_its_answer_with_it() {
    let mut talk = Talk::new(4_000);
    for (path, status) in [("/a", 200), ("/b", 404), ("/c", 500), ("/d", 204)] {
        talk.ask(&get(path)).say(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    }
    let whole = talk.end();
    let lost: Vec<_> = whole.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, s)| s.clone()).collect();
    let (requests, counters) = inspect(&lost);
    assert_eq!(requests, ["4000:GET /a end 200", "4000:GET /c end 500", "4000:GET /d end 204"]);
    assert_eq!(counters.answers_unmatched, 1);
}

#[test]
fn a_cut_segment_is_a_hole_and_what_follows_is_found() {
    let mut talk = Talk::new(4_000);
    talk.ask("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").ask(&"x".repeat(1000)).say(OK);
    talk.ask(&get("/b")).say(OK);
    let mut whole = talk.end();
    whole[4].payload.truncate(100);
    assert_eq!(inspect(&whole).0, ["4000:POST /a[100] Gap 200", "4000:GET /b end 200"]);
}

#[test]
fn a_reset_waits_for_a_segment_that_stands_behind_it() {
    let mut talk = Talk::new(4_000);
    talk.ask("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").ask("hello").say(OK);
    talk.send(false, RST | ACK, b"");
    let mut whole = std::mem::take(&mut talk.sent);
    whole.swap(4, 6);
    assert_eq!(inspect(&whole).0, ["4000:POST /a[5] end 200"]);
}

#[test]
fn the_same_ends_connect_again_and_again() {
    let mut all = Vec::new();
    for round in 0..3_u32 {
        let mut again = three(4_000);
        for sent in &mut again {
            sent.seq = sent.seq.wrapping_add(round * 77_777);
            sent.ack = sent.ack.wrapping_add(round * 77_777);
            sent.time += u64::from(round) * 100 * MS;
        }
        all.extend(again);
    }
    let (requests, counters) = inspect(&all);
    assert_eq!(requests, [expected(4_000), expected(4_000), expected(4_000)].concat());
    assert_eq!(counters.connections, 3);
}

#[test]
fn named_ports_serve_and_others_are_not_looked_at() {
    let with = |port| {
        let limits = flow::Limits { acknowledged_hole_ns: 3_000 * MS, ..flow::Limits::default() };
        inspect_with(limits, DialogLimits::default(), BTreeSet::from([port]), &three(4_000)).0
    };
    assert_eq!(with(80), expected(4_000));
    assert!(with(81).is_empty());
    assert!(with(4_000).is_empty(), "whoever has that port serves, and it asks");
}

#[test]
fn too_many_held_answers_give_the_missing_request_up() {
    let mut talk = Talk::new(4_000);
    talk.ask(&get("/first")).say(OK).ask(&get("/lost"));
    for _ in 0..40 {
        talk.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)));
    }
    talk.ask(&get("/found")).say(OK);
    let mut whole = talk.end();
    whole.remove(5);
    let limits = flow::Limits { acknowledged_hole_ns: 3_000 * MS, ..flow::Limits::default() };
    let dialog = DialogLimits { held_bytes_per_connection: 10_000, ..DialogLimits::default() };
    let (requests, counters) = inspect_with(limits, dialog, BTreeSet::new(), &whole);
    assert!(counters.held_overflows > 0, "{counters:?}");
    assert_eq!(requests, ["4000:GET /first end 200", "4000:GET /found end 200"]);
}

#[test]
fn a_full_table_and_a_broken_clock_lose_nothing_silently() {
    let mut all: Vec<_> = (0..200).flat_map(|at| three(4_000 + at)).collect();
    all.sort_by_key(|sent| sent.time);
    let limits = flow::Limits { flows: 64, acknowledged_hole_ns: 3_000 * MS, ..flow::Limits::default() };
    let (requests, _) = inspect_with(limits, DialogLimits::default(), BTreeSet::new(), &all);
    let known: BTreeSet<_> =
        (0..200).flat_map(|at| expected(4_000 + at)).map(|line| line[..8].to_owned()).collect();
    assert!(requests.iter().all(|line| known.contains(&line[..8])));

    let mut odd = three(4_000);
    odd[5].time = u64::MAX / 2;
    odd[7].time = 0;
    assert_eq!(inspect(&odd).0, expected(4_000));
}

#[test]
fn a_connection_costs_what_the_manual_says() {
    let own = size_of::<one::Dialog<Quiet>>() + size_of::<http::Connection>() + size_of::<replies::Replies>();
    let table = 2 * Table::<usize>::FLOW_BYTES;
    assert!(own + table <= 2_048, "{own} and {table} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Segments a little out of order and repeated, of several connections: the same requests with the same answers.
    #[test]
    fn order_and_repetition_change_nothing(moves in prop::collection::vec((any::<prop::sample::Index>(), 1..6_usize), 0..8), repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..5), connections in 1..4_u16) {
        let mut all: Vec<_> = (0..connections).flat_map(|at| three(4_000 + at)).collect();
        all.sort_by_key(|sent| sent.time);
        let times: Vec<_> = all.iter().map(|sent| sent.time).collect();
        // The first of each connection stay first: without them it begins elsewhere.
        let fixed = usize::from(connections) * 3;
        for (from, by) in moves {
            let from = fixed + from.index(all.len() - fixed);
            let segment = all.remove(from);
            all.insert((from + by).min(all.len()), segment);
        }
        for (sent, time) in all.iter_mut().zip(times) {
            sent.time = time;
        }
        for at in repeats {
            let at = at.index(all.len());
            all.insert(at + 1, all[at].clone());
        }
        let (mut requests, _) = inspect(&all);
        requests.sort();
        // How a body comes in pieces is not the point.
        let whole = |line: &String| line.replace("[10]", "[5][5]");
        let expected: Vec<_> = (0..connections).flat_map(|at| expected(4_000 + at)).collect();
        let mut expected: Vec<_> = expected.iter().map(whole).collect();
        expected.sort();
        prop_assert_eq!(requests.iter().map(whole).collect::<Vec<_>>(), expected);
    }

    /// Whatever is missing or cut: no request is invented, and the law holds.
    #[test]
    fn what_is_missing_invents_nothing(lost in prop::collection::vec(any::<prop::sample::Index>(), 0..6), cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..60_usize), 0..3)) {
        let mut all = three(4_000);
        for (at, keep) in cuts {
            let at = at.index(all.len());
            all[at].payload.truncate(keep);
        }
        for at in lost {
            let at = at.index(all.len());
            all.remove(at);
        }
        let (requests, _) = inspect(&all);
        for line in requests {
            prop_assert!(expected(4_000).iter().any(|known| known.split([' ', '[']).nth(1) == line.split([' ', '[']).nth(1)), "{}", line);
            prop_assert!(!line.contains(" end") || !line.contains("POST") || line.contains("[5][5]"), "{}", line);
        }
    }

    /// Bytes of any kind on both sides: nothing panics, every byte has its place.
    #[test]
    fn any_bytes_have_their_place(pieces in prop::collection::vec((any::<bool>(), prop_oneof![Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()), Just(OK.as_bytes().to_vec()), Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()), Just(vec![0, 0, 0, 4, 0, 0, 0, 0, 0]), prop::collection::vec(any::<u8>(), 0..40)], 0..40_u8), 0..30)) {
        let mut talk = Talk::new(4_000);
        let mut all = Vec::new();
        for (client, bytes, flags) in pieces {
            talk.send(client, flags, &bytes);
            all.append(&mut talk.sent);
        }
        let limits = flow::Limits { acknowledged_hole_ns: 3_000 * MS, ..flow::Limits::default() };
        let mut dialogs = Dialogs::new(limits, http::Limits::default(), DialogLimits::default(), BTreeSet::new(), Quiet);
        for sent in &all {
            dialogs.segment(&sent.view(), sent.time, false);
            prop_assert!(dialogs.bytes().balance(), "{:?}", dialogs.bytes());
        }
        dialogs.finish();
        prop_assert!(dialogs.bytes().balance() && dialogs.bytes().buffered == 0, "{:?}", dialogs.bytes());
        prop_assert_eq!((dialogs.h2_memory(), dialogs.unanswered_memory()), (0, 0));
    }
}

#[test]
fn the_seeds_of_dialog_are_talks() {
    // A segment ends with a sign: of the client, of the server, the FIN of each, then what else the target knows.
    const ASKS: &[u8] = &[0xff, 18];
    const SAYS: &[u8] = &[0xff, 19];
    const ENDS: &[u8] = &[0xff, 14, 0xff, 15];
    let get = get("/1");
    let seed = |parts: &[&[u8]]| [&[&[0][..]], parts].concat().concat();
    let talk = [get.as_bytes(), ASKS, OK.as_bytes(), SAYS, get.as_bytes(), ASKS, OK.as_bytes(), SAYS, ENDS];
    let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
    crate::testing::seeds::hold(
        "dialog",
        &[
            ("talk", seed(&talk)),
            ("early", seed(&[get.as_bytes(), ASKS, OK.as_bytes(), SAYS, &[0xff, 2], ENDS])),
            ("again", seed(&[get.as_bytes(), ASKS, &[0xff, 4], OK.as_bytes(), SAYS, &[0xff, 4], ENDS])),
            (
                "hole",
                seed(&[
                    get.as_bytes(),
                    ASKS,
                    b"lost",
                    ASKS,
                    &[0xff, 6],
                    OK.as_bytes(),
                    SAYS,
                    &[0xff, 0x6c],
                    ENDS,
                ]),
            ),
            ("small", [&[1][..], &talk.concat()].concat()),
            ("tap", [&[6][..], &talk.concat()].concat()),
            ("h2", seed(&[h2, ASKS, b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88", SAYS, ENDS])),
            ("two", seed(&[get.as_bytes(), ASKS, &[0xff, 0x2a], get.as_bytes(), ASKS, OK.as_bytes(), SAYS])),
        ],
    );
}
