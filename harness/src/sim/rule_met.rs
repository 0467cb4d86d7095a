//! A fault rule, and what has come of it. One that has failed nothing shows nothing, and may not be
//! what its author meant.

use super::faults::FaultRule;

/// A rule, and what has come of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMet {
    /// The rule.
    pub rule: FaultRule,
    /// The operations that matched it.
    pub matched: u64,
    /// Those that it has failed.
    pub failed: u64,
    /// Those that it was to fail, and that cannot suffer its fault.
    pub(super) unfit: u64,
}

/// Why a rule has failed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// No operation matched it.
    NothingMatched,
    /// Fewer operations matched it than come before the one that it is to fail.
    NotReached,
    /// What it was to fail cannot suffer its fault.
    Unfit,
    /// A rule before it has failed what it was to fail.
    AnotherFirst,
}

impl RuleMet {
    pub(super) fn new(rule: FaultRule) -> RuleMet {
        RuleMet {
            rule,
            matched: 0,
            failed: 0,
            unfit: 0,
        }
    }

    /// Why it has failed nothing; `None` if it has failed something.
    pub fn idle(&self) -> Option<Idle> {
        if self.failed > 0 {
            return None;
        }
        Some(match self.matched {
            0 => Idle::NothingMatched,
            matched if matched <= self.rule.occurrence.first() => Idle::NotReached,
            _ if self.unfit > 0 => Idle::Unfit,
            _ => Idle::AnotherFirst,
        })
    }
}
