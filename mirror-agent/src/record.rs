//! What `mirror record` puts on a disk: records of the ring to packets of pcapng files.
//!
//! ```text
//! record ─> Recorder ─ plain: every segment as it came ────────────────────> Out ─> Files
//!                    \─ sieve: flow -> http, and only what is proved to be ─>/     size, time, number
//! ```
//!
//! Without `--headers-only` and `--redact` a segment is written as it came, whatever it holds. With one of them nothing is
//! written that was not proved to be HTTP: the same rooms that find requests for `mirror run` say what is head and what is
//! body, and the packets are made of what they tell. ([ADR 12](../../../docs/adr/0012-what-a-recorded-file-says.md))
//!
//! **Law of the bytes.** At rest, for the request direction: matched = written + lost in ring + left out, by [`LeftOut`].
//!
//! **Bounds.** A shard holds at most [`FLUSH_BYTES`] beside its flow table; it writes them itself. While a disk is slow the
//! shard waits, its ring fills, and what finds no room there is lost by name.

mod books;
mod files;
mod frames;
mod out;
mod redact;
mod sieve;
mod summary;
mod told;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use mirror_common::record::Direction;

pub use books::{Books, LeftOut};
pub use files::{Drops, Failed, Files, Rotation, Stopped, Written};
pub use redact::Redact;
pub use summary::{Bytes, Summary};

use crate::capture::Encoder;
use crate::flow;
use crate::http;
use crate::packet::RecordView;
use out::Out;
use sieve::Sieve;

/// Packets that a shard gathers before it writes, bytes. A record may add its own length, and what it releases from behind a
/// hole.
pub const FLUSH_BYTES: usize = 256 << 10;

/// What is not to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Bodies, and all that is no head.
    pub headers_only: bool,
    /// Values of these fields.
    pub redact: Option<Redact>,
}

impl Rules {
    /// Whether segments may be written as they come.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        !self.headers_only && self.redact.is_none()
    }
}

/// One shard's way from the ring to the files.
pub struct Recorder {
    sieve: Option<Box<Sieve>>,
    out: Out,
    books: Arc<Books>,
    /// Why nothing is written any more.
    gave_up: Option<LeftOut>,
}

impl Recorder {
    /// What a flow may cost beside its place in the table, bytes.
    pub const CLIENT_BYTES: usize = sieve::CLIENT_BYTES;

    /// A shard's recorder. `offset` is what makes the kernel's time one since 1970, ns.
    #[must_use]
    pub fn new(
        rules: &Rules,
        flows: flow::Limits,
        http: http::Limits,
        encoder: Encoder,
        offset: i64,
        books: Arc<Books>,
    ) -> Self {
        let sieve = (!rules.is_plain()).then(|| Box::new(Sieve::new(rules.clone(), flows, http)));
        Self { sieve, out: Out::new(encoder, offset), books, gave_up: None }
    }

    /// One entry of the ring.
    #[inline]
    pub fn record(&mut self, bytes: &[u8]) {
        let Ok(view) = RecordView::new_checked(bytes) else {
            self.books.bad_records.add(1);
            return;
        };
        let segment = view.segment();
        let is_request = segment.direction == Direction::Request;
        self.books.segments.add(1);
        if !is_request && segment.status.is_some() {
            self.books.answers.add(1);
        }
        if let Some(why) = self.gave_up {
            if is_request {
                self.out.tally.leave_out(why, u64::from(segment.len));
            }
        } else if let Some(sieve) = &mut self.sieve {
            sieve.segment(&segment, &view.first_bytes(), &mut self.out);
        } else {
            if is_request {
                self.out.tally.written += u64::from(segment.len);
            }
            self.out.segment(&segment, view.first_bytes().as_slice());
        }
    }

    /// Whether so much waits that it is time to write.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.out.bytes.len() >= FLUSH_BYTES
    }

    /// Writes what waits, and books what became of it. False if the files take nothing any more: from then on all is left out.
    pub fn write(&mut self, files: &Mutex<Files>) -> bool {
        let mut whole = true;
        if !self.out.bytes.is_empty() {
            whole = files.lock().unwrap_or_else(PoisonError::into_inner).write(&self.out.bytes).is_ok();
        }
        if !whole {
            self.out.tally.fail(LeftOut::Disk);
            self.gave_up.get_or_insert(LeftOut::Disk);
        }
        self.out.take(&self.books);
        whole
    }

    /// What comes from now on is left out for `why`.
    pub fn give_up(&mut self, why: LeftOut) {
        self.gave_up.get_or_insert(why);
    }

    /// Ends what has waited too long.
    pub fn tick(&mut self, now: u64) {
        if let Some(sieve) = &mut self.sieve {
            sieve.tick(now, &mut self.out);
        }
    }

    /// When [`Recorder::tick`] has something to do, ns.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.sieve.as_ref().and_then(|sieve| sieve.next_deadline())
    }

    /// The end: what waits for a decision gets one.
    pub fn close(&mut self, now: u64) {
        if let Some(sieve) = &mut self.sieve {
            sieve.close(now, &mut self.out);
        }
    }
}
