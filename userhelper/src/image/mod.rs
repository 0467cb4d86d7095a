//! The image tools: what people do with COW files beside running them.
//!
//! Each tool opens its image through [`open`], reads what the disk holds through [`content`],
//! and makes new files whole or not at all. [`ImageError`] is what can go wrong.

pub mod backing_change;
pub mod check;
pub mod compare;
pub mod content;
pub mod convert;
pub mod create;
mod differences;
mod error;
pub mod info;
pub mod map;
pub mod merge;
pub mod open;
mod partial_sector;
pub mod rebase;
pub mod recover;
pub mod resize;
pub mod siblings;

use std::ops::ControlFlow;

use driver::units::Bytes;

pub use error::ImageError;

/// Is told how far a tool has come, of how much, and says whether it is to go on. An image is
/// whole whenever this is called: stopping there is as good as any other moment.
pub type Watch<'a> = &'a mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>;

/// Tells the watcher, and stops if it says so.
fn report(watch: Watch<'_>, done: Bytes, total: Bytes) -> Result<(), ImageError> {
    match watch(done.min(total), total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ImageError::Interrupted),
    }
}
