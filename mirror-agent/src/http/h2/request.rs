//! Header lists as requests: what RFC 9113 section 8 calls malformed is told here.
//!
//! Strict where readers may disagree about what is asked for or where it ends, as the HTTP/1 side is. A field name must be
//! a token: section 8.2.1 leaves a recipient free to refuse less, but such a name cannot be sent on. A `host` field beside a
//! different `:authority` is the server's business, as a repeated one is in HTTP/1.
//!
//! Less strict in two points. A head that ends its stream has no body, whatever its content length says: the primary may
//! refuse it or not, and so may the shadow. And section 8.2.2 forbids the fields of a connection and calls a request with
//! one malformed. Some clients send them, some servers serve them, and but for `transfer-encoding` they say nothing about
//! the message. They are told, and marked ([`HeaderField::is_of_connection`]), because whoever sends the request on has to
//! leave them out.

use smallvec::SmallVec;

use super::hpack::List;
use crate::http::head::{decimal, is_token};
use crate::http::{HeaderField, Pseudo, PseudoFields};

/// The fields of a list. The inline part lives on the caller's stack.
pub(super) type Fields<'a> = SmallVec<[HeaderField<'a>; 32]>;

/// RFC 9113 section 8.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A request as its header list tells it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a [u8],
    pub(super) scheme: Option<&'a [u8]>,
    pub(super) authority: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) protocol: Option<&'a [u8]>,
    pub(super) never_indexed: PseudoFields,
    pub(super) fields: Fields<'a>,
    pub(super) content_length: Option<u64>,
}

/// Reads the header list that opens a stream (section 8.3.1).
pub(super) fn request(list: &List) -> Result<Request<'_>, Malformed> {
    let mut pseudo = [None; 5];
    let mut never = PseudoFields::default();
    let mut fields = Fields::new();
    for (name, value, never_indexed) in list.fields() {
        if name.first() == Some(&b':') {
            let place = match name {
                b":method" => Pseudo::Method,
                b":scheme" => Pseudo::Scheme,
                b":authority" => Pseudo::Authority,
                b":path" => Pseudo::Path,
                b":protocol" => Pseudo::Protocol,
                _ => return Err(Malformed),
            };
            if !fields.is_empty() || !is_value(value) || pseudo[place as usize].replace(value).is_some() {
                return Err(Malformed);
            }
            if never_indexed {
                never = never.with(place);
            }
        } else {
            fields.push(field(name, value, never_indexed)?);
        }
    }
    let [method, scheme, authority, path, protocol] = pseudo;
    let method =
        method.filter(|method| !method.is_empty() && method.iter().all(|&b| is_token(b))).ok_or(Malformed)?;
    let sound = match (method, protocol) {
        // RFC 9113 section 8.5.
        (b"CONNECT", None) => authority.is_some() && scheme.is_none() && path.is_none(),
        // RFC 8441 section 4.
        (b"CONNECT", Some(protocol)) => {
            authority.is_some() && scheme.is_some() && path.is_some() && !protocol.is_empty()
        }
        (_, protocol) => scheme.is_some() && path.is_some() && protocol.is_none(),
    };
    // A space or a control character would end the target, or begin another line, to a reader of HTTP/1.
    let visible = |part: Option<&[u8]>| part.is_none_or(|bytes| bytes.iter().all(|&b| b > b' ' && b != 0x7f));
    let sound = sound
        && visible(path)
        && visible(authority)
        && path.is_none_or(|path| !path.is_empty())
        && scheme.is_none_or(is_scheme);
    if !sound {
        return Err(Malformed);
    }
    let content_length = content_length(fields.iter().map(|field| (field.name, field.value)))?;
    Ok(Request { method, scheme, authority, path, protocol, never_indexed: never, fields, content_length })
}

/// Reads a trailer section (section 8.1): no pseudo-field may stand in it.
pub(super) fn trailers(list: &List) -> Result<Fields<'_>, Malformed> {
    list.fields().map(|(name, value, never_indexed)| field(name, value, never_indexed)).collect()
}

/// A field that is no pseudo-field (sections 8.2.1 and 8.2.2).
pub(super) fn field<'a>(
    name: &'a [u8],
    value: &'a [u8],
    never_indexed: bool,
) -> Result<HeaderField<'a>, Malformed> {
    if name.is_empty() || !name.iter().all(|&b| is_token(b) && !b.is_ascii_uppercase()) {
        return Err(Malformed);
    }
    if !is_value(value) && !is_binary(name, value) {
        return Err(Malformed);
    }
    // To a shadow that is reached by way of HTTP/1 it would say where the message ends.
    if name == b"transfer-encoding" {
        return Err(Malformed);
    }
    Ok(HeaderField { name, value, never_indexed })
}

/// Binary metadata between two peers of gRPC's C library, which agree by a setting of their own to send it as it is, behind
/// a zero byte. No other value may begin with one.
fn is_binary(name: &[u8], value: &[u8]) -> bool {
    name.ends_with(b"-bin") && value.first() == Some(&0)
}

fn is_value(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !space(value.first()) && !space(value.last()) && memchr::memchr3(b'\r', b'\n', 0, value).is_none()
}

/// RFC 3986 section 3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
}

/// One length, however often it is said, as on the HTTP/1 side.
pub(super) fn content_length<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for (_, value) in fields.filter(|(name, _)| *name == b"content-length") {
        if length.is_some_and(|earlier| earlier != value) {
            return Err(Malformed);
        }
        length = Some(value);
    }
    length.map(|digits| decimal(digits).ok_or(Malformed)).transpose()
}
