//! One direction's sender, and where its stream stands.

use crate::flow::{FlowId, Start};
use crate::packet::{Peer, Seq};

/// One direction's sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) peer: Peer,
    /// Its flow and its number among the open sides, while it is in the table.
    pub(super) flow: Option<(FlowId, usize)>,
    /// Where its stream stands, once that is known.
    pub(super) place: Option<Place>,
    /// It was in the table.
    pub(super) seen: bool,
    /// It said all it had to say, and all of it was read.
    pub(super) done: bool,
    pub(super) start: Start,
}

/// A place in a stream: the sequence number of position `next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) origin: Seq,
    pub(super) next: u64,
}

impl Place {
    /// The stream position of a sequence number, `None` before the origin.
    pub(super) fn position(self, seq: Seq) -> Option<u64> {
        // The low 32 bits are what a sequence number counts.
        let here = self.origin.plus((self.next & u64::from(u32::MAX)) as u32);
        u64::try_from(self.next.cast_signed() + i64::from(seq.since(here))).ok()
    }
}
