//! Segments to ordered chunks and gaps: the flow table and the assembler. Pure.
//!
//! [`Table`] takes segments of both directions in the order the tap saw them and calls a [`Handler`]. For one flow:
//! `open`, then any number of `data`, `gap` and `response` in stream order, `half_close` at most once, `close`.
//!
//! ```text
//! segment -> index -> slot -> stream: in order -----------------> Handler::data, a slice of the record
//!              |                  \-> ahead -> reorder (copied) -> Handler::data when the hole is filled or given up
//!              \-> not in the table: SYN memory, memory of closed flows, make room, Handler::open
//! ```
//!
//! **Law of the bytes.** After each call, for each job: payload bytes of request segments = bytes of chunks + duplicate
//! + lost (by reason) + buffered. Bytes of a [`Gap`] are bytes that never came.

mod event;
mod index;
mod limits;
mod list;
mod recent;
mod reorder;
mod stream;
mod table;

#[cfg(test)]
mod tests;

pub use event::{Chunk, Close, Evidence, FlowId, FlowInfo, Gap, GapReason, Handler, LostReason, Start};
pub use limits::Limits;
pub use table::{Counters, Table};
