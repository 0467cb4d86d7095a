//! `ubdlab fuzz --checkpoint`: the file.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Started};
use crate::fuzz::campaign::checkpoint::{Checkpoint, FORMAT};
use crate::fuzz::campaign::{Campaign, State};

use super::super::Failure;
use super::super::document::Expected;
use super::super::output_file::OutputFile;

/// Between two times that the file is written, at the least.
const EVERY: Duration = Duration::from_secs(5);

/// The command line is that of another campaign than the file: it will be at the next try too.
pub(super) struct Foreign(pub(super) String);

/// The file that says where the campaign is.
pub(super) struct CheckpointFile<'a> {
    path: &'a Path,
    /// When it was written last, in this sitting.
    written: Option<Started>,
}

impl<'a> CheckpointFile<'a> {
    /// The file at `path`.
    pub(super) fn new(path: &'a Path) -> CheckpointFile<'a> {
        CheckpointFile {
            path,
            written: None,
        }
    }

    /// Where `campaign` goes on from: what the file says or, if there is none, the beginning. Or
    /// what the command line differs in.
    ///
    /// # Errors
    /// Why it cannot be read; that nothing can be written there.
    pub(super) fn read(&self, campaign: &Campaign) -> Result<Result<State, Foreign>, Failure> {
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
                return Ok(Ok(State::default()));
            }
            Err(error) => return Err(self.not_from_here(driver::system_words(error))),
        }
        let expected = Expected {
            format: FORMAT,
            what: "a checkpoint of ubdlab fuzz",
        };
        let unread = |Failure(why)| Failure(format!("{why}; nothing was changed: {WAY_OUT}"));
        let checkpoint: Checkpoint = expected.read_one(self.path).map_err(unread)?;
        match checkpoint.state_of(campaign) {
            Ok(state) => Ok(Ok(state)),
            Err(why) if why.is_of_another() => Ok(Err(Foreign(self.not_from_here(why).0))),
            Err(why) => Err(self.not_from_here(why)),
        }
    }

    fn not_from_here(&self, why: impl std::fmt::Display) -> Failure {
        let path = driver::shown(self.path);
        Failure(format!("{path}: {why}; nothing was changed: {WAY_OUT}"))
    }

    /// Writes it if it is time, if this is the last time, and the first time at once.
    pub(super) fn may_write(
        &mut self,
        is_last: bool,
        campaign: &Campaign,
        state: &dyn Fn() -> State,
    ) -> Result<(), Failure> {
        let is_early = |written: Started| written.elapsed() < EVERY;
        if !is_last && self.written.is_some_and(is_early) {
            return Ok(());
        }
        let document = Checkpoint::of(campaign, state());
        let text = serde_json::to_string(&document).map_err(Failure::operation)?;
        OutputFile::create(self.path)?.write_whole(&(text + "\n"))?;
        self.written = Some(clock::start());
        Ok(())
    }
}

const WAY_OUT: &str = "give --checkpoint another name, or remove the file to begin anew";
