//! Loads the tap's programs and takes their maps apart into the handles the agent works with.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use mirror_common::map::{MAX_RING_BYTES, MAX_SHARDS, RING_FLOOR_BYTES, ShardState, TapConfig};

use super::call::{self, Mapping};
use super::counters::Counters;
use super::maps::{Heartbeat, Primaries};
use super::own::OwnEndpoints;
use super::ring::Ring;
use super::status;

/// The BPF object; empty if this binary was built without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mirror-ebpf"));

/// Name of the program for devices with an Ethernet header.
pub const L2: &str = "mirror_l2";
/// Name of the program for devices whose packets begin with the IP header.
pub const L3: &str = "mirror_l3";
/// Oldest kernel that is not refused. The tests run on 6.1, 6.12 and 6.18.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// How the tap is to run. Fixed until it is loaded again.
#[derive(Clone, Copy, Debug)]
pub struct LoadConfig {
    /// Rings, and so workers: 1 to [`MAX_SHARDS`].
    pub shards: u32,
    /// Bytes of one ring: a power of two from [`RING_FLOOR_BYTES`] to [`MAX_RING_BYTES`].
    pub ring_bytes: u32,
    /// Seed of the flow hash.
    pub seed: u32,
    /// The tap does nothing unless [`Heartbeat::beat`] is called in time. For clsact, whose filters outlive the agent.
    pub needs_heartbeat: bool,
    /// Compile the program's own log lines in; see [`Loaded::log`].
    pub log: bool,
}

/// Why the tap could not be loaded. Each is one line that says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object is the stub.
    #[error("this binary was built without its BPF program; build it with `cargo xtask build`")]
    NotBuilt,
    /// Shards out of range.
    #[error("{0} shards cannot be: give 1 to {MAX_SHARDS}")]
    Shards(u32),
    /// Ring size out of range.
    #[error(
        "a ring of {0} bytes cannot be: give a power of two from {RING_FLOOR_BYTES} to {MAX_RING_BYTES}, \
         and at least the size of a page"
    )]
    RingBytes(u32),
    /// `EPERM` from the first BPF call.
    #[error(
        "no right to load BPF programs: run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (in a container: not masked by its seccomp profile, and the host's kernel not in lockdown)"
    )]
    NoRight,
    /// `ENOSYS` from the first BPF call.
    #[error("this kernel has no BPF: it needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT")]
    NoBpf,
    /// Too old.
    #[error("kernel {0} is too old: 6.1 is the oldest one that the tap is tested with (also 6.12 and 6.18)")]
    OldKernel(String),
    /// Memory for the rings.
    #[error("no memory for {shards} rings of {bytes} bytes: lower --memory or --shards ({source})")]
    Memory {
        /// Rings wanted.
        shards: u32,
        /// Bytes of each.
        bytes: u32,
        /// The kernel's word.
        source: io::Error,
    },
    /// The verifier's refusal; its log went to the debug level.
    #[error(
        "the kernel's verifier refused the program {program} ({source}): run with -vv for its log, and report it"
    )]
    Refused {
        /// Program.
        program: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// What should not happen with an object that belongs to this binary.
    #[error("the BPF program could not be loaded, {step}: {reason}; report it")]
    Unexpected {
        /// What was being done.
        step: &'static str,
        /// What went wrong.
        reason: String,
    },
}

/// The loaded tap, as handles that may go to different threads. Attached programs keep what they need of it; when all
/// handles and attachments are gone, so is everything in the kernel.
#[derive(Debug)]
pub struct Loaded {
    /// The programs.
    pub programs: Programs,
    /// Which endpoints are copied. None at first.
    pub primaries: Primaries,
    /// Counters.
    pub counters: Counters,
    /// The agent's own replays.
    pub own: OwnEndpoints,
    /// The agent's sign of life; beaten once as the tap is loaded.
    pub heartbeat: Heartbeat,
    /// One ring a shard, in order.
    pub rings: Vec<Ring>,
    /// The program's log lines, if [`LoadConfig::log`] asked for them.
    pub log: Option<ProgramLog>,
}

impl Loaded {
    /// Loads both programs. They see no packet before they are attached.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; nothing is left in the kernel then.
    pub fn load(config: &LoadConfig) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        check(config)?;
        may_load()?;

        let tap = TapConfig {
            shards: config.shards,
            seed: config.seed,
            ring_bytes: config.ring_bytes,
            needs_heartbeat: u32::from(config.needs_heartbeat),
        };
        let log_level = if config.log { log::Level::Trace as u8 } else { 0 };
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", &tap, true).override_global("AYA_LOG_LEVEL", &log_level, true);
        if !config.log {
            // The log's ring is part of the object; without a reader a page is enough.
            loader.map_max_entries("AYA_LOGS", 1);
        }
        let bpf = loader.load(OBJECT).map_err(|error| unexpected("making its maps", error))?;
        // Before the maps are taken out: a program names them by descriptor as it is loaded.
        let mut programs = Programs(bpf);
        for name in [L2, L3] {
            programs.load(name)?;
        }
        let bpf = &mut programs.0;

        let states = take(bpf, "SHARDS")?;
        let states = Mapping::new(states.as_fd(), 0, usize::from(MAX_SHARDS) * size_of::<ShardState>(), true)
            .map_err(|error| unexpected("mapping its maps", error))?;
        let rings = make_rings(&take(bpf, "RINGS")?, config, &Arc::new(states))?;

        let heartbeat = Heartbeat::new(&take(bpf, "HEARTBEAT")?)
            .map_err(|error| unexpected("mapping its maps", error))?;
        heartbeat.beat();
        let counters = Counters::new(per_cpu(bpf, "TAP_COUNTERS")?, per_cpu(bpf, "JOB_COUNTERS")?);
        let primaries = Primaries::new(take(bpf, "PRIMARIES")?, take(bpf, "PORTS")?, take(bpf, "WILDCARDS")?);
        let own = OwnEndpoints::new(take(bpf, "OWN")?);
        let log = config.log.then(|| ProgramLog::new(bpf)).transpose()?;

        Ok(Self { programs, primaries, counters, own, heartbeat, rings, log })
    }
}

/// The two programs, loaded.
#[derive(Debug)]
pub struct Programs(Ebpf);

impl Programs {
    /// The program called `name`, [`L2`] or [`L3`].
    ///
    /// # Errors
    ///
    /// Any other name.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut SchedClassifier, LoadError> {
        let program = self.0.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(|error| unexpected("looking for its programs", error))
    }

    /// Descriptors of [`L2`] and [`L3`], in this order.
    ///
    /// # Errors
    ///
    /// None is expected: both are loaded.
    pub fn descriptors(&self) -> Result<(BorrowedFd<'_>, BorrowedFd<'_>), LoadError> {
        Ok((self.descriptor(L2)?, self.descriptor(L3)?))
    }

    fn descriptor(&self, name: &str) -> Result<BorrowedFd<'_>, LoadError> {
        let program: &SchedClassifier = self
            .0
            .program(name)
            .ok_or_else(|| missing(name))?
            .try_into()
            .map_err(|error| unexpected("looking for its programs", error))?;
        let fd = program.fd().map_err(|error| unexpected("looking for its programs", error))?;
        Ok(fd.as_fd())
    }

    fn load(&mut self, name: &'static str) -> Result<(), LoadError> {
        self.get_mut(name)?.load().map_err(|error| match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                tracing::debug!(program = name, "verifier: {verifier_log}");
                LoadError::Refused { program: name, source: io_error }
            }
            other => unexpected("loading its programs", other),
        })
    }
}

/// Log lines of the BPF program. [`flush`](Self::flush) when the descriptor is readable.
pub struct ProgramLog(EbpfLogger<ToTracing>);

impl ProgramLog {
    fn new(bpf: &mut Ebpf) -> Result<Self, LoadError> {
        EbpfLogger::init_with_logger(bpf, ToTracing)
            .map(Self)
            .map_err(|error| unexpected("opening its log", error))
    }

    /// Hands waiting lines to `tracing`, target `mirror::bpf`.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl std::os::fd::AsFd for ProgramLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for ProgramLog {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl std::fmt::Debug for ProgramLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProgramLog")
    }
}

/// aya-log speaks to the `log` crate, the agent to `tracing`.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error => tracing::error!(target: "mirror::bpf", "{}", record.args()),
            log::Level::Warn => tracing::warn!(target: "mirror::bpf", "{}", record.args()),
            log::Level::Info => tracing::info!(target: "mirror::bpf", "{}", record.args()),
            log::Level::Debug => tracing::debug!(target: "mirror::bpf", "{}", record.args()),
            log::Level::Trace => tracing::trace!(target: "mirror::bpf", "{}", record.args()),
        }
    }

    fn flush(&self) {}
}

fn check(config: &LoadConfig) -> Result<(), LoadError> {
    if config.shards == 0 || config.shards > u32::from(MAX_SHARDS) {
        return Err(LoadError::Shards(config.shards));
    }
    let bytes = config.ring_bytes;
    if !bytes.is_power_of_two()
        || !(RING_FLOOR_BYTES..=MAX_RING_BYTES).contains(&bytes)
        || (bytes as usize) < call::page_size()
    {
        return Err(LoadError::RingBytes(bytes));
    }
    let release = nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .map_err(|error| unexpected("asking for the kernel's version", error))?;
    // A version that cannot be read is given the benefit of the doubt: the verifier has the last word.
    if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        return Err(LoadError::OldKernel(release));
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Capabilities by their bit (`linux/capability.h`): `CAP_SYS_ADMIN` stands for the two that were split off it.
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Looks at the capabilities, because the verifier's refusal without `CAP_PERFMON` looks like a fault of the program, and
/// makes the smallest map there is, because capabilities may be masked. Locked memory needs no raised limit: since 5.11,
/// before the oldest kernel, maps are charged to the control group.
fn may_load() -> Result<(), LoadError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status::mask(&status, "CapEff").is_some_and(|held| !suffices(held)) {
        return Err(LoadError::NoRight);
    }
    match call::create_array::<u32>("mirror_probe") {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => LoadError::NoRight,
            Some(libc::ENOSYS) => LoadError::NoBpf,
            _ => unexpected("making a first map", error),
        }),
    }
}

const fn suffices(held: u64) -> bool {
    let split = CAP_BPF | CAP_PERFMON;
    held & CAP_NET_ADMIN != 0 && (held & CAP_SYS_ADMIN != 0 || held & split == split)
}

fn make_rings(outer: &OwnedFd, config: &LoadConfig, states: &Arc<Mapping>) -> Result<Vec<Ring>, LoadError> {
    let memory = |source| LoadError::Memory { shards: config.shards, bytes: config.ring_bytes, source };
    (0..config.shards)
        .map(|shard| {
            let fd =
                call::create_map("mirror_ring", call::RINGBUF, 0, 0, config.ring_bytes).map_err(memory)?;
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&fd);
            call::update(outer.as_fd(), &shard, &descriptor)
                .map_err(|error| unexpected("placing its rings", error))?;
            Ring::new(fd, config.ring_bytes as usize, Arc::clone(states), shard as usize).map_err(memory)
        })
        .collect()
}

/// A descriptor of our own for a map of the object.
fn take(bpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let data: MapData = match bpf.take_map(name).ok_or_else(|| missing(name))? {
        Map::Array(data) | Map::HashMap(data) | Map::ArrayOfMaps(data) => data,
        other => return Err(unexpected("taking its maps", format!("{name} is {other:?}"))),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|error| unexpected("taking its maps", error))
}

fn per_cpu<V: aya::Pod>(bpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, V>, LoadError> {
    bpf.take_map(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: MapError| unexpected("taking its maps", error))
}

fn missing(name: &str) -> LoadError {
    unexpected("looking into it", format!("there is no {name}"))
}

fn unexpected(step: &'static str, error: impl Into<Box<dyn std::error::Error>>) -> LoadError {
    let error = error.into();
    let mut error: &dyn std::error::Error = &*error;
    let mut reason = error.to_string();
    while let Some(source) = error.source() {
        reason = format!("{reason}: {source}");
        error = source;
    }
    LoadError::Unexpected { step, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: LoadConfig =
        LoadConfig { shards: 1, ring_bytes: RING_FLOOR_BYTES, seed: 0, needs_heartbeat: false, log: false };

    #[test]
    fn sizes_that_the_kernel_would_refuse_are_refused_with_their_range() {
        assert!(check(&GOOD).is_ok());
        for shards in [0, 65] {
            assert!(matches!(check(&LoadConfig { shards, ..GOOD }), Err(LoadError::Shards(_))));
        }
        for ring_bytes in [0, 4096, 100_000, 1 << 31] {
            assert!(matches!(check(&LoadConfig { ring_bytes, ..GOOD }), Err(LoadError::RingBytes(_))));
        }
    }

    #[test]
    fn versions_are_read_from_release_names() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.15.0-105-generic"), Some((5, 15)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn each_missing_capability_is_told_before_the_verifier_stumbles_over_it() {
        let held = |bits: u64| {
            let status = format!("Name:\tmirror\nCapPrm:\t0000000000000000\nCapEff:\t{bits:016x}\n");
            suffices(status::mask(&status, "CapEff").unwrap())
        };
        let least = CAP_NET_ADMIN | CAP_BPF | CAP_PERFMON;
        assert!(held(least) && held(CAP_NET_ADMIN | CAP_SYS_ADMIN) && held(u64::MAX));
        for missing in [CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON] {
            assert!(!held(least & !missing));
        }
        assert_eq!(status::mask("Name:\tmirror\n", "CapEff"), None);
    }

    #[cfg(mirror_bpf_stub)]
    #[test]
    fn a_binary_without_its_program_says_how_to_build_one() {
        let error = Loaded::load(&GOOD).unwrap_err();
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }
}
