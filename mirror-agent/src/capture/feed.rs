//! Several captures as one: which begin anew, the segments in their packets, and counts of it all.

use super::Packet;
use crate::packet::{FragmentLimits, FragmentsLost, LinkType, NoSegment, TcpView, Unwrapper};

/// A file that begins earlier than this before the end of the one before it is no continuation of it, ns.
const OVERLAP_NS: u64 = 1_000_000_000;

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Files that could be opened.
    pub files: u64,
    /// Files that are no continuation of the one before.
    pub restarts: u64,
    /// Packets.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Packets that hold (or complete) a TCP segment.
    pub segments: u64,
    /// Segments of ports that were not asked for.
    pub other_ports: u64,
    /// Packets that hold none, by [`NoSegment`].
    pub no_segment: [u64; NoSegment::ALL.len()],
    /// Link types that are not read, each once.
    pub unread_links: Vec<u32>,
    /// The earliest time, ns since 1970.
    pub first_ns: u64,
    /// The latest time.
    pub last_ns: u64,
}

impl Totals {
    /// Most link types that are named.
    const MAX_LINKS: usize = 8;

    #[inline]
    fn saw(&mut self, packet: &Packet<'_>) {
        if self.packets == 0 {
            self.first_ns = packet.time;
        }
        self.packets += 1;
        self.bytes += u64::from(packet.len);
        self.last_ns = self.last_ns.max(packet.time);
        self.first_ns = self.first_ns.min(packet.time);
    }

    fn none(&mut self, why: NoSegment, link: LinkType) {
        if let Some(sum) = self.no_segment.get_mut(why as usize) {
            *sum += 1;
        }
        if why == NoSegment::LinkType
            && self.unread_links.len() < Self::MAX_LINKS
            && !self.unread_links.contains(&link.0)
        {
            self.unread_links.push(link.0);
        }
    }
}

/// Takes the packets of one file after the other.
pub struct Feed {
    unwrapper: Unwrapper,
    totals: Totals,
    /// The next packet is the first of its file.
    first: bool,
    /// The latest time of the capture that is being read, over its files.
    end_ns: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            unwrapper: Unwrapper::new(FragmentLimits::default()),
            totals: Totals::default(),
            first: true,
            end_ns: 0,
        }
    }
}

impl Feed {
    /// A file begins.
    pub fn file(&mut self) {
        self.totals.files += 1;
        self.first = true;
    }

    /// Whatever comes next is no continuation.
    pub fn restart(&mut self) {
        self.end_ns = 0;
    }

    /// The next packet of the file. True if it is the first of one that is no continuation of what came before.
    #[inline]
    pub fn begins_anew(&mut self, packet: &Packet<'_>) -> bool {
        let anew = std::mem::take(&mut self.first) && packet.time.saturating_add(OVERLAP_NS) < self.end_ns;
        if anew {
            self.totals.restarts += 1;
            self.end_ns = 0;
        }
        self.end_ns = self.end_ns.max(packet.time);
        self.totals.saw(packet);
        anew
    }

    /// The segment in the packet, if it holds or completes one.
    #[inline]
    pub fn segment<'a>(&'a mut self, packet: &Packet<'a>) -> Option<TcpView<'a>> {
        match self.unwrapper.segment(packet.link, packet.bytes, packet.len, packet.time) {
            Ok(view) => {
                self.totals.segments += 1;
                Some(view)
            }
            Err(why) => {
                self.totals.none(why, packet.link);
                None
            }
        }
    }

    /// A segment was of a port that was not asked for.
    #[inline]
    pub fn other_port(&mut self) {
        self.totals.other_ports += 1;
    }

    /// What was read so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Datagrams that were put together.
    #[must_use]
    pub fn reassembled(&self) -> u64 {
        self.unwrapper.reassembled()
    }

    /// Fragments that never became a datagram, those that still wait included.
    #[must_use]
    pub fn fragments_lost(&self) -> FragmentsLost {
        self.unwrapper.fragments_lost()
    }
}
