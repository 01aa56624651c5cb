//! The tap: two TC programs, one for Ethernet devices and one for devices whose packets begin with the IP header. Each
//! serves both hooks.
//!
//! Whatever happens inside, the verdict is a constant: let the next program run. What there is to do is
//! [`observe::observe`], which knows no verdict.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    unsafe_code,
    reason = "BPF helpers and packet memory are raw pointers; the verifier checks what Rust cannot"
)]
#![allow(clippy::needless_pass_by_value, reason = "the signature of an entry point")]

mod emit;
mod headers;
mod maps;
mod observe;
mod packet;
mod select;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::{debug, trace};

use headers::Link;
use observe::{Skip, observe};
use packet::Packet;

/// The tap on devices with an Ethernet header.
#[classifier]
pub(crate) fn mirror_l2(ctx: TcContext) -> i32 {
    note(&ctx, Link::Ethernet);
    TC_ACT_UNSPEC
}

/// The tap on devices without a link header (tun, wireguard).
#[classifier]
pub(crate) fn mirror_l3(ctx: TcContext) -> i32 {
    note(&ctx, Link::None);
    TC_ACT_UNSPEC
}

/// Observes, and counts what was left out. The log lines are dead code to the verifier unless the loader asked for them.
#[inline(always)]
fn note(ctx: &TcContext, link: Link) {
    match observe(Packet::new(ctx), link) {
        Ok(emitted) => {
            trace!(ctx, "job {}: segment of {} bytes", emitted.job, emitted.bytes);
        }
        Err(Skip::Unmatched) => {}
        Err(Skip::Counted(counter)) => {
            maps::count(counter);
            debug!(ctx, "passed by: counter {}", counter as u32);
        }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"MIT\0";

/// Not for running: lets clippy and the compiler check these sources on the host.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
