//! Connections that leave HTTP/1.

use super::{GET, Wire, frame};
use crate::flow::Start;
use crate::http::h2::PREFACE;
use crate::http::h2::tests::{Client, GET_2};
use crate::http::{NotHttp, Pickup, Waiting};

const WS: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n\r\n";
const H2C: &str = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
/// `hello`, masked with zeros; a ping; a close frame.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";
const PING: &[u8] = b"\x89\x80\0\0\0\0";
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";

/// Whole, and in pieces.
fn wires() -> impl Iterator<Item = Wire> {
    [&[usize::MAX][..], &[1], &[2, 5], &[7]].into_iter().map(|cuts| Wire::new(Start::Syn).cut(cuts))
}

#[test]
fn a_websocket_is_told_as_it_comes() {
    for seen in [true, false] {
        for mut wire in wires() {
            wire.send(WS);
            if seen {
                wire.answer(101);
            }
            wire.send(HELLO).send(PING).send(CLOSE).fin();
            let (unknown, book) = wire.close();
            let len = HELLO.len() + PING.len() + CLOSE.len();
            assert_eq!(
                book.log,
                format!(
                    "GET /chat\nend {}\ntunnel {len} (3, 7)\ntunnel Closed {{ close_frame: true }}\n",
                    WS.len()
                )
            );
            assert_eq!((book.parsed, unknown), ((WS.len() + len) as u64, u64::from(!seen)));
        }
    }
}

#[test]
fn a_websocket_ends_at_a_gap_and_at_what_is_no_frame() {
    for mut wire in wires() {
        wire.send(WS).answer(101).send(HELLO).lose("..").send(HELLO);
        let book = wire.close().1;
        assert!(book.log.ends_with("tunnel 11 (1, 5)\ntunnel Gap\n"), "{}", book.log);
        assert_eq!(book.of(NotHttp::Tunnel), HELLO.len() as u64);
    }
    for mut wire in wires() {
        wire.send(WS).answer(101).send(HELLO).send("GET / HTTP/1.1\r\n\r\n");
        let book = wire.close().1;
        assert!(book.log.ends_with("tunnel 11 (1, 5)\ntunnel Malformed\n"), "{}", book.log);
        assert_eq!(book.of(NotHttp::Tunnel), 18);
    }
}

#[test]
fn a_websocket_that_was_refused_leaves_http_as_it_was() {
    for mut wire in wires() {
        wire.send(WS).answer(400).send(GET);
        assert_eq!(wire.close().1.heads.len(), 2);
    }
    assert_eq!(frame(format!("{WS}{GET}")).heads.len(), 2);
}

#[test]
fn a_late_101_does_not_begin_a_tunnel_twice() {
    let mut wire = Wire::new(Start::Syn);
    wire.send(WS).send(&HELLO[..1]).answer_at(101, WS.len() as u64).send(&HELLO[1..]);
    let book = wire.close().1;
    assert!(book.log.ends_with("tunnel 11 (1, 5)\ntunnel Closed { close_frame: false }\n"), "{}", book.log);
    let mut wire = Wire::new(Start::Syn);
    wire.send(WS).send(HELLO).answer_at(101, WS.len() as u64).send(PING);
    let book = wire.close().1;
    assert!(book.log.ends_with("tunnel 17 (2, 5)\ntunnel Closed { close_frame: false }\n"), "{}", book.log);
}

#[test]
fn an_upgrade_to_http_2_makes_its_request_stream_1_and_tells_it_once() {
    for seen in [true, false] {
        for mut wire in wires() {
            let mut client = Client::upgraded();
            wire.send(H2C);
            if seen {
                wire.answer(101);
            }
            client.get(3, "/b");
            client.reset(1, 8);
            let rest = client.take();
            wire.send(PREFACE).send(&rest);
            let (unknown, book) = wire.close();
            let end = H2C.len() + PREFACE.len() + rest.len() - 13;
            assert_eq!(
                book.log,
                format!(
                    "GET /up\nend {}\nh2 upgraded\n#3 GET http a /b\n#3 end {end}\n#1 cancelled 8\n",
                    H2C.len()
                )
            );
            assert_eq!((book.parsed, unknown), ((H2C.len() + PREFACE.len() + rest.len()) as u64, 2));
        }
    }
}

#[test]
fn an_upgrade_to_http_2_that_was_ignored_leaves_http_1_as_it_was() {
    for next in [GET, "POST /p HTTP/1.1\r\nContent-Length: 0\r\n\r\n"] {
        for mut wire in wires() {
            wire.send(H2C).answer(200).send(next);
            assert_eq!(wire.close().1.heads.len(), 2);
        }
        assert_eq!(frame(format!("{H2C}{next}")).heads.len(), 2);
    }
}

#[test]
fn what_follows_an_accepted_upgrade_to_http_2_must_be_its_preface() {
    for mut wire in wires() {
        wire.send(H2C).answer(101).send(GET);
        let book = wire.close().1;
        assert_eq!(book.log, format!("GET /up\nend {}\nh2 upgraded\nerror Preface\n", H2C.len()));
        assert_eq!(book.of(NotHttp::Http2), GET.len() as u64);
    }
}

#[test]
fn a_preface_where_nobody_asked_for_it_is_no_http_2() {
    let book = frame([GET.as_bytes(), PREFACE, &Client::new().take()].concat());
    assert_eq!(book.log, format!("GET /a\nend {}\nerror Preface\n", GET.len()));
}

#[test]
fn prior_knowledge_is_taken_with_a_proxy_header_before_it() {
    let header = "PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n";
    let mut client = Client::with_preface();
    client.get(1, "/b");
    let bytes = client.take();
    let book = frame([header.as_bytes(), &bytes].concat());
    assert_eq!(book.log, format!("h2\n#1 GET http a /b\n#1 end {}\n", header.len() + bytes.len()));
    assert_eq!((book.of(NotHttp::ProxyHeader), book.parsed), (header.len() as u64, bytes.len() as u64));
}

#[test]
fn a_connection_that_is_picked_up_at_its_preface_is_read() {
    let mut client = Client::with_preface();
    client.get(1, "/b");
    for pickup in [Pickup::Prove, Pickup::Trust] {
        let mut wire = Wire::with(Start::MidStream, pickup, &crate::http::Limits::default());
        wire.send(client.peek());
        assert!(wire.close().1.log.starts_with("h2\n#1 GET"));
    }
}

#[test]
fn http_2_that_was_under_way_waits_until_it_ends() {
    for pickup in [Pickup::Prove, Pickup::Trust] {
        let mut wire = Wire::with(Start::MidStream, pickup, &crate::http::Limits::default());
        let mut client = Client::new();
        for stream in [101, 103] {
            client.get(stream, "/b");
            wire.send(client.take());
            assert_eq!(wire.book.waiting, None);
        }
        client.get(105, "/c");
        client.get(107, "/d");
        let last = client.take();
        wire.send(&last);
        assert_eq!(wire.book.waiting, Some(Waiting::MidStream));
        assert_eq!(wire.book.of(NotHttp::Http2Waiting), last.len() as u64);
        let book = wire.close().1;
        assert_eq!((book.log.as_str(), book.waited), ("", vec![Waiting::MidStream]));
    }
}

#[test]
fn frames_are_known_in_any_cut_but_not_from_the_middle_of_a_segment() {
    let mut client = Client::new();
    client.data(5, &[0; 3000], false);
    client.get(7, "/b");
    client.ping();
    let bytes = client.take();
    for cuts in [&[1][..], &[2, 9], &[3009]] {
        let mut wire = Wire::new(Start::MidStream).cut(cuts);
        wire.send(&bytes);
        assert_eq!(wire.close().1.waited, [Waiting::MidStream], "{cuts:?}");
        let mut wire = Wire::new(Start::MidStream).cut(cuts);
        wire.send([b"..".as_slice(), &bytes].concat());
        assert_eq!(wire.close().1.waited, [], "{cuts:?}");
    }
}

#[test]
fn an_upload_of_recorded_frames_does_not_cost_the_connection() {
    let mut client = Client::new();
    for stream in [1, 3, 5, 7] {
        client.get(stream, "/b");
    }
    let mut wire = Wire::new(Start::MidStream);
    wire.send(client.take());
    assert_eq!(wire.book.waiting, Some(Waiting::MidStream));
    wire.answer(200).send(GET).answer(200).send(GET).answer(200);
    assert_eq!(wire.book.waiting, None);
    assert_eq!(wire.close().1.heads.len(), 2);
}

#[test]
fn other_binary_bytes_are_not_taken_for_frames() {
    for bytes in [vec![0; 1000], (0..=255).collect(), b"\0\0\x05\0\0\0\0\0\x01".repeat(2), GET_2.repeat(3)] {
        let mut wire = Wire::new(Start::MidStream);
        wire.send(&bytes);
        assert_eq!(wire.close().1.waited, [], "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_gap_before_the_preface_leaves_nothing_to_read() {
    let mut wire = Wire::new(Start::Syn);
    let mut client = Client::new();
    wire.lose(PREFACE);
    for stream in [1, 3, 5, 7] {
        client.get(stream, "/b");
        wire.send(client.take());
    }
    let book = wire.close().1;
    assert_eq!((book.log.as_str(), book.waited), ("", vec![Waiting::MidStream]));
}
