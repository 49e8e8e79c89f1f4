#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hooksink_fuzz::config::check(input));
