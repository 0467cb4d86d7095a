//! An open file: what a driver asks of it goes to the system.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::host::{Access, FileKind, HostError, HostFile, HostResult, LockKind, OperationKind};
use driver::units::{Bytes, FileOffset, FileRange};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::errors::{called, from_std, host_error, retried};
use super::lock;
use super::metadata::kind_of;

/// An open file of this machine: a regular file or a block device, where it is to be used as a
/// disk. [`driver::host::HostNames::metadata`] says what it turned out to be.
#[derive(Debug)]
pub struct RealFile {
    pub(super) file: File,
    access: Access,
    pub(super) kind: FileKind,
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

impl RealFile {
    /// The file with this descriptor, whatever it is.
    pub(super) fn of(descriptor: OwnedFd, access: Access) -> HostResult<RealFile> {
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
    pub(super) fn writable(&self) -> HostResult<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(HostError::PermissionDenied),
        }
    }

    /// Locks it until it is closed.
    pub(super) fn lock(&self, kind: LockKind) -> HostResult<()> {
        if kind == LockKind::Exclusive {
            self.writable()?;
        }
        lock::lock_patiently(&self.file, kind)?;
        self.locked.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn change_allocation(
        &self,
        kind: OperationKind,
        flags: FallocateFlags,
        range: FileRange,
    ) -> HostResult<()> {
        self.writable()?;
        check_end(range.start, range.len.0)?;
        if range.len == Bytes(0) {
            return Ok(());
        }
        let (start, len) = (range.start.0, range.len.0);
        let call = || rustix::fs::fallocate(&self.file, flags, start, len);
        match called(kind, call) {
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
        let call = || rustix::io::pread(&self.file, &mut *buffer, at.0);
        called(OperationKind::Read, call).map_err(host_error)
    }

    #[inline]
    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        self.may_write(at, Bytes(data.len() as u64))?;
        let call = || rustix::io::pwrite(&self.file, data, at.0);
        called(OperationKind::Write, call).map_err(host_error)
    }

    fn sync_data(&self) -> HostResult<()> {
        let call = || rustix::fs::fdatasync(&self.file);
        called(OperationKind::SyncData, call).map_err(host_error)
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
        let call = || rustix::fs::ftruncate(&self.file, len.0);
        match called(OperationKind::SetLen, call) {
            // A device is as long as it is.
            Err(Errno::INVAL) if self.kind != FileKind::Regular => Err(HostError::Unsupported),
            done => done.map_err(host_error),
        }
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.change_allocation(OperationKind::PunchHole, flags, range)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.change_allocation(OperationKind::ZeroRange, FallocateFlags::ZERO_RANGE, range)
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

/// Opens the file at a path that somebody else may have written.
pub(super) fn open(path: &Path, flags: OFlags, access: Access) -> HostResult<RealFile> {
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
pub(super) fn open_flags(access: Access) -> OFlags {
    let access = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

/// Positions are signed in Linux: one that would wrap is an error before the call.
#[inline]
pub(super) fn check_end(at: FileOffset, len: u64) -> HostResult<()> {
    let end = at.0.checked_add(len);
    match end.filter(|&end| end <= i64::MAX as u64) {
        Some(_) => Ok(()),
        None => Err(HostError::TooLarge),
    }
}
