//! What has to be so that a directory can be replaced by what a command made of its copy. It is
//! looked at before anything runs, and whether it has stayed so afterwards.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use driver::shown;
use rustix::fs::llistxattr;
use rustix::io::Errno;

use super::own_ids::OwnIds;
use super::replacement::can_exchange_in;

/// Where the kernel lists the mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The most bytes of names of extended attributes that Linux gives a file.
const MOST_NAMES: usize = 64 << 10;

/// The one extended attribute that the system gives each new file itself.
const LABEL: &str = "security.selinux";

/// A directory that can be replaced, as it was when it was looked at.
#[derive(Debug)]
pub struct Replaceable {
    pub(super) directory: PathBuf,
    /// Everything in it by its path from there; the directory itself is the empty one.
    before: BTreeMap<PathBuf, Known>,
}

/// Why a directory is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum CannotKeep {
    /// It would take a mount with it.
    #[error(
        "--keep: {}: found a mount there, expected none at or beneath the directory that is \
         replaced; unmount it first",
        shown(at)
    )]
    Mounted {
        /// Where.
        at: PathBuf,
    },
    /// Something in it would be lost.
    #[error("--keep: {}: found {what}, which would be lost", shown(path))]
    Lost {
        /// Which.
        path: PathBuf,
        /// What it is or has.
        what: String,
    },
    /// The system's words.
    #[error("--keep: {}: {doing}: {}", shown(path), driver::system_words(error))]
    System {
        /// Of what.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its words.
        error: io::Error,
    },
    /// Everything was to end before it was replaced.
    #[error(
        "--keep: {}: it stays as it was: a signal has ended the run",
        shown(path)
    )]
    Stopped {
        /// The directory.
        path: PathBuf,
    },
    /// Others have changed it while the command worked on the copy.
    #[error(
        "--keep: {}: somebody else has changed it meanwhile: it stays, and what the command made \
         of it is in {}",
        shown(path),
        shown(new)
    )]
    Changed {
        /// What was seen to be different.
        path: PathBuf,
        /// Where the other directory is.
        new: PathBuf,
    },
    /// Likewise, just before it was replaced.
    #[error(
        "--keep: {}: somebody else has changed it while it was replaced: as it was with this \
         change it is in {}",
        shown(path),
        shown(old)
    )]
    ChangedLate {
        /// What was seen to be different.
        path: PathBuf,
        /// Where it is now.
        old: PathBuf,
    },
    /// It was replaced, but the old one cannot be removed.
    #[error(
        "--keep: {}: removing what was in the directory before: {}",
        shown(old),
        driver::system_words(error)
    )]
    Remains {
        /// Where it is now.
        old: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl CannotKeep {
    /// Everything was to end before this one was replaced.
    pub(super) fn stopped(old: &Replaceable) -> CannotKeep {
        CannotKeep::Stopped {
            path: old.directory.clone(),
        }
    }
}

/// What is different after any change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    identity: (u64, u64),
    mode: u32,
    owner: (u32, u32),
    names: u64,
    len: u64,
    modified: (i64, i64),
    /// Of the directory itself 0: it changes when that gets another name.
    changed: (i64, i64),
}

impl Known {
    fn of(metadata: &Metadata, is_root: bool) -> Known {
        Known {
            identity: (metadata.dev(), metadata.ino()),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            names: metadata.nlink(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: match is_root {
                true => (0, 0),
                false => (metadata.ctime(), metadata.ctime_nsec()),
            },
        }
    }
}

impl Replaceable {
    /// Looks whether `directory`, an absolute path without links, can be replaced with all that it
    /// has, of which `most` things are looked at.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn look(directory: &Path, most: u64) -> Result<Replaceable, CannotKeep> {
        nothing_mounted(directory)?;
        let before = known(directory, most)?;
        let ids = OwnIds::of_this_process();
        let mut names: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (path, known) in &before {
            let lost = |what: &str| CannotKeep::Lost {
                path: directory.join(path),
                what: what.to_owned(),
            };
            let kind = rustix::fs::FileType::from_raw_mode(known.mode);
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                return Err(lost("neither a file nor a directory nor a symbolic link"));
            }
            if !ids.has(known.owner) {
                return Err(lost("an owner or a group that this user namespace has not"));
            }
            if let Some(name) = attribute(&directory.join(path))? {
                let name = shown(Path::new(&name));
                return Err(lost(&format!("the extended attribute {name}")));
            }
            if !kind.is_dir() {
                *names.entry(known.identity).or_default() += 1;
            }
        }
        for (path, known) in &before {
            if names
                .get(&known.identity)
                .is_some_and(|&found| found < known.names)
            {
                return Err(CannotKeep::Lost {
                    path: directory.join(path),
                    what: "a file that has names outside of the directory (hard links)".to_owned(),
                });
            }
        }
        can_exchange_in(directory.parent().unwrap_or(directory))?;
        Ok(Replaceable {
            directory: directory.to_owned(),
            before,
        })
    }

    /// What is different in the directory by now, which has the name `now`.
    pub(super) fn changed(&self, now: &Path) -> Result<Option<PathBuf>, CannotKeep> {
        let after = known(now, self.before.len() as u64 + 1)?;
        let paths = self.before.keys().chain(after.keys());
        let is_other = |path: &&PathBuf| self.before.get(*path) != after.get(*path);
        Ok(paths.filter(is_other).min().map(|path| now.join(path)))
    }
}

/// Everything in a directory, by its path from there, up to one more than `most`.
fn known(directory: &Path, most: u64) -> Result<BTreeMap<PathBuf, Known>, CannotKeep> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let place = directory.join(&path);
        let failed = |error| CannotKeep::System {
            path: place.clone(),
            doing: "looking at it",
            error,
        };
        let metadata = std::fs::symlink_metadata(&place).map_err(failed)?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&place).map_err(failed)? {
                open.push(path.join(entry.map_err(failed)?.file_name()));
            }
        }
        let is_root = path.as_os_str().is_empty();
        found.insert(path, Known::of(&metadata, is_root));
        if found.len() as u64 > most {
            break;
        }
    }
    Ok(found)
}

/// The first extended attribute that a file has.
fn attribute(path: &Path) -> Result<Option<OsString>, CannotKeep> {
    let mut names = vec![0_u8; MOST_NAMES];
    let len = match llistxattr(path, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => {
            return Err(CannotKeep::System {
                path: path.to_owned(),
                doing: "its extended attributes",
                error: error.into(),
            });
        }
    };
    let names = names[..len].split(|&byte| byte == 0);
    let mut names = names.filter(|name| !name.is_empty() && *name != LABEL.as_bytes());
    Ok(names.next().map(|name| OsStr::from_bytes(name).to_owned()))
}

/// Looks whether something is mounted on `directory` or beneath it.
pub(super) fn nothing_mounted(directory: &Path) -> Result<(), CannotKeep> {
    let mounts = std::fs::read(MOUNTS).map_err(|error| CannotKeep::System {
        path: MOUNTS.into(),
        doing: "reading the list of mounts",
        error,
    })?;
    let mut points = mounts.split(|&byte| byte == b'\n').filter_map(|line| {
        let point = line.split(|&byte| byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescaped(point))))
    });
    match points.find(|point| point.starts_with(directory)) {
        Some(at) => Err(CannotKeep::Mounted { at }),
        None => Ok(()),
    }
}

/// A path of the list, in which `\040` and others like it stand for bytes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_list_of_mounts_come_back() {
        for (text, path) in [
            (r"/a/b", "/a/b"),
            (r"/a\040b\134c\011", "/a b\\c\t"),
            (r"/a\0", r"/a\0"),
            (r"\400", r"\400"),
        ] {
            assert_eq!(unescaped(text.as_bytes()), path.as_bytes());
        }
    }
}
