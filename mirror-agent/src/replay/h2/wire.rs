//! The socket of a connection: a [`Transport`] that never blocks, with writes gathered until the round's end.

use std::io::{ErrorKind, IoSlice};

use crate::http::frames::HEADER;
use crate::replay::transport::{Transport, control_buffer};

/// Bytes gathered before the socket is asked in mid-round, and the most of copies that wait when it takes none.
const GATHERED_BYTES: usize = 64 * 1024;
/// With so many bytes waiting, nothing is read that would have to be answered.
const UNREAD_BYTES: usize = GATHERED_BYTES + GATHERED_BYTES / 4;
/// Payloads from this size on go to the socket from where they lie.
const DIRECT_BYTES: usize = 8 * 1024;
/// A larger buffer is given back when it runs empty.
const KEEP_CAPACITY: usize = 4 * 1024;
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// What the peer sent first. A server that speaks HTTP/2 sends a SETTINGS frame (RFC 9113 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing, or not enough to tell.
    Nothing,
    /// A SETTINGS frame, which is not whole yet: so many bytes of the connection with it.
    Settings(u64),
    /// Its SETTINGS.
    Whole,
    /// Something else.
    Other,
}

/// Memory for one read, which the connections of a shard share.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    control: Vec<u8>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; READ_BYTES], control: control_buffer() }
    }
}

/// The socket of one connection and what waits in front of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) transport: Transport,
    out: Vec<u8>,
    /// Bytes of `out` that were written.
    sent: usize,
    /// Something may be there to read.
    readable: bool,
    /// Read until the end: it was announced.
    to_the_end: bool,
    pub(super) eof: bool,
    pub(super) failed: Option<ErrorKind>,
    first: [u8; HEADER],
    pub(super) opening: Opening,
    pub(super) received: u64,
    pub(super) written: u64,
    /// `CLOCK_REALTIME` at which the kernel took in the last bytes read, ns; `None` with TLS.
    pub(super) stamp: Option<u64>,
}

impl Wire {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            out: Vec::new(),
            sent: 0,
            readable: false,
            to_the_end: false,
            eof: false,
            failed: None,
            first: [0; HEADER],
            opening: Opening::Nothing,
            received: 0,
            written: 0,
            stamp: None,
        }
    }

    /// The socket has something to read, or its end.
    pub(super) fn announced(&mut self, end: bool) {
        self.readable = true;
        self.to_the_end |= end;
    }

    /// Reads once; what came.
    pub(super) fn receive<'b>(&mut self, inbox: &'b mut Inbox) -> &'b [u8] {
        if !self.has_more() {
            return &[];
        }
        match self.transport.read_into(&mut inbox.bytes, &mut inbox.control) {
            Ok(got) => {
                self.readable = got.more || self.to_the_end;
                self.stamp = got.time;
                if got.bytes == 0 {
                    self.eof = true;
                    self.readable = false;
                }
                let bytes = inbox.bytes.get(..got.bytes).unwrap_or_default();
                self.look(bytes);
                bytes
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    // The next turn tries again.
                    ErrorKind::Interrupted => {}
                    kind => {
                        self.readable = false;
                        self.failed = Some(kind);
                    }
                }
                &[]
            }
        }
    }

    /// Whether reading can go on at once.
    pub(super) fn has_more(&self) -> bool {
        self.readable && self.waiting() < UNREAD_BYTES
    }

    /// Where frames are gathered.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether copies may be handed over: what the socket does not take waits in them, where it is booked.
    pub(super) fn takes(&mut self) -> bool {
        if self.waiting() >= GATHERED_BYTES {
            self.flush();
        }
        !self.transport.blocked && self.waiting() < GATHERED_BYTES
    }

    /// Everything was taken by the socket.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting() == 0 && !self.transport.blocked
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) {
        while self.waiting() > 0 && !self.transport.blocked && self.failed.is_none() {
            let rest = IoSlice::new(self.out.get(self.sent..).unwrap_or_default());
            match self.transport.write(&[rest]) {
                Ok(count) => self.wrote(count),
                Err(error) => self.failed = Some(error.kind()),
            }
        }
    }

    /// The socket takes bytes again.
    pub(super) fn unblock(&mut self) {
        if let Err(error) = self.transport.flush() {
            self.failed = Some(error.kind());
        }
        self.flush();
    }

    /// Memory of what waits beyond what copies gather, bytes: answers to a peer that asks and does not read.
    pub(super) fn excess(&self) -> usize {
        self.out.capacity().saturating_sub(2 * GATHERED_BYTES)
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    /// `count` bytes of `out` were written.
    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        self.sent += count;
        if self.sent >= self.out.len() {
            self.out.clear();
            self.sent = 0;
            if self.out.capacity() > KEEP_CAPACITY {
                self.out = Vec::new();
            }
        } else if self.sent >= GATHERED_BYTES {
            // A peer that never takes everything must not make it grow.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// A frame whose payload lies elsewhere.
    pub(super) fn put(&mut self, header: &[u8], payload: &[u8]) {
        let mut past = 0;
        if payload.len() >= DIRECT_BYTES && !self.transport.blocked && self.failed.is_none() {
            let waiting = self.waiting();
            let gathered = self.out.get(self.sent..).unwrap_or_default();
            match self.transport.write(&[gathered, header, payload].map(IoSlice::new)) {
                Ok(count) => {
                    self.wrote(count.min(waiting));
                    past = count.saturating_sub(waiting);
                    self.written += past as u64;
                }
                Err(error) => self.failed = Some(error.kind()),
            }
        }
        for part in [header, payload] {
            self.out.extend_from_slice(part.get(past..).unwrap_or_default());
            past = past.saturating_sub(part.len());
        }
    }

    /// Looks whether the peer's first frame is a SETTINGS frame.
    fn look(&mut self, bytes: &[u8]) {
        let before = self.received;
        self.received += bytes.len() as u64;
        if self.opening == Opening::Nothing {
            let from = usize::try_from(before).unwrap_or(HEADER).min(HEADER);
            for (place, byte) in self.first.iter_mut().skip(from).zip(bytes) {
                *place = *byte;
            }
            let [a, b, c, kind, flags, stream @ ..] = self.first;
            if self.received >= HEADER as u64 {
                let settings = kind == 4 && flags & 1 == 0 && stream == [0; 4];
                let length = u64::from(u32::from_be_bytes([0, a, b, c]));
                self.opening =
                    if settings { Opening::Settings(HEADER as u64 + length) } else { Opening::Other };
            } else if self.first.starts_with(b"HTTP/") {
                self.opening = Opening::Other;
            }
        }
        if let Opening::Settings(end) = self.opening
            && self.received >= end
        {
            self.opening = Opening::Whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::{Poll, Token};

    use super::{GATHERED_BYTES, Transport, Wire};

    #[test]
    fn what_was_written_is_not_kept_for_a_peer_that_never_takes_everything() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let transport =
            Transport::connect(listener.local_addr().unwrap(), None, poll.registry(), Token(0)).unwrap();
        let mut wire = Wire::new(transport);
        let acks = vec![7; GATHERED_BYTES];
        for _ in 0..100 {
            wire.out().extend(&acks);
            // All but one byte of what came before.
            wire.wrote(wire.waiting().saturating_sub(acks.len() + 1));
            assert!(wire.out.len() <= 3 * GATHERED_BYTES, "{} bytes", wire.out.len());
            wire.wrote(acks.len());
        }
    }
}
