//! The user-space half of a ubd resize: files on the host, the relocation with its
//! planner, and the image tools around it.
//!
//! A resize goes down through this crate: [`planner`] chooses how, [`resize`] begins it,
//! and one of driver's `Headroom`, [`rebuild`] and [`reflow`] carries it out, step by step,
//! on an open device. An interrupted one is finished by [`resize::recover`].

pub mod clone_range;
mod copying;
pub mod image;
pub mod image_host;
pub mod losses;
mod new_bitmap;
mod pace;
pub mod planner;
pub mod real_files;
pub mod rebuild;
pub mod reflow;
pub mod resize;
mod space;
