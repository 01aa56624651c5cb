use proptest::prelude::*;

use super::{Fail, Fields, Head, field_line, first_control, may_begin, parse, plain_field};
use crate::http::{BodyKind, Leaves, Version};

fn read(head: &str) -> Result<Head, Fail> {
    parse(head.as_bytes(), 100, &mut Fields::new())
}

/// A POST with these field lines.
fn post(fields: &str) -> Result<BodyKind, Fail> {
    read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|head| head.body)
}

#[test]
fn a_head_is_read_with_the_spans_of_its_lines() {
    let raw = "OPTIONS http://a/?b HTTP/1.1\r\nHost: a\r\nX-Fold:\t one\r\n\t two \r\nEmpty:\r\n\r\nrest";
    let mut fields = Fields::new();
    let head = parse(raw.as_bytes(), 100, &mut fields).unwrap();
    assert_eq!(&raw[..head.method_len], "OPTIONS");
    assert_eq!(&raw[head.target.clone()], "http://a/?b");
    assert_eq!(&raw[head.len..], "rest");
    assert_eq!(&raw[head.fields_start as usize..][..5], "Host:");
    let text = |range: &std::ops::Range<u32>| &raw[range.start as usize..range.end as usize];
    let seen: Vec<_> = fields.iter().map(|f| (text(&f.line), text(&f.name), text(&f.value))).collect();
    assert_eq!(
        seen,
        [
            ("Host: a\r\n", "Host", "a"),
            ("X-Fold:\t one\r\n\t two \r\n", "X-Fold", "one\r\n\t two"),
            ("Empty:\r\n", "Empty", ""),
        ]
    );
}

#[test]
fn request_lines_of_http_1_are_taken() {
    for line in [
        "GET / HTTP/1.1",
        "get / HTTP/1.0",
        "M-SEARCH * HTTP/1.1",
        "GET /\u{e9}t\u{e9}?|\"{}\\^ HTTP/1.1",
        "GET http://host:80/a:b HTTP/1.1",
        "CONNECT host:443 HTTP/1.1",
        "CONNECT [::1]:443 HTTP/1.1",
        "!#$%&'*+-.^_`|~ / HTTP/1.1",
        "GET urn:a HTTP/1.1",
    ] {
        assert!(read(&format!("{line}\r\n\r\n")).is_ok(), "{line}");
        assert!(read(&format!("{line}\n\n")).is_ok(), "{line} with bare line feeds");
        assert!(may_begin(format!("\r\n{line}\r\n").as_bytes()), "{line}");
    }
}

#[test]
fn what_is_no_request_line_is_not_http() {
    for line in [
        "GET /",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / RTSP/1.0",
        " GET / HTTP/1.1",
        "",
        "G\u{e9}T / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "HTTP/1.1 200 OK",
    ] {
        assert_eq!(read(&format!("{line}\r\n\r\n")), Err(Fail::Unknown), "{line:?}");
    }
    assert_eq!(read("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(Fail::Http2));
    assert_eq!(read(&"A".repeat(65)), Err(Fail::Unknown));
}

#[test]
fn a_request_line_with_a_bad_target_is_refused() {
    for target in ["", "a", "a b", "/a b", " /", "/\t", "/\u{1}", "/\u{7f}", "*a", "host:80\r", "//\0", "?q"]
    {
        if target == "host:80\r" {
            continue;
        }
        assert_eq!(read(&format!("GET {target} HTTP/1.1\r\n\r\n")), Err(Fail::Malformed), "{target:?}");
    }
    assert_eq!(read("GET HTTP/1.1\r\n\r\n"), Err(Fail::Malformed));
}

#[test]
fn fields_that_readers_disagree_about_are_refused() {
    for fields in [
        "Host : a\r\n",
        ": a\r\n",
        "no colon\r\n",
        "na me: a\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X:\rTransfer-Encoding: chunked\r\n",
        "X: a\u{b}b\r\n",
        "X: \u{7f}\r\n",
        "F\u{e9}: a\r\n",
        "X: a\r\n \r\n",
        "(a): b\r\n",
    ] {
        assert_eq!(post(fields), Err(Fail::Malformed), "{fields:?}");
    }
    assert_eq!(read("GET / HTTP/1.1\r\n folded: first\r\n\r\n"), Err(Fail::Malformed));
}

#[test]
fn the_length_of_a_body_is_digits_and_one_number() {
    assert_eq!(post("Content-Length: 5\r\n"), Ok(BodyKind::Length(5)));
    assert_eq!(post("content-LENGTH:\t005 \r\n"), Ok(BodyKind::Length(5)));
    assert_eq!(post("Content-Length: 0\r\n"), Ok(BodyKind::None));
    assert_eq!(post("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(BodyKind::Length(5)));
    assert_eq!(post("Content-Length: 18446744073709551615\r\n"), Ok(BodyKind::Length(u64::MAX)));
    for value in [
        "",
        "-5",
        "+5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "5;",
        "\"5\"",
        "18446744073709551616",
        "5\r\n 5",
        "\u{661}",
    ] {
        assert_eq!(post(&format!("Content-Length: {value}\r\n")), Err(Fail::Malformed), "{value:?}");
    }
    assert_eq!(post("Content-Length: 5\r\nContent-Length: 6\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Content-Length: 5\r\nContent-Length: 05\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Content-Length : 5\r\n"), Err(Fail::Malformed));
}

#[test]
fn a_transfer_coding_is_chunked_last_and_once() {
    assert_eq!(post("Transfer-Encoding: chunked\r\n"), Ok(BodyKind::Chunked));
    assert_eq!(post("transfer-encoding:CHUNKED\t\r\n"), Ok(BodyKind::Chunked));
    assert_eq!(post("Transfer-Encoding: gzip, chunked\r\n"), Ok(BodyKind::Chunked));
    assert_eq!(post("Transfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n"), Ok(BodyKind::Chunked));
    for value in [
        "",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "identity, chunked",
        "gzip",
        "\"chunked\"",
        "chunked;a=b",
        "chunked\u{b}",
        "\u{b}chunked",
        "ch\u{17f}unked",
        "x, chunked",
        "chunked\r\n ",
        "\r\n chunked",
        "cow",
    ] {
        assert_eq!(post(&format!("Transfer-Encoding: {value}\r\n")), Err(Fail::Malformed), "{value:?}");
    }
    assert_eq!(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Transfer-Encoding : chunked\r\n"), Err(Fail::Malformed));
    assert_eq!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Fail::Malformed));
}

#[test]
fn both_lengths_are_refused_in_either_order() {
    assert_eq!(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"), Err(Fail::Malformed));
    assert_eq!(post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), Err(Fail::Malformed));
}

#[test]
fn mixed_line_ends_are_refused_where_a_body_is_announced() {
    assert_eq!(
        read("POST / HTTP/1.1\r\nX: x\nTransfer-Encoding: chunked\r\n\r\n").map(|h| h.body),
        Err(Fail::Malformed)
    );
    assert_eq!(read("POST / HTTP/1.1\nX: x\nContent-Length: 1\n\n").map(|h| h.body), Ok(BodyKind::Length(1)));
    assert!(read("GET / HTTP/1.1\r\nX: x\n\r\n").is_ok());
}

#[test]
fn connection_options_are_read_from_lists() {
    let head = |version: &str, fields: &str| read(&format!("GET / HTTP/{version}\r\n{fields}\r\n")).unwrap();
    assert!(!head("1.1", "").closes);
    assert!(head("1.1", "Connection: a, CLOSE\r\n").closes);
    assert!(head("1.1", "Connection: keep-alive\r\nConnection: close\r\n").closes);
    assert!(head("1.0", "").closes);
    assert!(!head("1.0", "Connection: Keep-Alive\r\n").closes);
    let leaves = |version, fields: &str| head(version, fields).leaves;
    let connection = "Connection: keep-alive, Upgrade\r\n";
    let to = |fields: &str| leaves("1.1", &format!("{connection}{fields}"));
    assert_eq!(to("Upgrade: websocket\r\n"), Some(Leaves::Other));
    assert_eq!(to("Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhl\r\n"), Some(Leaves::WebSocket));
    assert_eq!(to("Upgrade: TLS/1.0, h2c\r\nHTTP2-Settings:\r\n"), Some(Leaves::H2c));
    assert_eq!(to("Upgrade: h2c\r\n"), Some(Leaves::Other));
    assert_eq!(to("HTTP2-Settings:\r\n"), None);
    assert_eq!(leaves("1.1", "Upgrade: websocket\r\n"), None);
    assert_eq!(leaves("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), None);
    assert!(head("1.1", "Expect: 100-Continue\r\n").expects_continue);
    assert!(!head("1.0", "Expect: 100-continue\r\n").expects_continue);
    assert_eq!(head("1.0", "").version, Version::Http10);
}

#[test]
fn too_many_fields_are_too_large_and_told_at_the_end_of_the_head() {
    let raw = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    assert_eq!(read(&raw), Err(Fail::TooLarge));
    assert_eq!(read(&raw[..raw.len() - 1]), Err(Fail::Incomplete));
    let raw = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert!(read(&raw).is_ok());
}

fn field() -> impl Strategy<Value = String> {
    ("[A-Za-z!#$-]{1,20}", "[ \t]{0,2}", "([!-~]([ -~]{0,30}[!-~])?)?", "[ \t]{0,2}")
        .prop_map(|(name, before, value, after)| format!("{name}:{before}{value}{after}\r\n"))
}

proptest! {
    /// httparse is another reader of the same grammar: what both take, both read alike.
    #[test]
    fn agrees_with_httparse(method in "[A-Z]{1,8}", path in "/[!-~]{0,30}", minor in 0..2u8, fields in prop::collection::vec(field(), 0..12), rest in "[ -~]{0,9}") {
        let raw = format!("{method} {path} HTTP/1.{minor}\r\n{}\r\n{rest}", fields.concat());
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Request::new(&mut slots);
        let mut spans = Fields::new();
        if let (Ok(httparse::Status::Complete(len)), Ok(ours)) = (theirs.parse(raw.as_bytes()), parse(raw.as_bytes(), 100, &mut spans)) {
            prop_assert_eq!(len, ours.len);
            prop_assert_eq!(theirs.method.unwrap(), &raw[..ours.method_len]);
            prop_assert_eq!(theirs.path.unwrap(), &raw[ours.target]);
            let text = |range: &std::ops::Range<u32>| raw[range.start as usize..range.end as usize].to_owned();
            let ours: Vec<_> = spans.iter().map(|f| (text(&f.name), text(&f.value))).collect();
            let theirs: Vec<_> = theirs.headers.iter().map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).trim_matches([' ', '\t']).to_owned())).collect();
            prop_assert_eq!(ours, theirs);
        }
    }

    /// The quick way says what the slow way says, or nothing.
    #[test]
    fn a_plain_field_is_what_the_rules_say(line in "[!-~\u{e9}]{0,9}[:\t\u{7f}]?[ -~\t\u{e9}\u{7f}\u{1}]{0,40}\r?\n", lead in 0..9usize) {
        let bytes = [&b" ".repeat(lead)[..], line.as_bytes(), b"\r\n"].concat();
        if let Some((field, next)) = plain_field(&bytes, lead) {
            let mut fields = Fields::new();
            let end = lead + line.len();
            prop_assert_eq!(field_line(line.trim_end_matches(['\r', '\n']).as_bytes(), lead, end, &bytes, 9, &mut fields), Ok(()));
            prop_assert_eq!((&field, next), (&fields[0], end));
        }
    }

    #[test]
    fn the_first_control_character_is_found(bytes in prop::collection::vec(prop_oneof![9 => 0x20..0x7fu8, 1 => any::<u8>()], 0..60)) {
        prop_assert_eq!(first_control(&bytes), bytes.iter().position(u8::is_ascii_control));
    }

    #[test]
    fn every_prefix_of_a_head_is_incomplete(path in "/[!-~]{0,30}", fields in prop::collection::vec(field(), 0..6), cut in any::<prop::sample::Index>()) {
        let raw = format!("GET {path} HTTP/1.1\r\n{}\r\n", fields.concat());
        if read(&raw).is_ok() {
            let cut = cut.index(raw.len());
            prop_assert_eq!(read(&raw[..cut]).err(), Some(Fail::Incomplete));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..200), prefix in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "G"])) {
        let raw = [prefix.as_bytes(), &bytes].concat();
        let _either = parse(&raw, 4, &mut Fields::new());
        let _either = may_begin(&raw);
    }
}
