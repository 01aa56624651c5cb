//! One entry of a shard's ring: a [`RecordHeader`], then `captured` bytes of TCP payload.

use core::mem::{offset_of, size_of};

/// The most payload bytes one record carries. A longer segment (GSO, BIG TCP) becomes several records, each a
/// well-formed segment of its own: `seq` moves on, and FIN or RST is only on the last.
pub const MAX_CAPTURE: usize = 64 * 1024;

/// Which way a segment went, seen from the primary. Found from the addresses, never from the hook.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to primary.
    Request = 1,
    /// Primary to client.
    Response = 2,
}

impl Direction {
    /// The direction a header's `direction` byte names, `None` for any other value.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Request),
            2 => Some(Self::Response),
            _ => None,
        }
    }
}

/// TCP flag bits as they stand in byte 13 of the header (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
}

/// Bytes of a status line up to its status code: `HTTP/1.1 200`. A segment with fewer begins no response head that is told.
pub const STATUS_LINE: usize = 12;

/// The first bytes of a response segment, from `status` and `minor` of its record: the tap has read each of these bytes, so the
/// record need not carry them. `None` for a record that begins no response head.
#[must_use]
pub const fn status_line(status: u16, minor: u8) -> Option<[u8; STATUS_LINE]> {
    if status < 100 || status > 999 || !minor.is_ascii_digit() {
        return None;
    }
    let digits = [status / 100, status / 10 % 10, status % 10];
    let [a, b, c] = [b'0' + digits[0] as u8, b'0' + digits[1] as u8, b'0' + digits[2] as u8];
    Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', a, b, c])
}

/// Header of one ring entry. Addresses are in network order, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2);
/// all numbers are in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC` at the tap, ns (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Source address of the segment.
    pub src_addr: [u8; 16],
    /// Destination address of the segment.
    pub dst_addr: [u8; 16],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the SYN if there is one, else of the first payload byte of this record. So the payload of a SYN
    /// (TCP fast open, RFC 7413) begins at `seq + 1`.
    pub seq: u32,
    /// Acknowledgement number; meaningful only with [`tcp_flags::ACK`].
    pub ack: u32,
    /// TCP payload bytes this record stands for.
    pub len: u32,
    /// Payload bytes that follow the header: `len` in the request direction, 0 in the response direction. The ring's
    /// entry may be longer: entries come in sizes, and what stands behind is not cleared.
    pub captured: u32,
    /// Symmetric flow hash: the same for both directions of a connection.
    pub hash: u32,
    /// Interface index in the network namespace of the tap.
    pub ifindex: u32,
    /// Advertised window, unscaled.
    pub window: u16,
    /// Slot of the job that matched.
    pub job: u16,
    /// Status code of the response head this segment begins with, 0 if it begins with none. With it the first
    /// [`STATUS_LINE`] bytes of the segment are known, see [`status_line`].
    pub status: u16,
    /// TCP flags, see [`tcp_flags`].
    pub flags: u8,
    /// [`Direction`] as a number.
    pub direction: u8,
    /// Last digit of the version in the status line, as it stood there (ASCII); 0 without a status.
    pub minor: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

impl RecordHeader {
    /// Bytes of the header; the payload starts here.
    pub const SIZE: usize = size_of::<Self>();
}

const _: () = {
    assert!(RecordHeader::SIZE == 80);
    assert!(offset_of!(RecordHeader, src_addr) == 8);
    assert!(offset_of!(RecordHeader, src_port) == 40);
    assert!(offset_of!(RecordHeader, seq) == 44);
    assert!(offset_of!(RecordHeader, hash) == 60);
    assert!(offset_of!(RecordHeader, window) == 68);
    assert!(offset_of!(RecordHeader, flags) == 74);
    assert!(offset_of!(RecordHeader, minor) == 76);
    assert!(offset_of!(RecordHeader, reserved) == 77);
};

#[cfg(test)]
mod tests {
    use super::status_line;

    #[test]
    fn the_bytes_of_a_status_line_are_those_that_were_read() {
        assert_eq!(status_line(200, b'1'), Some(*b"HTTP/1.1 200"));
        assert_eq!(status_line(905, b'0'), Some(*b"HTTP/1.0 905"));
        for (status, minor) in [(0, 0), (200, 0), (99, b'1'), (1000, b'1'), (200, b'x')] {
            assert_eq!(status_line(status, minor), None, "{status} {minor}");
        }
    }
}
