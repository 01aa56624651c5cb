//! One shard's thread: wait, read, write, and again.
//!
//! Under load it works in ticks of a quarter of a millisecond: what came in meanwhile is read from the ring in one go and
//! leaves in one write per connection, and replies are read in batches too (the kernel stamped them when they came). A
//! shard with nothing to do sleeps without a timer, and the tap wakes it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

use super::headroom::Headroom;
use crate::kernel::ring::Ring;
use crate::pipeline::Pipeline;
use crate::stats::ledger::ShardLedger;

/// How long a shard under load lets records gather. Short, so that its bursts of work, and the shadow's that follow, hold
/// up no core that the primary needs; long enough that a wake-up serves many requests.
pub(super) const TICK: Duration = Duration::from_micros(250);
/// Ticks without a record after which a shard sleeps until the tap wakes it.
pub(super) const IDLE_TICKS: u32 = 4;
/// Ring bytes handled between two looks at the sockets.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// Slice of a shard at normal priority, ns: longer than anybody's own, so that the primary never waits for a shard to finish
/// its batch.
pub(super) const SLICE_NS: u64 = 20_000_000;
/// How often histograms and gauges are published while something happens, ns.
const PUBLISH_NS: u64 = 200_000_000;
/// How often the CPU budget is looked at, ns.
const BUDGET_WINDOW_NS: u64 = 100_000_000;
/// Tokens of the ring and of the command channel; links have smaller ones.
pub(super) const RING: Token = Token(1 << 31);
pub(super) const COMMANDS: Token = Token((1 << 31) + 1);

/// What the control thread tells a shard.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// The names of the targets stand for these addresses now.
    Addrs(Arc<[Vec<SocketAddr>]>),
    /// The taps are gone: read what is left, wait this long for answers, stop.
    Stop(Duration),
}

/// A shard's thread and all it owns.
pub(super) struct Worker {
    pub(super) pipeline: Pipeline,
    pub(super) ring: Ring,
    pub(super) poll: Poll,
    pub(super) commands: Receiver<Command>,
    pub(super) books: Arc<ShardLedger>,
    pub(super) headroom: Headroom,
    /// CPU seconds a second that the shard may take before it refuses new copies.
    pub(super) cpu_budget: Option<f64>,
}

/// How a round ends.
enum Wait {
    /// Go on at once.
    No,
    /// Let records gather, whatever the sockets say.
    Tick,
    /// Until a socket, the ring or the control thread says something, or this long.
    Event(Option<Duration>),
}

impl Worker {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&self.ring.as_raw_fd()), RING, Interest::READABLE)?;
        let mut events = Events::with_capacity(1024);
        let mut state = Rounds::default();
        let mut timeout = Some(Duration::ZERO);
        loop {
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            self.ring.wake();
            let now = self.pipeline.update_clock();
            state.unpublished |= !events.is_empty();
            for event in &events {
                match event.token() {
                    RING => {}
                    COMMANDS => {
                        if let Some(grace) = self.obey() {
                            return self.finish(grace, &mut events);
                        }
                    }
                    _ => self.pipeline.on_event(event),
                }
            }
            let started = Instant::now();
            let waits = self.round(now, &mut state);
            timeout = match waits {
                Wait::No => Some(Duration::ZERO),
                Wait::Event(timeout) => timeout,
                Wait::Tick => {
                    std::thread::sleep(TICK.saturating_sub(started.elapsed()));
                    Some(Duration::ZERO)
                }
            };
        }
    }

    /// Does what the control thread asks; the grace period if it asks to stop.
    fn obey(&mut self) -> Option<Duration> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Addrs(addrs)) => {
                    for (target, addrs) in addrs.iter().enumerate() {
                        self.pipeline.set_addrs(target, addrs);
                    }
                }
                Ok(Command::Stop(grace)) => return Some(grace),
                Err(TryRecvError::Empty) => return None,
                // The control thread is gone: so are we.
                Err(TryRecvError::Disconnected) => return Some(Duration::ZERO),
            }
        }
    }

    /// Reads a batch from the ring, lets it take effect, and says how to wait for the next.
    fn round(&mut self, now: u64, state: &mut Rounds) -> Wait {
        let fill = self.ring.fill();
        self.judge_load(fill, now, state);
        let pipeline = &mut self.pipeline;
        let drained = self.ring.drain(BATCH_BYTES, |record| pipeline.record(record));
        self.pipeline.flush();
        self.books.rounds.add(1);
        self.books.records.add(drained.records as u64);
        state.unpublished |= drained.records > 0;
        if self.pipeline.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pipeline.tick(now);
            state.unpublished = true;
        }
        if state.unpublished && now >= state.publish_at {
            self.pipeline.publish();
            state.publish_at = now + PUBLISH_NS;
            state.unpublished = false;
        }
        if drained.more || self.pipeline.is_busy() {
            return Wait::No;
        }
        if drained.records > 0 {
            state.empty = 0;
        } else {
            state.empty = state.empty.saturating_add(1);
        }
        let until = |deadline: u64| Duration::from_nanos(deadline.saturating_sub(now));
        let next = self.pipeline.next_deadline().map(until);
        if state.empty < IDLE_TICKS {
            // Where a shadow may run out of work, its answers set the pace.
            return if state.empty == 0 && !self.pipeline.has_backlog() {
                Wait::Tick
            } else {
                Wait::Event(Some(next.map_or(TICK, |next| next.min(TICK))))
            };
        }
        // With nothing under way all is told at once. Else the histograms have time, for merging them costs more than a copy, and a
        // shard that waits for answers alone comes here at each of them.
        if self.pipeline.unfinished() == 0 {
            self.pipeline.publish();
            state.unpublished = false;
        } else {
            self.pipeline.publish_gauges();
        }
        if !self.ring.sleep() {
            return Wait::No;
        }
        self.books.sleeps.add(1);
        self.headroom.sleeps();
        let publish = state.unpublished.then(|| until(state.publish_at));
        Wait::Event(next.into_iter().chain(publish).min())
    }

    /// Refuses new copies while the ring is too full or the CPU budget is spent: what is refused at its head costs
    /// little, and what was admitted can be finished.
    fn judge_load(&mut self, fill: usize, now: u64, state: &mut Rounds) {
        self.books.ring_peak.set(self.books.ring_peak.get().max(fill as u64));
        if let Some(budget) = self.cpu_budget
            && now >= state.window_end
        {
            let cpu = thread_cpu_ns();
            let wall = now.saturating_sub(state.window_start).max(1);
            #[allow(clippy::cast_precision_loss, reason = "a ratio of nanoseconds needs no exact integers")]
            let share = cpu.saturating_sub(state.window_cpu) as f64 / wall as f64;
            state.over_budget = state.window_start > 0 && share > budget;
            (state.window_start, state.window_cpu, state.window_end) = (now, cpu, now + BUDGET_WINDOW_NS);
        }
        let was_behind = self.headroom.is_behind();
        self.headroom.look(now, fill, self.ring.written());
        let behind = self.headroom.is_behind();
        if behind && !was_behind {
            self.books.overloads.add(1);
        }
        self.pipeline.set_overloaded(behind || state.over_budget);
    }

    /// Reads the ring to its end, waits for answers that are on their way, and gives up the rest.
    fn finish(mut self, grace: Duration, events: &mut Events) -> io::Result<()> {
        let end = Instant::now() + grace;
        loop {
            let pipeline = &mut self.pipeline;
            let drained = self.ring.drain(usize::MAX, |record| pipeline.record(record));
            self.books.records.add(drained.records as u64);
            if !drained.more {
                break;
            }
        }
        let now = self.pipeline.update_clock();
        self.pipeline.close_flows(now);
        while self.pipeline.unfinished() > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.poll.poll(events, Some(left.min(Duration::from_millis(50)))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            let now = self.pipeline.update_clock();
            for event in events.iter().filter(|event| event.token() != RING && event.token() != COMMANDS) {
                self.pipeline.on_event(event);
            }
            self.pipeline.flush();
            self.pipeline.tick(now);
        }
        self.pipeline.shutdown();
        Ok(())
    }
}

/// What a shard remembers from round to round.
#[derive(Debug, Default)]
struct Rounds {
    /// Rounds in a row that found the ring empty.
    empty: u32,
    publish_at: u64,
    /// Something happened that readers of histograms and gauges do not see yet.
    unpublished: bool,
    over_budget: bool,
    window_start: u64,
    window_end: u64,
    window_cpu: u64,
}

/// CPU time of this thread, ns.
fn thread_cpu_ns() -> u64 {
    clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// `CLOCK_MONOTONIC` and `CLOCK_REALTIME`, ns.
pub(super) fn clocks() -> (u64, u64) {
    (clock(ClockId::CLOCK_MONOTONIC), clock(ClockId::CLOCK_REALTIME))
}

pub(super) fn clock(id: ClockId) -> u64 {
    clock_gettime(id).ok().and_then(|time| u64::try_from(time.num_nanoseconds()).ok()).unwrap_or(0)
}
