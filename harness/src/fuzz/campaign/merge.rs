//! Adding up the results of shards. In whatever order and grouping they come, the sum is the same;
//! that of all shards is the result of the campaign in one piece, times aside.

use super::super::finding::Finding;
use super::earliest::Earliest;
use super::record::{FindingRecord, WrongFinding};
use super::result::{CampaignResult, FORMAT};
use crate::shard::merge::{Difference, OfShards, Shards, WrongShards, add_up};

impl OfShards for CampaignResult {
    const WORK: &'static str = "campaign";

    fn shards(&self) -> &Shards {
        &self.shards
    }

    fn shards_mut(&mut self) -> &mut Shards {
        &mut self.shards
    }

    fn is_of_same(&self, expected: &CampaignResult) -> Result<(), Difference> {
        self.campaign.same_as(&expected.campaign)
    }

    fn take_in(&mut self, other: CampaignResult) {
        self.jobs = self.jobs.max(other.jobs);
        add_up(&mut self.cases, other.cases);
        add_up(&mut self.host_operations, other.host_operations);
        add_up(&mut self.crash_images, other.crash_images);
        add_up(&mut self.elapsed_ns, other.elapsed_ns);
        add_up(&mut self.job_ns, other.job_ns);
        self.compute_rate();
        add_up(&mut self.cases_with_findings, other.cases_with_findings);
        self.ended_by_signal = self.ended_by_signal.max(other.ended_by_signal);
        self.coverage.merge(&other.coverage);
        let findings = std::mem::take(&mut self.findings);
        self.findings = earliest(findings.into_iter().chain(other.findings));
    }

    fn complete(&mut self) {
        self.findings = earliest(std::mem::take(&mut self.findings).into_iter());
    }
}

/// The earliest finding of each thing, in the order of their cases. Where their cases were written
/// to is a matter of the shards.
fn earliest(findings: impl Iterator<Item = FindingRecord>) -> Vec<FindingRecord> {
    let mut earliest: Earliest = findings.map(Finding::from).collect();
    earliest.leave_out_covered(&Earliest::default());
    let earliest = earliest.in_order().into_iter();
    earliest.map(FindingRecord::of).collect()
}

/// Why a document is no result that can be added up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResult {
    /// Of another format.
    #[error("found format {found:?}, expected {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// It has shards that there cannot be.
    #[error(transparent)]
    Shards(#[from] WrongShards),
    /// The campaign was ended early.
    #[error(
        "found {cases} cases of {}, ended by signal {signal}: the same command with its --checkpoint \
         goes on from there", shown_expected(*.expected)
    )]
    EndedEarly {
        /// The cases that were run.
        cases: u64,
        /// Those that were to be run, if that was said.
        expected: Option<u64>,
        /// The signal.
        signal: u8,
    },
    /// It has not all cases of its shard, or more.
    #[error("cases: found {found}, expected {expected}")]
    Cases {
        /// How many it has.
        found: u64,
        /// How many its shard has.
        expected: u64,
    },
    /// There cannot be such a finding.
    #[error(transparent)]
    Finding(#[from] WrongFinding),
}

fn shown_expected(expected: Option<u64>) -> String {
    expected.map_or("those that there was time for".into(), |cases| {
        cases.to_string()
    })
}

/// Whether a document is the result of a shard that was run to its end.
///
/// # Errors
/// What is wrong with it.
pub fn check(result: &CampaignResult) -> Result<(), NoResult> {
    if result.format != FORMAT {
        return Err(NoResult::Format {
            found: result.format.clone(),
        });
    }
    result.shards.check()?;
    for finding in &result.findings {
        finding.check(&result.campaign, &result.shards)?;
    }
    let (cases, expected) = (result.cases, result.expected_cases());
    if let Some(signal) = result.ended_by_signal {
        return Err(NoResult::EndedEarly {
            cases,
            expected,
            signal,
        });
    }
    // A case that gives no sign any more ends a campaign, and would end it again.
    let is_stuck = result.findings.iter().any(|finding| finding.is_stuck);
    match expected {
        Some(expected) if cases != expected && !is_stuck => Err(NoResult::Cases {
            found: cases,
            expected,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
