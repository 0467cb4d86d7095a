//! What is fuzzed: what a seed gives cases for.

use serde::{Deserialize, Serialize};

use crate::sim::Assumptions;

use super::case::{DriverName, Resizer};
use super::defect::CaseDefect;

/// What is fuzzed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The driver.
    pub driver: DriverName,
    /// Defects switched on.
    pub defects: Vec<CaseDefect>,
    /// Who resizes.
    pub resizer: Resizer,
    /// What is assumed of the host.
    pub assumptions: Assumptions,
    /// Whether the host may fail.
    pub faults: bool,
    /// Whether syncs may lie, which voids every promise.
    pub lying_syncs: bool,
}

impl Subject {
    /// A driver without defects and the resizes of userhelper, on a host that does not fail.
    pub fn healthy(driver: DriverName) -> Subject {
        Subject {
            driver,
            defects: Vec::new(),
            resizer: Resizer::Userhelper,
            assumptions: Assumptions::default(),
            faults: false,
            lying_syncs: false,
        }
    }

    /// Whether the model of 2003's procedure resizes.
    pub(super) fn resizes_by_model(&self) -> bool {
        self.resizer.model(&self.defects).is_some()
    }
}
