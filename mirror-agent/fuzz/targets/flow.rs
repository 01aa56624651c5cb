#![no_main]
//! See `mirror_fuzz::targets::flow`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirror_fuzz::targets::flow::check(bytes));
