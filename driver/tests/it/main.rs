//! The tests of the driver crate as one program, a module a story: a program a story would link
//! the same crates once each.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../shared/later.rs"]
mod later;
#[path = "../shared/live.rs"]
mod live;

mod alone;
mod golden_headers;
mod header_change;
mod host_operations;
mod hostile_headers;
mod in_flight;
mod linux_model;
mod numbers;
mod opening;
mod ordered;
mod sector_map;
