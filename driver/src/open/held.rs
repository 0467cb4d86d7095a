//! A file and what is known about it, found out under its lock.
//!
//! Length and time of a file that somebody may be writing are those of a moment that is over. So
//! every check of them has to be made of what was seen while the lock was held. [`Held`] is the
//! only type that has them, and [`Held::take`], which takes the lock, is the only way to make one.
//! What never changes of an open file, its kind and which file it is, may be asked for before.

use std::path::Path;

use crate::host::{
    Access, FileIdentity, FileKind, HostError, HostFile, HostNames, LockKind, Metadata,
};
use crate::units::Bytes;

use super::{OpenError, host};

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
    /// Takes `lock` on `file`, which was opened by `path`, and then looks at it; without a lock
    /// for devices with the flag `s`, and for who only wants to look.
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
                .map_err(host(path, role.examining()))
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
        let examine = |file: &F| examine(names, path, role, file);
        let mut metadata = examine(&file)?;
        check_kind(path, metadata.kind)?;
        if let Some(kind) = lock {
            names
                .lock(&file, kind)
                .map_err(host(path, role.locking()))?;
            let named = match reach(Access::ReadOnly) {
                Err(OpenError::Host {
                    error: HostError::NotFound,
                    ..
                }) => None,
                named => Some(examine(&named?)?.identity),
            };
            check_same(path, named, metadata.identity)?;
            metadata = examine(&file)?;
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

    /// Which file it is.
    pub fn identity(&self) -> FileIdentity {
        self.metadata.identity
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

/// Whether `path` is the name of the open `file`. Whoever held the lock before may have put
/// another file in its place.
pub(super) fn check_name<N: HostNames>(
    names: &N,
    path: &Path,
    file: &N::File,
) -> Result<(), OpenError> {
    let identity =
        |file: &N::File| examine(names, path, Role::Image, file).map(|metadata| metadata.identity);
    let named = match names.open(path, Access::ReadOnly) {
        Err(HostError::NotFound) => None,
        named => Some(identity(&named.map_err(host(path, "examining"))?)?),
    };
    check_same(path, named, identity(file)?)
}

fn examine<N: HostNames>(
    names: &N,
    path: &Path,
    role: Role,
    file: &N::File,
) -> Result<Metadata, OpenError> {
    names.metadata(file).map_err(host(path, role.examining()))
}

fn check_same(
    path: &Path,
    named: Option<FileIdentity>,
    opened: FileIdentity,
) -> Result<(), OpenError> {
    match named == Some(opened) {
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
