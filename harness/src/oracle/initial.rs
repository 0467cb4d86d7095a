//! What was there before anything was written.

use std::path::PathBuf;

use driver::host::HostError;
use driver::shown;
use driver::units::{FileOffset, Sector, SectorRange};

use crate::stamp::is_zero;

/// What was there at the start cannot be read: nothing is known of what it should be compared with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading {} at byte {at}: {error}", shown(.path))]
pub struct NotRead {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub at: FileOffset,
    /// What the host said.
    pub error: HostError,
}

/// What a sector shows before anything was written to it.
pub trait Initial {
    /// Whether `content` is what `sector` held at the start. Means nothing where
    /// [`Initial::failure`] then tells one.
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool;

    /// Why some sector could not be looked at, if that has ever been so.
    fn failure(&self) -> Option<&NotRead> {
        None
    }

    /// Sectors of `range` are asked for next, and no others until this is called again.
    fn looks_at(&mut self, _range: SectorRange) {}

    /// Whether `content`, which some sector held at the start, is zeros.
    fn is_zeros(&self, content: &[u8]) -> bool {
        is_zero(content)
    }

    /// Whether it is known without a look at the device that the sectors from the start of
    /// `range` on held zeros, and up to which sector the same is true. What cannot be looked at
    /// is not known to hold any.
    fn hole_at(&mut self, range: SectorRange) -> (bool, Sector) {
        (false, range.end())
    }

    /// What that was, for a message.
    fn describe(&self, sector: Sector) -> String;
}
