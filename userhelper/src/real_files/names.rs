//! What happens to names: opening, creating, renaming and removing files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use driver::host::{
    Access, FileIdentity, HostError, HostFile, HostNames, HostResult, LockKind, Metadata,
    OperationKind, Replace,
};
use driver::open::is_temporary_name;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::directory::directory_of;
use super::errors::{
    called, from_std, host_error, names_are_fixed, of_change, of_name_change, retried,
};
use super::file::{RealFile, open, open_flags};
use super::metadata::identity_of;
use super::{RealHost, attributes, beneath, lock, modes};
use crate::image_host::ImageHost;
use crate::unfinished;

impl HostNames for RealHost {
    type File = RealFile;

    /// Follows symbolic links. Does not wait for the other end of a FIFO, nor does a
    /// terminal opened by mistake become the process's own.
    fn open(&self, path: &Path, access: Access) -> HostResult<RealFile> {
        let opened = open(path, open_flags(access), access);
        match access {
            Access::ReadOnly => opened,
            Access::ReadWrite => opened.map_err(of_change(path)),
        }
    }

    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<RealFile> {
        beneath::open(directory, path, access)
    }

    /// With mode 0600. One of a temporary name is entered in [`unfinished`] until it gets another;
    /// where it could get none, it is not created.
    fn create_new(&self, path: &Path) -> HostResult<RealFile> {
        if is_temporary_name(path) && names_are_fixed(directory_of(path)) {
            return Err(HostError::ImmutableDirectory);
        }
        let flags = open_flags(Access::ReadWrite) | OFlags::CREATE | OFlags::EXCL;
        let create = || open(path, flags, Access::ReadWrite).map_err(of_name_change(path));
        match is_temporary_name(path) {
            true => unfinished::create(create, |_| path.to_owned()),
            false => create(),
        }
    }

    /// Opens what its owner may read at least. It has to be the user's own file, one that nobody
    /// has locked for writing, and one without a second name: where others may write to the
    /// directory, they may have given this name to any file of the user's.
    fn open_left_over(&self, path: &Path) -> HostResult<RealFile> {
        let opened = self.open(path, Access::ReadWrite);
        if opened.as_ref().err() != Some(&HostError::PermissionDenied) {
            return opened;
        }
        let flags = open_flags(Access::ReadOnly) | OFlags::NOFOLLOW;
        let left = open(path, flags, Access::ReadOnly)?;
        if self.has_other_names(&left)? {
            return opened;
        }
        lock::lock_whole_file(&left.file, LockKind::Shared)?;
        modes::give_to_owner_alone(&left.file)?;
        drop(left);
        self.open(path, Access::ReadWrite)
    }

    fn give_mode(&self, path: &Path, file: &RealFile, sources: &[&RealFile]) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| &source.file).collect();
        modes::give_usual_mode(directory_of(path), &file.file, &sources)
    }

    /// A block device has its own number as identity, on device 0, where no file
    /// lies: two nodes for one device are the same file.
    fn metadata(&self, file: &RealFile) -> HostResult<Metadata> {
        let metadata = file.file.metadata().map_err(from_std)?;
        let (device, inode) = identity_of(file.kind, &metadata);
        Ok(Metadata {
            kind: file.kind,
            identity: FileIdentity { device, inode },
            len: file.len()?,
            modified_seconds: metadata.mtime(),
        })
    }

    fn copy_storage_attributes(&self, from: &RealFile, to: &RealFile) {
        attributes::copy_inode_flags(&from.file, &to.file, &attributes::OF_STORAGE);
    }

    /// With extended attributes, an access control list where that gives nobody more rights, and
    /// the inode's attributes (`chattr`) that can be given to a file with content. What is missing
    /// then, [`super::Belongings`] tells.
    fn copy_attributes(&self, from: &RealFile, to: &RealFile) -> HostResult<()> {
        modes::copy_owner_and_mode(&from.file, &to.file)?;
        attributes::copy_attributes(attributes::Source::File(&from.file), &to.file)?;
        attributes::copy_inode_flags(&from.file, &to.file, &attributes::OF_USE);
        Ok(())
    }

    fn lock(&self, file: &RealFile, kind: LockKind) -> HostResult<()> {
        file.lock(kind)
    }

    /// A file system that cannot rename without replacing (EINVAL) gets a second
    /// name made and the first one removed: between the two the file has both, and
    /// never is another file replaced.
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        unfinished::finish(from, || match replace {
            Replace::Existing => {
                retried(|| rustix::fs::rename(from, to)).map_err(of_name_change(to))
            }
            Replace::Nothing => {
                let exclusive = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(CWD, from, CWD, to, exclusive) {
                    Err(Errno::INVAL | Errno::NOSYS) => link_and_unlink(from, to),
                    renamed => renamed.map_err(host_error).map_err(of_name_change(to)),
                }
            }
        })
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        unfinished::finish(path, || {
            retried(|| rustix::fs::unlink(path)).map_err(of_name_change(path))
        })
    }

    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retried(|| rustix::fs::open(directory_of(path), flags, Mode::empty()))?;
        match called(OperationKind::SyncDirectory, || {
            rustix::fs::fsync(&directory)
        }) {
            // What file systems that do not sync directories say (some of FUSE, SMB).
            Err(Errno::INVAL) => Err(HostError::Unsupported),
            synced => synced.map_err(host_error),
        }
    }
}

fn link_and_unlink(from: &Path, to: &Path) -> HostResult<()> {
    retried(|| rustix::fs::link(from, to))?;
    retried(|| rustix::fs::unlink(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the file system has no exclusive rename.
    #[test]
    fn a_link_in_the_place_of_an_exclusive_rename_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "another's").unwrap();
        assert_eq!(link_and_unlink(&from, &to), Err(HostError::AlreadyExists));
        assert_eq!(std::fs::read(&to).unwrap(), b"another's");
        assert_eq!(std::fs::read(&from).unwrap(), b"new");
        std::fs::remove_file(&to).unwrap();
        assert_eq!(link_and_unlink(&from, &to), Ok(()));
        assert_eq!(std::fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
    }
}
