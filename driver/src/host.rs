//! The seams to the host: all that the driver and the relocation ask of the
//! machine underneath. [`HostFile`] is one open file, with the operations that
//! UML's own `os_*` layer has and a resize needs; [`HostNames`] is what happens to
//! names. Real files (userhelper), memory ([`crate::memory`]) and the crash
//! simulator (harness) implement them, and no code above knows which it has.
//!
//! Nothing here promises durability except a successful [`HostFile::sync_data`]
//! (for one file's content and length) and [`HostNames::sync_directory_of`] (for
//! the names in one directory). `docs/format.md` lists what is assumed of a disk.

use std::path::Path;

use crate::units::{Bytes, FileOffset, FileRange};

mod failed;
mod kind;
mod operation;
mod place;
mod transfer;
mod zeroing;

pub use failed::FailedOperation;
pub use kind::OperationKind;
pub use operation::{Action, Buffer, FileRole, Finished, FinishedAction, Operation, Waiter};
pub use place::{Place, beneath, names_a_directory};
pub use transfer::Transfer;
pub use zeroing::{carry_out_or_instead, clear};

/// Bytes of the blocks of most file systems, in which they give space out, take it back, and share
/// it.
pub const BLOCK: u64 = 4096;

/// What a host operation can fail with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The file system has no such operation; the caller falls back, visibly.
    #[error("the host's file system does not support this")]
    Unsupported,
    /// ENOSPC or EDQUOT.
    #[error("no space left on the host")]
    NoSpace,
    /// EIO: the medium failed.
    #[error("input/output error")]
    Io,
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST.
    #[error("the file exists already")]
    AlreadyExists,
    /// EACCES or EPERM.
    #[error("permission denied")]
    PermissionDenied,
    /// EROFS.
    #[error("read-only file system")]
    ReadOnlyFileSystem,
    /// EPERM of a file that has the attribute i or a: nobody may change it, or only append.
    #[error("the file is immutable or append-only (chattr -i -a)")]
    Immutable,
    /// EPERM of a name in a directory that has the attribute i or a.
    #[error("its directory is immutable or append-only (chattr -i -a)")]
    ImmutableDirectory,
    /// The path is absolute or goes up, where it has to lead beneath a directory.
    #[error("the path leads outside the directory")]
    OutsideDirectory,
    /// A symbolic link is on the way, where none is followed.
    #[error("the path goes through a symbolic link, and none is followed here")]
    SymbolicLink,
    /// A block or character device, where a path has to stay beneath a directory.
    #[error("a device file, which leads out of the directory")]
    DeviceFile,
    /// Another process, or another open file of this one, holds a lock.
    #[error("locked by another process")]
    Locked,
    /// EFBIG: past what the file system can address.
    #[error("the file would be larger than the host allows")]
    TooLarge,
    /// A read met the end of the file where content was expected.
    #[error("the file ends at byte {found}, content was expected up to byte {expected}")]
    UnexpectedEnd {
        /// Where the read found the end.
        found: u64,
        /// Up to where content was expected.
        expected: u64,
    },
    /// A write that the host reports as done without a byte written.
    #[error("the host wrote nothing and reported no error")]
    WroteNothing,
    /// Any other error number of Linux.
    #[error("{}", crate::system_words(std::io::Error::from_raw_os_error(*.0)))]
    Os(i32),
}

impl HostError {
    /// ENOTDIR.
    pub const NOT_A_DIRECTORY: HostError = HostError::Os(20);
}

/// The result of a host operation.
pub type HostResult<T> = Result<T, HostError>;

/// One open file on the host.
///
/// All operations take `&self`, like the system calls that they stand for: the
/// state is the host's. Ranges given to `punch_hole` and `zero_range` are multiples
/// of 512 bytes unless the caller handles partial sectors itself.
#[expect(
    clippy::len_without_is_empty,
    reason = "the length of a disk file is never asked for emptiness"
)]
pub trait HostFile: 'static {
    /// Reads at most `buffer.len()` bytes from `at`; the number read, 0 at the end
    /// of the file. May be short without being at the end, as pread may.
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize>;

    /// Writes at most `data.len()` bytes at `at`; the number written. May be short.
    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize>;

    /// Makes everything written to this file so far durable (fdatasync).
    fn sync_data(&self) -> HostResult<()>;

    /// The length of the file, or the size of the block device.
    fn len(&self) -> HostResult<Bytes>;

    /// Cuts the file or extends it with a hole.
    fn set_len(&self, len: Bytes) -> HostResult<()>;

    /// Frees the range, which then reads as zeros; the file's length stays.
    fn punch_hole(&self, range: FileRange) -> HostResult<()>;

    /// Makes the range read as zeros with its space kept; extends the file if need be.
    fn zero_range(&self, range: FileRange) -> HostResult<()>;

    /// The first run of data (in contrast to a hole) that ends after `from`, cut to start at
    /// `from` or later; `None` when only a hole or nothing follows. A host that cannot tell
    /// reports the rest of the file as one run.
    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>>;

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

    /// Reads the whole buffer, in as many reads as the host needs. The end of the
    /// file before the end of the buffer is [`HostError::UnexpectedEnd`].
    #[inline]
    fn read_exact_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<()> {
        let mut reading = Transfer::reading(at, buffer.len());
        reading.carry_out(|done, at| self.read_at(&mut buffer[done..], at))
    }

    /// Reads the whole buffer. Bytes past the end of the file read as zeros. For the places where
    /// that is the meaning, and only there.
    fn read_zero_filled_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<()> {
        let mut reading = Transfer::reading(at, buffer.len());
        match reading.carry_out(|done, at| self.read_at(&mut buffer[done..], at)) {
            Err(HostError::UnexpectedEnd { .. }) => {
                buffer[reading.done()..].fill(0);
                Ok(())
            }
            read => read,
        }
    }

    /// Writes all of `data`, in as many writes as the host needs.
    #[inline]
    fn write_all_at(&self, data: &[u8], at: FileOffset) -> HostResult<()> {
        let mut writing = Transfer::writing(at, data.len());
        writing.carry_out(|done, at| self.write_at(&data[done..], at))
    }

    /// Iterates over the runs of data that lie in `range`, each cut to it.
    fn data_runs(&self, range: FileRange) -> DataRuns<'_, Self> {
        DataRuns { file: self, range }
    }
}

/// Iterator over the runs of data in a range of a file; see [`HostFile::data_runs`].
#[derive(Debug)]
pub struct DataRuns<'a, F: ?Sized> {
    file: &'a F,
    range: FileRange,
}

impl<F: HostFile + ?Sized> Iterator for DataRuns<'_, F> {
    type Item = HostResult<FileRange>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.range.end();
        if self.range.start >= end {
            return None;
        }
        let run = match self.file.next_data(self.range.start) {
            Ok(Some(run)) if run.start < end => {
                FileRange::between(run.start.max(self.range.start)..run.end().min(end))
            }
            Ok(_) => {
                self.range = FileRange::new(end, Bytes(0));
                return None;
            }
            Err(error) => {
                self.range = FileRange::new(end, Bytes(0));
                return Some(Err(error));
            }
        };
        self.range = FileRange::between(run.end()..end);
        Some(Ok(run))
    }
}

/// For what a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// A lock on a whole file, held until the file is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Excludes exclusive holders only.
    Shared,
    /// Excludes every other holder.
    Exclusive,
}

/// What an opened name turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A FIFO, a socket, a character device: never to be used as a disk.
    Other,
}

/// Two open files are the same file exactly if their identities are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The host device that holds the file; 0 for a block device.
    pub device: u64,
    /// The inode number there; for a block device, its own device number.
    pub inode: u64,
}

/// What the host knows about an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Which it is.
    pub identity: FileIdentity,
    /// Its length in bytes.
    pub len: Bytes,
    /// Time of the last modification, whole seconds since 1970.
    pub modified_seconds: i64,
}

/// What a rename does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// The old file loses its name, atomically.
    Existing,
    /// [`HostError::AlreadyExists`].
    Nothing,
}

/// What happens to names on the host.
pub trait HostNames {
    /// The files that the names stand for.
    type File: HostFile;

    /// Opens an existing file. Never blocks, also not on a FIFO.
    fn open(&self, path: &Path, access: Access) -> HostResult<Self::File>;

    /// Opens an existing file beneath `directory`, for a path that a stranger wrote. `directory`
    /// is followed like any path; from there on nothing leads out of it: an absolute path and one
    /// with `..` are [`HostError::OutsideDirectory`], a symbolic link on the way is
    /// [`HostError::SymbolicLink`], also if somebody changes the names meanwhile, and a device
    /// file at the end is [`HostError::DeviceFile`]. Never blocks.
    fn open_beneath(&self, directory: &Path, path: &Path, access: Access)
    -> HostResult<Self::File>;

    /// Creates a file for reading and writing; an existing one is an error. Only its owner may
    /// open it, because what it is going to hold may be private: [`HostNames::give_mode`] or
    /// [`HostNames::copy_attributes`] gives it its mode when it is complete.
    fn create_new(&self, path: &Path) -> HostResult<Self::File>;

    /// Opens, for reading and writing, what an interrupted creation has left at `path`. A mode that
    /// it had been given already, without the right to write, does not keep its owner from it.
    fn open_left_over(&self, path: &Path) -> HostResult<Self::File> {
        self.open(path, Access::ReadWrite)
    }

    /// Gives a file of [`HostNames::create_new`] the mode that any new file at `path` gets,
    /// without what `sources`, the files that its content comes from, keep from their group or
    /// from others. A host whose modes cannot be changed leaves the file as it is.
    ///
    /// A power cut may leave the mode of `create_new` until the file has been synced.
    fn give_mode(&self, path: &Path, file: &Self::File, sources: &[&Self::File]) -> HostResult<()>;

    /// Gives `to`, which is empty, what says of `from` how its data is stored, as far as the host
    /// and the user's rights allow: a file with content would not take it any more.
    fn copy_storage_attributes(&self, _from: &Self::File, _to: &Self::File) {}

    /// What `file` is.
    fn metadata(&self, file: &Self::File) -> HostResult<Metadata>;

    /// Gives `to` the owner and mode of `from`, as far as the user's rights allow. No group and
    /// nobody else gets a right by it that `from` does not give them. `to` keeps its own times: it
    /// has other bytes, and a backup that goes by the time would miss them.
    fn copy_attributes(&self, from: &Self::File, to: &Self::File) -> HostResult<()>;

    /// Takes a lock: [`HostError::Locked`] if another holds one, and goes on holding it for as long
    /// as a process that has just ended may. It
    /// excludes the POSIX locks that a running UML takes.
    fn lock(&self, file: &Self::File, kind: LockKind) -> HostResult<()>;

    /// Renames a file within one directory, atomically.
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()>;

    /// Removes a name.
    fn remove(&self, path: &Path) -> HostResult<()>;

    /// Makes all changes of names in the directory that holds `path` durable.
    fn sync_directory_of(&self, path: &Path) -> HostResult<()>;

    /// Whether two open files are one file.
    fn is_same_file(&self, one: &Self::File, other: &Self::File) -> HostResult<bool> {
        Ok(self.metadata(one)?.identity == self.metadata(other)?.identity)
    }

    /// Whether `path` is a name of the open `file`. Whoever had a lock on `file` before this
    /// process may have put another file in its place.
    fn is_name_of(&self, path: &Path, file: &Self::File) -> Result<bool, FailedOperation> {
        let named = match self.open(path, Access::ReadOnly) {
            Err(HostError::NotFound) => return Ok(false),
            named => named.map_err(OperationKind::Open.failed())?,
        };
        let is_same = self.is_same_file(&named, file);
        is_same.map_err(OperationKind::Metadata.failed())
    }
}
