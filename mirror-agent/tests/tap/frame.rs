//! Frames made by hand, field by field.

use std::net::{IpAddr, SocketAddr};

/// What stands between the Ethernet type and the TCP header is in [`Frame::bytes`]; a field that is `None` is filled in
/// rightly.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// VLAN tags in the bytes: (type, id).
    pub tags: Vec<(u16, u16)>,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub ipv4_options: Vec<u8>,
    pub ipv4_total: Option<u16>,
    /// The 16 bits with flags and offset.
    pub ipv4_fragment: u16,
    /// IPv6 extension headers in order: (its own number, its bytes with the first left 0 for the next number).
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub ipv6_payload: Option<u16>,
    pub protocol: u8,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub tcp_options: Vec<u8>,
    pub data_offset: Option<u8>,
    pub payload: Vec<u8>,
    /// Bytes behind the IP packet.
    pub padding: usize,
}

impl Frame {
    /// A data segment from `src` to `dst`.
    pub(crate) fn new(src: &str, dst: &str, payload: &[u8]) -> Self {
        Self {
            tags: Vec::new(),
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ipv4_options: Vec::new(),
            ipv4_total: None,
            ipv4_fragment: 0x4000,
            extensions: Vec::new(),
            ipv6_payload: None,
            protocol: 6,
            seq: 0x0102_0304,
            ack: 0xa0b0_c0d0,
            flags: ACK | PSH,
            window: 0x1234,
            tcp_options: Vec::new(),
            data_offset: None,
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// With an Ethernet header.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (kind, id) in &self.tags {
            out.extend(kind.to_be_bytes());
            out.extend(id.to_be_bytes());
        }
        out.extend(if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        out.extend(self.ip_bytes());
        out
    }

    /// Without one, as on a tun device.
    pub(crate) fn ip_bytes(&self) -> Vec<u8> {
        let tcp = self.tcp_bytes();
        let mut out = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + self.ipv4_options.len();
                let total = self.ipv4_total.unwrap_or(u16::try_from(header + tcp.len()).unwrap());
                let mut ip = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
                ip.extend(total.to_be_bytes());
                ip.extend([0x12, 0x34]);
                ip.extend(self.ipv4_fragment.to_be_bytes());
                ip.extend([64, self.protocol, 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip.extend(&self.ipv4_options);
                ip
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
                let payload = self.ipv6_payload.unwrap_or(u16::try_from(extensions + tcp.len()).unwrap());
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend(payload.to_be_bytes());
                ip.push(self.extensions.first().map_or(self.protocol, |(number, _)| *number));
                ip.push(64);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                for (index, (_, bytes)) in self.extensions.iter().enumerate() {
                    ip.push(self.extensions.get(index + 1).map_or(self.protocol, |(number, _)| *number));
                    ip.extend(&bytes[1..]);
                }
                ip
            }
            mixed => panic!("one family: {mixed:?}"),
        };
        out.extend(tcp);
        out.extend(std::iter::repeat_n(0xee, self.padding));
        out
    }

    fn tcp_bytes(&self) -> Vec<u8> {
        assert!(self.tcp_options.len().is_multiple_of(4));
        let words = u8::try_from(5 + self.tcp_options.len() / 4).unwrap();
        let mut tcp = Vec::new();
        tcp.extend(self.src.port().to_be_bytes());
        tcp.extend(self.dst.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([self.data_offset.unwrap_or(words) << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.tcp_options);
        tcp.extend(&self.payload);
        tcp
    }
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
