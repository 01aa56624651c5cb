//! IP fragments put together (RFC 791 section 3.2, RFC 8200 section 4.5), in bounded memory and time.

use std::collections::{BTreeMap, VecDeque};

use super::NoSegment;
use super::layer::Layer;
use super::network::Ends;

/// Longest payload of a datagram that can be in fragments, bytes: offsets have 16 bits.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams that are gone and may still stand in the order of arrival.
const SLACK: usize = 1_024;
/// What one fragment costs beside its bytes.
const PIECE_OVERHEAD: usize = 64;

/// How much may wait, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Memory for fragments of datagrams that are not whole, bytes, 64 of overhead for each included. Over it the
    /// oldest datagram is given up. Default 4 MiB.
    pub fragment_bytes: usize,
    /// How long a datagram may take from its first fragment to its last, ns of the file's time. Default 30 s.
    pub fragment_timeout_ns: u64,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self { fragment_bytes: 4 << 20, fragment_timeout_ns: 30_000_000_000 }
    }
}

/// Fragments that became no datagram, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentsLost {
    /// The rest did not come in time, or not at all.
    pub timeout: u64,
    /// They made room for younger ones.
    pub memory: u64,
    /// They overlap another fragment of the same datagram (RFC 5722 forbids it; nobody does it for a good reason).
    pub overlap: u64,
}

/// One fragment and where it belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) ends: Ends,
    pub(super) id: u32,
    pub(super) protocol: u8,
    /// Offset in the datagram.
    pub(super) start: usize,
    pub(super) more: bool,
    pub(super) rest: Layer<'a>,
}

/// What all fragments of a datagram agree in.
type Key = (Ends, u32, u8);

/// Datagrams that are not whole.
#[derive(Debug)]
pub(super) struct Fragments {
    limits: FragmentLimits,
    datagrams: BTreeMap<Key, Datagram>,
    /// When each was begun. A key may stand here after its datagram is gone.
    order: VecDeque<(u64, Key)>,
    memory: usize,
    pub(super) reassembled: u64,
    lost: FragmentsLost,
}

#[derive(Debug)]
struct Datagram {
    begun: u64,
    /// By offset, disjoint.
    pieces: BTreeMap<usize, Piece>,
    /// Known from the last fragment.
    length: Option<usize>,
    /// Sum of the pieces' lengths on the wire.
    covered: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    wire: usize,
}

impl Fragments {
    pub(super) fn new(limits: FragmentLimits) -> Self {
        Self {
            limits,
            datagrams: BTreeMap::new(),
            order: VecDeque::new(),
            memory: 0,
            reassembled: 0,
            lost: FragmentsLost::default(),
        }
    }

    pub(super) fn lost(&self) -> FragmentsLost {
        let waiting: usize = self.datagrams.values().map(|datagram| datagram.pieces.len()).sum();
        FragmentsLost { timeout: self.lost.timeout + waiting as u64, ..self.lost }
    }

    /// Takes a fragment in. If it completes its datagram, `whole` becomes the datagram's payload, as much as the file
    /// holds of it from its beginning on, and the result its length on the wire.
    pub(super) fn add(
        &mut self,
        fragment: &Fragment<'_>,
        now: u64,
        whole: &mut Vec<u8>,
    ) -> Result<Option<usize>, NoSegment> {
        let Fragment { start, more, rest, .. } = *fragment;
        let end = start + rest.wire;
        // Only the last may have a length that offsets cannot count.
        if rest.wire == 0 || end > MAX_DATAGRAM || (more && !rest.wire.is_multiple_of(8)) {
            return Err(NoSegment::Malformed);
        }
        self.expire(now);
        let key = (fragment.ends, fragment.id, fragment.protocol);
        let datagram = self.datagrams.entry(key).or_insert_with(|| {
            self.order.push_back((now, key));
            Datagram { begun: now, pieces: BTreeMap::new(), length: None, covered: 0 }
        });
        let before = datagram.pieces.range(..=start).next_back();
        if let Some((&at, piece)) = before
            && at == start
            && piece.wire == rest.wire
        {
            // The same packet at two points of the network, or sent again.
            return Ok(None);
        }
        let overlaps = before.is_some_and(|(at, piece)| at + piece.wire > start)
            || datagram.pieces.range(start..).next().is_some_and(|(&at, _)| at < end)
            || datagram.length.is_some_and(|length| end > length || (!more && end != length))
            || (!more && datagram.pieces.last_key_value().is_some_and(|(at, piece)| at + piece.wire > end));
        if overlaps {
            self.lost.overlap += self.forget(&key) + 1;
            return Ok(None);
        }
        if !more {
            datagram.length = Some(end);
        }
        datagram.covered += rest.wire;
        datagram.pieces.insert(start, Piece { bytes: rest.bytes.into(), wire: rest.wire });
        self.memory += rest.bytes.len() + PIECE_OVERHEAD;
        if datagram.length == Some(datagram.covered) {
            whole.clear();
            for piece in datagram.pieces.values() {
                whole.extend_from_slice(&piece.bytes);
                if piece.bytes.len() < piece.wire {
                    break;
                }
            }
            let length = datagram.covered;
            self.forget(&key);
            self.reassembled += 1;
            if self.order.len() > 2 * self.datagrams.len() + SLACK {
                let datagrams = &self.datagrams;
                self.order.retain(|(begun, key)| datagrams.get(key).is_some_and(|d| d.begun == *begun));
            }
            return Ok(Some(length));
        }
        while self.memory > self.limits.fragment_bytes {
            let Some((begun, key)) = self.order.pop_front() else { break };
            if self.datagrams.get(&key).is_some_and(|datagram| datagram.begun == begun) {
                self.lost.memory += self.forget(&key);
            }
        }
        Ok(None)
    }

    /// Gives up what has waited too long.
    fn expire(&mut self, now: u64) {
        while let Some(&(begun, key)) = self.order.front() {
            let gone = self.datagrams.get(&key).is_none_or(|datagram| datagram.begun != begun);
            if !gone && now.saturating_sub(begun) < self.limits.fragment_timeout_ns {
                break;
            }
            self.order.pop_front();
            if !gone {
                self.lost.timeout += self.forget(&key);
            }
        }
    }

    /// Drops a datagram and gives how many fragments it had.
    fn forget(&mut self, key: &Key) -> u64 {
        let Some(datagram) = self.datagrams.remove(key) else { return 0 };
        let bytes: usize = datagram.pieces.values().map(|piece| piece.bytes.len() + PIECE_OVERHEAD).sum();
        self.memory -= bytes;
        datagram.pieces.len() as u64
    }
}
