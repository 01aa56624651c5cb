//! The bytes from one header on, with both their lengths.

use super::NoSegment;

/// What is left of a packet: what the file holds of it, and how much there was on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    pub(super) bytes: &'a [u8],
    /// At least as long as `bytes`.
    pub(super) wire: usize,
}

impl<'a> Layer<'a> {
    /// Bytes and the length that somebody claims they had.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], wire: usize) -> Self {
        Self { bytes, wire: wire.max(bytes.len()) }
    }

    /// The first `N` bytes.
    #[inline]
    pub(super) fn head<const N: usize>(&self) -> Result<&'a [u8; N], NoSegment> {
        match self.bytes.first_chunk() {
            Some(head) => Ok(head),
            // Not on the wire either: then it is no such header.
            None if self.wire < N => Err(NoSegment::Malformed),
            None => Err(NoSegment::Cut),
        }
    }

    /// What follows the first `n` bytes.
    #[inline]
    pub(super) fn skip(&self, n: usize) -> Result<Self, NoSegment> {
        match self.bytes.get(n..) {
            Some(bytes) => Ok(Self { bytes, wire: self.wire - n }),
            None if self.wire < n => Err(NoSegment::Malformed),
            None => Err(NoSegment::Cut),
        }
    }

    /// Without what follows the first `n` bytes on the wire: padding, trailers. If `n` is more than there was, the
    /// rest is known to be missing.
    #[inline]
    pub(super) fn limit(&self, n: usize) -> Self {
        Self { bytes: &self.bytes[..self.bytes.len().min(n)], wire: n }
    }
}

#[inline]
pub(super) fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}
