//! Requests of a connection whose position is known.

use proptest::prelude::*;

use super::{GET, Wire, frame};
use crate::flow::Start;
use crate::http::{Limits, NotHttp, Pickup};

#[test]
fn a_get_is_one_request_byte_for_byte() {
    let book = frame(GET);
    assert_eq!(book.log, format!("GET /a\nend {}\n", GET.len()));
    assert_eq!(book.heads[0].raw, GET.as_bytes());
    assert_eq!((book.parsed, book.heads[0].pos), (GET.len() as u64, 0));
}

#[test]
fn pipelined_requests_of_all_framings_are_told_apart() {
    let chunks = "3;x=\"y;\"\r\nBBB\r\n1\r\nb\r\n0\r\nT: 1\r\n\r\n";
    let parts = [
        "\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nAAA".to_owned(),
        format!("\r\nPUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        "get /c HTTP/1.0\nConnection: keep-alive\n\n".to_owned(),
        "\r\nHEAD * HTTP/1.1\r\n\r\n".to_owned(),
    ];
    let end = |n: usize| parts[..n].concat().len();
    let book = frame(parts.concat());
    let chunks = chunks.as_bytes().escape_ascii();
    assert_eq!(
        book.log,
        format!(
            "POST /a\n> AAA\nend {}\nPUT /b\n> {chunks}\nend {}\nget /c\nend {}\nHEAD *\nend {}\n",
            end(1),
            end(2),
            end(3),
            end(4)
        )
    );
    assert_eq!(book.heads.iter().map(|h| h.pipelined).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(book.parsed, end(4) as u64);
}

#[test]
fn an_empty_body_is_no_body() {
    let book = frame("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
    assert_eq!(book.log, "POST /\nend 38\nGET /a\nend 57\n");
}

#[test]
fn smuggled_requests_are_refused_with_what_carries_them() {
    for fields in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5 \0\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        " Content-Length: 5\r\n",
    ] {
        let message =
            format!("POST / HTTP/1.1\r\n{fields}\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n");
        let book = frame(&message);
        assert_eq!(book.log, "refused\n", "{fields:?}");
        assert_eq!(book.of(NotHttp::Malformed), message.len() as u64, "{fields:?}");
    }
}

#[test]
fn a_target_beyond_ascii_costs_its_request_and_nothing_else() {
    let bad = "POST /caf\u{e9} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let book = frame(format!("{bad}{GET}"));
    assert_eq!(book.log, format!("refused\nGET /a\nend {}\n", bad.len() + GET.len()));
    let mut wire = Wire::new(Start::Syn);
    wire.send(bad).answer(400).send(GET).answer(200);
    assert_eq!(
        wire.answers.iter().map(|answer| (answer.request, answer.status)).collect::<Vec<_>>(),
        [(0, 200)]
    );
    wire.send(bad).send(GET);
    assert_eq!(wire.close().0, 1);
}

#[test]
fn a_bad_chunk_aborts_its_request_and_hides_what_follows() {
    for chunks in [
        "5\r\nhello!\r\n",
        "5\nhello\r\n",
        "0x1\r\na\r\n",
        "3\r\nabc\r\n0\r\nbad trailer\r\n",
        "11111111111111111\r\n",
    ] {
        let book = frame(format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n{chunks}0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
        ));
        assert_eq!(book.log, "POST /\nabort Malformed\n", "{chunks:?}");
        assert!(book.bodies[0].starts_with(b"1\r\na\r\n") && book.of(NotHttp::Malformed) > 0);
    }
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    let of = |bytes: &[u8], why| {
        let book = frame(bytes);
        assert_eq!((book.log.as_str(), book.of(why)), ("", bytes.len() as u64), "{}", bytes.escape_ascii());
    };
    of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfcGET / HTTP/1.1\r\n\r\n", NotHttp::Tls);
    of(b"SSH-2.0-OpenSSH_9\r\n", NotHttp::Unknown);
    of(b"GET /\r\n\r\nGET / HTTP/1.1\r\n\r\n", NotHttp::Unknown);
    of(b"GET / HTTP/1.2\r\n\r\n", NotHttp::Unknown);
    of(b"OPTIONS * RTSP/1.0\r\n\r\n", NotHttp::Unknown);
    of(&[0; 5000], NotHttp::Unknown);
    of(&[b'A'; 100], NotHttp::Unknown);
    of(b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\n\r\n", NotHttp::Unknown);
}

#[test]
fn a_proxy_header_is_passed_over_and_names_the_client() {
    for header in [
        &b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x13\x88\0\x50",
    ] {
        let book = frame([header, GET.as_bytes()].concat());
        assert_eq!(book.log, format!("GET /a\nend {}\n", header.len() + GET.len()));
        assert_eq!(
            (book.of(NotHttp::ProxyHeader), book.heads[0].pos),
            (header.len() as u64, header.len() as u64)
        );
        let mut wire = Wire::new(Start::Syn);
        wire.send(header);
        assert_eq!(wire.connection.proxied.unwrap().to_string(), "192.0.2.1:5000");
        wire.send("\x16\x03\x01");
        assert_eq!(wire.close().1.of(NotHttp::Tls), 3);
    }
}

#[test]
fn garbage_after_a_request_is_counted_and_ends_nothing_before_it() {
    let book = frame(format!("{GET}T / HTTP\r\n\r\n"));
    assert_eq!(book.log, format!("GET /a\nend {}\n", GET.len()));
    assert_eq!(book.of(NotHttp::Unknown), 12);
}

#[test]
fn nothing_counts_after_a_request_that_closes() {
    for head in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"] {
        let book = frame(format!("{head}{GET}"));
        assert_eq!(
            (book.log, book.not_http[NotHttp::Unknown as usize]),
            (format!("GET /\nend {}\n", head.len()), GET.len() as u64)
        );
    }
}

#[test]
fn a_client_of_http_1_0_that_goes_on_when_it_was_answered_is_heard() {
    let old = "GET / HTTP/1.0\r\n\r\n";
    let mut wire = Wire::new(Start::Syn);
    wire.send(old).answer(200).send(old).answer(200).send(format!("{old}{old}"));
    assert_eq!(wire.close().1.heads.len(), 3, "what shares a segment with the last one was not answered");
    let mut wire = Wire::new(Start::Syn);
    wire.send("GET / HTTP/1.0\r\nConnection: close\r\n\r\n").answer(200).send(old);
    assert_eq!(wire.close().1.heads.len(), 1, "it said close itself");
}

#[test]
fn a_head_over_the_limit_is_refused_and_one_without_a_request_line_is_no_request() {
    let limits = Limits { max_head_bytes: 100, max_fields: 3, ..Limits::default() };
    let run = |cuts: &[usize], message: &str| {
        let mut wire = Wire::with(Start::Syn, Pickup::Prove, &limits).cut(cuts);
        wire.send(message);
        wire.close().1
    };
    for cuts in [&[usize::MAX][..], &[1], &[99], &[100], &[101], &[7, 50]] {
        let fits = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(82));
        assert_eq!(run(cuts, &fits).heads.len(), 1);
        for (over, told) in [
            (format!("GET /{} HTTP/1.1\r\n\r\n{GET}", "x".repeat(83)), "too large\n"),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(4)), "too large\n"),
            (format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(8300)), "too large\n"),
            (format!("GET /{}", "x".repeat(8300)), ""),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200)), ""),
        ] {
            let book = run(cuts, &over);
            assert_eq!(
                (book.log.as_str(), book.of(NotHttp::HeadTooLarge)),
                (told, over.len() as u64),
                "{cuts:?}"
            );
        }
    }
}

#[test]
fn an_unfinished_request_is_aborted_when_the_client_ends() {
    let mut wire = Wire::new(Start::Syn);
    wire.send("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").fin();
    assert_eq!(wire.close().1.log, "POST /\nabort Closed\n");
    let book = frame("GET / HTTP/1.1\r\nHost: a\r\n");
    assert_eq!((book.log.as_str(), book.of(NotHttp::Unknown)), ("", 25));
}

#[test]
fn the_length_of_a_body_may_be_any_64_bit_number() {
    let book = frame("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nabc");
    assert_eq!(book.log, "POST /\nabort Closed\n");
}

#[test]
fn answers_go_to_requests_in_order() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET.repeat(2)).answer(200).answer(404);
    wire.send("POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .answer(100)
        .send("abc")
        .answer(201);
    let told: Vec<_> =
        wire.answers.iter().map(|a| (a.request, a.status, a.interim, a.time - a.head_time)).collect();
    assert_eq!(told, [(0, 200, false, 1), (1, 404, false, 2), (2, 100, true, 1), (2, 201, false, 3)]);
    assert_eq!(wire.book.heads.iter().map(|h| h.pipelined).collect::<Vec<_>>(), [false, true, false]);
    wire.send(GET);
    assert_eq!(wire.close().0, 1);
}

#[test]
fn a_response_in_mid_body_answers_that_request() {
    let mut wire = Wire::new(Start::Syn);
    wire.send("POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
        .answer(413)
        .send("def")
        .send(GET)
        .answer(200);
    assert_eq!(wire.answers.iter().map(|a| (a.request, a.status)).collect::<Vec<_>>(), [(0, 413), (1, 200)]);
    assert_eq!(wire.close().0, 0);
}

#[test]
fn a_response_that_was_not_seen_is_unknown_and_not_the_next_one() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET).answer(200).send(GET).unseen_answer().send(GET).answer(500);
    assert_eq!(wire.answers.iter().map(|a| (a.request, a.status)).collect::<Vec<_>>(), [(0, 200), (2, 500)]);
    assert!(wire.book.heads.iter().all(|h| !h.pipelined));
    assert_eq!(wire.close().0, 1);
}

#[test]
fn a_request_sent_before_the_answer_is_pipelined_if_answers_are_seen() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET).answer(200).send(GET).send(GET).answer_at(200, 2 * GET.len() as u64).answer(200);
    assert_eq!(wire.book.heads.iter().map(|h| h.pipelined).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(wire.answers.iter().map(|a| a.request).collect::<Vec<_>>(), [0, 1, 2]);
    let mut blind = Wire::new(Start::Syn);
    blind.send(GET).send(GET);
    assert!(!blind.book.heads[1].pipelined);
    assert_eq!(blind.close().0, 2);
}

#[test]
fn answers_that_share_a_segment_do_not_shift_those_of_the_next_batch() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET.repeat(8)).answer(200).send(GET.repeat(8)).answer(404).answer(500);
    assert_eq!(
        wire.answers.iter().map(|a| (a.request, a.status)).collect::<Vec<_>>(),
        [(0, 200), (8, 404), (9, 500)]
    );
    assert!(!wire.book.heads[8].pipelined && wire.book.heads[9].pipelined);
    assert_eq!(wire.close().0, 13);
}

#[test]
fn unanswered_requests_are_bounded() {
    let mut wire = Wire::with(Start::Syn, Pickup::Prove, &Limits { max_unanswered: 2, ..Limits::default() });
    wire.send(GET.repeat(5)).answer(200);
    assert_eq!(wire.answers[0].request, 3);
    assert_eq!(wire.close().0, 4);
}

#[test]
fn requests_that_wait_give_their_memory_back() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET.repeat(4));
    assert_eq!(wire.book.unanswered, 0, "a few are the connection's own");
    wire.send(GET.repeat(96));
    assert!(wire.book.unanswered >= 96 * 48, "{}", wire.book.unanswered);
    for _ in 0..100 {
        wire.answer(200);
    }
    assert_eq!((wire.answers.len(), wire.book.unanswered), (100, 0));
    assert_eq!(wire.close().0, 0);
}

#[test]
fn without_room_for_all_that_wait_the_last_few_do() {
    let mut wire = Wire::new(Start::Syn);
    wire.book.unanswered_room = Some(1_000);
    wire.send(GET.repeat(100));
    assert_eq!(wire.book.unanswered, 0);
    assert_eq!(wire.answer(200).answers[0].request, 96);
    assert_eq!(wire.close().0, 99);
}

const EXPECT: &str = "POST / HTTP/1.1\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_body_that_was_refused_may_be_left_out() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(EXPECT).answer(417).send(GET).answer(200).send(GET).answer(200);
    assert_eq!(
        wire.answers.iter().map(|a| (a.request, a.status)).collect::<Vec<_>>(),
        [(0, 417), (1, 200), (2, 200)]
    );
    let (e, g) = (EXPECT.len(), GET.len());
    assert_eq!(
        wire.close().1.log,
        format!("POST /\nabort BodyWithheld\nGET /a\nend {}\nGET /a\nend {}\n", e + g, e + 2 * g)
    );
}

#[test]
fn a_body_that_reads_like_requests_stays_a_body() {
    // Refused and sent all the same, with one answer for all of it; twice 29 bytes and two more.
    for status in [100, 200] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(EXPECT).answer(status).send(GET).send(GET).send("xy!!");
        if status == 100 {
            wire.answer(200);
        }
        wire.send(GET);
        let log = wire.close().1.log;
        assert!(log.starts_with("POST /\n> GET /a") && log.matches("end").count() == 2, "{log}");
    }
    // The answer was to the request before it.
    let mut wire = Wire::new(Start::Syn);
    wire.send(format!("{GET}{EXPECT}")).answer(200).send(GET).answer(200);
    assert_eq!(wire.close().1.heads.len(), 2);
    // The client had not read the refusal when it sent the body.
    let mut wire = Wire::new(Start::Syn);
    wire.send(EXPECT).answer(200);
    wire.ack = wire.ack.plus(0u32.wrapping_sub(200));
    wire.send(GET).send(GET).send("xy!!").answer(200);
    assert_eq!(wire.close().1.log.matches("end").count(), 1);
}

#[test]
fn a_client_that_leaves_after_the_refusal_withheld_the_body() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(EXPECT).answer(403).fin();
    assert_eq!(wire.close().1.log, "POST /\nabort BodyWithheld\n");
    let mut wire = Wire::new(Start::Syn);
    wire.send(EXPECT).answer(403).send(&GET[..9]).fin();
    assert_eq!(wire.close().1.log, "POST /\nabort Closed\n");
}

const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn what_follows_an_accepted_connect_is_a_tunnel() {
    for status in [None, Some(200)] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(CONNECT);
        if let Some(status) = status {
            wire.answer(status);
        }
        wire.send(GET).send(GET);
        let book = wire.close().1;
        assert_eq!((book.heads.len(), book.of(NotHttp::Tunnel)), (1, 2 * GET.len() as u64));
    }
}

#[test]
fn a_refused_connect_or_upgrade_leaves_http_as_it_was() {
    for head in [CONNECT, UPGRADE] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(head).answer(407).send(GET).answer(200);
        assert_eq!(wire.answers.len(), 2);
        assert_eq!(wire.close().1.heads.len(), 2);
    }
}

#[test]
fn a_refused_connect_that_closes_is_the_last_request() {
    let mut wire = Wire::new(Start::Syn);
    wire.send("CONNECT a:443 HTTP/1.0\r\n\r\n").answer(405).send(GET);
    let book = wire.close().1;
    assert_eq!((book.heads.len(), book.of(NotHttp::Unknown)), (1, GET.len() as u64));
}

#[test]
fn what_follows_an_accepted_upgrade_is_no_http() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(UPGRADE).answer(101).send("\u{81}\u{5}....");
    let book = wire.close().1;
    assert_eq!((book.heads.len(), book.of(NotHttp::Tunnel)), (1, 7));
    // Nobody saw the answer.
    for (next, why) in [("\u{81}..", NotHttp::Tunnel), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NotHttp::Http2)] {
        let book = frame(format!("{UPGRADE}{next}"));
        assert_eq!((book.heads.len(), book.of(why)), (1, next.len() as u64));
    }
    assert_eq!(frame(format!("{UPGRADE}{GET}")).heads.len(), 2);
}

#[test]
fn a_late_101_takes_back_nothing_but_what_follows() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(UPGRADE).send("GET /half HTTP/1.1\r\n").answer_at(101, UPGRADE.len() as u64).send(GET);
    let book = wire.close().1;
    assert_eq!(book.heads.len(), 1);
    assert_eq!(book.of(NotHttp::Unknown) + book.of(NotHttp::Tunnel), 20 + GET.len() as u64);
}

#[test]
fn memory_pressure_gives_up_unfinished_heads_only() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET).answer(200).send("GET /half HTTP/1.1\r\n");
    wire.connection.shed(&mut wire.book);
    wire.check();
    assert_eq!((wire.connection.buffered(), wire.book.skipped), (0, 20));
    wire.send("Host: a\r\n\r\n").answer(200).send(GET).answer(200);
    assert_eq!(wire.close().1.heads.len(), 2);
}

/// A request with the lines it should give in the log.
#[derive(Clone, Debug)]
struct Message {
    bytes: Vec<u8>,
    body: Vec<u8>,
}

fn message() -> impl Strategy<Value = Message> {
    let body = prop::collection::vec(any::<u8>(), 0..60);
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        "(; ?[a-z]{1,5}(=(\"[ -!#-\\[^-~]{0,5}\"|[a-z]{1,5}))?)?",
        0..3usize,
    );
    let chunks = prop::collection::vec(chunk, 0..5);
    let trailers = prop::collection::vec("[a-zA-Z]{1,6}: ?[!-~]{0,9}", 0..3);
    let head = (
        "[A-Z]{1,7}",
        "/[!-~]{0,20}",
        prop::collection::vec("X-[a-z]{0,5}:[ -~]{0,20}(\r\n [a-z]{1,5})?", 0..4),
    );
    (
        head,
        prop_oneof![
            Just((String::new(), Vec::new())),
            body.prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
            (chunks, trailers).prop_map(|(chunks, trailers)| {
                let mut body = Vec::new();
                for (data, extension, zeros) in chunks {
                    body.extend_from_slice(
                        format!("{}{:x}{extension}\r\n", "0".repeat(zeros), data.len()).as_bytes(),
                    );
                    body.extend_from_slice(&data);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n");
                for trailer in trailers {
                    body.extend_from_slice(format!("{trailer}\r\n").as_bytes());
                }
                body.extend_from_slice(b"\r\n");
                ("Transfer-Encoding: chunked\r\n".to_owned(), body)
            }),
        ],
    )
        .prop_map(|((method, target, fields), (framing, body))| {
            let method = if method == "CONNECT" { "GET".to_owned() } else { method };
            let fields: String = fields.iter().map(|f| format!("{f}\r\n")).collect();
            let mut bytes = format!("{method} {target} HTTP/1.1\r\n{fields}{framing}\r\n").into_bytes();
            bytes.extend_from_slice(&body);
            Message { bytes, body }
        })
}

proptest! {
    /// Any requests, any cuts: each comes out once, byte for byte, and every byte is counted as parsed.
    #[test]
    fn what_the_client_sent_comes_out_however_it_was_cut(
        messages in prop::collection::vec(message(), 1..6),
        cuts in prop::collection::vec(1..80usize, 1..20),
    ) {
        let stream = messages.iter().map(|m| m.bytes.clone()).collect::<Vec<_>>().concat();
        let mut wire = Wire::new(Start::Syn).cut(&cuts);
        wire.send(&stream);
        let (unanswered, book) = wire.close();
        prop_assert_eq!(unanswered, messages.len() as u64);
        prop_assert_eq!(book.parsed, stream.len() as u64, "{}", book.log);
        prop_assert_eq!(book.log.matches("\nend ").count(), messages.len());
        let mut pos = 0;
        for ((message, head), body) in messages.iter().zip(&book.heads).zip(&book.bodies) {
            prop_assert_eq!(head.pos, pos);
            prop_assert_eq!(body, &message.body);
            prop_assert_eq!([&head.raw[..], body].concat(), message.bytes.clone());
            pos += message.bytes.len() as u64;
        }
    }

    /// The same log, whatever the cuts, also where requests break off, and are broken.
    #[test]
    fn cuts_change_nothing_in_a_damaged_stream(
        messages in prop::collection::vec(message(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(0), any::<u8>()]), 0..4),
        cuts in prop::collection::vec(1..40usize, 1..20),
    ) {
        let mut stream = messages.iter().map(|m| m.bytes.clone()).collect::<Vec<_>>().concat();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let run = |cuts: &[usize]| {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send(&stream);
            wire.close().1
        };
        prop_assert_eq!(run(&[usize::MAX]), run(&cuts));
    }
}
