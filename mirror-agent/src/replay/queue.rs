//! The bytes a link has yet to write, and those it may have to write again.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Allocations larger than this are given back when a queue runs empty, bytes.
const KEEP_CAPACITY: usize = 4096;

/// A stream of bytes with three positions: `base <= written <= end`. What lies before `written` was written to the
/// socket and is kept only for a keep-alive race; what lies after it is still to be written.
///
/// Positions count from the first byte the link ever had, over all its connections.
#[derive(Debug, Default)]
pub(super) struct OutQueue {
    bytes: VecDeque<u8>,
    base: u64,
    written: u64,
}

impl OutQueue {
    /// Position of the first byte after the last one.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Position of the first byte that was not written yet.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes held, written or not.
    pub(super) fn held(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends a copy of `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.capacity() - self.bytes.len();
        if room < bytes.len() {
            // By a quarter and not to the double: what is set aside and not used counts against nothing.
            self.bytes.reserve_exact(bytes.len().max(self.bytes.len() / 4));
        }
        self.bytes.extend(bytes);
    }

    /// The bytes from `written` to `upto`, as at most two slices.
    pub(super) fn unsent(&self, upto: u64) -> [IoSlice<'_>; 2] {
        let from = index(self.written - self.base);
        let to = index(upto.clamp(self.written, self.end()) - self.base);
        let (front, back) = self.bytes.as_slices();
        let split = front.len();
        let first = front.get(from.min(split)..to.min(split)).unwrap_or_default();
        let second = back.get(from.saturating_sub(split)..to.saturating_sub(split)).unwrap_or_default();
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// `count` more bytes were written.
    pub(super) fn wrote(&mut self, count: u64) {
        self.written = (self.written + count).min(self.end());
    }

    /// `count` bytes were written that were never in the queue; everything in it must have been written before.
    pub(super) fn wrote_past(&mut self, count: u64) {
        debug_assert_eq!(self.written, self.end(), "bytes overtake the queue");
        self.release(self.written);
        self.base += count;
        self.written += count;
    }

    /// Forgets written bytes before `position`.
    pub(super) fn release(&mut self, position: u64) {
        let gone = index(position.min(self.written).saturating_sub(self.base)).min(self.bytes.len());
        if gone == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_CAPACITY {
                self.bytes = VecDeque::new();
            }
        } else {
            self.bytes.drain(..gone);
        }
        self.base += gone as u64;
    }

    /// Cuts off what lies at and after `position`, which must not have been written.
    pub(super) fn truncate(&mut self, position: u64) {
        debug_assert!(position >= self.written, "cuts off bytes that were written");
        self.bytes.truncate(index(position.saturating_sub(self.base)));
    }

    /// Everything from `position` on is to be written again.
    pub(super) fn rewind(&mut self, position: u64) {
        debug_assert!(position >= self.base, "rewinds to bytes that are gone");
        self.written = position.max(self.base).min(self.written);
    }

    /// Forgets everything up to `position`, written or not.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.written = self.written.max(position.min(self.end()));
        self.release(position);
    }
}

/// A distance within the queue as an index; a queue never holds more than fits into memory.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::OutQueue;

    fn unsent(queue: &OutQueue, upto: u64) -> Vec<u8> {
        queue.unsent(upto).iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn bytes_are_written_up_to_the_gate_and_kept_until_released() {
        let mut queue = OutQueue::default();
        queue.push(b"GET one");
        queue.push(b"GET two");
        assert_eq!(unsent(&queue, 7), b"GET one");
        queue.wrote(7);
        assert_eq!(unsent(&queue, 7), b"");
        assert_eq!(unsent(&queue, 99), b"GET two");
        queue.rewind(0);
        assert_eq!(unsent(&queue, 99), b"GET oneGET two");
        queue.wrote(14);
        queue.release(7);
        assert_eq!((queue.held(), queue.end()), (7, 14));
    }

    #[test]
    fn bytes_written_past_an_empty_queue_move_its_end() {
        let mut queue = OutQueue::default();
        queue.push(b"head");
        queue.wrote(4);
        queue.wrote_past(100);
        assert_eq!((queue.held(), queue.written(), queue.end()), (0, 104, 104));
        queue.push(b"rest");
        assert_eq!(unsent(&queue, 108), b"rest");
    }

    #[test]
    fn truncating_and_skipping_keep_positions() {
        let mut queue = OutQueue::default();
        queue.push(b"aaaabbbb");
        queue.truncate(4);
        assert_eq!(queue.end(), 4);
        queue.push(b"cc");
        queue.skip_to(4);
        assert_eq!((queue.written(), unsent(&queue, 6)), (4, b"cc".to_vec()));
    }

    #[test]
    fn a_queue_that_wrapped_gives_its_bytes_in_order() {
        let mut queue = OutQueue::default();
        let mut expect = 0u8;
        for round in 0..200u64 {
            queue.push(&[0, 1, 2].map(|i| ((round * 3 + i) % 251) as u8));
            if round % 3 != 0 {
                continue;
            }
            for byte in unsent(&queue, u64::MAX) {
                assert_eq!(byte, expect);
                expect = (expect + 1) % 251;
            }
            queue.wrote(u64::MAX / 2);
            queue.release(queue.written());
        }
    }
}
