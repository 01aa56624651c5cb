//! Telling that a connection whose beginning was not seen speaks HTTP/2.
//!
//! Its requests cannot be read, because nobody knows the compression state; but an operator must be told that the clients
//! have to reconnect. So segments are taken for frames from their first byte on, and as long as frame follows frame
//! without a fault the guess stands. Of random bytes one in some hundred thousand reads like a frame header, so three in a
//! row are taken for proof. Still it is only a name for bytes that are part of no request: the search for an HTTP/1
//! request goes on, so that an upload of recorded frames does not cost a connection.

use super::frame::{HEADER, Head, flag, kind};

/// Frames in a row.
const PROOF: u8 = 3;
/// Longest DATA frame that counts: what servers commonly allow at most.
const LONG_DATA: u32 = 1 << 20;
/// Longest other frame that counts: all that is allowed without a word of the server.
const LONG: u32 = 16_384;

/// A guess that goes on from segment to segment.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::http) struct Pickup {
    /// A chain of frames was begun.
    chained: bool,
    /// Payload of the current frame that is still to come.
    left: u32,
    header: [u8; HEADER],
    have: u8,
    frames: u8,
    /// The stream of a header block that goes on.
    block: Option<u32>,
}

impl Pickup {
    /// Looks at the next bytes. True once they are proved to be frames.
    pub(in crate::http) fn look(&mut self, bytes: &[u8], segment_start: bool) -> bool {
        if !self.chained {
            if !segment_start {
                return false;
            }
            *self = Self { chained: true, ..Self::default() };
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let passed = rest.len().min(self.left as usize);
            self.left -= passed as u32;
            rest = &rest[passed..];
            let have = usize::from(self.have);
            let taken = rest.len().min(HEADER - have);
            self.header[have..have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken as u8;
            rest = &rest[taken..];
            if usize::from(self.have) == HEADER {
                self.have = 0;
                if !self.follows(Head::parse(self.header), self.header[5] < 0x80) {
                    *self = Self::default();
                    return false;
                }
                self.frames += 1;
                if self.frames == PROOF {
                    return true;
                }
            }
        }
        false
    }

    /// Bytes are missing.
    pub(in crate::http) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether a client that follows the rules may send such a frame next.
    fn follows(&mut self, head: Head, reserved_unset: bool) -> bool {
        let Head { len, kind, flags, stream } = head;
        self.left = len;
        let odd = !stream.is_multiple_of(2);
        let only = |allowed: u8| flags & !allowed == 0;
        let continues = self.block.take();
        if kind == kind::HEADERS || kind == kind::CONTINUATION {
            self.block = Some(stream).filter(|_| !head.has(flag::END_HEADERS));
        }
        let sound = match kind {
            kind::DATA => odd && only(flag::END_STREAM | flag::PADDED) && len <= LONG_DATA,
            kind::HEADERS => {
                let flags = flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
                odd && only(flags) && (1..=LONG).contains(&len)
            }
            kind::PRIORITY => odd && flags == 0 && len == 5,
            kind::RST_STREAM => stream != 0 && flags == 0 && len == 4,
            kind::SETTINGS => {
                stream == 0
                    && if flags == flag::ACK { len == 0 } else { flags == 0 && len % 6 == 0 && len <= LONG }
            }
            kind::PING => stream == 0 && only(flag::ACK) && len == 8,
            kind::GOAWAY => stream == 0 && flags == 0 && (8..=LONG).contains(&len),
            kind::WINDOW_UPDATE => flags == 0 && len == 4,
            kind::CONTINUATION => continues == Some(stream) && only(flag::END_HEADERS) && len <= LONG,
            _ => false,
        };
        sound && reserved_unset && (kind == kind::CONTINUATION) == continues.is_some()
    }
}
