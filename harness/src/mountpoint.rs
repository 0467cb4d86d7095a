//! What every FUSE mount of ours has to do with its directory: to see whether it can be used, to
//! mount on it or say why not, and to take the mount away, also after SIGKILL (`unmounter`).

mod mount;
mod mounting;
mod unmounter;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use driver::{shell_path, system_words};
use rustix::io::Errno;

pub(crate) use mount::{Ended, Mount};
pub(crate) use mounting::Mounting;
pub(crate) use unmounter::Unmounter;
use unmounter::wait_for_another;

/// The kernel's end of all FUSE mounts.
const DEVICE: &str = "/dev/fuse";

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
    directory.canonicalize().map_err(words)
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

/// What is said of a failure to mount.
pub(crate) fn why_not(error: &io::Error) -> String {
    // Everybody who mounts has to open it, and the helper does not say so.
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        return format!("{DEVICE}: {}", system_words(error));
    }
    let words = system_words(error);
    match rustix::process::geteuid().is_root() {
        true => words,
        false => format!("{}: without root it takes {HELPER}", words.trim_end()),
    }
}
