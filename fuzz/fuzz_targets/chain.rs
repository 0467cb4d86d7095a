//! A guest's request in its memory, as whatever bytes libFuzzer comes up with; see
//! `fuzz/README.md`.

#![no_main]

#[path = "../../harness/tests/shared/chain.rs"]
mod chain;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    chain::take_apart(bytes);
});
