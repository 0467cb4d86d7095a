//! What can fail, as the kernel's error numbers.

use driver::blk::Status;
use driver::host::HostError;
use driver::resize::ResizeError;
use fuser::Errno;

use super::super::resizing::CannotResize;

/// What a request's caller is told; `None` if it ended well.
pub(super) fn of_status(status: Status) -> Option<Errno> {
    match status {
        Status::Ok => None,
        Status::NotSupported => Some(Errno::EOPNOTSUPP),
        Status::NoSpace => Some(Errno::ENOSPC),
        Status::IoError => Some(Errno::EIO),
        Status::Invalid => Some(Errno::EINVAL),
    }
}

/// What whoever truncates is told.
pub(super) fn of_resize(error: &CannotResize) -> Errno {
    match error {
        CannotResize::UnderWay(_) => Errno::EBUSY,
        CannotResize::Never(_) => Errno::EOPNOTSUPP,
        CannotResize::Failed(ResizeError::Host { error, .. }) => match error {
            HostError::NoSpace => Errno::ENOSPC,
            HostError::TooLarge => Errno::EFBIG,
            _ => Errno::EIO,
        },
        CannotResize::Failed(ResizeError::Refused(_)) => Errno::EINVAL,
        CannotResize::Failed(ResizeError::SyncFailed | ResizeError::Abandoned)
        | CannotResize::Unfinished { .. }
        | CannotResize::Device(_) => Errno::EIO,
    }
}
