//! Who may open a new file. While it is being written that is its owner alone: whoever has
//! opened a file once can go on reading it, whatever its mode becomes. When it is complete it
//! gets the mode of the file that it replaces or, if it replaces none, that of any new file,
//! without what the files that it was made from keep from others.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use driver::host::{HostError, HostResult};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Source, copy_attributes};
use super::directory_of;
use super::errors::{from_std, host_error, retried};

const OWNER: u32 = 0o700;
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;
/// Reading, of the group and of others.
const READ: u32 = 0o044;
const READ_OTHERS: u32 = 0o004;
/// Run as the owner, run as the group, and the sticky bit.
const SPECIAL: u32 = 0o7000;
const STICKY: u32 = 0o1000;

/// What a program asks for that creates a file of data.
const ASKED_FOR: u32 = 0o666;

/// Gives a new file that is going to be renamed to `path` the owner, mode and extended attributes
/// of the regular file of that name. If there is none, it gets the mode of any new file there,
/// without what `sources`, the files that its content comes from, keep from their group or from
/// others. Of these only regular files and block devices count: a pipe belongs to whoever reads
/// it.
///
/// # Errors
/// The host's.
pub fn give_mode_at(path: &Path, file: &File, sources: &[&Path]) -> HostResult<Given> {
    let sources = rights_of_disks(sources)?;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            Rights::of_path(path, &metadata).pass_to(file)?;
            copy_attributes(Source::Path(path), file)?;
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
    let mut mode = usual_mode(directory);
    let group = file.metadata().map_err(from_std)?.gid();
    for source in sources {
        mode &= OWNER | source.of_group_and_others(group);
    }
    match set_mode(file, mode) {
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

/// Whom a file belongs to, and who may do what with it.
struct Rights {
    owner: u32,
    group: u32,
    mode: u32,
    /// Whether an access control list says more about it than the mode.
    has_acl: bool,
}

impl Rights {
    fn of(metadata: &Metadata, acl: impl Fn(&str) -> Result<usize, Errno>) -> Rights {
        let has_acl = match acl("system.posix_acl_access") {
            Ok(len) => len > 0,
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => false,
            Err(_) => true,
        };
        Rights {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode(),
            has_acl,
        }
    }

    fn of_path(path: &Path, metadata: &Metadata) -> Rights {
        Rights::of(metadata, |name| rustix::fs::getxattr_query(path, name))
    }

    fn of_file(file: &File) -> HostResult<Rights> {
        let metadata = file.metadata().map_err(from_std)?;
        let acl = |name: &str| rustix::fs::fgetxattr_query(file, name);
        Ok(Rights::of(&metadata, acl))
    }

    /// What `group` and others may do with the file, as bits of a mode. Another group than the
    /// file's may do what both its group and others may: its members can be either. So does the
    /// file's own group where there is an access control list, whose mask the mode then has in
    /// the place of the group's rights.
    fn of_group_and_others(&self, group: u32) -> u32 {
        if group == self.group && !self.has_acl {
            return self.mode & (GROUP | OTHERS);
        }
        let both = self.mode & OTHERS & (self.mode >> 3);
        both << 3 | both
    }

    /// Whether more users may read this file than `source`. Root may read all.
    fn shows(&self, source: &Rights) -> bool {
        let owner = self.owner != source.owner && self.owner != 0 && source.mode & READ_OTHERS == 0;
        let readers = self.mode & READ & !source.of_group_and_others(self.group);
        owner || readers != 0
    }

    fn pass_to(&self, file: &File) -> HostResult<()> {
        // Before the mode, because a change of owner clears bits of it.
        let owned = copy_owner(file, self.owner, self.group)?;
        let group = file.metadata().map_err(from_std)?.gid();
        // As `cp -p` does it: a program is not to run as somebody else than before.
        let special = if owned { SPECIAL } else { STICKY };
        let mode = self.mode & (special | OWNER) | self.of_group_and_others(group);
        set_mode(file, mode)
    }
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

/// The mode that a new file gets in a directory. It takes the umask or the directory's default
/// access control list, so the system is asked: for a file without a name, which nobody sees.
fn usual_mode(directory: &Path) -> u32 {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let asked_for = Mode::from_raw_mode(ASKED_FOR);
    let probe = retried(|| rustix::fs::open(directory, flags, asked_for))
        .and_then(|probe| File::from(probe).metadata().map_err(from_std));
    match probe {
        Ok(metadata) => metadata.mode() & (OWNER | GROUP | OTHERS),
        // Not every file system makes files without a name.
        Err(_) if has_default_acl(directory) => ASKED_FOR & OWNER,
        Err(_) => ASKED_FOR & !umask(),
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

    fn rights(group: u32, mode: u32, has_acl: bool) -> Rights {
        Rights {
            owner: 1,
            group,
            mode,
            has_acl,
        }
    }

    #[test]
    fn nobody_may_do_more_with_a_copy_than_with_its_source() {
        for (mode, own_group, another) in [
            (0o100_600, 0o000, 0o000),
            (0o100_644, 0o044, 0o044),
            (0o100_640, 0o040, 0o000),
            (0o100_664, 0o064, 0o044),
            (0o100_604, 0o004, 0o000),
            (0o060_660, 0o060, 0o000),
        ] {
            assert_eq!(rights(7, mode, false).of_group_and_others(7), own_group);
            assert_eq!(rights(7, mode, false).of_group_and_others(8), another);
            assert_eq!(rights(7, mode, true).of_group_and_others(7), another);
        }
    }

    #[test]
    fn a_file_shows_another_to_whoever_may_read_only_the_one() {
        let shows = |to: u32, from: u32| rights(7, to, false).shows(&rights(7, from, false));
        for (to, from, shown) in [
            (0o644, 0o600, true),
            (0o640, 0o600, true),
            (0o600, 0o600, false),
            (0o644, 0o644, false),
            (0o644, 0o640, true),
            (0o622, 0o600, false),
        ] {
            assert_eq!(shows(to, from), shown, "{to:o} of {from:o}");
        }
        // Another group's members, and another owner.
        assert!(rights(8, 0o640, false).shows(&rights(7, 0o640, false)));
        let other = Rights {
            owner: 2,
            ..rights(7, 0o600, false)
        };
        assert!(other.shows(&rights(7, 0o640, false)));
        assert!(!other.shows(&rights(7, 0o644, false)));
        let root = Rights {
            owner: 0,
            ..rights(7, 0o600, false)
        };
        assert!(!root.shows(&rights(7, 0o600, false)));
    }

    /// What file systems without nameless files get is what the others get.
    #[test]
    fn the_umask_is_that_of_the_process() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!has_default_acl(directory.path()));
        assert_eq!(usual_mode(directory.path()), ASKED_FOR & !umask());
        let plain = directory.path().join("plain");
        let metadata = File::create(plain).and_then(|file| file.metadata());
        assert_eq!(metadata.unwrap().mode() & 0o777, ASKED_FOR & !umask());
    }
}
