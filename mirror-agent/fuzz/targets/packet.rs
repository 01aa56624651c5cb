#![no_main]
//! See `mirror_fuzz::targets::packet`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirror_fuzz::targets::packet::check(bytes));
