//! The other source beside the kernel's rings: capture files, pcap and pcapng, gzip or not, in bounded memory. And the
//! pcapng that `mirror record` writes.
//!
//! [`Encoder`] makes blocks in memory; who writes them is another room's business. [`Reader`] gives packets as they stand in the file. What is in them is the `packet` room's business. The layout of
//! blocks and records is read by the crate `pcap-parser` from a window that never holds less than the whole block; the
//! window, lengths that cannot be, timestamps and the obsolete packet block are read here.

mod encode;
mod error;
mod feed;
mod pcap;
mod pcapng;
mod unzip;
mod window;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use encode::{Encoder, Statistics, TcpPacket, blocks};
pub use error::{Error, Fault};
pub use feed::{Feed, Totals};

use crate::packet::LinkType;
use window::Window;

/// Longest packet that is believed, bytes. BIG TCP makes packets of half of it; more is a broken length.
pub const MAX_PACKET_BYTES: usize = 1 << 20;
/// Longest packet or interface block of pcapng, options included, bytes. Other blocks may be longer: they are skipped
/// without being held.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;
/// Most interfaces of one pcapng section.
pub const MAX_INTERFACES: usize = 65_536;

/// One packet of a file.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What its first header is.
    pub link: LinkType,
    /// When it was captured, ns since 1970.
    pub time: u64,
    /// Its length on the wire.
    pub len: u32,
    /// What the file holds of it.
    pub bytes: &'a [u8],
    /// It was written by [`Encoder`]: of a server's packets only those are there that begin an answer or end a connection,
    /// and only their beginnings.
    pub sparse: bool,
}

/// Reads one capture.
pub struct Reader {
    name: String,
    window: Window,
    format: Format,
}

enum Format {
    Pcap(pcap::Pcap),
    PcapNg(pcapng::PcapNg),
}

impl Reader {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or read, or is no capture.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_through(path, |source| source)
    }

    /// The same, with `through` between the file and what reads it.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn open_through(
        path: &Path,
        through: impl FnOnce(Box<dyn Read>) -> Box<dyn Read>,
    ) -> Result<Self, Error> {
        if path.as_os_str() == "-" {
            return Self::new(through(Box::new(io::stdin())), "standard input");
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(through(Box::new(file)), &name),
            Err(error) => Err(Error { file: name, offset: 0, fault: Fault::Io(error) }),
        }
    }

    /// Reads a capture from `source`, which is called `name` in errors.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no capture.
    pub fn new(source: Box<dyn Read>, name: &str) -> Result<Self, Error> {
        let mut window = Window::new(source);
        match recognise(&mut window) {
            Ok(format) => Ok(Self { name: name.to_owned(), window, format }),
            Err(fault) => Err(Error { file: name.to_owned(), offset: window.offset(), fault }),
        }
    }

    /// The next packet, `None` at the end of the capture.
    ///
    /// # Errors
    ///
    /// What is wrong and where. The packets before were whole; no packet follows.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, Error> {
        let taken = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::PcapNg(pcapng) => pcapng.next(&mut self.window),
        };
        match taken {
            Ok(Some(Taken { link, time, len, at, captured, sparse })) => {
                Ok(Some(Packet { link, time, len, bytes: self.window.taken(at, captured), sparse }))
            }
            Ok(None) => Ok(None),
            Err(fault) => Err(Error { file: self.name.clone(), offset: self.window.offset(), fault }),
        }
    }
}

/// A packet that was taken out of the window, by where it lies there.
struct Taken {
    link: LinkType,
    time: u64,
    len: u32,
    at: usize,
    captured: usize,
    sparse: bool,
}

/// Tells what kind of capture it is, and takes gzip off.
fn recognise(window: &mut Window) -> Result<Format, Fault> {
    if window.need(2)? && window.bytes().starts_with(&[0x1f, 0x8b]) {
        window.unzip();
    }
    if !window.need(4)? {
        return Err(if window.bytes().is_empty() { Fault::Empty } else { Fault::CutHead });
    }
    let magic = [window.bytes()[0], window.bytes()[1], window.bytes()[2], window.bytes()[3]];
    if magic == pcapng::SECTION_HEADER {
        return Ok(Format::PcapNg(pcapng::PcapNg::new()));
    }
    if pcap::is_magic(magic) {
        return pcap::Pcap::new(window).map(Format::Pcap);
    }
    Err(Fault::NoCapture(magic))
}
