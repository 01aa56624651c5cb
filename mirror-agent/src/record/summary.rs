//! The numbers of a recording at one moment.

use mirror_common::counter::{JobCounters, TapCounter, TapCounters};
use serde::Serialize;

use super::{Books, LeftOut, Written};
use crate::stats::snapshot::Counts;

/// Payload bytes of the request direction, and what became of them.
#[derive(Clone, Debug, Serialize)]
pub struct Bytes {
    /// That passed the tap.
    pub matched: u64,
    /// In files, as they were.
    pub written: u64,
    /// That found no room in a ring.
    pub lost_in_ring: u64,
    /// By [`LeftOut`].
    pub left_out: Counts,
    /// Waiting for a decision; 0 at rest.
    pub buffered: u64,
}

/// All numbers of a recording. Serialises to the JSON of its lines.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Seconds since it began.
    pub uptime_s: f64,
    /// Segments that were read from the rings: with payload, or such as open or end a connection, or begin an answer.
    pub segments: u64,
    /// Of these, beginnings of answers.
    pub answers: u64,
    /// Segments that found no room in a ring.
    pub lost: u64,
    /// Bytes of requests.
    pub bytes: Bytes,
    /// Files.
    pub files: Written,
    /// Entries of rings that are no records: a defect.
    pub bad_records: u64,
    /// What the tap did with packets.
    pub tap: Counts,
    /// Whether every byte has exactly one outcome; true at rest.
    pub laws_hold: bool,
}

impl Summary {
    /// The sum of the shards' books, with what the kernel counted and what was written.
    #[must_use]
    pub fn new(
        uptime_s: f64,
        books: &[impl AsRef<Books>],
        files: Written,
        tap: &TapCounters,
        job: &JobCounters,
    ) -> Self {
        let mut bytes = Bytes {
            matched: 0,
            written: 0,
            lost_in_ring: job.lost_in_ring_bytes,
            left_out: Counts::zero(LeftOut::ALL.iter().map(|(_, name)| *name)),
            buffered: 0,
        };
        let (mut segments, mut answers, mut bad_records) = (0, 0, 0);
        for books in books.iter().map(AsRef::as_ref) {
            bytes.written += books.written.get();
            bytes.left_out.add_counters(&books.left_out);
            bytes.buffered += books.buffered.get();
            segments += books.segments.get();
            answers += books.answers.get();
            bad_records += books.bad_records.get();
        }
        // Read after what it is made of, so that it is never less.
        bytes.matched = job.matched_bytes;
        let mut counts = Counts::zero(TapCounter::ALL.iter().map(|(_, name)| *name));
        counts.set(&tap.values);
        let told = bytes.written + bytes.lost_in_ring + bytes.left_out.total() + bytes.buffered;
        Self {
            uptime_s,
            segments,
            answers,
            lost: tap.values[TapCounter::RingFull as usize],
            laws_hold: bytes.matched == told,
            bytes,
            files,
            bad_records,
            tap: counts,
        }
    }
}
