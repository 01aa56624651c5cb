//! `mirror replay`: the wiring of captures to shadows.
//!
//! ```text
//! control thread   as for live mirroring, without taps
//! reader thread    files -> batches of packets, a few ahead (`reader`)
//! player thread    batches -> dialog -> pipeline -> sockets, by the clock of the file (`player`)
//! ```

mod player;
mod reader;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use mio::{Poll, Waker};
use mirror_common::counter::{JobCounters, TapCounters};
use tokio::sync::Notify;

use super::desk::{Bound, Signals};
use super::names::{self, Addrs, Names};
use super::output::Output;
use super::shadows::{self, Tls};
use super::shards::{nanos, table_seed, targets};
use super::worker::{COMMANDS, Command, clocks};
use super::{DRAIN, JOB, block_on, raise_descriptors, until, warn_of_repeated_writes};
use crate::api::Ready;
use crate::capture;
use crate::cli::inspect::capture_limits;
use crate::config::{Facts, Filter, ResolvedReplay, Speed, shared_memory};
use crate::dialog::Dialogs;
use crate::flow;
use crate::packet::FlowKey;
use crate::pipeline::{Captured, CapturedShares, Fits, Job, Pace, Shadows, Timeline};
use crate::plan::{Plan, Sampler};
use crate::replay::{Exclude, H2Replayer, LINGER_NS, Replayer};
use crate::stats::ledger::{Counter, Ledger};
use crate::stats::{KernelCounters, Monitor, ShadowLabel, Source, TapInfo, Taps};
use player::{Player, Sockets};

/// Replays captures until their end, a signal or `--duration`. Gives what was wrong with the files.
///
/// # Errors
///
/// One line on what could not be set up, with nothing sent; or why the replay ended by itself.
pub fn replay(config: &ResolvedReplay) -> anyhow::Result<Vec<capture::Error>> {
    block_on(control(config))
}

async fn control(config: &ResolvedReplay) -> anyhow::Result<Vec<capture::Error>> {
    let copies = &config.copies;
    raise_descriptors(copies);
    warn_of_repeated_writes(copies);
    // Everything that can be refused is refused before anything is sent.
    let mut signals = Signals::new()?;
    config.capture.files.iter().try_for_each(|file| can_be_read(file))?;
    let admin = Bound::new(copies.admin)?;
    let tls = shadows::tls(copies)?;
    let addrs = tokio::select! {
        addrs = names::resolve(&copies.shadows) => addrs,
        () = signals.recv() => return Ok(Vec::new()),
    };
    if let Some((shadow, _)) = copies.shadows.iter().zip(&addrs).find(|(_, addrs)| addrs.is_empty()) {
        bail!("--shadow {}: no address is known for this name; look at its spelling and at DNS", shadow.url);
    }

    let output = Output::new(copies.json)?;
    let ready = Ready::new();
    let mut playing = Playing::start(config, &tls, &addrs)?;
    let monitor = Arc::new(Monitor::new(Source {
        job: copies.name.clone(),
        slot: JOB,
        shadows: copies.shadows.iter().map(|shadow| ShadowLabel { url: shadow.url.clone() }).collect(),
        ledgers: vec![playing.ledger.clone()],
        shards: Vec::new(),
        kernel: Arc::new(InFile(playing.matched.clone())),
        taps: Arc::new(NoTap),
        started: Instant::now(),
    }));
    let admin = admin.serve(&monitor, &ready);
    output.ready(&monitor.tick().0, copies.plan.seed);
    {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.reset();
        let mut names = Names::follow(&copies.shadows, addrs);
        let deadline = copies.duration.map(|duration| tokio::time::Instant::now() + duration);
        loop {
            tokio::select! {
                () = signals.recv() => break,
                () = until(deadline) => break,
                () = playing.ended.notified() => break,
                addrs = names.changed() => playing.send(Command::Addrs(addrs.into())),
                _ = second.tick() => {
                    let (snapshot, rates) = monitor.tick();
                    output.second(&snapshot, &rates);
                }
            }
        }
    }
    let played = playing.stop();
    output.last(&monitor.snapshot());
    admin.stop().await;
    played
}

/// Refuses what is not there before others are replayed. What is in a file is seen when it is read.
fn can_be_read(file: &Path) -> anyhow::Result<()> {
    if file.as_os_str() == "-" {
        return Ok(());
    }
    let about = std::fs::metadata(file).with_context(|| file.display().to_string())?;
    if about.is_dir() {
        bail!("{}: a directory; name the captures in it", file.display());
    }
    // A pipe may be opened once.
    if about.is_file() {
        std::fs::File::open(file).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The player's thread, and how it is spoken to.
struct Playing {
    thread: Option<JoinHandle<std::io::Result<Vec<capture::Error>>>>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    ledger: Arc<Ledger>,
    matched: Arc<Counter>,
    ended: Arc<Notify>,
}

impl Playing {
    fn start(config: &ResolvedReplay, tls: &[Option<Tls>], addrs: &Addrs) -> anyhow::Result<Self> {
        let copies = &config.copies;
        let poll = Poll::new().context("epoll is not to be had")?;
        let waker = Arc::new(Waker::new(poll.registry(), COMMANDS).context("eventfd is not to be had")?);
        let ledger = Arc::new(Ledger::new(copies.shadows.len()));
        let matched = Arc::new(Counter::default());
        // The client is gone as soon as the file says so; an answer that may begin late may end as late as a live one.
        let linger = nanos(copies.timeouts.head).saturating_add(LINGER_NS);
        let targets = targets(copies, tls, linger);
        let registry = || poll.registry().try_clone().context("epoll is not to be had");
        let h1 = Replayer::new(&targets, registry()?, Box::new(NotTapped), clocks);
        let h2 = H2Replayer::new(&targets, registry()?, Box::new(NotTapped), clocks);
        let mut shadows = Shadows::new(h1, h2);
        for (target, addrs) in addrs.iter().enumerate() {
            shadows.set_addrs(target, addrs);
        }
        let job = Job::new(Arc::new(Plan::new(&copies.plan)), Sampler::default(), ledger.clone(), 0, 0);
        let (pace, waits) = match config.speed {
            Speed::Max => (Pace::Max, true),
            Speed::Thousandths(speed) => (Pace::Thousandths(speed), false),
        };
        let (commands, receiver) = channel();
        let captured = Captured::new(
            job,
            shadows,
            Timeline::new(pace),
            config.capture.filter.clone().map(fits),
            Box::new(Sockets::new(poll, receiver)),
            waits,
        );
        // A quarter of the memory is the queues', as much the program's own, what is read ahead included.
        let memory = usize::try_from(shared_memory(copies.memory) / 2).unwrap_or(usize::MAX);
        let limits = CapturedShares::for_memory(memory, &capture_limits());
        let dialogs = Dialogs::new(
            flow::Limits { hash_seed: table_seed(), ..limits.flow },
            limits.http,
            limits.dialog,
            config.capture.ports.clone(),
            captured,
        );
        let source = reader::start(config.capture.files.clone(), config.rounds, waker.clone())?;
        let timeouts = copies.timeouts;
        let patience = timeouts.connect + timeouts.head + timeouts.idle + Duration::from_nanos(linger);
        let player = Player::new(dialogs, source, matched.clone(), patience, DRAIN);
        let ended = Arc::new(Notify::new());
        let notify = ended.clone();
        let thread = std::thread::Builder::new()
            .name("player".to_owned())
            .spawn(move || {
                let played = player.run();
                notify.notify_one();
                played
            })
            .context("the player's thread cannot start")?;
        Ok(Self { thread: Some(thread), commands, waker, ledger, matched, ended })
    }

    fn send(&self, command: Command) {
        // A player that has ended is noticed by its end.
        let _ended = self.commands.send(command);
        let _ended = self.waker.wake();
    }

    /// Ends it, if it has not ended by itself: whole copies get their time to be answered.
    fn stop(&mut self) -> anyhow::Result<Vec<capture::Error>> {
        self.send(Command::Stop(DRAIN));
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(played)) => played.context("the replay failed"),
            Some(Err(_)) => Err(anyhow!("the player panicked")),
            None => Ok(Vec::new()),
        }
    }
}

/// The expression of `--filter`, as the pipeline asks it.
fn fits(filter: Filter) -> Fits {
    Box::new(move |flow: &FlowKey, method: &[u8], target: &[u8], authority: &[u8]| {
        let facts = Facts { client: flow.client, server: flow.primary, method, target, authority };
        filter.fits(filter.ask(&facts), None)
    })
}

/// Nothing is tapped here that would see our own connections.
struct NotTapped;

impl Exclude for NotTapped {
    fn insert(&self, _local: SocketAddr) {}
    fn remove(&self, _local: SocketAddr) {}
}

/// What a live tap counts in the kernel, of a file.
struct InFile(Arc<Counter>);

impl KernelCounters for InFile {
    fn tap(&self) -> TapCounters {
        TapCounters::default()
    }

    fn job(&self, _slot: u16) -> JobCounters {
        JobCounters { matched_bytes: self.0.get(), ..JobCounters::default() }
    }
}

/// Requests come out of files.
struct NoTap;

impl Taps for NoTap {
    fn taps(&self) -> Vec<TapInfo> {
        Vec::new()
    }

    fn feeds(&self) -> bool {
        true
    }
}
