//! Link layers: what stands before IP in a frame.

use super::layer::{Layer, be16};
use super::{NoSegment, Step};

/// A link type by the number that capture files use (the registry of `LINKTYPE_` values).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback, address family in the byte order of the writer.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without address and control bytes.
    pub const PPP: Self = Self(9);
    /// IP without a link header, as BSD writes it.
    pub const RAW_BSD: Self = Self(12);
    /// The same, as OpenBSD writes it.
    pub const RAW_OPENBSD: Self = Self(14);
    /// PPP in HDLC-like framing.
    pub const PPP_HDLC: Self = Self(50);
    /// PPPoE session frames without Ethernet.
    pub const PPP_ETHER: Self = Self(51);
    /// IP without a link header.
    pub const RAW: Self = Self(101);
    /// Cisco HDLC.
    pub const C_HDLC: Self = Self(104);
    /// OpenBSD loopback, address family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// PPP with a direction byte in front.
    pub const PPP_WITH_DIR: Self = Self(204);
    /// IPv4 without a link header.
    pub const IPV4: Self = Self(228);
    /// IPv6 without a link header.
    pub const IPV6: Self = Self(229);
    /// Packets that netfilter logged.
    pub const NFLOG: Self = Self(239);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// Takes the link header off.
#[inline]
pub(super) fn take(link: LinkType, layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    match link {
        LinkType::ETHERNET => ethernet(layer),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD | LinkType::IPV4 | LinkType::IPV6 => {
            Ok((Step::Ip, layer))
        }
        LinkType::LINUX_SLL => {
            let [.., high, low] = layer.head::<16>()?;
            Ok((Step::EtherType(be16(*high, *low)), layer.skip(16)?))
        }
        LinkType::LINUX_SLL2 => {
            let [high, low, ..] = layer.head::<20>()?;
            Ok((Step::EtherType(be16(*high, *low)), layer.skip(20)?))
        }
        LinkType::NULL | LinkType::LOOP => {
            let family = *layer.head::<4>()?;
            // NULL is in the byte order of whoever wrote the file, so either.
            match u32::from_be_bytes(family).min(u32::from_le_bytes(family)) {
                // AF_INET is 2 everywhere, AF_INET6 is not.
                2 | 10 | 24 | 28 | 30 => Ok((Step::Ip, layer.skip(4)?)),
                _ => Err(NoSegment::NotIp),
            }
        }
        LinkType::PPP | LinkType::PPP_HDLC => Ok((Step::Ppp, layer)),
        LinkType::PPP_WITH_DIR => Ok((Step::Ppp, layer.skip(1)?)),
        LinkType::PPP_ETHER => pppoe(layer),
        LinkType::C_HDLC => {
            let [_, _, high, low] = layer.head::<4>()?;
            Ok((Step::EtherType(be16(*high, *low)), layer.skip(4)?))
        }
        LinkType::NFLOG => nflog(layer),
        _ => Err(NoSegment::LinkType),
    }
}

/// Ethernet II or IEEE 802.3.
#[inline]
pub(super) fn ethernet(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let [.., high, low] = layer.head::<14>()?;
    Ok((Step::EtherType(be16(*high, *low)), layer.skip(14)?))
}

/// What an `EtherType` field announced.
#[inline]
pub(super) fn ether_type(kind: u16, layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    match kind {
        0x0800 | 0x86dd => Ok((Step::Ip, layer)),
        // IEEE 802.1Q, 802.1ad, and what came before it.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
            let [_, _, high, low] = layer.head::<4>()?;
            Ok((Step::EtherType(be16(*high, *low)), layer.skip(4)?))
        }
        0x8864 => pppoe(layer),
        0x8847 | 0x8848 => mpls(layer),
        0x6558 => ethernet(layer),
        // A length of IEEE 802.3, the cooked captures' word for it, or a jumbo frame of it.
        ..=1500 | 0x8870 => Ok((Step::Llc, layer)),
        _ => Err(NoSegment::NotIp),
    }
}

/// IEEE 802.2 with SNAP (RFC 1042), or with the service access point of IP itself.
pub(super) fn llc(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    if layer.head::<3>()? == &[0x06, 0x06, 0x03] {
        return Ok((Step::Ip, layer.skip(3)?));
    }
    match layer.head::<8>()? {
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, high, low] => {
            Ok((Step::EtherType(be16(*high, *low)), layer.skip(8)?))
        }
        _ => Err(NoSegment::NotIp),
    }
}

/// PPP from its address and control bytes on, if it has them (RFC 1661, RFC 1662).
pub(super) fn ppp(mut layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    // No protocol number begins so: one byte of it is too little to tell, not another protocol.
    if layer.bytes.first() == Some(&0xff) && layer.head::<2>()?[1] == 0x03 {
        layer = layer.skip(2)?;
    }
    let &[first] = layer.head::<1>()?;
    // An odd first byte is the whole number: protocol field compression.
    let (protocol, len) = if first & 1 == 1 {
        (u16::from(first), 1)
    } else {
        let [high, low] = layer.head::<2>()?;
        (be16(*high, *low), 2)
    };
    let rest = layer.skip(len)?;
    match protocol {
        0x0021 | 0x0057 => Ok((Step::Ip, rest)),
        0x0281 | 0x0283 => mpls(rest),
        _ => Err(NoSegment::NotIp),
    }
}

/// A PPPoE session frame (RFC 2516).
fn pppoe(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    let &[version, code, _, _, high, low] = layer.head::<6>()?;
    if version != 0x11 || code != 0 {
        return Err(NoSegment::NotIp);
    }
    Ok((Step::Ppp, layer.skip(6)?.limit(usize::from(be16(high, low)))))
}

/// MPLS labels (RFC 3032), and what the first four bits after them suggest: nothing else says.
pub(super) fn mpls(mut layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    for _ in 0..super::MAX_LAYERS {
        let [_, _, bottom, _] = layer.head::<4>()?;
        layer = layer.skip(4)?;
        if bottom & 1 == 1 {
            return match layer.head::<1>()?[0] >> 4 {
                4 | 6 => Ok((Step::Ip, layer)),
                // The control word of an Ethernet pseudowire (RFC 4448).
                0 => ethernet(layer.skip(4)?),
                _ => Err(NoSegment::NotIp),
            };
        }
    }
    Err(NoSegment::TooDeep)
}

/// The payload among netfilter's attributes. Their lengths are in the byte order of the machine that logged.
fn nflog(layer: Layer<'_>) -> Result<(Step, Layer<'_>), NoSegment> {
    const PAYLOAD: u16 = 9;
    let [family, ..] = layer.head::<4>()?;
    if !matches!(family, 2 | 10) {
        return Err(NoSegment::NotIp);
    }
    let mut rest = layer.skip(4)?;
    for _ in 0..64 {
        let &[a, b, c, d] = rest.head::<4>()?;
        let fits = |len: u16| (4..=rest.wire).contains(&usize::from(len));
        let (len, kind) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let swapped = !fits(len) || kind > 0xff;
        let (len, kind) = if swapped { (be16(a, b), be16(c, d)) } else { (len, kind) };
        if !fits(len) {
            return Err(NoSegment::Malformed);
        }
        let len = usize::from(len);
        if kind & 0x7fff == PAYLOAD {
            return Ok((Step::Ip, rest.skip(4)?.limit(len - 4)));
        }
        rest = rest.skip(len.next_multiple_of(4).min(rest.wire))?;
    }
    Err(NoSegment::TooDeep)
}
