//! A finding as it stands in a result or a checkpoint.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::case::Case;
use super::super::defect::CaseDefect;
use super::super::finding::Finding;
use super::super::violation::Violation;
use super::identity::{Identity, Until};
use crate::shard::merge::{Difference, Shards};

/// A finding, with what a reader wants to know of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindingRecord {
    /// The number of the case in its campaign, from 0.
    pub number: u64,
    /// Its seed.
    pub seed: u64,
    /// The defects that the case has, of those switched on: it needs them.
    pub defects: Vec<CaseDefect>,
    /// Those that the violation was traced to when it was found. A campaign keeps the earliest
    /// finding of each cause and of each set of these.
    pub traced_to: Vec<CaseDefect>,
    /// Those that the case had shown before, and that were switched off for this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switched_off: Vec<CaseDefect>,
    /// What is wrong.
    #[serde(flatten)]
    pub violation: Violation,
    /// Requests in the case.
    pub requests: usize,
    /// Where the case was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The case does not end: it can be neither shrunk nor told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_stuck: bool,
    /// The campaign was to end before the violation was traced: it is traced to nothing, and its
    /// case may have defects that it does not need.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_untraced: bool,
    /// The case, shrunk.
    pub case: Case,
}

impl FindingRecord {
    /// The record of a finding that is written nowhere else.
    pub fn of(finding: Finding) -> FindingRecord {
        FindingRecord {
            number: finding.number,
            seed: finding.seed,
            defects: finding.case.defects.clone(),
            traced_to: finding.traced_to,
            switched_off: finding.switched_off,
            violation: Violation {
                // As in a file.
                shown: None,
                ..finding.violation
            },
            requests: finding.case.requests(),
            file: None,
            is_stuck: finding.is_stuck,
            is_untraced: finding.is_untraced,
            case: finding.case,
        }
    }

    /// The defects that it needs, as far as they are known, or what kind of violation it is.
    pub fn name(&self) -> String {
        match self.defects.is_empty() || self.is_untraced {
            true => self.violation.kind.name().to_owned(),
            false => CaseDefect::names(&self.defects).join(" and "),
        }
    }
}

/// What is wrong with a finding that is no such campaign's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("findings, seed {seed}: {what}")]
pub struct WrongFinding {
    /// Its seed, as it says.
    pub seed: u64,
    /// What was found and what was expected.
    pub what: String,
}

impl FindingRecord {
    /// Whether it can be one of these shards of a campaign, and its case can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, campaign: &Identity, shards: &Shards) -> Result<(), WrongFinding> {
        self.wrong(campaign, shards)
            .map_err(|what| self.wrong_for(what))
    }

    /// It is wrong, for this reason.
    pub(super) fn wrong_for(&self, what: String) -> WrongFinding {
        WrongFinding {
            seed: self.seed,
            what,
        }
    }

    fn wrong(&self, campaign: &Identity, shards: &Shards) -> Result<(), String> {
        let differs = |difference: Difference| difference.to_string();
        let number = self.number;
        if !shards.have(number) {
            let of = shards.of;
            return Err(format!(
                "number: found {number}, expected that of a case of these shards of {of}"
            ));
        }
        if let Until::Cases(cases) = campaign.until
            && number >= cases
        {
            return Err(format!(
                "number: found {number}, expected one below {cases}"
            ));
        }
        let seed = campaign.seed.wrapping_add(number);
        Difference::check("seed", &self.seed, &seed).map_err(differs)?;
        self.case.check()?;
        let (case, subject) = (&self.case, &campaign.subject);
        let (found, expected) = (case.driver.name(), subject.driver.name());
        Difference::check("case.driver", &found, &expected).map_err(differs)?;
        Difference::check("requests", &self.requests, &case.requests()).map_err(differs)?;
        let found = CaseDefect::listed(&self.defects);
        let expected = CaseDefect::listed(&case.defects);
        Difference::check("defects", &found, &expected).map_err(differs)?;
        let named = [&self.defects, &self.traced_to, &self.switched_off];
        let mut named = named.into_iter().flatten();
        match named.find(|defect| !subject.defects.contains(defect)) {
            None => Ok(()),
            Some(foreign) => Err(format!(
                "defects: found {}, expected those of the campaign",
                foreign.name()
            )),
        }
    }
}

impl From<FindingRecord> for Finding {
    fn from(record: FindingRecord) -> Finding {
        Finding {
            number: record.number,
            seed: record.seed,
            switched_off: record.switched_off,
            traced_to: record.traced_to,
            case: record.case,
            violation: record.violation,
            is_stuck: record.is_stuck,
            is_untraced: record.is_untraced,
        }
    }
}
