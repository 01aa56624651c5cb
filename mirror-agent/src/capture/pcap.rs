//! The classic format: a header, then records.

use pcap_parser::pcap::{
    LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::window::Window;
use super::{Fault, MAX_PACKET_BYTES, Taken};
use crate::packet::LinkType;

const HEADER: usize = 24;
const RECORD: usize = 16;
/// The record header of the variant with interface, protocol and packet type, as a patched libpcap of 1999 wrote it.
const RECORD_MODIFIED: usize = 24;

/// A pcap file after its header.
pub(super) struct Pcap {
    link: LinkType,
    big_endian: bool,
    record: usize,
    /// Nanoseconds of the smaller unit of time.
    unit: u64,
}

/// Whether a file with these first bytes is pcap: micro- or nanoseconds, either byte order, or the modified variant.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    matches!(
        magic,
        [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0x34, 0xcd, 0xb2, 0xa1]
    )
}

impl Pcap {
    pub(super) fn new(window: &mut Window) -> Result<Self, Fault> {
        if !window.need(HEADER)? {
            return Err(Fault::CutHead);
        }
        let Ok((_, header)) = parse_pcap_header(&window.bytes()[..HEADER]) else {
            return Err(Fault::CutHead);
        };
        if header.version_major != 2 {
            return Err(Fault::Version(header.version_major, header.version_minor));
        }
        window.take(HEADER);
        Ok(Self {
            // The upper bits tell of a frame check sequence, which stands behind what IP says its length is.
            link: LinkType(header.network.0.cast_unsigned() & 0x03ff_ffff),
            big_endian: header.is_bigendian(),
            record: if header.is_modified_format() { RECORD_MODIFIED } else { RECORD },
            unit: if header.is_nanosecond_precision() { 1 } else { 1_000 },
        })
    }

    #[inline]
    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<Taken>, Fault> {
        if !window.need(self.record)? {
            return match window.bytes().len() {
                0 => Ok(None),
                have => Err(Fault::Cut { missing: (self.record - have) as u64 }),
            };
        }
        let bytes = window.bytes();
        let length = [bytes[8], bytes[9], bytes[10], bytes[11]];
        let captured = if self.big_endian { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) };
        let captured = captured as usize;
        if captured > MAX_PACKET_BYTES {
            return Err(Fault::PacketLength(captured as u64));
        }
        let whole = self.record + captured;
        if !window.need(whole)? {
            return Err(Fault::Cut { missing: (whole - window.bytes().len()) as u64 });
        }
        let bytes = &window.bytes()[..whole];
        let parsed = match (self.record, self.big_endian) {
            (RECORD_MODIFIED, _) => parse_pcap_frame_modified(bytes),
            (_, true) => parse_pcap_frame_be(bytes),
            (_, false) => parse_pcap_frame(bytes),
        };
        let Ok((_, LegacyPcapBlock { ts_sec, ts_usec, origlen, .. })) = parsed else {
            return Err(Fault::Cut { missing: 0 });
        };
        let time = u64::from(ts_sec) * 1_000_000_000 + u64::from(ts_usec) * self.unit;
        let at = window.take(whole) + self.record;
        Ok(Some(Taken { link: self.link, time, len: origlen, at, captured, sparse: false }))
    }
}
