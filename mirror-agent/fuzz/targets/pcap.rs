#![no_main]
//! See `mirror_fuzz::targets::pcap`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirror_fuzz::targets::pcap::check(bytes));
