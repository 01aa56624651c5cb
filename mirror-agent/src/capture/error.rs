//! What can be wrong with a capture, in one line with the place.

use std::fmt;
use std::io;

use super::{MAX_BLOCK_BYTES, MAX_INTERFACES, MAX_PACKET_BYTES};

/// Why a capture cannot be read on.
#[derive(Debug)]
pub struct Error {
    /// The file.
    pub file: String,
    /// Where in it, bytes from its beginning; in what is inside if it is gzip.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system, or gzip.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No byte.
    #[error("the file is empty")]
    Empty,
    /// Its first bytes are those of something else.
    #[error("neither pcap nor pcapng: it begins with {}{}", hex(.0), hint(*.0))]
    NoCapture([u8; 4]),
    /// It ends within its head.
    #[error("the file ends within its header")]
    CutHead,
    /// It ends within a packet or block.
    #[error("the file ends within a packet: {missing} bytes are missing")]
    Cut {
        /// Bytes that should have followed, at least.
        missing: u64,
    },
    /// A version that nobody writes.
    #[error("pcap version {0}.{1} is not known here, 2.4 is")]
    Version(u16, u16),
    /// A length that cannot be.
    #[error("a packet of {0} bytes: the length is broken (most is {MAX_PACKET_BYTES})")]
    PacketLength(u64),
    /// A block's length that cannot be.
    #[error(
        "a block of type {kind:#x} and {len} bytes: the length is broken (most for its type is {MAX_BLOCK_BYTES})"
    )]
    BlockLength {
        /// The block's type.
        kind: u32,
        /// Its length.
        len: u64,
    },
    /// What a block holds contradicts its length.
    #[error("a block of type {0:#x} is broken")]
    Block(u32),
    /// A section header whose byte order mark is none.
    #[error("a section header without byte order mark")]
    ByteOrder,
    /// A packet of an interface that no block described.
    #[error("a packet of interface {0}, which no block before it describes")]
    Interface(u32),
    /// Over [`MAX_INTERFACES`].
    #[error("over {MAX_INTERFACES} interfaces in one section")]
    Interfaces,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            // Nothing was read yet: the place says nothing.
            Fault::Io(error) if self.offset == 0 => write!(f, "{}: {error}", self.file),
            fault => write!(f, "{}: at byte {}: {fault}", self.file, self.offset),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

fn hex(bytes: &[u8; 4]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

/// What a file that is no capture may be, and how to mend it.
fn hint(magic: [u8; 4]) -> &'static str {
    match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => " (zstd: decompress it first)",
        [0xfd, b'7', b'z', b'X'] => " (xz: decompress it first)",
        [b'B', b'Z', b'h', _] => " (bzip2: decompress it first)",
        [0x04, 0x22, 0x4d, 0x18] => " (lz4: decompress it first)",
        [b'P', b'K', ..] => " (zip: unpack it first)",
        [b's', b'n', b'o', b'o'] => " (snoop: convert it with editcap)",
        _ => "",
    }
}
