//! What the image tools ask of this machine beyond what a driver needs: space, times, and what is
//! known of a file.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use driver::host::{
    Access, FileKind, HostError, HostNames, HostResult, Metadata, OperationKind, Place,
};
use driver::units::{Bytes, FileOffset};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::directory::directory_of;
use super::errors::{called, from_std, host_error, retried};
use super::file::{RealFile, check_end};
use super::metadata::known;
use super::{RealHost, beneath, modes};
use crate::image_host::{FreeSpace, ImageHost};

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
        match called(OperationKind::SyncData, || rustix::fs::fsync(&file.file)) {
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
