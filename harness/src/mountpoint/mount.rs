//! A mount of ours, told from what somebody else may have mounted on the same directory since.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{UnmountFlags, unmount};

use super::{HELPER, is_mount_point};

/// When the connection to the kernel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It has.
    Now,
    /// When nobody has a file open any more, or this process ends.
    WhenUnused,
}

/// The mount. It stays until it is [taken away](Mount::take_away), and the kernel waits for
/// answers until then, even if nobody reads any more what it asks.
#[derive(Debug)]
pub(crate) struct Mount {
    directory: PathBuf,
    /// Open as long as this lives, beside what the session has open.
    device: OwnedFd,
    /// `None` where the system does not say it.
    identity: Option<Identity>,
}

/// The number of a mount, and the device that it is. Both are used again.
type Identity = (u64, u32, u32);

impl Mount {
    /// What has just been mounted on `directory` by `device`.
    ///
    /// # Errors
    /// The process has as many files open as it may.
    pub(super) fn of(directory: &Path, device: &OwnedFd) -> io::Result<Mount> {
        Ok(Mount {
            directory: directory.to_owned(),
            device: device.try_clone()?,
            identity: identity(directory),
        })
    }

    /// Takes it away, whether it is in use or not; `None` if somebody else had unmounted it
    /// before. What is mounted there since then stays.
    pub(crate) fn take_away(&self) -> Option<Ended> {
        // In a copy of the mount in another namespace the connection lives on; and when both are
        // gone, somebody else may have the identity.
        let is_there = !self.has_ended() && !self.is_another();
        is_there.then(|| unmount_at_once(&self.directory))
    }

    /// Whether the connection goes on because somebody else has mounted something over it.
    pub(crate) fn is_covered(&self) -> bool {
        !self.has_ended() && is_mount_point(&self.directory) && self.is_another()
    }

    fn is_another(&self) -> bool {
        match (identity(&self.directory), self.identity) {
            (Some(found), Some(ours)) => found != ours,
            _ => false,
        }
    }

    /// Whether the kernel has ended the connection: the last mount of it is gone. This is so
    /// before a thread that reads from it has come to hear of it.
    pub(crate) fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.device, PollFlags::empty())];
        let found = poll(&mut polled, Some(&Timespec::default()));
        found.is_ok() && polled[0].revents().contains(PollFlags::ERR)
    }
}

/// Of the mount on this directory, without a word to its server.
fn identity(directory: &Path) -> Option<Identity> {
    let found = statx(CWD, directory, AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID);
    let found = found.ok()?;
    Some((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
}

/// Takes away what is mounted there.
pub(super) fn unmount_at_once(directory: &Path) -> Ended {
    // To detach it takes the name away, and to force it ends the connection.
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH;
    if unmount(directory, flags).is_ok() {
        return Ended::Now;
    }
    let mut helper = Command::new(HELPER);
    helper.args(["-u", "-z", "-q", "--"]).arg(directory);
    helper.stdin(Stdio::null()).stdout(Stdio::null());
    // There is nothing else that could be tried.
    let _ = helper.stderr(Stdio::null()).status();
    Ended::WhenUnused
}
