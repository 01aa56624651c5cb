use proptest::prelude::*;

use super::{Bounds, Decoder, Fail, List};
use crate::http::h2::tests::encoder::{Encoder, How, integer};

const WIDE: Bounds = Bounds { fields: 1000, keep: 1 << 20, read: 1 << 20 };

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn text(list: &List) -> String {
    let lines = list.fields().map(|(name, value, never)| {
        let mark = if never { " !" } else { "" };
        format!("{}: {}{mark}", name.escape_ascii(), value.escape_ascii())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Blocks of one connection and their lists.
fn check(max_table: u32, blocks: &[(&str, &str)]) -> Decoder {
    let mut decoder = Decoder::new(max_table);
    let mut list = List::default();
    for (hex, expected) in blocks {
        decoder.decode(&bytes(hex), WIDE, &mut list).unwrap();
        assert_eq!(text(&list), *expected);
    }
    decoder
}

fn fail(max_table: u32, block: &[u8]) -> Fail {
    Decoder::new(max_table).decode(block, WIDE, &mut List::default()).unwrap_err()
}

#[test]
fn requests_of_the_rfc_are_read_with_and_without_huffman() {
    let expected = [
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
    ];
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let pairs: Vec<_> = blocks.into_iter().zip(expected).collect();
        let decoder = check(4096, &pairs);
        assert_eq!(decoder.table.get(62), Some((&b"custom-key"[..], &b"custom-value"[..])));
        assert_eq!(decoder.table.get(64), Some((&b":authority"[..], &b"www.example.com"[..])));
        assert_eq!(decoder.table.get(65), None);
    }
}

#[test]
fn entries_leave_a_table_that_is_full() {
    // Appendix C.6, with the table that it assumes.
    let decoder = check(
        4096,
        &[
            (
                "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
                 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
            ),
            (
                "4883 640e ffc1 c0bf",
                ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
            ),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
                 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
                 content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ],
    );
    assert_eq!(decoder.table.get(64).map(|entry| entry.0), Some(&b"date"[..]));
    assert_eq!(decoder.table.get(65), None);
}

#[test]
fn a_field_that_must_not_be_indexed_says_so() {
    check(
        4096,
        &[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret !"), ("04 01 61", ":path: a")],
    );
}

#[test]
fn a_table_may_grow_and_shrink_only_at_the_beginning_of_a_block_and_up_to_the_limit() {
    let mut block = Vec::new();
    integer(0x20, 5, 0, &mut block);
    integer(0x20, 5, 8192, &mut block);
    block.push(0x82);
    let mut decoder = Decoder::new(8192);
    decoder.decode(&block, WIDE, &mut List::default()).unwrap();
    let large = vec![b'x'; 5000];
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    encoder.field(b"a", &large, How::Add, &mut out);
    decoder.decode(&out, WIDE, &mut List::default()).unwrap();
    assert_eq!(decoder.table.get(62), Some((&b"a"[..], &large[..])));
    decoder.decode(&[0x20], WIDE, &mut List::default()).unwrap();
    assert_eq!(decoder.table.get(62), None);
    assert_eq!(fail(8191, &block), Fail::TableTooLarge);
    assert_eq!(fail(4096, &[0x82, 0x20]), Fail::Broken);
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    encoder.field(b"a", b"b", How::Add, &mut out);
    encoder.field(b"c", &[b'd'; 4096], How::Add, &mut out);
    let mut list = List::default();
    decoder.decode(&out, WIDE, &mut list).unwrap();
    assert_eq!(list.fields().count(), 2);
    assert_eq!(decoder.table.get(62), None);
}

#[test]
fn what_breaks_the_rules_cannot_be_read() {
    for block in [
        &b"\x80"[..],                    // index 0
        b"\xbe",                         // beyond the tables
        b"\x7e\x01a",                    // a name beyond the tables
        b"\x40\x01a",                    // no value
        b"\x40\x05a",                    // cut
        b"\x3f",                         // a cut integer
        b"\xff\x80\x80\x80\x80\x80\x00", // too long an integer
        b"\xff\xff\xff\xff\xff\xff\x7f", // too large a one
        b"\xff\xff\xff\xff\xff\x1f",
        b"\x04\x82\x1f\xfe",         // padded with a zero
        b"\x04\x82\x18\xff\xff",     // more than is there
        b"\x04\x83\x1f\xff\xff",     // a byte of padding and more
        b"\x04\x84\xff\xff\xff\xff", // the end symbol
    ] {
        assert_eq!(fail(4096, block), Fail::Broken, "{}", block.escape_ascii());
    }
}

#[test]
fn a_list_over_its_bounds_is_read_and_not_kept() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    for value in ["1", "2", "3"] {
        encoder.field(b"name", value.as_bytes(), How::Add, &mut out);
    }
    let mut list = List::default();
    for (bounds, kept) in [
        (Bounds { fields: 2, ..WIDE }, 2),
        (Bounds { keep: 80, ..WIDE }, 2),
        (Bounds { keep: 1, ..WIDE }, 0),
        (WIDE, 3),
    ] {
        let mut decoder = Decoder::new(4096);
        decoder.decode(&out, bounds, &mut list).unwrap();
        assert_eq!((list.is_over(), list.fields().count()), (kept < 3, kept));
        assert_eq!(decoder.table.get(62), Some((&b"name"[..], &b"3"[..])));
        assert_eq!(decoder.table.get(64), Some((&b"name"[..], &b"1"[..])));
    }
    let bounds = Bounds { read: 100, ..WIDE };
    assert_eq!(Decoder::new(4096).decode(&out, bounds, &mut list), Err(Fail::ListTooLarge));
}

#[test]
fn a_short_block_does_not_make_a_long_list() {
    let mut out = Vec::new();
    Encoder::new().field(b"a", &[b'x'; 4000], How::Add, &mut out);
    out.extend([0xbe; 10_000]);
    let mut list = List::default();
    let bounds = Bounds { fields: 1000, keep: 64 << 10, read: 256 << 10 };
    assert_eq!(Decoder::new(4096).decode(&out, bounds, &mut list), Err(Fail::ListTooLarge));
    assert!(list.bytes.capacity() < 256 << 10);
}

#[test]
fn every_byte_has_a_code_that_is_read_back() {
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let mut coded = Vec::new();
    super::huffman_encode(&all, &mut coded);
    let mut out = Vec::new();
    super::huffman::decode(&coded, &mut out).unwrap();
    assert_eq!(out, all);
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![3 => Just(How::Index), 2 => Just(How::Add), 1 => Just(How::Plain), 1 => Just(How::Never)]
}

type Block = (Option<usize>, bool, Vec<(usize, Vec<u8>, How)>);

fn block() -> impl Strategy<Value = Block> {
    let value = prop_oneof![
        prop::sample::select(vec![&b""[..], b"GET", b"/", b"gzip, deflate", b"x"]).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let resize = prop::option::weighted(0.2, 0usize..9000);
    (resize, any::<bool>(), prop::collection::vec((0usize..8, value, how()), 0..20))
}

const NAMES: [&[u8]; 8] =
    [b":method", b":path", b"cookie", b"accept-encoding", b"a", b"x-long-name", b"x-y", b""];

proptest! {
    #[test]
    fn what_a_plain_encoder_writes_is_read_back(blocks in prop::collection::vec(block(), 1..20)) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(9000);
        let mut list = List::default();
        for (resize, huffman, fields) in &blocks {
            let mut out = Vec::new();
            encoder.huffman = *huffman;
            if let Some(size) = resize {
                encoder.resize(*size, &mut out);
            }
            for (name, value, how) in fields {
                encoder.field(NAMES[*name], value, *how, &mut out);
            }
            decoder.decode(&out, WIDE, &mut list).unwrap();
            let read: Vec<_> = list.fields().map(|(n, v, never)| (n.to_vec(), v.to_vec(), never)).collect();
            let written: Vec<_> =
                fields.iter().map(|(n, v, how)| (NAMES[*n].to_vec(), v.clone(), *how == How::Never)).collect();
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
        let mut decoder = Decoder::new(9000);
        let mut list = List::default();
        for block in blocks {
            if decoder.decode(&block, Bounds { fields: 10, keep: 500, read: 2000 }, &mut list).is_err() {
                break;
            }
        }
    }

    #[test]
    fn any_text_has_a_code(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut coded, mut out) = (Vec::new(), Vec::new());
        super::huffman_encode(&text, &mut coded);
        super::huffman::decode(&coded, &mut out).unwrap();
        prop_assert_eq!(out, text);
    }
}
