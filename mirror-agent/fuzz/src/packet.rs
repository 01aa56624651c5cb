//! `packet`: views never give bytes from outside of what they were made from, and agree with a naive reading.
//!
//! The first byte says what the rest is: a ring record, a frame of some link type, or a datagram to be cut into fragments.

use std::ops::Range;

use mirror_common::record::RecordHeader;

use super::Choices;
use crate::packet::{FragmentLimits, LinkType, NoSegment, Peer, RecordView, Seq, TcpView, Unwrapper};

/// The link types that are read, and one that is not.
const LINKS: [LinkType; 20] = [
    LinkType::ETHERNET,
    LinkType::RAW,
    LinkType::LINUX_SLL,
    LinkType::LINUX_SLL2,
    LinkType::NULL,
    LinkType::LOOP,
    LinkType::PPP,
    LinkType::PPP_HDLC,
    LinkType::PPP_ETHER,
    LinkType::PPP_WITH_DIR,
    LinkType::C_HDLC,
    LinkType::NFLOG,
    LinkType::RAW_BSD,
    LinkType::RAW_OPENBSD,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::ETHERNET,
    LinkType::ETHERNET,
    LinkType::RAW,
    LinkType(147),
];

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    match choices.byte() % 4 {
        0 => record(choices.0),
        1 | 2 => frame(&mut choices),
        _ => fragments(&mut choices),
    }
}

/// Where `part` lies in `whole`; outside of it is a panic. An empty one lies nowhere.
fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    if part.is_empty() {
        return None;
    }
    let from = part.as_ptr().addr().checked_sub(whole.as_ptr().addr()).unwrap();
    assert!(from + part.len() <= whole.len(), "outside of the bytes it was made from");
    Some(from..from + part.len())
}

/// A ring record against a reading by the numbers of its layout.
fn record(bytes: &[u8]) {
    const { assert!(RecordHeader::SIZE == 80) };
    let view = RecordView::new_checked(bytes);
    let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let sound = bytes.len() >= 80 && {
        let (len, captured, direction) = (u32_at(52), u32_at(56), bytes[75]);
        matches!(direction, 1 | 2)
            && captured as usize <= bytes.len() - 80
            && (direction == 2 || len == captured)
    };
    assert_eq!(view.is_ok(), sound);
    let Ok(view) = view else { return };
    let segment = view.segment();
    let captured = u32_at(56) as usize;
    assert_eq!(place(bytes, segment.payload), (captured > 0).then_some(80..80 + captured));
    let (src, dst) = if bytes[75] == 1 {
        (segment.flow.client, segment.flow.primary)
    } else {
        (segment.flow.primary, segment.flow.client)
    };
    assert_eq!((&src.addr[..], &dst.addr[..]), (&bytes[8..24], &bytes[24..40]));
    assert_eq!((src.port, dst.port), (u16_at(40), u16_at(42)));
    assert_eq!((segment.seq, segment.len), (Seq(u32_at(44)), u32_at(52)));
    assert_eq!(segment.ack, (bytes[74] & 0x10 != 0).then_some(Seq(u32_at(48))));
    assert_eq!((segment.hash, view.ifindex(), segment.window), (u32_at(60), u32_at(64), u16_at(68)));
    assert_eq!((segment.job, segment.flags.0), (u16_at(70), bytes[74]));
    assert_eq!(segment.status.unwrap_or(0), u16_at(72));
}

/// What a segment says, without its payload.
type Says = (Peer, Peer, Seq, Option<Seq>, u8, u16, u32);

fn says(view: &TcpView<'_>) -> Says {
    (view.src, view.dst, view.seq, view.ack, view.flags.0, view.window, view.len)
}

/// A frame: whole, and as much of it as a smaller `snaplen` leaves.
fn frame(choices: &mut Choices<'_>) {
    let link = LINKS[usize::from(choices.byte()) % LINKS.len()];
    let more_on_the_wire = u32::from(choices.byte());
    let bytes = choices.0;
    let len = u32::try_from(bytes.len()).unwrap() + more_on_the_wire;
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let whole = unwrapper.segment(link, bytes, len, 1).map(|view| {
        let part = place(bytes, view.payload);
        assert!(view.len as usize >= view.payload.len());
        (says(&view), part)
    });
    if link == LinkType::ETHERNET
        && more_on_the_wire == 0
        && let Some((says, part)) = naive(bytes)
    {
        assert_eq!(whole, Ok((says, Some(part).filter(|part| !part.is_empty()))), "a plain frame");
    }
    for keep in 0..bytes.len() {
        let mut unwrapper = Unwrapper::new(FragmentLimits::default());
        let cut = unwrapper.segment(link, &bytes[..keep], len, 1).map(|view| {
            assert!(view.len as usize >= view.payload.len());
            (says(&view), place(bytes, view.payload))
        });
        match (&whole, cut) {
            (Ok((whole, part)), Ok((cut, piece))) => {
                assert_eq!(*whole, cut, "{keep} bytes of it say something else");
                let end = part.as_ref().map_or(0, |part| part.end.min(keep));
                let left = part.clone().map(|part| part.start..end).filter(|part| !part.is_empty());
                assert_eq!(piece, left);
            }
            (Ok(_), Err(why)) => assert_eq!(why, NoSegment::Cut, "{keep} bytes of it"),
            // What lies beyond the cut may be what is wrong.
            (Err(_), _) => {}
        }
    }
}

/// Ethernet, at most two tags, IPv4 without fragments or IPv6 without extensions, TCP: read as the RFCs draw them.
fn naive(frame: &[u8]) -> Option<(Says, Range<usize>)> {
    let u16_at = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let u32_at = |at: usize| Some(u32::from(u16_at(at)?) << 16 | u32::from(u16_at(at + 2)?));
    let mut at = 12;
    for _ in 0..2 {
        if matches!(u16_at(at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
    }
    let kind = u16_at(at)?;
    at += 2;
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    let (tcp, end) = match (kind, frame.get(at)? >> 4) {
        (0x0800, 4) => {
            let header = usize::from(frame.get(at)? & 15) * 4;
            let total = usize::from(u16_at(at + 2)?);
            let plain = header >= 20 && total >= header && u16_at(at + 6)? & 0x3fff == 0;
            if !plain || *frame.get(at + 9)? != 6 {
                return None;
            }
            for (addr, from) in [(&mut src, at + 12), (&mut dst, at + 16)] {
                addr[10..12].fill(0xff);
                addr[12..].copy_from_slice(frame.get(from..from + 4)?);
            }
            (at + header, at + total)
        }
        (0x86dd, 6) => {
            let length = usize::from(u16_at(at + 4)?);
            if length == 0 || *frame.get(at + 6)? != 6 {
                return None;
            }
            src.copy_from_slice(frame.get(at + 8..at + 24)?);
            dst.copy_from_slice(frame.get(at + 24..at + 40)?);
            (at + 40, at + 40 + length)
        }
        _ => return None,
    };
    let header = usize::from(frame.get(tcp + 12)? >> 4) * 4;
    if header < 20 || tcp + header > end || end > frame.len() {
        return None;
    }
    let flags = *frame.get(tcp + 13)?;
    let says = (
        Peer { addr: src, port: u16_at(tcp)? },
        Peer { addr: dst, port: u16_at(tcp + 2)? },
        Seq(u32_at(tcp + 4)?),
        (flags & 0x10 != 0).then_some(Seq(u32_at(tcp + 8)?)),
        flags,
        u16_at(tcp + 14)?,
        u32::try_from(end - tcp - header).ok()?,
    );
    Some((says, tcp + header..end))
}

/// A TCP segment cut into IPv4 fragments, which come in some order, and some twice: as if it had come whole.
fn fragments(choices: &mut Choices<'_>) {
    let (size, order) = (usize::from(choices.byte() % 32) + 1, choices.byte());
    let datagram = choices.bytes(2_000);
    let packet = |start: usize, bytes: &[u8], more: bool| {
        let place = u16::try_from(start / 8).unwrap() | if more { 0x2000 } else { 0 };
        let mut out = vec![0x45, 0];
        out.extend(u16::try_from(20 + bytes.len()).unwrap().to_be_bytes());
        out.extend([0, 9]);
        out.extend(place.to_be_bytes());
        out.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        out.extend(bytes);
        out
    };
    let whole = packet(0, datagram, false);
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let expected = unwrapper
        .segment(LinkType::RAW, &whole, len(&whole), 1)
        .map(|view| (says(&view), view.payload.to_vec()));
    let mut parts: Vec<_> = datagram.chunks(size * 8).enumerate().collect();
    let count = parts.len();
    if count < 2 {
        return;
    }
    parts.rotate_left(usize::from(order & 15) % count);
    if order & 16 != 0 {
        parts.reverse();
    }
    if order & 32 != 0 {
        parts.insert(count / 2, parts[0]);
    }
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let mut missing: std::collections::BTreeSet<usize> = (0..count).collect();
    for (number, part) in parts {
        let fragment = packet(number * size * 8, part, number + 1 < count);
        missing.remove(&number);
        let seen = unwrapper.segment(LinkType::RAW, &fragment, len(&fragment), 1);
        let seen = seen.map(|view| (says(&view), view.payload.to_vec()));
        if missing.is_empty() {
            assert_eq!(seen, expected, "put together from {count} fragments");
            break;
        }
        assert_eq!(seen, Err(NoSegment::Fragment));
    }
    assert_eq!(unwrapper.reassembled(), 1);
    let lost = unwrapper.fragments_lost();
    assert_eq!((lost.timeout, lost.memory, lost.overlap), (0, 0, 0));
}
