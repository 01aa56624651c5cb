//! Packets on their way to a file, and what they say of the bytes.

use mirror_common::record::Direction;

use super::{Books, LeftOut};
use crate::capture::{Encoder, TcpPacket};
use crate::packet::Segment;

/// Bytes of request payload that were decided on and are not booked yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// In packets that wait to be written.
    pub(super) written: u64,
    left_out: [u64; LeftOut::ALL.len()],
    /// Change of what waits for a decision.
    pub(super) buffered: i64,
}

impl Tally {
    pub(super) fn leave_out(&mut self, why: LeftOut, bytes: u64) {
        if let Some(sum) = self.left_out.get_mut(why as usize) {
            *sum += bytes;
        }
    }

    /// The packets that waited were not written.
    pub(super) fn fail(&mut self, why: LeftOut) {
        let bytes = std::mem::take(&mut self.written);
        self.leave_out(why, bytes);
    }
}

/// Packets that wait to be written.
pub(super) struct Out {
    encoder: Encoder,
    offset: i64,
    /// Whole blocks.
    pub(super) bytes: Vec<u8>,
    pub(super) tally: Tally,
}

impl Out {
    pub(super) fn new(encoder: Encoder, offset: i64) -> Self {
        Self { encoder, offset, bytes: Vec::new(), tally: Tally::default() }
    }

    /// A segment as it came, of which `bytes` are known.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, bytes: &[u8]) {
        let (src, dst) = match segment.direction {
            Direction::Request => (segment.flow.client, segment.flow.primary),
            Direction::Response => (segment.flow.primary, segment.flow.client),
        };
        self.packet(&TcpPacket {
            time: segment.time,
            src,
            dst,
            seq: segment.seq.0,
            ack: segment.ack.map_or(0, |ack| ack.0),
            flags: segment.flags.0,
            window: segment.window,
            len: segment.len,
            bytes,
        });
    }

    /// A packet at a time of the kernel.
    pub(super) fn packet(&mut self, packet: &TcpPacket<'_>) {
        let time = packet.time.saturating_add_signed(self.offset);
        self.encoder.packet(&TcpPacket { time, ..*packet }, &mut self.bytes);
    }

    /// Books what was decided, and begins anew.
    pub(super) fn take(&mut self, books: &Books) {
        let Tally { written, left_out, buffered } = std::mem::take(&mut self.tally);
        books.written.add(written);
        for (counter, bytes) in books.left_out.iter().zip(left_out) {
            counter.add(bytes);
        }
        books.buffered.shift(buffered);
        self.bytes.clear();
        // What was released from behind a large hole is not kept room for.
        self.bytes.shrink_to(2 * super::FLUSH_BYTES);
    }
}
