//! What HTTP/1.1 allows and what it forbids, as bytes of a client in a capture, through `mirror inspect`: each case whole and one
//! byte a segment. No root, no network.
//!
//! The rules are those of RFC 9112; the number behind a case is its section.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario ends by a panic")]

use mirror_tests::mirror::inspect;
use serde_json::Value;

/// What a client sends, and the requests in it: `METHOD target body_len framing`, with `cut` behind one that is not complete.
type Case = (&'static [u8], &'static [&'static str]);

const NEXT: &str = "GET /next 0 none";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Heads (2.1, 2.2, 3).
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / 0 none"]),
    (b"GET / HTTP/1.1\r\n\r\n", &["GET / 0 none"]),
    (b"GET / HTTP/1.0\r\n\r\n", &["GET / 0 none"]),
    (b"GET / HTTP/1.1\nHost: a\n\n", &["GET / 0 none"]),
    (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / 0 none"]),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS * 0 none"]),
    (b"GET http://a:8080/x?y=z#f HTTP/1.1\r\nHost: b\r\n\r\n", &["GET http://a:8080/x?y=z#f 0 none"]),
    (b"M-SEARCH /a HTTP/1.1\r\nHost: a\r\n\r\n", &["M-SEARCH /a 0 none"]),
    (b"!#$%&'*+-.^_`|~09 /a HTTP/1.1\r\n\r\n", &["!#$%&'*+-.^_`|~09 /a 0 none"]),
    (b"get /lower HTTP/1.1\r\nHost: a\r\n\r\n", &["get /lower 0 none"]),
    (b"GET /a?\"<>[]{}|\\^` HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /a?\"<>[]{}|\\^` 0 none"]),
    (b"GET / HTTP/1.1\r\nEmpty:\r\nTab:\tx\t\r\nSpaces:    y    \r\nHigh: \xc3\xa9\r\n\r\n", &["GET / 0 none"]),
    (b"GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\na: 3\r\n\r\n", &["GET / 0 none"]),
    (b"GET / HTTP/1.1\r\nX: folded\r\n  on\r\n\ttwo lines\r\n\r\n", &["GET / 0 none"]),
    (b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n", &["GET /a 0 none", "GET /b 0 none", "GET /c 0 none"]),
    (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["HEAD / 0 none", NEXT]),
    // What is no request line, or one that readers take differently.
    (b"GET /  HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET  / HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET /\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/2.0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.10\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / http/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"G@T / HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET a HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET /\x01 HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    // Fields that must be refused (5, 5.1, 2.2).
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.1\r\nNo colon\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.1\r\n: empty\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    // Content-Length (6.2, 6.3).
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &["POST / 5 length", NEXT]),
    (b"POST / HTTP/1.1\r\ncontent-length:5\r\n\r\nhello\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 5 length", NEXT]),
    (b"POST / HTTP/1.1\r\nContent-Length: 005\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &["POST / 5 length", NEXT]),
    (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 0 none", NEXT]),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &["GET / 5 length", NEXT]),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &["POST / 5 length", NEXT]),
    (b"POST / HTTP/1.1\r\nContent-Length: 42\r\n\r\nGET /evil HTTP/1.1\r\n\r\nGET /evil HTTP/1.1\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 42 length", NEXT]),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel", &["POST / 3 length cut"]),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nhello", &[]),
    // Chunks (7.1).
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 5 chunked", NEXT]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0005;a=b;c=\"d;e\"\r\nhello\r\n00\r\nT: 1\r\nU: 2\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 5 chunked", NEXT]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", &["POST / 20 chunked"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 0 chunked", NEXT]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", &["POST / 3 chunked cut"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 5 chunked cut"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 0 chunked cut"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["POST / 0 chunked cut"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n", &["POST / 0 chunked cut"]),
    // What two readers frame differently (6.1, 6.3).
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &[]),
    (b"POST / HTTP/1.1\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n", &[]),
    // The end of a connection, and what leaves HTTP (9.3, 9.6; RFC 9110, 7.8 and 9.3.6).
    (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /next HTTP/1.1\r\n\r\n", &["GET / 0 none"]),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03\x01\x02\0", &["CONNECT a:443 0 none"]),
    (b"GET / HTTP/1.1\r\nHos", &[]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfcGET / HTTP/1.1\r\n\r\n", &[]),
    (b"SSH-2.0-x\r\nGET / HTTP/1.1\r\n\r\n", &[]),
];

/// A capture of raw IPv4 (LINKTYPE_RAW) in which client number `n` sends the bytes of case `n` in segments of `len` bytes.
fn capture(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101] {
        out.extend(word.to_le_bytes());
    }
    let mut time = 0_u32;
    for (n, (bytes, _)) in CASES.iter().enumerate() {
        let port = 10_000 + u16::try_from(n).unwrap();
        let mut send = |seq: u32, flags: u8, data: &[u8]| {
            let total = u16::try_from(40 + data.len()).unwrap();
            let mut packet = vec![0x45, 0];
            packet.extend(total.to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
            packet.extend(port.to_be_bytes());
            packet.extend(80_u16.to_be_bytes());
            packet.extend(seq.to_be_bytes());
            packet.extend(1_u32.to_be_bytes());
            packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            packet.extend(data);
            time += 1;
            for word in [1_800_000_000 + time / 1_000_000, time % 1_000_000, total.into(), total.into()] {
                out.extend(word.to_le_bytes());
            }
            out.extend(packet);
        };
        send(0, 0x02, b"");
        let mut seq = 1;
        for piece in bytes.chunks(len) {
            send(seq, 0x18, piece);
            seq += u32::try_from(piece.len()).unwrap();
        }
        send(seq, 0x11, b"");
    }
    out
}

/// What `mirror inspect` says of a capture: for each case its requests, as lines of JSON.
fn requests(capture: &[u8]) -> Vec<Vec<Value>> {
    let output = inspect(&["--json", "-"], capture);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut cases = vec![Vec::new(); CASES.len()];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (_, port) = line["client"].as_str().unwrap().rsplit_once(':').unwrap();
        cases[port.parse::<usize>().unwrap() - 10_000].push(line);
    }
    cases
}

fn told(line: &Value) -> String {
    let word = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
    let cut = if line["complete"] == true { "" } else { " cut" };
    format!("{} {} {} {}{cut}", word("method"), word("target"), line["body_len"], word("framing"))
}

#[test]
fn each_case_is_the_same_requests_whole_and_one_byte_a_segment() {
    let whole = requests(&capture(usize::MAX));
    let mut wrong = Vec::new();
    for ((bytes, expected), lines) in CASES.iter().zip(&whole) {
        let found: Vec<_> = lines.iter().map(told).collect();
        if found != *expected {
            wrong.push(format!("{}\n  found    {found:?}\n  expected {expected:?}", bytes.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // To the byte: heads, fields, bodies.
    for len in [1, 2, 7] {
        for ((bytes, _), (pieces, whole)) in CASES.iter().zip(requests(&capture(len)).iter().zip(&whole)) {
            let timeless = |lines: &[Value]| {
                let mut lines = lines.to_vec();
                for line in &mut lines {
                    line.as_object_mut().unwrap().remove("time");
                }
                lines
            };
            assert_eq!(timeless(pieces), timeless(whole), "{len} a segment: {}", bytes.escape_ascii());
        }
    }
}
