//! Header blocks of answers, for whoever asked: only what says how the answer ends is told.

use super::hpack::{Bounds, Decoder, List};
use super::{request, responses};

/// Size of the table that an encoder may use without being told (RFC 9113 section 6.5.2), bytes.
const TABLE_BYTES: u32 = 4096;
/// Most fields of an answer.
const FIELDS: usize = 4096;

/// The compression state of the answers on one connection.
#[derive(Debug)]
pub struct AnswerHeads {
    hpack: Decoder,
    list: List,
    bounds: Bounds,
}

/// What a header section says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerHead {
    /// `:status`, which trailers have not.
    pub status: Option<u16>,
    /// `content-length`, if it is a number.
    pub content_length: Option<u64>,
    /// A `grpc-status` other than 0.
    pub grpc_failed: bool,
    /// It was larger than allowed, and the rest of it is not told; or it breaks a rule that makes a message malformed (RFC 9113
    /// sections 8.1.1, 8.2.1 and 8.3): a pseudo-field that is not `:status` or does not stand in front, a name or a value with
    /// bytes that it must not have, `transfer-encoding`, two content lengths, or one that is no number. Other fields of the
    /// connection are let pass, as those of requests are.
    pub bad: bool,
}

impl AnswerHeads {
    /// At the beginning of a connection on which nobody spoke of another table. `most`: bytes of a header section that are
    /// allowed, as section 6.5.2 counts them.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = u64::from(most);
        // What is larger is read on, for the state's sake, but not for ever.
        let bounds = Bounds { fields: FIELDS, keep: most, read: 4 * most };
        Self { hpack: Decoder::new(TABLE_BYTES), list: List::default(), bounds }
    }

    /// Reads a whole header block; `None` if it cannot be read, and no later one can.
    pub fn read(&mut self, block: &[u8]) -> Option<AnswerHead> {
        self.hpack.decode(block, self.bounds, &mut self.list).ok()?;
        let status = responses::status(&self.list);
        let mut head = AnswerHead { status, bad: self.list.is_over(), ..AnswerHead::default() };
        for (name, value, never_indexed) in self.list.fields().skip(usize::from(status.is_some())) {
            head.bad |= request::field(name, value, never_indexed).is_err();
            head.grpc_failed |= name == b"grpc-status" && value != b"0";
        }
        match request::content_length(self.list.fields().map(|(name, value, _)| (name, value))) {
            Ok(length) => head.content_length = length,
            Err(request::Malformed) => head.bad = true,
        }
        self.list.clear();
        Some(head)
    }
}
