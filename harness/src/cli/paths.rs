//! Paths as the command line names them, on their way into headers.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Failure;

/// The absolute path: it leads to the same file wherever the process is.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(failed(path))
}

/// The absolute path of a backing file, without `.` and `..`: it goes into a header, and a
/// directory that it only passes through may be renamed. A symbolic link that `..` leaves is
/// followed; others stay, as whoever made them may mean to change them.
pub(super) fn for_header(path: &Path) -> Result<PathBuf, Failure> {
    let whole = absolute(path)?;
    let mut result = PathBuf::new();
    for component in whole.components() {
        if component != Component::ParentDir {
            result.push(component);
            continue;
        }
        let is_link = std::fs::symlink_metadata(&result).is_ok_and(|it| it.is_symlink());
        if is_link {
            result = std::fs::canonicalize(&result).map_err(failed(path))?;
        }
        result.pop();
    }
    // What `components` leaves out says that it is a directory.
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        result.push(OsStr::new(""));
    }
    Ok(result)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| {
        let error = driver::system_words(&error);
        Failure(format!("{}: opening: {error}", driver::shown(path)))
    }
}
