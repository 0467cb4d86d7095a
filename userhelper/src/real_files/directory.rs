//! The directory that a path leads to.

use std::path::Path;

/// The directory that holds the name: for `cow` without one, where we are.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // `/` and the empty path have no parent; the first holds itself, the second
        // is an error that the system reports.
        None => path,
    }
}
