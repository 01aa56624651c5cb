//! One packet: is it ours, whose is it, what is to be told of it. No verdict is known here.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mirror_common::counter::TapCounter;
use mirror_common::map::HEARTBEAT_LIMIT_NS;
use mirror_common::record::Direction;

use crate::emit::{self, Emitted};
use crate::headers::{self, Link};
use crate::maps::{CONFIG, HEARTBEAT};
use crate::packet::Packet;
use crate::select;

/// Why nothing was put into a ring.
#[derive(Clone, Copy)]
pub(crate) enum Skip {
    /// Not TCP to or from a primary: not counted, so that it costs nothing.
    Unmatched,
    /// Matched, or unreadable where it might have matched.
    Counted(TapCounter),
}

/// Looks at one packet and copies what its job needs.
#[inline(always)]
pub(crate) fn observe(packet: Packet, link: Link) -> Result<Emitted, Skip> {
    agent_is_alive()?;
    let segment = headers::read(packet, link)?;
    let found = select::find(&segment)?;
    match found.direction {
        Direction::Request => emit::request(packet, &segment, found.job),
        Direction::Response => emit::response(packet, &segment, found.job),
    }
}

/// A clsact filter outlives its agent, and then has to be as good as absent.
#[inline(always)]
fn agent_is_alive() -> Result<(), Skip> {
    if CONFIG.load().needs_heartbeat == 0 {
        return Ok(());
    }
    let beat = HEARTBEAT.get_ptr(0).ok_or(Skip::Unmatched)?;
    // SAFETY: a map value, written by the agent through its mapping; aligned, so read whole.
    let beat = unsafe { beat.read_volatile() };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // A beat from another CPU may be newer than `now` by a little.
    if now.saturating_sub(beat) > HEARTBEAT_LIMIT_NS {
        return Err(Skip::Counted(TapCounter::Inert));
    }
    Ok(())
}
