//! Error numbers of Linux as the errors of a host.

use std::io;

use driver::host::{HostError, HostResult};
use rustix::io::Errno;

/// The error that an error number stands for, whatever the operation was.
pub(super) fn host_error(errno: Errno) -> HostError {
    match errno {
        // EOPNOTSUPP and ENOTSUP are one number on Linux.
        Errno::OPNOTSUPP | Errno::NOSYS => HostError::Unsupported,
        Errno::NOSPC | Errno::DQUOT => HostError::NoSpace,
        Errno::IO => HostError::Io,
        Errno::NOENT => HostError::NotFound,
        Errno::EXIST => HostError::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => HostError::PermissionDenied,
        Errno::FBIG | Errno::OVERFLOW => HostError::TooLarge,
        other => HostError::Os(other.raw_os_error()),
    }
}

/// The same for an error of std, which has no number only where std itself refused
/// the arguments; the system would have said EINVAL.
pub(super) fn from_std(error: io::Error) -> HostError {
    host_error(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Runs a system call again as long as a signal interrupts it.
#[inline]
pub(super) fn retried<T>(call: impl FnMut() -> Result<T, Errno>) -> HostResult<T> {
    rustix::io::retry_on_intr(call).map_err(host_error)
}
