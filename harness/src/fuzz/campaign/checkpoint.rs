//! Where a campaign, or a shard of one, was when it was written down.

use serde::{Deserialize, Serialize};

use super::Campaign;
use super::identity::Identity;
use super::record::WrongFinding;
use super::total::State;
use crate::shard::Shard;
use crate::shard::merge::{Difference, Shards};

/// What the document says first.
pub const FORMAT: &str = "ubdlab fuzz checkpoint 1";

/// The document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`FORMAT`].
    pub format: String,
    /// The campaign.
    #[serde(flatten)]
    pub campaign: Identity,
    /// What is run of it.
    pub shard: Shard,
    /// Where it is.
    pub state: State,
}

/// Why a campaign cannot go on from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFromHere {
    /// It is of another format.
    #[error("found format {found:?}, expected {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// It is that of another campaign.
    #[error("the checkpoint of another campaign: {0}")]
    Campaign(#[from] Difference),
    /// It is that of another shard.
    #[error(
        "the checkpoint of another part of the campaign: shard: found {found}, expected {expected}"
    )]
    Shard {
        /// Its shard.
        found: Shard,
        /// The one that is run.
        expected: Shard,
    },
    /// It says more than there can be.
    #[error("finished: found {found} cases, expected at most {most}")]
    TooMany {
        /// What it says.
        found: u64,
        /// How many the shard has.
        most: u64,
    },
    /// A case is finished that is none of the shard's.
    #[error("finished.beyond: found {found}, expected numbers below {most}")]
    Beyond {
        /// What it says.
        found: u64,
        /// How many cases the shard has.
        most: u64,
    },
    /// There cannot be such a finding.
    #[error(transparent)]
    Finding(#[from] WrongFinding),
}

impl NotFromHere {
    /// Whether the checkpoint is sound, and the command is that of another one.
    pub fn is_of_another(&self) -> bool {
        matches!(self, NotFromHere::Campaign(_) | NotFromHere::Shard { .. })
    }
}

impl Checkpoint {
    /// Of a campaign that is there.
    pub fn of(campaign: &Campaign, state: State) -> Checkpoint {
        Checkpoint {
            format: FORMAT.to_owned(),
            campaign: Identity::of(campaign),
            shard: campaign.shard,
            state,
        }
    }

    /// Where `campaign` goes on from.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn state_of(self, campaign: &Campaign) -> Result<State, NotFromHere> {
        if self.format != FORMAT {
            return Err(NotFromHere::Format { found: self.format });
        }
        self.campaign.same_as(&Identity::of(campaign))?;
        if self.shard != campaign.shard {
            return Err(NotFromHere::Shard {
                found: self.shard,
                expected: campaign.shard,
            });
        }
        let (finished, most) = (&self.state.finished, campaign.cases_of_shard());
        let found = finished.count();
        if found > most {
            return Err(NotFromHere::TooMany { found, most });
        }
        if let Some(&found) = finished.beyond().last().filter(|&&found| found >= most) {
            return Err(NotFromHere::Beyond { found, most });
        }
        self.check_findings()?;
        Ok(self.state)
    }

    fn check_findings(&self) -> Result<(), WrongFinding> {
        let State {
            finished,
            findings,
            uncertain,
            cut_off,
            ..
        } = &self.state;
        let shards = Shards::from(self.shard);
        for finding in findings.iter().chain(uncertain) {
            finding.check(&self.campaign, &shards)?;
            let (number, index) = (finding.number, self.shard.index_of(finding.number));
            if !finished.contains(index) {
                let what = format!("number: found {number}, expected that of a finished case");
                return Err(finding.wrong_for(what));
            }
        }
        let of_cut_off = cut_off.iter().flat_map(|cut_off| &cut_off.findings);
        for finding in of_cut_off {
            finding.check(&self.campaign, &shards)?;
        }
        Ok(())
    }
}
