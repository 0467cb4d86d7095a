//! Error numbers of Linux as the errors of a host.

use std::io;
use std::path::Path;

use driver::host::{HostError, HostResult, OperationKind};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::directory::directory_of;

/// The error that an error number stands for, whatever the operation was.
pub(crate) fn host_error(errno: Errno) -> HostError {
    match errno {
        // EOPNOTSUPP and ENOTSUP are one number on Linux.
        Errno::OPNOTSUPP | Errno::NOSYS => HostError::Unsupported,
        Errno::NOSPC | Errno::DQUOT => HostError::NoSpace,
        Errno::IO => HostError::Io,
        Errno::NOENT => HostError::NotFound,
        Errno::EXIST => HostError::AlreadyExists,
        Errno::ACCESS | Errno::PERM => HostError::PermissionDenied,
        Errno::ROFS => HostError::ReadOnlyFileSystem,
        Errno::FBIG | Errno::OVERFLOW => HostError::TooLarge,
        other => HostError::Os(other.raw_os_error()),
    }
}

/// The error of an operation that would change the file `path`: where the system says that it is
/// not permitted, and the file's attributes are the reason, it says so.
pub(super) fn of_change(path: &Path) -> impl Fn(HostError) -> HostError + '_ {
    move |error| match error {
        HostError::PermissionDenied if is_immutable(path) => HostError::Immutable,
        error => error,
    }
}

/// The error of an operation that would make, change or remove the name `path`, likewise. The
/// attributes of its directory count too.
pub(super) fn of_name_change(path: &Path) -> impl Fn(HostError) -> HostError + '_ {
    move |error| match error {
        HostError::PermissionDenied => why_fixed(path).unwrap_or(error),
        error => error,
    }
}

/// That the file `path` has the attribute i or a, or that its directory has; `None` if neither.
/// Symbolic links are followed.
pub fn why_fixed(path: &Path) -> Option<HostError> {
    if is_immutable(path) {
        Some(HostError::Immutable)
    } else if is_immutable(directory_of(path)) {
        Some(HostError::ImmutableDirectory)
    } else {
        None
    }
}

/// Whether nothing in the directory can get another name or be removed: what is made in an
/// append-only one keeps its first name.
pub fn names_are_fixed(directory: &Path) -> bool {
    is_immutable(directory)
}

fn is_immutable(path: &Path) -> bool {
    let (flags, mask) = (AtFlags::empty(), StatxFlags::empty());
    let found = rustix::fs::statx(CWD, path, flags, mask);
    let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    found.is_ok_and(|found| found.stx_attributes.intersects(fixed))
}

/// The host's error for an error of std. That one has no number only where std itself refused the
/// arguments; the system would have said EINVAL.
pub(super) fn from_std(error: io::Error) -> HostError {
    host_error(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Whether a call for an operation of this kind is made again that the system has not carried out:
/// because a signal came, for example. A sync is never repeated: after one that failed, pages may
/// count as clean, and the next one would succeed without having written them.
#[inline]
pub(crate) fn is_repeated(kind: OperationKind) -> bool {
    !matches!(kind, OperationKind::SyncData | OperationKind::SyncDirectory)
}

/// Makes the system call for an operation of this kind. One that [is repeated](is_repeated) is made
/// again as long as a signal interrupts it.
#[inline]
pub(super) fn called<T>(
    kind: OperationKind,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match is_repeated(kind) {
        true => rustix::io::retry_on_intr(call),
        false => call(),
    }
}

/// Makes a system call that changes and reads no content, and again as long as a signal interrupts
/// it.
#[inline]
pub(super) fn retried<T>(call: impl FnMut() -> Result<T, Errno>) -> HostResult<T> {
    rustix::io::retry_on_intr(call).map_err(host_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_file_system_is_no_lack_of_rights() {
        for (errno, text) in [
            (Errno::ROFS, "read-only file system"),
            (Errno::ACCESS, "permission denied"),
            (Errno::PERM, "permission denied"),
        ] {
            assert_eq!(host_error(errno).to_string(), text);
        }
    }

    #[test]
    fn what_a_signal_interrupts_is_done_again_but_for_a_sync() {
        for kind in OperationKind::ALL {
            let mut calls = 0;
            let ended = called(kind, || {
                calls += 1;
                match calls {
                    1 | 2 => Err(Errno::INTR),
                    _ => Ok(calls),
                }
            });
            let expected = match kind {
                OperationKind::SyncData | OperationKind::SyncDirectory => Err(Errno::INTR),
                _ => Ok(3),
            };
            assert_eq!(ended, expected, "{kind}");
        }
    }
}
