//! `Pod` for the types that cross the boundary as map keys and values. The only unsafe code of this crate.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::{counter, map};

// SAFETY (all below): `repr(C)`, integers and arrays of integers only, no padding (sizes are asserted beside the
// definitions), valid for every bit pattern.
macro_rules! pod {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: see the head of this list.
        unsafe impl aya::Pod for $t {}
    )* };
}

pod!(
    map::Endpoint,
    map::Primary,
    map::PortBitmap,
    map::TapConfig,
    map::ShardState,
    counter::TapCounters,
    counter::JobCounters,
);
