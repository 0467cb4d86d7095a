//! What the image tools ask of a host beyond what a driver needs.

use std::path::Path;

use driver::host::{Access, HostFile, HostNames, HostResult, Metadata, Place};
use driver::memory::{MemoryFile, MemoryHost};
use driver::units::Bytes;

use crate::clone_range::CloneRange;

/// A host on which images can be planned and rebuilt.
pub trait ImageHost: HostNames<File: CloneRange> + Sized {
    /// How much this user may still write in the file system that holds `path`,
    /// which need not exist; `None` where there is no known limit.
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<Bytes>>;

    /// Sets the time of last modification, in whole seconds since 1970; as durable as a write.
    fn set_modified(&self, file: &Self::File, seconds: i64) -> HostResult<()>;

    /// Makes everything of the file durable, its time of last modification too, which
    /// [`driver::host::HostFile::sync_data`] may leave out.
    fn sync_all(&self, file: &Self::File) -> HostResult<()>;

    /// What is known about the file at a place whose path somebody else wrote. A host on which
    /// opening a file can do anything looks without opening it.
    fn look(&self, place: &Place) -> HostResult<Metadata> {
        self.metadata(&place.open(self, Access::ReadOnly)?)
    }

    /// What time it is, in nanoseconds from some moment on; it never goes back. Nothing that
    /// is written depends on it, only how much is done before requests are served again.
    fn now_ns(&self) -> u64;
}

impl ImageHost for MemoryHost {
    fn free_space_beside(&self, _path: &Path) -> HostResult<Option<Bytes>> {
        Ok(None)
    }

    fn set_modified(&self, file: &MemoryFile, seconds: i64) -> HostResult<()> {
        file.set_modified(seconds);
        Ok(())
    }

    fn sync_all(&self, file: &MemoryFile) -> HostResult<()> {
        file.sync_data()
    }

    /// Time stands still: nothing takes any here.
    fn now_ns(&self) -> u64 {
        0
    }
}
