//! What a campaign, or a shard of one, came to, as a document that is complete: with it, those of
//! all other shards add up to that of the campaign in one piece.

use serde::{Deserialize, Serialize};

use super::super::coverage::Coverage;
use super::identity::{Identity, Until};
use super::record::FindingRecord;
use super::{Campaign, CampaignOutcome};
use crate::shard::Shard;
use crate::shard::merge::Shards;

/// What the document says first. Later versions of the program read it; fields that an earlier one
/// does not know it passes over.
pub const FORMAT: &str = "ubdlab fuzz result 1";

/// The document. Field names carry their units.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CampaignResult {
    /// [`FORMAT`].
    pub format: String,
    /// The campaign.
    #[serde(flatten)]
    pub campaign: Identity,
    /// What it has of the campaign.
    pub shards: Shards,
    /// Threads at most; of several shards, those of the one that had most.
    pub jobs: usize,
    /// Cases run, to their end.
    pub cases: u64,
    /// Operations of simulated hosts.
    pub host_operations: u64,
    /// Built, recovered and checked.
    pub crash_images: u64,
    /// The time it took, in all sittings and of all shards together.
    pub elapsed_ns: u64,
    /// Likewise, of all threads together.
    pub job_ns: u64,
    /// Crash images a second of each thread.
    #[serde(default)]
    pub crash_images_per_second_and_job: f64,
    /// Cases with a finding.
    pub cases_with_findings: u64,
    /// The number of the signal that has ended the campaign early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by_signal: Option<u8>,
    /// What was found, in the order of the cases.
    pub findings: Vec<FindingRecord>,
    /// What came up.
    pub coverage: Coverage,
}

impl CampaignResult {
    /// Of a campaign that has come to `outcome`, with `findings`.
    pub fn of(
        campaign: &Campaign,
        outcome: &CampaignOutcome,
        findings: Vec<FindingRecord>,
    ) -> CampaignResult {
        let mut result = CampaignResult {
            format: FORMAT.to_owned(),
            campaign: Identity::of(campaign),
            shards: campaign.shard.into(),
            jobs: campaign.jobs,
            cases: outcome.cases,
            host_operations: outcome.host_operations,
            crash_images: outcome.crash_images,
            elapsed_ns: outcome.elapsed_ns,
            job_ns: outcome.job_ns,
            crash_images_per_second_and_job: 0.0,
            cases_with_findings: outcome.cases_with_findings,
            ended_by_signal: None,
            findings,
            coverage: outcome.coverage.clone(),
        };
        result.compute_rate();
        result
    }

    pub(super) fn compute_rate(&mut self) {
        let seconds = self.job_ns.max(1) as f64 / 1e9;
        self.crash_images_per_second_and_job = self.crash_images as f64 / seconds;
    }

    /// The shard, of a result that is of one and not of the whole campaign.
    pub fn shard(&self) -> Option<Shard> {
        self.shards.single()
    }

    /// The cases that it should have; none if a time was to end them.
    pub(super) fn expected_cases(&self) -> Option<u64> {
        let Until::Cases(cases) = self.campaign.until else {
            return None;
        };
        let shares = self.shards.each().map(|shard| shard.share_of(cases));
        Some(shares.sum())
    }
}
