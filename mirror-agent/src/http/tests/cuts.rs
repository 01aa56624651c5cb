//! The same stream cut, repeated and reordered: the same requests.

use proptest::prelude::*;

use super::{GET, Wire};
use crate::flow::Start;
use crate::http::h2::PREFACE;
use crate::http::h2::tests::{Client, frame};
use crate::http::{Limits, NotHttp};
use crate::testing::script::{Act, MIDSTREAM, SMALL, Script, TRUST};
use crate::testing::seeds;
use crate::testing::voyage::Voyage;

const WS: &str =
    "GET /w HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n\r\n";
const H2C: &str = "GET /up HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";

/// Cuts of a segment into pieces.
const CUTS: [&[usize]; 6] = [&[usize::MAX], &[1], &[2, 5], &[3, 1, 7], &[16, 5], &[1, 200]];

#[test]
fn what_is_no_preface_after_an_upgrade_is_counted_whole_in_any_cut() {
    let broken = b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n";
    for cuts in CUTS {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send(H2C).answer(101).send(broken);
        let (_, book) = wire.close();
        assert!(book.log.ends_with("h2 upgraded\nerror Preface\n"), "{}", book.log);
        assert_eq!(
            (book.parsed, book.of(NotHttp::Http2)),
            (H2C.len() as u64, broken.len() as u64),
            "{cuts:?}"
        );
    }
    // One that is not complete waits, and is no request's at the end.
    let mut wire = Wire::new(Start::Syn);
    wire.send(H2C).answer(101).send(&PREFACE[..7]);
    assert_eq!(wire.connection.buffered(), 7);
    assert_eq!(wire.close().1.of(NotHttp::Http2), 7);
}

#[test]
fn a_data_frame_longer_or_shorter_than_announced_is_no_requests_in_any_cut() {
    for (body, end) in [(&b"hello!"[..], false), (b"hell", true), (b"helloworld", true)] {
        let mut client = Client::with_preface();
        client.post(1, &[("content-length", "5")]);
        let good = client.peek().len();
        client.data(1, body, end).get(3, "/next");
        let bytes = client.take();
        let wrong = 9 + body.len() as u64;
        for cuts in CUTS {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send(&bytes[..good]).send(&bytes[good..]);
            let book = wire.close().1;
            assert!(book.log.contains("#1 abort Malformed\n#3 GET http a /next\n"), "{}", book.log);
            assert_eq!(
                (book.parsed, book.of(NotHttp::Http2)),
                (bytes.len() as u64 - wrong, wrong),
                "{cuts:?}"
            );
        }
    }
}

#[test]
fn after_a_refused_head_the_next_request_is_found_in_any_cut() {
    let bad = "POST /bad HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello";
    for next in [GET.to_owned(), format!("\r\n{GET}"), format!("{GET}{GET}")] {
        for cuts in CUTS {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send(bad).answer(400).send(&next).answer(200).send(GET).answer(200);
            let book = wire.close().1;
            assert_eq!(book.heads.len(), 1 + next.matches("/a").count(), "{cuts:?} {}", book.log);
            assert_eq!(book.of(NotHttp::Malformed), bad.len() as u64);
        }
    }
}

#[test]
fn what_is_wrong_before_the_limit_of_a_line_is_wrong_in_any_cut() {
    let limits = Limits { max_head_bytes: 120, ..Limits::default() };
    let line = [&[b'm'; 50][..], &[0; 120]].concat();
    for cuts in [&[usize::MAX][..], &[1], &[9, 160], &[60, 1, 200]] {
        let mut wire = Wire::with(Start::Syn, crate::http::Pickup::Prove, &limits).cut(cuts);
        wire.send(&line);
        let book = wire.close().1;
        assert_eq!(book.of(NotHttp::Unknown), line.len() as u64, "{cuts:?}: {:?}", book.not_http);
    }
}

#[test]
fn a_candidate_that_came_in_many_pieces_is_of_the_time_it_came() {
    let refused = "POST /e HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n";
    let next = "POST /next HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
    for cuts in CUTS {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send(refused).answer(400).send(next);
        let came = wire.time;
        wire.send("x").send("y").answer(200).send(GET).answer(200);
        let book = wire.close().1;
        let head = book.heads.first().unwrap();
        assert!(head.raw.starts_with(b"POST /next ") && head.time == came, "{cuts:?}: {head:?}");
    }
}

#[test]
fn a_word_at_the_end_of_an_upload_is_not_the_method_of_the_request_after_it() {
    // The upload is answered in its middle, just before its last segment.
    for cuts in CUTS {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send(GET)
            .answer(200)
            .lose("POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .answer(400);
        wire.send("hello").send(GET).answer(200).send(GET).answer(200);
        let book = wire.close().1;
        assert!(!book.log.contains("hello") && book.heads.len() == 2, "{}", book.log);
    }
    // The same after a body that was not waited for.
    for cuts in CUTS {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send("POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").answer(400);
        wire.send("hello").send(GET).answer(200);
        let book = wire.close().1;
        assert!(book.log.contains("POST /e\n> hello\nend") && book.heads.len() == 2, "{}", book.log);
    }
}

#[test]
fn a_segment_that_is_half_a_request_line_is_a_candidate_in_any_cut() {
    let bad = "POST /bad HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello";
    for (first, second, found) in [
        // A scheme may go on.
        ("GET htt", "p://a/a HTTP/1.1\r\nHost: a\r\n\r\n", &b"GET htt"[..]),
        ("GET /a HTTP/1.1\r\nHo", "st: a\r\n\r\n", b"GET /a HTTP/1.1\r\nHost"),
        // What cannot stand in a target shows that this is none, and what is answered next is a request.
        ("word TCP4 x", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a"),
        ("word /\0", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a"),
    ] {
        for cuts in CUTS {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send(bad).answer(400).send(first);
            if !found.starts_with(first.as_bytes()) {
                wire.answer(200);
            }
            wire.send(second).answer(200);
            let book = wire.close().1;
            let heads: Vec<_> = book.heads.iter().map(|head| head.raw.starts_with(found)).collect();
            assert_eq!(heads, [true], "{first:?} {cuts:?}: {}", book.log);
        }
    }
}

#[test]
fn on_a_connection_of_http_1_0_that_is_kept_the_next_request_is_found_in_any_cut() {
    for next in [GET, "\r\nGET /a HTTP/1.1\r\n\r\n"] {
        for cuts in CUTS {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send("GET /old HTTP/1.0\r\n\r\n").answer(200).send(next);
            assert_eq!(wire.close().1.heads.len(), 2, "{cuts:?}");
        }
    }
}

#[test]
fn what_followed_a_wish_to_leave_is_pipelined_or_not_in_any_cut() {
    for cuts in CUTS {
        let mut wire = Wire::new(Start::Syn).cut(cuts);
        wire.send([GET, H2C].concat()).answer(200).send("PUT / HTTP/1.1\r\n\r\n").answer(200);
        let answers: Vec<_> = wire.answers.iter().map(|answer| answer.request).collect();
        assert_eq!((answers, wire.close().0), (vec![0, 2], 1), "{cuts:?}");
    }
}

/// Words of clients, good and bad.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        GET,
        "\r\n",
        "\n",
        "GET /old HTTP/1.0\r\n\r\n",
        "GET /last HTTP/1.1\r\nConnection: close\r\n\r\n",
        "POST /p HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        "hello",
        "POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nT: 1\r\n\r\n",
        "5\r\nhello!",
        "POST /bad HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /caf\u{e9} HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n",
        "Name: value\r\n",
        "GET",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        WS,
        H2C,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSX",
        "PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n",
        "\u{16}\u{3}\u{1}",
    ]);
    let binary = prop::sample::select(vec![
        b"\x81\x85\0\0\0\0hello".to_vec(),
        b"\x89\x80\0\0\0\0".to_vec(),
        b"\x88\x82\0\0\0\0\x03\xe8".to_vec(),
        b"\0\0\0\x04\0\0\0\0\0".to_vec(),
    ]);
    prop_oneof![
        6 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => binary,
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

/// A client of HTTP/2, its frames good and bad.
fn h2() -> impl Strategy<Value = Vec<u8>> {
    let parts = (0u8..11, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..12));
    let act = prop_oneof![
        3 => (0u8..5).prop_map(Some),
        1 => Just(None),
    ];
    prop::collection::vec((act, parts, 0usize..9), 0..10).prop_map(|acts| {
        let mut client = Client::with_preface();
        let mut next = 1;
        for (what, (kind, flags, stream, payload), len) in acts {
            match what {
                Some(0) => {
                    client.get(next, "/g");
                    next += 2;
                }
                Some(1) => {
                    client.post(next, &[("content-length", "5")]);
                    next += 2;
                }
                Some(2) => {
                    client.data(next.saturating_sub(2).max(1), &b"helloworld"[..len], len % 2 == 0);
                }
                Some(3) => {
                    client.padded(next.saturating_sub(2).max(1), &b"helloworld"[..len], 3, len == 5);
                }
                Some(_) => {
                    client.reset(next.saturating_sub(2).max(1), 8);
                }
                None => {
                    client.raw(frame(kind, flags, stream, payload));
                }
            }
        }
        client.take()
    })
}

fn voyage() -> impl Strategy<Value = Voyage> {
    let cuts = prop_oneof![Just(vec![1]), prop::collection::vec(1_usize..60, 1..12)];
    let swaps = prop::collection::vec(0_usize..60, 0..40);
    let copies = prop::collection::vec((0_usize..60, 0_usize..60), 0..12);
    (cuts, swaps, copies).prop_map(|(cuts, swaps, copies)| Voyage { cuts, swaps, copies, drops: Vec::new() })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop::collection::vec(word(), 1..4).prop_map(|words| Act::Send(words.concat())),
        1 => (1u8..40).prop_map(Act::Lose),
        4 => prop::sample::select(vec![200, 200, 100, 101, 400]).prop_map(Act::Answer),
        1 => (0u8..60).prop_map(Act::AnswerBack),
        1 => Just(Act::Read),
        1 => Just(Act::Shed),
    ]
}

/// The same with every segment's cut changed, in every way in which a network may.
fn same_requests(stream: &[u8], voyage: &Voyage) {
    let whole = Voyage { cuts: vec![stream.len()], ..Voyage::default() };
    let limits = Limits::default();
    assert_eq!(voyage.sail(stream, &limits).essence(), whole.sail(stream, &limits).essence());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_stream_of_http_1_and_websocket_is_told_the_same_however_it_travels(
        words in prop::collection::vec(word(), 1..8),
        voyage in voyage(),
    ) {
        same_requests(&words.concat(), &voyage);
    }

    #[test]
    fn a_websocket_is_told_the_same_however_it_travels(
        frames in prop::collection::vec((any::<u8>(), 0u8..126), 1..8),
        noise in prop::collection::vec(any::<u8>(), 0..6),
        voyage in voyage(),
    ) {
        let mut stream = WS.as_bytes().to_vec();
        for (first, len) in frames {
            stream.extend([first & 0x8f, 0x80 | len, 1, 2, 3, 4]);
            stream.extend(vec![b'x'; len.into()]);
        }
        stream.extend(noise);
        same_requests(&stream, &voyage);
    }

    #[test]
    fn a_stream_of_http_2_is_told_the_same_however_it_travels(stream in h2(), voyage in voyage()) {
        same_requests(&stream, &voyage);
    }

    #[test]
    fn with_answers_holes_and_little_memory_pieces_of_a_segment_count_as_the_segment(
        options in 0u8..8,
        cuts in any::<[u8; 3]>(),
        acts in prop::collection::vec(act(), 0..12),
    ) {
        let cuts = cuts.map(|cut| cut % 40);
        Script { options, cuts, acts }.check(b"");
    }

    #[test]
    fn a_script_is_read_as_it_was_written(options in 0u8..8, cuts in any::<[u8; 3]>(), acts in prop::collection::vec(act(), 0..12)) {
        let script = Script { options, cuts, acts };
        prop_assert_eq!(Script::parse(&script.write()), script);
    }
}

#[test]
fn the_seeds_of_h1_and_h2_are_what_clients_say() {
    let script = |options, acts: Vec<Act>| Script { options, cuts: [0, 6, 40], acts }.write();
    let say = |text: &str| Act::Send(text.as_bytes().to_vec());
    let bad = "POST /bad HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello";
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked =
        "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nT: 1\r\n\r\n";
    let expect = "POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let proxy = "PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n";
    let response = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.0 404 No\r\n\r\nrest";
    let frames = b"\x81\x85\0\0\0\0hello\x89\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8";
    let mut client = Client::new();
    client.get(3, "/b").post(5, &[("content-length", "5")]).data(5, b"hello", true);
    let more = client.take();
    let answer = Act::Answer;
    seeds::hold(
        "h1",
        &[
            ("get", script(0, vec![say(GET), answer(200), say(GET)])),
            ("pipelined", script(0, vec![say(&[GET, post, chunked, GET].concat()), answer(200)])),
            ("refused", script(0, vec![say(bad), answer(400), say(GET), answer(200)])),
            ("hole", script(0, vec![say(post), Act::Lose(30), answer(200), say(GET), answer(200), say(GET)])),
            ("midstream", script(MIDSTREAM, vec![say("lo"), answer(200), say(GET), answer(200)])),
            ("trusted", script(MIDSTREAM | TRUST, vec![say(GET), Act::Read, say(post), Act::Fin])),
            ("expect", script(0, vec![say(expect), answer(100), say("hello"), answer(200)])),
            ("withheld", script(0, vec![say(expect), answer(400), say(GET), answer(200)])),
            ("kept", script(0, vec![say("GET /old HTTP/1.0\r\n\r\n"), answer(200), say(GET)])),
            ("proxy", script(0, vec![say(proxy), say(GET), Act::Shed, say("GET")])),
            ("websocket", script(0, vec![say(WS), answer(101), Act::Send(frames.to_vec())])),
            (
                "h2c",
                script(
                    0,
                    vec![
                        say(H2C),
                        answer(101),
                        Act::Send([PREFACE, &Client::upgraded().take(), &more].concat()),
                    ],
                ),
            ),
            ("h2c-ignored", script(0, vec![say(H2C), say(GET), answer(200), answer(200)])),
            ("connect", script(0, vec![say("CONNECT a:1 HTTP/1.1\r\n\r\n"), answer(200), say("xyz")])),
            (
                "large",
                script(
                    SMALL,
                    vec![
                        say(&GET.replace("Host", &"H".repeat(150))),
                        answer(400),
                        say(GET),
                        Act::AnswerBack(3),
                    ],
                ),
            ),
            ("response", script(0, vec![say(response)])),
            ("tls", script(0, vec![say("\u{16}\u{3}\u{1}\0\u{5}hello")])),
        ],
    );
    let bytes = |write: &dyn Fn(&mut Client)| {
        let mut client = Client::new();
        write(&mut client);
        Act::Send(client.take())
    };
    let plain = bytes(&|client| {
        client.get(1, "/a").post(3, &[("te", "trailers")]).data(3, b"hello", false).padded(3, b"x", 7, false);
        client.headers(3, true, &[("grpc-status", "0")]).ping().get(5, "/a");
    });
    let broken = bytes(&|client| {
        client.post(1, &[("content-length", "5")]).data(1, b"helloo", false).reset(1, 8).get(3, "/next");
    });
    let parts = bytes(&|client| {
        let block = client.block(&[(":method", "GET"), (":scheme", "http"), (":path", "/parts"), ("x", "y")]);
        client.raw(frame(1, 1, 1, &block[..2])).raw(frame(9, 0, 1, &block[2..5])).raw(frame(
            9,
            4,
            1,
            &block[5..],
        ));
    });
    let huffman = bytes(&|client| {
        let mut block = Vec::new();
        client.encoder.huffman = true;
        client.encoder.resize(100, &mut block);
        block.extend(client.block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/index.html"),
            ("x-a", "b"),
        ]));
        client.raw(frame(1, 5, 1, block));
    });
    let answers = bytes(&|server| {
        server.headers(1, false, &[(":status", "200")]).data(1, b"ok", false).headers(1, true, &[("t", "1")]);
    });
    seeds::hold(
        "h2",
        &[
            ("plain", script(0, vec![plain.clone()])),
            ("broken", script(0, vec![broken])),
            ("parts", script(0, vec![parts])),
            ("huffman", script(0, vec![huffman])),
            ("hole", script(0, vec![plain.clone(), Act::Lose(3), plain.clone()])),
            ("small", script(SMALL, vec![plain])),
            ("responses", script(0, vec![answers])),
        ],
    );
}
