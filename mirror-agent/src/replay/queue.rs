//! The bytes a link has yet to write, and those it may have to write again.

use std::collections::VecDeque;
use std::io::IoSlice;

use smallvec::SmallVec;

/// Most bytes of a block.
const BLOCK_BYTES: usize = 64 * 1024;
/// A block larger than this is given back when a queue runs empty, bytes.
const KEEP_CAPACITY: usize = 4096;
/// Most slices, and so blocks, that one write takes.
pub(super) const MAX_SLICES: usize = 16;

/// What one write takes.
pub(super) type Slices<'a> = SmallVec<[IoSlice<'a>; 4]>;

/// A stream of bytes with three positions: `base <= written <= end`. What lies before `written` was written to the
/// socket and is kept only for a keep-alive race; what lies after it is still to be written.
///
/// Positions count from the first byte the link ever had, over all its connections.
///
/// The bytes lie in blocks, so that a queue that grows to megabytes is not copied while it does, takes little more memory than it
/// holds, and gives back what was written.
#[derive(Debug, Default)]
pub(super) struct OutQueue {
    /// All but the last are full; none is empty but one that is kept.
    blocks: VecDeque<Vec<u8>>,
    /// Bytes of the first block that are forgotten.
    skip: usize,
    held: usize,
    base: u64,
    written: u64,
}

impl OutQueue {
    /// Position of the first byte after the last one.
    pub(super) fn end(&self) -> u64 {
        self.base + self.held as u64
    }

    /// Position of the first byte that was not written yet.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes held, written or not.
    pub(super) fn held(&self) -> u64 {
        self.held as u64
    }

    /// Appends a copy of `bytes`.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.held += bytes.len();
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|last| last.len() == BLOCK_BYTES) {
                self.blocks.push_back(Vec::new());
            }
            let Some(last) = self.blocks.back_mut() else { return };
            let (here, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - last.len()));
            if last.capacity() - last.len() < here.len() {
                let double = last.len().min(BLOCK_BYTES - last.len());
                last.reserve_exact(here.len().max(double));
            }
            last.extend_from_slice(here);
            bytes = rest;
        }
    }

    /// The bytes from `written` to `upto`, as far as one write takes them.
    pub(super) fn unsent(&self, upto: u64) -> Slices<'_> {
        let mut from = index(self.written - self.base) + self.skip;
        let mut to = index(upto.clamp(self.written, self.end()) - self.base) + self.skip;
        let mut slices = Slices::new();
        for block in &self.blocks {
            if from < to && from < block.len() {
                slices.push(IoSlice::new(block.get(from..to.min(block.len())).unwrap_or_default()));
            }
            from = from.saturating_sub(block.len());
            to = to.saturating_sub(block.len());
            if to == 0 || slices.len() == MAX_SLICES {
                break;
            }
        }
        slices
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
        let gone = index(position.min(self.written).saturating_sub(self.base)).min(self.held);
        self.base += gone as u64;
        self.held -= gone;
        self.skip += gone;
        if self.held == 0 {
            return self.keep_one();
        }
        while let Some(first) = self.blocks.front()
            && self.skip >= first.len()
        {
            self.skip -= first.len();
            self.blocks.pop_front();
        }
    }

    /// Cuts off what lies at and after `position`, which must not have been written.
    pub(super) fn truncate(&mut self, position: u64) {
        debug_assert!(position >= self.written, "cuts off bytes that were written");
        self.held = index(position.saturating_sub(self.base)).min(self.held);
        if self.held == 0 {
            return self.keep_one();
        }
        let mut left = self.skip + self.held;
        let mut blocks = 0;
        for block in &mut self.blocks {
            block.truncate(left);
            left -= block.len();
            blocks += usize::from(!block.is_empty());
        }
        self.blocks.truncate(blocks);
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

    /// Nothing is held: a small block stays, for the next small copy.
    fn keep_one(&mut self) {
        self.skip = 0;
        self.blocks.truncate(1);
        if self.blocks.front().is_some_and(|block| block.capacity() > KEEP_CAPACITY) {
            self.blocks = VecDeque::new();
        } else if let Some(block) = self.blocks.front_mut() {
            block.clear();
        }
    }
}

/// A distance within the queue as an index; a queue never holds more than fits into memory.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{BLOCK_BYTES, KEEP_CAPACITY, MAX_SLICES, OutQueue};

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

    /// What may be done to a queue; numbers are lengths, or shares of 255 of what is there.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Push(usize),
        Wrote(u8),
        Release(u8),
        Truncate(u8),
        Rewind(u8),
        SkipTo(u8),
        Past(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let len = prop_oneof![0..200_usize, BLOCK_BYTES - 2..BLOCK_BYTES + 2, 0..3 * BLOCK_BYTES];
        prop_oneof![
            4 => len.clone().prop_map(Act::Push),
            3 => any::<u8>().prop_map(Act::Wrote),
            2 => any::<u8>().prop_map(Act::Release),
            1 => any::<u8>().prop_map(Act::Truncate),
            1 => any::<u8>().prop_map(Act::Rewind),
            1 => any::<u8>().prop_map(Act::SkipTo),
            1 => len.prop_map(Act::Past),
        ]
    }

    proptest! {
        #[test]
        fn a_queue_of_blocks_is_a_queue_of_bytes(acts in prop::collection::vec(act(), 0..30)) {
            let mut queue = OutQueue::default();
            // The model: the bytes from `base` on, and how many of them are written.
            let (mut model, mut base, mut done) = (VecDeque::new(), 0_u64, 0_usize);
            let mut next = 0_u32;
            let share = |part: u8, of: usize| of * usize::from(part) / 255;
            for act in acts {
                match act {
                    Act::Push(len) => {
                        let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_mul(77).wrapping_add(1); (next >> 8) as u8 }).collect();
                        queue.push(&bytes);
                        model.extend(bytes);
                    }
                    Act::Wrote(part) => {
                        let count = share(part, model.len() - done);
                        queue.wrote(count as u64);
                        done += count;
                    }
                    Act::Release(part) => {
                        let count = share(part, done);
                        queue.release(base + count as u64);
                        model.drain(..count);
                        (base, done) = (base + count as u64, done - count);
                    }
                    Act::Truncate(part) => {
                        let keep = done + share(part, model.len() - done);
                        queue.truncate(base + keep as u64);
                        model.truncate(keep);
                    }
                    Act::Rewind(part) => {
                        done = share(part, done);
                        queue.rewind(base + done as u64);
                    }
                    Act::SkipTo(part) => {
                        let count = share(part, model.len());
                        queue.skip_to(base + count as u64);
                        model.drain(..count);
                        (base, done) = (base + count as u64, done.saturating_sub(count));
                    }
                    Act::Past(len) if done == model.len() => {
                        queue.wrote_past(len as u64);
                        base += (done + len) as u64;
                        model.clear();
                        done = 0;
                    }
                    Act::Past(_) => {}
                }
                prop_assert_eq!((queue.held(), queue.written()), (model.len() as u64, base + done as u64));
                prop_assert_eq!(queue.end(), base + model.len() as u64);
                let whole: Vec<u8> = model.iter().skip(done).copied().collect();
                let slices = queue.unsent(u64::MAX);
                let sent = unsent(&queue, u64::MAX);
                prop_assert!(whole.starts_with(&sent));
                prop_assert!(sent.len() == whole.len() || slices.len() == MAX_SLICES);
                prop_assert!(slices.iter().all(|slice| !slice.is_empty()));
                let half = base + (done + whole.len() / 2) as u64;
                prop_assert!(unsent(&queue, half).len() <= whole.len() / 2);
                let capacity: usize = queue.blocks.iter().map(Vec::capacity).sum();
                prop_assert!(capacity <= model.len() + 2 * BLOCK_BYTES);
                prop_assert!(!model.is_empty() || capacity <= KEEP_CAPACITY);
            }
        }
    }
}
