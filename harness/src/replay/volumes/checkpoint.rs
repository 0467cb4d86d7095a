//! Which volumes of a replay, or of a shard of one, are done, and what became of each.

use serde::{Deserialize, Serialize};

use super::{Identity, Volume};
use crate::shard::Shard;
use crate::shard::merge::Difference;

/// What the document says first.
pub const FORMAT: &str = "ubdlab replay checkpoint 1";

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesDone {
    /// [`FORMAT`].
    pub format: String,
    /// What is replayed.
    #[serde(flatten)]
    pub replay: Identity,
    /// Which volumes of it.
    pub shard: Shard,
    /// The most volumes that were replayed side by side.
    pub jobs: u64,
    /// The time it took until now.
    pub elapsed_ns: u64,
    /// The volumes that are done, in the order of their numbers. One that could not be replayed is
    /// not among them: what was in its way may have been the machine's.
    pub volumes: Vec<Volume>,
}

/// Why a replay cannot go on from what is written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherVolumes {
    /// It is of another replay.
    #[error("the checkpoint of another replay: {0}")]
    Replay(#[from] Difference),
    /// It is of another shard.
    #[error(
        "the checkpoint of another part of the replay: shard: found {found}, expected {expected}"
    )]
    Shard {
        /// Its shard.
        found: Shard,
        /// The one that is replayed.
        expected: Shard,
    },
    /// It has volumes that are not among those of the shard that can be done.
    #[error(
        "volumes: found number {number}, {name:?}, expected those of shard {shard} that were \
         replayed, by number and each once"
    )]
    Volume {
        /// The number of one.
        number: u64,
        /// Its name.
        name: String,
        /// The shard.
        shard: Shard,
    },
}

impl OtherVolumes {
    /// Whether what is written down is sound, and the command is that of another replay.
    pub fn is_of_another(&self) -> bool {
        matches!(self, OtherVolumes::Replay(_) | OtherVolumes::Shard { .. })
    }
}

impl VolumesDone {
    /// Of a replay that has not begun.
    pub fn nothing_of(replay: Identity, shard: Shard) -> VolumesDone {
        VolumesDone {
            format: FORMAT.to_owned(),
            replay,
            shard,
            jobs: 0,
            elapsed_ns: 0,
            volumes: Vec::new(),
        }
    }

    /// Whether this replay of this shard goes on from it. `name` says what a volume of the trace is
    /// called.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        replay: &Identity,
        shard: Shard,
        name: impl Fn(u64) -> Option<String>,
    ) -> Result<(), OtherVolumes> {
        self.replay.is(replay)?;
        if self.shard != shard {
            return Err(OtherVolumes::Shard {
                found: self.shard,
                expected: shard,
            });
        }
        let mut before = None;
        for volume in &self.volumes {
            let is_own = shard.has(volume.number)
                && !volume.has_failed()
                && before < Some(volume.number)
                && name(volume.number).as_ref() == Some(&volume.volume);
            if !is_own {
                return Err(OtherVolumes::Volume {
                    number: volume.number,
                    name: volume.volume.clone(),
                    shard,
                });
            }
            before = Some(volume.number);
        }
        Ok(())
    }

    /// Whether the volume of this number is done.
    pub fn has(&self, number: u64) -> bool {
        let found = self.volumes.binary_search_by_key(&number, |it| it.number);
        found.is_ok()
    }

    /// Takes in what became of a volume that was not done.
    pub fn take_in(&mut self, volume: Volume) {
        let place = self.volumes.partition_point(|it| it.number < volume.number);
        self.volumes.insert(place, volume);
    }
}
