//! Streams of bytes that nobody would write, cut as nobody would cut them.

use proptest::prelude::*;

use super::encoder::How;
use super::{Client, flag, frame, kind};
use crate::flow::Start;
use crate::http::h2::{ResponseEvents, Responses};
use crate::http::tests::Wire;
use crate::http::{HeaderField, Limits, Pickup};

/// Something that a client does.
#[derive(Clone, Debug)]
enum Act {
    Get {
        path: u8,
        parts: usize,
        huffman: bool,
    },
    Post {
        more: Option<(u8, u16)>,
        how: How,
    },
    /// On one of the streams opened so far.
    Data {
        stream: usize,
        len: usize,
        padding: Option<u8>,
        end: bool,
    },
    Trailers {
        stream: usize,
    },
    Reset {
        stream: usize,
    },
    Resize(usize),
    Other {
        kind: u8,
        len: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let how = prop::sample::select(vec![How::Index, How::Add, How::Plain, How::Never]);
    let data = (0usize..4, 0usize..400, prop::option::of(any::<u8>()), any::<bool>());
    prop_oneof![
        3 => (any::<u8>(), 1usize..5, any::<bool>()).prop_map(|(path, parts, huffman)| Act::Get { path, parts, huffman }),
        3 => (prop::option::of((0u8..20, 0u16..300)), how).prop_map(|(more, how)| Act::Post { more, how }),
        4 => data.prop_map(|(stream, len, padding, end)| Act::Data { stream, len, padding, end }),
        1 => (0usize..4).prop_map(|stream| Act::Trailers { stream }),
        1 => (0usize..4).prop_map(|stream| Act::Reset { stream }),
        1 => (0usize..6000).prop_map(Act::Resize),
        1 => (prop::sample::select(vec![0xau8, 0x10, 0xff, 2]), 0usize..100).prop_map(|(kind, len)| Act::Other { kind, len }),
    ]
}

/// Stream, body, and whether it is complete.
type Expected = (u32, Vec<u8>, bool);

/// The bytes of a client that does these things, and the requests that a naive reader of the script expects.
fn write(acts: &[Act]) -> (Vec<u8>, Vec<Expected>) {
    let mut client = Client::with_preface();
    let mut resize = Vec::new();
    let mut next = 1;
    let mut open: Vec<u32> = Vec::new();
    let mut expected: Vec<Expected> = Vec::new();
    for act in acts {
        match act {
            Act::Get { path, parts, huffman } => {
                client.encoder.huffman = *huffman;
                let path = format!("/{path}");
                let mut block = std::mem::take(&mut resize);
                block.extend(client.block(&[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "a"),
                    (":path", &path),
                ]));
                let size = block.len().div_ceil(*parts);
                let count = block.chunks(size).count();
                for (at, part) in block.chunks(size).enumerate() {
                    let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
                    let first = if at == 0 { flag::END_STREAM } else { 0 };
                    let last = if at + 1 == count { flag::END_HEADERS } else { 0 };
                    client.raw(frame(kind, first | last, next, part));
                }
                expected.push((next, Vec::new(), true));
                next += 2;
            }
            Act::Post { more, how } => {
                let mut block = std::mem::take(&mut resize);
                block.extend(client.block(&[(":method", "POST"), (":scheme", "http"), (":path", "/p")]));
                if let Some((name, len)) = more {
                    let name = format!("x-{name}");
                    client.encoder.field(name.as_bytes(), &vec![b'v'; (*len).into()], *how, &mut block);
                }
                client.raw(frame(kind::HEADERS, flag::END_HEADERS, next, block));
                open.push(next);
                expected.push((next, Vec::new(), false));
                next += 2;
            }
            Act::Data { stream, len, padding, end } => {
                let Some(&id) = open.get(stream % open.len().max(1)) else { continue };
                let body = vec![b'a' + (len % 26) as u8; *len];
                match padding {
                    Some(padding) => client.padded(id, &body, *padding, *end),
                    None => client.data(id, &body, *end),
                };
                let entry = expected.iter_mut().find(|entry| entry.0 == id).unwrap();
                entry.1.extend(body);
                if *end {
                    entry.2 = true;
                    open.retain(|other| *other != id);
                }
            }
            Act::Trailers { stream } => {
                let Some(&id) = open.get(stream % open.len().max(1)) else { continue };
                let mut block = std::mem::take(&mut resize);
                block.extend(client.block(&[("t", "1")]));
                client.raw(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, block));
                expected.iter_mut().find(|entry| entry.0 == id).unwrap().2 = true;
                open.retain(|other| *other != id);
            }
            Act::Reset { stream } => {
                let Some(&id) = open.get(stream % open.len().max(1)) else { continue };
                client.reset(id, 8);
                open.retain(|other| *other != id);
            }
            Act::Resize(size) => {
                resize.clear();
                client.encoder.resize(*size, &mut resize);
            }
            Act::Other { kind, len } => {
                client.raw(frame(*kind, 0, 1, vec![0; *len]));
            }
        }
    }
    (client.take(), expected)
}

/// What is told of the bytes in these pieces.
fn read(bytes: &[u8], cuts: &[usize]) -> crate::http::tests::Book {
    let mut wire = Wire::new(Start::Syn).cut(cuts);
    wire.send(bytes);
    wire.close().1
}

proptest! {
    #[test]
    fn every_request_of_a_client_is_told_once_with_its_body(
        acts in prop::collection::vec(act(), 0..40),
        cuts in prop::collection::vec(1usize..300, 1..10),
    ) {
        let (bytes, expected) = write(&acts);
        let book = read(&bytes, &[usize::MAX]);
        prop_assert_eq!(book.parsed, bytes.len() as u64, "{}", book.log);
        for (stream, body, complete) in &expected {
            let head = format!("#{stream} ");
            let lines: Vec<_> = book.log.lines().filter_map(|line| line.strip_prefix(&head)).collect();
            prop_assert!(lines[0].starts_with("GET http a /") || lines[0].starts_with("POST http - /p"));
            let ends = lines.iter().filter(|line| line.starts_with("end ")).count();
            prop_assert_eq!(ends, usize::from(*complete), "{} of {}", stream, book.log);
            let told = lines.iter().find_map(|line| line.strip_prefix("> ")).unwrap_or("");
            if *complete {
                prop_assert_eq!(told, body.escape_ascii().to_string());
            }
        }
        prop_assert_eq!(book.streams.len(), expected.len());
        prop_assert_eq!(read(&bytes, &cuts), book);
    }

    #[test]
    fn mutated_frames_are_read_the_same_in_any_cut_and_never_break_the_reader(
        acts in prop::collection::vec(act(), 1..20),
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..6),
        cuts in prop::collection::vec(1usize..50, 1..10),
    ) {
        let mut bytes = write(&acts).0;
        for (at, byte, what) in wounds {
            let at = 24 + at.index(bytes.len() - 24);
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes[at] ^= 1 << (byte % 8),
                _ => { bytes.truncate(at.max(33)); }
            }
        }
        prop_assert_eq!(read(&bytes, &cuts), read(&bytes, &[usize::MAX]));
    }

    #[test]
    fn any_frames_are_read_the_same_in_any_cut(
        frames in prop::collection::vec((0u8..12, any::<u8>(), 0u32..12, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        cuts in prop::collection::vec(1usize..30, 1..10),
    ) {
        let mut client = Client::with_preface();
        for (kind, flags, stream, payload) in frames {
            client.raw(frame(kind, flags, stream, payload));
        }
        let bytes = client.take();
        prop_assert_eq!(read(&bytes, &cuts), read(&bytes, &[usize::MAX]));
    }

    #[test]
    fn after_any_gap_what_is_told_was_sent(
        acts in prop::collection::vec(act(), 1..30),
        gap in (any::<prop::sample::Index>(), 1usize..200),
        cuts in prop::collection::vec(1usize..300, 1..10),
    ) {
        let (bytes, expected) = write(&acts);
        let from = gap.0.index(bytes.len());
        let to = bytes.len().min(from + gap.1);
        let mut wire = Wire::new(Start::Syn).cut(&cuts);
        wire.send(&bytes[..from]).lose(&bytes[from..to]).send(&bytes[to..]);
        let book = wire.close().1;
        for stream in &book.streams {
            prop_assert!(expected.iter().any(|entry| entry.0 == stream.id));
        }
        // What is told as complete is complete.
        for (stream, body, complete) in &expected {
            let head = format!("#{stream} ");
            let lines: Vec<_> = book.log.lines().filter_map(|line| line.strip_prefix(&head)).collect();
            if lines.iter().any(|line| line.starts_with("end ")) {
                let told = lines.iter().find_map(|line| line.strip_prefix("> ")).unwrap_or("");
                prop_assert!(*complete && told == body.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn any_bytes_after_any_beginning_are_counted_once(
        noise in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..60)), 0..8),
        midstream in any::<bool>(),
        limit in 10u32..2000,
    ) {
        let limits = Limits { h2_block_bytes: limit, h2_list_bytes: limit, h2_streams: 2, ..Limits::default() };
        let start = if midstream { Start::MidStream } else { Start::Syn };
        let mut wire = Wire::with(start, Pickup::Trust, &limits);
        wire.send(Client::with_preface().get(1, "/a").peek());
        for (lost, bytes) in noise {
            if lost { wire.lose(&bytes) } else { wire.send(&bytes) };
        }
        wire.close();
    }
}

/// Responses as text.
#[derive(Default)]
struct Told(String);

impl ResponseEvents for Told {
    fn response_head(&mut self, stream: u32, status: u16, fields: &[HeaderField<'_>], time: u64) {
        self.0.push_str(&format!("#{stream} {status} {} at {time}\n", fields.len()));
    }
    fn response_data(&mut self, stream: u32, bytes: &[u8], _: u64) {
        self.0.push_str(&format!("#{stream} > {}\n", bytes.escape_ascii()));
    }
    fn response_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], _: u64) {
        self.0.push_str(&format!("#{stream} trailers {}\n", fields[0].name.escape_ascii()));
    }
    fn response_end(&mut self, stream: u32, time: u64) {
        self.0.push_str(&format!("#{stream} end at {time}\n"));
    }
    fn response_reset(&mut self, stream: u32, code: u32, _: u64) {
        self.0.push_str(&format!("#{stream} reset {code}\n"));
    }
}

#[test]
fn responses_tell_status_and_time_of_each_stream() {
    let mut primary = Client::upgraded();
    primary.headers(1, false, &[(":status", "100")]).headers(3, true, &[(":status", "204"), ("server", "s")]);
    let promise = primary.block(&[(":method", "GET"), (":path", "/pushed")]);
    primary.raw(frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, [&[0, 0, 0, 2][..], &promise].concat()));
    let first = primary.take();
    primary.headers(1, false, &[(":status", "200"), ("server", "s")]).data(1, b"hi", false);
    primary.headers(1, true, &[("grpc-status", "0")]).reset(5, 7);
    let second = primary.take();
    let expected = "#1 100 0 at 1\n#3 204 1 at 1\n#3 end at 1\n#1 200 1 at 2\n#1 > hi\n#1 trailers grpc-status\n#1 end at 2\n\
                    #5 reset 7\n";
    let mut told = Told::default();
    let mut responses = Responses::new(&Limits::default());
    responses.data(&first, 1, &mut told);
    responses.data(&second, 2, &mut told);
    assert_eq!(told.0, expected);
    responses.gap(1);
    assert!(responses.is_lost());
    responses.data(&second, 3, &mut told);
    assert_eq!(told.0, expected);
}
