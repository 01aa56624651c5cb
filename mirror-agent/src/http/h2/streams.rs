//! The open streams of a connection: those whose request goes on.

/// A stream whose request has a head and no end yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Body bytes that its content length announced and that did not come yet.
    pub(super) left: Option<u64>,
    /// When something of it came last, ns.
    pub(super) seen: u64,
}

/// Open streams in the order of their numbers, which is the order in which they are opened (RFC 9113 section 5.1.1).
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    highest: u32,
}

/// Places that are kept when no stream is open.
const KEPT_STREAMS: usize = 16;

impl Streams {
    /// Whether a frame on `id` finds it idle.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        // A client opens no even stream, and never will.
        id > self.highest || id.is_multiple_of(2)
    }

    /// `id` was used; lower ones that were not are closed by it.
    pub(super) fn used(&mut self, id: u32) {
        self.highest = id;
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.place(id)?;
        self.open.get_mut(at)
    }

    pub(super) fn is_open(&self, id: u32) -> bool {
        self.place(id).is_some()
    }

    pub(super) fn open(&mut self, stream: Stream) {
        self.open.push(stream);
    }

    pub(super) fn close(&mut self, id: u32) -> bool {
        let Some(at) = self.place(id) else { return false };
        self.open.remove(at);
        if self.open.is_empty() {
            self.open.shrink_to(KEPT_STREAMS);
        }
        true
    }

    /// Memory it takes beside its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        self.open.capacity() * size_of::<Stream>()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Closes the stream that was quiet longest, if it was for `quiet_ns`.
    pub(super) fn close_quietest(&mut self, now: u64, quiet_ns: u64) -> Option<u32> {
        let id = self
            .open
            .iter()
            .min_by_key(|stream| stream.seen)
            .filter(|s| now.saturating_sub(s.seen) >= quiet_ns)?
            .id;
        self.close(id);
        Some(id)
    }

    /// Closes all of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.open).into_iter().map(|stream| stream.id)
    }

    fn place(&self, id: u32) -> Option<usize> {
        // Most frames belong to the youngest stream.
        let last = self.open.len().checked_sub(1)?;
        if self.open[last].id == id {
            return Some(last);
        }
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}
