//! The frames that a client sends on a WebSocket connection (RFC 6455 section 5), counted as they pass.
//!
//! Nothing is unmasked or put together: who replays them sends the bytes on as they are. The reader finds where frames
//! begin and end, and refuses what a client may not send, because then the place in the stream is not what it seems.

/// Longest frame header of a client: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// A place in the frames of one client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    header: [u8; LONGEST_HEADER],
    have: u8,
    /// Payload of the current frame that is still to come.
    left: u64,
    /// A message was begun and goes on in continuation frames.
    fragmented: bool,
    /// A close frame was begun.
    closing: bool,
}

/// What a piece of the stream held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes that belong to frames; fewer than were given if the next cannot stand there.
    pub(super) taken: usize,
    /// Frames that ended.
    pub(super) frames: u64,
    /// Payload bytes.
    pub(super) payload: u64,
}

mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

impl Frames {
    /// Goes over the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while seen.taken < bytes.len() {
            let rest = &bytes[seen.taken..];
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= here as u64;
                seen.taken += here;
                seen.payload += here as u64;
                seen.frames += u64::from(self.left == 0);
                continue;
            }
            if (self.closing && self.have == 0) || !self.header_byte(rest[0]) {
                return seen;
            }
            seen.taken += 1;
            let header = &self.header[..usize::from(self.have)];
            if let Some(left) = payload_len(header) {
                self.have = 0;
                self.left = left;
                seen.frames += u64::from(left == 0);
            }
        }
        seen
    }

    /// The client sent a close frame: nothing may follow it (section 5.5.1).
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Takes a byte of a frame header. False if it cannot stand there.
    fn header_byte(&mut self, byte: u8) -> bool {
        let at = usize::from(self.have);
        let sound = match at {
            0 => {
                let last = byte & 0x80 != 0;
                // The three reserved bits belong to extensions, whose agreement is not seen.
                let sound = match byte & 0xf {
                    opcode::CONTINUATION => self.fragmented,
                    opcode::TEXT | opcode::BINARY => !self.fragmented,
                    opcode::CLOSE | opcode::PING | opcode::PONG => last,
                    _ => false,
                };
                if sound && byte & 0xf <= opcode::BINARY {
                    self.fragmented = !last;
                }
                self.closing |= sound && byte & 0xf == opcode::CLOSE;
                sound
            }
            // Clients mask; control frames are short (sections 5.1 and 5.5).
            1 => byte & 0x80 != 0 && (self.header[0] & 0x8 == 0 || byte & 0x7f <= 125),
            // The first bit of a length of 64 bits is 0.
            2 => self.header[1] & 0x7f != 127 || byte < 0x80,
            // A length takes the fewest bytes that hold it (section 5.2).
            3 if self.header[1] & 0x7f == 126 => self.header[2] > 0 || byte > 125,
            7 if self.header[1] & 0x7f == 127 => byte > 0 || self.header[2..7].iter().any(|&b| b > 0),
            _ => true,
        };
        if let Some(place) = self.header.get_mut(at)
            && sound
        {
            *place = byte;
            self.have += 1;
        }
        sound
    }
}

/// Length of the payload, once the header is whole.
fn payload_len(header: &[u8]) -> Option<u64> {
    let short = header.get(1)? & 0x7f;
    let (len, bytes) = match short {
        126 => (u16::from_be_bytes(*header.get(2..)?.first_chunk()?).into(), 8),
        127 => (u64::from_be_bytes(*header.get(2..)?.first_chunk()?), LONGEST_HEADER),
        len => (len.into(), 6),
    };
    (header.len() == bytes).then_some(len)
}

/// Whether `bytes` begin as the first frame of a client does: for a client whose handshake was not seen to be answered. No
/// request begins with such a byte.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let mut frames = Frames::default();
    let header = &bytes[..bytes.len().min(2)];
    // Compression is the only extension in use, and it has the first of the reserved bits.
    frames.feed(header).taken == header.len() && header.first().is_none_or(|byte| byte & 0x30 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Frames, Seen, may_begin};

    /// A masked frame of a client.
    fn frame(first: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match len {
            0..=125 => bytes.push(0x80 | len as u8),
            126..=65_535 => {
                bytes.push(0xfe);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(std::iter::repeat_n(b'x', len));
        bytes
    }

    /// What is seen of `bytes` whole, and the same in pieces.
    fn feed(bytes: &[u8]) -> (Seen, Frames) {
        let mut frames = Frames::default();
        let whole = frames.feed(bytes);
        for cut in [1, 2, 3, 7] {
            let mut pieces = Frames::default();
            let mut sum = Seen::default();
            for piece in bytes.chunks(cut) {
                let seen = pieces.feed(piece);
                sum.taken += seen.taken;
                sum.frames += seen.frames;
                sum.payload += seen.payload;
                if seen.taken < piece.len() {
                    break;
                }
            }
            assert_eq!(sum, whole, "cut into {cut}");
            assert_eq!(pieces.is_closing(), frames.is_closing());
        }
        (whole, frames)
    }

    #[test]
    fn frames_of_every_length_are_counted() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let bytes = [frame(0x82, len), frame(0xc1, 3)].concat();
            let seen = feed(&bytes).0;
            assert_eq!(seen, Seen { taken: bytes.len(), frames: 2, payload: len as u64 + 3 }, "{len}");
        }
    }

    #[test]
    fn control_frames_may_stand_between_the_frames_of_a_message() {
        let bytes =
            [frame(1, 2), frame(0x89, 4), frame(0, 3), frame(0x8a, 0), frame(0x80, 1), frame(0x81, 1)];
        let seen = feed(&bytes.concat()).0;
        assert_eq!((seen.taken, seen.frames, seen.payload), (bytes.concat().len(), 6, 11));
    }

    #[test]
    fn a_close_frame_is_the_last() {
        let close = frame(0x88, 2);
        let (seen, frames) = feed(&close);
        assert!(frames.is_closing());
        assert_eq!((seen.taken, seen.frames), (close.len(), 1));
        let (seen, _) = feed(&[close.clone(), frame(0x81, 1)].concat());
        assert_eq!((seen.taken, seen.frames), (close.len(), 1));
    }

    #[test]
    fn what_a_client_may_not_send_is_refused_where_it_stands() {
        let bad = |bytes: &[u8], taken: usize| {
            assert_eq!(feed(bytes).0.taken, taken, "{}", bytes.escape_ascii());
        };
        bad(b"\x81\x05hello", 1); // not masked
        bad(b"\x83\x80", 0); // reserved opcode
        bad(b"\x8b\x80", 0);
        bad(b"\x80\x80", 0); // continues nothing
        bad(&[frame(1, 1), frame(1, 1)].concat(), frame(1, 1).len()); // a message within a message
        bad(b"\x09\x80", 0); // a control frame in parts
        bad(b"\x89\xfe\0\x7e", 1); // a long control frame
        bad(b"\x82\xfe\0\x7d1234", 3); // a length that needs fewer bytes
        bad(b"\x82\xff\0\0\0\0\0\0\xff\xff1234", 7);
        bad(b"\x82\xff\x80\0\0\0\0\0\0\x01", 2); // a negative length
        bad(b"GET / HTTP/1.1\r\n", 0);
    }

    #[test]
    fn the_first_two_bytes_tell_a_frame_from_a_request() {
        assert!(
            may_begin(&frame(0x81, 5))
                && may_begin(&frame(0x02, 5))
                && may_begin(&frame(0xc2, 5))
                && may_begin(b"\x81")
        );
        for no in [&b"GET /"[..], b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\r\n", b"\x81\x05hello", b"\xa1\x85"]
        {
            assert!(!may_begin(no), "{}", no.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_whole_and_in_pieces(
            parts in prop::collection::vec((any::<u8>(), 0usize..300), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|&(first, len)| frame(first & 0x8f, len)).collect();
            bytes.extend(noise);
            prop_assert!(feed(&bytes).0.taken <= bytes.len());
        }
    }
}
