//! IPv4, IPv6 with its extension headers, TCP.

use std::net::Ipv4Addr;

use super::fragments::Fragment;
use super::layer::{Layer, be16};
use super::{NoSegment, TcpView};
use crate::packet::{Flags, Peer, Seq};

pub(super) const TCP: u8 = 6;

/// Addresses of a packet, source first, IPv4 as IPv4-mapped IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ends {
    pub(super) src: [u8; 16],
    pub(super) dst: [u8; 16],
}

/// What an IP header says of what follows.
pub(super) enum Ip<'a> {
    Whole { protocol: u8, ends: Ends, rest: Layer<'a> },
    Fragment(Fragment<'a>),
}

/// Either version, as the first four bits say. Link layers announce the version too, and are sometimes wrong.
#[inline]
pub(super) fn ip(layer: Layer<'_>) -> Result<Ip<'_>, NoSegment> {
    match layer.head::<1>()?[0] >> 4 {
        4 => ipv4(layer),
        6 => ipv6(layer),
        _ => Err(NoSegment::Malformed),
    }
}

#[inline]
fn ipv4(layer: Layer<'_>) -> Result<Ip<'_>, NoSegment> {
    let head = layer.head::<20>()?;
    let header = usize::from(head[0] & 0xf) * 4;
    if header < 20 {
        return Err(NoSegment::Malformed);
    }
    let layer = match usize::from(be16(head[2], head[3])) {
        // The sending host's own capture of what the card will cut into segments.
        0 => layer,
        total if total < header => return Err(NoSegment::Malformed),
        total => layer.limit(total),
    };
    let rest = layer.skip(header)?;
    let mapped =
        |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]).to_ipv6_mapped();
    let ends = Ends { src: mapped(12).octets(), dst: mapped(16).octets() };
    let protocol = head[9];
    let place = be16(head[6], head[7]);
    if place & 0x3fff == 0 {
        return Ok(Ip::Whole { protocol, ends, rest });
    }
    Ok(Ip::Fragment(Fragment {
        ends,
        id: u32::from(be16(head[4], head[5])),
        protocol,
        start: usize::from(place & 0x1fff) * 8,
        more: place & 0x2000 != 0,
        rest,
    }))
}

fn ipv6(layer: Layer<'_>) -> Result<Ip<'_>, NoSegment> {
    let head = layer.head::<40>()?;
    let mut ends = Ends { src: [0; 16], dst: [0; 16] };
    ends.src.copy_from_slice(&head[8..24]);
    ends.dst.copy_from_slice(&head[24..40]);
    let mut protocol = head[6];
    let mut rest = layer.skip(40)?;
    match usize::from(be16(head[4], head[5])) {
        0 => {
            // A jumbogram (RFC 2675), or the sending host's capture of one that has lost its option: the frame's length.
            if protocol == HOP_BY_HOP
                && let Some(jumbo) = jumbo(rest)
            {
                rest = rest.limit(jumbo);
            }
        }
        length => rest = rest.limit(length),
    }
    for _ in 0..super::MAX_LAYERS {
        match protocol {
            FRAGMENT => {
                let head = rest.head::<8>()?;
                let place = be16(head[2], head[3]);
                if place & 0xfff9 != 0 {
                    return Ok(Ip::Fragment(Fragment {
                        ends,
                        id: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
                        protocol: head[0],
                        start: usize::from(place & 0xfff8),
                        more: place & 1 != 0,
                        rest: rest.skip(8)?,
                    }));
                }
                // Atomic (RFC 6946): all of it is here.
                protocol = head[0];
                rest = rest.skip(8)?;
            }
            extension_header if is_extension(extension_header) => {
                (protocol, rest) = extension(extension_header, rest)?;
            }
            _ => return Ok(Ip::Whole { protocol, ends, rest }),
        }
    }
    Err(NoSegment::TooDeep)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Whether a protocol is an IPv6 extension header, the fragment header left out.
pub(super) fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 | AUTHENTICATION)
}

/// Takes an extension header off. Gives what it announces.
pub(super) fn extension(protocol: u8, layer: Layer<'_>) -> Result<(u8, Layer<'_>), NoSegment> {
    let &[next, length] = layer.head::<2>()?;
    let length = usize::from(length);
    // RFC 4302 counts in other units.
    let length = if protocol == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
    Ok((next, layer.skip(length)?))
}

/// The length that a hop-by-hop option tells (RFC 2675 section 2).
fn jumbo(layer: Layer<'_>) -> Option<usize> {
    let length = (usize::from(layer.head::<2>().ok()?[1]) + 1) * 8;
    let mut options = layer.bytes.get(2..length)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [0xc2, 4, a, b, c, d, ..] => return usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok(),
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

/// The TCP header (RFC 9293 section 3.1).
#[inline]
pub(super) fn tcp<'a>(ends: Ends, layer: Layer<'a>) -> Result<TcpView<'a>, NoSegment> {
    let head = layer.head::<16>()?;
    let header = usize::from(head[12] >> 4) * 4;
    if header < 20 || layer.wire < header {
        return Err(NoSegment::Malformed);
    }
    let flags = Flags(head[13]);
    let ack = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    Ok(TcpView {
        src: Peer { addr: ends.src, port: be16(head[0], head[1]) },
        dst: Peer { addr: ends.dst, port: be16(head[2], head[3]) },
        seq: Seq(u32::from_be_bytes([head[4], head[5], head[6], head[7]])),
        ack: flags.ack().then_some(Seq(ack)),
        flags,
        window: be16(head[14], head[15]),
        len: u32::try_from(layer.wire - header).map_err(|_| NoSegment::Malformed)?,
        // Cut within the options: no payload is there, its length is known.
        payload: layer.bytes.get(header..).unwrap_or_default(),
    })
}
