//! Bad input of every kind, given to the real program: one clear message, the exit status for
//! it, and every file byte for byte as it was.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../common/cli.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod cli;

mod backing;
mod cow;
mod disk_full;
mod image;
mod image_arguments;
mod resize;
mod traces;
mod usage;
