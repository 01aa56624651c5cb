//! What is carried in IP beside TCP, as far as TCP may be inside: IP in IP, Ethernet in IP, GRE, VXLAN, Geneve, MPLS,
//! GTP-U.

use super::layer::{Layer, be16};
use super::{NoSegment, Step, link};

const IPV4_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// RFC 3378: two bytes of version in front of the frame.
const ETHERIP: u8 = 97;
const MPLS_IN_IP: u8 = 137;
/// RFC 8986 section 4.9: the frame itself.
const ETHERNET: u8 = 143;

/// VXLAN's registered port, and the one Linux used before there was one.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// Its generic protocol extension.
const VXLAN_GPE_PORT: u16 = 4790;
const GENEVE_PORT: u16 = 6081;
/// GRE in UDP (RFC 8086).
const GRE_PORT: u16 = 4754;
/// The user plane of mobile networks (3GPP TS 29.281 section 4.4.2.3).
const GTP_U_PORT: u16 = 2152;
/// MPLS in UDP (RFC 7510).
const MPLS_PORT: u16 = 6635;

/// Takes a tunnel's header off.
pub(super) fn take(protocol: u8, layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    match protocol {
        IPV4_IN_IP | IPV6_IN_IP => Ok((Step::Ip, layer)),
        GRE => gre(layer),
        UDP => udp(layer),
        MPLS_IN_IP => link::mpls(layer),
        ETHERIP => link::ethernet(layer.skip(2)?),
        ETHERNET => link::ethernet(layer),
        _ => Err(NoSegment::NotTcp),
    }
}

fn udp(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[_, _, high, low, ..] = layer.head::<8>()?;
    match be16(high, low) {
        port if VXLAN_PORTS.contains(&port) => vxlan(layer.skip(8)?),
        VXLAN_GPE_PORT => vxlan_gpe(layer.skip(8)?),
        GENEVE_PORT => geneve(layer.skip(8)?),
        MPLS_PORT => link::mpls(layer.skip(8)?),
        GRE_PORT => gre(layer.skip(8)?),
        GTP_U_PORT => gtp_u(layer.skip(8)?),
        _ => Err(NoSegment::NotTcp),
    }
}

/// VXLAN (RFC 7348 section 5). Its port is not reserved for it, so the fixed bits are held to.
fn vxlan(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[flags, .., reserved] = layer.head::<8>()?;
    if flags & 0x08 == 0 || reserved != 0 {
        return Err(NoSegment::NotTcp);
    }
    link::ethernet(layer.skip(8)?)
}

/// VXLAN with a word for what it carries (draft-ietf-nvo3-vxlan-gpe section 3): without that word it is Ethernet.
fn vxlan_gpe(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[flags, _, _, next, .., reserved] = layer.head::<8>()?;
    if flags & 0x30 != 0 || reserved != 0 {
        return Err(NoSegment::NotTcp);
    }
    let rest = layer.skip(8)?;
    match next {
        _ if flags & 0x04 == 0 => link::ethernet(rest),
        1 | 2 => Ok((Step::Ip, rest)),
        3 => link::ethernet(rest),
        5 => link::mpls(rest),
        _ => Err(NoSegment::NotTcp),
    }
}

/// Geneve (RFC 8926 section 3.4).
fn geneve(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[version_options, _, high, low, ..] = layer.head::<8>()?;
    if version_options >> 6 != 0 {
        return Err(NoSegment::NotTcp);
    }
    let rest = layer.skip(8 + usize::from(version_options & 0x3f) * 4)?;
    Ok((Step::EtherType(be16(high, low)), rest))
}

/// GTP-U (3GPP TS 29.281 section 5): a packet of a user, whose message is 255.
fn gtp_u(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[flags, message, ..] = layer.head::<8>()?;
    if flags >> 4 != 3 || message != 255 {
        return Err(NoSegment::NotTcp);
    }
    let mut rest = layer.skip(8)?;
    if flags & 0x07 != 0 {
        let &[_, _, _, mut next] = rest.head::<4>()?;
        rest = rest.skip(4)?;
        // Extension headers, as long as one announces another: a length in fours, and what follows at their end.
        while flags & 0x04 != 0 && next != 0 {
            let length = usize::from(rest.head::<1>()?[0]) * 4;
            let last = length.checked_sub(1).ok_or(NoSegment::Malformed)?;
            [next] = *rest.skip(last)?.head::<1>()?;
            rest = rest.skip(length)?;
        }
    }
    Ok((Step::Ip, rest))
}

/// GRE (RFC 2784, RFC 2890), with NVGRE, ERSPAN and the GRE of PPTP (RFC 2637).
fn gre(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[flags, version, high, low] = layer.head::<4>()?;
    let present = |bit: u8| flags & bit != 0;
    let (checksum, routing, key, sequence) = (present(0x80), present(0x40), present(0x20), present(0x10));
    let mut length = 4 + 4 * (usize::from(checksum) + usize::from(key) + usize::from(sequence));
    let kind = be16(high, low);
    match version & 0x07 {
        0 if !routing => {}
        1 if kind == 0x880b => {
            length += 4 * usize::from(version & 0x80 != 0);
            return Ok((Step::Ppp, layer.skip(length)?));
        }
        // Source routes were taken out of GRE in the year 2000.
        _ => return Err(NoSegment::NotTcp),
    }
    let rest = layer.skip(length)?;
    match kind {
        // ERSPAN of the first type has no header of its own and, as its mark, no sequence number.
        0x88be if !sequence => link::ethernet(rest),
        0x88be => link::ethernet(rest.skip(8)?),
        0x22eb => {
            let head = rest.head::<12>()?;
            let rest = rest.skip(12 + 8 * usize::from(head[11] & 1))?;
            // Behind the first bit five of the frame type: 2 is IP without Ethernet.
            if head[10] >> 2 & 0x1f == 2 { Ok((Step::Ip, rest)) } else { link::ethernet(rest) }
        }
        _ => Ok((Step::EtherType(kind), rest)),
    }
}
