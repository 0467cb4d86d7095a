//! The commands of `ubdlab image`, run as a user runs them: each does what its help says, for
//! images of every version, and what they leave is read back by the slowest reader there is.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../common/cli.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod cli;
#[path = "../common/images.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod images;

mod check;
mod compare;
mod convert;
mod create;
mod info_map;
mod merge;
mod rebase;
mod resize;
