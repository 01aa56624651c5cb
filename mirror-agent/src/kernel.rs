//! The kernel's side of the agent: programs, maps, taps, namespaces. Only here stand aya and unsafe code.

pub mod attach;
mod call;
pub mod cleanup;
mod clsact;
pub mod counters;
pub mod descriptors;
pub mod interfaces;
pub mod load;
pub mod maps;
mod netlink;
pub mod netns;
pub mod own;
pub mod probe;
pub mod programs;
pub mod readable;
pub mod ring;
pub mod status;
mod sys;
mod tcx;
pub mod thread;
pub mod watch;

pub use sys::Hook;

#[cfg(test)]
#[cfg(feature = "kernel-tests")]
mod lab;
