//! The image tools: what people do with COW files beside running them.
//!
//! Each tool opens its image through [`open`], reads what the disk holds through [`content`],
//! and makes new files whole or not at all. [`ImageError`] is what can go wrong.

pub mod backing_change;
pub mod backing_note;
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
mod merge_room;
pub mod open;
mod partial_sector;
pub mod rebase;
pub mod recover;
pub mod resize;
pub mod siblings;

use std::ops::ControlFlow;
use std::path::Path;

use driver::units::Bytes;

pub use error::{ChangeError, ImageError};

/// Is told how a tool gets on, and says whether it is to go on.
pub trait Watcher {
    /// The tool has done `done` bytes of `total`. An image is whole whenever this is called:
    /// stopping there is as good as any other moment.
    fn progress(&mut self, done: Bytes, total: Bytes) -> ControlFlow<()>;

    /// The tool is about to wait, or does not wait where it should.
    fn waits(&mut self, _wait: Wait<'_>) {}

    /// Whether to go on waiting. An image that does not wait any more is whole, or marked.
    fn goes_on(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// One that waits as long as it takes.
impl<F: FnMut(Bytes, Bytes) -> ControlFlow<()>> Watcher for F {
    fn progress(&mut self, done: Bytes, total: Bytes) -> ControlFlow<()> {
        self(done, total)
    }
}

/// A wait for the time at which a backing file can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait<'a> {
    /// The backing file, as the header names it.
    pub backing: &'a Path,
    /// How many seconds its time of last modification, and the one that it is to get, are ahead:
    /// at least one.
    pub seconds: i64,
    /// Whether that is too long to wait, and so the tool goes on at once.
    pub too_long: bool,
}

/// The watcher of a tool.
pub type Watch<'a> = &'a mut dyn Watcher;

/// Tells the watcher, and stops if it says so.
fn report(watch: Watch<'_>, done: Bytes, total: Bytes) -> Result<(), ImageError> {
    match watch.progress(done.min(total), total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ImageError::Interrupted),
    }
}
