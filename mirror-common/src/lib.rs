//! What the BPF program and the agent must agree on, and nothing else: the record in the ring
//! ([`record`]), the keys and values of the maps ([`map`]), the counters ([`counter`]).
//!
//! Every type here is `repr(C)` without implicit padding; sizes and offsets are pinned by constant
//! assertions, so that a change of layout is a compile error on both sides.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod counter;
pub mod map;
#[cfg(feature = "user")]
mod pod;
pub mod record;
