//! Connections that were picked up under way, and holes.

use proptest::prelude::*;

use super::{GET, Wire};
use crate::flow::Start;
use crate::http::h2::PREFACE;
use crate::http::{Limits, NotHttp, Pickup};

const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";

fn post(len: usize) -> String {
    format!("POST /up HTTP/1.1\r\nContent-Length: {len}\r\n\r\n")
}

const CHUNKED: &str = "POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn the_first_request_after_pickup_is_found_when_its_answer_stands_at_its_end() {
    let mut wire = Wire::new(Start::MidStream);
    wire.send(GET);
    assert_eq!((wire.book.heads.len(), wire.connection.buffered()), (0, GET.len() as u64));
    wire.answer(200);
    // Released with its own time, and its answer matched.
    assert_eq!((wire.book.heads[0].time, wire.book.heads[0].pos), (1, 0));
    assert_eq!((wire.answers[0].head_time, wire.answers[0].time), (1, 2));
    wire.send(GET).answer(200);
    let book = wire.close().1;
    assert_eq!((book.heads.len(), book.skipped), (2, 0));
}

#[test]
fn the_first_request_after_pickup_is_found_when_answers_are_not_seen() {
    let mut wire = Wire::new(Start::MidStream);
    wire.send(GET).unseen_answer().send(GET).unseen_answer().send(GET);
    assert_eq!(wire.close().1.heads.len(), 3);
}

#[test]
fn requests_of_several_segments_keep_their_times() {
    let mut wire = Wire::new(Start::MidStream);
    let head = post(6);
    wire.send(&head[..10]).send(&head[10..]).send("abc").send("def").answer(200);
    let (_, book) = wire.close();
    assert_eq!((book.heads[0].time, book.bodies[0].as_slice()), (2, &b"abcdef"[..]));
}

#[test]
fn a_trusted_pickup_takes_a_strict_request_line_at_once() {
    let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
    wire.send(GET);
    assert_eq!(wire.book.heads.len(), 1);
    let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
    wire.send("ello world\r\n").send(EVIL);
    let book = wire.close().1;
    assert_eq!((book.heads.len(), book.skipped), (0, 12 + EVIL.len() as u64));
}

#[test]
fn a_trusted_pickup_waits_for_a_method_or_preface_that_comes_in_pieces() {
    for cut in 1..GET.len() {
        let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
        wire.send(&GET[..cut]).send(&GET[cut..]).answer(200).send(GET);
        let book = wire.close().1;
        assert_eq!((book.heads.len(), book.skipped), (2, 0), "cut at {cut}: {}", book.log);
    }
    for text in [format!("\r\n{GET}"), "GET http://a/b HTTP/1.1\r\n\r\n".to_owned()] {
        let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
        for byte in text.bytes() {
            wire.send([byte]);
        }
        assert_eq!(wire.close().1.heads.len(), 1, "{text}");
    }
    for size in [1, 3, 23, 24, 30] {
        let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
        let opening = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        opening.chunks(size).for_each(|piece| {
            wire.send(piece);
        });
        let book = wire.close().1;
        assert!(book.log.contains("h2"), "pieces of {size}: {}", book.log);
        assert_eq!((book.skipped, book.of(NotHttp::Http2)), (0, 0));
    }
}

#[test]
fn what_only_seemed_to_begin_a_request_does_not_end_the_search() {
    for tail in ["abc", "hello world", "hello wor", "hello /x and more of an upload\r\n", "PRI"] {
        let mut wire = Wire::with(Start::MidStream, Pickup::Trust, &Limits::default());
        wire.send(tail).answer(200).send(GET).answer(200).send(GET);
        let book = wire.close().1;
        assert_eq!(book.heads.len(), 2, "{tail}: {}", book.log);
        assert!(book.log.starts_with("GET /a\n"), "{tail}: {}", book.log);
    }
}

#[test]
fn the_probe_of_a_keep_alive_does_not_hide_the_first_request() {
    for probe in [&b"\0"[..], b"x", b"\n"] {
        for pickup in [Pickup::Trust, Pickup::Prove] {
            let mut wire = Wire::with(Start::MidStream, pickup, &Limits::default());
            wire.send(probe).send(GET).answer(200).send(GET).answer(200);
            let book = wire.close().1;
            assert_eq!(book.heads.len(), 2, "{pickup:?} {probe:?}: {}", book.log);
            assert!(book.log.starts_with("GET /a\n"), "{pickup:?} {probe:?}: {}", book.log);
        }
    }
}

#[test]
fn a_pickup_in_the_middle_of_an_upload_invents_nothing() {
    for visible in [true, false] {
        let mut wire = Wire::new(Start::MidStream);
        for _ in 0..100 {
            wire.send(EVIL);
        }
        if visible {
            wire.answer(200);
        } else {
            wire.unseen_answer();
        }
        assert_eq!(wire.book.skipped, 100 * EVIL.len() as u64);
        wire.send(GET);
        if visible {
            wire.answer(200);
        } else {
            wire.unseen_answer();
        }
        wire.send(GET);
        let book = wire.close().1;
        assert_eq!(book.log.matches("evil").count(), 0);
        assert_eq!(book.heads.len(), 2);
    }
}

#[test]
fn a_hole_inside_a_body_of_known_length_costs_that_request_only() {
    for (before, after) in [("abc", "def"), ("abc", ""), ("", "def"), ("", "")] {
        let mut wire = Wire::new(Start::Syn);
        let lost = 9 - before.len() - after.len();
        wire.send(post(9) + before).lose("x".repeat(lost));
        if !after.is_empty() {
            wire.send(after);
        }
        wire.answer(200).send(GET).answer(200);
        assert_eq!(wire.answers.iter().map(|a| a.request).collect::<Vec<_>>(), [0, 1]);
        let (unknown, book) = wire.close();
        assert_eq!(unknown, 0);
        assert!(book.log.starts_with("POST /up\nabort Gap\nGET /a\n"), "{}", book.log);
        assert_eq!(book.skipped, 0);
    }
}

#[test]
fn a_hole_inside_the_data_of_a_chunk_costs_that_request_only() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(format!("{CHUNKED}9\r\nabc")).lose("xxxx").send("yz\r\n0\r\n\r\n").answer(200).send(GET);
    let book = wire.close().1;
    assert_eq!((book.heads.len(), book.skipped), (2, 0), "{}", book.log);
    assert!(book.log.starts_with("POST /up\nabort Gap\nGET /a\n"));
}

#[test]
fn after_a_hole_in_requests_the_connection_is_found_at_the_next_one() {
    // What is lost: a whole request, several, a part of one; with the response to it seen or not.
    for lost in [GET.to_owned(), GET.repeat(3), post(5) + "hello", format!("{CHUNKED}0\r\n\r\n")] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(GET).answer(200).lose(&lost).answer(200).send(GET).answer(200).send(GET).answer(200);
        assert_eq!(wire.book.heads.len(), 3, "the first request after the hole");
        assert_eq!(wire.close().0, 0);
        let mut wire = Wire::new(Start::Syn);
        wire.send(GET).answer(200).lose(&lost).unseen_answer().send(GET).answer(200).send(GET).answer(200);
        assert_eq!(wire.book.heads.len(), 2, "the second, if the response was lost in the same hole");
    }
    for cut in 1..GET.len() {
        for front in [true, false] {
            let mut wire = Wire::new(Start::Syn);
            if front {
                wire.lose(&GET[..cut]).send(&GET[cut..]);
            } else {
                wire.send(&GET[..cut]).lose(&GET[cut..]);
            }
            wire.answer(200).send(GET).answer(200).send(GET);
            let book = wire.close().1;
            assert_eq!(book.heads.len(), 2);
        }
    }
}

#[test]
fn large_uploads_are_found_again_although_they_cannot_be_held() {
    let limits = Limits { max_held_bytes: 1000, ..Limits::default() };
    let mut wire = Wire::with(Start::MidStream, Pickup::Prove, &limits);
    let upload = |wire: &mut Wire| {
        wire.send(post(5000));
        for _ in 0..5 {
            wire.send([b'x'; 1000]);
        }
        wire.answer(200);
    };
    upload(&mut wire);
    assert_eq!((wire.book.heads.len(), wire.connection.buffered()), (0, 0));
    upload(&mut wire);
    wire.send(GET);
    let book = wire.close().1;
    assert_eq!(
        book.log,
        "POST /up\n> ".to_owned()
            + &"x".repeat(5000)
            + &format!(
                "\nend {}\nGET /a\nend {}\n",
                2 * (5000 + post(5000).len()),
                2 * (5000 + post(5000).len()) + GET.len()
            )
    );
}

#[test]
fn uploads_of_requests_with_holes_invent_nothing() {
    for first in [post(1 << 20), CHUNKED.to_owned() + "100000\r\n"] {
        for hole in [0, 1, 7, 29, 30, 31, 4000] {
            let mut wire = Wire::new(Start::Syn);
            wire.send(GET).answer(200).lose(&first);
            let mut sent = 0;
            while sent + hole + EVIL.len() < 1 << 20 {
                for _ in 0..50 {
                    wire.send(EVIL);
                    sent += EVIL.len();
                }
                if hole > 0 {
                    wire.lose("x".repeat(hole));
                    sent += hole;
                }
                if sent % 3 == 0 {
                    // An answer in mid-body.
                    wire.answer(200);
                }
            }
            wire.send("x".repeat((1 << 20) - sent.min(1 << 20)));
            wire.answer(200).send(GET).answer(200).send(GET).answer(200);
            let book = wire.close().1;
            assert_eq!(book.log.matches("evil").count(), 0);
            assert!(book.heads.len() >= 2);
        }
    }
}

#[test]
fn an_upload_that_is_answered_while_it_goes_on_invents_nothing() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(GET).answer(200).lose(CHUNKED).answer(200);
    // The response streams: each segment of the upload acknowledges more of it.
    for _ in 0..9 {
        wire.send(EVIL).unseen_answer();
    }
    assert_eq!(wire.close().1.heads.len(), 1);
}

#[test]
fn after_a_refused_message_only_proof_leads_back() {
    let bad = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut wire = Wire::new(Start::Syn);
    wire.send(bad).send(EVIL).answer(400).send(GET).answer(200);
    let book = wire.close().1;
    assert_eq!(book.log, format!("refused\nGET /a\nend {}\n", bad.len() + EVIL.len() + GET.len()));
    assert_eq!(book.of(NotHttp::Malformed), (bad.len() + EVIL.len()) as u64);
}

#[test]
fn a_tls_connection_that_was_under_way_is_named() {
    let mut wire = Wire::new(Start::MidStream);
    wire.send(b"\x17\x03\x03\0\x20................................").answer(200).send(b"\x17\x03\x03\0\x01.");
    let book = wire.close().1;
    assert_eq!((book.of(NotHttp::Tls), book.skipped), (43, 0));
}

/// One step of a client that never pipelines, and of a tap that misses some of it.
#[derive(Clone, Debug)]
enum Step {
    /// A GET; whether it and its response are seen.
    Get { seen: bool, answer_seen: bool },
    /// An upload of requests, one a segment: which segments are seen, the head first, and before which an early answer
    /// comes.
    Upload { chunked: bool, seen: Vec<bool>, early: Option<usize>, expect: bool, answer_seen: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let seen = || prop::bool::weighted(0.7);
    let early = prop::option::of(0..8usize);
    prop_oneof![
        (seen(), seen()).prop_map(|(seen, answer_seen)| Step::Get { seen, answer_seen }),
        (any::<bool>(), prop::collection::vec(seen(), 2..8), early, any::<bool>(), seen()).prop_map(
            |(chunked, seen, early, expect, answer_seen)| Step::Upload {
                chunked,
                seen,
                early,
                expect,
                answer_seen
            }
        ),
    ]
}

/// A client and a primary, and a tap that may come later than they.
struct Lab {
    /// Segments that pass before the tap attaches.
    late: usize,
    wire: Option<Wire>,
    visible: bool,
    /// Where heads really are.
    heads: Vec<u64>,
}

impl Lab {
    /// `blind`: the tap may not attach exactly here.
    fn put(&mut self, bytes: &[u8], head: bool, seen: bool, blind: bool) {
        if self.wire.is_none() && self.late == 0 && !blind {
            self.wire = Some(Wire::new(Start::MidStream));
        }
        self.late = self.late.saturating_sub(1);
        let Some(wire) = &mut self.wire else { return };
        if head {
            self.heads.push(wire.pos);
        }
        if seen {
            wire.send(bytes)
        } else {
            wire.lose(bytes)
        };
    }

    fn answer(&mut self, status: u16, seen: bool) {
        let Some(wire) = &mut self.wire else { return };
        if seen && self.visible {
            wire.answer(status);
        } else if status == 100 {
            wire.ack = wire.ack.plus(25);
        } else {
            wire.unseen_answer();
        }
    }

    fn step(&mut self, step: Step) {
        let (chunked, seen, early, expect, answer_seen) = match step {
            Step::Get { seen, answer_seen } => {
                self.put(GET.as_bytes(), true, seen, false);
                return self.answer(200, answer_seen);
            }
            Step::Upload { chunked, seen, early, expect, answer_seen } => {
                let early = early.filter(|&e| e < seen.len());
                (chunked, seen, early, expect, answer_seen)
            }
        };
        let early = early.filter(|&e| e > 0 || expect);
        let len = EVIL.len() * (seen.len() - 1);
        let expects = if expect { "Expect: 100-continue\r\n" } else { "" };
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {len}") };
        let head = format!("POST /up HTTP/1.1\r\n{expects}{framing}\r\n\r\n");
        self.put(head.as_bytes(), true, seen[0], false);
        if expect {
            self.answer(if early == Some(0) { 200 } else { 100 }, true);
        }
        if chunked {
            self.put(format!("{len:x}\r\n").as_bytes(), false, seen[0], false);
        }
        for index in 1..seen.len() {
            if early == Some(index) {
                self.answer(200, answer_seen);
            }
            // What cannot be told (see the module `sync`): the first segment ever seen is a request, and a final
            // response follows it directly.
            let blind = early == Some(index + 1) || (index + 1 == seen.len() && !chunked);
            self.put(EVIL.as_bytes(), false, seen[index], blind);
        }
        if chunked {
            self.put(b"\r\n0\r\n\r\n", false, seen[seen.len() - 1], false);
        }
        if early.is_none() {
            self.answer(200, answer_seen);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3000), ..ProptestConfig::default() })]

    /// Whatever is missed, a head that comes out is one that a client sent as a head.
    #[test]
    fn no_request_is_invented(
        steps in prop::collection::vec(step(), 1..12),
        visible in any::<bool>(),
        late in prop::option::of(0..20usize),
    ) {
        let wire = late.is_none().then(|| Wire::new(Start::Syn));
        let mut lab = Lab { late: late.unwrap_or(0), wire, visible, heads: Vec::new() };
        for step in steps {
            lab.step(step);
        }
        if let Some(wire) = lab.wire {
            let (_, book) = wire.close();
            for head in &book.heads {
                prop_assert!(lab.heads.contains(&head.pos), "invented at {}:\n{}", head.pos, book.log);
            }
        }
    }

    /// Any bytes, holes and responses: nothing panics, and the byte law holds after every call.
    #[test]
    fn garbage_never_breaks_the_byte_law(
        steps in prop::collection::vec(prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..60).prop_map(|b| (0, b)),
            4 => prop::sample::select(vec![GET, EVIL, CHUNKED, "POST /up HTTP/1.1\r\nContent-Length: 40\r\nExpect: 100-continue\r\n\r\n", "\r\n", "5\r\nhello\r\n", "0\r\n\r\n", "GET / HTTP/1.1\r\n", "GET", "CONNECT a:1 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "\x16\x03", "PROXY TCP4 ", "PRI * HTTP/2.0\r\n\r\n"]).prop_map(|s| (0, s.as_bytes().to_vec())),
            1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(|b| (1, b)),
            3 => prop::sample::select(vec![2, 3, 4, 5, 6, 7]).prop_map(|kind| (kind, Vec::new())),
        ], 0..30),
        midstream in any::<bool>(),
        trust in any::<bool>(),
        held in prop::sample::select(vec![30u32, 100, 1000]),
        cuts in prop::collection::vec(1..50usize, 1..5),
    ) {
        let limits = Limits { max_held_bytes: held, max_head_bytes: 120, max_fields: 4, max_unanswered: 3, ..Limits::default() };
        let start = if midstream { Start::MidStream } else { Start::Syn };
        let mut wire = Wire::with(start, if trust { Pickup::Trust } else { Pickup::Prove }, &limits).cut(&cuts);
        for (kind, bytes) in steps {
            match kind {
                0 => wire.send(bytes),
                1 => wire.lose(bytes),
                2 => wire.answer(200),
                3 => wire.answer(100),
                4 => wire.answer(101),
                5 => wire.answer_at(200, u64::MAX),
                6 => wire.unseen_answer(),
                _ => {
                    wire.connection.shed(&mut wire.book);
                    wire.check();
                    &mut wire
                }
            };
            prop_assert!(wire.connection.buffered() <= u64::from(held.max(120)));
        }
        wire.close();
    }
}
