//! Sharing extents between two files. On a file system that can do it (XFS, btrfs, bcachefs) a
//! rebuild into a new file costs next to nothing.

use driver::host::{HostError, HostFile, HostResult};
use driver::memory::MemoryFile;
use driver::units::{FileOffset, FileRange};

/// A file that may be able to share its extents with another one.
pub trait CloneRange: HostFile {
    /// Lets this file, from `to` on, have the content of `source` in `from`, without
    /// copying it: both files share the space until one of them writes. It grows
    /// this file if need be. As durable as a write: after a sync.
    ///
    /// [`HostError::Unsupported`] wherever nothing can be shared: the file system
    /// cannot, the files lie on two, or a border of the range is not one of its
    /// blocks (the end of `source` counts as one). The caller then copies.
    fn clone_range(&self, source: &Self, from: FileRange, to: FileOffset) -> HostResult<()> {
        let _ = (source, from, to);
        Err(HostError::Unsupported)
    }
}

/// Memory shares nothing.
impl CloneRange for MemoryFile {}
