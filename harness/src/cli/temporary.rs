//! Temporary files and directories of the program. They go when they are dropped, and when a
//! signal ends the program ([`super::interrupt`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};
use userhelper::unfinished;

/// What takes a path out of the list when it is dropped, after the file itself.
#[derive(Debug)]
struct Entered(PathBuf);

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = unfinished::finish(&self.0, || Ok::<_, ()>(()));
    }
}

/// A new directory.
#[derive(Debug)]
pub(super) struct TemporaryDirectory {
    directory: TempDir,
    _entered: Entered,
}

impl TemporaryDirectory {
    /// One in `parent` whose name begins with `prefix`.
    pub(super) fn new_in(parent: &Path, prefix: &str) -> io::Result<TemporaryDirectory> {
        let make = || tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        let directory = unfinished::create(make, |made| made.path().to_owned())?;
        let entered = Entered(directory.path().to_owned());
        Ok(TemporaryDirectory {
            directory,
            _entered: entered,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A new file that only its owner may open.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    file: NamedTempFile,
    entered: Entered,
}

impl TemporaryFile {
    pub(super) fn new_in(directory: &Path) -> io::Result<TemporaryFile> {
        let make = || NamedTempFile::new_in(directory);
        let file = unfinished::create(make, |made| made.path().to_owned())?;
        let entered = Entered(file.path().to_owned());
        Ok(TemporaryFile { file, entered })
    }

    pub(super) fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The file once more, with a position of its own.
    pub(super) fn reopen(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Gives it this name, in its directory. A file of that name is replaced.
    ///
    /// # Errors
    /// The system's. The name is that of the file of before then, as far as the system tells.
    pub(super) fn persist(self, name: &Path) -> io::Result<()> {
        let TemporaryFile { file, entered } = self;
        let persisted = || match file.persist(name) {
            Ok(_) => Ok(()),
            // A server that has renamed it may not get the answer through. The name tells.
            Err(failed) => match is_name_of(name, failed.file.as_file()) {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(failed.error),
            },
        };
        unfinished::finish(&entered.0, persisted)
    }
}

fn is_name_of(name: &Path, file: &File) -> io::Result<bool> {
    let (named, file) = (std::fs::metadata(name)?, file.metadata()?);
    Ok((named.dev(), named.ino()) == (file.dev(), file.ino()))
}
