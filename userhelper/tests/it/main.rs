//! The tests of the userhelper crate as one program, a module a story.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../shared/exercise.rs"]
mod exercise;
#[path = "../../../driver/tests/shared/later.rs"]
mod later;
#[path = "../shared/hosts_agree.rs"]
mod suite;

mod executors;
mod expected_backing;
mod holes;
mod hostile_images;
mod hosts_agree;
mod losses;
mod mending;
mod odd_sizes;
mod planner;
mod private_files;
mod real_files;
mod reflow_windows;
mod relocation_in_flight;
mod replaced_meanwhile;
mod temporary_files;
