//! The backing file that a header names. A header is what somebody wrote: the author of the file,
//! or a guest, which can write one into the first sectors of a raw disk. How far its path is
//! followed is therefore decided here, before anything is opened, and every opening of such a
//! path goes through [`NamedBacking`].

use std::path::{Component, Path, PathBuf};

use crate::cow::Header;
use crate::host::{Access, HostError, HostNames, HostResult, OperationKind, Place, beneath};
use crate::units::FileOffset;

use super::{OpenError, host};

/// How far the path of a backing file is followed if nobody but a header names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// As far as the user's rights go: the user has named the file as a COW file.
    #[default]
    Follow,
    /// Beneath the COW file's directory, through no symbolic link and to no device: the user has
    /// asked for that.
    Confine,
    /// As [`Trust::Confine`], because the file only begins like a COW file, and may be the raw
    /// disk of a guest that wrote a header to it. A backing file of which the file says that it
    /// is being changed, so that its size and time prove nothing, is not opened at all.
    Guessed,
}

/// Why a backing file that a header names is not opened. Displayed, it is the rest of a sentence
/// that begins with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    /// Its path is absolute and names another directory, or it goes up out of this one.
    Outside,
    /// Its path has `..` in it. It may lead nowhere else, but where it leads depends on links.
    Up,
    /// Its path goes through a symbolic link.
    Link,
    /// It is a device file, which came in an archive or lies in a directory of devices.
    Device,
    /// The file says that its backing file is being changed.
    Unchecked,
}

impl std::fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unfollowed::Outside => "leads outside the COW file's directory",
            Unfollowed::Up => "has .. in it",
            Unfollowed::Link => "goes through a symbolic link",
            Unfollowed::Device => "is a device file's",
            Unfollowed::Unchecked => "cannot be checked while a change of that file is recorded",
        })
    }
}

/// Why a path is not followed that is absolute or has `..` in it.
fn outside(path: &Path) -> Unfollowed {
    let mut below = 0_usize;
    for component in path.components() {
        match component {
            Component::Normal(_) => below += 1,
            Component::CurDir => {}
            Component::ParentDir if below > 0 => below -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Unfollowed::Outside;
            }
        }
    }
    Unfollowed::Up
}

/// The place of the backing file that a header names, and how far its path is followed.
#[derive(Clone, Debug)]
pub struct NamedBacking {
    cow: PathBuf,
    at: FileOffset,
    named: PathBuf,
    trust: Trust,
    path: PathBuf,
}

impl NamedBacking {
    /// That of the COW file at `cow`, which has this header.
    pub fn of(cow: &Path, header: &Header, trust: Trust) -> NamedBacking {
        NamedBacking {
            cow: cow.to_owned(),
            at: header.version.path_offset(),
            named: header.backing_path().to_owned(),
            trust,
            path: backing_path(cow, header),
        }
    }

    /// Its path as the process has it, for messages and comparisons: see [`backing_path`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it may be looked for.
    ///
    /// # Errors
    /// Why it may not be.
    pub fn place(&self) -> Result<Place, Unfollowed> {
        if self.trust == Trust::Follow {
            return Ok(Place::Anywhere(self.path.clone()));
        }
        let directory = directory_of(&self.cow);
        // An absolute path that begins with the directory's own is as good as the rest of it. It
        // is read, not looked up: what lies outside is not touched.
        let path = match self.named.strip_prefix(directory) {
            Ok(below) if self.named.is_absolute() => below,
            _ => &self.named,
        };
        Ok(Place::Beneath {
            directory: directory.to_owned(),
            path: beneath(path).map_err(|_| outside(path))?,
        })
    }

    /// What the host says there, or why it may not be asked.
    ///
    /// # Errors
    /// The host's, within.
    pub fn reach<T>(
        &self,
        ask: impl FnOnce(&Place) -> HostResult<T>,
    ) -> Result<HostResult<T>, Unfollowed> {
        match ask(&self.place()?) {
            Err(HostError::SymbolicLink) => Err(Unfollowed::Link),
            Err(HostError::OutsideDirectory) => Err(Unfollowed::Outside),
            Err(HostError::DeviceFile) => Err(Unfollowed::Device),
            answer => Ok(answer),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// See [`NamedBacking::refused`]; the host's.
    pub fn open<N: HostNames>(&self, names: &N, access: Access) -> Result<N::File, OpenError> {
        self.reach(|place| place.open(names, access))
            .map_err(|why| self.refused(why))?
            .map_err(host(
                &self.path,
                OperationKind::Open,
                "opening the backing file",
            ))
    }

    /// That it is not opened, and why.
    pub fn refused(&self, why: Unfollowed) -> OpenError {
        let (path, at) = (self.cow.clone(), self.at);
        let backing = self.named.clone();
        match self.trust {
            Trust::Guessed => OpenError::GuessedCow {
                path,
                at,
                backing,
                why,
            },
            Trust::Follow | Trust::Confine => OpenError::BackingNotFollowed {
                path,
                at,
                backing,
                why,
            },
        }
    }
}

/// The path of the backing file that the header of the COW file at `cow` names: for messages and
/// comparisons. The file is opened through [`NamedBacking`] only.
pub fn backing_path(cow: &Path, header: &Header) -> PathBuf {
    resolve(cow, header.backing_path())
}

/// A header's relative path starts at the COW file's directory, wherever the process is.
pub(super) fn resolve(cow: &Path, backing: &Path) -> PathBuf {
    directory_of(cow).join(backing)
}

fn directory_of(cow: &Path) -> &Path {
    cow.parent().unwrap_or(Path::new(""))
}
