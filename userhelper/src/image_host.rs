//! What the image tools ask of a host beyond what a driver needs.

use std::ops::ControlFlow;
use std::path::Path;

use driver::host::{Access, HostFile, HostNames, HostResult, Metadata, Place};
use driver::memory::{MemoryFile, MemoryHost};
use driver::units::Bytes;

/// Space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// How much of it may still be taken.
    pub free: Bytes,
    /// A file takes it in blocks of this length; at least 1.
    pub block: Bytes,
}

/// A host on which images can be planned and rebuilt.
pub trait ImageHost: HostNames + Sized + 'static {
    /// How much this user may still write in the file system that holds `path`,
    /// which need not exist; `None` where there is no known limit.
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<FreeSpace>>;

    /// Sets the time of last modification, in whole seconds since 1970; as durable as a write. A
    /// user who may write the file without owning it can set only the present time: the file gets
    /// that, if it is no earlier than what was asked for. Otherwise
    /// [`driver::host::HostError::PermissionDenied`] says to ask again then.
    fn set_modified(&self, file: &Self::File, seconds: i64) -> HostResult<()>;

    /// Makes everything of the file durable, its time of last modification too, which
    /// [`driver::host::HostFile::sync_data`] may leave out.
    fn sync_all(&self, file: &Self::File) -> HostResult<()>;

    /// What is known about the file at a place whose path somebody else wrote. A host on which
    /// opening a file can do anything looks without opening it.
    fn look(&self, place: &Place) -> HostResult<Metadata> {
        self.metadata(&place.open(self, Access::ReadOnly)?)
    }

    /// Whether more users may read `to` than `from`, going by their modes. Where files have none,
    /// nobody is kept from any.
    fn shows(&self, _to: &Self::File, _from: &Self::File) -> HostResult<bool> {
        Ok(false)
    }

    /// Whether the file has more than one name. Whoever replaces it under one of them leaves the
    /// old file under the others.
    fn has_other_names(&self, _file: &Self::File) -> HostResult<bool> {
        Ok(false)
    }

    /// The space that the file takes on disk, where the host says so.
    fn allocated(&self, _file: &Self::File) -> HostResult<Option<Bytes>> {
        Ok(None)
    }

    /// Whether a regular file at `path` can be this long, as far as that can be told without
    /// changing it: [`driver::host::HostError::TooLarge`] if not.
    fn check_len(&self, _path: &Path, _len: Bytes) -> HostResult<()> {
        Ok(())
    }

    /// Whether this user may give the file any time, as its owner may. Whoever may only write it
    /// can give it the present time, and nothing else.
    fn may_give_times(&self, _file: &Self::File) -> bool {
        true
    }

    /// Whether a file beside the one at `path` can have this time of last modification, in seconds
    /// since 1970, as far as that can be told without changing a file: `true` where it cannot.
    fn holds_time(&self, _path: &Path, _seconds: i64) -> HostResult<bool> {
        Ok(true)
    }

    /// What time it is, in nanoseconds from some moment on; it never goes back. Nothing that
    /// is written depends on it, only how much is done before requests are served again.
    fn now_ns(&self) -> u64;

    /// The time that a file gets which is written now, in whole seconds since 1970. Files may
    /// have been given later ones, and this may be set back at any moment.
    fn now_seconds(&self) -> i64;

    /// Waits until [`ImageHost::now_seconds`] is this or later, asking `goes_on` all the while,
    /// several times a second, and ends early if that says so. It does not wait for ever where the
    /// clock is set back: no longer than what was ahead at first.
    fn wait_until(
        &self,
        seconds: i64,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()>;
}

impl ImageHost for MemoryHost {
    fn free_space_beside(&self, _path: &Path) -> HostResult<Option<FreeSpace>> {
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

    fn now_seconds(&self) -> i64 {
        0
    }

    fn wait_until(
        &self,
        _seconds: i64,
        _goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
