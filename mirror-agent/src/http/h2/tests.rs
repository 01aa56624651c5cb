//! HTTP/2 as the room after this one sees it: frames of a client go in, a book of events comes out.

pub(crate) mod encoder;
mod rules;
mod torture;

use encoder::{Encoder, How};

use super::PREFACE;
use super::frame::{flag, kind};

/// A header block of a `GET`, which no frame header begins with.
pub(crate) const GET_2: &[u8] = b"\x82\x86\x84\x41\x01a";

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a client writes.
pub(crate) struct Client {
    pub(crate) encoder: Encoder,
    out: Vec<u8>,
}

impl Client {
    /// At its first request.
    pub(crate) fn new() -> Self {
        Self { encoder: Encoder::new(), out: Vec::new() }
    }

    /// At its SETTINGS.
    pub(crate) fn upgraded() -> Self {
        let mut client = Self::new();
        client.raw(frame(kind::SETTINGS, 0, 0, b"\0\x03\0\0\0\x64"));
        client
    }

    /// At its first byte.
    pub(crate) fn with_preface() -> Self {
        let mut client = Self::new();
        client.raw(PREFACE);
        client.raw(frame(kind::SETTINGS, 0, 0, b""));
        client
    }

    pub(crate) fn raw(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.out.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), How::Index, &mut block);
        }
        block
    }

    /// HEADERS with exactly these fields.
    pub(crate) fn headers(&mut self, stream: u32, end: bool, fields: &[(&str, &str)]) -> &mut Self {
        let block = self.block(fields);
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        self.raw(frame(kind::HEADERS, flags, stream, block))
    }

    pub(crate) fn get(&mut self, stream: u32, path: &str) -> &mut Self {
        self.headers(
            stream,
            true,
            &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)],
        )
    }

    /// A `POST` with further fields, whose body is to follow.
    pub(crate) fn post(&mut self, stream: u32, more: &[(&str, &str)]) -> &mut Self {
        let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/p")];
        fields.extend(more);
        self.headers(stream, false, &fields)
    }

    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> &mut Self {
        self.raw(frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, bytes))
    }

    pub(crate) fn padded(&mut self, stream: u32, bytes: &[u8], padding: u8, end: bool) -> &mut Self {
        let mut payload = vec![padding];
        payload.extend(bytes);
        payload.extend(vec![0; padding.into()]);
        let flags = flag::PADDED | if end { flag::END_STREAM } else { 0 };
        self.raw(frame(kind::DATA, flags, stream, payload))
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.raw(frame(kind::RST_STREAM, 0, stream, code.to_be_bytes()))
    }

    pub(crate) fn ping(&mut self) -> &mut Self {
        self.raw(frame(kind::PING, 0, 0, [7; 8]))
    }

    /// What it wrote since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn peek(&self) -> &[u8] {
        &self.out
    }
}
