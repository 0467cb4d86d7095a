//! Statuses of a finished request, under the names of Linux's `blk_status_t`.

use std::fmt;

use crate::host::HostError;

/// How a request ended. The comments name Linux's `BLK_STS_*` constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// `BLK_STS_OK`
    Ok,
    /// `BLK_STS_NOTSUPP`: the host cannot do this (a discard without hole punching).
    NotSupported,
    /// `BLK_STS_NOSPC`: the host's file system is full.
    NoSpace,
    /// `BLK_STS_IOERR`: any other failure of the host, or a request that the device
    /// cannot have (past its end, or a write to a read-only one).
    IoError,
    /// `BLK_STS_INVAL`: the request itself is malformed.
    Invalid,
}

impl From<&HostError> for Status {
    fn from(error: &HostError) -> Status {
        match error {
            HostError::NoSpace => Status::NoSpace,
            HostError::Unsupported => Status::NotSupported,
            _ => Status::IoError,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::NotSupported => "not supported",
            Status::NoSpace => "no space",
            Status::IoError => "I/O error",
            Status::Invalid => "invalid",
        })
    }
}
