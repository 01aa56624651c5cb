//! Wiring of `mirror record`: the tap of `mirror run`, and behind the rings a recorder instead of a pipeline.
//!
//! ```text
//! control thread    as in `mirror run`: signals, sign of life, interfaces; the clock of the files
//! recorder threads  one a ring: ring -> Recorder -> Files, which they share
//! ```
//!
//! The files are one lock. Who holds it writes, and a disk that does not take it holds up only who waits for it: the rings fill
//! and lose by name. The control thread never waits for the lock while it runs.

mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::desk::Signals;
use super::memory::Memory;
use super::output::Output;
use super::shards::table_seed;
use super::taps::{TapPlan, primaries};
use super::worker::clocks;
use super::{HEARTBEAT_EVERY, JOB, Kernel, cores, log_lines, until};
use crate::capture::Encoder;
use crate::cli::record as say;
use crate::config::ResolvedRecord;
use crate::flow;
use crate::kernel::load::{LoadConfig, Loaded};
use crate::kernel::readable::Readable;
use crate::record::{Books, Files, Recorder, Summary};
use crate::stats::{KernelCounters, Taps};
use worker::{Shard, Worker};

/// How long what is in the rings may be written after the signal to stop; what is left then is left out.
const DRAIN: Duration = Duration::from_millis(1500);
/// How long after that a write that hangs is waited for.
const HANG_GRACE: Duration = Duration::from_millis(300);

/// Records until a signal, `--duration` or a failure ends it.
///
/// # Errors
///
/// One line on what could not be set up, with nothing left attached and no file made; or why nothing more could be written.
pub fn record(config: &ResolvedRecord) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control runtime cannot start")?;
    runtime.block_on(control(config))
}

/// What the threads of a recording share.
pub(super) struct Shared {
    pub(super) files: Mutex<Files>,
    /// A thread ended, or the files take nothing any more.
    pub(super) news: tokio::sync::Notify,
    pub(super) failed: AtomicBool,
}

async fn control(config: &ResolvedRecord) -> anyhow::Result<()> {
    // Everything that can be refused is refused before anything is attached, and the file is made last.
    let mut signals = Signals::new()?;
    let output = Output::new(config.json)?;
    let count = config.shards_on(cores());
    let memory = Memory::plan(config.memory, config.ring_bytes(count)?, count);
    let plan = TapPlan::new(&config.tap, &config.primary)?;
    let needs_heartbeat = plan.needs_heartbeat();
    let mut loaded = Loaded::load(&LoadConfig {
        shards: u32::from(count),
        ring_bytes: memory.ring,
        seed: u32::try_from(table_seed() & u64::from(u32::MAX)).unwrap_or(0),
        needs_heartbeat,
        log: config.verbose >= 2,
    })?;
    loaded.primaries.replace(&primaries(&config.primary, JOB))?;
    let kernel = Arc::new(Kernel(loaded.counters));
    let encoder = encoder(config);
    let drops = kernel.clone();
    let files = Files::create(
        &config.out,
        config.rotation,
        encoder.clone(),
        Box::new(move || drops.tap().values[mirror_common::counter::TapCounter::RingFull as usize]),
    )
    .context("--out")?;
    let shared = Arc::new(Shared {
        files: Mutex::new(files),
        news: tokio::sync::Notify::new(),
        failed: AtomicBool::new(false),
    });
    let started = Instant::now();
    let mut shards = Vec::new();
    for (index, ring) in std::mem::take(&mut loaded.rings).into_iter().enumerate() {
        let books = Arc::new(Books::default());
        let (monotonic, real) = clocks();
        let recorder = Recorder::new(
            &config.rules,
            flow::Limits {
                hash_seed: table_seed(),
                ..flow::Limits::for_memory(memory.flows, Recorder::CLIENT_BYTES)
            },
            memory.http(),
            encoder.clone(),
            i64::try_from(real).unwrap_or(i64::MAX) - i64::try_from(monotonic).unwrap_or(i64::MAX),
            books.clone(),
        );
        shards.push(Shard::start(index, Worker::new(ring, recorder, shared.clone())?, books)?);
    }
    loaded.heartbeat.beat();
    let attached = plan.attach(&loaded.programs);
    let mut taps = match attached {
        Ok(taps) => taps,
        Err(error) => {
            // Nothing was recorded: no file stays.
            Shard::stop_all(shards, Instant::now(), HANG_GRACE)?;
            let _error_is_told = std::fs::remove_file(&config.out);
            return Err(error);
        }
    };

    let books: Vec<Arc<Books>> = shards.iter().map(|shard| shard.books.clone()).collect();
    let view = taps.view();
    let last_written = std::cell::Cell::new(crate::record::Written::default());
    let summary = || {
        if let Ok(files) = shared.files.try_lock() {
            last_written.set(files.written());
        }
        let elapsed = started.elapsed().as_secs_f64();
        Summary::new(elapsed, &books, last_written.get(), &kernel.tap(), &kernel.job(JOB))
    };
    let name = config.out.display().to_string();
    if output.is_json() {
        let begun = serde_json::json!({"file": name, "taps": view.taps(), "pending": view.pending()});
        output.line(&say::json_line("ready", begun, &summary()));
    } else {
        for tap in view.taps() {
            output.line(&format!("tapped {} {} ({})", tap.interface, tap.hook, tap.mode));
        }
    }

    let mut program_log =
        loaded.log.take().map(Readable::new).transpose().context("the program's log cannot be polled")?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
    second.reset();
    let deadline = config.duration.map(|duration| tokio::time::Instant::now() + duration);
    loop {
        tokio::select! {
            () = signals.recv() => break,
            () = until(deadline) => break,
            () = shared.news.notified() => break,
            _ = heartbeat.tick(), if needs_heartbeat => loaded.heartbeat.beat(),
            () = log_lines(program_log.as_mut()), if program_log.is_some() => {}
            () = taps.changed() => taps.refresh(),
            _ = second.tick() => {
                if !tick(&shared) {
                    break;
                }
                let now = summary();
                output.live(&if output.is_json() { say::json_line("stats", (), &now) } else { say::live_line(&now) });
            }
        }
    }

    // The taps first: what comes after this belongs to nobody.
    drop(taps);
    let stopped = Shard::stop_all(shards, Instant::now() + DRAIN, HANG_GRACE);
    let failed = match shared.files.try_lock() {
        Ok(mut files) => {
            files.finish();
            files.failed().map(anyhow::Error::new)
        }
        // It hangs in a write.
        Err(_) => None,
    };
    let now = summary();
    let said = if output.is_json() {
        say::json_line("final", serde_json::json!({"file": name}), &now)
    } else {
        say::final_table(&name, &now)
    };
    output.end(&said);
    match failed {
        Some(error) => Err(error.context("recording stopped; what was written before is whole")),
        None => stopped,
    }
}

/// Lets the files look at their clock, unless somebody is writing. False if they take nothing any more.
fn tick(shared: &Shared) -> bool {
    match shared.files.try_lock() {
        Ok(mut files) => files.tick(),
        Err(TryLockError::Poisoned(files)) => files.into_inner().tick(),
        Err(TryLockError::WouldBlock) => return true,
    }
    !shared.failed.load(Ordering::Acquire)
}

fn encoder(config: &ResolvedRecord) -> Encoder {
    let mut comment =
        format!("connections of {}; of answers only beginnings, up to the status", config.primary);
    if config.rules.headers_only {
        comment.push_str("; bodies left out");
    }
    if config.rules.redact.is_some() {
        comment.push_str("; values redacted");
    }
    Encoder::new(concat!("mirror ", env!("CARGO_PKG_VERSION"), " record"), &comment)
}

impl Shared {
    /// The files take nothing any more, or a thread ended.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.news.notify_one();
    }
}
