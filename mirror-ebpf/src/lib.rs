//! What of the tap can be tested on the host: the flow hash, the witness's memory, and the sizes of records and maps.
//!
//! The programs themselves are the binary target of this package; a build for any other target than BPF is there for
//! clippy only.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod capacity;
pub mod hash;
pub mod witness;
