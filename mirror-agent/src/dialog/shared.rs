//! What a connection needs of its surroundings, and what it keeps waiting.

use super::{Bytes, Counters, DialogLimits, Observer};
use crate::flow::Gap;
use crate::http;
use crate::packet::Seq;

/// What all connections share.
pub(super) struct Shared<'a, O: Observer> {
    pub(super) observer: &'a mut O,
    pub(super) bytes: &'a mut Bytes,
    pub(super) counters: &'a mut Counters,
    pub(super) http: &'a http::Limits,
    pub(super) limits: &'a DialogLimits,
    /// Response bytes that wait, overhead included, of all connections.
    pub(super) held: &'a mut usize,
    /// Places for requests that wait for their response, of all connections, beyond what each has of its own.
    pub(super) unanswered: &'a mut usize,
    /// Memory of HTTP/2 states, of all connections.
    pub(super) h2_memory: &'a mut http::Budget,
    /// The same of the response direction.
    pub(super) h2_responses_memory: &'a mut http::Budget,
    /// Memory of requests whose answer the decoders wait for, of all connections.
    pub(super) unanswered_memory: &'a mut http::Budget,
    /// Bytes in the decoders, of all connections.
    pub(super) heads: &'a mut i64,
}

/// What a waiting piece of the response direction costs beside its bytes.
pub(super) const HELD_OVERHEAD: usize = 64;

/// A piece of the response direction that waits for the requests it acknowledges.
#[derive(Debug)]
pub(super) enum Held {
    Chunk { pos: u64, bytes: Box<[u8]>, time: u64, ack: Option<Seq>, segment_start: bool },
    Gap(Gap),
}
