//! Frames put together here by hand, header by header, and taken apart again.

use proptest::prelude::*;

use super::*;

const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x9c, 0x40, 0x1f, 0x90];
    out.extend(7_u32.to_be_bytes());
    out.extend(9_u32.to_be_bytes());
    out.extend([0x50, 0x18, 0x01, 0xf5, 0, 0, 0, 0]);
    out.extend(payload);
    out
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_piece(protocol, payload, 1, 0, false)
}

fn ipv4_piece(protocol: u8, payload: &[u8], id: u16, offset: usize, more: bool) -> Vec<u8> {
    let place = u16::try_from(offset / 8).unwrap() | if more { 0x2000 } else { 0 };
    let mut out = vec![0x45, 0];
    out.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(place.to_be_bytes());
    out.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    out.extend(payload);
    out
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend([next, 64]);
    out.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    out.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    out.extend(payload);
    out
}

fn ether(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2; 12];
    out.extend(kind.to_be_bytes());
    out.extend(payload);
    out
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30, 0x39];
    out.extend(port.to_be_bytes());
    out.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

fn with(head: &[u8], payload: &[u8]) -> Vec<u8> {
    [head, payload].concat()
}

fn packet() -> Vec<u8> {
    ipv4(6, &tcp(PAYLOAD))
}

/// The segment in a frame that is whole, checked against what [`tcp`] put in.
fn check(link: LinkType, frame: &[u8]) {
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let view = unwrapper.segment(link, frame, u32::try_from(frame.len()).unwrap(), 0);
    let view = view.unwrap_or_else(|why| panic!("{link:?} {why:?}: {frame:02x?}"));
    assert_eq!(view.payload, PAYLOAD);
    assert_eq!((view.src.port, view.dst.port, view.seq, view.ack), (40_000, 8080, Seq(7), Some(Seq(9))));
    assert_eq!((view.len as usize, view.window), (PAYLOAD.len(), 501));
}

fn why(link: LinkType, frame: &[u8]) -> NoSegment {
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    unwrapper.segment(link, frame, u32::try_from(frame.len()).unwrap(), 0).map(|_| ()).unwrap_err()
}

#[test]
fn every_link_type_leads_to_the_segment() {
    let four = packet();
    let six = ipv6(6, &tcp(PAYLOAD));
    for packet in [&four, &six] {
        let ether_type = if packet[0] == 0x45 { 0x0800_u16 } else { 0x86dd };
        let [high, low] = ether_type.to_be_bytes();
        for link in [12, 14, 101, 228, 229] {
            check(LinkType(link), packet);
        }
        check(LinkType::ETHERNET, &ether(ether_type, packet));
        check(LinkType::ETHERNET, &with(&ether(ether_type, packet), &[0; 9]));
        check(LinkType::LINUX_SLL, &with(&[&[0; 14][..], &[high, low]].concat(), packet));
        check(LinkType::LINUX_SLL2, &with(&[&[high, low][..], &[0; 18]].concat(), packet));
        let family = if packet[0] == 0x45 { 2 } else { 30 };
        check(LinkType::NULL, &with(&[family, 0, 0, 0], packet));
        check(LinkType::NULL, &with(&[0, 0, 0, family], packet));
        check(LinkType::LOOP, &with(&[0, 0, 0, family], packet));
        check(LinkType::C_HDLC, &with(&[0x0f, 0, high, low], packet));
        let ppp = if packet[0] == 0x45 { 0x21 } else { 0x57 };
        check(LinkType::PPP, &with(&[0xff, 3, 0, ppp], packet));
        check(LinkType::PPP, &with(&[ppp], packet));
        check(LinkType::PPP_HDLC, &with(&[0xff, 3, 0, ppp], packet));
        check(LinkType::PPP_WITH_DIR, &with(&[1, 0xff, 3, 0, ppp], packet));
        let [session_high, session_low] = u16::try_from(packet.len() + 2).unwrap().to_be_bytes();
        let session = with(&[0x11, 0, 0, 1, session_high, session_low, 0, ppp], packet);
        check(LinkType::PPP_ETHER, &session);
        check(LinkType::ETHERNET, &ether(0x8864, &with(&session, &[0; 4])));
        let family = if packet[0] == 0x45 { 2 } else { 10 };
        let attribute = u16::try_from(packet.len() + 4).unwrap();
        for number in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            let head =
                [&[family, 0, 0, 1][..], &number(6), &number(10), b"p\0\0\0", &number(attribute), &number(9)];
            check(LinkType::NFLOG, &with(&head.concat(), packet));
        }
    }
}

#[test]
fn tags_labels_and_snap_are_taken_off() {
    let packet = packet();
    check(LinkType::ETHERNET, &ether(0x8100, &with(&[0, 7, 8, 0], &packet)));
    check(LinkType::ETHERNET, &ether(0x88a8, &with(&[0, 7, 0x81, 0, 0, 8, 8, 0], &packet)));
    check(LinkType::ETHERNET, &ether(0x8847, &with(&[0, 1, 0, 64, 0, 2, 1, 64], &packet)));
    check(LinkType::ETHERNET, &ether(0x8847, &with(&[0, 2, 1, 64, 0, 0, 0, 0], &ether(0x800, &packet))));
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet);
    check(LinkType::ETHERNET, &ether(u16::try_from(snap.len()).unwrap(), &snap));
    let llc = with(&[6, 6, 3], &packet);
    check(LinkType::ETHERNET, &ether(u16::try_from(llc.len()).unwrap(), &llc));
}

#[test]
fn tunnels_are_taken_off_also_in_each_other() {
    let inner = packet();
    let frame = ether(0x800, &inner);
    let gre = |head: &[u8], inside: &[u8]| ipv4(47, &with(head, inside));
    let vxlan = udp(4789, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &frame));
    let cases = [
        ipv4(4, &inner),
        ipv4(41, &ipv6(6, &tcp(PAYLOAD))),
        ipv6(4, &inner),
        ipv6(41, &ipv6(6, &tcp(PAYLOAD))),
        ipv4(17, &vxlan),
        ipv6(17, &vxlan),
        ipv4(17, &udp(8472, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &frame))),
        ipv4(17, &udp(6081, &with(&[1, 0, 0x65, 0x58, 0, 0, 5, 0, 1, 2, 0x80, 0], &frame))),
        ipv4(17, &udp(6081, &with(&[0, 0, 8, 0, 0, 0, 5, 0], &inner))),
        gre(&[0, 0, 8, 0], &inner),
        gre(&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &inner),
        // Ethernet over GRE, NVGRE (with its key), and PPP over GRE.
        gre(&[0, 0, 0x65, 0x58], &frame),
        gre(&[0x20, 0, 0x65, 0x58, 0, 0, 5, 1], &frame),
        gre(
            &[0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
            &with(&[0xff, 3, 0, 0x21], &inner),
        ),
        // ERSPAN of the three types, the third with and without its own subheader.
        gre(&[0, 0, 0x88, 0xbe], &frame),
        gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0], &frame),
        gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &frame),
        gre(
            &with(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 8]),
            &frame,
        ),
        // The third again, with IP in it instead of Ethernet.
        gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0], &inner),
        // VXLAN that says what it carries: nothing said, IP, Ethernet, labels.
        ipv4(17, &udp(4790, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &frame))),
        ipv4(17, &udp(4790, &with(&[12, 0, 0, 1, 0, 0, 5, 0], &inner))),
        ipv4(17, &udp(4790, &with(&[12, 0, 0, 3, 0, 0, 5, 0], &frame))),
        ipv4(17, &udp(4790, &with(&[12, 0, 0, 5, 0, 0, 5, 0, 0, 2, 1, 64], &inner))),
        // Ethernet in IP, with the two bytes of EtherIP in front and without.
        ipv4(97, &with(&[0x30, 0], &frame)),
        ipv6(143, &frame),
        ipv4(17, &udp(4754, &with(&[0, 0, 8, 0], &inner))),
        // GTP-U, bare, with a sequence number, and with two extension headers.
        ipv4(17, &udp(2152, &with(&[0x30, 255, 0, 0, 0, 0, 0, 1], &inner))),
        ipv4(17, &udp(2152, &with(&[0x32, 255, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0], &inner))),
        ipv4(
            17,
            &udp(
                2152,
                &with(
                    &[0x34, 255, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0x85, 1, 0, 0, 0xc0, 2, 0, 0, 0, 0, 0, 0, 0],
                    &inner,
                ),
            ),
        ),
        ipv4(17, &udp(6635, &with(&[0, 2, 1, 64], &inner))),
        ipv4(137, &with(&[0, 2, 1, 64], &inner)),
        gre(&[0, 0, 8, 0], &ipv4(17, &vxlan)),
    ];
    for case in &cases {
        check(LinkType::RAW, case);
        check(LinkType::ETHERNET, &ether(if case[0] == 0x45 { 0x800 } else { 0x86dd }, case));
    }
}

#[test]
fn what_is_no_tunnel_is_left_alone() {
    let frame = ether(0x800, &packet());
    assert_eq!(why(LinkType::RAW, &ipv4(17, &udp(53, &frame))), NoSegment::NotTcp);
    assert_eq!(why(LinkType::RAW, &ipv4(17, &udp(4789, &with(&[0; 8], &frame)))), NoSegment::NotTcp);
    assert_eq!(why(LinkType::RAW, &ipv4(1, &[8, 0, 0, 0])), NoSegment::NotTcp);
    assert_eq!(why(LinkType::ETHERNET, &ether(0x806, &[0; 28])), NoSegment::NotIp);
    assert_eq!(why(LinkType(147), &frame), NoSegment::LinkType);
    let deep = (0..40).fold(packet(), |inner, _| ipv4(4, &inner));
    assert_eq!(why(LinkType::RAW, &deep), NoSegment::TooDeep);
}

#[test]
fn extension_headers_and_jumbograms_are_read() {
    let segment = tcp(PAYLOAD);
    check(
        LinkType::RAW,
        &ipv6(
            0,
            &with(&[60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &segment),
        ),
    );
    check(LinkType::RAW, &ipv6(51, &with(&[6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], &segment)));
    check(LinkType::RAW, &ipv6(44, &with(&[6, 0, 0, 0, 0, 0, 0, 9], &segment)));
    let length = u32::try_from(8 + segment.len()).unwrap().to_be_bytes();
    let mut jumbo = ipv6(0, &[&[6, 0, 0xc2, 4][..], &length, &segment].concat());
    jumbo[4..6].fill(0);
    check(LinkType::ETHERNET, &ether(0x86dd, &with(&jumbo, &[0; 5])));
    let mut bare = ipv6(6, &segment);
    bare[4..6].fill(0);
    check(LinkType::RAW, &bare);
    let mut offloaded = packet();
    offloaded[2..4].fill(0);
    check(LinkType::RAW, &offloaded);
}

#[test]
fn a_cut_packet_tells_how_much_is_missing() {
    let frame = ether(0x800, &packet());
    let whole = u32::try_from(frame.len()).unwrap();
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    for cut in 0..frame.len() {
        match unwrapper.segment(LinkType::ETHERNET, &frame[..cut], whole, 0) {
            Ok(view) => {
                assert_eq!(view.len as usize, PAYLOAD.len());
                assert_eq!(view.payload, &PAYLOAD[..cut.saturating_sub(54)]);
            }
            Err(why) => assert!(why == NoSegment::Cut && cut < 14 + 20 + 16, "{why:?} at {cut}"),
        }
    }
}

/// Fragments of a datagram in the order of `order`, and what came out.
fn fragments(order: &[usize], six: bool) -> (Unwrapper, Option<Vec<u8>>) {
    let datagram = tcp(&[b'x'; 5_000]);
    let pieces: Vec<Vec<u8>> = datagram
        .chunks(1_480)
        .enumerate()
        .map(|(at, piece)| {
            let more = (at + 1) * 1_480 < datagram.len();
            if six {
                let place = u16::try_from(at * 1_480).unwrap() | u16::from(more);
                let [high, low] = place.to_be_bytes();
                ipv6(44, &with(&[6, 0, high, low, 0, 0, 0, 5], piece))
            } else {
                ipv4_piece(6, piece, 5, at * 1_480, more)
            }
        })
        .collect();
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let mut got = None;
    for &at in order {
        let frame = &pieces[at];
        match unwrapper.segment(LinkType::RAW, frame, u32::try_from(frame.len()).unwrap(), 1) {
            Ok(view) => {
                assert!(got.is_none(), "one datagram, one segment");
                got = Some(view.payload.to_vec());
            }
            Err(why) => assert_eq!(why, NoSegment::Fragment),
        }
    }
    (unwrapper, got)
}

#[test]
fn fragments_in_any_order_and_repeated_become_one_segment() {
    for order in [&[0, 1, 2, 3][..], &[3, 2, 1, 0], &[2, 0, 0, 2, 3, 1], &[1, 3, 0, 2]] {
        for six in [false, true] {
            let (unwrapper, got) = fragments(order, six);
            assert_eq!(got.as_deref(), Some(&[b'x'; 5_000][..]), "{order:?}");
            assert_eq!((unwrapper.reassembled(), unwrapper.fragments_lost()), (1, FragmentsLost::default()));
        }
    }
}

#[test]
fn a_tunnel_in_fragments_may_carry_fragments() {
    let datagram = tcp(&[b'x'; 3_000]);
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let mut got = None;
    for (at, piece) in datagram.chunks(1_480).enumerate() {
        let more = (at + 1) * 1_480 < datagram.len();
        let tunnel = with(&[0, 0, 8, 0], &ipv4_piece(6, piece, 5, at * 1_480, more));
        for (part, bytes) in tunnel.chunks(800).enumerate() {
            let id = 100 + u16::try_from(at).unwrap();
            let frame = ipv4_piece(47, bytes, id, part * 800, (part + 1) * 800 < tunnel.len());
            let view = unwrapper.segment(LinkType::RAW, &frame, u32::try_from(frame.len()).unwrap(), 1);
            got = view.ok().map(|view| view.payload.to_vec());
        }
    }
    assert_eq!(got.as_deref(), Some(&[b'x'; 3_000][..]));
    assert_eq!(unwrapper.fragments_lost(), FragmentsLost::default());
}

#[test]
fn fragments_that_stay_alone_overlap_or_are_too_many_are_counted() {
    let (unwrapper, got) = fragments(&[0, 1, 3], false);
    assert_eq!((got, unwrapper.fragments_lost().timeout), (None, 3));

    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    for (offset, len) in [(0, 64), (56, 64)] {
        let frame = ipv4_piece(6, &vec![1; len], 5, offset, true);
        let _waits = unwrapper.segment(LinkType::RAW, &frame, 0, 1);
    }
    assert_eq!(unwrapper.fragments_lost().overlap, 2);

    let limits = FragmentLimits { fragment_bytes: 10_000, ..FragmentLimits::default() };
    let mut unwrapper = Unwrapper::new(limits);
    for id in 0..1_000 {
        let frame = ipv4_piece(6, &[1; 800], id, 0, true);
        let _waits = unwrapper.segment(LinkType::RAW, &frame, 0, 1);
    }
    let lost = unwrapper.fragments_lost();
    assert_eq!(lost.memory + lost.timeout, 1_000);
    assert!(lost.timeout <= 11, "what waits is within the limit");

    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    for (time, offset, more) in [(0, 0, true), (40_000_000_000, 800, false)] {
        let frame = ipv4_piece(6, &[1; 800], 5, offset, more);
        assert!(unwrapper.segment(LinkType::RAW, &frame, 0, time).is_err(), "the first half is too old");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_bytes_make_it_panic(link in prop::sample::select(vec![0_u32, 1, 9, 12, 50, 51, 101, 104, 108, 113, 204, 228, 229, 239, 276]), bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0..300_u32) {
        let mut unwrapper = Unwrapper::new(FragmentLimits::default());
        let _any = unwrapper.segment(LinkType(link), &bytes, len, 0);
    }

    #[test]
    fn a_broken_frame_never_gives_more_than_it_holds(flips in prop::collection::vec((0..200_usize, any::<u8>()), 1..6), cut in 0..200_usize, which in 0..4_usize) {
        let inner = packet();
        let mut frame = match which {
            0 => ether(0x800, &inner),
            1 => ether(0x800, &ipv4(17, &udp(4789, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &ether(0x800, &inner))))),
            2 => ether(0x800, &ipv4(47, &with(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0], &ether(0x800, &inner)))),
            _ => ether(0x86dd, &ipv6(0, &with(&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(PAYLOAD)))),
        };
        for (at, byte) in flips {
            let at = at % frame.len();
            frame[at] = byte;
        }
        frame.truncate(cut.max(1));
        let mut unwrapper = Unwrapper::new(FragmentLimits::default());
        if let Ok(view) = unwrapper.segment(LinkType::ETHERNET, &frame, 2_000, 0) {
            prop_assert!(view.payload.len() <= frame.len() && view.payload.len() <= view.len as usize);
        }
    }
}

#[test]
fn a_ppp_frame_that_is_cut_within_its_first_bytes_is_cut_and_not_another_protocol() {
    let frame = with(&[0xff, 0x03, 0x00, 0x21], &packet());
    check(LinkType::PPP, &frame);
    let len = u32::try_from(frame.len()).unwrap();
    for keep in 0..frame.len() - PAYLOAD.len() - 4 {
        let mut unwrapper = Unwrapper::new(FragmentLimits::default());
        assert_eq!(
            unwrapper.segment(LinkType::PPP, &frame[..keep], len, 0).unwrap_err(),
            NoSegment::Cut,
            "{keep}"
        );
    }
}

#[test]
fn the_seeds_of_packet_are_frames_and_a_datagram_in_fragments() {
    // What the target reads first: what the rest is, then the link type by its place in the target's table.
    let seed = |link: u8, frame: &[u8]| with(&[1, link, 0], frame);
    let inner = ether(0x0800, &packet());
    let vxlan = ipv4(17, &udp(4789, &with(&[8, 0, 0, 0, 0, 0, 1, 0], &inner)));
    let geneve = ipv4(17, &udp(6081, &with(&[0, 0, 0x65, 0x58, 0, 0, 1, 0], &inner)));
    let erspan = ipv4(47, &with(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &inner));
    let hops = with(&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(PAYLOAD));
    let sll = with(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0], &packet());
    let nflog = with(&[2, 0, 0, 0, 8, 0, 1, 0, 1, 2, 3, 4, 62, 0, 9, 0], &packet());
    crate::testing::seeds::hold(
        "packet",
        &[
            ("ethernet", seed(0, &inner)),
            ("tagged", seed(0, &with(&inner[..12], &[&[0x81, 0, 0, 7][..], &inner[12..]].concat()))),
            ("ipv6", seed(0, &ether(0x86dd, &ipv6(6, &tcp(PAYLOAD))))),
            ("options", seed(0, &ether(0x86dd, &ipv6(0, &hops)))),
            ("raw", seed(1, &packet())),
            ("sll", seed(2, &sll)),
            ("ppp", seed(6, &with(&[0xff, 3, 0, 0x21], &packet()))),
            ("nflog", seed(11, &nflog)),
            ("vxlan", seed(0, &ether(0x0800, &vxlan))),
            ("geneve", seed(0, &ether(0x0800, &geneve))),
            ("erspan", seed(0, &ether(0x0800, &erspan))),
            ("in-ip", seed(0, &ether(0x0800, &ipv4(4, &packet())))),
            ("fragments", with(&[3, 0, 33], &tcp(&[b'x'; 60]))),
        ],
    );
}
