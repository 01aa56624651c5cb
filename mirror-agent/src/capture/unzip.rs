//! gzip taken off (RFC 1952), one member after the other. What was unpacked before a fault is given before the fault is told,
//! to the byte: the decoders of the crate drop what they unpacked in the call that fails.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// Bytes of one read of the packed source.
const READ_BYTES: usize = 64 << 10;
/// The largest window of RFC 1951, as a power of two: takes all others.
const WINDOW_BITS: u8 = 15;

/// What is inside of a gzip source.
pub(super) struct Unzip {
    source: Box<dyn Read>,
    input: Box<[u8]>,
    from: usize,
    to: usize,
    eof: bool,
    inflate: Decompress,
    /// Between two members.
    fresh: bool,
    failed: Option<io::Error>,
}

impl Unzip {
    /// Unpacks `source`.
    pub(super) fn new(source: Box<dyn Read>) -> Self {
        Self {
            source,
            input: vec![0; READ_BYTES].into(),
            from: 0,
            to: 0,
            eof: false,
            inflate: Decompress::new_gzip(WINDOW_BITS),
            fresh: true,
            failed: None,
        }
    }
}

impl Read for Unzip {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.from == self.to && !self.eof {
                self.from = 0;
                self.to = self.source.read(&mut self.input)?;
                self.eof = self.to == 0;
            }
            if self.eof && self.fresh {
                return Ok(0);
            }
            let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
            let status =
                self.inflate.decompress(&self.input[self.from..self.to], into, FlushDecompress::None);
            // Neither is more than there was: both fit.
            let taken = usize::try_from(self.inflate.total_in() - taken).unwrap_or(usize::MAX);
            let given = usize::try_from(self.inflate.total_out() - given).unwrap_or(usize::MAX);
            self.from += taken;
            match status {
                Ok(Status::StreamEnd) => {
                    self.inflate = Decompress::new_gzip(WINDOW_BITS);
                    self.fresh = true;
                }
                Ok(_) if taken > 0 || given > 0 => self.fresh = false,
                Ok(_) if self.eof => {
                    self.failed =
                        Some(io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip stream is cut"));
                }
                Ok(_) => self.failed = Some(corrupt("nothing can be made of it")),
                Err(error) => self.failed = Some(corrupt(error.message().unwrap_or("it cannot be read"))),
            }
            if given > 0 {
                return Ok(given);
            }
        }
        Ok(0)
    }
}

fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the gzip stream is corrupt: {why}"))
}
