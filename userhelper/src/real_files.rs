//! Files on the host: the seams of [`driver::host`] on Linux itself.
//!
//! System calls go through std and rustix, but for two that both lack: nix takes the
//! locks, and reflink-copy shares extents. No code here is unsafe.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use driver::host::{
    Access, FileIdentity, FileKind, HostError, HostFile, HostNames, HostResult, LockKind, Metadata,
    Place, Replace,
};
use driver::open::is_temporary_name;
use driver::units::{Bytes, FileOffset, FileRange};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use crate::image_host::{FreeSpace, ImageHost};
use crate::unfinished;

mod attributes;
mod belongings;
mod beneath;
mod errors;
mod lock;
mod modes;
mod rights;

pub use belongings::Belongings;
pub(crate) use errors::host_error;
use errors::{from_std, of_change, of_name_change, retried};
pub use errors::{names_are_fixed, why_fixed};
pub use modes::{Given, give_mode_at, give_storage_attributes_at};

/// The files of this machine, as this process sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealHost;

/// An open file of this machine: a regular file or a block device, where it is to
/// be used as a disk; see [`HostNames::metadata`] for what it turned out to be.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    access: Access,
    kind: FileKind,
    locked: AtomicBool,
}

impl AsFd for RealFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for RealFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        if *self.locked.get_mut() {
            // If that fails, closing it does the same a moment later.
            let _ = lock::unlock_whole_file(&self.file);
        }
    }
}

/// How much this user may still write in the file system that holds `path`, which
/// exists.
pub fn free_space(path: &Path) -> HostResult<FreeSpace> {
    let space = retried(|| rustix::fs::statvfs(path))?;
    Ok(FreeSpace {
        free: Bytes(space.f_bavail.saturating_mul(space.f_frsize)),
        block: Bytes(space.f_frsize.max(1)),
    })
}

impl ImageHost for RealHost {
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<FreeSpace>> {
        free_space(directory_of(path)).map(Some)
    }

    fn set_modified(&self, file: &RealFile, seconds: i64) -> HostResult<()> {
        file.writable()?;
        let time = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds {
            0.. => UNIX_EPOCH.checked_add(time),
            _ => UNIX_EPOCH.checked_sub(time),
        };
        let time = time.ok_or(HostError::TooLarge)?;
        match file.file.set_modified(time).map_err(from_std) {
            Err(HostError::PermissionDenied) if self.now_seconds() >= seconds => touch(&file.file),
            set => set,
        }
    }

    /// Of a root without CAP_FOWNER it is not known beforehand, and taken to be so.
    fn may_give_times(&self, file: &RealFile) -> bool {
        let user = rustix::process::geteuid();
        let owner = file.file.metadata().map(|metadata| metadata.uid());
        user.is_root() || owner.is_ok_and(|owner| owner == user.as_raw())
    }

    fn sync_all(&self, file: &RealFile) -> HostResult<()> {
        match rustix::fs::fsync(&file.file) {
            // What file systems say that are only ever read (ISO 9660, SquashFS).
            Err(Errno::INVAL) => Err(HostError::Unsupported),
            synced => synced.map_err(host_error),
        }
    }

    fn has_other_names(&self, file: &RealFile) -> HostResult<bool> {
        Ok(file.file.metadata().map_err(from_std)?.nlink() > 1)
    }

    fn allocated(&self, file: &RealFile) -> HostResult<Option<Bytes>> {
        /// What the system counts blocks in, whatever the file system's are.
        const BLOCK: u64 = 512;
        let metadata = file.file.metadata().map_err(from_std)?;
        let is_regular = file.kind == FileKind::Regular;
        Ok(is_regular.then(|| Bytes(metadata.blocks().saturating_mul(BLOCK))))
    }

    /// A file without a name is given that length: it takes no space, and nobody sees it. Where
    /// the file system makes none, nobody knows before the file itself is.
    fn check_len(&self, path: &Path, len: Bytes) -> HostResult<()> {
        check_end(FileOffset(0), len.0)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let Ok(probe) = retried(|| rustix::fs::open(directory_of(path), flags, mode)) else {
            return Ok(());
        };
        match retried(|| rustix::fs::ftruncate(&probe, len.0)) {
            Err(HostError::TooLarge) => Err(HostError::TooLarge),
            _ => Ok(()),
        }
    }

    /// A file without a name is given that time, which the system makes one that the file system
    /// holds. Where there is none to be made, nobody knows before the file itself is changed.
    fn holds_time(&self, path: &Path, seconds: i64) -> HostResult<bool> {
        let path = std::fs::canonicalize(path).map_err(from_std)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let Ok(probe) = retried(|| rustix::fs::open(directory_of(&path), flags, mode)) else {
            return Ok(true);
        };
        let probe = RealFile::of(probe, Access::ReadWrite)?;
        self.set_modified(&probe, seconds)?;
        Ok(self.metadata(&probe)?.modified_seconds == seconds)
    }

    /// The file is not opened. Of a block device the length is not known: it is 0 here.
    fn look(&self, place: &Place) -> HostResult<Metadata> {
        match place {
            Place::Anywhere(path) => std::fs::metadata(path)
                .map(|metadata| known(&metadata))
                .map_err(from_std),
            Place::Beneath { directory, path } => beneath::look(directory, path),
        }
    }

    fn shows(&self, to: &RealFile, from: &RealFile) -> HostResult<bool> {
        modes::shows(&to.file, &from.file)
    }

    fn now_ns(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }

    /// By the clock that the kernel takes the times of files from, which is some milliseconds
    /// later than the other one. A network file system may have one of its own.
    fn now_seconds(&self) -> i64 {
        rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a second has to pass, and nothing else is waited for"
    )]
    fn wait_until(
        &self,
        seconds: i64,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let ahead = seconds.saturating_sub(self.now_seconds()).max(0);
        let ahead_ns = ahead.unsigned_abs().saturating_mul(1_000_000_000);
        let until_ns = self.now_ns().saturating_add(ahead_ns);
        while self.now_seconds() < seconds && self.now_ns() <= until_ns {
            goes_on()?;
            std::thread::sleep(BETWEEN_LOOKS);
        }
        ControlFlow::Continue(())
    }
}

/// How long a wait goes on between two looks at the clock.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Gives the file the present time. Everybody may do that who may write the file.
fn touch(file: &File) -> HostResult<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    // Only both together are allowed to who does not own it.
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    retried(|| rustix::fs::futimens(file, &times))
}

impl HostNames for RealHost {
    type File = RealFile;

    /// Follows symbolic links. Does not wait for the other end of a FIFO, nor does a
    /// terminal opened by mistake become the process's own.
    fn open(&self, path: &Path, access: Access) -> HostResult<RealFile> {
        let opened = open(path, open_flags(access), access);
        match access {
            Access::ReadOnly => opened,
            Access::ReadWrite => opened.map_err(of_change(path)),
        }
    }

    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<RealFile> {
        beneath::open(directory, path, access)
    }

    /// With mode 0600. One of a temporary name is entered in [`unfinished`] until it gets another;
    /// where it could get none, it is not created.
    fn create_new(&self, path: &Path) -> HostResult<RealFile> {
        if is_temporary_name(path) && names_are_fixed(directory_of(path)) {
            return Err(HostError::ImmutableDirectory);
        }
        let flags = open_flags(Access::ReadWrite) | OFlags::CREATE | OFlags::EXCL;
        let create = || open(path, flags, Access::ReadWrite).map_err(of_name_change(path));
        match is_temporary_name(path) {
            true => unfinished::create(create, |_| path.to_owned()),
            false => create(),
        }
    }

    /// Opens what its owner may read at least. It has to be the user's own file, one that nobody
    /// has locked for writing, and one without a second name: where others may write to the
    /// directory, they may have given this name to any file of the user's.
    fn open_left_over(&self, path: &Path) -> HostResult<RealFile> {
        let opened = self.open(path, Access::ReadWrite);
        if opened.as_ref().err() != Some(&HostError::PermissionDenied) {
            return opened;
        }
        let flags = open_flags(Access::ReadOnly) | OFlags::NOFOLLOW;
        let left = open(path, flags, Access::ReadOnly)?;
        if self.has_other_names(&left)? {
            return opened;
        }
        lock::lock_whole_file(&left.file, LockKind::Shared)?;
        modes::give_to_owner_alone(&left.file)?;
        drop(left);
        self.open(path, Access::ReadWrite)
    }

    fn give_mode(&self, path: &Path, file: &RealFile, sources: &[&RealFile]) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| &source.file).collect();
        modes::give_usual_mode(directory_of(path), &file.file, &sources)
    }

    /// A block device has its own number as identity, on device 0, where no file
    /// lies: two nodes for one device are the same file.
    fn metadata(&self, file: &RealFile) -> HostResult<Metadata> {
        let metadata = file.file.metadata().map_err(from_std)?;
        let (device, inode) = identity_of(file.kind, &metadata);
        Ok(Metadata {
            kind: file.kind,
            identity: FileIdentity { device, inode },
            len: file.len()?,
            modified_seconds: metadata.mtime(),
        })
    }

    fn copy_storage_attributes(&self, from: &RealFile, to: &RealFile) {
        attributes::copy_inode_flags(&from.file, &to.file, &attributes::OF_STORAGE);
    }

    /// With extended attributes, an access control list where that gives nobody more rights, and
    /// the inode's attributes (`chattr`) that can be given to a file with content. What is missing
    /// then, [`Belongings`] tells.
    fn copy_attributes(&self, from: &RealFile, to: &RealFile) -> HostResult<()> {
        modes::copy_owner_and_mode(&from.file, &to.file)?;
        attributes::copy_attributes(attributes::Source::File(&from.file), &to.file)?;
        attributes::copy_inode_flags(&from.file, &to.file, &attributes::OF_USE);
        Ok(())
    }

    fn lock(&self, file: &RealFile, kind: LockKind) -> HostResult<()> {
        if kind == LockKind::Exclusive {
            file.writable()?;
        }
        lock::lock_patiently(&file.file, kind)?;
        file.locked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A file system that cannot rename without replacing (EINVAL) gets a second
    /// name made and the first one removed: between the two the file has both, and
    /// never is another file replaced.
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        unfinished::finish(from, || match replace {
            Replace::Existing => {
                retried(|| rustix::fs::rename(from, to)).map_err(of_name_change(to))
            }
            Replace::Nothing => {
                let exclusive = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(CWD, from, CWD, to, exclusive) {
                    Err(Errno::INVAL | Errno::NOSYS) => link_and_unlink(from, to),
                    renamed => renamed.map_err(host_error).map_err(of_name_change(to)),
                }
            }
        })
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        unfinished::finish(path, || {
            retried(|| rustix::fs::unlink(path)).map_err(of_name_change(path))
        })
    }

    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retried(|| rustix::fs::open(directory_of(path), flags, Mode::empty()))?;
        match rustix::fs::fsync(&directory) {
            // What file systems that do not sync directories say (some of FUSE, SMB).
            Err(Errno::INVAL) => Err(HostError::Unsupported),
            synced => synced.map_err(host_error),
        }
    }
}

impl RealFile {
    /// The file with this descriptor, whatever it is.
    fn of(descriptor: OwnedFd, access: Access) -> HostResult<RealFile> {
        let file = File::from(descriptor);
        let kind = kind_of(file.metadata().map_err(from_std)?.file_type());
        Ok(RealFile {
            file,
            access,
            kind,
            locked: AtomicBool::new(false),
        })
    }

    /// Whether this many bytes can be read there, as far as that shows beforehand.
    #[inline]
    pub(crate) fn may_read(&self, at: FileOffset, len: Bytes) -> HostResult<()> {
        check_end(at, len.0)
    }

    /// Whether this many bytes can be written there, as far as that shows beforehand.
    #[inline]
    pub(crate) fn may_write(&self, at: FileOffset, len: Bytes) -> HostResult<()> {
        self.writable()?;
        check_end(at, len.0)
    }

    #[inline]
    fn writable(&self) -> HostResult<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(HostError::PermissionDenied),
        }
    }

    fn change_allocation(&self, flags: FallocateFlags, range: FileRange) -> HostResult<()> {
        self.writable()?;
        check_end(range.start, range.len.0)?;
        if range.len == Bytes(0) {
            return Ok(());
        }
        let (start, len) = (range.start.0, range.len.0);
        let call = || rustix::fs::fallocate(&self.file, flags, start, len);
        match rustix::io::retry_on_intr(call) {
            // Not a file with an allocation; or a border that is not one of the device's blocks,
            // or lies past its end.
            Err(Errno::NODEV) => Err(HostError::Unsupported),
            Err(Errno::INVAL) if self.kind == FileKind::BlockDevice => Err(HostError::Unsupported),
            done => done.map_err(host_error),
        }
    }

    /// The first position of the wanted kind at or after the given one; `None` if there is none.
    /// `Unsupported` if the host cannot tell.
    fn seek(&self, wanted: SeekFrom) -> HostResult<Option<u64>> {
        match rustix::fs::seek(&self.file, wanted) {
            Ok(position) => Ok(Some(position)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL) => Err(HostError::Unsupported),
            Err(other) => Err(host_error(other)),
        }
    }

    fn rest_from(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        let end = FileOffset(self.len()?.0);
        Ok((from < end).then(|| FileRange::between(from..end)))
    }
}

impl HostFile for RealFile {
    #[inline]
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        self.may_read(at, Bytes(buffer.len() as u64))?;
        retried(|| rustix::io::pread(&self.file, &mut *buffer, at.0))
    }

    #[inline]
    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        self.may_write(at, Bytes(data.len() as u64))?;
        retried(|| rustix::io::pwrite(&self.file, data, at.0))
    }

    /// Not repeated when it fails: after a failed sync the pages may count as clean,
    /// and the next one would succeed without having written them.
    fn sync_data(&self) -> HostResult<()> {
        rustix::fs::fdatasync(&self.file).map_err(host_error)
    }

    fn len(&self) -> HostResult<Bytes> {
        match self.kind {
            // Its inode says 0. All reads and writes name their position, so moving
            // the descriptor's own disturbs nobody.
            FileKind::BlockDevice => retried(|| rustix::fs::seek(&self.file, SeekFrom::End(0))),
            _ => self.file.metadata().map_err(from_std).map(|it| it.len()),
        }
        .map(Bytes)
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        self.writable()?;
        check_end(FileOffset(0), len.0)?;
        match rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&self.file, len.0)) {
            // A device is as long as it is.
            Err(Errno::INVAL) if self.kind != FileKind::Regular => Err(HostError::Unsupported),
            done => done.map_err(host_error),
        }
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.change_allocation(flags, range)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.change_allocation(FallocateFlags::ZERO_RANGE, range)
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        check_end(from, 0)?;
        let mut at = from.0;
        loop {
            let start = match self.seek(SeekFrom::Data(at)) {
                Ok(Some(start)) => start,
                Ok(None) => return Ok(None),
                Err(HostError::Unsupported) => return self.rest_from(from),
                Err(error) => return Err(error),
            };
            let end = match self.seek(SeekFrom::Hole(start)) {
                Ok(Some(end)) => end,
                Ok(None) => return Ok(None),
                Err(HostError::Unsupported) => return self.rest_from(from),
                Err(error) => return Err(error),
            };
            if start < end {
                let run = FileOffset(start)..FileOffset(end);
                return Ok(Some(FileRange::between(run)));
            }
            // Punched between the two calls by somebody else: look further.
            at = start;
        }
    }

    fn clone_range(&self, source: &Self, from: FileRange, to: FileOffset) -> HostResult<()> {
        self.writable()?;
        check_end(from.start, from.len.0)?;
        check_end(to, from.len.0)?;
        // For the system call a length of 0 means all the rest.
        let Some(len) = NonZeroU64::new(from.len.0) else {
            return Ok(());
        };
        let range = reflink_copy::ReflinkBlockBuilder::new(&source.file, &self.file, len)
            .from_offset(from.start.0)
            .to_offset(to.0);
        range.reflink_block().map_err(|error| {
            match Errno::from_io_error(&error) {
                // Across file systems; by one without the operation; at a border that
                // is not one of its blocks.
                Some(Errno::XDEV | Errno::NOTTY | Errno::INVAL) => HostError::Unsupported,
                _ => from_std(error),
            }
        })
    }
}

fn open(path: &Path, flags: OFlags, access: Access) -> HostResult<RealFile> {
    let flags = match std::fs::metadata(path).map(|metadata| metadata.file_type()) {
        // The path may come out of a header: only to be looked at, never opened, because
        // opening alone makes some devices do things.
        Ok(kind) if !kind.is_file() && !kind.is_block_device() && !flags.contains(OFlags::EXCL) => {
            OFlags::PATH | OFlags::CLOEXEC
        }
        _ => flags,
    };
    // Of a new file: it is its owner's alone until it is given a mode.
    let mode = Mode::RUSR | Mode::WUSR;
    RealFile::of(retried(|| rustix::fs::open(path, flags, mode))?, access)
}

/// Does not wait for the other end of a FIFO, nor does a terminal become the process's own.
fn open_flags(access: Access) -> OFlags {
    let access = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

/// What the system says of a file that need not be open. Of a block device that is not its
/// length: it is 0 here.
fn known(metadata: &std::fs::Metadata) -> Metadata {
    let kind = kind_of(metadata.file_type());
    let (device, inode) = identity_of(kind, metadata);
    Metadata {
        kind,
        identity: FileIdentity { device, inode },
        len: match kind {
            FileKind::Regular => Bytes(metadata.len()),
            _ => Bytes(0),
        },
        modified_seconds: metadata.mtime(),
    }
}

fn kind_of(file_type: std::fs::FileType) -> FileKind {
    match file_type {
        kind if kind.is_file() => FileKind::Regular,
        kind if kind.is_block_device() => FileKind::BlockDevice,
        kind if kind.is_dir() => FileKind::Directory,
        _ => FileKind::Other,
    }
}

/// The numbers that tell a file from every other.
fn identity_of(kind: FileKind, metadata: &std::fs::Metadata) -> (u64, u64) {
    match kind {
        FileKind::BlockDevice => (0, metadata.rdev()),
        _ => (metadata.dev(), metadata.ino()),
    }
}

fn link_and_unlink(from: &Path, to: &Path) -> HostResult<()> {
    retried(|| rustix::fs::link(from, to))?;
    retried(|| rustix::fs::unlink(from))
}

/// The directory that holds the name: for `cow` without one, where we are.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // `/` and the empty path have no parent; the first holds itself, the second
        // is an error that the system reports.
        None => path,
    }
}

/// Positions are signed in Linux: one that would wrap is an error before the call.
#[inline]
fn check_end(at: FileOffset, len: u64) -> HostResult<()> {
    let end = at.0.checked_add(len);
    match end.filter(|&end| end <= i64::MAX as u64) {
        Some(_) => Ok(()),
        None => Err(HostError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the file system has no exclusive rename.
    #[test]
    fn a_link_in_the_place_of_an_exclusive_rename_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "another's").unwrap();
        assert_eq!(link_and_unlink(&from, &to), Err(HostError::AlreadyExists));
        assert_eq!(std::fs::read(&to).unwrap(), b"another's");
        assert_eq!(std::fs::read(&from).unwrap(), b"new");
        std::fs::remove_file(&to).unwrap();
        assert_eq!(link_and_unlink(&from, &to), Ok(()));
        assert_eq!(std::fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
    }
}
