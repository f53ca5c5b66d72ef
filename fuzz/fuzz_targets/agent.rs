#![no_main]
#![allow(dead_code)] // the other targets' bodies

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::agent::run(bytes));
