//! Files put together here, in every variant, read back, cut and broken.

use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::{Error, Fault, MAX_PACKET_BYTES, Packet, Reader};

/// Link type, time, length on the wire, bytes.
type Seen = (u32, u64, u32, Vec<u8>);

fn read(file: &[u8]) -> (Vec<Seen>, Option<Error>) {
    let mut seen = Vec::new();
    let mut reader = match Reader::new(Box::new(Cursor::new(file.to_vec())), "test") {
        Ok(reader) => reader,
        Err(error) => return (seen, Some(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(Packet { link, time, len, bytes, .. })) => seen.push((link.0, time, len, bytes.to_vec())),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

/// Numbers in one byte order.
#[derive(Clone, Copy)]
struct Order(bool);

impl Order {
    fn u16(self, number: u16) -> [u8; 2] {
        if self.0 { number.to_be_bytes() } else { number.to_le_bytes() }
    }
    fn u32(self, number: u32) -> [u8; 4] {
        if self.0 { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}

fn pcap(order: Order, magic: u32, link: u32, packets: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(order.u32(magic));
    file.extend(order.u16(2));
    file.extend(order.u16(4));
    file.extend([0; 8]);
    file.extend(order.u32(65_535));
    file.extend(order.u32(link));
    for (seconds, fraction, bytes, len) in packets {
        file.extend(order.u32(*seconds));
        file.extend(order.u32(*fraction));
        file.extend(order.u32(u32::try_from(bytes.len()).unwrap()));
        file.extend(order.u32(*len));
        if magic == 0xa1b2_cd34 {
            file.extend([0; 8]);
        }
        file.extend(*bytes);
    }
    file
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = order.u32(u32::try_from(padded + 12).unwrap());
    let mut out = Vec::new();
    out.extend(order.u32(kind));
    out.extend(len);
    out.extend(body);
    out.resize(8 + padded, 0);
    out.extend(len);
    out
}

fn section(order: Order) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(order.u32(0x1a2b_3c4d));
    body.extend(order.u16(1));
    body.extend(order.u16(0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

fn interface(order: Order, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(order.u16(link));
    body.extend(order.u16(0));
    body.extend(order.u32(snaplen));
    for (code, value) in options {
        body.extend(order.u16(*code));
        body.extend(order.u16(u16::try_from(value.len()).unwrap()));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    body.extend([0; 4]);
    block(order, 1, &body)
}

fn enhanced(order: Order, interface: u32, stamp: u64, bytes: &[u8], len: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(order.u32(interface));
    body.extend(order.u32(u32::try_from(stamp >> 32).unwrap()));
    body.extend(order.u32(u32::try_from(stamp & 0xffff_ffff).unwrap()));
    body.extend(order.u32(u32::try_from(bytes.len()).unwrap()));
    body.extend(order.u32(len));
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
    // A comment, as some writers add to packets.
    body.extend(order.u16(1));
    body.extend(order.u16(2));
    body.extend(b"ok\0\0\0\0\0\0");
    block(order, 6, &body)
}

const BOTH: [Order; 2] = [Order(false), Order(true)];

#[test]
fn classic_files_are_read_in_both_orders_and_resolutions() {
    for order in BOTH {
        for (magic, ns) in [(0xa1b2_c3d4, 5_000), (0xa1b2_3c4d, 5)] {
            let file = pcap(order, magic, 113, &[(1, 5, b"one", 3), (2, 6, b"cut", 1_500), (3, 0, b"", 0)]);
            let (seen, error) = read(&file);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(seen[0], (113, 1_000_000_000 + ns, 3, b"one".to_vec()));
            assert_eq!((seen[1].2, seen.len()), (1_500, 3));
        }
    }
    let (seen, error) = read(&pcap(Order(false), 0xa1b2_cd34, 1, &[(1, 5, b"one", 3), (1, 5, b"two", 3)]));
    assert!(error.is_none() && seen[1].3 == b"two");
    let (seen, _) = read(&pcap(Order(false), 0xa1b2_c3d4, 0x2400_0001, &[(1, 5, b"one", 3)]));
    assert_eq!(seen[0].0, 1, "a frame check sequence is told in the upper bits");
}

#[test]
fn sections_interfaces_and_all_packet_blocks_are_read() {
    for order in BOTH {
        let offset = if order.0 { 100_i64.to_be_bytes() } else { 100_i64.to_le_bytes() };
        let mut obsolete = Vec::new();
        obsolete.extend(order.u16(1));
        obsolete.extend(order.u16(0xffff));
        obsolete.extend([order.u32(0), order.u32(7), order.u32(5), order.u32(50)].concat());
        obsolete.extend(b"older");
        let simple = [&order.u32(9)[..], b"simple-no"].concat();
        let first = [
            section(order),
            interface(order, 1, 0, &[(2, b"eth0")]),
            interface(order, 101, 0, &[(9, &[9]), (14, &offset)]),
            interface(order, 113, 0, &[(9, &[0x80 | 10])]),
            interface(order, 113, 0, &[(9, &[12])]),
            block(order, 0x0bad, b"unknown to everyone"),
            enhanced(order, 0, 3_000_001, b"micro", 5),
            enhanced(order, 1, 3_000_001, b"nano with offset", 16),
            enhanced(order, 2, 1_536, b"binary", 6),
            enhanced(order, 3, 5_000_000, b"pico", 4),
            block(order, 2, &obsolete),
            block(order, 3, &simple),
        ]
        .concat();
        // The next section is in the other byte order and has interfaces of its own.
        let other = Order(!order.0);
        let second = [
            section(other),
            interface(other, 276, 4, &[]),
            block(other, 3, &[&other.u32(9)[..], b"cut!"].concat()),
        ];
        let (seen, error) = read(&[first, second.concat()].concat());
        assert!(error.is_none(), "{error:?}");
        let of = |link, time, len, bytes: &[u8]| (link, time, len, bytes.to_vec());
        assert_eq!(
            seen,
            [
                of(1, 3_000_001_000, 5, b"micro"),
                of(101, 100_003_000_001, 16, b"nano with offset"),
                of(113, 1_500_000_000, 6, b"binary"),
                of(113, 5_000, 4, b"pico"),
                of(101, 100_000_000_007, 50, b"older"),
                of(1, 100_000_000_007, 9, b"simple-no"),
                of(276, 100_000_000_007, 9, b"cut!"),
            ]
        );
    }
}

fn zipped(file: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(file).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_is_taken_off_in_one_member_or_several() {
    let file = pcap(Order(false), 0xa1b2_c3d4, 1, &[(1, 0, &[7; 3_000], 3_000), (2, 0, b"two", 3)]);
    let (plain, _) = read(&file);
    assert_eq!(read(&zipped(&file)).0, plain);
    assert_eq!(read(&[zipped(&file[..100]), zipped(&file[100..])].concat()).0, plain);
    let whole = zipped(&file);
    let (seen, error) = read(&whole[..whole.len() - 20]);
    assert!(seen.len() < 3 && matches!(error.unwrap().fault, Fault::Io(_)));
}

#[test]
fn what_was_packed_before_a_fault_in_gzip_is_given() {
    let file = pcap(Order(false), 0xa1b2_c3d4, 1, &[(1, 0, b"one", 3), (2, 0, b"two", 3)]);
    // A whole block, then one of a kind that does not exist.
    let stored = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap();
        [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes].concat()
    };
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let (seen, error) = read(&[&head[..], &stored(&file), &[0xff; 20]].concat());
    let error = error.unwrap();
    assert_eq!((seen.len(), error.offset), (2, file.len() as u64));
    assert!(error.to_string().contains("gzip stream is corrupt"), "{error}");
    let (seen, error) = read(&[&head[..], &stored(&file)].concat());
    assert!(seen.len() == 2 && error.unwrap().to_string().contains("gzip stream is cut"));
    // A checksum that is wrong.
    let mut wrong = zipped(&file);
    let at = wrong.len() - 8;
    wrong[at] ^= 1;
    let (seen, error) = read(&wrong);
    assert!(seen.len() == 2 && error.is_some());
}

#[test]
fn a_file_larger_than_the_window_is_read_to_its_end() {
    let big = vec![9; 700_000];
    let packets: Vec<_> = (0..40).map(|at| (at, 0, &big[..(at as usize * 17_001) % 700_000], 1)).collect();
    let (seen, error) = read(&pcap(Order(false), 0xa1b2_c3d4, 1, &packets));
    assert!(error.is_none());
    let lengths: Vec<_> = seen.iter().map(|packet| packet.3.len()).collect();
    assert_eq!(lengths, packets.iter().map(|packet| packet.2.len()).collect::<Vec<_>>());
}

#[test]
fn what_is_whole_before_a_fault_is_given_and_the_fault_says_where() {
    let order = Order(false);
    let file = pcap(order, 0xa1b2_c3d4, 1, &[(1, 0, b"whole", 5), (2, 0, b"gone", 4)]);
    let said = |file: &[u8], packets: usize, expected: &str| {
        let (seen, error) = read(file);
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!((seen.len(), error.as_str()), (packets, expected));
    };
    said(&file[..file.len() - 1], 1, "test: at byte 45: the file ends within a packet: 1 bytes are missing");
    said(&file[..50], 1, "test: at byte 45: the file ends within a packet: 11 bytes are missing");
    said(&[], 0, "test: at byte 0: the file is empty");
    said(&file[..20], 0, "test: at byte 0: the file ends within its header");
    said(b"GET / HTTP/1.1\r\n", 0, "test: at byte 0: neither pcap nor pcapng: it begins with 47 45 54 20");
    said(
        &[0x28, 0xb5, 0x2f, 0xfd, 0, 0],
        0,
        "test: at byte 0: neither pcap nor pcapng: it begins with 28 b5 2f fd (zstd: decompress it first)",
    );
    let mut broken = file.clone();
    broken[45 + 11] = 0x7f;
    said(
        &broken,
        1,
        &format!(
            "test: at byte 45: a packet of 2130706436 bytes: the length is broken (most is {MAX_PACKET_BYTES})"
        ),
    );
    let mut old = file;
    old[4] = 1;
    said(&old, 0, "test: at byte 0: pcap version 1.4 is not known here, 2.4 is");

    let whole = [section(order), interface(order, 1, 0, &[]), enhanced(order, 0, 0, b"whole", 5)].concat();
    let at = whole.len();
    let lost = [whole.clone(), enhanced(order, 3, 0, b"lost", 4)].concat();
    said(
        &lost,
        1,
        &format!("test: at byte {at}: a packet of interface 3, which no block before it describes"),
    );
    let odd = [&whole[..], &order.u32(6), &order.u32(33), &[0; 40]].concat();
    assert!(read(&odd).1.unwrap().to_string().contains("a block of type 0x6 and 33 bytes"));
    let mut longer = enhanced(order, 0, 0, b"whole", 5);
    longer[20] = 200;
    assert!(matches!(read(&[whole, longer].concat()).1.unwrap().fault, Fault::Block(6)));
}

/// A small file of either format.
fn some_file(which: usize) -> Vec<u8> {
    let order = Order(which % 2 == 1);
    if which < 2 {
        return pcap(order, 0xa1b2_c3d4, 1, &[(1, 0, b"first", 5), (2, 0, &[3; 90], 90), (3, 0, b"x", 9)]);
    }
    [
        section(order),
        interface(order, 1, 96, &[(9, &[9]), (14, &[0; 8])]),
        enhanced(order, 0, 1, b"first", 5),
        block(order, 3, &[&order.u32(3)[..], b"two"].concat()),
        enhanced(order, 0, 3, &[3; 90], 90),
    ]
    .concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_cut_file_gives_its_whole_packets_and_at_most_one_fault(which in 0..4_usize, cut in 0..400_usize, zip in any::<bool>()) {
        let file = some_file(which);
        let (whole, _) = read(&file);
        let cut = cut.min(file.len());
        let part = if zip { zipped(&file[..cut]) } else { file[..cut].to_vec() };
        let (seen, _) = read(&part);
        prop_assert_eq!(&seen[..], &whole[..seen.len()]);
    }

    #[test]
    fn a_broken_file_is_read_without_panic(which in 0..4_usize, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = some_file(which);
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let (seen, _) = read(&file);
        prop_assert!(seen.len() <= file.len() / 12);
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0..5_usize) {
        let head = some_file(which.min(3));
        if which < 4 {
            let keep = bytes.len().min(28).min(head.len());
            bytes[..keep].copy_from_slice(&head[..keep]);
        }
        let _any = read(&bytes);
    }
}

#[test]
fn the_seeds_of_pcap_are_files_of_every_format() {
    // What the target reads first: two lengths of reads.
    let seed = |file: &[u8]| [&[2, 90], file].concat();
    let stored = |file: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all(file).unwrap();
        encoder.finish().unwrap()
    };
    let order = Order(false);
    let tcp = |seq: u8, payload: &[u8]| {
        let total = (40 + payload.len()) as u8;
        let ip = [0x45, 0, 0, total, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let tcp = [0x9c, 0x40, 0, 80, 0, 0, 0, seq, 0, 0, 0, 1, 0x50, 0x18, 1, 0xf5, 0, 0, 0, 0];
        [&ip[..], &tcp, payload].concat()
    };
    let (one, two) = (tcp(1, b"GET / HTTP/1.1\r\n\r\n"), tcp(19, b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
    let requests =
        pcap(order, 0xa1b2_c3d4, 101, &[(1, 0, &one, one.len() as u32), (2, 0, &two, two.len() as u32)]);
    crate::testing::seeds::hold(
        "pcap",
        &[
            ("pcap-le", seed(&some_file(0))),
            ("pcap-be", seed(&some_file(1))),
            ("pcapng-le", seed(&some_file(2))),
            ("pcapng-be", seed(&some_file(3))),
            ("nanoseconds", seed(&pcap(order, 0xa1b2_3c4d, 1, &[(1, 5, b"one", 3)]))),
            ("modified", seed(&pcap(order, 0xa1b2_cd34, 1, &[(1, 5, b"one", 3)]))),
            ("requests", seed(&requests)),
            ("gzip", seed(&stored(&requests))),
            ("cut", seed(&requests[..requests.len() - 9])),
        ],
    );
}
