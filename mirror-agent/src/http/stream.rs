//! How the HTTP room tells the head of an HTTP/2 request.

use std::net::SocketAddr;

/// One field of an HTTP/2 header list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// Name: a token without upper-case letters.
    pub name: &'a [u8],
    /// Value: no CR, LF or NUL in it, but for gRPC's binary metadata that two peers agreed to send as it is: it begins with
    /// NUL, its name ends with `-bin`, and what follows is any bytes.
    pub value: &'a [u8],
    /// The sender forbids to put it into any compression table (RFC 7541 section 6.2.3), and so must whoever sends it on.
    pub never_indexed: bool,
}

impl HeaderField<'_> {
    /// It says something about a connection, not about the request (RFC 9113 section 8.2.2). It should not be there, and
    /// must not be sent on.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        match self.name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"upgrade" => true,
            b"te" => !self.value.eq_ignore_ascii_case(b"trailers"),
            _ => false,
        }
    }
}

/// A pseudo-field of a request (RFC 9113 section 8.3.1, RFC 8441 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`.
    Authority,
    /// `:path`.
    Path,
    /// `:protocol`.
    Protocol,
}

/// Some pseudo-fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PseudoFields(u8);

impl PseudoFields {
    /// These and `field`.
    #[must_use]
    pub const fn with(self, field: Pseudo) -> Self {
        Self(self.0 | 1 << field as u8)
    }

    /// Whether `field` is one of them.
    #[must_use]
    pub const fn has(self, field: Pseudo) -> bool {
        self.0 & 1 << field as u8 != 0
    }
}

/// The request that opens an HTTP/2 stream. Well-formed by RFC 9113 section 8.3: pseudo-fields are all there, once, in
/// front, and none that only responses have; no `transfer-encoding`. Other fields of the connection may stand among its
/// fields, see [`HeaderField::is_of_connection`].
#[derive(Clone, Copy, Debug)]
pub struct StreamHead<'a> {
    /// Stream: odd, larger than every one before it on the connection.
    pub stream: u32,
    /// `:method`.
    pub method: &'a [u8],
    /// `:scheme`; `None` for a `CONNECT` without `:protocol`.
    pub scheme: Option<&'a [u8]>,
    /// `:authority`. Without it the `host` field, if there is one, names the authority.
    pub authority: Option<&'a [u8]>,
    /// `:path`; `None` for a `CONNECT` without `:protocol`.
    pub path: Option<&'a [u8]>,
    /// `:protocol` of an extended `CONNECT` (RFC 8441).
    pub protocol: Option<&'a [u8]>,
    /// Which of these are never indexed, as [`HeaderField::never_indexed`].
    pub never_indexed: PseudoFields,
    /// The other fields in order, `cookie` split as the client split it.
    pub fields: &'a [HeaderField<'a>],
    /// `content-length`. A body that differs ends in an abort; with `end_stream` there is none, whatever is said here.
    pub content_length: Option<u64>,
    /// No body and no trailers: nothing but [`stream_end`](super::Events::stream_end) follows.
    pub end_stream: bool,
    /// The client's address as a PROXY protocol header in front of the connection told it.
    pub proxied: Option<SocketAddr>,
    /// Stream position (of the connection's bytes) of the HEADERS frame.
    pub pos: u64,
    /// Kernel time of the segment that carried the last byte of the header block, ns.
    pub time: u64,
}

impl StreamHead<'_> {
    /// Values of the fields called `name` (lower case), in order. Pseudo-fields are not among them.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> + 's {
        self.fields.iter().filter(|field| field.name == name.as_bytes()).map(|field| field.value)
    }
}
