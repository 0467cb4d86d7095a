//! Making the real directory what its simulated copy has become.
//!
//! What if the power goes, or the program is killed, here:
//!
//! | while | what is found then |
//! |---|---|
//! | the new directory is written beside the old one | the old one, and some of `.ubdlab-crash-*` |
//! | it is synced: its files, its directories, and its own name | the same |
//! | the two exchange their names | the old one or the new one, each whole; the other beside it |
//! | the directory that has both names is synced | the same |
//! | the old one is removed | the new one, and some of the old one in `.ubdlab-crash-*` |
//!
//! Nothing of the old directory goes before the exchange is durable, and nothing is exchanged
//! before the new one is. No process takes the leftover for anything: it may be removed by hand.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with, unlinkat,
};
use rustix::io::Errno;
use tempfile::TempDir;
use userhelper::unfinished;

use crate::sim::tree::Tree;

use super::cannot_crash::CannotCrash;
use super::keeping::{CannotKeep, Replaceable, nothing_mounted};

/// How the name of what is beside a directory begins while it is replaced.
const BESIDE: &str = ".ubdlab-crash-";

/// Puts a directory with this content in the place of the one that was looked at, in one step.
///
/// # Errors
/// What was found to be different then, that it was to end, or the system's words. Whatever they
/// say, nothing is lost.
pub(super) fn replace(
    tree: &Tree,
    old: &Replaceable,
    stop: &AtomicBool,
) -> Result<(), CannotCrash> {
    let directory = &*old.directory;
    let parent = directory.parent().unwrap_or(directory);
    let failed = |doing, error| CannotKeep::System {
        path: directory.to_owned(),
        doing,
        error,
    };
    let new = made_in(parent).map_err(|error| failed("making another one beside it", error))?;
    let path = new.path().to_owned();
    let goes_on = |goes_on: bool| match goes_on {
        true => Ok(()),
        false => Err(CannotKeep::stopped(old)),
    };
    goes_on(tree.store(&path, stop)?)?;
    let synced = sync_all(&path, stop).and_then(|all| sync(parent).map(|()| all));
    goes_on(synced.map_err(|error| failed("syncing what takes its place", error))?)?;
    nothing_mounted(directory)?;
    if let Some(changed) = old.changed(directory)? {
        let keep = || Ok::<_, CannotKeep>(new.keep());
        let new = unfinished::finish(&path, keep)?;
        return Err(CannotKeep::Changed { path: changed, new }.into());
    }
    let exchange = || -> io::Result<()> {
        renameat_with(CWD, &path, CWD, directory, RenameFlags::EXCHANGE)?;
        // From now on the old one is called so.
        let _ = new.keep();
        Ok(())
    };
    unfinished::finish(&path, exchange).map_err(|error| failed("replacing it", error))?;
    sync(parent).map_err(|error| failed("syncing its name", error))?;
    if let Some(changed) = old.changed(&path)? {
        let old = path;
        return Err(CannotKeep::ChangedLate { path: changed, old }.into());
    }
    let removed = remove(&path);
    removed.map_err(|error| CannotKeep::Remains { old: path, error })?;
    Ok(())
}

/// Sees whether a directory in `parent` can be replaced at all.
pub(super) fn can_exchange_in(parent: &Path) -> Result<(), CannotKeep> {
    let tried = || -> io::Result<()> {
        let made = made_in(parent)?;
        let path = made.path().to_owned();
        let names = ["a", "b"].map(|name| path.join(name));
        names.iter().try_for_each(std::fs::create_dir)?;
        renameat_with(CWD, &names[0], CWD, &names[1], RenameFlags::EXCHANGE)?;
        unfinished::finish(&path, || made.close())
    };
    tried().map_err(|error| CannotKeep::System {
        path: parent.to_owned(),
        doing: "exchanging two directories in it",
        error,
    })
}

/// A directory that goes when a signal ends the process.
fn made_in(parent: &Path) -> io::Result<TempDir> {
    // The system's own words, without the name that was tried.
    let without_path = |error: io::Error| match error.to_string().split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
        None => error,
    };
    let make = || {
        let made = tempfile::Builder::new().prefix(BESIDE).tempdir_in(parent);
        made.map_err(without_path)
    };
    unfinished::create(make, |made| made.path().to_owned())
}

fn sync(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some file systems do not sync directories.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        synced => synced,
    }
}

/// Makes all of a directory durable but its own name, unless everything is to end. What is in a
/// directory comes first.
fn sync_all(directory: &Path, stop: &AtomicBool) -> io::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path(), stop)?;
        } else if kind.is_file() {
            sync(&entry.path())?;
        }
    }
    sync(directory)?;
    Ok(!stop.load(Ordering::Relaxed))
}

/// Removes a directory with what is in it. It follows no link, and enters no other mount.
fn remove(directory: &Path) -> io::Result<()> {
    empty(&opened(CWD, directory, ResolveFlags::empty())?)?;
    std::fs::remove_dir(directory)
}

fn empty(directory: &OwnedFd) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        match unlinkat(directory, name.as_c_str(), AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            removed => {
                removed?;
                continue;
            }
        }
        empty(&opened(directory, name.as_c_str(), ResolveFlags::NO_XDEV)?)?;
        unlinkat(directory, name.as_c_str(), AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn opened(
    within: impl AsFd,
    name: impl rustix::path::Arg,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(within, name, flags, Mode::empty(), resolve)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_follows_no_link() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        std::fs::create_dir_all(at("old/d/e")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        for file in ["old/f", "old/d/e/f", "other/f"] {
            std::fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../other", at("old/link")).unwrap();
        std::os::unix::fs::symlink("../../other", at("old/d/link")).unwrap();
        remove(&at("old")).unwrap();
        assert!(!at("old").exists());
        assert_eq!(std::fs::read(at("other/f")).unwrap(), b"other/f");
    }
}
