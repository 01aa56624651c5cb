//! Flags as typed, and what they mean: [`RunFlags`] (strings, as clap leaves them) to [`Resolved`].
//!
//! [`resolve`] is pure: it opens no file, resolves no name and asks no clock. What it refuses it refuses with one line
//! that says where, what and how to mend it; the exit code of such a line is 2.

mod choice;
mod edits;
mod error;
mod filter;
mod flags;
mod inspect;
mod limits;
mod primary;
mod record;
mod replay;
mod rules;
mod shadow;
mod tap;
mod units;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use choice::{Attach, Connections, Ordering};
pub use error::Error;
pub use filter::{Facts, Filter, MAX_TESTS, Passed};
pub use flags::{AgentFlags, CleanupFlags, CopyFlags, DoctorFlags, RunFlags, TapFlags};
pub use inspect::{CaptureFlags, InspectFlags, ResolvedCapture, ResolvedInspect, Shown, resolve_inspect};
pub use limits::{
    DEFAULT_MAX_CONNECTIONS, DEFAULT_MEMORY, Limits, MEMORY_FLOOR, Priority, SHARD_MEMORY_FLOOR, Timeouts,
    shared_memory,
};
pub use primary::Primary;
pub use record::{
    DEFAULT_KEEP, DEFAULT_ROTATE_SIZE, ROTATE_SIZE_FLOOR, RecordFlags, ResolvedRecord, resolve_record,
};
pub use replay::{ReplayFlags, ResolvedReplay, Speed, resolve_replay};
pub use shadow::{Host, MAX_SHADOWS, Scheme, ShadowTarget};
pub use tap::{Namespace, Tap};

use crate::plan;

/// All that `mirror run` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Whose requests are copied.
    pub primary: Primary,
    /// What becomes of them.
    pub copies: Copies,
    /// Where and how to tap.
    pub tap: Tap,
    /// Worker threads, 1 to [`mirror_common::map::MAX_SHARDS`]; `None` for one for every two cores.
    pub shards: Option<u16>,
    /// Bytes of a ring as asked for; see [`Resolved::ring_bytes`].
    pub ring: Option<u32>,
    /// Scheduling priority of the workers.
    pub priority: Priority,
}

/// What becomes of requests, wherever they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Name of the job.
    pub name: String,
    /// Where copies go: 1 to [`MAX_SHADOWS`], no two alike.
    pub shadows: Vec<ShadowTarget>,
    /// File of certificates (PEM) that are trusted for `https` shadows besides the system's.
    pub shadow_ca: Option<PathBuf>,
    /// Which requests, how many copies, changed how.
    pub plan: plan::Settings,
    /// Order of a connection's copies.
    pub ordering: Ordering,
    /// Connections to a shadow.
    pub connections: Connections,
    /// Limits on each shadow, over all shards.
    pub limits: Limits,
    /// Timeouts towards a shadow.
    pub timeouts: Timeouts,
    /// Ceiling of the agent's memory, bytes.
    pub memory: u64,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// Where the admin server listens.
    pub admin: Option<SocketAddr>,
    /// JSON lines even on a terminal.
    pub json: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Copies {
    /// Whether a shadow may get a request that changes something more than once.
    #[must_use]
    pub fn repeats_writes(&self) -> bool {
        rules::repeats_writes(&self.plan)
    }
}

impl Resolved {
    /// Worker threads on a machine with `cores`: as many as asked for, else half of the cores, so that a loaded machine's primary
    /// keeps the other half, and no more than the memory has room for.
    #[must_use]
    pub fn shards_on(&self, cores: usize) -> u16 {
        limits::shards_on(self.shards, self.copies.memory, cores)
    }

    /// Bytes of each ring when there are `shards` of them: what was asked for, or the largest power of two within their share, a
    /// quarter of the memory over the shards.
    ///
    /// # Errors
    ///
    /// When what was asked for is more than that share.
    pub fn ring_bytes(&self, shards: u16) -> Result<u32, Error> {
        limits::ring_bytes(self.copies.memory, self.ring, shards)
    }
}

/// What `mirror doctor` looks into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedDoctor {
    /// The primary to look for, if one is named.
    pub primary: Option<Primary>,
    /// Where the tap would be.
    pub tap: Tap,
    /// JSON instead of text.
    pub json: bool,
}

/// Resolves the flags of `mirror run`. `seed` is the sampling key if `--seed` is not given: a random number.
///
/// # Errors
///
/// The first flag that cannot stand, as one line for the user.
pub fn resolve(flags: &RunFlags, seed: u64) -> Result<Resolved, Error> {
    let primary = primary::parse(&flags.primary)?;
    let copies = resolve_copies(&flags.copies, Some(&primary), seed)?;
    let resolved = Resolved {
        tap: tap::of(&flags.tap)?,
        shards: limits::shards(flags.tap.shards, copies.memory)?,
        ring: limits::ring(&flags.tap)?,
        priority: limits::priority(flags)?,
        primary,
        copies,
    };
    // How many shards there are without `--shards` is not known here.
    resolved.ring_bytes(resolved.shards.unwrap_or(1))?;
    Ok(resolved)
}

fn resolve_copies(flags: &CopyFlags, primary: Option<&Primary>, seed: u64) -> Result<Copies, Error> {
    let shadows = shadow::parse_all(flags, primary)?;
    let memory = limits::memory(&flags.agent)?;
    let edits = edits::resolve(flags)?;
    Ok(Copies {
        name: flags.name.clone(),
        plan: plan::Settings {
            job: rules::name(&flags.name)?,
            shadows: shadows.len(),
            percent: rules::percent(&flags.percent)?,
            sample_by: choice::of("--sample-by", &flags.sample_by, &plan::SampleBy::ALL)?,
            seed: flags.seed.unwrap_or(seed),
            methods: rules::methods(&flags.methods)?,
            path_prefix: rules::path_prefix(flags.path_prefix.as_deref())?,
            max_rps: rules::max_rps(flags.max_rps)?,
            host_suffix: rules::host_suffix(&flags.host_suffix)?,
            marker: edits.marker,
            trace: choice::of("--trace", &flags.trace, &plan::Trace::ALL)?,
            client_ip_header: edits.client_ip_header,
            remove: edits.remove,
            set: edits.set,
            add: edits.add,
        },
        shadow_ca: shadow::ca(flags, &shadows)?,
        ordering: choice::of("--ordering", &flags.ordering, &Ordering::ALL)?,
        connections: choice::of("--connections", &flags.connections, &Connections::ALL)?,
        limits: limits::limits(flags, memory, shadows.len())?,
        timeouts: limits::timeouts(flags)?,
        memory,
        duration: units::some_duration("--duration", flags.agent.duration.as_deref())?,
        admin: limits::admin(flags.admin.as_deref())?,
        json: flags.agent.json,
        verbose: flags.agent.verbose,
        shadows,
    })
}

/// Resolves the flags of `mirror doctor`.
///
/// # Errors
///
/// The first flag that cannot stand, as one line for the user.
pub fn resolve_doctor(flags: &DoctorFlags) -> Result<ResolvedDoctor, Error> {
    Ok(ResolvedDoctor {
        primary: flags.primary.as_deref().map(primary::parse).transpose()?,
        tap: tap::resolve(&flags.interface, flags.netns.as_deref(), flags.pid, &flags.attach)?,
        json: flags.json,
    })
}
