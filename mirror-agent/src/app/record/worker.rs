//! One recorder's thread: wait, read, write, and again. Waits as a shard of `mirror run` does.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use nix::time::ClockId;

use super::Shared;
use crate::app::worker::{BATCH_BYTES, COMMANDS, IDLE_TICKS, RING, SLICE_NS, TICK, clock};
use crate::kernel::ring::{Drained, Ring};
use crate::kernel::thread::set_batch;
use crate::record::{Books, LeftOut, Recorder};

/// Reads one ring and writes what is in it.
pub(super) struct Worker {
    ring: Ring,
    recorder: Recorder,
    shared: Arc<Shared>,
    poll: Poll,
}

/// A worker's thread.
pub(super) struct Shard {
    thread: JoinHandle<io::Result<()>>,
    /// The taps are gone: write what is left until then.
    stop: Sender<Instant>,
    waker: Waker,
    ended: Receiver<()>,
    pub(super) books: Arc<Books>,
}

impl Shard {
    /// Starts a thread.
    pub(super) fn start(index: usize, worker: Worker, books: Arc<Books>) -> anyhow::Result<Self> {
        let waker = Waker::new(worker.poll.registry(), COMMANDS).context("eventfd is not to be had")?;
        let (stop, commands) = channel();
        let (done, ended) = channel();
        let shared = worker.shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("recorder-{index}"))
            .spawn(move || {
                if let Err(error) = set_batch(Some(SLICE_NS)) {
                    tracing::debug!(%error, "no batch scheduling here");
                }
                let result = worker.run(&commands);
                // Whatever ended it: nobody reads this ring any more.
                shared.news.notify_one();
                let _nobody_waits = done.send(());
                result
            })
            .context("a recorder's thread cannot start")?;
        Ok(Self { thread, stop, waker, ended, books })
    }

    /// Ends all: what is in the rings is written until `deadline`. A write that hangs is waited for a little longer.
    ///
    /// # Errors
    ///
    /// When one failed, or hangs; its thread is left behind then.
    pub(super) fn stop_all(shards: Vec<Self>, deadline: Instant, grace: Duration) -> anyhow::Result<()> {
        for shard in &shards {
            // One that has ended is noticed below.
            let _ended = shard.stop.send(deadline);
            let _ended = shard.waker.wake();
        }
        let mut result = Ok(());
        for (index, shard) in shards.into_iter().enumerate() {
            let left = (deadline + grace).saturating_duration_since(Instant::now());
            if shard.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                let hangs = "the disk takes nothing: what was to be written last is not, and the file may end within a packet";
                result = Err(anyhow!("recorder {index}: {hangs}"));
                continue;
            }
            match shard.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(anyhow!(error).context(format!("recorder {index} failed"))),
                Err(_) => result = Err(anyhow!("recorder {index} panicked")),
            }
        }
        result
    }
}

impl Worker {
    pub(super) fn new(ring: Ring, recorder: Recorder, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let poll = Poll::new().context("epoll is not to be had")?;
        poll.registry()
            .register(&mut SourceFd(&ring.as_raw_fd()), RING, Interest::READABLE)
            .context("a ring cannot be polled")?;
        Ok(Self { ring, recorder, shared, poll })
    }

    /// Runs until it is told to stop.
    fn run(mut self, commands: &Receiver<Instant>) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        let mut empty = 0;
        let mut timeout = Some(Duration::ZERO);
        loop {
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            self.ring.wake();
            match commands.try_recv() {
                Ok(deadline) => {
                    self.finish(deadline);
                    return Ok(());
                }
                Err(TryRecvError::Empty) => {}
                // The control thread is gone: so are we.
                Err(TryRecvError::Disconnected) => {
                    self.finish(Instant::now());
                    return Ok(());
                }
            }
            let started = Instant::now();
            let drained = self.drain(BATCH_BYTES);
            let now = clock(ClockId::CLOCK_MONOTONIC);
            if self.recorder.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.recorder.tick(now);
            }
            self.write();
            timeout = Some(Duration::ZERO);
            if drained.more {
                continue;
            }
            empty = if drained.records > 0 { 0 } else { empty + 1 };
            if empty < IDLE_TICKS {
                std::thread::sleep(TICK.saturating_sub(started.elapsed()));
            } else if self.ring.sleep() {
                let left = |deadline: u64| Duration::from_nanos(deadline.saturating_sub(now));
                timeout = self.recorder.next_deadline().map(left);
            }
        }
    }

    /// Reads about `budget` bytes, and writes whenever enough has gathered.
    fn drain(&mut self, budget: usize) -> Drained {
        let Self { ring, recorder, shared, .. } = self;
        ring.drain(budget, |record| {
            recorder.record(record);
            if recorder.is_full() && !recorder.write(&shared.files) {
                shared.fail();
            }
        })
    }

    fn write(&mut self) {
        if !self.recorder.write(&self.shared.files) {
            self.shared.fail();
        }
    }

    /// Writes what is in the ring, as far as there is time.
    fn finish(&mut self, deadline: Instant) {
        while self.drain(BATCH_BYTES).more {
            if Instant::now() >= deadline {
                self.recorder.give_up(LeftOut::Shutdown);
            }
        }
        self.recorder.close(clock(ClockId::CLOCK_MONOTONIC));
        self.write();
    }
}
