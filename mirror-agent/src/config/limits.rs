//! Numbers that bound the agent: shards, memory, CPU, and what each shadow may hold.

use std::net::SocketAddr;
use std::time::Duration;

use mirror_common::map::{MAX_RING_BYTES, MAX_SHARDS, RING_FLOOR_BYTES};

use super::choice::{self, PRIORITY};
use super::{AgentFlags, CopyFlags, Error, RunFlags, TapFlags, units};

/// Least memory that rings, flows and queues work with, bytes.
pub const MEMORY_FLOOR: u64 = 32 << 20;
/// Least memory for each shard, bytes: its share of everything, and what its thread needs in any case.
pub const SHARD_MEMORY_FLOOR: u64 = 4 << 20;
/// Memory without `--memory`, bytes.
pub const DEFAULT_MEMORY: u64 = 128 << 20;
/// Open connections to a shadow without `--max-connections`.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 4096;
/// Least queue that a shadow is useful with, bytes: a few large segments.
const QUEUE_FLOOR: u64 = 1 << 20;

/// What the program takes whatever passes it, bytes: code, threads, tables of a fixed size.
const PROGRAM: u64 = 20 << 20;

/// What is shared out of a ceiling of `memory` bytes, at least [`MEMORY_FLOOR`]: a quarter each for rings, for flows and for
/// queues, a sixteenth for HTTP/2, a sixty-fourth for requests without an answer. What is left over holds the program.
#[must_use]
pub fn shared_memory(memory: u64) -> u64 {
    memory.min(memory.saturating_sub(PROGRAM) / 53 * 64)
}

/// What one shadow may hold, over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Copies without an answer; at least 1.
    pub max_in_flight: u32,
    /// Open connections; at least 1.
    pub max_connections: u32,
    /// Bytes waiting to be sent.
    pub max_queued_bytes: u64,
}

/// Timeouts towards a shadow; none is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first try to an open connection, TLS included.
    pub connect: Duration,
    /// From the end of a copy to the head of its answer.
    pub head: Duration,
    /// Without a byte in either direction, or without use.
    pub idle: Duration,
}

/// Scheduling priority of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// That of any process: without idle cores the mirror sheds copies.
    Normal,
    /// Before the primary.
    High {
        /// CPU time that the shards may take together before they shed copies, in percent of one core; `None` for 100
        /// percent a shard.
        cpu_budget: Option<u32>,
    },
}

pub(super) fn limits(flags: &CopyFlags, memory: u64, shadows: usize) -> Result<Limits, Error> {
    for (flag, number) in
        [("--max-in-flight", flags.max_in_flight), ("--max-connections", flags.max_connections)]
    {
        if number == 0 {
            return Err(Error::new(flag, number, "nothing could be sent", "give at least 1"));
        }
    }
    let memory = shared_memory(memory);
    let shadows = u64::try_from(shadows).unwrap_or(u64::MAX).max(1);
    let max_queued_bytes = match &flags.max_queued_bytes {
        None => (memory / 4 / shadows).max(QUEUE_FLOOR),
        Some(typed) => {
            let flag = "--max-queued-bytes";
            let bytes = units::bytes(flag, typed)?;
            let most = memory / 2 / shadows;
            if bytes < QUEUE_FLOOR {
                return Err(Error::new(flag, typed, "too small for large requests", "give at least 1MiB"));
            }
            if bytes > most {
                let mend = format!("give at most {}MiB, or raise --memory", most >> 20);
                return Err(Error::new(
                    flag,
                    typed,
                    "more than the memory has room for, for all shadows together",
                    mend,
                ));
            }
            bytes
        }
    };
    Ok(Limits {
        max_in_flight: flags.max_in_flight,
        max_connections: flags.max_connections,
        max_queued_bytes,
    })
}

pub(super) fn timeouts(flags: &CopyFlags) -> Result<Timeouts, Error> {
    Ok(Timeouts {
        connect: units::duration("--connect-timeout", &flags.connect_timeout)?,
        head: units::duration("--head-timeout", &flags.head_timeout)?,
        idle: units::duration("--idle-timeout", &flags.idle_timeout)?,
    })
}

pub(super) fn memory(flags: &AgentFlags) -> Result<u64, Error> {
    let bytes = units::bytes("--memory", &flags.memory)?;
    if bytes < MEMORY_FLOOR {
        let mend = format!("give at least {}MiB", MEMORY_FLOOR >> 20);
        return Err(Error::new("--memory", &flags.memory, "below the floor", mend));
    }
    Ok(bytes)
}

pub(super) fn ring(flags: &TapFlags) -> Result<Option<u32>, Error> {
    let Some(typed) = &flags.ring else { return Ok(None) };
    let flag = "--ring";
    match u32::try_from(units::bytes(flag, typed)?) {
        Ok(bytes) if bytes.is_power_of_two() && (RING_FLOOR_BYTES..=MAX_RING_BYTES).contains(&bytes) => {
            Ok(Some(bytes))
        }
        _ => {
            let mend = format!(
                "give a power of two from {} to {}",
                units::shown(RING_FLOOR_BYTES),
                units::shown(MAX_RING_BYTES)
            );
            Err(Error::new(flag, typed, "not the size of a ring", mend))
        }
    }
}

/// Bytes of each ring when there are `shards` of them: what was asked for, or the largest power of two within their share, a
/// quarter of the memory over the shards.
pub(super) fn ring_bytes(memory: u64, asked: Option<u32>, shards: u16) -> Result<u32, Error> {
    let share = ring_share(memory, shards);
    match asked {
        Some(asked) if asked > share => Err(ring_over_share(asked, shards, share)),
        Some(asked) => Ok(asked),
        None => Ok(share),
    }
}

/// The largest ring that each of `shards` has its share for.
fn ring_share(memory: u64, shards: u16) -> u32 {
    let share = shared_memory(memory) / 4 / u64::from(shards.max(1));
    let share = u32::try_from(share).unwrap_or(u32::MAX).clamp(RING_FLOOR_BYTES, MAX_RING_BYTES);
    1 << share.ilog2()
}

fn ring_over_share(asked: u32, shards: u16, share: u32) -> Error {
    let rings = if shards == 1 {
        "a ring of this size is".to_owned()
    } else {
        format!("{shards} rings of this size are")
    };
    let mend = format!("give at most {}, or raise --memory", units::shown(share));
    Error::new("--ring", units::shown(asked), format!("{rings} more than the memory has room for"), mend)
}

/// The shards that were asked for, else half of the cores, but no more than `memory` bytes have room for.
pub(super) fn shards_on(asked: Option<u16>, memory: u64, cores: usize) -> u16 {
    let half = u16::try_from(cores / 2).unwrap_or(u16::MAX);
    asked.unwrap_or_else(|| half.clamp(1, most_shards(memory)))
}

/// The most shards that `memory` bytes, at least [`MEMORY_FLOOR`], have room for.
fn most_shards(memory: u64) -> u16 {
    u16::try_from(memory / SHARD_MEMORY_FLOOR).unwrap_or(u16::MAX).clamp(1, MAX_SHARDS)
}

pub(super) fn shards(typed: Option<u32>, memory: u64) -> Result<Option<u16>, Error> {
    let Some(typed) = typed else { return Ok(None) };
    let most = most_shards(memory);
    match u16::try_from(typed) {
        Ok(shards) if (1..=most).contains(&shards) => Ok(Some(shards)),
        Ok(shards) if (1..=MAX_SHARDS).contains(&shards) => {
            let mend = format!(
                "give at most {most}, or raise --memory to {}MiB",
                (u64::from(shards) * SHARD_MEMORY_FLOOR) >> 20
            );
            Err(Error::new("--shards", typed, "more than the memory has room for", mend))
        }
        _ => {
            let mend = format!("give 1 to {MAX_SHARDS}, or leave it out for one for every two cores");
            Err(Error::new("--shards", typed, "out of range", mend))
        }
    }
}

pub(super) fn priority(flags: &RunFlags) -> Result<Priority, Error> {
    let flag = "--cpu-budget";
    let high = choice::of("--priority", &flags.priority, &PRIORITY)?;
    match (&flags.cpu_budget, high) {
        (None, false) => Ok(Priority::Normal),
        (None, true) => Ok(Priority::High { cpu_budget: None }),
        (Some(typed), false) => {
            let mend =
                "add --priority high, or leave it out: at normal priority the scheduler bounds the mirror";
            Err(Error::new(flag, typed, "there is no budget at normal priority", mend))
        }
        (Some(typed), true) => {
            let most = u32::from(MAX_SHARDS) * 100;
            let digits = typed.strip_suffix('%').unwrap_or(typed);
            match digits.parse::<u32>() {
                Ok(percent) if (1..=most).contains(&percent) => {
                    Ok(Priority::High { cpu_budget: Some(percent) })
                }
                _ => {
                    let mend = format!("give whole percent of one core, 1% to {most}%, e.g. 50% or 150%");
                    Err(Error::new(flag, typed, "not a share of a core", mend))
                }
            }
        }
    }
}

pub(super) fn admin(typed: Option<&str>) -> Result<Option<SocketAddr>, Error> {
    let Some(typed) = typed else { return Ok(None) };
    typed.parse().map(Some).map_err(|_| {
        let mend = "write IP:PORT, e.g. 127.0.0.1:9900, or 0.0.0.0:9900 for every address";
        Error::new("--admin", typed, "not an address and port", mend)
    })
}
