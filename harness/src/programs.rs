//! Other programs of this machine.

use std::io;
use std::path::{Path, PathBuf, absolute};

use rustix::fs::{Access, access};
use rustix::io::Errno;

/// Where Debian has mkfs and the like, which only root has in the path.
const OF_THE_SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Where the program is that somebody has named, as shells do it: a name without a slash is looked
/// for in the path, and one with a slash from here on. The answer holds in any directory.
///
/// # Errors
/// That it is missing, no regular file, or none that may be run.
pub(crate) fn named(program: &Path) -> io::Result<PathBuf> {
    let found = match program.parent() {
        Some(parent) if parent.as_os_str().is_empty() => program
            .to_str()
            .and_then(find)
            .ok_or(io::Error::from(Errno::NOENT))?,
        _ => absolute(program)?,
    };
    if !found.metadata()?.is_file() {
        return Err(io::Error::other(
            "found no regular file, expected a program",
        ));
    }
    access(&found, Access::EXEC_OK)?;
    Ok(found)
}

/// Where the program of this name is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(OF_THE_SYSTEM.map(PathBuf::from));
    let mut programs = directories.map(|directory| directory.join(program));
    programs.find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_program_is_one_that_may_be_run() {
        let found = |program: &str| named(Path::new(program)).map_err(|error| error.to_string());
        assert!(found("sh").unwrap().is_absolute());
        assert_eq!(found("/bin/sh").unwrap(), Path::new("/bin/sh"));
        assert_eq!(
            found("./src/../src/lib.rs").unwrap_err(),
            "Permission denied (os error 13)"
        );
        assert!(found("./src").unwrap_err().contains("no regular file"));
        for missing in ["no-such-program", "./no-such-program", ""] {
            assert!(found(missing).is_err(), "{missing}");
        }
    }
}
