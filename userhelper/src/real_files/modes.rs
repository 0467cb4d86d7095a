//! Who may open a new file. While it is being written that is its owner alone: whoever has
//! opened a file once can go on reading it, whatever its mode becomes. When it is complete it
//! gets the mode of the file that it replaces or, if it replaces none, that of any new file,
//! without what the files that it was made from keep from others.

use std::ffi::CStr;
use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use driver::host::{HostError, HostResult};
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{
    ACCESS_LIST, OF_STORAGE, OF_USE, Source, copy_attributes, copy_inode_flags,
};
use super::belongings::open_for_flags;
use super::directory::directory_of;
use super::errors::{from_std, host_error, retried};
use super::rights::{AccessList, GROUP, OTHERS, OWNER, Rights, encode};

/// Run as the owner, run as the group, and the sticky bit.
const SPECIAL: u32 = 0o7000;
const STICKY: u32 = 0o1000;

/// What a program asks for that creates a file of data.
const ASKED_FOR: u32 = 0o666;

/// Gives a new file that is going to be renamed to `path` the owner, mode, extended attributes and
/// inode's attributes of the regular file of that name. If there is none, it gets the mode of any
/// new file there, without what `sources`, the files that its content comes from, keep from their
/// group or from others. Of these only regular files and block devices count: a pipe belongs to
/// whoever reads it.
///
/// # Errors
/// The host's.
pub fn give_mode_at(path: &Path, file: &File, sources: &[&Path]) -> HostResult<Given> {
    let sources = rights_of_disks(sources)?;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            Rights::of_path(path, &metadata).pass_to(file)?;
            copy_attributes(Source::Path(path), file)?;
            if let Ok(old) = open_for_flags(path) {
                copy_inode_flags(&old, file, &OF_USE);
            }
            let given = Rights::of_file(file)?;
            let shows = sources.iter().any(|source| given.shows(source));
            Ok(if shows { Given::Shown } else { Given::Kept })
        }
        _ => {
            give_usual_mode_over(directory_of(path), file, &sources)?;
            Ok(Given::Kept)
        }
    }
}

/// Gives a new file, which is empty and going to be renamed to `path`, what says of the regular
/// file of that name how its data is stored, as far as the file system and the user's rights
/// allow.
pub fn give_storage_attributes_at(path: &Path, file: &File) {
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if is_file && let Ok(old) = open_for_flags(path) {
        copy_inode_flags(&old, file, &OF_STORAGE);
    }
}

/// What came of the rights of the files that a new one was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nobody may read the new file who could not read those.
    Kept,
    /// The file that the new one replaces could be read by more users, and so can the new one.
    Shown,
}

/// Whether more users may read `to` than `from`.
pub(super) fn shows(to: &File, from: &File) -> HostResult<bool> {
    Ok(Rights::of_file(to)?.shows(&Rights::of_file(from)?))
}

/// The rights to those files of a name that hold data.
fn rights_of_disks(paths: &[&Path]) -> HostResult<Vec<Rights>> {
    let mut rights = Vec::new();
    for path in paths {
        let metadata = match std::fs::metadata(path) {
            // Removed since: there is nothing left to keep.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.map_err(from_std)?,
        };
        if metadata.is_file() || metadata.file_type().is_block_device() {
            rights.push(Rights::of_path(path, &metadata));
        }
    }
    Ok(rights)
}

/// Gives a new file in this directory the mode of any new one there, without what `sources`
/// keep from their group or from others.
pub(super) fn give_usual_mode(directory: &Path, file: &File, sources: &[&File]) -> HostResult<()> {
    let sources = sources.iter().map(|source| Rights::of_file(source));
    give_usual_mode_over(directory, file, &sources.collect::<HostResult<Vec<_>>>()?)
}

fn give_usual_mode_over(directory: &Path, file: &File, sources: &[Rights]) -> HostResult<()> {
    let metadata = file.metadata().map_err(from_std)?;
    let usual = Rights {
        owner: metadata.uid(),
        group: metadata.gid(),
        ..usual_rights(directory)
    };
    let rights = Rights::of_new(usual, sources);
    remove_list(file)?;
    let mode = match rights.list {
        AccessList::None => rights.mode,
        // What the list gives to group and others, it gives in one step.
        _ => rights.mode & OWNER,
    };
    match set_mode(file, mode).and_then(|()| set_list(file, &rights)) {
        // The file system gives every file the same mode.
        Err(HostError::PermissionDenied | HostError::Unsupported) => Ok(()),
        set => set,
    }
}

/// Gives a regular file the mode of a new one again, which only its owner can.
pub(super) fn give_to_owner_alone(file: &File) -> HostResult<()> {
    match file.metadata().map_err(from_std)?.is_file() {
        true => set_mode(file, ASKED_FOR & OWNER),
        false => Err(HostError::PermissionDenied),
    }
}

/// Gives `to` the owner and mode of `from`, as far as the user's rights allow.
pub(super) fn copy_owner_and_mode(from: &File, to: &File) -> HostResult<()> {
    Rights::of_file(from)?.pass_to(to)
}

/// Linux keeps no longer list.
const LONGEST_LIST: usize = 64 << 10;

impl Rights {
    fn of(
        metadata: &Metadata,
        list: impl FnOnce(&CStr, &mut [u8]) -> Result<usize, Errno>,
    ) -> Rights {
        let mut value = vec![0; LONGEST_LIST];
        let list = match list(ACCESS_LIST, &mut value) {
            Ok(0) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => AccessList::None,
            Ok(len) => AccessList::decode(&value[..len]),
            Err(_) => AccessList::Unknown,
        };
        Rights {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & (SPECIAL | OWNER | GROUP | OTHERS),
            list,
        }
    }

    fn of_path(path: &Path, metadata: &Metadata) -> Rights {
        Rights::of(metadata, |name, value| {
            rustix::fs::getxattr(path, name, value)
        })
    }

    fn of_file(file: &File) -> HostResult<Rights> {
        let metadata = file.metadata().map_err(from_std)?;
        let list = |name: &CStr, value: &mut [u8]| rustix::fs::fgetxattr(file, name, value);
        Ok(Rights::of(&metadata, list))
    }

    /// Gives these rights to `file`, as far as the user's own allow. An access control list goes
    /// along only where owner and group do: to others it would give what it does not give here.
    fn pass_to(&self, file: &File) -> HostResult<()> {
        remove_list(file)?;
        // Before the mode, because a change of owner clears bits of it.
        let owned = copy_owner(file, self.owner, self.group)?;
        let group = file.metadata().map_err(from_std)?.gid();
        // As `cp -p` does it: a program is not to run as somebody else than before.
        let special = if owned { SPECIAL } else { STICKY };
        let mode = self.mode & (special | OWNER) | self.of_group_and_others(group);
        set_mode(file, mode)?;
        if owned {
            // Without it the file is its owner's alone, which is no harm.
            let _ = set_list(file, self);
        }
        Ok(())
    }
}

/// Removes the access control list that a file has got from its directory. The mask of that keeps
/// everybody off as long as the file has the mode that it was created with; any other mode would
/// raise it.
fn remove_list(file: &File) -> HostResult<()> {
    match rustix::fs::fremovexattr(file, ACCESS_LIST) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(host_error(errno)),
    }
}

/// Gives the file the access control list of `rights`, if there is one, limited to what the mode
/// gives. The file's mode follows it.
fn set_list(file: &File, rights: &Rights) -> HostResult<()> {
    let Some(entries) = rights.entries() else {
        return Ok(());
    };
    let value = encode(&entries);
    rustix::fs::fsetxattr(file, ACCESS_LIST, &value, XattrFlags::empty()).map_err(host_error)
}

fn set_mode(file: &File, mode: u32) -> HostResult<()> {
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(from_std)
}

/// Whether both owner and group could be given to the file. The system says EPERM where the user
/// may not, EINVAL where the user's namespace has no such owner.
fn copy_owner(file: &File, owner: u32, group: u32) -> HostResult<bool> {
    let attempts = [(Some(owner), true), (None, false)];
    for (owner, complete) in attempts {
        match fchown(file, owner, Some(group)).map_err(|error| Errno::from_io_error(&error)) {
            Ok(()) => return Ok(complete),
            Err(Some(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP)) => {}
            Err(errno) => return Err(host_error(errno.unwrap_or(Errno::INVAL))),
        }
    }
    Ok(false)
}

/// Mode and access control list of a new file in a directory. They follow from the umask or the
/// directory's default list, so the system is asked: for a file without a name, which nobody sees.
fn usual_rights(directory: &Path) -> Rights {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let asked_for = Mode::from_raw_mode(ASKED_FOR);
    let probe = retried(|| rustix::fs::open(directory, flags, asked_for))
        .and_then(|probe| Rights::of_file(&File::from(probe)));
    let mode = match probe {
        Ok(rights) => return rights,
        // Not every file system makes files without a name.
        Err(_) if has_default_acl(directory) => ASKED_FOR & OWNER,
        Err(_) => ASKED_FOR & !umask(),
    };
    Rights {
        owner: 0,
        group: 0,
        mode,
        list: AccessList::None,
    }
}

fn has_default_acl(directory: &Path) -> bool {
    let list = rustix::fs::getxattr_query(directory, "system.posix_acl_default");
    list.is_ok_and(|len| len > 0)
}

/// The rights that this process keeps from its new files. Where that cannot be told, they are all
/// rights of everybody but the owner.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(GROUP | OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What file systems without nameless files get is what the others get.
    #[test]
    fn the_umask_is_that_of_the_process() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!has_default_acl(directory.path()));
        assert_eq!(usual_rights(directory.path()).mode, ASKED_FOR & !umask());
        let plain = directory.path().join("plain");
        let metadata = File::create(plain).and_then(|file| file.metadata());
        assert_eq!(metadata.unwrap().mode() & 0o777, ASKED_FOR & !umask());
    }
}
