//! The file of `--checkpoint`: how far work has come that may be ended at any moment. It is
//! replaced whole or not at all.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::document::Expected;
use super::output_file::OutputFile;

/// A checkpoint of one kind of work.
pub(super) struct CheckpointFile<'a> {
    path: &'a Path,
    expected: Expected,
}

/// The command line is that of other work than the file: it will be at the next try too.
pub(super) struct Foreign(pub(super) String);

const WAY_OUT: &str = "give --checkpoint another name, or remove the file to begin anew";

impl<'a> CheckpointFile<'a> {
    /// The file at `path`, which holds such a document, or is going to.
    pub(super) fn new(path: &'a Path, expected: Expected) -> CheckpointFile<'a> {
        CheckpointFile { path, expected }
    }

    /// What it holds, if there is one.
    ///
    /// # Errors
    /// Why it cannot be read, or is something else; that nothing can be written there.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        match std::fs::metadata(self.path) {
            Ok(found) if !found.is_file() => {
                let path = driver::shown(self.path);
                return Err(Failure(format!(
                    "{path}: --checkpoint: found no regular file, expected one or nothing"
                )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A place that takes no file is refused before the work.
                drop(OutputFile::create(self.path)?);
                return Ok(None);
            }
            Err(error) => return Err(self.refused(driver::system_words(error))),
        }
        let unread = |Failure(why)| Failure(format!("{why}; nothing was changed: {WAY_OUT}"));
        self.expected.read_one(self.path).map(Some).map_err(unread)
    }

    /// That the work cannot go on from what is in the file.
    pub(super) fn refused(&self, why: impl std::fmt::Display) -> Failure {
        let path = driver::shown(self.path);
        Failure(format!("{path}: {why}; nothing was changed: {WAY_OUT}"))
    }

    /// That it holds where other work has come to, and why.
    pub(super) fn foreign(&self, why: impl std::fmt::Display) -> Foreign {
        Foreign(self.refused(why).0)
    }

    /// Replaces it, durably.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn write(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document).map_err(Failure::operation)?;
        OutputFile::create(self.path)?.write_whole(&(text + "\n"))
    }
}
