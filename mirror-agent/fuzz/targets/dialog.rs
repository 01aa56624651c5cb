#![no_main]
//! See `mirror_fuzz::targets::dialog`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirror_fuzz::targets::dialog::check(bytes));
