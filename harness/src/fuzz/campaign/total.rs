//! What a campaign has come to so far. Cases come in any order; a finding is certain when all cases
//! before it are finished, for only then no earlier one of the same thing can come.

use serde::{Deserialize, Serialize};

use super::super::finding::Finding;
use super::chain::Chain;
use super::earliest::Earliest;
use super::finished::Finished;
use super::record::FindingRecord;
use super::sums::Sums;
use crate::shard::Shard;

/// Where a campaign is: all that it takes to go on from there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Which cases are finished.
    pub finished: Finished,
    /// What they came to.
    #[serde(flatten)]
    pub sums: Sums,
    /// The time it took so far, in all sittings.
    pub elapsed_ns: u64,
    /// Likewise, of all threads together.
    pub job_ns: u64,
    /// Findings, in the order of their cases.
    pub findings: Vec<FindingRecord>,
    /// Those before which a case is unfinished.
    pub uncertain: Vec<FindingRecord>,
    /// What came of cases that were cut off, when the time of the campaign was up: there is none in
    /// which they could be run once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<CutOff>,
}

/// What came of cases that were cut off.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CutOff {
    /// How much was done of them.
    #[serde(flatten)]
    pub sums: Sums,
    /// What they have shown.
    pub findings: Vec<FindingRecord>,
}

pub(super) struct Total {
    shard: Shard,
    finished: Finished,
    sums: Sums,
    certain: Earliest,
    uncertain: Earliest,
    /// What came of cases that were cut off. They are not finished, and are run once more when the
    /// campaign goes on, if there is time.
    of_cut_off: Sums,
    in_cut_off: Earliest,
}

impl Total {
    pub(super) fn of(shard: Shard, state: State) -> Total {
        let findings =
            |records: Vec<FindingRecord>| records.into_iter().map(Finding::from).collect();
        let cut_off = state.cut_off.unwrap_or_default();
        Total {
            shard,
            finished: state.finished,
            sums: state.sums,
            certain: findings(state.findings),
            uncertain: findings(state.uncertain),
            of_cut_off: cut_off.sums,
            in_cut_off: findings(cut_off.findings),
        }
    }

    pub(super) fn finished(&self) -> &Finished {
        &self.finished
    }

    /// All findings of finished cases.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.certain.iter().chain(self.uncertain.iter())
    }

    /// Those that are certain, in the order of their cases.
    pub(super) fn certain(&self) -> Vec<Finding> {
        self.certain.clone().in_order()
    }

    /// Adds what came of the case at `index`. The findings that are certain now, in the order of
    /// their cases.
    pub(super) fn add(&mut self, index: u64, chain: Chain) -> Vec<Finding> {
        if chain.cut_off {
            self.of_cut_off.add(&chain.sums);
            self.in_cut_off.extend(chain.findings);
            return Vec::new();
        }
        self.sums.add(&chain.sums);
        self.finished.add(index);
        for finding in chain.findings {
            // What is certain is earlier.
            if !self.certain.has_one_of(&finding) {
                self.uncertain.keep(finding);
            }
        }
        let unfinished = self.shard.case_at(self.finished.frontier());
        let new = self.uncertain.take_before(unfinished);
        self.certain.extend(new.iter().cloned());
        new.in_order()
    }

    /// Where it is after this time, which may be all that there is.
    pub(super) fn state(&self, elapsed_ns: u64, job_ns: u64, is_time_up: bool) -> State {
        let records = |findings: &Earliest| {
            let findings = findings.clone().in_order();
            findings.into_iter().map(FindingRecord::of).collect()
        };
        State {
            finished: self.finished.clone(),
            sums: self.sums.clone(),
            elapsed_ns,
            job_ns,
            findings: records(&self.certain),
            uncertain: records(&self.uncertain),
            cut_off: is_time_up.then(|| CutOff {
                sums: self.of_cut_off.clone(),
                findings: records(&self.in_cut_off),
            }),
        }
    }

    /// The findings that are not certain, when nothing more comes: what they say holds all the
    /// same.
    pub(super) fn others(&self) -> Vec<Finding> {
        let mut others = self.uncertain.clone();
        for finding in self.in_cut_off.iter() {
            if !self.certain.has_one_of(finding) {
                others.keep(finding.clone());
            }
        }
        others.leave_out_covered(&self.certain);
        others.in_order()
    }

    /// How much was done, what was cut off included.
    pub(super) fn all_sums(&self) -> Sums {
        let mut sums = self.sums.clone();
        sums.add(&self.of_cut_off);
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::case::DriverName;
    use super::super::super::generate::generate;
    use super::super::super::subject::Subject;
    use super::super::super::violation::{Kind, Violation};
    use super::*;

    /// What came of a case that shows one of three things.
    fn with_finding(number: u64) -> Chain {
        let kind = [Kind::Zeros, Kind::Foreign, Kind::LostWrite][number as usize % 3];
        let finding = Finding {
            number,
            seed: number,
            switched_off: Vec::new(),
            traced_to: Vec::new(),
            case: generate(1, &Subject::healthy(DriverName::Ordered)),
            violation: Violation::new(kind, "then", "w"),
            is_stuck: false,
            is_untraced: false,
        };
        Chain {
            sums: Sums {
                cases_with_findings: 1,
                ..Sums::default()
            },
            findings: vec![finding],
            ..Chain::default()
        }
    }

    #[test]
    fn a_finding_is_certain_when_no_earlier_one_can_come() {
        let mut total = Total::of(Shard::WHOLE, State::default());
        let mut add = |index, chain| -> Vec<u64> {
            let new = total.add(index, chain);
            new.iter().map(|finding| finding.number).collect()
        };
        assert!(add(4, with_finding(4)).is_empty());
        assert!(
            add(1, with_finding(1)).is_empty(),
            "of the same thing, and earlier"
        );
        assert!(add(3, with_finding(3)).is_empty());
        let cut_off = Chain {
            cut_off: true,
            ..with_finding(0)
        };
        assert!(add(0, cut_off).is_empty(), "it is not finished");
        assert_eq!(add(0, Chain::default()), [1]);
        assert_eq!(add(2, with_finding(2)), [2, 3]);
        let others: Vec<u64> = total
            .others()
            .iter()
            .map(|finding| finding.number)
            .collect();
        assert!(
            others.is_empty(),
            "what was cut off has shown something that is certain: {others:?}"
        );
        assert_eq!(total.sums.cases_with_findings, 4);
        assert_eq!(total.all_sums().cases_with_findings, 5);
    }

    /// There is no time left in which the cases that were cut off could be run once more.
    #[test]
    fn what_was_cut_off_when_the_time_was_up_stays() {
        let mut total = Total::of(Shard::WHOLE, State::default());
        total.add(0, with_finding(0));
        let cut_off = |number| {
            let mut chain = with_finding(number);
            chain.sums.host_operations = 10;
            Chain {
                cut_off: true,
                ..chain
            }
        };
        total.add(1, cut_off(1));
        // Traced to nothing, as one of which a defect is known: it may be the same.
        let mut untraced = cut_off(2);
        untraced.findings[0].is_untraced = true;
        let mut the_same = cut_off(4);
        the_same.findings[0].is_untraced = true;
        total.add(2, untraced);
        total.add(4, the_same);
        let shown = |total: &Total| -> Vec<u64> {
            let others = total.others();
            others.iter().map(|finding| finding.number).collect()
        };
        assert_eq!(shown(&total), [1, 2]);
        let again = |is_time_up| {
            let text = serde_json::to_string(&total.state(1, 1, is_time_up)).unwrap();
            Total::of(Shard::WHOLE, serde_json::from_str(&text).unwrap())
        };
        let again_after = again(true);
        assert_eq!(shown(&again_after), [1, 2]);
        assert_eq!(again_after.all_sums().host_operations, 30);
        assert_eq!(again_after.all_sums().cases_with_findings, 4);
        let goes_on = again(false);
        assert_eq!(shown(&goes_on), [0; 0]);
        assert_eq!(goes_on.all_sums().cases_with_findings, 1);
    }

    /// What there is to remember is the same after a few cases and after many.
    #[test]
    fn a_state_does_not_grow_with_the_number_of_cases() {
        let mut total = Total::of(Shard::WHOLE, State::default());
        let len = |total: &Total| {
            serde_json::to_string(&total.state(1, 1, false))
                .unwrap()
                .len()
        };
        let mut early = 0;
        for eight in 0..5_000 {
            // Eight threads, of which the first is the last to end.
            for index in (8 * eight..8 * (eight + 1)).rev() {
                total.add(index, with_finding(index % 30));
            }
            if eight == 10 {
                early = len(&total);
            }
        }
        assert_eq!(total.finished().count(), 40_000);
        // Numbers have more digits.
        assert!(
            len(&total) <= early + 10,
            "{early} bytes became {}",
            len(&total)
        );
    }
}
