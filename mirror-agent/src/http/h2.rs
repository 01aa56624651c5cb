//! HTTP/2 (RFC 9113) seen from the side: the client's frames in, requests out.
//!
//! ```text
//! requests     streams: what a frame means for the requests of a connection
//!   frame      where frames begin and end, header blocks put together
//!   hpack      header blocks to header lists
//!   request    header lists to requests, and what of them is malformed
//!   streams    the open streams
//! pickup       frames of a connection whose beginning was not seen: telling that it is HTTP/2
//! answers      header blocks for whoever asks himself
//! responses    the other direction, where a capture has it: status and time of each stream
//! ```
//!
//! A passive reader cannot ask: it has no flow control, sends no SETTINGS and may not see those of the primary. What the
//! primary would refuse by them (a frame too large, a stream too many) is seen here as it is; the primary then ends the
//! stream or the connection, and the client's answer to that is seen.

mod answers;
mod frame;
mod hpack;
mod pickup;
mod request;
mod requests;
mod responses;
mod streams;

#[cfg(test)]
pub(in crate::http) mod tests;

pub use answers::{AnswerHead, AnswerHeads};
pub use frame::header as frames;
pub(super) use pickup::Pickup;
pub(super) use requests::{Place, Requests};
pub use responses::{ResponseEvents, Responses};

/// What a client sends first (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
