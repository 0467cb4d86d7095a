//! What was found on the kernel, as a file that needs nothing else: the case, the recordings of its
//! lives, and the crash. It is judged again without the kernel and without a mount.

use driver::linux::Defect;
use serde::{Deserialize, Serialize};

use crate::fuzz::case::Case;
use crate::fuzz::recorded::Recording;
use crate::fuzz::story::{NotTold, Told, tell_recorded};
use crate::fuzz::violation::Violation;
use crate::fuzz::world::Mending;

use super::naming::Explained;

/// What the file says first.
pub const FORMAT: &str = "ubdlab kernel finding 2";

/// Something wrong that a kernel has done.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the case.
    pub seed: u64,
    /// The case, with its crash.
    pub case: Case,
    /// What was witnessed of its lives.
    pub recordings: Vec<Recording>,
    /// What the recording was mended of, so that something else shows.
    pub mending: Mending,
    /// What explains it.
    pub explained: Explained,
    /// What is wrong.
    pub violation: Violation,
}

impl Finding {
    /// The defects that explain it, or what kind of violation it is.
    pub fn name(&self) -> String {
        let names: Vec<_> = self
            .explained
            .defects()
            .iter()
            .map(|it| it.name())
            .collect();
        match names.is_empty() {
            true => self.violation.kind.name().to_owned(),
            false => names.join("-and-"),
        }
    }

    /// As a file.
    pub fn file(&self) -> FindingFile {
        let defects = self.explained.defects();
        FindingFile {
            format: FORMAT.to_owned(),
            defects: defects
                .iter()
                .map(|defect| defect.name().to_owned())
                .collect(),
            flushes_mended: self.mending.flushes,
            order_mended: self.mending.order,
            offsets_mended: self.mending.offsets,
            memory_mended: self.mending.memory,
            case: self.case.clone(),
            recordings: self.recordings.clone(),
        }
    }
}

/// A finding in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingFile {
    /// [`FORMAT`].
    pub format: String,
    /// The defects that explain it, for a reader.
    pub defects: Vec<String>,
    /// What the recording is mended of: a sync comes before a flush is acknowledged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flushes_mended: bool,
    /// Likewise: a sync comes before a word of the bitmap is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub order_mended: bool,
    /// Likewise: what reads have brought that the driver is known to have misled is not compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offsets_mended: bool,
    /// Likewise: what is written past the end of the bitmap is zeros.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_mended: bool,
    /// The case.
    pub case: Case,
    /// What was witnessed of each of its lives.
    pub recordings: Vec<Recording>,
}

impl FindingFile {
    /// Whether somebody who has edited it has left it whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "found format {:?}, expected {FORMAT:?}",
                self.format
            ));
        }
        self.explained()?;
        let (lives, recorded) = (self.case.lives.len(), self.recordings.len());
        if lives != recorded {
            return Err(format!(
                "recordings: found {recorded}, expected {lives}, one of each life"
            ));
        }
        self.case.check()
    }

    /// What explains it.
    ///
    /// # Errors
    /// If that is no defect.
    pub fn explained(&self) -> Result<Explained, String> {
        let defects = self.defects.iter().map(|name| name.parse::<Defect>());
        let defects: Result<Vec<_>, _> = defects.collect();
        let defects = defects.map_err(|error| format!("defects: {error}"))?;
        Ok(Explained::by(&defects))
    }

    /// What it is mended of.
    pub fn mending(&self) -> Mending {
        Mending {
            flushes: self.flushes_mended,
            order: self.order_mended,
            offsets: self.offsets_mended,
            memory: self.memory_mended,
        }
    }

    /// Judges it again, and tells what happens.
    ///
    /// # Errors
    /// If recording, case and crash do not go together.
    pub fn tell(&self) -> Result<Told, NotTold> {
        tell_recorded(&self.case, &self.recordings, self.mending())
    }
}
