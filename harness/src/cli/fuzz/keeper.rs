//! What a campaign finds, and where it is: written down as it comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fuzz::campaign::record::FindingRecord;
use crate::fuzz::campaign::{Campaign, Finding, Recipient, State, Stop};
use crate::fuzz::defect::CaseDefect;
use crate::shard::Shard;

use super::super::output_file::OutputFile;
use super::super::{Failure, interrupt};
use super::checkpoint::CampaignCheckpoint;

/// Writes findings down as they come: whatever ends the campaign, they are there.
pub(super) struct Keeper<'a> {
    campaign: &'a Campaign,
    writer: Option<Writer<'a>>,
    checkpoint: Option<CampaignCheckpoint<'a>>,
    bar: ProgressBar,
    kept: Vec<FindingRecord>,
    /// Why something could not be written.
    failure: Option<Failure>,
    /// There is such a reason: nothing more is to be found.
    pub(super) gave_up: Arc<AtomicBool>,
}

impl Recipient for Keeper<'_> {
    fn progress(&mut self, cases: u64) {
        self.bar.set_position(cases);
    }

    fn found(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.keep(finding, true);
        }
    }

    fn others(&mut self, findings: &[Finding], goes_on: bool) {
        // The sitting that goes on writes them or earlier ones, also under other names: what this
        // one wrote would stay beside that.
        let writes = !goes_on || self.checkpoint.is_none();
        for finding in findings {
            self.keep(finding, writes);
        }
    }

    fn may_keep(&mut self, is_last: bool, state: &dyn Fn() -> State) {
        // The last state is worth keeping also if a finding could not be written.
        let is_due = is_last || self.failure.is_none();
        if let Some(checkpoint) = self.checkpoint.as_mut().filter(|_| is_due)
            && let Err(failure) = checkpoint.may_write(is_last, self.campaign, state)
        {
            self.give_up(failure);
        }
    }
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        campaign: &'a Campaign,
        directory: Option<&'a Path>,
        checkpoint: Option<CampaignCheckpoint<'a>>,
    ) -> Keeper<'a> {
        let stop = match campaign.stop {
            Stop::Cases(_) => Stop::Cases(campaign.cases_of_shard()),
            Stop::Duration(duration) => Stop::Duration(duration),
        };
        Keeper {
            campaign,
            writer: directory.map(|directory| Writer::new(directory, campaign.shard)),
            checkpoint,
            bar: progress(stop),
            kept: Vec::new(),
            failure: None,
            gave_up: Arc::default(),
        }
    }

    fn keep(&mut self, finding: &Finding, writes: bool) {
        let mut finding = FindingRecord::of(finding.clone());
        let writer = self.writer.as_mut().filter(|_| writes);
        match writer.map(|writer| writer.write(&finding)) {
            None => {}
            Some(Ok(file)) => finding.file = Some(file),
            Some(Err(failure)) => self.give_up(failure),
        }
        self.kept.push(finding);
    }

    fn give_up(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// All findings, in the order of their cases; and why something could not be written.
    pub(super) fn finish(mut self) -> (Vec<FindingRecord>, Option<Failure>) {
        self.bar.finish_and_clear();
        self.kept.sort_by_key(FindingRecord::place);
        (self.kept, self.failure)
    }
}

/// The most bytes of the defects and the kind in a name. A file system takes 255, and there is room
/// for a shard, a number and the ending.
const LONGEST_NAME: usize = 128;

/// Writes findings into a directory, each under a name of its own.
pub(super) struct Writer<'a> {
    directory: &'a Path,
    shard: Shard,
    /// How many findings have a name.
    names: BTreeMap<String, u64>,
}

impl<'a> Writer<'a> {
    /// Of the findings of this shard, into a directory that there is.
    pub(super) fn new(directory: &'a Path, shard: Shard) -> Writer<'a> {
        Writer {
            directory,
            shard,
            names: BTreeMap::new(),
        }
    }

    /// Writes the case of a finding; where that is.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn write(&mut self, finding: &FindingRecord) -> Result<PathBuf, Failure> {
        let mut name = name_of(finding);
        if self.shard != Shard::WHOLE {
            let (number, of) = (self.shard.number(), self.shard.of());
            name = format!("shard-{number}-of-{of}-{name}");
        }
        let file = self.directory.join(self.another(name) + ".json");
        let text = serde_json::to_string_pretty(&finding.case).map_err(Failure::operation)?;
        OutputFile::create(&file)?.write_whole(&(text + "\n"))?;
        Ok(file)
    }

    /// This name, with the next number after it if it was used before.
    fn another(&mut self, name: String) -> String {
        let had = self.names.entry(name.clone()).or_default();
        *had += 1;
        match *had {
            1 => name,
            number => format!("{name}-{number}"),
        }
    }
}

/// The name of a finding, without its shard and its number among those of its name: the defects
/// that it needs, and its kind. Where the defects are not known, or too many, the seed is there.
fn name_of(finding: &FindingRecord) -> String {
    let kind = finding.violation.kind.name();
    let mut named = CaseDefect::names(&finding.case.defects);
    named.push(kind.to_owned());
    let name = named.join("-");
    match finding.is_untraced || finding.is_stuck || name.len() > LONGEST_NAME {
        true => format!("seed-{}-{kind}", finding.seed),
        false => name,
    }
}

pub(super) fn progress(stop: Stop) -> ProgressBar {
    let (len, style) = match stop {
        Stop::Cases(cases) => (Some(cases), "{msg} {wide_bar} {pos}/{len}"),
        Stop::Duration(_) => (None, "{msg} {spinner} {pos} in {elapsed}"),
    };
    let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message("cases");
    interrupt::show(&bar);
    bar
}

#[cfg(test)]
mod tests {
    use driver::linux::Defect;

    use super::*;
    use crate::fuzz::case::DriverName;
    use crate::fuzz::generate::generate;
    use crate::fuzz::subject::Subject;
    use crate::fuzz::violation::{Kind, Violation};

    #[test]
    fn a_name_has_the_defects_that_are_needed_or_a_seed_and_room_for_the_rest() {
        let all: Vec<_> = Defect::ALL
            .iter()
            .copied()
            .map(CaseDefect::Kernel)
            .collect();
        let finding = |defects: &[CaseDefect]| {
            let subject = Subject {
                defects: defects.to_vec(),
                ..Subject::healthy(DriverName::Linux612)
            };
            FindingRecord::of(Finding {
                number: 6,
                seed: 7,
                switched_off: Vec::new(),
                traced_to: defects.to_vec(),
                case: generate(7, &subject),
                violation: Violation::new(Kind::LostWrite, "then", "w"),
                is_stuck: false,
                is_untraced: false,
            })
        };
        let one = finding(&[CaseDefect::Kernel(Defect::FlushNoop)]);
        assert_eq!(name_of(&one), "flush-noop-lost-write");
        let untraced = FindingRecord {
            is_untraced: true,
            ..one
        };
        assert_eq!(name_of(&untraced), "seed-7-lost-write");
        assert_eq!(name_of(&finding(&all)), "seed-7-lost-write");
        let directory = tempfile::tempdir().unwrap();
        let shard = Shard::new(999_999, 1_000_000).unwrap();
        let mut writer = Writer::new(directory.path(), shard);
        for many in 1..=all.len() {
            let finding = finding(&all[..many]);
            for _ in 0..2 {
                writer.write(&finding).unwrap();
            }
        }
    }
}
