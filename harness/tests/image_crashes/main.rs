//! Every image tool that writes, and the question what happens if the power goes here: a crash
//! before each of its changes, by a kill and by power cuts, on a host whose files have times.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, reason = "the modules share a world")]

#[path = "../common/mod.rs"]
mod common;

mod backing;
mod create;
mod merge;
mod rebase;
mod repair;
mod story;
mod world;
