//! The primary's side of an HTTP/2 connection, for sources that have all of its bytes.
//!
//! Live, the tap brings only the beginnings of HTTP/1 responses, so status and latency of streams are unknown there. A
//! capture file has both directions.

use super::frame::{Frames, Step};
use super::hpack::{Bounds, Decoder, List};
use super::request::{self, Fields};
use crate::http::Limits;
use crate::http::stream::HeaderField;

/// What [`Responses`] tells. Calls of different streams mix.
pub trait ResponseEvents {
    /// A response head; `status` below 200 is interim and another follows.
    fn response_head(&mut self, stream: u32, status: u16, fields: &[HeaderField<'_>], time: u64);
    /// Bytes of the body, never empty, padding left out.
    fn response_data(&mut self, stream: u32, bytes: &[u8], time: u64);
    /// The trailer section, where gRPC says its status.
    fn response_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], time: u64);
    /// The response is complete.
    fn response_end(&mut self, stream: u32, time: u64);
    /// The primary reset the stream.
    fn response_reset(&mut self, stream: u32, code: u32, time: u64);
}

/// The response direction of an HTTP/2 connection, from its first byte on (after an upgrade: from the byte after the head of
/// the 101). Best effort: what cannot be read ends it in silence, a response that was not seen is unknown.
#[derive(Debug)]
pub struct Responses {
    frames: Frames,
    hpack: Decoder,
    list: List,
    bounds: Bounds,
    lost: bool,
}

impl Responses {
    /// At the first byte of the direction. Takes the limits of the request direction.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            frames: Frames::new(limits.h2_block_bytes),
            hpack: Decoder::new(limits.h2_table_bytes),
            list: List::default(),
            bounds: Bounds {
                fields: limits.max_fields as usize,
                keep: limits.max_head_bytes.into(),
                read: limits.h2_list_bytes.into(),
            },
            lost: false,
        }
    }

    /// Whether nothing more will be told.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Memory of its state, bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        (size_of::<Self>() + self.frames.memory() + self.hpack.memory() + self.list.memory()) as u64
    }

    /// Tells nothing more, and gives its memory back.
    pub fn give_up(&mut self) {
        *self = Self {
            frames: Frames::new(0),
            hpack: Decoder::new(0),
            list: List::default(),
            lost: true,
            ..*self
        };
    }

    /// The next bytes, which passed at `time`, ns.
    pub fn data(&mut self, bytes: &[u8], time: u64, ev: &mut impl ResponseEvents) {
        let mut at = 0;
        while at < bytes.len() && !self.lost {
            let Ok((taken, step)) = self.frames.step(&bytes[at..]) else { return self.give_up() };
            at += taken;
            match step {
                Step::More | Step::Other => {}
                Step::Data { stream, bytes, left, end_stream } => {
                    if !bytes.is_empty() {
                        ev.response_data(stream, bytes, time);
                    }
                    if left == 0 && end_stream {
                        ev.response_end(stream, time);
                    }
                }
                Step::Reset { stream, code } => ev.response_reset(stream, code, time),
                Step::Block { stream, end_stream, promise, block } => {
                    if self.hpack.decode(block, self.bounds, &mut self.list).is_err() {
                        return self.give_up();
                    }
                    if promise || self.list.is_over() {
                        continue;
                    }
                    if let Some((status, fields)) = head(&self.list) {
                        ev.response_head(stream, status, &fields, time);
                    } else if let Ok(fields) = request::trailers(&self.list) {
                        ev.response_trailers(stream, &fields, time);
                    }
                    if end_stream {
                        ev.response_end(stream, time);
                    }
                }
            }
        }
    }

    /// The next `len` bytes are missing for good.
    pub fn gap(&mut self, len: u64) {
        if !self.lost && self.frames.skip(len).is_err() {
            self.give_up();
        }
    }
}

/// Status and fields of a response head; `None` if the list has no status.
fn head(list: &List) -> Option<(u16, Fields<'_>)> {
    let status = status(list)?;
    let fields = list
        .fields()
        .skip(1)
        .map(|(name, value, never_indexed)| HeaderField { name, value, never_indexed })
        .collect();
    Some((status, fields))
}

/// The status of a response head (RFC 9113 section 8.3.2), which comes first.
pub(super) fn status(list: &List) -> Option<u16> {
    let (name, value, _) = list.fields().next()?;
    std::str::from_utf8(value).ok().filter(|_| name == b":status" && value.len() == 3)?.parse().ok()
}
