//! The server's side of an NBD negotiation on whatever bytes libFuzzer comes up with; see
//! `fuzz/README.md`.

#![no_main]

#[path = "../../harness/tests/shared/negotiate.rs"]
mod negotiate;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    negotiate::negotiate_with(bytes);
});
