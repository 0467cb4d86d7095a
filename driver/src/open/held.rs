//! A file and what is known about it, found out under its lock.
//!
//! Length and time of a file that somebody may be writing are those of a moment that is over. So
//! every check of them has to be made of what was seen while the lock was held: it takes a
//! [`Held`], and [`Held::take`], which takes the lock, is the only way to make one. What never
//! changes of an open file, its kind and which file it is, may be asked for before.

use std::path::Path;

use crate::host::{
    Access, FileKind, HostError, HostFile, HostNames, LockKind, Metadata, OperationKind,
};
use crate::units::Bytes;

use super::{OpenError, failed, host};

/// What a file is opened as, for the errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A COW file or a raw disk.
    Image,
    /// A backing file.
    Backing,
}

impl Role {
    fn locking(self) -> &'static str {
        match self {
            Role::Image => "locking",
            Role::Backing => "locking the backing file",
        }
    }

    fn examining(self) -> &'static str {
        match self {
            Role::Image => "examining",
            Role::Backing => "examining the backing file",
        }
    }
}

/// An open file with its length and time as they were when its lock was held, and as they stay
/// while this lives: nobody who respects locks changes them. Of a file without a lock (see
/// [`Held::lock`]) they are those of a moment.
#[derive(Debug)]
pub struct Held<F> {
    file: F,
    metadata: Metadata,
    lock: Option<LockKind>,
}

impl<F: HostFile> Held<F> {
    /// Takes `lock` on `file`, which was opened by `path`, and then looks at it. There is no lock
    /// for devices with the flag `c`, nor for callers that only want to look.
    ///
    /// # Errors
    /// [`OpenError::NotADisk`] if it is no regular file or block device, before any lock is asked
    /// for; [`OpenError::Locked`]; [`OpenError::Replaced`] if the name was given to another file
    /// before the lock was held; the host's.
    pub fn take<N: HostNames<File = F>>(
        names: &N,
        path: &Path,
        file: F,
        lock: Option<LockKind>,
        role: Role,
    ) -> Result<Held<F>, OpenError> {
        Held::take_reached(names, path, file, lock, role, |access| {
            names
                .open(path, access)
                .map_err(host(path, OperationKind::Open, role.examining()))
        })
    }

    /// As [`Held::take`], of a file that is not opened by its path alone: `reach` opens what has
    /// the name.
    pub(super) fn take_reached<N: HostNames<File = F>>(
        names: &N,
        path: &Path,
        file: F,
        lock: Option<LockKind>,
        role: Role,
        reach: impl FnOnce(Access) -> Result<F, OpenError>,
    ) -> Result<Held<F>, OpenError> {
        let examining = || host(path, OperationKind::Metadata, role.examining());
        let mut metadata = names.metadata(&file).map_err(examining())?;
        check_kind(path, metadata.kind)?;
        if let Some(kind) = lock {
            names
                .lock(&file, kind)
                .map_err(host(path, OperationKind::Lock, role.locking()))?;
            let is_named = match reach(Access::ReadOnly) {
                Err(OpenError::Host {
                    error: HostError::NotFound,
                    ..
                }) => false,
                named => names.is_same_file(&named?, &file).map_err(examining())?,
            };
            check_same(path, is_named)?;
            metadata = names.metadata(&file).map_err(examining())?;
        }
        Ok(Held {
            file,
            metadata,
            lock,
        })
    }
}

impl<F> Held<F> {
    /// The file.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// The file alone. Its lock stays while it is open.
    pub fn into_file(self) -> F {
        self.file
    }

    /// Its length.
    pub fn len(&self) -> Bytes {
        self.metadata.len
    }

    /// When it was modified last, in whole seconds since 1970.
    pub fn modified_seconds(&self) -> i64 {
        self.metadata.modified_seconds
    }

    /// [`Held::modified_seconds`] as a header holds it, modulo 2^32: that is the format, and it
    /// ends in 2106.
    pub fn mtime(&self) -> u32 {
        self.metadata.modified_seconds as u32
    }

    /// What it is: a regular file or a block device.
    pub fn kind(&self) -> FileKind {
        self.metadata.kind
    }

    /// The lock that is held on it, if one is.
    pub fn lock(&self) -> Option<LockKind> {
        self.lock
    }
}

/// Checks that `path` is a name of the open `file`.
///
/// # Errors
/// [`OpenError::Replaced`] if it is not; the host's.
pub(super) fn check_name<N: HostNames>(
    names: &N,
    path: &Path,
    file: &N::File,
) -> Result<(), OpenError> {
    let is_named = names.is_name_of(path, file);
    check_same(path, is_named.map_err(failed(path, "examining"))?)
}

fn check_same(path: &Path, is_same: bool) -> Result<(), OpenError> {
    match is_same {
        true => Ok(()),
        false => Err(OpenError::Replaced {
            path: path.to_owned(),
        }),
    }
}

/// Only files that can be disks are taken for ones.
fn check_kind(path: &Path, kind: FileKind) -> Result<(), OpenError> {
    match kind {
        FileKind::Regular | FileKind::BlockDevice => Ok(()),
        kind => Err(OpenError::NotADisk {
            path: path.to_owned(),
            kind,
        }),
    }
}
