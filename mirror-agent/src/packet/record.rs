//! A checked view over one entry of a shard's ring.

use std::mem::offset_of;

use mirror_common::record::{Direction, RecordHeader, STATUS_LINE, status_line};
use thiserror::Error;

use super::{Flags, FlowKey, Peer, Segment, Seq};

/// Why the bytes of a ring entry are not a record. None of these comes from the network: kernel program and agent
/// disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Shorter than a header.
    #[error("ring record of {have} bytes is shorter than its header of {}", RecordHeader::SIZE)]
    Short {
        /// Bytes of the entry.
        have: usize,
    },
    /// The header promises more payload than the entry holds.
    #[error("ring record promises {captured} payload bytes but holds {have}")]
    Overrun {
        /// Payload bytes promised.
        captured: u32,
        /// Bytes after the header.
        have: usize,
    },
    /// Neither request nor response.
    #[error("ring record has direction {0}, neither request (1) nor response (2)")]
    Direction(u8),
    /// A request record that does not carry its whole payload.
    #[error("ring record of a request segment of {len} bytes carries {captured} of them")]
    Cut {
        /// Payload bytes the record stands for.
        len: u32,
        /// Payload bytes promised.
        captured: u32,
    },
}

/// The first bytes of a segment, as the tap read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes<'a> {
    /// All of the payload that the record carries.
    Payload(&'a [u8]),
    /// A response's, up to its status.
    StatusLine([u8; STATUS_LINE]),
}

impl FirstBytes<'_> {
    /// As a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Payload(bytes) => bytes,
            Self::StatusLine(line) => line,
        }
    }
}

/// One ring entry whose lengths and direction were checked; no accessor can fail after that.
///
/// The entry may be longer than header and payload (the ring knows size classes): what follows is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    header: &'a [u8; RecordHeader::SIZE],
    direction: Direction,
    payload: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Checks the bytes of one ring entry.
    ///
    /// # Errors
    ///
    /// [`RecordError`], if the entry is not a well-formed record.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let Some((header, rest)) = bytes.split_first_chunk::<{ RecordHeader::SIZE }>() else {
            return Err(RecordError::Short { have: bytes.len() });
        };
        let number = header[offset_of!(RecordHeader, direction)];
        let Some(direction) = Direction::from_u8(number) else {
            return Err(RecordError::Direction(number));
        };
        let captured = u32_at(header, offset_of!(RecordHeader, captured));
        let Some(payload) = rest.get(..captured as usize) else {
            return Err(RecordError::Overrun { captured, have: rest.len() });
        };
        let len = u32_at(header, offset_of!(RecordHeader, len));
        if direction == Direction::Request && captured != len {
            return Err(RecordError::Cut { len, captured });
        }
        Ok(Self { header, direction, payload })
    }

    /// The segment the record stands for; its payload is a slice of the entry.
    #[inline]
    #[must_use]
    pub fn segment(&self) -> Segment<'a> {
        let header = self.header;
        let src = Peer {
            addr: bytes_at(header, offset_of!(RecordHeader, src_addr)),
            port: u16_at(header, offset_of!(RecordHeader, src_port)),
        };
        let dst = Peer {
            addr: bytes_at(header, offset_of!(RecordHeader, dst_addr)),
            port: u16_at(header, offset_of!(RecordHeader, dst_port)),
        };
        let (client, primary) = match self.direction {
            Direction::Request => (src, dst),
            Direction::Response => (dst, src),
        };
        let flags = Flags(header[offset_of!(RecordHeader, flags)]);
        let status = u16_at(header, offset_of!(RecordHeader, status));
        Segment {
            flow: FlowKey { client, primary },
            job: u16_at(header, offset_of!(RecordHeader, job)),
            direction: self.direction,
            hash: u32_at(header, offset_of!(RecordHeader, hash)),
            time: u64::from_ne_bytes(bytes_at(header, offset_of!(RecordHeader, time_ns))),
            seq: Seq(u32_at(header, offset_of!(RecordHeader, seq))),
            ack: flags.ack().then_some(Seq(u32_at(header, offset_of!(RecordHeader, ack)))),
            flags,
            window: u16_at(header, offset_of!(RecordHeader, window)),
            status: (status != 0).then_some(status),
            len: u32_at(header, offset_of!(RecordHeader, len)),
            payload: self.payload,
        }
    }

    /// What is known of the first bytes of the segment: the payload, or in the response direction the status line as far as its
    /// status.
    #[must_use]
    pub fn first_bytes(&self) -> FirstBytes<'a> {
        let status = u16_at(self.header, offset_of!(RecordHeader, status));
        match status_line(status, self.header[offset_of!(RecordHeader, minor)]) {
            Some(line) if self.payload.is_empty() => FirstBytes::StatusLine(line),
            _ => FirstBytes::Payload(self.payload),
        }
    }

    /// Interface index, in the network namespace of the tap.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        u32_at(self.header, offset_of!(RecordHeader, ifindex))
    }
}

// Offsets are constants of the layout, so after inlining each of these is one load and the bounds check is gone.
#[inline(always)]
fn bytes_at<const N: usize>(header: &[u8; RecordHeader::SIZE], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[offset..offset + N]);
    out
}

#[inline(always)]
fn u32_at(header: &[u8; RecordHeader::SIZE], offset: usize) -> u32 {
    u32::from_ne_bytes(bytes_at(header, offset))
}

#[inline(always)]
fn u16_at(header: &[u8; RecordHeader::SIZE], offset: usize) -> u16 {
    u16::from_ne_bytes(bytes_at(header, offset))
}

#[cfg(test)]
mod tests {
    use mirror_common::record::tcp_flags;
    use proptest::prelude::*;

    use super::*;

    fn header(direction: u8, len: u32, captured: u32) -> RecordHeader {
        RecordHeader {
            time_ns: 0x0102_0304_0506_0708,
            src_addr: *b"client-address--",
            dst_addr: *b"primary-address-",
            src_port: 40_000,
            dst_port: 9080,
            seq: 0xdead_beef,
            ack: 0x1234_5678,
            len,
            captured,
            hash: 0x0bad_cafe,
            ifindex: 7,
            window: 501,
            job: 3,
            status: 0,
            flags: tcp_flags::ACK | tcp_flags::PSH,
            direction,
            minor: 0,
            reserved: [0; 3],
        }
    }

    /// The bytes as the kernel lays them: field by field in order of declaration, no padding.
    fn entry(header: &RecordHeader, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(header.time_ns.to_ne_bytes());
        out.extend(header.src_addr);
        out.extend(header.dst_addr);
        out.extend(header.src_port.to_ne_bytes());
        out.extend(header.dst_port.to_ne_bytes());
        for number in [header.seq, header.ack, header.len, header.captured, header.hash, header.ifindex] {
            out.extend(number.to_ne_bytes());
        }
        for number in [header.window, header.job, header.status] {
            out.extend(number.to_ne_bytes());
        }
        out.extend([header.flags, header.direction, header.minor]);
        out.extend(header.reserved);
        assert_eq!(out.len(), RecordHeader::SIZE);
        out.extend(payload);
        out
    }

    #[test]
    fn a_request_record_gives_every_field_and_its_payload() {
        let bytes = entry(&header(1, 5, 5), b"GET /and then what the size class left over");
        let view = RecordView::new_checked(&bytes).unwrap();
        let segment = view.segment();
        assert_eq!(segment.payload, b"GET /");
        assert_eq!(segment.flow.client, Peer { addr: *b"client-address--", port: 40_000 });
        assert_eq!(segment.flow.primary, Peer { addr: *b"primary-address-", port: 9080 });
        assert_eq!((segment.direction, segment.job, segment.hash), (Direction::Request, 3, 0x0bad_cafe));
        assert_eq!((segment.time, segment.len, segment.window), (0x0102_0304_0506_0708, 5, 501));
        assert_eq!((segment.seq, segment.ack), (Seq(0xdead_beef), Some(Seq(0x1234_5678))));
        assert_eq!((segment.status, view.ifindex()), (None, 7));
        assert!(segment.flags.ack() && !segment.flags.syn() && !segment.flags.fin() && !segment.flags.rst());
    }

    #[test]
    fn a_response_record_names_the_destination_as_client_and_carries_its_status() {
        let bytes = entry(&RecordHeader { status: 204, flags: 0, ..header(2, 90_000, 0) }, b"");
        let segment = RecordView::new_checked(&bytes).unwrap().segment();
        assert_eq!(segment.flow.client, Peer { addr: *b"primary-address-", port: 9080 });
        assert_eq!(segment.flow.primary.port, 40_000);
        assert_eq!((segment.len, segment.payload.len(), segment.status), (90_000, 0, Some(204)));
        assert_eq!(segment.ack, None, "no ACK flag, no acknowledgement");
        assert_eq!(RecordView::new_checked(&bytes).unwrap().first_bytes().as_slice(), b"");
        let bytes = entry(&RecordHeader { status: 204, minor: b'0', ..header(2, 90_000, 0) }, b"");
        assert_eq!(RecordView::new_checked(&bytes).unwrap().first_bytes().as_slice(), b"HTTP/1.0 204");
    }

    #[test]
    fn what_is_not_a_record_is_refused_with_the_reason() {
        let whole = entry(&header(1, 5, 5), b"GET /");
        assert_eq!(RecordView::new_checked(&[]).unwrap_err(), RecordError::Short { have: 0 });
        assert_eq!(RecordView::new_checked(&whole[..79]).unwrap_err(), RecordError::Short { have: 79 });
        assert_eq!(
            RecordView::new_checked(&whole[..84]).unwrap_err(),
            RecordError::Overrun { captured: 5, have: 4 }
        );
        let huge = entry(&header(1, u32::MAX, u32::MAX), b"GET /");
        assert_eq!(
            RecordView::new_checked(&huge).unwrap_err(),
            RecordError::Overrun { captured: u32::MAX, have: 5 }
        );
        for direction in [0, 3, 255] {
            let bytes = entry(&header(direction, 5, 5), b"GET /");
            assert_eq!(RecordView::new_checked(&bytes).unwrap_err(), RecordError::Direction(direction));
        }
        let cut = entry(&header(1, 9, 5), b"GET /");
        assert_eq!(RecordView::new_checked(&cut).unwrap_err(), RecordError::Cut { len: 9, captured: 5 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_view_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(view) = RecordView::new_checked(&bytes) {
                let segment = view.segment();
                prop_assert!(segment.payload.len() + RecordHeader::SIZE <= bytes.len());
            }
        }
    }

    #[test]
    fn the_seeds_of_packet_hold_a_record_of_each_direction() {
        let request = entry(&header(1, 5, 5), b"GET /");
        let response = entry(&RecordHeader { status: 204, ..header(2, 900, 0) }, b"");
        let seed = |record: Vec<u8>| [vec![0], record].concat();
        crate::testing::seeds::hold("packet", &[("request", seed(request)), ("response", seed(response))]);
    }
}
