//! Adding up the results of shards. In whatever order and grouping they come, the sum is the same;
//! that of all shards is the result of the campaign in one piece, times aside.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use driver::shown;

use super::super::finding::Key;
use super::identity::Difference;
use super::record::FindingRecord;
use super::result::{CampaignResult, FORMAT, Shards};
use crate::shard::{MOST_SHARDS, Shard};

/// Why results do not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSum {
    /// It is the result of another campaign.
    #[error(transparent)]
    Foreign(#[from] Difference),
    /// The campaign was cut in another way.
    #[error("a result of a campaign in {found} shards, expected one in {expected}")]
    OtherCut {
        /// The shards that it is cut into.
        found: u32,
        /// The shards that the others are cut into.
        expected: u32,
    },
    /// The shard is there already.
    #[error("shard {0} once more")]
    Doubled(Shard),
}

/// Adds another result of the campaign.
///
/// # Errors
/// Why it cannot be added; nothing has changed then.
pub fn add(sum: &mut CampaignResult, other: CampaignResult) -> Result<(), NoSum> {
    other.campaign.same_as(&sum.campaign)?;
    let (found, expected) = (other.shards.of, sum.shards.of);
    if found != expected {
        return Err(NoSum::OtherCut { found, expected });
    }
    let numbers = &mut sum.shards.numbers;
    let mut doubled = numbers
        .iter()
        .filter(|number| other.shards.numbers.contains(number));
    if let Some(shard) = doubled.next().and_then(|&number| Shard::new(number, found)) {
        return Err(NoSum::Doubled(shard));
    }
    numbers.extend(&other.shards.numbers);
    numbers.sort_unstable();
    sum.jobs = sum.jobs.max(other.jobs);
    sum.cases += other.cases;
    sum.host_operations += other.host_operations;
    sum.crash_images += other.crash_images;
    sum.elapsed_ns += other.elapsed_ns;
    sum.job_ns += other.job_ns;
    sum.compute_rate();
    sum.cases_with_findings += other.cases_with_findings;
    sum.ended_by_signal = sum.ended_by_signal.max(other.ended_by_signal);
    sum.coverage.merge(&other.coverage);
    let findings = std::mem::take(&mut sum.findings);
    sum.findings = earliest(findings.into_iter().chain(other.findings));
    Ok(())
}

/// The earliest finding of each thing, in the order of their cases. Where their cases were written
/// to is a matter of the shards.
fn earliest(findings: impl Iterator<Item = FindingRecord>) -> Vec<FindingRecord> {
    let mut earliest: BTreeMap<Key, FindingRecord> = BTreeMap::new();
    for mut finding in findings {
        finding.file = None;
        let key = finding.key();
        let kept = earliest.get(&key);
        if kept.is_none_or(|kept| finding.place() < kept.place()) {
            earliest.insert(key, finding);
        }
    }
    let mut earliest: Vec<FindingRecord> = earliest.into_values().collect();
    earliest.sort_by_key(FindingRecord::place);
    earliest
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
    #[error("shards: found {found}, expected different numbers from 1 to {of}, in order")]
    Shards {
        /// What it says.
        found: String,
        /// How many there are.
        of: u32,
    },
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
    /// A case cannot be run.
    #[error("findings, seed {seed}: {what}")]
    Case {
        /// Its seed.
        seed: u64,
        /// Why.
        what: String,
    },
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
    let Shards { of, numbers } = &result.shards;
    let is_shard = |number: &u32| Shard::new(*number, *of).is_some();
    let is_good = !numbers.is_empty()
        && *of <= MOST_SHARDS
        && numbers.iter().all(is_shard)
        && numbers.is_sorted_by(|before, after| before < after);
    if !is_good {
        return Err(NoResult::Shards {
            found: format!("{numbers:?} of {of}"),
            of: *of,
        });
    }
    for finding in &result.findings {
        let (seed, case) = (finding.seed, finding.case.check());
        case.map_err(|what| NoResult::Case { seed, what })?;
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

/// Why results make no campaign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCampaign {
    /// There is none.
    #[error("found no result, expected those of all shards of a campaign")]
    Empty,
    /// One is of another campaign.
    #[error("{}: a result of another campaign than {}: {difference}", shown(.file), shown(.first))]
    Foreign {
        /// Which one.
        file: PathBuf,
        /// That of the campaign.
        first: PathBuf,
        /// What they differ in.
        difference: Difference,
    },
    /// One is of the campaign in another number of shards.
    #[error(
        "{}: a result of a campaign in {found} shards, expected one in {expected}, as {} is",
        shown(.file), shown(.first)
    )]
    OtherCut {
        /// Which one.
        file: PathBuf,
        /// The one before it.
        first: PathBuf,
        /// The shards that it is cut into.
        found: u32,
        /// The shards that the others are cut into.
        expected: u32,
    },
    /// The same shard twice.
    #[error("{}: found shard {shard}, which is in {} too", shown(.file), shown(.other))]
    Doubled {
        /// The second one.
        file: PathBuf,
        /// The first one.
        other: PathBuf,
        /// The shard.
        shard: Shard,
    },
    /// Some are not there.
    #[error("found {there} of {of} shards, expected all: {missing}")]
    Missing {
        /// How many there are.
        there: usize,
        /// Of how many.
        of: u32,
        /// The others.
        missing: Missing,
    },
}

/// Shards that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<u32>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would fill the screen.
        const MOST_NAMED: usize = 16;
        let Missing(numbers) = self;
        let named: Vec<String> = (numbers.iter().take(MOST_NAMED))
            .map(u32::to_string)
            .collect();
        let one = match numbers.len() {
            1 => "shard",
            _ => "shards",
        };
        write!(f, "{one} {}", named.join(", "))?;
        if numbers.len() > MOST_NAMED {
            write!(f, " and {} more", numbers.len() - MOST_NAMED)?;
        }
        let is = if numbers.len() == 1 { "is" } else { "are" };
        write!(f, " {is} missing")
    }
}

/// The campaign that these results, with the files that they are from, are of.
///
/// # Errors
/// Which of them is of another campaign or is there twice, or which shards are missing.
pub fn merge(
    results: impl IntoIterator<Item = (PathBuf, CampaignResult)>,
) -> Result<CampaignResult, NoCampaign> {
    let mut results = results.into_iter();
    let (first, mut sum) = results.next().ok_or(NoCampaign::Empty)?;
    // Which file each shard is from.
    let mut files: BTreeMap<u32, PathBuf> = BTreeMap::new();
    let mut note = |file: &Path, numbers: &[u32]| {
        files.extend(numbers.iter().map(|&number| (number, file.to_owned())));
    };
    note(&first, &sum.shards.numbers);
    for (file, result) in results {
        let numbers = result.shards.numbers.clone();
        match add(&mut sum, result) {
            Ok(()) => note(&file, &numbers),
            Err(NoSum::Doubled(shard)) => {
                let other = files.remove(&shard.number()).unwrap_or(first);
                return Err(NoCampaign::Doubled { file, other, shard });
            }
            Err(NoSum::Foreign(difference)) => {
                return Err(NoCampaign::Foreign {
                    file,
                    first,
                    difference,
                });
            }
            Err(NoSum::OtherCut { found, expected }) => {
                return Err(NoCampaign::OtherCut {
                    file,
                    first,
                    found,
                    expected,
                });
            }
        }
    }
    let Shards { of, numbers } = &sum.shards;
    if numbers.len() < *of as usize {
        let missing = (1..=*of).filter(|number| numbers.binary_search(number).is_err());
        return Err(NoCampaign::Missing {
            there: numbers.len(),
            of: *of,
            missing: Missing(missing.collect()),
        });
    }
    // All of it, however it was cut.
    sum.shards = Shards {
        of: 1,
        numbers: vec![1],
    };
    sum.findings = earliest(std::mem::take(&mut sum.findings).into_iter());
    Ok(sum)
}

#[cfg(test)]
mod tests;
