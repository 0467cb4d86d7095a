//! What the image tools ask of a host beyond what a driver needs.

use std::path::Path;

use driver::host::{HostNames, HostResult};
use driver::memory::MemoryHost;
use driver::units::Bytes;

use crate::clone_range::CloneRange;

/// A host on which images can be planned and rebuilt.
pub trait ImageHost: HostNames<File: CloneRange> {
    /// How much this user may still write in the file system that holds `path`,
    /// which need not exist; `None` where there is no known limit.
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<Bytes>>;
}

impl ImageHost for MemoryHost {
    fn free_space_beside(&self, _path: &Path) -> HostResult<Option<Bytes>> {
        Ok(None)
    }
}
