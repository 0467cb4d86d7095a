//! Many cases on the kernel, each held against the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock;
use crate::fuzz::campaign::{Stop, StopSign};
use crate::fuzz::case::{Case, DriverName};
use crate::fuzz::recorded::Recording;
use crate::fuzz::signature::without_numbers;
use crate::kernel::CannotFuzz;
use crate::kernel::campaign::Campaign;
use crate::kernel::case::{case_of, longest_request};
use crate::kernel::laboratory::Laboratory;
use crate::kernel::thread;

use super::difference::DifferenceFile;
use super::{Compared, compare};

/// A difference, and the seed of its case.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// All there is to know of it.
    pub file: DifferenceFile,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The kernel, in its own words.
    pub kernel: String,
    /// Cases lived and compared.
    pub cases: u64,
    /// How often the kernel was booted.
    pub boots: u64,
    /// Requests of the guest that have ended alike.
    pub requests: u64,
    /// Host operations that were alike.
    pub host_operations: u64,
    /// Sectors that reads have brought, all of them compared.
    pub sectors_read: u64,
    /// Errors of the host that the kernel has heard as others, or as none.
    pub misheard: u64,
    /// The time it took.
    pub elapsed_ns: u64,
    /// Why cases were not compared to their ends, and how many.
    pub cut_short: BTreeMap<&'static str, u64>,
    /// Cases with a difference.
    pub cases_with_differences: u64,
    /// The first difference in these words, but for numbers.
    pub differences: Vec<Found>,
}

/// Runs a campaign, on a thread of its own: it sees the mount, and nobody else does. `recipient`
/// gets each difference, and the number of cases so far. What it came to, and what has kept the
/// kernel from being compared further.
pub fn run(
    campaign: &Campaign,
    against: DriverName,
    stop: StopSign,
    recipient: &mut (dyn FnMut(u64, Option<&Found>) + Send),
) -> (Outcome, Result<(), CannotFuzz>) {
    std::thread::scope(|scope| {
        let work = move || {
            let mut outcome = Outcome::default();
            let ended = live_and_compare(campaign, against, stop, &mut outcome, recipient);
            (outcome, ended)
        };
        match thread::start(scope, work) {
            Ok(working) => thread::joined(working),
            Err(error) => (Outcome::default(), Err(error)),
        }
    })
}

fn live_and_compare(
    campaign: &Campaign,
    against: DriverName,
    stop: StopSign,
    outcome: &mut Outcome,
    recipient: &mut dyn FnMut(u64, Option<&Found>),
) -> Result<(), CannotFuzz> {
    let started = clock::start();
    let until = campaign.stop;
    let stop: StopSign = Arc::new(move || {
        stop() || matches!(until, Stop::Duration(time) if started.elapsed() >= time)
    });
    let most = match until {
        Stop::Cases(cases) => cases,
        Stop::Duration(_) => u64::MAX,
    };
    let mut known = BTreeSet::new();
    let (directory, programs) = (&campaign.directory, &campaign.programs);
    let mut laboratory = Laboratory::open(directory, programs, Arc::clone(&stop))?;
    let mut ended = Ok(());
    for number in 0..most {
        if stop() {
            break;
        }
        let seed = campaign.seed.wrapping_add(number);
        let case = case_of(seed, campaign.faults, campaign.assumptions);
        let recording = match laboratory.live(&case, longest_request(seed)) {
            Ok(recording) => recording,
            Err(CannotFuzz::Stopped) => break,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        match outcome.add(seed, &case, &recording, against, &mut known) {
            Ok(Some(found)) => {
                recipient(outcome.cases, Some(&found));
                outcome.differences.push(found);
            }
            Ok(None) => {}
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
        recipient(outcome.cases, None);
    }
    outcome.boots = laboratory.boots;
    outcome.elapsed_ns = started.elapsed_ns();
    ended
}

impl Outcome {
    /// Compares a recording; its difference, if there was none like it before.
    fn add(
        &mut self,
        seed: u64,
        case: &Case,
        recording: &Recording,
        against: DriverName,
        known: &mut BTreeSet<String>,
    ) -> Result<Option<Found>, CannotFuzz> {
        let compared = compare(case, recording, against);
        let Compared {
            requests,
            host_operations,
            sectors_read,
            misheard,
            difference,
            cut_short,
        } = compared.map_err(|error| CannotFuzz::Recording { seed, error })?;
        self.kernel.clone_from(&recording.kernel);
        self.cases += 1;
        self.requests += requests;
        self.host_operations += host_operations;
        self.sectors_read += sectors_read;
        self.misheard += misheard;
        if let Some(why) = cut_short {
            *self.cut_short.entry(why).or_default() += 1;
        }
        let Some(difference) = difference else {
            return Ok(None);
        };
        self.cases_with_differences += 1;
        let words = without_numbers(&difference.to_string());
        let is_new = known.insert(words);
        let file = || DifferenceFile::of(against, case, recording, &difference);
        Ok(is_new.then(|| Found { seed, file: file() }))
    }
}
