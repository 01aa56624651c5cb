//! pcapng: blocks, in sections that may differ in byte order, of packets of several interfaces.

use pcap_parser::pcapng::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, parse_enhancedpacketblock_be,
    parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le,
    parse_simplepacketblock_be, parse_simplepacketblock_le,
};

use super::encode::INTERFACE_NAME;
use super::window::Window;
use super::{Fault, MAX_BLOCK_BYTES, MAX_INTERFACES, MAX_PACKET_BYTES, Taken};
use crate::packet::LinkType;

/// The type of a section header, the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const INTERFACE: u32 = 1;
/// Obsolete, still in old files.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const SECTION: u32 = u32::from_be_bytes(SECTION_HEADER);
/// Type, length, and the length again at the end.
const FRAME: usize = 12;

/// Place in a pcapng file.
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Time of the packet before, for those that have none.
    time: u64,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    unit: Unit,
    /// Nanoseconds to add.
    offset: i64,
    /// Written by our own encoder.
    sparse: bool,
}

/// How to make nanoseconds of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Times(u64),
    Over(u64),
    /// A number of 2^-n seconds.
    Binary(u32),
}

impl Unit {
    /// What `if_tsresol` says.
    fn of(resolution: u8) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            return Self::Binary(exponent);
        }
        match 9_u32.checked_sub(exponent) {
            Some(smaller) => Self::Times(10_u64.pow(smaller)),
            None => Self::Over(10_u64.saturating_pow(exponent - 9)),
        }
    }

    fn ns(self, stamp: u64) -> u64 {
        match self {
            Self::Times(factor) => stamp.saturating_mul(factor),
            Self::Over(divisor) => stamp / divisor,
            Self::Binary(exponent) => {
                let ns = (u128::from(stamp) * 1_000_000_000).checked_shr(exponent).unwrap_or(0);
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        }
    }
}

impl PcapNg {
    pub(super) fn new() -> Self {
        Self { big_endian: false, interfaces: Vec::new(), time: 0 }
    }

    #[inline]
    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<Taken>, Fault> {
        loop {
            if !window.need(FRAME)? {
                return match window.bytes().len() {
                    0 => Ok(None),
                    have => Err(Fault::Cut { missing: (FRAME - have) as u64 }),
                };
            }
            let bytes = window.bytes();
            if bytes.starts_with(&SECTION_HEADER) {
                self.big_endian = match bytes[8..12] {
                    [0x1a, 0x2b, 0x3c, 0x4d] => true,
                    [0x4d, 0x3c, 0x2b, 0x1a] => false,
                    _ => return Err(Fault::ByteOrder),
                };
                self.interfaces.clear();
            }
            let (kind, len) = (self.u32(bytes, 0), self.u32(bytes, 4));
            let whole = len as usize;
            if whole < FRAME || !whole.is_multiple_of(4) {
                return Err(Fault::BlockLength { kind, len: u64::from(len) });
            }
            match kind {
                ENHANCED_PACKET | SIMPLE_PACKET | PACKET | INTERFACE => {
                    if whole > MAX_BLOCK_BYTES {
                        return Err(Fault::BlockLength { kind, len: u64::from(len) });
                    }
                    if !window.need(whole)? {
                        return Err(Fault::Cut { missing: (whole - window.bytes().len()) as u64 });
                    }
                    let block = &window.bytes()[..whole];
                    let packet = match kind {
                        ENHANCED_PACKET => self.enhanced(block)?,
                        SIMPLE_PACKET => self.simple(block)?,
                        PACKET => self.obsolete(block)?,
                        _ => {
                            self.interface(block)?;
                            window.take(whole);
                            continue;
                        }
                    };
                    let at = window.take(whole) + packet.at;
                    return Ok(Some(Taken { at, ..packet }));
                }
                // A section header has nothing that is needed; what it says of its length is often wrong.
                SECTION if whole < 28 => return Err(Fault::BlockLength { kind, len: u64::from(len) }),
                _ => match window.skip(u64::from(len))? {
                    0 => {}
                    missing => return Err(Fault::Cut { missing }),
                },
            }
        }
    }

    fn interface(&mut self, block: &[u8]) -> Result<(), Fault> {
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let Ok((_, InterfaceDescriptionBlock { linktype, snaplen, options, .. })) = parse(block) else {
            return Err(Fault::Block(INTERFACE));
        };
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Fault::Interfaces);
        }
        let mut interface = Interface {
            link: LinkType(linktype.0.cast_unsigned()),
            snaplen,
            unit: Unit::of(6),
            offset: 0,
            sparse: false,
        };
        for option in &options {
            match option.code {
                OptionCode::IfName => {
                    // Padding stands behind it.
                    let name = option.value().get(..usize::from(option.len));
                    interface.sparse |= name == Some(INTERFACE_NAME);
                }
                OptionCode::IfTsresol => {
                    if let Some(&resolution) = option.value().first() {
                        interface.unit = Unit::of(resolution);
                    }
                }
                OptionCode::IfTsoffset => {
                    if let Some(&seconds) = option.value().first_chunk::<8>() {
                        let seconds = if self.big_endian {
                            i64::from_be_bytes(seconds)
                        } else {
                            i64::from_le_bytes(seconds)
                        };
                        interface.offset = seconds.saturating_mul(1_000_000_000);
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    #[inline]
    fn enhanced(&mut self, block: &[u8]) -> Result<Taken, Fault> {
        let parse = if self.big_endian { parse_enhancedpacketblock_be } else { parse_enhancedpacketblock_le };
        let Ok((_, EnhancedPacketBlock { if_id, ts_high, ts_low, caplen, origlen, data, .. })) = parse(block)
        else {
            return Err(Fault::Block(ENHANCED_PACKET));
        };
        let captured = caplen as usize;
        if captured > data.len() {
            return Err(Fault::Block(ENHANCED_PACKET));
        }
        self.packet(if_id, u64::from(ts_high) << 32 | u64::from(ts_low), 28, captured, origlen)
    }

    fn obsolete(&mut self, block: &[u8]) -> Result<Taken, Fault> {
        if block.len() < FRAME + 20 {
            return Err(Fault::Block(PACKET));
        }
        let interface = u32::from(if self.big_endian {
            u16::from_be_bytes([block[8], block[9]])
        } else {
            u16::from_le_bytes([block[8], block[9]])
        });
        let stamp = u64::from(self.u32(block, 12)) << 32 | u64::from(self.u32(block, 16));
        let (captured, len) = (self.u32(block, 20) as usize, self.u32(block, 24));
        if captured > block.len() - FRAME - 20 {
            return Err(Fault::Block(PACKET));
        }
        self.packet(interface, stamp, 28, captured, len)
    }

    fn simple(&mut self, block: &[u8]) -> Result<Taken, Fault> {
        let parse = if self.big_endian { parse_simplepacketblock_be } else { parse_simplepacketblock_le };
        let Ok((_, simple)) = parse(block) else { return Err(Fault::Block(SIMPLE_PACKET)) };
        let interface = self.interfaces.first().ok_or(Fault::Interface(0))?;
        let limit = if interface.snaplen == 0 { usize::MAX } else { interface.snaplen as usize };
        let captured = (simple.origlen as usize).min(limit).min(simple.data.len());
        // It has no time of its own.
        let (link, time, sparse) = (interface.link, self.time, interface.sparse);
        Ok(Taken { link, time, len: simple.origlen, at: 12, captured, sparse })
    }

    #[inline]
    fn packet(
        &mut self,
        interface: u32,
        stamp: u64,
        at: usize,
        captured: usize,
        len: u32,
    ) -> Result<Taken, Fault> {
        let known = self.interfaces.get(interface as usize).ok_or(Fault::Interface(interface))?;
        if captured > MAX_PACKET_BYTES {
            return Err(Fault::PacketLength(captured as u64));
        }
        self.time = known.unit.ns(stamp).saturating_add_signed(known.offset);
        Ok(Taken { link: known.link, time: self.time, len, at, captured, sparse: known.sparse })
    }

    #[inline]
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}
