//! `ubdlab fuzz --checkpoint`: when it is written, and what it says.

use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Started};
use crate::fuzz::campaign::checkpoint::{Checkpoint, FORMAT};
use crate::fuzz::campaign::{Campaign, State};

use super::super::Failure;
use super::super::checkpoint_file::{CheckpointFile, Foreign};
use super::super::document::Expected;

/// Between two times that the file is written, at the least.
const EVERY: Duration = Duration::from_secs(5);

const CHECKPOINT: Expected = Expected {
    format: FORMAT,
    what: "a checkpoint of ubdlab fuzz",
};

/// Writes down where a campaign is.
pub(super) struct CampaignCheckpoint<'a> {
    file: CheckpointFile<'a>,
    /// When it was written last, in this sitting.
    written: Option<Started>,
}

impl<'a> CampaignCheckpoint<'a> {
    /// Into the file at `path`.
    pub(super) fn new(path: &'a Path) -> CampaignCheckpoint<'a> {
        CampaignCheckpoint {
            file: CheckpointFile::new(path, CHECKPOINT),
            written: None,
        }
    }

    /// Where `campaign` goes on from: what the file says or, if there is none, the beginning. Or
    /// what the command line differs in.
    ///
    /// # Errors
    /// Why it cannot be read; that nothing can be written there.
    pub(super) fn read(&self, campaign: &Campaign) -> Result<Result<State, Foreign>, Failure> {
        let Some(found) = self.file.read::<Checkpoint>()? else {
            return Ok(Ok(State::default()));
        };
        match found.state_of(campaign) {
            Ok(state) => Ok(Ok(state)),
            Err(why) if why.is_of_another() => Ok(Err(self.file.foreign(why))),
            Err(why) => Err(self.file.refused(why)),
        }
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
        self.file.write(&Checkpoint::of(campaign, state()))?;
        self.written = Some(clock::start());
        Ok(())
    }
}
