//! The part of a capture that is in memory: large reads, nothing copied but what straddles two of them.

use std::io::{self, Cursor, Read};

use super::unzip::Unzip;

/// Bytes of one read. Larger ones leave the cache before they are looked at.
const READ_BYTES: usize = 256 << 10;

/// A window that moves over a source.
pub(super) struct Window {
    source: Box<dyn Read>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the source `start` is.
    offset: u64,
    eof: bool,
}

impl Window {
    pub(super) fn new(source: Box<dyn Read>) -> Self {
        Self { source, buf: vec![0; READ_BYTES], start: 0, end: 0, offset: 0, eof: false }
    }

    /// What was read and not taken.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Where the window begins in the source.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads on until there are `n` bytes. False if the source ends before.
    #[inline]
    pub(super) fn need(&mut self, n: usize) -> io::Result<bool> {
        if self.end - self.start >= n { Ok(true) } else { self.fill(n) }
    }

    /// Goes on by `n` bytes of the window, and gives where they lie for [`Window::taken`].
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> usize {
        let at = self.start;
        self.start += n;
        self.offset += n as u64;
        at
    }

    /// Bytes that were taken, valid until more are needed.
    #[inline]
    pub(super) fn taken(&self, at: usize, len: usize) -> &[u8] {
        self.buf.get(at..at + len).unwrap_or_default()
    }

    /// Goes on by `n` bytes that nobody looks at. Gives how many of them were missing.
    pub(super) fn skip(&mut self, mut n: u64) -> io::Result<u64> {
        while n > 0 {
            let here = usize::try_from(n).unwrap_or(usize::MAX).min(self.end - self.start);
            self.take(here);
            n -= here as u64;
            if n > 0 && !self.need(1)? {
                return Ok(n);
            }
        }
        Ok(0)
    }

    /// What was read and what follows is gzip: the window shows what is inside from now on.
    pub(super) fn unzip(&mut self) {
        let read = self.bytes().to_vec();
        let source = std::mem::replace(&mut self.source, Box::new(io::empty()));
        self.source = Box::new(Unzip::new(Box::new(Cursor::new(read).chain(source))));
        (self.start, self.end, self.offset, self.eof) = (0, 0, 0, false);
    }

    #[inline(never)]
    fn fill(&mut self, n: usize) -> io::Result<bool> {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buf.len() < n {
            self.buf.resize(n.next_multiple_of(READ_BYTES), 0);
        }
        while self.end < n && !self.eof {
            match self.source.read(&mut self.buf[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end >= n)
    }
}
