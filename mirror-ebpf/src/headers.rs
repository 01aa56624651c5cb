//! From the first byte of a packet to the TCP payload.
//!
//! Two ways: [`plain`] reads IP and TCP headers straight from the packet's linear part, where they stand for nearly all
//! traffic. [`walk`] copies header by header, and follows what may stand between: VLAN tags, IPv4 options, IPv6
//! extension headers, or headers beyond the linear part.

use core::mem::{MaybeUninit, offset_of};

use mirror_common::counter::TapCounter;
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;

use crate::maps::Key;
use crate::observe::Skip;
use crate::packet::{Aligned, Bytes, Packet};
use crate::select::{self, Watched};

/// VLAN tags in the bytes that are followed (QinQ). Tags that the kernel keeps beside the bytes do not count.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are followed.
const MAX_EXTENSIONS: usize = 8;

/// What stands before the IP header.
#[derive(Clone, Copy)]
pub(crate) enum Link {
    /// An Ethernet header.
    Ethernet,
    /// Nothing.
    None,
}

/// A TCP segment with a watched port.
pub(crate) struct Segment {
    pub(crate) src: Key,
    pub(crate) dst: Key,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// Where the payload begins in the packet, and its bytes, padding of the frame left out.
    pub(crate) payload_at: u32,
    pub(crate) payload_len: u32,
    pub(crate) window: u16,
    pub(crate) flags: u8,
    pub(crate) watched: Watched,
}

/// Reads the headers of a packet, as far as it is TCP with a watched port.
#[inline(always)]
pub(crate) fn read(packet: Packet, link: Link) -> Result<Segment, Skip> {
    match plain(packet, link)? {
        Some(segment) => Ok(segment),
        None => {
            let mut segment = MaybeUninit::uninit();
            walk(packet, link, &mut segment)?;
            // SAFETY: without an error `walk` has written it.
            Ok(unsafe { segment.assume_init() })
        }
    }
}

const ETHERNET: usize = EthHdr::LEN;
const ETHER_TYPE: usize = offset_of!(EthHdr, ether_type);
const ETHER_IPV4: u16 = u16::from_be(EtherType::Ipv4 as u16);
const ETHER_IPV6: u16 = u16::from_be(EtherType::Ipv6 as u16);
const ETHER_VLAN: u16 = u16::from_be(EtherType::Ieee8021q as u16);
const ETHER_QINQ: u16 = u16::from_be(EtherType::Ieee8021ad as u16);

const IPV4: usize = Ipv4Hdr::LEN;
const IPV4_TOTAL: usize = offset_of!(Ipv4Hdr, tot_len);
const IPV4_FRAGMENT: usize = offset_of!(Ipv4Hdr, frags);
const IPV4_PROTO: usize = offset_of!(Ipv4Hdr, proto);
const IPV4_SRC: usize = offset_of!(Ipv4Hdr, src_addr);
const IPV4_DST: usize = offset_of!(Ipv4Hdr, dst_addr);
/// Version 4 and a header of five words: no options.
const IPV4_NO_OPTIONS: u8 = 0x45;
const IPV4_MORE_OR_OFFSET: u16 = 0x3fff;
const IPV4_OFFSET: u16 = 0x1fff;

const IPV6: usize = Ipv6Hdr::LEN;
const IPV6_PAYLOAD: usize = offset_of!(Ipv6Hdr, payload_len);
const IPV6_NEXT: usize = offset_of!(Ipv6Hdr, next_hdr);
const IPV6_SRC: usize = offset_of!(Ipv6Hdr, src_addr);
const IPV6_DST: usize = offset_of!(Ipv6Hdr, dst_addr);

const TCP: usize = TcpHdr::LEN;
const PROTO_TCP: u8 = IpProto::Tcp as u8;
const PROTO_HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
const PROTO_ROUTING: u8 = IpProto::Ipv6Route as u8;
const PROTO_FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
const PROTO_AUTH: u8 = IpProto::Ah as u8;
const PROTO_DESTINATION: u8 = IpProto::Ipv6Opts as u8;

/// The short way. `None`: not plain, walk.
#[inline(always)]
fn plain(packet: Packet, link: Link) -> Result<Option<Segment>, Skip> {
    match link {
        Link::Ethernet => {
            let Some(ethernet) = packet.head::<ETHERNET>(0) else { return Ok(None) };
            match ethernet.be16::<ETHER_TYPE>() {
                ETHER_IPV4 => plain_v4(packet, ETHERNET),
                ETHER_IPV6 => plain_v6(packet, ETHERNET),
                ETHER_VLAN | ETHER_QINQ => Ok(None),
                _ => Err(Skip::Unmatched),
            }
        }
        Link::None => {
            let Some(ip) = packet.head::<IPV4>(0) else { return Ok(None) };
            match ip.u8::<0>() >> 4 {
                4 => plain_v4(packet, 0),
                6 => plain_v6(packet, 0),
                _ => Err(Skip::Unmatched),
            }
        }
    }
}

#[inline(always)]
fn plain_v4(packet: Packet, at: usize) -> Result<Option<Segment>, Skip> {
    let Some(ip) = packet.head::<{ IPV4 + TCP }>(at) else { return Ok(None) };
    if ip.u8::<IPV4_PROTO>() != PROTO_TCP {
        return Err(Skip::Unmatched);
    }
    if ip.u8::<0>() != IPV4_NO_OPTIONS || ip.be16::<IPV4_FRAGMENT>() & IPV4_MORE_OR_OFFSET != 0 {
        return Ok(None);
    }
    let tcp = ip.at::<IPV4, TCP>();
    let watched = watched(tcp)?;
    let end = end_of(packet, at as u32, ip.be16::<IPV4_TOTAL>())?;
    Segment::new(addresses_v4(ip.at::<0, IPV4>()), watched, tcp, (at + IPV4) as u32, end).map(Some)
}

#[inline(always)]
fn plain_v6(packet: Packet, at: usize) -> Result<Option<Segment>, Skip> {
    let Some(ip) = packet.head::<{ IPV6 + TCP }>(at) else { return Ok(None) };
    match ip.u8::<IPV6_NEXT>() {
        PROTO_TCP => {}
        next if is_extension(next) => return Ok(None),
        _ => return Err(Skip::Unmatched),
    }
    if ip.u8::<0>() >> 4 != 6 {
        return Err(Skip::Unmatched);
    }
    let tcp = ip.at::<IPV6, TCP>();
    let watched = watched(tcp)?;
    let end = end_of(packet, (at + IPV6) as u32, ip.be16::<IPV6_PAYLOAD>())?;
    Segment::new(addresses_v6(ip.at::<0, IPV6>()), watched, tcp, (at + IPV6) as u32, end).map(Some)
}

/// The long way. A function of its own, so that its copies are off the short way's stack and verifier states. What it finds goes
/// to `out`: the type information of a larger `Result` is none that the kernel takes.
#[inline(never)]
fn walk(packet: Packet, link: Link, out: &mut MaybeUninit<Segment>) -> Result<(), Skip> {
    let mut first = Aligned::<1>::new();
    let at = match link {
        Link::Ethernet => past_tags(packet)?,
        Link::None => 0,
    };
    let segment = match packet.copy(at, &mut first).ok_or(Skip::Unmatched)?.u8::<0>() >> 4 {
        4 => walk_v4(packet, at)?,
        6 => walk_v6(packet, at)?,
        _ => return Err(Skip::Unmatched),
    };
    out.write(segment);
    Ok(())
}

/// Offset of the IP header behind the Ethernet header and its tags.
#[inline(always)]
fn past_tags(packet: Packet) -> Result<u32, Skip> {
    let mut at = ETHERNET as u32;
    let mut kind = Aligned::<2>::new();
    for _ in 0..=MAX_TAGS {
        // The type stands at the end of the Ethernet header, and of each tag.
        match packet.copy::<2>(at - 2, &mut kind).ok_or(Skip::Unmatched)?.be16::<0>() {
            ETHER_VLAN | ETHER_QINQ => at += 4,
            ETHER_IPV4 | ETHER_IPV6 => return Ok(at),
            _ => return Err(Skip::Unmatched),
        }
    }
    Err(Skip::Counted(TapCounter::TooDeep))
}

#[inline(always)]
fn walk_v4(packet: Packet, at: u32) -> Result<Segment, Skip> {
    let mut header = Aligned::<IPV4>::new();
    let ip = packet.copy(at, &mut header).ok_or(Skip::Unmatched)?;
    let words = u32::from(ip.u8::<0>() & 0x0f);
    if ip.u8::<IPV4_PROTO>() != PROTO_TCP || words < 5 {
        return Err(Skip::Unmatched);
    }
    let addresses = addresses_v4(ip);
    let tcp_at = at + words * 4;
    let fragment = ip.be16::<IPV4_FRAGMENT>();
    if fragment & IPV4_MORE_OR_OFFSET != 0 {
        return Err(fragment_of(packet, addresses, (fragment & IPV4_OFFSET == 0).then_some(tcp_at)));
    }
    walk_tcp(packet, addresses, tcp_at, || end_of(packet, at, ip.be16::<IPV4_TOTAL>()))
}

#[inline(always)]
fn walk_v6(packet: Packet, at: u32) -> Result<Segment, Skip> {
    let mut header = Aligned::<IPV6>::new();
    let ip = packet.copy(at, &mut header).ok_or(Skip::Unmatched)?;
    let addresses = addresses_v6(ip);
    let first_at = at + IPV6 as u32;
    let mut next = ip.u8::<IPV6_NEXT>();
    let mut next_at = first_at;
    let mut extension = Aligned::<8>::new();
    for _ in 0..=MAX_EXTENSIONS {
        if next == PROTO_TCP {
            return walk_tcp(packet, addresses, next_at, || {
                end_of(packet, first_at, ip.be16::<IPV6_PAYLOAD>())
            });
        }
        if !is_extension(next) {
            return Err(Skip::Unmatched);
        }
        let bytes = packet.copy(next_at, &mut extension).ok_or(Skip::Unmatched)?;
        let units = u32::from(bytes.u8::<1>());
        let here = next;
        next = bytes.u8::<0>();
        // RFC 8200 section 4: lengths in units of 8 bytes, the first not counted. RFC 4302 section 2.2: AH in units of
        // 4 bytes, two not counted.
        next_at += match here {
            PROTO_FRAGMENT => 8,
            PROTO_AUTH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        // Offset in units of 8 bytes, two reserved bits, one for "more". All 0 is a whole packet (RFC 6946).
        let place = bytes.be16::<2>();
        if here == PROTO_FRAGMENT && place & 0xfff9 != 0 {
            if next != PROTO_TCP {
                return Err(Skip::Unmatched);
            }
            return Err(fragment_of(packet, addresses, (place & 0xfff8 == 0).then_some(next_at)));
        }
    }
    Err(Skip::Counted(TapCounter::TooDeep))
}

#[inline(always)]
fn walk_tcp(
    packet: Packet,
    addresses: Addresses,
    at: u32,
    end: impl Fn() -> Result<u32, Skip>,
) -> Result<Segment, Skip> {
    let mut header = Aligned::<TCP>::new();
    let Some(tcp) = packet.copy(at, &mut header) else {
        // Too short for TCP; it counts if what there is says that it was for a primary.
        return Err(match ports(packet, at) {
            Ok(_) => Skip::Counted(TapCounter::Unreadable),
            Err(skip) => skip,
        });
    };
    Segment::new(addresses, watched(tcp)?, tcp, at, end()?)
}

/// How a fragment counts. The first one of a packet has ports, at `tcp_at`; the others have addresses only.
#[inline(always)]
fn fragment_of(packet: Packet, addresses: Addresses, tcp_at: Option<u32>) -> Skip {
    let ours = match tcp_at {
        Some(at) => ports(packet, at).is_ok(),
        None => select::may_be_fragment_of_primary(addresses.0, addresses.1),
    };
    if ours { Skip::Counted(TapCounter::Fragments) } else { Skip::Unmatched }
}

#[inline(always)]
fn ports(packet: Packet, at: u32) -> Result<Watched, Skip> {
    let mut ports = Aligned::<4>::new();
    let ports = packet.copy(at, &mut ports).ok_or(Skip::Unmatched)?;
    select::watched(ports.be16::<0>(), ports.be16::<2>())
}

#[inline(always)]
fn watched(tcp: Bytes<TCP>) -> Result<Watched, Skip> {
    select::watched(tcp.be16::<{ offset_of!(TcpHdr, source) }>(), tcp.be16::<{ offset_of!(TcpHdr, dest) }>())
}

/// Where the IP payload ends: `len` bytes from `at`; with 0 (BIG TCP, jumbograms) at the end of the packet. A frame may be
/// padded behind that, but not cut off before.
#[inline(always)]
fn end_of(packet: Packet, at: u32, len: u16) -> Result<u32, Skip> {
    let there = packet.len();
    let end = if len == 0 { there } else { at + u32::from(len) };
    if end > there { Err(Skip::Counted(TapCounter::Unreadable)) } else { Ok(end) }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_FRAGMENT | PROTO_AUTH | PROTO_DESTINATION)
}

/// Source and destination.
type Addresses = ([u32; 4], [u32; 4]);

#[inline(always)]
fn addresses_v4(ip: Bytes<IPV4>) -> Addresses {
    // RFC 4291 section 2.5.5.2.
    let mapped = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    ([0, 0, mapped, ip.word::<IPV4_SRC>()], [0, 0, mapped, ip.word::<IPV4_DST>()])
}

#[inline(always)]
fn addresses_v6(ip: Bytes<IPV6>) -> Addresses {
    (address::<IPV6_SRC>(ip), address::<IPV6_DST>(ip))
}

#[inline(always)]
fn address<const AT: usize>(ip: Bytes<IPV6>) -> [u32; 4] {
    let bytes = ip.at::<AT, 16>();
    [bytes.word::<0>(), bytes.word::<4>(), bytes.word::<8>(), bytes.word::<12>()]
}

impl Segment {
    /// The segment whose TCP header stands at `at` in a packet whose IP payload ends at `end`.
    #[inline(always)]
    fn new(
        (src, dst): Addresses,
        watched: Watched,
        tcp: Bytes<TCP>,
        at: u32,
        end: u32,
    ) -> Result<Self, Skip> {
        // RFC 9293 section 3.1: data offset in words, in the upper half of byte 12; the flags follow.
        let header = u32::from(tcp.u8::<12>() >> 4) * 4;
        let payload_at = at + header;
        if header < TCP as u32 || payload_at > end {
            return Err(Skip::Counted(TapCounter::Unreadable));
        }
        let src_port = tcp.be16::<{ offset_of!(TcpHdr, source) }>();
        let dst_port = tcp.be16::<{ offset_of!(TcpHdr, dest) }>();
        Ok(Self {
            src: Key { addr: src, port: src_port, reserved: 0 },
            dst: Key { addr: dst, port: dst_port, reserved: 0 },
            seq: tcp.be32::<{ offset_of!(TcpHdr, seq) }>(),
            ack: tcp.be32::<{ offset_of!(TcpHdr, ack_seq) }>(),
            payload_at,
            payload_len: end - payload_at,
            window: tcp.be16::<{ offset_of!(TcpHdr, window) }>(),
            flags: tcp.u8::<13>(),
            watched,
        })
    }
}
