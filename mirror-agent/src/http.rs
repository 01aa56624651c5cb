//! Chunks to exchanges: requests of HTTP/1 (RFC 9112) and HTTP/2 (RFC 9113), protocol detection, responses. Pure.
//!
//! [`Connection`] is the request side of one client connection; [`ReplyReader`] reads the responses on a connection to a
//! shadow.
//!
//! ```text
//! connection   the calls, the modes, what a gap and a response mean
//!   detect     the first bytes: TLS, PROXY protocol, HTTP
//!   first      the first bytes of a connection that was under way, in a capture file
//!   requests   in sync: heads and bodies, 100-continue, CONNECT and Upgrade
//!   sync       out of sync: finding the next provable request
//!   answer     which response answers which request
//!   leave      out of HTTP/1: to HTTP/2, WebSocket, tunnels
//! h2           frames, header compression, streams;  ws: frames of WebSocket clients
//! framer       where heads and bodies end;  head, chunked: the grammar, and what of it is refused
//! reply        responses of a shadow
//! responses    responses of the primary, read out of all that it sent (capture files)
//! authority    whom a request is meant for
//! dechunk      the data of a chunked body without its coding
//! ```

mod answer;
mod authority;
mod chunked;
mod connection;
mod dechunk;
mod detect;
mod first;
mod framer;
mod h2;
mod head;
mod input;
mod leave;
mod limits;
mod message;
mod reply;
mod requests;
mod responses;
mod stream;
mod sync;
mod ws;

pub use answer::Answer;
pub(crate) use answer::{OWN_PLACES, extra_places, give_back};
pub use chunked::Part;
pub use connection::Connection;
pub use dechunk::Dechunker;
pub use h2::{AnswerHead, AnswerHeads, PREFACE, ResponseEvents, Responses, frames};
pub(crate) use limits::LastTold;
pub use limits::{Budget, Limits, Pickup};
pub use message::{
    AbortReason, BodyKind, Events, Field, H2Error, Leaves, NotHttp, RequestHead, TunnelEnd, Version, Waiting,
};
pub use reply::{BadResponse, Eof, MAX_REPLY_HEAD_BYTES, Progress, ReplyHead, ReplyReader};
pub use responses::{Asked, ResponseHead, ResponseReader, is_status_line};
pub use stream::{HeaderField, Pseudo, PseudoFields, StreamHead};

#[cfg(test)]
mod tests;
