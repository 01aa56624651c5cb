//! A thread that reads captures ahead: neither a slow disk nor a pipe on which nothing comes keeps the sockets waiting.

use std::cell::RefCell;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use anyhow::Context;
use mio::Waker;

use crate::capture::{self, Packet, Reader};
use crate::packet::LinkType;

/// Batches that are read ahead.
pub(super) const MAX_BATCHES_AHEAD: usize = 4;
/// A batch is handed over when it holds so many bytes, or before the next read of the file.
const BATCH_BYTES: usize = 256 << 10;

/// What the thread has to say, in order.
pub(super) enum News {
    /// Another round over all files begins.
    Round,
    /// A file begins.
    File,
    /// Its next packets.
    Packets(Batch),
    /// It cannot be read on.
    Fault(capture::Error),
    /// Everything was read.
    End,
}

/// Packets with their bytes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    link: LinkType,
    time: u64,
    len: u32,
    sparse: bool,
    /// Where its bytes end, those of the one before having ended where they begin.
    end: usize,
}

impl Batch {
    fn push(&mut self, packet: &Packet<'_>) {
        self.bytes.extend_from_slice(packet.bytes);
        let Packet { link, time, len, sparse, .. } = *packet;
        self.packets.push(Place { link, time, len, sparse, end: self.bytes.len() });
    }

    /// Memory that it takes, bytes: packets without any take their place all the same.
    fn size(&self) -> usize {
        self.bytes.len() + self.packets.len() * size_of::<Place>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    /// The packets in order.
    pub(super) fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut start = 0;
        self.packets.iter().map(move |place| {
            let from = std::mem::replace(&mut start, place.end);
            let bytes = self.bytes.get(from..place.end).unwrap_or_default();
            let Place { link, time, len, sparse, .. } = *place;
            Packet { link, time, len, sparse, bytes }
        })
    }
}

/// The other end of the thread.
pub(super) struct Source {
    pub(super) news: Receiver<News>,
    /// Batches that were used up, to be filled again.
    pub(super) spent: Sender<Batch>,
}

/// Begins to read `files`, `rounds` times over; `waker` is woken for all news. The thread ends when nobody listens; one that
/// waits for a pipe ends with the process.
pub(super) fn start(files: Vec<PathBuf>, rounds: NonZeroU32, waker: Arc<Waker>) -> anyhow::Result<Source> {
    let (sender, news) = sync_channel(MAX_BATCHES_AHEAD);
    let (spent, spare) = channel();
    std::thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            let outbox = Rc::new(RefCell::new(Outbox { batch: Batch::default(), sender, waker, spare }));
            let _nobody_listens = read_all(&files, rounds, &outbox);
        })
        .context("the thread that reads the files cannot start")?;
    Ok(Source { news, spent })
}

/// Nobody listens any more.
struct Gone;

/// Packets that were read and not handed over.
struct Outbox {
    batch: Batch,
    sender: SyncSender<News>,
    waker: Arc<Waker>,
    spare: Receiver<Batch>,
}

impl Outbox {
    fn put(&mut self, packet: &Packet<'_>) -> Result<(), Gone> {
        self.batch.push(packet);
        if self.batch.size() >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Gone> {
        if self.batch.packets.is_empty() {
            return Ok(());
        }
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.clear();
        let batch = std::mem::replace(&mut self.batch, next);
        self.tell(News::Packets(batch))
    }

    fn tell(&self, news: News) -> Result<(), Gone> {
        self.sender.send(news).map_err(|_| Gone)?;
        // Woken or not, it looks within its own time.
        let _late = self.waker.wake();
        Ok(())
    }
}

/// Hands over what was read before it reads on, which may take for ever.
struct Handing {
    source: Box<dyn Read>,
    outbox: Rc<RefCell<Outbox>>,
}

impl Read for Handing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.outbox.borrow_mut().hand_over() {
            Ok(()) => self.source.read(buf),
            Err(Gone) => Ok(0),
        }
    }
}

fn read_all(files: &[PathBuf], rounds: NonZeroU32, outbox: &Rc<RefCell<Outbox>>) -> Result<(), Gone> {
    for round in 0..rounds.get() {
        if round > 0 {
            outbox.borrow().tell(News::Round)?;
        }
        for file in files {
            let fault = read_one(file, outbox)?;
            outbox.borrow_mut().hand_over()?;
            if let Some(fault) = fault {
                outbox.borrow().tell(News::Fault(fault))?;
            }
        }
    }
    outbox.borrow().tell(News::End)
}

/// Reads a file; what is wrong with it, if anything.
fn read_one(file: &Path, outbox: &Rc<RefCell<Outbox>>) -> Result<Option<capture::Error>, Gone> {
    let handing = |source| Box::new(Handing { source, outbox: outbox.clone() }) as Box<dyn Read>;
    let mut reader = match Reader::open_through(file, handing) {
        Ok(reader) => reader,
        Err(error) => return Ok(Some(error)),
    };
    outbox.borrow().tell(News::File)?;
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => outbox.borrow_mut().put(&packet)?,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::capture::Packet;
    use crate::packet::LinkType;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let all: [(u64, &[u8]); 4] = [(1, b"one"), (2, b""), (3, b"three"), (9, b"!")];
        let mut batch = Batch::default();
        for _again in 0..2 {
            batch.clear();
            for (time, bytes) in all {
                batch.push(&Packet { link: LinkType(1), time, len: 60, sparse: false, bytes });
            }
            let back: Vec<_> = batch.packets().map(|packet| (packet.time, packet.bytes)).collect();
            assert_eq!(back, all);
            assert!(batch.packets().all(|packet| packet.link == LinkType(1) && packet.len == 60));
        }
    }
}
