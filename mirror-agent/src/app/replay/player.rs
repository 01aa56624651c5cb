//! The thread that plays a capture: packets when they are due, and the shadows' sockets in between.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::{Events, Poll};

use super::reader::{Batch, News, Source};
use crate::app::worker::{COMMANDS, Command};
use crate::capture::{self, Feed};
use crate::dialog::{Dialogs, FileClock};
use crate::pipeline::{Captured, Pause, Shadows};
use crate::stats::ledger::Counter;

/// Packet bytes between two looks at the sockets, and what a packet counts beside its bytes.
const TURN_BYTES: usize = 64 << 10;
const PACKET_COST: usize = 64;
/// How often what was read is made visible, ns.
const PUBLISH_NS: u64 = 200_000_000;
/// Gaps in a capture from this on are said to be waited for, ns.
const LONG_NS: u64 = 60_000_000_000;

/// The sockets of the shadows, and the ear of the control thread.
pub(super) struct Sockets {
    poll: Poll,
    events: Events,
    commands: Receiver<Command>,
    stopped: bool,
}

impl Sockets {
    pub(super) fn new(poll: Poll, commands: Receiver<Command>) -> Self {
        Self { poll, events: Events::with_capacity(1024), commands, stopped: false }
    }
}

impl Pause for Sockets {
    fn pause(&mut self, timeout: Option<Duration>, shadows: &mut Shadows) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &self.events {
            if event.token() != COMMANDS {
                shadows.on_event(event);
            }
        }
        // The reader wakes this thread too, so nothing is to be had from the event itself.
        loop {
            match self.commands.try_recv() {
                Ok(Command::Addrs(addrs)) => {
                    for (target, addrs) in addrs.iter().enumerate() {
                        shadows.set_addrs(target, addrs);
                    }
                }
                Ok(Command::Stop(_)) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        Ok(!self.stopped)
    }
}

/// The thread and all it owns.
pub(super) struct Player {
    dialogs: Dialogs<Captured>,
    feed: Feed,
    clock: FileClock,
    source: Source,
    /// Payload of requests in the packets so far, for the books.
    matched: Arc<Counter>,
    /// The longest that a copy may go without an outcome when everything was read.
    patience: Duration,
    /// How long whole copies may still be answered after the signal to stop.
    grace: Duration,
    faults: Vec<capture::Error>,
    publish_at: u64,
    unpublished: bool,
    /// Work since the last look at the sockets.
    work: usize,
}

impl Player {
    pub(super) fn new(
        dialogs: Dialogs<Captured>,
        source: Source,
        matched: Arc<Counter>,
        patience: Duration,
        grace: Duration,
    ) -> Self {
        Self {
            dialogs,
            feed: Feed::default(),
            clock: FileClock::default(),
            source,
            matched,
            patience,
            grace,
            faults: Vec::new(),
            publish_at: 0,
            unpublished: false,
            work: 0,
        }
    }

    /// Plays everything, or until it is told to stop; what was wrong with files, each fault once.
    pub(super) fn run(mut self) -> io::Result<Vec<capture::Error>> {
        let played = self.play();
        if self.captured().is_leaving() {
            self.captured().leave();
            self.dialogs.abandon();
            self.wait_for_answers(self.grace);
        } else {
            self.dialogs.finish();
            self.publish();
            // A signal may have come while the end was played.
            let time = if self.captured().is_leaving() { self.grace } else { self.patience };
            self.wait_for_answers(time);
        }
        self.captured().shutdown();
        self.publish();
        if let Some(error) = self.captured().failure() {
            return Err(error);
        }
        played?;
        self.warn_of_unread();
        Ok(self.faults)
    }

    fn captured(&mut self) -> &mut Captured {
        self.dialogs.observer()
    }

    fn play(&mut self) -> io::Result<()> {
        loop {
            match self.source.news.try_recv() {
                Ok(News::End) => return Ok(()),
                Ok(News::Round) => {
                    self.feed.restart();
                    self.restart();
                }
                Ok(News::File) => self.feed.file(),
                Ok(News::Packets(batch)) => {
                    self.packets(&batch);
                    // If the reader has ended, nobody needs it.
                    let _ended = self.source.spent.send(batch);
                }
                Ok(News::Fault(fault)) => self.fault(fault),
                Err(TryRecvError::Empty) => {
                    self.turn(None);
                }
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("the thread that reads the files ended by itself"));
                }
            }
            if self.captured().is_leaving() {
                return Ok(());
            }
        }
    }

    /// The next packets of the file, each when it is due.
    fn packets(&mut self, batch: &Batch) {
        for packet in batch.packets() {
            if self.feed.begins_anew(&packet) {
                self.restart();
            }
            self.clock.set(packet.time);
            let file = self.clock.now();
            let due = self.captured().due(file);
            if due > self.captured().now() {
                self.wait_until(due);
            }
            if self.captured().is_leaving() {
                return;
            }
            if let Some(view) = self.feed.segment(&packet)
                && !self.dialogs.segment(&view, packet.time, packet.sparse)
            {
                self.feed.other_port();
            }
            self.unpublished = true;
            self.work += packet.bytes.len() + PACKET_COST;
            if self.work >= TURN_BYTES {
                self.turn(Some(0));
            }
        }
    }

    fn wait_until(&mut self, due: u64) {
        let left = due.saturating_sub(self.captured().now());
        if left >= LONG_NS {
            tracing::warn!(
                "nothing is due for {} s: the capture has a gap there; --speed max does not wait",
                left / 1_000_000_000
            );
        }
        while self.captured().now() < due && self.turn(Some(due)) {}
    }

    /// Writes, and listens to sockets until `until` (ns) at most. False: it is time to leave.
    fn turn(&mut self, until: Option<u64>) -> bool {
        self.work = 0;
        let publish = self.unpublished.then_some(self.publish_at);
        let until = [until, publish].into_iter().flatten().min();
        let goes_on = self.captured().turn(until);
        if self.unpublished && self.captured().now() >= self.publish_at {
            self.publish();
        }
        goes_on
    }

    fn publish(&mut self) {
        self.unpublished = false;
        self.publish_at = self.captured().now() + PUBLISH_NS;
        let (bytes, counters) = (*self.dialogs.bytes(), *self.dialogs.counters());
        let (open, h2_memory) = (self.dialogs.open(), self.dialogs.h2_memory());
        // What it is the sum of comes after it.
        self.matched.set(bytes.captured.saturating_sub(bytes.responses));
        self.captured().publish(&bytes, &counters, open, h2_memory);
    }

    /// What comes next has nothing to do with what came before.
    fn restart(&mut self) {
        self.dialogs.restart();
        self.captured().restart();
        self.clock = FileClock::default();
    }

    /// Once for each file, however often it is read.
    fn fault(&mut self, fault: capture::Error) {
        let said = fault.to_string();
        if self.faults.iter().all(|known| known.to_string() != said) {
            self.faults.push(fault);
        }
    }

    /// Lets copies be answered, as long as one has got its outcome in the last `patience`.
    fn wait_for_answers(&mut self, patience: Duration) {
        let leaving = self.captured().is_leaving();
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let mut unfinished = self.captured().unfinished();
        let mut end = self.captured().now().saturating_add(patience);
        while unfinished > 0 && self.captured().now() < end {
            let goes_on = self.turn(Some(end));
            if !leaving && !goes_on {
                // The signal came meanwhile.
                self.captured().leave();
                return self.wait_for_answers(self.grace);
            }
            let left = self.captured().unfinished();
            if !leaving && left < unfinished {
                end = self.captured().now().saturating_add(patience);
            }
            unfinished = left;
        }
    }

    /// A capture that is not read is said to be so: it may look as if nothing were in it.
    fn warn_of_unread(&self) {
        let totals = self.feed.totals();
        if !totals.unread_links.is_empty() {
            tracing::warn!(
                "link types that are not read: {:?}; their packets were passed over",
                totals.unread_links
            );
        }
        if totals.packets > 0 && totals.segments == 0 {
            tracing::warn!("none of the {} packets holds a TCP segment", totals.packets);
        }
    }
}
