#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir::fuzz::run("metadata", input));
