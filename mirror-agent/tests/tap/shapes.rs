//! Headers in all their shapes: each field of the record, and each byte of the payload.

use mirror_common::counter::TapCounter;
use mirror_common::record::{Direction, MAX_CAPTURE};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::bench::*;
use super::frame::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n";

fn v4() -> Frame {
    Frame::new(CLIENT, PRIMARY, GET)
}

fn v6() -> Frame {
    Frame::new(CLIENT6, PRIMARY6, GET)
}

/// An extension header of 8 bytes and `more` times 8: its length field says `more`.
fn extension(number: u8, more: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 8 + 8 * usize::from(more)];
    bytes[1] = more;
    (number, bytes)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTH: u8 = 51;
const DESTINATION: u8 = 60;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

#[test]
fn a_request_segment_arrives_whole_in_both_families() {
    let mut bench = Bench::plain();
    for frame in [v4(), v6()] {
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    }
    assert_eq!(bench.count(TapCounter::RequestRecords), 2);
    assert_eq!(bench.job(JOB).matched_bytes, 2 * GET.len() as u64);
}

#[test]
fn tcp_options_move_the_payload() {
    let mut bench = Bench::plain();
    for words in 1..=10 {
        for mut frame in [v4(), v6()] {
            frame.tcp_options = vec![1; words * 4];
            bench.one(&frame).assert_is(&frame, Direction::Request, 0);
        }
    }
}

#[test]
fn ipv4_options_are_stepped_over() {
    let mut bench = Bench::plain();
    for words in 1..=10 {
        let frame = Frame { ipv4_options: vec![1; words * 4], tcp_options: vec![1; 12], ..v4() };
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    }
}

#[test]
fn ipv6_extension_headers_are_stepped_over_each_and_together() {
    let mut bench = Bench::plain();
    // AH counts its length otherwise: 4 means 24 bytes.
    let auth = (AUTH, [vec![0, 4], vec![7; 22]].concat());
    // A whole packet in one fragment (RFC 6946).
    let atomic = (FRAGMENT, vec![0; 8]);
    let each = [
        extension(HOP_BY_HOP, 0),
        extension(HOP_BY_HOP, 3),
        extension(ROUTING, 2),
        extension(DESTINATION, 0),
        auth,
        atomic,
    ];
    for one in &each {
        let frame = Frame { extensions: vec![one.clone()], ..v6() };
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    }
    let frame = Frame { extensions: each[1..].to_vec(), ..v6() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
}

#[test]
fn more_extension_headers_than_are_followed_are_counted_as_too_deep() {
    let mut bench = Bench::plain();
    let chain = |count| Frame { extensions: vec![extension(DESTINATION, 0); count], ..v6() };
    bench.one(&chain(8)).assert_is(&chain(8), Direction::Request, 0);
    bench.none(&chain(9), Some(TapCounter::TooDeep));
    bench.none(&chain(30), Some(TapCounter::TooDeep));
}

#[test]
fn up_to_two_vlan_tags_in_the_bytes_are_stepped_over() {
    let mut bench = Bench::plain();
    for tags in [vec![(VLAN, 7)], vec![(QINQ, 100), (VLAN, 7)], vec![(VLAN, 100), (VLAN, 7)]] {
        for mut frame in [v4(), v6()] {
            frame.tags = tags.clone();
            bench.one(&frame).assert_is(&frame, Direction::Request, 0);
        }
    }
    let frame = Frame { tags: vec![(QINQ, 1), (QINQ, 2), (VLAN, 3)], ..v4() };
    bench.none(&frame, Some(TapCounter::TooDeep));
}

#[test]
fn tags_options_and_extensions_together_are_no_harder() {
    let mut bench = Bench::plain();
    let tags = vec![(QINQ, 100), (VLAN, 7)];
    let frame =
        Frame { tags: tags.clone(), ipv4_options: vec![1; 8], tcp_options: vec![1; 12], padding: 9, ..v4() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    let extensions = vec![extension(HOP_BY_HOP, 1), extension(DESTINATION, 2)];
    let frame = Frame { tags, extensions, tcp_options: vec![1; 12], padding: 9, ..v6() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
}

#[test]
fn frame_padding_never_becomes_payload() {
    let mut bench = Bench::plain();
    for mut frame in [v4(), v6()] {
        frame.padding = 40;
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
        // A pure ACK padded to the least Ethernet length.
        frame.payload.clear();
        bench.none(&frame, Some(TapCounter::PureAcks));
    }
}

#[test]
fn a_length_of_0_means_to_the_end_of_the_packet() {
    // BIG TCP writes 0 where 16 bits do not suffice.
    let mut bench = Bench::plain();
    let frame = Frame { ipv4_total: Some(0), ..v4() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    let frame = Frame { ipv4_total: Some(0), ipv4_options: vec![1; 4], ..v4() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    let frame = Frame { ipv6_payload: Some(0), ..v6() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    // On the way out a jumbo payload option stands before (RFC 2675).
    let jumbo = [vec![0, 0, 0xc2, 4], 0x0001_0000_u32.to_be_bytes().to_vec()].concat();
    let frame = Frame { ipv6_payload: Some(0), extensions: vec![(HOP_BY_HOP, jumbo)], ..v6() };
    bench.one(&frame).assert_is(&frame, Direction::Request, 0);
}

#[test]
fn every_payload_length_is_captured_to_the_byte() {
    let mut bench = Bench::plain();
    let bytes: Vec<u8> = (0..3400_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for len in (1..1600).chain([2047, 2048, 2049, 3071, 3072, 3073, 3399]) {
        let frame = Frame::new(CLIENT, PRIMARY, &bytes[..len]);
        bench.one(&frame).assert_is(&frame, Direction::Request, 0);
    }
    const { assert!(MAX_CAPTURE > 3400) };
}

#[test]
fn a_device_without_link_header_is_read_from_the_ip_header() {
    let mut bench = Bench::plain();
    let extensions = vec![extension(HOP_BY_HOP, 1), extension(DESTINATION, 2)];
    let frames = [
        v4(),
        v6(),
        Frame { ipv4_options: vec![1; 8], tcp_options: vec![1; 12], padding: 3, ..v4() },
        Frame { extensions, ..v6() },
    ];
    for frame in frames {
        bench.send_bytes("mirror_l3", &frame.ip_bytes());
        let records = bench.take();
        assert_eq!(records.len(), 1, "{frame:?}");
        records[0].assert_is(&frame, Direction::Request, 0);
    }
    // Ethernet frames are garbage to it, and the other way round.
    bench.none_bytes("mirror_l3", &v4().bytes(), None);
    bench.none_bytes("mirror_l2", &v4().ip_bytes(), None);
}

#[test]
fn fragments_of_primaries_are_counted_and_others_are_not() {
    let mut bench = Bench::plain();
    const MORE: u16 = 0x2000;
    // The first has ports, with them it is exact.
    bench.none(&Frame { ipv4_fragment: MORE, ..v4() }, Some(TapCounter::Fragments));
    bench.none(&Frame { ipv4_fragment: MORE, dst: "10.1.2.3:9".parse().unwrap(), ..v4() }, None);
    // The others have an address of a primary, or not.
    bench.none(&Frame { ipv4_fragment: MORE | 100, ..v4() }, Some(TapCounter::Fragments));
    bench.none(&Frame { ipv4_fragment: 100, ..v4() }, Some(TapCounter::Fragments));
    bench.none(&Frame { ipv4_fragment: 100, dst: "10.1.2.4:8080".parse().unwrap(), ..v4() }, None);
    bench.none(&Frame { ipv4_fragment: 100, protocol: 17, ..v4() }, None);

    let place = |offset: u16, more: u16| {
        let bytes = (offset << 3 | more).to_be_bytes();
        (FRAGMENT, vec![0, 0, bytes[0], bytes[1], 0, 0, 0, 9])
    };
    for (offset, more) in [(0, 1), (10, 1), (10, 0)] {
        let frame = Frame { extensions: vec![place(offset, more)], ..v6() };
        bench.none(&frame, Some(TapCounter::Fragments));
        bench.none(&Frame { dst: "[2001:db8::2]:9".parse().unwrap(), ..frame }, None);
    }
    // Fragments of a watched wildcard may be of any address.
    let mut bench = Bench::new(config(), &[("0.0.0.0:8080", JOB)]);
    bench.none(&Frame { ipv4_fragment: 100, ..v4() }, Some(TapCounter::Fragments));
}

#[test]
fn headers_that_contradict_the_packet_are_unreadable_on_a_watched_port_only() {
    let mut bench = Bench::plain();
    let elsewhere = "10.1.2.3:8081".parse().unwrap();
    let total = u16::try_from(v4().ip_bytes().len()).unwrap();
    let broken = [
        // Longer than the packet, shorter than its headers.
        Frame { ipv4_total: Some(total + 1), ..v4() },
        Frame { ipv4_total: Some(39), ..v4() },
        Frame { ipv4_total: Some(total + 9), ipv4_options: vec![1; 8], ..v4() },
        // Data offset below 5 words, or beyond the end.
        Frame { data_offset: Some(4), ..v4() },
        Frame { data_offset: Some(0), ..v4() },
        Frame { data_offset: Some(15), payload: b"short".to_vec(), ..v4() },
    ];
    for frame in broken {
        bench.none(&frame, Some(TapCounter::Unreadable));
        bench.none(&Frame { dst: elsewhere, ..frame }, None);
    }
    let frame = Frame { ipv6_payload: Some(2000), ..v6() };
    bench.none(&frame, Some(TapCounter::Unreadable));
    // Cut off within the TCP header.
    let mut cut = v4().bytes();
    cut.truncate(14 + 20 + 12);
    bench.none_bytes("mirror_l2", &cut, Some(TapCounter::Unreadable));
    // Cut off before the ports: whose it was is not known.
    cut.truncate(14 + 20 + 2);
    bench.none_bytes("mirror_l2", &cut, None);
}

#[test]
fn what_is_not_tcp_over_ip_is_passed_by() {
    let mut bench = Bench::plain();
    bench.none(&Frame { protocol: 17, ..v4() }, None);
    bench.none(&Frame { protocol: 17, ..v6() }, None);
    bench.none(&Frame { protocol: 17, extensions: vec![extension(DESTINATION, 0)], ..v6() }, None);
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.extend([0; 28]);
    bench.none_bytes("mirror_l2", &arp, None);
    // Cut off before there are ports.
    for len in [34, 35, 37] {
        let mut short = v4().bytes();
        short.truncate(len);
        bench.none_bytes("mirror_l2", &short, None);
    }
}

/// The kernel takes no test packet that is shorter than the IP header its Ethernet type names.
const SHORTEST: usize = 14 + 40;

/// Bytes that look like a frame for a watched port, with some of them changed, cut anywhere.
fn nearly_frames() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let base = prop_oneof![
        Just(v4()),
        Just(v6()),
        Just(Frame { tags: vec![(QINQ, 1), (VLAN, 2)], ipv4_options: vec![1; 8], ..v4() }),
        Just(Frame { extensions: vec![extension(HOP_BY_HOP, 0), (FRAGMENT, vec![0; 8])], ..v6() }),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (base, changes, any::<prop::sample::Index>(), any::<bool>(), any::<bool>()).prop_map(
        |(frame, changes, cut, whole, l2)| {
            let mut bytes = if l2 { frame.bytes() } else { frame.ip_bytes() };
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let len = if whole { bytes.len() } else { SHORTEST + cut.index(bytes.len() - SHORTEST) };
            bytes.truncate(len);
            (l2, bytes)
        },
    )
}

#[test]
fn whatever_the_bytes_the_verdict_and_the_books_hold() {
    let mut bench = Bench::plain();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop_oneof![
        3 => nearly_frames(),
        1 => (any::<bool>(), proptest::collection::vec(any::<u8>(), SHORTEST..200)),
    ];
    for _ in 0..5_000 {
        let (l2, bytes) = strategy.new_tree(&mut runner).unwrap().current();
        let (matched, counted) = (bench.job(JOB).matched_bytes, sum(&bench));
        bench.send_bytes(if l2 { "mirror_l2" } else { "mirror_l3" }, &bytes);
        let records = bench.take();
        let payload: usize = records.iter().map(|record| record.payload.len()).sum();
        assert_eq!(bench.job(JOB).matched_bytes - matched, payload as u64, "{bytes:02x?}");
        // One packet: one record, or one counter, or none.
        assert!(sum(&bench) - counted <= 1, "{bytes:02x?}");
        for record in records {
            assert!(payload == 0 || bytes.windows(payload).any(|part| part == record.payload));
            assert_eq!(record.header.job, JOB);
            assert!(record.header.src_port == 8080 || record.header.dst_port == 8080);
        }
    }
    assert!(bench.count(TapCounter::RequestRecords) > 500, "the frames are not all garbage");
}

fn sum(bench: &Bench) -> u64 {
    bench.tap().values.iter().sum()
}
