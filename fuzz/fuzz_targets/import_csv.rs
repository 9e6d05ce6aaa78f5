#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| billday_fuzz::import_csv(data));
