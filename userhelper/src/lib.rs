//! The user-space half of a ubd resize: files on the host, the relocation with its planner, and
//! the image tools around it.
//!
//! A resize goes down through this crate: [`planner`] chooses how, [`resize`] begins it, and one
//! of driver's `Headroom`, [`rebuild`] and [`reflow`] is the procedure that an open device carries
//! out, step by step. An interrupted one is finished by [`resize::recover`]. What the planner
//! counts is in [`losses`] (what a smaller device loses) and `space` (what a file takes). The two
//! that move data share `copying` and `new_bitmap`; `pace` chooses how large the windows of a
//! reflow are.
//!
//! [`image`] has the image tools. [`image_host`] says what they and a resize ask of a host beyond
//! what a driver needs. [`real_files`] is the real host, and [`executor`] carries
//! a device's operations out on it, many at a time. [`unfinished`] removes temporary files when a
//! signal ends the process.

pub mod at_once;
mod copying;
pub mod executor;
pub mod image;
pub mod image_host;
pub mod losses;
mod new_bitmap;
mod pace;
pub mod planner;
pub mod progress;
pub mod real_files;
pub mod rebuild;
pub mod reflow;
pub mod resize;
mod space;
pub mod unfinished;
mod zeros;
