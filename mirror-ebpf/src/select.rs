//! Whose segment is it: the port bitmap first, then the exact endpoint, then the wildcard.

use mirror_common::counter::TapCounter;
use mirror_common::record::Direction;

use crate::headers::Segment;
use crate::maps::{Key, OWN, PORTS, PRIMARIES, WILDCARDS};
use crate::observe::Skip;

/// Which ends of a segment have a watched port.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) src: bool,
    pub(crate) dst: bool,
}

/// The job that wants a segment, and which way the segment goes.
#[derive(Clone, Copy)]
pub(crate) struct Match {
    pub(crate) job: u16,
    pub(crate) direction: Direction,
}

/// Looks at the bitmap only: this is as far as an unmatched packet gets.
#[inline(always)]
pub(crate) fn watched(src_port: u16, dst_port: u16) -> Result<Watched, Skip> {
    let ports = PORTS.get(0).ok_or(Skip::Unmatched)?;
    let watched = Watched { src: ports.has(src_port), dst: ports.has(dst_port) };
    if watched.src || watched.dst { Ok(watched) } else { Err(Skip::Unmatched) }
}

/// Finds the job of a segment with a watched port. A segment between two primaries is a request of the one it goes to.
#[inline(always)]
pub(crate) fn find(segment: &Segment) -> Result<Match, Skip> {
    let (job, direction, client) = if segment.watched.dst
        && let Some(job) = job_of(&segment.dst)
    {
        (job, Direction::Request, &segment.src)
    } else if segment.watched.src
        && let Some(job) = job_of(&segment.src)
    {
        (job, Direction::Response, &segment.dst)
    } else {
        return Err(Skip::Unmatched);
    };
    if OWN.get_ptr(client).is_some() {
        return Err(Skip::Counted(TapCounter::OwnReplays));
    }
    Ok(Match { job, direction })
}

/// Whether a fragment between these addresses may belong to a primary: only its first part carries ports, so the
/// addresses have to do. Off the common path.
#[inline(always)]
pub(crate) fn may_be_fragment_of_primary(src: [u32; 4], dst: [u32; 4]) -> bool {
    has_address(dst) || has_address(src) || has_address(any())
}

fn has_address(addr: [u32; 4]) -> bool {
    PRIMARIES.get_ptr(Key { addr, port: 0, reserved: 0 }).is_some()
}

/// The all-zero address, from behind a barrier: the compiler would clear it by a call with a loop over bytes.
#[inline(always)]
fn any() -> [u32; 4] {
    let zero = core::hint::black_box(0);
    [zero, zero, zero, zero]
}

#[inline(always)]
fn job_of(end: &Key) -> Option<u16> {
    let primary = match PRIMARIES.get_ptr(end) {
        Some(exact) => exact,
        None if WILDCARDS.get(0)?.has(end.port) => {
            PRIMARIES.get_ptr(Key { addr: any(), port: end.port, reserved: 0 })?
        }
        None => return None,
    };
    // SAFETY: a value of the map. The agent may replace it as we read; a u16 is read whole.
    Some(unsafe { (*primary).job })
}
