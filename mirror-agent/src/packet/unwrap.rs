//! From a whole frame, as a capture file holds it, to the TCP segment inside: link layers, tunnels, IP fragments.
//!
//! ```text
//! frame -> link -> network -> tunnel -> ... -> TCP
//!                     \-> fragment (held) -> whole datagram -> ... -> TCP
//! ```
//!
//! Checksums are not looked at: captures on the sending host hold them unfinished, because the card fills them in.
//! Where a packet is shorter in the file than it was on the wire (`snaplen`), both lengths go on, so that what is missing
//! is known to be missing.

mod fragments;
mod layer;
mod link;
mod network;
mod tunnel;

#[cfg(test)]
mod tests;

pub use fragments::{FragmentLimits, FragmentsLost};
pub use link::LinkType;

use super::{Flags, Peer, Seq};
use fragments::{Fragment, Fragments};
use layer::Layer;
use network::Ends;

/// Most headers taken off one packet: deeper nesting is an attack or a loop, not a network.
pub const MAX_LAYERS: usize = 24;

/// One TCP segment inside a frame.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    /// Sender.
    pub src: Peer,
    /// Receiver.
    pub dst: Peer,
    /// Sequence number of the SYN if there is one, else of the first payload byte.
    pub seq: Seq,
    /// Acknowledgement number, `None` without the ACK flag.
    pub ack: Option<Seq>,
    /// TCP flags.
    pub flags: Flags,
    /// Advertised window, unscaled.
    pub window: u16,
    /// Payload bytes on the wire.
    pub len: u32,
    /// Payload bytes in the file: the first of them, and mostly all.
    pub payload: &'a [u8],
}

/// Why a frame gives no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoSegment {
    /// A link type that is not read here.
    LinkType,
    /// Not IP: ARP, spanning tree, an unknown tunnel.
    NotIp,
    /// IP, but not TCP.
    NotTcp,
    /// The file holds too little of the packet to tell.
    Cut,
    /// A length or version contradicts itself.
    Malformed,
    /// More than [`MAX_LAYERS`] headers.
    TooDeep,
    /// A fragment whose datagram is not whole yet. What becomes of that is counted in [`FragmentsLost`].
    Fragment,
}

impl NoSegment {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::LinkType, "link_type"),
        (Self::NotIp, "not_ip"),
        (Self::NotTcp, "not_tcp"),
        (Self::Cut, "cut"),
        (Self::Malformed, "malformed"),
        (Self::TooDeep, "too_deep"),
        (Self::Fragment, "fragment"),
    ];
}

/// Takes frames apart. Keeps nothing but fragments that wait for the rest of their datagram.
#[derive(Debug)]
pub struct Unwrapper {
    fragments: Fragments,
    /// The datagram that was put together last.
    whole: Vec<u8>,
}

/// What to take off next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Link(LinkType),
    EtherType(u16),
    Ppp,
    Llc,
    /// IPv4 or IPv6, as its first four bits say.
    Ip,
    /// What an IP header announced.
    Protocol(u8, Ends),
}

/// Where the walk through the headers led.
enum Walked<'a> {
    Tcp(TcpView<'a>),
    Fragment(Fragment<'a>),
}

impl Unwrapper {
    /// An unwrapper that holds at most what `limits` say.
    #[must_use]
    pub fn new(limits: FragmentLimits) -> Self {
        Self { fragments: Fragments::new(limits), whole: Vec::new() }
    }

    /// The segment in a frame of link type `link`: `bytes` of it are in the file, `len` were on the wire, at `time` (ns).
    ///
    /// # Errors
    ///
    /// Why there is none. The fragment that completes a datagram gives the datagram's segment.
    #[inline]
    pub fn segment<'a>(
        &'a mut self,
        link: LinkType,
        bytes: &'a [u8],
        len: u32,
        time: u64,
    ) -> Result<TcpView<'a>, NoSegment> {
        match walk(Step::Link(link), Layer::new(bytes, len as usize))? {
            Walked::Tcp(view) => Ok(view),
            Walked::Fragment(fragment) => self.fragment(&fragment, time),
        }
    }

    /// Datagrams that were put together.
    #[must_use]
    pub fn reassembled(&self) -> u64 {
        self.fragments.reassembled
    }

    /// Fragments that never became a datagram, those that still wait included.
    #[must_use]
    pub fn fragments_lost(&self) -> FragmentsLost {
        self.fragments.lost()
    }

    #[inline(never)]
    fn fragment<'a>(&'a mut self, fragment: &Fragment<'_>, time: u64) -> Result<TcpView<'a>, NoSegment> {
        let mut wire = self.fragments.add(fragment, time, &mut self.whole)?.ok_or(NoSegment::Fragment)?;
        let mut step = Step::Protocol(fragment.protocol, fragment.ends);
        // A tunnel in fragments may carry fragments.
        for _ in 0..MAX_LAYERS {
            let outer = std::mem::take(&mut self.whole);
            match walk(step, Layer::new(&outer, wire))? {
                Walked::Fragment(inner) => {
                    wire = self.fragments.add(&inner, time, &mut self.whole)?.ok_or(NoSegment::Fragment)?;
                    step = Step::Protocol(inner.protocol, inner.ends);
                }
                Walked::Tcp(_) => {
                    // The same way again, now in the buffer that outlives this call.
                    self.whole = outer;
                    return match walk(step, Layer::new(&self.whole, wire))? {
                        Walked::Tcp(view) => Ok(view),
                        Walked::Fragment(_) => Err(NoSegment::Fragment),
                    };
                }
            }
        }
        Err(NoSegment::TooDeep)
    }
}

#[inline]
fn walk(mut step: Step, mut layer: Layer<'_>) -> Result<Walked<'_>, NoSegment> {
    for _ in 0..MAX_LAYERS {
        (step, layer) = match step {
            Step::Link(link) => link::take(link, layer)?,
            Step::EtherType(kind) => link::ether_type(kind, layer)?,
            Step::Ppp => link::ppp(layer)?,
            Step::Llc => link::llc(layer)?,
            Step::Ip => match network::ip(layer)? {
                network::Ip::Whole { protocol, ends, rest } => (Step::Protocol(protocol, ends), rest),
                network::Ip::Fragment(fragment) => return Ok(Walked::Fragment(fragment)),
            },
            Step::Protocol(network::TCP, ends) => return network::tcp(ends, layer).map(Walked::Tcp),
            Step::Protocol(protocol, ends) if network::is_extension(protocol) => {
                let (next, rest) = network::extension(protocol, layer)?;
                (Step::Protocol(next, ends), rest)
            }
            Step::Protocol(protocol, _) => tunnel::take(protocol, layer)?,
        };
    }
    Err(NoSegment::TooDeep)
}
