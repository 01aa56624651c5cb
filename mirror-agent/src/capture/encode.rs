//! pcapng out: packets made up anew from what the tap told of a segment.
//!
//! Addresses, ports, numbers, flags and lengths are true; what the tap did not tell (options, time to live, checksum of TCP)
//! is left out or fixed. A packet is as long as the segment was, and holds what is known of it. Byte order is little-endian,
//! the link type is raw IP, times are nanoseconds.

use crate::packet::Peer;

/// Name of the one interface: by it a reader knows what the file does not hold.
pub(super) const INTERFACE_NAME: &[u8] = b"mirror-tap";

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Raw IP, the version in the first four bits.
const LINKTYPE_RAW: u16 = 101;
const TCP_HEADER: usize = 20;
/// Most payload of one packet: what an IPv4 packet of 65,535 bytes has room for. A longer segment becomes several.
const MAX_PAYLOAD: usize = 65_535 - 20 - TCP_HEADER;

const SYN: u8 = 0x02;
const FIN_OR_RST: u8 = 0x01 | 0x04;
const IPV4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// A TCP segment to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPacket<'a> {
    /// When it was seen, ns since 1970.
    pub time: u64,
    /// Sender.
    pub src: Peer,
    /// Receiver.
    pub dst: Peer,
    /// Sequence number of the SYN if there is one, else of the first payload byte.
    pub seq: u32,
    /// Acknowledgement number, 0 without one.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Advertised window, unscaled.
    pub window: u16,
    /// Payload bytes it had.
    pub len: u32,
    /// The first of them, as many as are written.
    pub bytes: &'a [u8],
}

/// What a file says at its end of how it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the file was begun and ended, ns since 1970.
    pub span: (u64, u64),
    /// Packets in it.
    pub packets: u64,
    /// Segments that found no room in a ring while it was written.
    pub dropped: u64,
}

/// Makes blocks.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The head of each file.
    head: Vec<u8>,
}

impl Encoder {
    /// Bytes of [`Encoder::statistics`].
    pub const STATISTICS_BYTES: usize = 72 + 4;

    /// `application` is who writes; `comment` says what readers should know, one line.
    #[must_use]
    pub fn new(application: &str, comment: &str) -> Self {
        let mut head = Vec::new();
        block(&mut head, SECTION, |out| {
            out.extend(0x1a2b_3c4d_u32.to_le_bytes());
            out.extend(1_u16.to_le_bytes());
            out.extend(0_u16.to_le_bytes());
            // The section's length is not known.
            out.extend(u64::MAX.to_le_bytes());
            option(out, 4, application.as_bytes());
            option(out, 1, comment.as_bytes());
            option(out, 0, b"");
        });
        block(&mut head, INTERFACE, |out| {
            out.extend(LINKTYPE_RAW.to_le_bytes());
            out.extend([0; 2]);
            // No limit on what is captured of a packet.
            out.extend(0_u32.to_le_bytes());
            option(out, 2, INTERFACE_NAME);
            option(out, 9, &[9]);
            option(out, 0, b"");
        });
        Self { head }
    }

    /// What each file begins with.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Appends a segment, as one packet or several; how many.
    pub fn packet(&self, packet: &TcpPacket<'_>, out: &mut Vec<u8>) -> u64 {
        let len = (packet.len as usize).max(packet.bytes.len());
        let syn = packet.flags & SYN;
        let mut at = 0;
        let mut packets = 0;
        loop {
            let end = len.min(at + MAX_PAYLOAD);
            let mut flags = packet.flags;
            let mut seq = packet.seq;
            if at > 0 {
                flags &= !SYN;
                seq = seq.wrapping_add(u32::from(syn != 0)).wrapping_add(at as u32);
            }
            if end < len {
                flags &= !FIN_OR_RST;
            }
            let bytes = packet.bytes.get(at..end.min(packet.bytes.len())).unwrap_or_default();
            one(&TcpPacket { seq, flags, len: (end - at) as u32, bytes, ..*packet }, out);
            packets += 1;
            at = end;
            if at == len {
                return packets;
            }
        }
    }

    /// Appends what a file ends with: [`Encoder::STATISTICS_BYTES`] bytes.
    pub fn statistics(&self, statistics: &Statistics, out: &mut Vec<u8>) {
        let Statistics { span: (start, end), packets, dropped } = *statistics;
        block(out, STATISTICS, |out| {
            out.extend(0_u32.to_le_bytes());
            out.extend(stamp(end));
            option(out, 2, &stamp(start));
            option(out, 3, &stamp(end));
            option(out, 4, &packets.to_le_bytes());
            option(out, 5, &dropped.to_le_bytes());
            option(out, 0, b"");
        });
    }
}

/// The blocks that `bytes`, which are whole blocks of an [`Encoder`], are made of.
pub fn blocks(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
        let (block, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        Some(block)
    })
}

/// One packet of at most [`MAX_PAYLOAD`] bytes.
fn one(packet: &TcpPacket<'_>, out: &mut Vec<u8>) {
    let (src, dst) = (packet.src.addr, packet.dst.addr);
    let v4 = (src.strip_prefix(&IPV4_MAPPED)).zip(dst.strip_prefix(&IPV4_MAPPED));
    let ip = if v4.is_some() { 20 } else { 40 };
    let wire = ip + TCP_HEADER + packet.len as usize;
    let captured = ip + TCP_HEADER + packet.bytes.len();
    block(out, ENHANCED_PACKET, |out| {
        out.extend(0_u32.to_le_bytes());
        out.extend(stamp(packet.time));
        out.extend((captured as u32).to_le_bytes());
        out.extend((wire as u32).to_le_bytes());
        match v4 {
            Some((src, dst)) => ipv4(wire as u16, src, dst, out),
            None => {
                out.extend([0x60, 0, 0, 0]);
                out.extend(((TCP_HEADER + packet.len as usize) as u16).to_be_bytes());
                out.extend([6, 64]);
                out.extend(src);
                out.extend(dst);
            }
        }
        out.extend(packet.src.port.to_be_bytes());
        out.extend(packet.dst.port.to_be_bytes());
        out.extend(packet.seq.to_be_bytes());
        out.extend(packet.ack.to_be_bytes());
        out.extend([(TCP_HEADER as u8 / 4) << 4, packet.flags]);
        out.extend(packet.window.to_be_bytes());
        // Not computed: of a segment that is not all there it cannot be. The sending host's own captures have none either.
        out.extend([0; 4]);
        out.extend_from_slice(packet.bytes);
        pad(out, captured);
    });
}

fn ipv4(total: u16, src: &[u8], dst: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0x45, 0]);
    out.extend(total.to_be_bytes());
    // No identification, not to be fragmented; time to live; TCP; the checksum follows.
    out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    out.extend(src);
    out.extend(dst);
    let words = out[start..].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// Type, length, what `fill` puts in (a multiple of 4 bytes), length again.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    fill(out);
    let len = (out.len() - start + 4) as u32;
    out.extend(len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
}

/// Upper half first, each in the file's byte order.
fn stamp(time: u64) -> [u8; 8] {
    time.rotate_left(32).to_le_bytes()
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn pad(out: &mut Vec<u8>, len: usize) {
    out.extend(&[0; 3][..len.next_multiple_of(4) - len]);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::{Encoder, Statistics, TcpPacket, blocks};
    use crate::capture::Reader;
    use crate::packet::{FragmentLimits, Peer, Seq, Unwrapper};

    /// Every segment of a file, as our own reader gives it: sequence number, flags, length, bytes.
    type Told = (u64, Peer, Peer, u32, Option<Seq>, u8, u16, u32, Vec<u8>);

    fn read(file: Vec<u8>) -> Vec<Told> {
        let mut reader = Reader::new(Box::new(Cursor::new(file)), "test").unwrap();
        let mut unwrapper = Unwrapper::new(FragmentLimits::default());
        let mut told = Vec::new();
        while let Some(packet) = reader.next_packet().unwrap() {
            assert!(packet.sparse);
            let view = unwrapper.segment(packet.link, packet.bytes, packet.len, packet.time).unwrap();
            told.push((
                packet.time,
                view.src,
                view.dst,
                view.seq.0,
                view.ack,
                view.flags.0,
                view.window,
                view.len,
                view.payload.to_vec(),
            ));
        }
        told
    }

    fn peer() -> impl Strategy<Value = (Peer, Peer)> {
        let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
            .prop_map(|(a, p, b, q)| (SocketAddr::from((a, p)).into(), SocketAddr::from((b, q)).into()));
        let v6 = any::<([u8; 16], u16, [u8; 16], u16)>()
            .prop_map(|(a, p, b, q)| (Peer { addr: a, port: p }, Peer { addr: b, port: q }));
        prop_oneof![v4, v6]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read_again_as_it_was(
            (src, dst) in peer(),
            time in 0..u64::MAX / 2,
            (seq, ack, flags, window) in any::<(u32, u32, u8, u16)>(),
            len in prop_oneof![0..200_u32, 65_400..65_600_u32, 130_000..200_000_u32],
            known in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let all: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_add(byte)).collect();
            let bytes = &all[..known.index(all.len() + 1)];
            let encoder = Encoder::new("mirror test", "a test");
            let mut file = encoder.head().to_vec();
            let packet = TcpPacket { time, src, dst, seq, ack, flags, window, len, bytes };
            let head = file.len();
            let packets = encoder.packet(&packet, &mut file);
            prop_assert_eq!(blocks(&file[head..]).count() as u64, packets);
            encoder.statistics(&Statistics::default(), &mut file);
            let told = read(file);
            prop_assert_eq!(told.len() as u64, packets);
            let (mut next, mut there, mut total) = (seq, Vec::new(), 0);
            for (at, (t, s, d, n, a, f, w, l, b)) in told.iter().enumerate() {
                let (first, last) = (at == 0, at + 1 == told.len());
                prop_assert_eq!((*t, *s, *d, *n, *w), (time, src, dst, next, window));
                prop_assert_eq!(*a, (flags & 0x10 != 0).then_some(Seq(ack)));
                let mut expected = flags;
                if !first { expected &= !0x02; }
                if !last { expected &= !0x05; }
                prop_assert_eq!(*f, expected);
                next = next.wrapping_add(*l).wrapping_add(u32::from(first && flags & 0x02 != 0));
                total += l;
                there.extend_from_slice(b);
            }
            prop_assert_eq!(total, len);
            prop_assert_eq!(there.as_slice(), bytes);
        }
    }

    #[test]
    fn the_last_block_is_as_long_as_is_said() {
        let mut out = Vec::new();
        Encoder::new("a", "b").statistics(&Statistics::default(), &mut out);
        assert_eq!(out.len(), Encoder::STATISTICS_BYTES);
    }
}
