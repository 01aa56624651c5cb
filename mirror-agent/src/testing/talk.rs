//! Both ends of a connection, as they talk.

use crate::packet::{Flags, Peer, Seq, TcpView};

pub(crate) const SYN: u8 = 2;
pub(crate) const FIN: u8 = 1;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;
pub(crate) const MS: u64 = 1_000_000;

/// A segment that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) client: bool,
    pub(crate) port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) len: u32,
    pub(crate) time: u64,
}

impl Sent {
    /// As it is found in a frame.
    pub(crate) fn view(&self) -> TcpView<'_> {
        let end = |last, port| Peer::from(std::net::SocketAddr::from(([10, 0, 0, last], port)));
        let (client, server) = (end(1, self.port), end(2, 80));
        let (src, dst) = if self.client { (client, server) } else { (server, client) };
        TcpView {
            src,
            dst,
            seq: Seq(self.seq),
            ack: (self.flags & ACK != 0).then_some(Seq(self.ack)),
            flags: Flags(self.flags),
            window: 500,
            len: self.len,
            payload: &self.payload,
        }
    }
}

/// Both ends of one connection, as they talk.
pub(crate) struct Talk {
    pub(crate) port: u16,
    pub(crate) client: u32,
    pub(crate) server: u32,
    pub(crate) time: u64,
    pub(crate) sent: Vec<Sent>,
}

impl Talk {
    pub(crate) fn new(port: u16) -> Self {
        let mut talk = Self { port, client: u32::MAX - 40, server: 900, time: 1_000 * MS, sent: Vec::new() };
        talk.send(true, SYN, b"");
        talk.send(false, SYN | ACK, b"");
        talk.send(true, ACK, b"");
        talk
    }

    pub(crate) fn send(&mut self, client: bool, flags: u8, payload: &[u8]) {
        self.time += MS;
        let (seq, ack) = if client { (self.client, self.server) } else { (self.server, self.client) };
        self.sent.push(Sent {
            client,
            port: self.port,
            seq,
            ack,
            flags,
            payload: payload.to_vec(),
            len: u32::try_from(payload.len()).unwrap(),
            time: self.time,
        });
        let here = u32::try_from(payload.len()).unwrap() + u32::from(flags & (SYN | FIN) != 0);
        let mine = if client { &mut self.client } else { &mut self.server };
        *mine = mine.wrapping_add(here);
    }

    pub(crate) fn ask(&mut self, text: &str) -> &mut Self {
        self.send(true, ACK, text.as_bytes());
        self
    }

    pub(crate) fn say(&mut self, text: &str) -> &mut Self {
        self.send(false, ACK, text.as_bytes());
        self
    }

    pub(crate) fn end(&mut self) -> Vec<Sent> {
        self.send(true, FIN | ACK, b"");
        self.send(false, FIN | ACK, b"");
        self.send(true, ACK, b"");
        std::mem::take(&mut self.sent)
    }
}
