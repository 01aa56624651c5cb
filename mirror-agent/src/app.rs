//! Wiring: every thread, channel and limit on one page.
//!
//! ```text
//! control thread   tokio, one thread: signals, clock of the live line, admin server, interfaces; names in a task of
//!                  their own, because a name server may not answer
//! writer thread    lines for standard output, which may not be read
//! shard threads    one loop each (`worker`): ring -> pipeline -> sockets
//!
//! control -> shard   mpsc of Command, woken through mio::Waker; a few in an agent's life
//! shard -> control   the ledgers, by relaxed atomics; nothing is sent
//! ```
//!
//! `mirror replay` has no taps and no shards; its threads stand in `replay`.

mod attention;
mod desk;
mod headroom;
mod memory;
mod names;
mod output;
mod own;
mod record;
mod replay;
mod shadows;
mod shards;
mod taps;
mod trust;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mirror_common::counter::{JobCounters, TapCounters};

use crate::api;
use crate::config::{Copies, Primary, Resolved, ShadowTarget};
use crate::kernel::counters::Counters;
use crate::kernel::descriptors::Descriptors;
use crate::kernel::load::ProgramLog;
use crate::kernel::load::{LoadConfig, Loaded};
use crate::kernel::readable::Readable;
use crate::stats::{KernelCounters, Monitor, ShadowLabel, Source};
use desk::{Bound, Signals};
use memory::Memory;
use names::Names;
use output::Output;
pub use record::record;
pub use replay::replay;
use shards::Shards;
pub use taps::attach_mode;
use taps::{TapPlan, primaries};

/// Slot of the one job of `mirror run`.
const JOB: u16 = 0;
/// How long whole copies may still be answered after the signal to stop.
const DRAIN: Duration = Duration::from_millis(1500);
/// How often the agent says that it is alive, for programs that outlive it (clsact).
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);

/// Mirrors until a signal, `--duration` or a failure ends it.
///
/// # Errors
///
/// One line on what could not be set up, with nothing left attached; or why a shard ended.
pub fn run(config: &Resolved) -> anyhow::Result<()> {
    block_on(control(config))
}

/// Runs the control thread's part of a command.
fn block_on<T>(control: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control runtime cannot start")?;
    let ended = runtime.block_on(control);
    // A resolution that hangs would hold up the end: what is left of it ends with the process.
    runtime.shutdown_background();
    ended
}

async fn control(config: &Resolved) -> anyhow::Result<()> {
    raise_descriptors(&config.copies);
    warn_of_repeated_writes(&config.copies);
    // Everything that can be refused is refused before anything is attached.
    let mut signals = Signals::new()?;
    let admin = Bound::new(config.copies.admin)?;
    let tls = shadows::tls(&config.copies)?;
    let addrs = tokio::select! {
        addrs = names::resolve(&config.copies.shadows) => addrs,
        () = signals.recv() => return Ok(()),
    };
    refuse_own_primary(&config.primary, &config.copies.shadows, &addrs)?;

    let output = Output::new(config.copies.json)?;
    let count = config.shards_on(cores());
    let memory = Memory::plan(config.copies.memory, config.ring_bytes(count)?, count);
    let plan = TapPlan::new(&config.tap, &config.primary)?;
    let needs_heartbeat = plan.needs_heartbeat();
    let mut loaded = Loaded::load(&LoadConfig {
        shards: u32::from(count),
        ring_bytes: memory.ring,
        seed: u32::try_from(config.copies.plan.seed & u64::from(u32::MAX)).unwrap_or(0),
        needs_heartbeat,
        log: config.copies.verbose >= 2,
    })?;
    loaded.primaries.replace(&primaries(&config.primary, JOB))?;
    let ready = api::Ready::new();
    let starting = ready.wait_for("shards are starting");
    let shards =
        Shards::start(config, std::mem::take(&mut loaded.rings), &loaded.own, &tls, &memory, &ready)?;
    shards.send_addrs(&addrs);
    loaded.heartbeat.beat();
    let mut taps = plan.attach(&loaded.programs)?;
    drop(starting);

    let monitor = Arc::new(Monitor::new(Source {
        job: config.copies.name.clone(),
        slot: JOB,
        shadows: config.copies.shadows.iter().map(|shadow| ShadowLabel { url: shadow.url.clone() }).collect(),
        ledgers: shards.ledgers(),
        shards: shards.books(),
        kernel: Arc::new(Kernel(loaded.counters)),
        taps: taps.view(),
        started: Instant::now(),
    }));
    let admin = admin.serve(&monitor, &ready);

    let mut program_log =
        loaded.log.take().map(Readable::new).transpose().context("the program's log cannot be polled")?;
    output.ready(&monitor.tick().0, config.copies.plan.seed);
    let ended = {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
        second.reset();
        let mut names = Names::follow(&config.copies.shadows, addrs);
        let deadline = config.copies.duration.map(|duration| tokio::time::Instant::now() + duration);
        loop {
            tokio::select! {
                () = signals.recv() => break Ok(()),
                () = until(deadline) => break Ok(()),
                failure = shards.failure() => break Err(failure),
                _ = heartbeat.tick(), if needs_heartbeat => loaded.heartbeat.beat(),
                () = log_lines(program_log.as_mut()), if program_log.is_some() => {}
                () = taps.changed() => taps.refresh(),
                mut addrs = names.changed() => {
                    leave_out_own_primary(&config.primary, &config.copies.shadows, &mut addrs);
                    shards.send_addrs(&addrs);
                }
                _ = second.tick() => {
                    let (snapshot, rates) = monitor.tick();
                    output.second(&snapshot, &rates);
                }
            }
        }
    };

    // The taps first: what comes after this belongs to nobody.
    drop(taps);
    let stopped = shards.stop(DRAIN);
    output.last(&monitor.snapshot());
    admin.stop().await;
    ended.and(stopped)
}

/// What the BPF program counts. A map of this process that cannot be read is a defect: it shows as zeros and a warning.
struct Kernel(Counters);

impl KernelCounters for Kernel {
    fn tap(&self) -> TapCounters {
        self.0.tap().unwrap_or_else(|error| {
            tracing::warn!(%error, "the tap's counters cannot be read");
            TapCounters::default()
        })
    }

    fn job(&self, slot: u16) -> JobCounters {
        self.0.job(slot).unwrap_or_else(|error| {
            tracing::warn!(%error, "the job's counters cannot be read");
            JobCounters::default()
        })
    }
}

/// Hands on one batch of the BPF program's own lines.
async fn log_lines(log: Option<&mut Readable<ProgramLog>>) {
    let Some(log) = log else { return std::future::pending().await };
    log.ready().await;
    log.get_mut().flush();
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Each connection to a shadow is a descriptor, and the usual limit of 1,024 is for programs of another kind.
fn raise_descriptors(copies: &Copies) {
    let connections = u64::from(copies.limits.max_connections) * copies.shadows.len() as u64;
    if let Some(limit) = Descriptors::raise()
        && !limit.suffice(connections)
    {
        tracing::warn!(
            "{} open files are allowed and {connections} connections to shadows are configured: raise the limit (ulimit -n, systemd: LimitNOFILE=) or lower --max-connections; copies that find none fail{{connect}}",
            limit.soft
        );
    }
}

/// A copy that is sent twice changes twice what it changes.
fn warn_of_repeated_writes(copies: &Copies) {
    if copies.repeats_writes() {
        tracing::warn!(
            "--percent {} sends requests that change something more than once: --methods safe leaves them out",
            copies.plan.percent
        );
    }
}

/// A shadow whose name stands for the primary would get every copy of every copy.
fn refuse_own_primary(
    primary: &Primary,
    shadows: &[ShadowTarget],
    addrs: &[Vec<std::net::SocketAddr>],
) -> anyhow::Result<()> {
    for (shadow, addrs) in shadows.iter().zip(addrs) {
        if let Some(addr) = addrs.iter().find(|addr| is_primary(primary, **addr)) {
            bail!(
                "--shadow {}: it is the primary ({addr}); name the address and port of the new version",
                shadow.url
            );
        }
    }
    Ok(())
}

/// The same when a name has come to stand for the primary while we run: copies go on to where they went before.
fn leave_out_own_primary(
    primary: &Primary,
    shadows: &[ShadowTarget],
    addrs: &mut [Vec<std::net::SocketAddr>],
) {
    for (shadow, addrs) in shadows.iter().zip(addrs) {
        addrs.retain(|addr| {
            let own = is_primary(primary, *addr);
            if own {
                tracing::warn!(shadow = %shadow.url, %addr, "the name stands for the primary now: that address is left out");
            }
            !own
        });
    }
}

fn is_primary(primary: &Primary, addr: std::net::SocketAddr) -> bool {
    addr.port() == primary.port
        && match primary.ip {
            Some(ip) => ip == addr.ip().to_canonical(),
            // An address that can be bound is one of this machine's.
            None => std::net::UdpSocket::bind((addr.ip(), 0)).is_ok(),
        }
}
