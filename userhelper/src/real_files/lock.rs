//! Locks that exclude a running UML. It takes POSIX record locks, which `flock` and
//! std's `File::lock` pass by; Linux's open file description locks conflict with
//! them both ways. Unlike POSIX locks they belong to the open file and not to the
//! process, so they also hold between two parts of one program, and closing another
//! descriptor of the same file does not drop them.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driver::host::{HostError, HostResult, LockKind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long this process still tries for locks that somebody holds, in milliseconds, all of them
/// together.
static PATIENCE: AtomicU64 = AtomicU64::new(1000);

/// How long a lock is left alone after the first try.
const FIRST_PAUSE_MS: u64 = 5;

/// Locks the whole file, however long it grows. A lock that somebody holds is tried for, up to a
/// second in all: the kernel takes the io_uring of another process apart after that has ended, and
/// that long the lock of what was under way there stays.
pub(super) fn lock_patiently(file: impl AsFd, kind: LockKind) -> HostResult<()> {
    lock_within(&PATIENCE, file, kind)
}

fn lock_within(patience_ms: &AtomicU64, file: impl AsFd, kind: LockKind) -> HostResult<()> {
    let mut pause = FIRST_PAUSE_MS;
    loop {
        let locked = lock_whole_file(&file, kind);
        if locked != Err(HostError::Locked) {
            return locked;
        }
        let spend = |left: u64| (left > 0).then(|| left.saturating_sub(pause));
        let before = patience_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        // The last pause is what is left.
        let Ok(left) = before else {
            return locked;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody tells when the kernel gives a dead process's lock up"
        )]
        std::thread::sleep(Duration::from_millis(pause.min(left)));
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A process that was killed holds its locks for a moment longer.
    #[test]
    fn a_lock_that_is_given_up_soon_is_waited_for_and_another_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path());
        let holder = open().unwrap();
        lock_whole_file(&holder, LockKind::Exclusive).unwrap();
        let (tries, is_tried) = std::sync::mpsc::channel();
        let other = open().unwrap();
        let waiter = std::thread::spawn(move || {
            tries.send(()).unwrap();
            lock_within(&AtomicU64::new(60_000), &other, LockKind::Exclusive)
        });
        is_tried.recv().unwrap();
        drop(holder);
        assert_eq!(waiter.join().unwrap(), Ok(()));
        let holder = open().unwrap();
        lock_whole_file(&holder, LockKind::Shared).unwrap();
        let patience = AtomicU64::new(20);
        let refused = lock_within(&patience, open().unwrap(), LockKind::Exclusive);
        assert_eq!(refused, Err(HostError::Locked));
        // After 5, 10 and the 5 ms that are left.
        assert_eq!(patience.into_inner(), 0);
    }
}
