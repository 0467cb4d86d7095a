//! Where a file is to be looked for. A path that a stranger wrote may lead anywhere; what it is
//! allowed to reach is part of the place, so that nobody opens such a path by the way.

use std::path::{Component, Path, PathBuf};

use super::{Access, HostError, HostNames, HostResult};

/// Where a file is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever the path leads.
    Anywhere(PathBuf),
    /// Beneath a directory, through no symbolic link and to no device: see
    /// [`HostNames::open_beneath`].
    Beneath {
        /// The directory, which is followed like any path; empty where the process is.
        directory: PathBuf,
        /// The path from there on.
        path: PathBuf,
    },
}

impl Place {
    /// Opens the file there.
    ///
    /// # Errors
    /// The host's.
    pub fn open<N: HostNames>(&self, names: &N, access: Access) -> HostResult<N::File> {
        match self {
            Place::Anywhere(path) => names.open(path, access),
            Place::Beneath { directory, path } => names.open_beneath(directory, path, access),
        }
    }
}

/// The names that `path` goes through from a directory on, without `.`. A `.` or a slash at its
/// end says that the last name is a directory's; it stays as a slash. Every host refuses the same
/// paths, because all of them ask here. `..` is refused also where it would not lead out: with a
/// symbolic link before it, nobody can tell by reading.
///
/// # Errors
/// [`HostError::OutsideDirectory`] of an absolute path, and of one with `..`.
pub fn beneath(path: &Path) -> HostResult<PathBuf> {
    let mut names = PathBuf::new();
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(HostError::OutsideDirectory);
            }
        }
    }
    if is_directory && !names.as_os_str().is_empty() {
        names.push("");
    }
    Ok(names)
}

/// Whether the names of [`beneath`] end with one that has to be a directory's.
pub fn names_a_directory(names: &Path) -> bool {
    names.as_os_str().as_encoded_bytes().ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_told_by_reading() {
        for (path, names) in [
            ("a", "a"),
            ("./a//b/c", "a/b/c"),
            ("..a/b..", "..a/b.."),
            (".", ""),
        ] {
            assert_eq!(beneath(Path::new(path)), Ok(names.into()), "{path}");
        }
        for (path, names) in [
            ("a/", "a/"),
            ("./a//b/.", "a/b/"),
            ("a/./", "a/"),
            ("./", ""),
        ] {
            let found = beneath(Path::new(path)).unwrap();
            // Paths are equal with a slash at their end and without.
            assert_eq!(found.as_os_str(), names, "{path}");
        }
        for path in ["/a", "..", "../a", "a/..", "a/../b", "./..", "//a"] {
            let outside = Err(HostError::OutsideDirectory);
            assert_eq!(beneath(Path::new(path)), outside, "{path}");
        }
    }
}
