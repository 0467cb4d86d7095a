//! Making the real directory what its simulated copy has become.

use std::io;
use std::path::Path;

use userhelper::unfinished;

use crate::sim::tree::Tree;

use super::cannot_crash::CannotCrash;

/// Puts a directory with this content in the place of the one that is there, in one step.
pub(super) fn replace(tree: &Tree, directory: &Path) -> Result<(), CannotCrash> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let failed = |error: io::Error| CannotCrash::Replace {
        directory: directory.to_owned(),
        error,
    };
    let parent = directory.parent().unwrap_or(directory);
    let make = || {
        tempfile::Builder::new()
            .prefix(".ubdlab-crash-")
            .tempdir_in(parent)
    };
    // A signal that ends the process takes it away.
    let new = unfinished::create(make, |made| made.path().to_owned()).map_err(failed)?;
    let path = new.path().to_owned();
    tree.store(&path)?;
    let exchange = || renameat_with(CWD, &path, CWD, directory, RenameFlags::EXCHANGE);
    unfinished::finish(&path, exchange).map_err(|error| failed(error.into()))?;
    // What is called so now is the old one.
    new.close().map_err(failed)
}
