//! What every FUSE mount of ours has to do with its directory: to see whether it can be used, to
//! mount on it or say why not, and to take the mount away, also after SIGKILL (`unmounter`).

mod mount;
mod mounting;
mod unmounter;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use driver::{shell_path, system_words};
use rustix::fs::{AtFlags, CWD, FsWord, StatxAttributes, StatxFlags, statfs, statx};
use rustix::io::Errno;

pub(crate) use mount::{Ended, Mount};
pub(crate) use mounting::Mounting;
pub(crate) use unmounter::Unmounter;
use unmounter::wait_for_another;

/// The kernel's end of all FUSE mounts.
const DEVICE: &str = "/dev/fuse";

/// What `statfs` calls a FUSE file system.
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// The helper that mounts and unmounts for users who are not root.
const HELPER: &str = "fusermount3";

/// The directory as an absolute path without links, if there is nothing in it. What another server
/// has left there is waited for while its unmounter takes it away.
///
/// # Errors
/// What keeps something from being mounted there.
pub(crate) fn cleared(directory: &Path) -> Result<PathBuf, String> {
    let is_left_over = || {
        let error = std::fs::read_dir(directory).err();
        error.and_then(|error| Errno::from_io_error(&error)) == Some(Errno::NOTCONN)
    };
    if is_left_over() {
        wait_for_another(|| !is_left_over());
    }
    empty(directory)
}

fn empty(directory: &Path) -> Result<PathBuf, String> {
    let words = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::NOTCONN) => left_over(directory),
        _ => system_words(error),
    };
    let mut entries = std::fs::read_dir(directory).map_err(words)?;
    if entries.next().is_some() {
        return Err("found a directory with something in it, expected an empty one".into());
    }
    if is_fuse_mount(directory) {
        return Err("found a FUSE mount, with nothing in it, expected another directory".into());
    }
    directory.canonicalize().map_err(words)
}

/// Whether a FUSE file system is mounted there. A second mount on the same directory would hide it,
/// and keep its server from taking it away.
fn is_fuse_mount(directory: &Path) -> bool {
    let is_fuse = statfs(directory).is_ok_and(|found| found.f_type == FUSE_MAGIC);
    is_fuse && is_mount_point(directory)
}

/// Whether something is mounted there.
fn is_mount_point(directory: &Path) -> bool {
    let found = statx(
        CWD,
        directory,
        AtFlags::STATX_DONT_SYNC,
        StatxFlags::empty(),
    );
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What is said of a mount whose server was killed.
fn left_over(directory: &Path) -> String {
    let clear = match rustix::process::geteuid().is_root() {
        true => "umount -l",
        false => "fusermount3 -u",
    };
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    format!(
        "found a mount whose server was killed; this takes it away: {clear} {}",
        shell_path(&directory)
    )
}

/// Why the kernel's end cannot be opened. Everybody who mounts has to do that, and the helper does
/// not say so.
fn why_not_opened() -> Option<io::Error> {
    File::options().read(true).write(true).open(DEVICE).err()
}

/// What there has to be for a mount, where an error says that it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The kernel's FUSE.
    Fuse,
    /// The right to mount.
    Right,
    /// Room for one more namespace.
    Namespace,
}

impl Missing {
    /// For a mount that has failed like this.
    pub(crate) fn for_a_mount(error: &io::Error) -> Option<Missing> {
        let Some(of_the_device) = why_not_opened() else {
            return Missing::for_a_namespace(error).filter(|it| *it == Missing::Right);
        };
        match Errno::from_io_error(&of_the_device)? {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => Some(Missing::Fuse),
            Errno::PERM | Errno::ACCESS => Some(Missing::Right),
            _ => None,
        }
    }

    /// For a namespace that could not be made because of this.
    pub(crate) fn for_a_namespace(error: &io::Error) -> Option<Missing> {
        match Errno::from_io_error(error)? {
            Errno::PERM | Errno::ACCESS => Some(Missing::Right),
            Errno::NOSPC | Errno::USERS => Some(Missing::Namespace),
            _ => None,
        }
    }

    /// What a message of the failure ends with.
    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Missing::Fuse => "; it takes the kernel's FUSE (modprobe fuse)",
            Missing::Right => {
                "; it takes root, or `unshare --user --map-root-user --mount` before the command"
            }
            Missing::Namespace => "; /proc/sys/user says how many namespaces there may be",
        }
    }
}

/// What is said of a failure to mount.
pub(crate) fn why_not(error: &io::Error) -> String {
    if let Some(error) = why_not_opened() {
        return format!("{DEVICE}: {}", system_words(error));
    }
    let words = system_words(error);
    match rustix::process::geteuid().is_root() {
        true => words,
        false => format!("{}: without root it takes {HELPER}", words.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_where_an_error_says_so() {
        for (errno, missing) in [
            (Errno::PERM, Some(Missing::Right)),
            (Errno::ACCESS, Some(Missing::Right)),
            (Errno::NOSPC, Some(Missing::Namespace)),
            (Errno::MFILE, None),
            (Errno::NOMEM, None),
        ] {
            let found = Missing::for_a_namespace(&errno.into());
            assert_eq!(found, missing, "{errno}");
        }
    }
}
