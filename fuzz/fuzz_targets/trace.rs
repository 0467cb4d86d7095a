//! Every reader of traces on whatever bytes libFuzzer comes up with; see `fuzz/README.md`.

#![no_main]

#[path = "../../harness/tests/shared/read_trace.rs"]
mod read_trace;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read_trace::read_trace(bytes);
});
