//! Locks that exclude a running UML. It takes POSIX record locks, which `flock` and
//! std's `File::lock` pass by; Linux's open file description locks conflict with
//! them both ways. Unlike POSIX locks they belong to the open file and not to the
//! process, so they also hold between two parts of one program, and closing another
//! descriptor of the same file does not drop them.

use std::os::fd::AsFd;
use std::time::Duration;

use driver::host::{HostError, HostResult, LockKind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long a lock that somebody holds is tried for, and how long at first it is left alone
/// between two tries.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Locks the whole file, however long it grows. A lock that somebody holds is tried for a second:
/// the kernel takes the io_uring of a process apart after the process has ended, and that long the
/// lock of what was under way there stays.
pub(super) fn lock_patiently(file: impl AsFd, kind: LockKind) -> HostResult<()> {
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        match lock_whole_file(&file, kind) {
            Err(HostError::Locked) if waited < PATIENCE => {}
            locked => return locked,
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody tells when the kernel gives a dead process's lock up"
        )]
        std::thread::sleep(pause);
        waited += pause;
        pause *= 2;
    }
}

/// Locks the whole file, without waiting.
pub(super) fn lock_whole_file(file: impl AsFd, kind: LockKind) -> HostResult<()> {
    set_lock(
        file,
        match kind {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
        },
    )
}

/// Gives the lock up. Closing the file does that too, but only when nobody else has it open by
/// the same description: a process that another thread is just starting has, for a moment.
pub(super) fn unlock_whole_file(file: impl AsFd) -> HostResult<()> {
    set_lock(file, libc::F_UNLCK)
}

fn set_lock(file: impl AsFd, lock_type: libc::c_int) -> HostResult<()> {
    let whole_file = libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        return match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file)) {
            Ok(_) => Ok(()),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN | Errno::EACCES) => Err(HostError::Locked),
            // What a kernel before 3.15 says to the command itself.
            Err(Errno::EINVAL) => Err(HostError::Unsupported),
            Err(other) => Err(super::errors::host_error(
                rustix::io::Errno::from_raw_os_error(other as i32),
            )),
        };
    }
}
