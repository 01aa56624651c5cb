//! The rules of RFC 9113, one by one.

use super::{Client, How, PREFACE, flag, frame, kind};
use crate::flow::Start;
use crate::http::tests::{Book, Wire, frame as whole};
use crate::http::{H2Error, HeaderField, Limits, NotHttp, Pickup, Pseudo, Waiting};

/// What comes of a client's bytes, whole and in pieces; `h2` and the ends' positions left out.
fn log(client: &mut Client) -> (String, Book) {
    let book = whole(client.take());
    let lines = book.log.lines().skip(1).map(|line| match line.split_once(" end ") {
        Some((stream, _)) => format!("{stream} end"),
        None => line.to_owned(),
    });
    (lines.collect::<Vec<_>>().join("\n"), book)
}

fn client() -> Client {
    Client::with_preface()
}

/// The error that follows a request that was fine.
fn error(bytes: impl AsRef<[u8]>) -> H2Error {
    let mut client = client();
    client.get(1, "/a").post(3, &[]).raw(&bytes);
    let good = client.peek().len() - bytes.as_ref().len();
    let (log, book) = log(&mut client);
    let head = "#1 GET http a /a\n#1 end\n#3 POST http a /p\n#3 abort ConnectionError\nerror ";
    let name = log.strip_prefix(head).unwrap_or_else(|| panic!("{log}"));
    assert_eq!(book.parsed + book.of(NotHttp::Http2), (good + bytes.as_ref().len()) as u64);
    H2Error::ALL.iter().find(|(why, _)| format!("{why:?}") == name).expect("an error").0
}

/// How a header list that opens stream 1 is taken; a good request follows.
fn taken(fields: &[(&str, &str)]) -> bool {
    let mut client = client();
    client.headers(1, true, fields);
    client.get(3, "/next");
    let log = log(&mut client).0;
    assert!(log.ends_with("#3 GET http a /next\n#3 end"), "{log}");
    !log.starts_with("refused\n")
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    GET.iter().chain(more).copied().collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GET.into_iter().filter(|field| field.0 != name).collect()
}

#[test]
fn a_request_is_its_head_its_body_and_its_trailers() {
    let mut client = client();
    client
        .post(1, &[("content-length", "5"), ("te", "trailers")])
        .data(1, b"hel", false)
        .data(1, b"lo", false);
    client.headers(1, true, &[("grpc-status", "0"), ("x", "y")]);
    let (log, book) = log(&mut client);
    assert_eq!(
        log,
        "#1 POST http a /p content-length: 5 te: trailers\n#1 trailers grpc-status: 0 x: y\n#1 > hello\n#1 end"
    );
    assert_eq!(book.streams[0].pos, (PREFACE.len() + 9) as u64);
}

#[test]
fn streams_mix_and_keep_their_bodies_apart() {
    let mut client = client();
    client
        .post(1, &[])
        .post(3, &[])
        .data(1, b"a", false)
        .data(3, b"x", false)
        .get(5, "/g")
        .data(1, b"b", true);
    client.data(3, b"y", false).data(3, b"", true);
    assert_eq!(
        log(&mut client).0,
        "#1 POST http a /p\n#3 POST http a /p\n#5 GET http a /g\n#5 end\n#1 > ab\n#1 end\n#3 > xy\n#3 end"
    );
}

#[test]
fn padding_is_no_body() {
    let mut client = client();
    client.post(1, &[("content-length", "2")]).padded(1, b"a", 0, false).padded(1, b"b", 255, true);
    client.post(3, &[("content-length", "0")]).padded(3, b"", 3, true);
    let block = client.block(&GET);
    let payload = [&[4], &[0, 0, 0, 0, 9][..], &block, &[0; 4]].concat();
    let flags = flag::END_HEADERS | flag::END_STREAM | flag::PADDED | flag::PRIORITY;
    client.raw(frame(kind::HEADERS, flags, 5, payload));
    assert_eq!(
        log(&mut client).0,
        "#1 POST http a /p content-length: 2\n#1 > ab\n#1 end\n#3 POST http a /p content-length: 0\n#3 end\n\
         #5 GET http a /\n#5 end"
    );
}

#[test]
fn a_header_block_may_come_in_any_number_of_frames() {
    for cut in [0, 1, 5] {
        let mut client = client();
        client.get(1, "/first");
        let block = client.block(&with(&[("x-long", "value")]));
        let (first, rest) = block.split_at(cut);
        client.raw(frame(kind::HEADERS, flag::END_STREAM | flag::PADDED, 3, [&[2], first, &[0, 0]].concat()));
        for part in rest.chunks(3) {
            client.raw(frame(kind::CONTINUATION, 0, 3, part));
        }
        client.raw(frame(kind::CONTINUATION, flag::END_HEADERS, 3, b""));
        client.get(5, "/last");
        assert_eq!(
            log(&mut client).0,
            "#1 GET http a /first\n#1 end\n#3 GET http a / x-long: value\n#3 end\n#5 GET http a /last\n#5 end"
        );
    }
}

#[test]
fn frames_that_say_nothing_about_requests_are_passed_over() {
    let mut client = client();
    client.post(1, &[]);
    client.raw(frame(kind::SETTINGS, flag::ACK, 0, b"")).raw(frame(kind::SETTINGS, 0, 0, [1; 60])).ping();
    client.raw(frame(kind::WINDOW_UPDATE, 0, 0, [1; 4])).raw(frame(kind::WINDOW_UPDATE, 0, 1, [1; 4]));
    client.raw(frame(kind::PRIORITY, 0, 9, [1; 5])).raw(frame(kind::PRIORITY, 0, 9, [1; 4]));
    client.raw(frame(0x10, 0xff, 0, b"u=1")).raw(frame(0xbe, 0xff, 1, [9; 500]));
    client.raw(frame(kind::GOAWAY, 0, 0, [0; 20])).data(1, b"a", true);
    let len = client.peek().len() as u64;
    let (log, book) = log(&mut client);
    assert_eq!((log.as_str(), book.parsed), ("#1 POST http a /p\n#1 > a\n#1 end", len));
}

#[test]
fn the_reserved_bit_of_a_stream_is_ignored() {
    let mut client = client();
    let block = client.block(&GET);
    client.raw(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 0x8000_0001, block));
    assert_eq!(log(&mut client).0, "#1 GET http a /\n#1 end");
}

#[test]
fn a_malformed_head_costs_its_stream_and_nothing_else() {
    assert!(taken(&GET));
    assert!(taken(&with(&[("content-length", "0"), ("cookie", "a=b"), ("cookie", "c=d"), ("empty", "")])));
    assert!(taken(&with(&[
        ("content-length", "0"),
        ("content-length", "0"),
        ("te", "trailers"),
        ("host", "b")
    ])));
    assert!(taken(&with(&[("content-length", "5")])), "nothing is in doubt");
    assert!(taken(&without(":authority")));
    for name in [":method", ":scheme", ":path"] {
        assert!(!taken(&without(name)), "{name}");
    }
    for field in [
        (":path", "/twice"),
        (":status", "200"),
        (":unknown", "x"),
        (":protocol", "websocket"),
        ("Upper", "x"),
        ("", "x"),
        ("sp ace", "x"),
        ("co:lon", "x"),
        ("x", " leading"),
        ("x", "trailing\t"),
        ("x", "line\nbreak"),
        ("x", "carriage\rreturn"),
        ("x", "nul\0"),
        ("transfer-encoding", "chunked"),
        ("content-length", "+0"),
        ("content-length", ""),
    ] {
        assert!(!taken(&with(&[field])), "{field:?}");
    }
    assert!(!taken(&with(&[("content-length", "0"), ("content-length", "00")])));
    let mut late = vec![("x", "y")];
    late.extend(GET);
    assert!(!taken(&late));
    for (name, value) in [
        (":method", ""),
        (":method", "GE T"),
        (":path", ""),
        (":path", "/a b"),
        (":path", "/a\r\nb"),
        (":scheme", "1http"),
        (":scheme", ""),
        (":authority", "a b"),
    ] {
        let mut fields = GET;
        fields.iter_mut().find(|field| field.0 == name).unwrap().1 = value;
        assert!(!taken(&fields), "{name} {value:?}");
    }
}

#[test]
fn fields_of_the_connection_are_told_and_marked() {
    let fields = [
        ("connection", "close"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ];
    assert!(taken(&with(&fields)));
    let marked = |name: &str, value: &str| {
        let field = HeaderField { name: name.as_bytes(), value: value.as_bytes(), never_indexed: false };
        field.is_of_connection()
    };
    assert!(fields.into_iter().all(|(name, value)| marked(name, value)));
    assert!(!marked("te", "Trailers") && !marked("cookie", "close"));
}

#[test]
fn it_is_told_which_pseudo_fields_are_never_indexed() {
    let fields = GET.iter().zip([Pseudo::Method, Pseudo::Scheme, Pseudo::Authority, Pseudo::Path]);
    for (secret, expected) in fields.clone() {
        let mut client = client();
        let mut block = Vec::new();
        for (name, value) in GET {
            let how = if name == secret.0 { How::Never } else { How::Add };
            client.encoder.field(name.as_bytes(), value.as_bytes(), how, &mut block);
        }
        client.raw(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block));
        let told = log(&mut client).1.streams[0].never_indexed;
        for (_, field) in fields.clone() {
            assert_eq!(told.has(field), field == expected, "{field:?} of {secret:?}");
        }
    }
}

#[test]
fn connect_has_no_scheme_and_no_path_unless_it_names_a_protocol() {
    let connect = |more: &[(&'static str, &'static str)]| {
        let fields = [(":method", "CONNECT")].into_iter().chain(more.iter().copied());
        taken(&fields.collect::<Vec<_>>())
    };
    let authority = (":authority", "a:1");
    assert!(connect(&[authority]));
    assert!(!connect(&[]));
    assert!(!connect(&[authority, (":path", "/")]));
    assert!(!connect(&[authority, (":scheme", "http")]));
    let extended = [(":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"), authority];
    assert!(connect(&extended));
    for missing in 1..4 {
        let mut fields = extended.to_vec();
        fields.remove(missing);
        assert!(!connect(&fields));
    }
}

#[test]
fn a_body_of_another_length_than_announced_is_malformed() {
    for (bodies, last) in [(&[&b"hell"[..]][..], true), (&[b"hello!"], false), (&[b"hello", b"!"], true)] {
        let mut client = client();
        client.post(1, &[("content-length", "5")]);
        for (at, body) in bodies.iter().enumerate() {
            client.data(1, body, last && at + 1 == bodies.len());
        }
        client.get(3, "/next");
        let log = log(&mut client).0;
        assert_eq!(
            log, "#1 POST http a /p content-length: 5\n#1 abort Malformed\n#3 GET http a /next\n#3 end",
            "{bodies:?}"
        );
    }
    let mut client = client();
    client.post(1, &[("content-length", "5")]).data(1, b"hell", false).headers(1, true, &[("x", "y")]);
    assert!(log(&mut client).0.ends_with("#1 abort Malformed"));
}

#[test]
fn trailers_end_their_request_and_hold_no_pseudo_field() {
    for (end, field) in
        [(false, ("x", "y")), (true, (":path", "/")), (true, ("transfer-encoding", "chunked"))]
    {
        let mut client = client();
        client.post(1, &[]).headers(1, end, &[field]).data(1, b"late", true).get(3, "/next");
        let (log, book) = log(&mut client);
        assert_eq!(log, "#1 POST http a /p\n#1 abort Malformed\n#3 GET http a /next\n#3 end", "{field:?}");
        assert_eq!(book.of(NotHttp::Http2), 13);
    }
    let mut client = client();
    client.post(1, &[]).headers(1, true, &[]);
    assert_eq!(log(&mut client).0, "#1 POST http a /p\n#1 end");
}

#[test]
fn a_stream_that_is_reset_before_its_end_is_never_complete() {
    let mut client = client();
    client
        .post(1, &[])
        .data(1, b"half", false)
        .reset(1, 8)
        .data(1, b"late", true)
        .get(3, "/done")
        .reset(3, 5);
    let (log, book) = log(&mut client);
    assert_eq!(log, "#1 POST http a /p\n#1 abort ClientReset 8\n#3 GET http a /done\n#3 end\n#3 cancelled 5");
    assert_eq!(book.of(NotHttp::Http2), 13);
}

#[test]
fn frames_on_closed_streams_are_read_for_the_compression_state_only() {
    let mut client = client();
    client.get(5, "/five").headers(3, true, &with(&[("x-new", "entry")])).get(7, "/seven");
    let block = client.block(&with(&[("x-new", "entry")]));
    client.raw(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 9, block));
    assert_eq!(
        log(&mut client).0,
        "#5 GET http a /five\n#5 end\n#7 GET http a /seven\n#7 end\n#9 GET http a / x-new: entry\n#9 end"
    );
}

#[test]
fn errors_of_the_connection_end_its_decoding_with_a_reason() {
    use H2Error::{Compression, Continuation, Frame, FrameSize, Stream, TableTooLarge};
    let end = flag::END_HEADERS | flag::END_STREAM;
    for (expected, bytes) in [
        (Compression, frame(kind::HEADERS, end, 5, b"\x80")),
        (TableTooLarge, frame(kind::HEADERS, end, 5, b"\x3f\xff\xff\x7f")),
        (Continuation, frame(kind::CONTINUATION, 4, 5, b"")),
        (Continuation, [frame(kind::HEADERS, 0, 5, b"\x82"), frame(kind::DATA, 0, 3, b"x")].concat()),
        (Continuation, [frame(kind::HEADERS, 0, 5, b"\x82"), frame(kind::PING, 0, 0, [0; 8])].concat()),
        (Continuation, [frame(kind::HEADERS, 0, 5, b"\x82"), frame(kind::CONTINUATION, 4, 7, b"")].concat()),
        (Stream, frame(kind::DATA, 0, 0, b"x")),
        (Stream, frame(kind::DATA, 0, 5, b"x")),
        (Stream, frame(kind::DATA, 0, 2, b"x")),
        (Stream, frame(kind::HEADERS, end, 0, b"\x82")),
        (Stream, frame(kind::HEADERS, end, 6, b"\x82")),
        (Stream, frame(kind::RST_STREAM, 0, 0, [0; 4])),
        (Stream, frame(kind::RST_STREAM, 0, 5, [0; 4])),
        (Stream, frame(kind::PRIORITY, 0, 0, [0; 5])),
        (Stream, frame(kind::SETTINGS, 0, 1, b"")),
        (Stream, frame(kind::PING, 0, 1, [0; 8])),
        (Stream, frame(kind::GOAWAY, 0, 1, [0; 8])),
        (FrameSize, frame(kind::DATA, flag::PADDED, 3, b"")),
        (FrameSize, frame(kind::HEADERS, end | flag::PADDED, 5, b"")),
        (FrameSize, frame(kind::HEADERS, end | flag::PRIORITY, 5, [0; 4])),
        (FrameSize, frame(kind::RST_STREAM, 0, 3, [0; 5])),
        (FrameSize, frame(kind::SETTINGS, 0, 0, [0; 5])),
        (FrameSize, frame(kind::SETTINGS, flag::ACK, 0, [0; 6])),
        (FrameSize, frame(kind::PING, 0, 0, [0; 7])),
        (FrameSize, frame(kind::GOAWAY, 0, 0, [0; 7])),
        (FrameSize, frame(kind::WINDOW_UPDATE, 0, 0, [0; 5])),
        (Frame, frame(kind::DATA, flag::PADDED, 3, b"\x01")),
        (Frame, frame(kind::HEADERS, end | flag::PADDED, 5, b"\x02\x82")),
        (Frame, frame(kind::PUSH_PROMISE, flag::END_HEADERS, 3, b"\0\0\0\x04\x82")),
    ] {
        assert_eq!(error(&bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_first_frame_is_settings() {
    for first in [frame(kind::PING, 0, 0, [0; 8]), frame(kind::WINDOW_UPDATE, 0, 0, [1; 4])] {
        let book = whole([PREFACE, &first].concat());
        assert_eq!((book.log.as_str(), book.of(NotHttp::Http2)), ("h2\nerror Preface\n", first.len() as u64));
    }
}

/// A client's bytes on a connection with limits.
fn limited(limits: Limits, client: &mut Client) -> Book {
    let run = |cuts: &[usize]| {
        let mut wire = Wire::with(Start::Syn, Pickup::Prove, &limits).cut(cuts);
        wire.send(client.peek());
        wire.close().1
    };
    let book = run(&[usize::MAX]);
    assert_eq!(run(&[1]), book);
    assert_eq!(run(&[100]), book);
    book
}

#[test]
fn a_header_list_over_the_limit_costs_its_stream() {
    let limits = Limits { max_head_bytes: 300, max_fields: 6, ..Limits::default() };
    let long = "x".repeat(200);
    let many = [("a", "1"), ("b", "2"), ("c", "3")];
    for fields in [with(&many), [&GET[..], &[("x", &long)]].concat()] {
        let mut client = client();
        client.headers(1, true, &fields).get(3, "/next");
        let book = limited(limits, &mut client);
        assert!(book.log.starts_with("h2\ntoo large\n#3 GET http a /next\n"), "{}", book.log);
        assert!(book.of(NotHttp::HeadTooLarge) > 0);
        let mut client = self::client();
        client.post(1, &[]).headers(1, true, &fields[4..]).get(3, "/next");
        let log = limited(Limits { max_head_bytes: 190, max_fields: 4, ..limits }, &mut client).log;
        if fields.len() == 5 {
            assert!(log.starts_with("h2\n#1 POST http a /p\n#1 abort HeadTooLarge\n#3"), "{log}");
        }
    }
}

#[test]
fn a_flood_of_continuation_frames_ends_at_the_limit() {
    let limits = Limits { h2_block_bytes: 1000, ..Limits::default() };
    for (payload, frames) in [(&b""[..], 110), (&[0x84; 91], 9), (&[0x84; 900], 1)] {
        let mut client = client();
        client.post(1, &[]).raw(frame(kind::HEADERS, 0, 3, b"\x82"));
        for _ in 0..frames {
            client.raw(frame(kind::CONTINUATION, 0, 3, payload));
        }
        let good = limited(limits, &mut client);
        assert_eq!(good.log, "h2\n#1 POST http a /p\n#1 abort Closed\n");
        client.raw(frame(kind::CONTINUATION, 0, 3, [0x84; 91]));
        let book = limited(limits, &mut client);
        assert_eq!(book.log, "h2\n#1 POST http a /p\n#1 abort ConnectionError\nerror BlockTooLarge\n");
    }
}

#[test]
fn a_list_that_grows_out_of_a_small_block_ends_at_the_limit() {
    let mut client = client();
    client.get(1, "/a");
    let long = "x".repeat(3000);
    let mut block = client.block(&with(&[("long", &*long.leak())]));
    block.extend([0xbe; 100]);
    client.raw(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, block));
    assert!(whole(client.take()).log.ends_with("error BlockTooLarge\n"));
}

#[test]
fn a_connection_without_room_for_its_state_is_given_up() {
    let mut wire = Wire::new(Start::Syn);
    let mut client = client();
    wire.send(client.post(1, &[]).get(3, "/a").take());
    wire.book.room = Some(wire.book.memory + 100);
    assert!(wire.book.memory > 0);
    wire.send(client.get(5, "/a").take());
    assert!(wire.book.log.contains("#5 GET http a /a\n#5 end "), "{}", wire.book.log);
    let long = "x".repeat(3000);
    wire.send(client.post(7, &[("x", &long)]).take()).send(client.get(9, "/b").take());
    assert_eq!(wire.book.memory, 0);
    let log = wire.close().1.log;
    assert!(log.ends_with("#1 abort ConnectionError\n#7 abort ConnectionError\nerror NoRoom\n"), "{log}");
}

#[test]
fn an_idle_connection_keeps_little_more_than_its_table() {
    let mut wire = Wire::new(Start::Syn);
    let mut client = client();
    for stream in 0..1000 {
        let (name, value) = (format!("x-{stream}"), "v".repeat(stream as usize % 1500));
        client.post(stream * 2 + 1, &[(&name, &value)]).data(stream * 2 + 1, b"", stream % 7 > 0);
        wire.send(client.take());
        assert!(wire.book.memory < 40_000, "{}", wire.book.memory);
    }
    wire.close();
}

#[test]
fn a_flood_of_settings_and_pings_keeps_nothing_and_hides_no_request() {
    let mut wire = Wire::new(Start::Syn);
    let mut client = client();
    wire.send(client.get(1, "/before").take());
    let memory = wire.book.memory;
    let all = [
        frame(kind::SETTINGS, 0, 0, [0, 4, 0, 0, 0xff, 0xff].repeat(100)),
        frame(kind::SETTINGS, 0, 0, b""),
        frame(kind::SETTINGS, flag::ACK, 0, b""),
        frame(kind::PING, 0, 0, [7; 8]),
        frame(kind::WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]),
    ]
    .concat();
    for _ in 0..1_000 {
        wire.send(&all);
        assert_eq!(wire.book.memory, memory);
    }
    wire.send(client.get(3, "/after").take());
    let log = wire.close().1.log;
    assert!(log.contains("/before\n") && log.contains("/after\n") && !log.contains("error"), "{log}");
}

#[test]
fn streams_reset_too_fast_are_refused_for_the_rest_of_the_second() {
    let limits = Limits { h2_resets_per_second: 3, ..Limits::default() };
    let mut wire = Wire::with(Start::Syn, Pickup::Prove, &limits);
    let mut client = client();
    for (stream, second) in [(1, 0), (3, 0), (5, 0), (7, 0), (9, 1), (11, 1)] {
        wire.time = second * 1_000_000_000;
        client.post(stream, &[]).reset(stream, 8);
        wire.send(client.take());
    }
    let log = wire.close().1.log;
    let taken: Vec<_> =
        log.lines().filter(|line| line.contains("POST") || line.starts_with("refused")).collect();
    let post = |stream| format!("#{stream} POST http a /p");
    assert_eq!(taken, [&post(1), &post(3), &post(5), "refused ResetFlood", &post(9), &post(11)]);
    assert!(log.contains("#7 cancelled 8"));
}

#[test]
fn too_many_open_streams_are_refused_until_one_was_quiet_for_long() {
    let limits = Limits { h2_streams: 2, h2_stream_quiet_ns: 100, ..Limits::default() };
    let mut wire = Wire::with(Start::Syn, Pickup::Prove, &limits);
    let mut client = client();
    wire.send(client.post(1, &[]).post(3, &[]).take());
    wire.send(client.post(5, &[]).get(7, "/no-room-needed").take());
    wire.time = 100;
    wire.send(client.data(1, b"x", false).take());
    wire.send(client.post(9, &[]).post(11, &[]).take());
    assert_eq!(
        wire.close().1.log.lines().filter(|line| !line.contains("end")).collect::<Vec<_>>(),
        [
            "h2",
            "#1 POST http a /p",
            "#3 POST http a /p",
            "refused TooManyStreams",
            "#7 GET http a /no-room-needed",
            "#3 abort TooManyStreams",
            "#9 POST http a /p",
            "refused TooManyStreams",
            "#1 abort Closed",
            "#9 abort Closed",
        ]
    );
}

#[test]
fn a_gap_inside_a_data_frame_costs_its_stream_only() {
    let mut client = client();
    client.post(1, &[]).post(3, &[]);
    let head = client.take();
    client.data(1, &[b'x'; 100], false).data(1, b"late", true).data(3, b"y", true).get(5, "/next");
    let body = client.take();
    for (from, len) in [(9, 100), (9, 1), (20, 89), (50, 10), (108, 1)] {
        for cuts in [&[usize::MAX][..], &[1], &[13]] {
            let mut wire = Wire::new(Start::Syn).cut(cuts);
            wire.send(&head).send(&body[..from]).lose(&body[from..from + len]).send(&body[from + len..]);
            let log = wire.close().1.log;
            let lines: Vec<_> = log.lines().map(|line| line.split(" end ").next().unwrap()).collect();
            assert_eq!(
                lines,
                [
                    "h2",
                    "#1 POST http a /p",
                    "#3 POST http a /p",
                    "#1 abort Gap",
                    "#3 > y",
                    "#3",
                    "#5 GET http a /next",
                    "#5"
                ],
                "{from} {len}"
            );
        }
    }
}

#[test]
fn a_gap_from_the_length_of_padding_on_leaves_the_next_request_where_it_is() {
    let mut client = client();
    client.post(1, &[]).padded(1, b"x", 3, false);
    let body = client.take();
    client.get(3, "/next");
    let mut wire = Wire::new(Start::Syn);
    wire.send(&body[..body.len() - 5]).lose(&body[body.len() - 5..]).send(client.take());
    let book = wire.close().1;
    assert!(book.log.contains("#1 abort Gap\n#3 GET http a /next\n#3 end"), "{}", book.log);
    assert_eq!(book.streams[1].pos, body.len() as u64);
}

#[test]
fn a_gap_inside_padding_or_a_frame_without_meaning_costs_nothing() {
    let mut client = client();
    client.post(1, &[]).padded(1, b"x", 20, false);
    let padding = client.peek().len() - 20;
    client.raw(frame(0xee, 0, 0, [0; 30]));
    let other = client.peek().len() - 30;
    client.data(1, b"y", true);
    let bytes = client.take();
    for (from, len) in [(padding, 20), (padding + 3, 5), (other, 30), (other + 7, 8)] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(&bytes[..from]).lose(&bytes[from..from + len]).send(&bytes[from + len..]);
        assert_eq!(wire.close().1.log, format!("h2\n#1 POST http a /p\n#1 > xy\n#1 end {}\n", bytes.len()));
    }
}

#[test]
fn a_gap_that_may_hide_a_header_block_ends_the_reading() {
    let mut client = client();
    client.post(1, &[]);
    let head = client.take();
    client.data(1, &[b'x'; 100], false).get(3, "/lost");
    let headers = 109;
    client.get(5, "/unread");
    let body = client.take();
    for (from, len) in [(0, 1), (5, 2), (0, 109), (9, 101), (headers, 3), (headers + 12, 1), (headers + 9, 3)]
    {
        let mut wire = Wire::new(Start::Syn);
        wire.send(&head).send(&body[..from]).lose(&body[from..from + len]);
        assert_eq!(wire.book.waiting, Some(Waiting::Gap), "{from} {len}");
        let after = &body[from + len..];
        wire.send(after);
        let book = wire.close().1;
        assert!(book.log.ends_with("#1 abort Gap\n") && !book.log.contains("unread"), "{}", book.log);
        assert!(book.of(NotHttp::Http2Waiting) >= after.len() as u64);
        assert_eq!(book.waited, [Waiting::Gap]);
    }
}

#[test]
fn streams_that_are_open_at_the_end_of_the_connection_are_aborted() {
    for fin in [true, false] {
        let mut wire = Wire::new(Start::Syn);
        wire.send(client().post(1, &[]).get(3, "/done").data(1, b"half", false).peek());
        if fin {
            wire.fin();
        }
        let (unknown, book) = wire.close();
        assert!(book.log.ends_with("#1 abort Closed\n"), "{}", book.log);
        assert_eq!(unknown, 2);
    }
}

#[test]
fn memory_pressure_costs_a_connection_only_if_it_holds_something() {
    let mut wire = Wire::new(Start::Syn);
    let mut client = client();
    let bytes = client.get(1, "/a").get(3, "/b").take();
    wire.send(&bytes[..bytes.len() - 3]).shed();
    assert_eq!((wire.book.waiting, wire.book.of(NotHttp::Http2Waiting)), (Some(Waiting::Gap), 13));
    wire.send(&bytes[bytes.len() - 3..]);
    let log = wire.close().1.log;
    assert!(log.contains("#1 GET") && !log.contains("#3"), "{log}");
    let mut wire = Wire::new(Start::Syn);
    wire.send(&bytes).shed();
    assert_eq!(wire.book.waiting, None);
    assert!(wire.close().1.log.contains("#3 GET"));
}
