//! A file that the user named as the place for a result: written under another name, and given
//! its own when it is whole. While it is written only its owner may open it; then it has the
//! owner and mode of the file that it replaces or, if there was none, what the umask leaves.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;
use userhelper::real_files::give_mode_at;

use super::{Failure, without_path};

/// A result under way. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct OutputFile<'a> {
    target: &'a Path,
    temporary: NamedTempFile,
}

impl<'a> OutputFile<'a> {
    /// A file that is going to be `target`.
    pub(super) fn create(target: &'a Path) -> Result<OutputFile<'a>, Failure> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary =
            NamedTempFile::new_in(directory).map_err(|error| not_written(target, &error))?;
        Ok(OutputFile { target, temporary })
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Makes it durable and gives it its name; its length in bytes.
    pub(super) fn finish(self) -> Result<u64, Failure> {
        let OutputFile { target, temporary } = self;
        let file = temporary.as_file();
        give_mode_at(target, file)
            .map_err(|error| Failure(format!("{}: writing: {error}", driver::shown(target))))?;
        let synced = file.sync_all().and_then(|()| file.metadata());
        let len = synced.map_err(|error| not_written(target, &error))?.len();
        temporary
            .persist(target)
            .map_err(|error| not_written(target, &error.error))?;
        Ok(len)
    }
}

/// That the target could not be written.
pub(super) fn not_written(target: &Path, error: &io::Error) -> Failure {
    let cause = without_path(error);
    Failure(format!("{}: writing: {cause}", driver::shown(target)))
}
