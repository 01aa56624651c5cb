//! One TCP segment as the side sees it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mirror_common::record::{Direction, tcp_flags};

use super::Seq;

/// Address (IPv4 as IPv4-mapped IPv6, network order) and port of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// Address, network order.
    pub addr: [u8; 16],
    /// Port, host order.
    pub port: u16,
}

impl Peer {
    /// As a socket address, IPv4-mapped addresses as IPv4.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.addr).to_canonical(), self.port)
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { addr: ip.octets(), port: addr.port() }
    }
}

/// A connection, whichever way a segment of it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Who sends the requests.
    pub client: Peer,
    /// Who answers them.
    pub primary: Peer,
}

/// TCP flags of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Synchronise.
    #[must_use]
    pub const fn syn(self) -> bool {
        self.0 & tcp_flags::SYN != 0
    }
    /// The sender is done.
    #[must_use]
    pub const fn fin(self) -> bool {
        self.0 & tcp_flags::FIN != 0
    }
    /// Reset.
    #[must_use]
    pub const fn rst(self) -> bool {
        self.0 & tcp_flags::RST != 0
    }
    /// The acknowledgement number counts.
    #[must_use]
    pub const fn ack(self) -> bool {
        self.0 & tcp_flags::ACK != 0
    }
}

/// One TCP segment. A segment that the tap split over several records arrives as several of these.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The connection.
    pub flow: FlowKey,
    /// Slot of the job that matched it.
    pub job: u16,
    /// Which way it goes.
    pub direction: Direction,
    /// Symmetric hash of the connection, the one that chose the shard.
    pub hash: u32,
    /// `CLOCK_MONOTONIC` at the tap, ns.
    pub time: u64,
    /// Sequence number of the SYN if there is one, else of the first payload byte.
    pub seq: Seq,
    /// Acknowledgement number, `None` without the ACK flag.
    pub ack: Option<Seq>,
    /// TCP flags.
    pub flags: Flags,
    /// Advertised window, unscaled.
    pub window: u16,
    /// Status code of the response head that this segment begins with.
    pub status: Option<u16>,
    /// TCP payload length; `payload` holds all of it or, in the response direction, none.
    pub len: u32,
    /// The payload as captured.
    pub payload: &'a [u8],
}
