//! How much was done, of a case or of many.

use serde::{Deserialize, Serialize};

use super::super::coverage::Coverage;
use crate::shard::merge::add_up;

/// How much was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Operations of simulated hosts.
    pub host_operations: u64,
    /// Crash images built, recovered and checked. Those that are what the kill at the same crash
    /// point has left, to the last byte, count like others, and are recovered once.
    pub crash_images: u64,
    /// Cases with a finding.
    pub cases_with_findings: u64,
    /// What came up.
    pub coverage: Coverage,
}

impl Sums {
    /// Adds what was done elsewhere.
    pub(super) fn add(&mut self, other: &Sums) {
        add_up(&mut self.host_operations, other.host_operations);
        add_up(&mut self.crash_images, other.crash_images);
        add_up(&mut self.cases_with_findings, other.cases_with_findings);
        self.coverage.merge(&other.coverage);
    }
}
