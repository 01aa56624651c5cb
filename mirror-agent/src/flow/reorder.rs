//! What waits behind a hole, and which holes were given up.

use std::collections::VecDeque;
use std::ops::Range;

use smallvec::SmallVec;

use crate::packet::Seq;

/// Memory that one waiting piece costs beside its bytes: its place in the queue (which may be half empty) and the
/// allocator's own.
pub(super) const PIECE_OVERHEAD: usize = 128;

/// How many of the last given-up holes a stream remembers, to tell late bytes from duplicates.
pub(super) const GAPS_REMEMBERED: usize = 4;

/// Bytes of one segment that no other copy covered when it came.
#[derive(Debug)]
pub(super) struct Piece {
    /// Stream position of the first byte.
    pub(super) pos: u64,
    /// Never empty.
    pub(super) bytes: Box<[u8]>,
    /// Kernel time of the segment, ns.
    pub(super) time: u64,
    /// The table's time when it came, ns: in a capture file, later than its own if the file goes back in time.
    pub(super) came: u64,
    /// Acknowledgement number of the segment.
    pub(super) ack: Option<Seq>,
    /// The piece begins where the segment's payload began.
    pub(super) segment_start: bool,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.pos + self.bytes.len() as u64
    }
}

/// The pieces of one stream, sorted by position, none overlapping another.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    pieces: VecDeque<Piece>,
    bytes: usize,
    // Oldest first, disjoint, never touching.
    gaps: VecDeque<Range<u64>>,
    /// The other side has everything before this position, and said so at this time, ns. Only in a patient table, only
    /// while something before it is missing.
    pub(super) acked: Option<(u64, u64)>,
    /// See `Stream::is_unsettled`.
    pub(super) unsettled: bool,
    /// See `Stream::is_parting`.
    pub(super) parting: bool,
}

impl Reorder {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The piece with the lowest position.
    pub(super) fn first(&self) -> Option<&Piece> {
        self.pieces.front()
    }

    /// Position after the last waiting byte.
    pub(super) fn end(&self) -> Option<u64> {
        self.pieces.back().map(Piece::end)
    }

    /// Waiting pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Waiting bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of the waiting pieces, overhead included.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.pieces.len() * PIECE_OVERHEAD
    }

    /// The parts of `range` that no piece covers, in order.
    pub(super) fn missing(&self, range: Range<u64>) -> SmallVec<[Range<u64>; 4]> {
        let mut missing = SmallVec::new();
        let mut at = range.start;
        let from = self.pieces.partition_point(|piece| piece.end() <= range.start);
        for piece in self.pieces.range(from..) {
            if piece.pos >= range.end {
                break;
            }
            if at < piece.pos {
                missing.push(at..piece.pos);
            }
            at = piece.end();
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// Adds a piece that overlaps none.
    pub(super) fn insert(&mut self, piece: Piece) {
        let at = self.pieces.partition_point(|other| other.pos < piece.pos);
        debug_assert!(self.pieces.get(at).is_none_or(|next| piece.end() <= next.pos));
        debug_assert!(at == 0 || self.pieces[at - 1].end() <= piece.pos);
        self.bytes += piece.bytes.len();
        self.pieces.insert(at, piece);
    }

    /// Takes out the first piece if it begins at `pos`.
    pub(super) fn take_at(&mut self, pos: u64) -> Option<Piece> {
        let piece = self.pieces.pop_front_if(|piece| piece.pos == pos)?;
        self.bytes -= piece.bytes.len();
        if self.pieces.is_empty() {
            // An idle flow keeps no memory for a burst that is over.
            self.pieces = VecDeque::new();
        }
        Some(piece)
    }

    /// Remembers a hole that was given up. Holes come in ascending order.
    pub(super) fn remember_gap(&mut self, gap: Range<u64>) {
        if let Some(last) = self.gaps.back_mut()
            && last.end == gap.start
        {
            last.end = gap.end;
            return;
        }
        if self.gaps.len() == GAPS_REMEMBERED {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    /// How many bytes of `range` lie in remembered holes.
    pub(super) fn late_bytes(&self, range: &Range<u64>) -> u64 {
        self.gaps.iter().map(|gap| gap.end.min(range.end).saturating_sub(gap.start.max(range.start))).sum()
    }
}
