#![no_main]
//! See `mirror_fuzz::targets::http::h2`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirror_fuzz::targets::http::h2(bytes));
