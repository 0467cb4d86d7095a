//! A COW file crafted field by field out of whatever libFuzzer comes up with; see
//! `fuzz/README.md`.

#![no_main]

#[path = "../../userhelper/tests/shared/crafted.rs"]
mod crafted;
#[path = "../../driver/tests/shared/live.rs"]
mod live;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    crafted::exercise_crafted(input);
});
