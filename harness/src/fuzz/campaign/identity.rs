//! What makes two results, or a result and a checkpoint, of one campaign.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::defect::CaseDefect;
use super::super::subject::Subject;
use super::{Campaign, Stop, fingerprint};
use crate::shard::merge::Difference;

/// All that what a campaign finds depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the program that ran it.
    pub version: String,
    /// What tells builds of one version apart: the checksum of a few cases and of what comes of
    /// them.
    #[serde(default)]
    pub cases_crc32c: u32,
    /// What is fuzzed.
    #[serde(flatten)]
    pub subject: Subject,
    /// The seed of case n is this plus n.
    pub seed: u64,
    /// When it stops.
    pub until: Until,
}

/// When a campaign stops, as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// After this number of cases, of all shards together.
    Cases(u64),
    /// After this time, each shard by itself.
    DurationS(u64),
}

impl From<Stop> for Until {
    fn from(stop: Stop) -> Until {
        match stop {
            Stop::Cases(cases) => Until::Cases(cases),
            Stop::Duration(duration) => Until::DurationS(duration.as_secs()),
        }
    }
}

impl From<Until> for Stop {
    fn from(until: Until) -> Stop {
        match until {
            Until::Cases(cases) => Stop::Cases(cases),
            Until::DurationS(seconds) => Stop::Duration(Duration::from_secs(seconds)),
        }
    }
}

impl Identity {
    /// That of a campaign of this program.
    pub fn of(campaign: &Campaign) -> Identity {
        Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cases_crc32c: fingerprint::of_this_build(),
            subject: campaign.subject.clone(),
            seed: campaign.seed,
            until: campaign.stop.into(),
        }
    }

    /// Whether this is what was expected.
    ///
    /// # Errors
    /// The first thing in which it differs.
    pub fn same_as(&self, expected: &Identity) -> Result<(), Difference> {
        Difference::check("version", &self.version, &expected.version)?;
        Difference::check(
            "cases_crc32c, in which builds of the program differ",
            &self.cases_crc32c,
            &expected.cases_crc32c,
        )?;
        let (found, wanted) = (&self.subject, &expected.subject);
        Difference::check("driver", &found.driver.name(), &wanted.driver.name())?;
        let names = |subject: &Subject| CaseDefect::listed(&subject.defects);
        Difference::check("defects", &names(found), &names(wanted))?;
        Difference::check("resizer", &Json(&found.resizer), &Json(&wanted.resizer))?;
        Difference::check(
            "assumptions",
            &Json(&found.assumptions),
            &Json(&wanted.assumptions),
        )?;
        Difference::check("faults", &found.faults, &wanted.faults)?;
        Difference::check("lying_syncs", &found.lying_syncs, &wanted.lying_syncs)?;
        Difference::check("seed", &self.seed, &expected.seed)?;
        Difference::check("until", &Json(&self.until), &Json(&expected.until))
    }
}

/// What stands in the file.
#[derive(PartialEq)]
struct Json<'a, T>(&'a T);

impl<T: Serialize> fmt::Display for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}
