//! Writing a page: whole, or not at all.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Failure, without_path};

/// Writes a page into a temporary file that takes the name when it is whole.
pub(super) fn write_page(path: &Path, html: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        let cause = without_path(error);
        Failure(format!("{}: writing: {cause}", driver::shown(path)))
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || {
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        temporary.write_all(html.as_bytes())?;
        // A temporary file is its owner's alone; a page is like any other file.
        let mode = std::fs::Permissions::from_mode(0o644);
        temporary.as_file().set_permissions(mode)?;
        temporary.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|error| failed(&error))
}
