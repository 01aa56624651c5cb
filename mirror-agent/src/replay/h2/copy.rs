//! One copy on its way over a stream: what is still to be sent, and how far its answer has come.

use bytes::{Bytes, BytesMut};

use crate::replay::LinkId;

/// Body bytes that are kept until the answer begins, so that a copy which the shadow refused unread can be sent once more.
pub const MAX_RETAINED_BODY_BYTES: usize = 16 * 1024;

/// A copy without an outcome.
#[derive(Debug)]
pub(super) struct Copy {
    /// Tells it from an earlier one at the same place.
    pub(super) generation: u32,
    /// Index of the target.
    pub(super) shadow: usize,
    pub(super) link: LinkId,
    /// Order of the copies of a link.
    pub(super) serial: u64,
    /// The client connection, and the stream there.
    pub(super) client: u64,
    pub(super) stream: u32,
    /// The fields as the plan wrote them.
    pub(super) head: Box<[u8]>,
    /// Body bytes that were not handed over yet.
    pub(super) pending: BytesMut,
    /// Body bytes that were, as long as they are all there.
    pub(super) retained: Option<Vec<Bytes>>,
    /// The fields of its trailer section, if it has one.
    pub(super) trailers: Option<Box<[u8]>>,
    /// The client ended the request.
    pub(super) ended: bool,
    /// So did we.
    pub(super) end_sent: bool,
    /// The socket took all that was handed over.
    pub(super) flushed: bool,
    /// Sending it twice does no harm.
    pub(super) idempotent: bool,
    /// It was sent once more, and will not be again.
    pub(super) resent: bool,
    /// It was told that it waits for a stream.
    pub(super) waited: bool,
    /// In the list of copies with news.
    pub(super) touched: bool,
    /// Kernel time of the original's head, `CLOCK_MONOTONIC` ns.
    pub(super) head_time: u64,
    /// `CLOCK_REALTIME` at which the head was written, ns.
    pub(super) written_at: Option<u64>,
    /// Bytes that had been received on the connection by then.
    pub(super) received_then: u64,
    /// Queue bytes booked for it: head, body that waits, body that is retained.
    pub(super) held: u64,
    /// Queue bytes set aside for its body.
    pub(super) reserve: u64,
    /// Last time it moved, `CLOCK_MONOTONIC` ns.
    pub(super) progress: u64,
    /// When its stream was opened (or it was begun, before that), `CLOCK_MONOTONIC` ns.
    pub(super) opened: u64,
    /// The connection it is on, and its stream there.
    pub(super) conn: Option<(u32, u32)>,
    /// What the shadow allows to be sent on the stream, bytes.
    pub(super) window: i64,
    /// Bytes of the answer for which the shadow was not given credit again.
    pub(super) owed: u32,
    /// Bytes of the answer to come, if it says how many.
    pub(super) expected: Option<u64>,
    pub(super) answer: Answer,
    /// Status of the final response head.
    pub(super) status: Option<u16>,
    /// The answer says by `grpc-status` that the call failed.
    pub(super) grpc_failed: bool,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The copy was not sent.
    None,
    /// Its head is awaited.
    Head,
    /// Its content is read and thrown away.
    Body,
    /// It is complete.
    Complete,
}

impl Copy {
    /// Takes more of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.held += bytes.len() as u64;
    }

    /// Everything that there will be of the request is known, and the head is all of it.
    pub(super) fn is_bare(&self) -> bool {
        self.ended && self.pending.is_empty() && self.trailers.is_none()
    }

    /// Whether it can be sent once more from what is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.retained.is_some() && self.status.is_none()
    }

    /// The next piece of the body, of `bytes` bytes, and whether the request ends with it. Kept, if it may be sent once more.
    pub(super) fn take(&mut self, bytes: usize) -> (Bytes, bool) {
        let chunk = self.pending.split_to(bytes.min(self.pending.len())).freeze();
        match &mut self.retained {
            Some(retained) => retained.push(chunk.clone()),
            None => self.held -= chunk.len() as u64,
        }
        (chunk, self.is_bare())
    }

    /// Lets go of what was kept for sending it once more; how many bytes that were.
    pub(super) fn forget(&mut self) -> u64 {
        let bytes = self.retained.take().map_or(0, |all| all.iter().map(Bytes::len).sum::<usize>()) as u64;
        self.held -= bytes;
        bytes
    }

    /// Body bytes that are retained.
    pub(super) fn retained_bytes(&self) -> usize {
        self.retained.as_ref().map_or(0, |all| all.iter().map(Bytes::len).sum())
    }

    /// Makes it as if it had never been sent.
    pub(super) fn rewind(&mut self) {
        let mut body = BytesMut::new();
        for bytes in self.retained.iter().flatten() {
            body.extend_from_slice(bytes);
        }
        body.extend_from_slice(&self.pending);
        self.pending = body;
        self.retained = Some(Vec::new());
        self.end_sent = false;
        self.flushed = false;
        self.written_at = None;
        self.conn = None;
        self.answer = Answer::None;
    }
}
