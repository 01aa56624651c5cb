//! The reader of one shard's ring.
//!
//! The kernel's layout (`kernel/bpf/ringbuf.c`): a page with the consumer's position, writable; a page with the producer's
//! position; the data, and the data once more, so that a record that wraps lies in one piece. Each record has a head of 8
//! bytes: its length with a busy and a discard bit, and an offset that is the kernel's own. Records begin at multiples of 8.
//!
//! A mapped page counts in the process's RSS each time it is mapped. So of the second copy only as much is mapped as the
//! longest record needs.
#![allow(unsafe_code, reason = "bytes of records are read where the kernel wrote them")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use mirror_common::map::ShardState;
use mirror_common::record::{MAX_CAPTURE, RecordHeader};

use super::call::{self, Mapping};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEAD: usize = 8;
const LONGEST_RECORD: usize = RECORD_HEAD + RecordHeader::SIZE + MAX_CAPTURE;
/// Space goes back to the kernel after this part of the ring was read, so that it can be written while we read on.
const RELEASES_A_RING: usize = 8;

/// One shard's ring, and the words by which its reader and the tap talk about sleep. One reader; moves to its thread.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    /// Where the data begins in `producer`.
    data: usize,
    capacity: usize,
    /// Read up to here; what the kernel knows may lag behind within [`Ring::drain`].
    position: u64,
    states: Arc<Mapping>,
    shard: usize,
}

/// What one [`Ring::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed out.
    pub records: usize,
    /// Bytes of the ring that became free.
    pub bytes: usize,
    /// The budget ended before the records did.
    pub more: bool,
}

impl Ring {
    /// Takes over a ring map of `capacity` bytes.
    pub(super) fn new(fd: OwnedFd, capacity: usize, states: Arc<Mapping>, shard: usize) -> io::Result<Self> {
        let page = call::page_size();
        let window = LONGEST_RECORD.next_multiple_of(page).min(capacity);
        let consumer = Mapping::new(fd.as_fd(), 0, page, true)?;
        let producer = Mapping::new(fd.as_fd(), page, page + capacity + window, false)?;
        let position = consumer.u64_at(0).load(Ordering::Acquire);
        Ok(Self { fd, consumer, producer, data: page, capacity, position, states, shard })
    }

    /// Hands out records in order, until there are none or about `budget` bytes of the ring were read; at least one if
    /// there is one. Each slice is a [`RecordHeader`] and at least `captured` bytes behind it (records come in sizes), lies in
    /// the ring itself, and is the kernel's again when the call is over.
    pub fn drain(&mut self, budget: usize, mut each: impl FnMut(&[u8])) -> Drained {
        let mut drained = Drained::default();
        let mut unreleased = 0;
        let mut end = self.written();
        loop {
            if self.position == end {
                // Once more before saying that it is empty.
                end = self.written();
                if self.position == end {
                    break;
                }
            }
            if drained.bytes >= budget.max(1) {
                drained.more = true;
                break;
            }
            let at = self.data + self.offset();
            let head = self.producer.u32_at(at).load(Ordering::Acquire);
            if head & BUSY != 0 {
                // Reserved and being written; those behind it have to wait.
                break;
            }
            let len = (head & !DISCARDED) as usize;
            if head & DISCARDED == 0 {
                // SAFETY: a submitted record; the kernel does not write there before it is released, which is after this.
                each(unsafe { self.producer.bytes(at + RECORD_HEAD, len) });
                drained.records += 1;
            }
            let taken = (RECORD_HEAD + len).next_multiple_of(8);
            self.position = self.position.wrapping_add(taken as u64);
            drained.bytes += taken;
            unreleased += taken;
            if unreleased >= self.capacity / RELEASES_A_RING {
                self.release();
                unreleased = 0;
            }
        }
        if unreleased > 0 {
            self.release();
        }
        let pressed = self.word(offset_of!(ShardState, pressed));
        if pressed.load(Ordering::Relaxed) != 0 {
            pressed.store(0, Ordering::Relaxed);
        }
        drained
    }

    /// Bytes that wait to be read, heads of records and discarded ones included.
    #[must_use]
    pub fn fill(&self) -> usize {
        usize::try_from(self.written().wrapping_sub(self.position)).unwrap_or(self.capacity)
    }

    /// Bytes that the tap has taken since the ring exists, heads of records and discarded ones included.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.producer.u64_at(0).load(Ordering::Acquire)
    }

    /// Bytes the ring holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Says that the reader is going to wait for its descriptor: the next record wakes it. `false`: there is something to read
    /// already, do not wait.
    #[must_use]
    pub fn sleep(&self) -> bool {
        let asleep = self.word(offset_of!(ShardState, asleep));
        asleep.store(1, Ordering::Relaxed);
        // Either this look sees a record, or the tap, which looks at the word after a record, sees the word.
        fence(Ordering::SeqCst);
        if self.written() == self.position {
            return true;
        }
        asleep.store(0, Ordering::Relaxed);
        false
    }

    /// Says that the reader is up and needs no wake-up for single records.
    pub fn wake(&self) {
        self.word(offset_of!(ShardState, asleep)).store(0, Ordering::Relaxed);
    }

    /// Shard that this ring is of.
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.shard
    }

    fn release(&self) {
        self.consumer.u64_at(0).store(self.position, Ordering::Release);
    }

    /// Where the next record's head is in the data: capacities are powers of two.
    #[allow(clippy::cast_possible_truncation, reason = "masked to the capacity, which is a usize")]
    fn offset(&self) -> usize {
        (self.position & (self.capacity as u64 - 1)) as usize
    }

    fn word(&self, field: usize) -> &AtomicU32 {
        self.states.u32_at(self.shard * size_of::<ShardState>() + field)
    }
}

/// Readable when the tap woke the reader. Wait for it edge-triggered (`EPOLLET`): the tap does not wake for each record,
/// but a level-triggered wait would see each.
impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
