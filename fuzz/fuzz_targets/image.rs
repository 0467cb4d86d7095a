//! Every image tool on whatever bytes libFuzzer comes up with; see `fuzz/README.md`.

#![no_main]

#[path = "../../userhelper/tests/shared/exercise.rs"]
#[allow(dead_code, reason = "shared with the property tests")]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exercise::exercise(bytes));
