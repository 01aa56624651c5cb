//! Programs of the kernel: which are ours, which of ours have a living agent, and what stands before ours on a hook.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mirror_common::map::HEARTBEAT_LIMIT_NS;
use nix::time::{ClockId, clock_gettime};

use super::clsact::{self, Filter};
use super::interfaces::{Framing, Interface};
use super::sys::{self, Hook};
use super::tcx;

/// Name of the program for interfaces with an Ethernet header.
pub const L2_NAME: &str = "mirror_l2";
/// Name of the program for interfaces without one.
pub const L3_NAME: &str = "mirror_l3";
/// Name of the map that holds the agent's heartbeat: an array of one `u64`, `CLOCK_MONOTONIC` ns.
pub const HEARTBEAT_NAME: &str = "HEARTBEAT";

/// Between two looks at a heartbeat.
const HEARTBEAT_LOOK: Duration = Duration::from_millis(50);
/// Added to the limit of a heartbeat, so that a slow beat is not taken for a dead agent.
const HEARTBEAT_SLACK: Duration = Duration::from_millis(200);

/// The two programs, as descriptors of our own: whoever loaded them may go.
#[derive(Debug)]
pub struct TapPrograms {
    l2: OwnedFd,
    l3: OwnedFd,
}

impl TapPrograms {
    /// Takes duplicates of the descriptors of the loaded programs.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn new(l2: BorrowedFd<'_>, l3: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { l2: l2.try_clone_to_owned()?, l3: l3.try_clone_to_owned()? })
    }

    pub(super) fn for_framing(&self, framing: Framing) -> (BorrowedFd<'_>, &'static str) {
        match framing {
            Framing::Ethernet => (self.l2.as_fd(), L2_NAME),
            Framing::Ip => (self.l3.as_fd(), L3_NAME),
        }
    }
}

/// Something that sees a hook's packets before our program, and could end their way there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ForeignProgram {
    /// Program id, `None` for a filter that is no BPF program.
    pub id: Option<u32>,
    /// Name of the program, or kind of the filter; empty when the kernel does not tell.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// Where something stands that runs before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the interface itself (XDP): before every ingress hook.
    Xdp,
    /// On the TCX chain.
    Tcx,
    /// A clsact filter.
    Clsact {
        /// Its priority; lower runs earlier.
        priority: u16,
    },
}

impl std::fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.is_empty() { "(no name)" } else { &self.name };
        match self.place {
            Place::Xdp => write!(f, "XDP {name}")?,
            Place::Tcx => write!(f, "TCX {name}")?,
            Place::Clsact { priority } => write!(f, "filter {name} at priority {priority}")?,
        }
        match self.id {
            Some(id) => write!(f, " (program {id})"),
            None => Ok(()),
        }
    }
}

/// All that stands on a hook before `ours`, or all that stands there at all without `ours`, in running order. In
/// the calling thread's namespace.
pub(super) fn standing_before(
    interface: &Interface,
    hook: Hook,
    ours: Option<Ours>,
) -> io::Result<Vec<ForeignProgram>> {
    let mut before = Vec::new();
    if let (Some(id), Hook::Ingress) = (interface.xdp, hook) {
        before.push(ForeignProgram { id: Some(id), name: name_of(id), place: Place::Xdp });
    }
    for id in tcx::chain(interface.index, hook)? {
        if let Some(Ours::Tcx { program_id }) = ours
            && program_id == id
        {
            return Ok(before);
        }
        before.push(ForeignProgram { id: Some(id), name: name_of(id), place: Place::Tcx });
    }
    for filter in clsact::filters(interface.index, hook)? {
        if let Some(Ours::Clsact { priority, handle }) = ours
            && (priority, handle) == (filter.priority, filter.handle)
        {
            return Ok(before);
        }
        let name = filter.program_id.map_or_else(|| filter.kind.clone(), name_of);
        let place = Place::Clsact { priority: filter.priority };
        let program = ForeignProgram { id: filter.program_id, name, place };
        // u32 and its like show a handle for each of their parts.
        if program.id.is_some() || before.last() != Some(&program) {
            before.push(program);
        }
    }
    Ok(before)
}

/// What of ours stands on a hook.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ours {
    Tcx { program_id: u32 },
    Clsact { priority: u16, handle: u32 },
}

/// Name of a program, empty when the kernel does not tell (no `CAP_SYS_ADMIN`).
pub(super) fn name_of(id: u32) -> String {
    sys::program_by_id(id)
        .and_then(|fd| sys::program_info(fd.as_fd()))
        .map(|info| info.name)
        .unwrap_or_default()
}

/// The kinds (`BPF_PROG_TYPE_*`) of all loaded programs with their names.
pub(super) fn loaded() -> io::Result<Vec<sys::ProgramInfo>> {
    let mut all = Vec::new();
    let mut id = 0;
    while let Some(next) = sys::next_program_id(id)? {
        id = next;
        // It may be unloaded between the two calls.
        if let Ok(info) = sys::program_by_id(id).and_then(|fd| sys::program_info(fd.as_fd())) {
            all.push(info);
        }
    }
    Ok(all)
}

/// Whether an agent lives behind a program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its heartbeat moves on.
    Live,
    /// Its heartbeat stands still and is over the limit.
    Stale,
    /// Not a program of ours: another name, or no heartbeat.
    NotOurs,
}

/// Tells which filters have a living agent. Answers are kept, so that one agent with many filters is looked at once.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<u32, Life>);

impl Lives {
    /// Whether an agent lives behind this filter. A heartbeat that is young but does not move is waited for,
    /// [`HEARTBEAT_LIMIT_NS`] at most: the agent may have been killed just now.
    pub(super) fn of(&mut self, filter: &Filter) -> io::Result<Life> {
        let Some(id) = filter.program_id else { return Ok(Life::NotOurs) };
        if !filter.is_marked_ours() {
            return Ok(Life::NotOurs);
        }
        if let Some(life) = self.0.get(&id) {
            return Ok(*life);
        }
        let life = life(id)?;
        self.0.insert(id, life);
        Ok(life)
    }
}

fn life(id: u32) -> io::Result<Life> {
    let program = match sys::program_by_id(id) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Life::NotOurs),
        other => other?,
    };
    let info = sys::program_info(program.as_fd())?;
    if info.kind != sys::PROG_TYPE_SCHED_CLS || ![L2_NAME, L3_NAME].contains(&info.name.as_str()) {
        return Ok(Life::NotOurs);
    }
    let mut heartbeat = None;
    for map_id in info.map_ids {
        let map = sys::map_by_id(map_id)?;
        if sys::map_info(map.as_fd())?.name == HEARTBEAT_NAME {
            heartbeat = Some(map);
        }
    }
    let Some(heartbeat) = heartbeat else { return Ok(Life::NotOurs) };
    let first = sys::map_first_u64(heartbeat.as_fd())?;
    let limit = Duration::from_nanos(HEARTBEAT_LIMIT_NS) + HEARTBEAT_SLACK;
    let started = Instant::now();
    loop {
        let beat = sys::map_first_u64(heartbeat.as_fd())?;
        if beat != first {
            return Ok(Life::Live);
        }
        let now = monotonic_now()?;
        if now.saturating_sub(Duration::from_nanos(beat)) > limit || started.elapsed() > limit {
            return Ok(Life::Stale);
        }
        std::thread::sleep(HEARTBEAT_LOOK);
    }
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic_now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
