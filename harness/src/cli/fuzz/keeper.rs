//! What a campaign finds, and where it is: written down as it comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fuzz::campaign::record::FindingRecord;
use crate::fuzz::campaign::{Campaign, Finding, Recipient, State, Stop};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::violation::Kind;
use crate::shard::Shard;

use super::super::output_file::OutputFile;
use super::super::own_files::{OwnFiles, json_right_in};
use super::super::{Failure, interrupt};
use super::checkpoint::CampaignCheckpoint;

/// Writes findings down as they come: whatever ends the campaign, they are there.
pub(super) struct Keeper<'a> {
    campaign: &'a Campaign,
    writer: Option<Writer<'a>>,
    checkpoint: Option<CampaignCheckpoint<'a>>,
    bar: ProgressBar,
    /// With the places of the findings.
    kept: Vec<((u64, usize), FindingRecord)>,
    /// Cases that were finished before this sitting.
    before: Option<u64>,
    /// Whether one was finished in it.
    progressed: Arc<AtomicBool>,
    /// Why something could not be written.
    failure: Option<Failure>,
    /// There is such a reason: nothing more is to be found.
    pub(super) gave_up: Arc<AtomicBool>,
}

impl Recipient for Keeper<'_> {
    fn progress(&mut self, cases: u64) {
        self.bar.set_position(cases);
        let before = *self.before.get_or_insert(cases);
        self.progressed.store(cases > before, Ordering::Relaxed);
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
        own: &'a OwnFiles,
        checkpoint: Option<CampaignCheckpoint<'a>>,
    ) -> Keeper<'a> {
        let stop = match campaign.stop {
            Stop::Cases(_) => Stop::Cases(campaign.cases_of_shard()),
            Stop::Duration(duration) => Stop::Duration(duration),
        };
        Keeper {
            campaign,
            writer: directory.map(|directory| Writer::new(directory, campaign.shard, own)),
            checkpoint,
            bar: progress(stop),
            kept: Vec::new(),
            before: None,
            progressed: Arc::default(),
            failure: None,
            gave_up: Arc::default(),
        }
    }

    /// Becomes true when a case is finished in this sitting.
    pub(super) fn progressed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.progressed)
    }

    fn keep(&mut self, finding: &Finding, writes: bool) {
        let place = finding.place();
        let mut finding = FindingRecord::of(finding.clone());
        let writer = self.writer.as_mut().filter(|_| writes);
        let written = writer.map(|writer| {
            let file = writer.file_of(&finding);
            writer.write(&finding, &file).map(|()| file)
        });
        match written {
            None => {}
            Some(Ok(file)) => finding.file = Some(file),
            Some(Err(failure)) => self.give_up(failure),
        }
        self.kept.push((place, finding));
    }

    fn give_up(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// All findings, in the order of their cases; and why something could not be written.
    pub(super) fn finish(mut self) -> (Vec<FindingRecord>, Option<Failure>) {
        self.bar.finish_and_clear();
        self.kept.sort_by_key(|(place, _)| *place);
        let kept = self.kept.into_iter().map(|(_, finding)| finding);
        (kept.collect(), self.failure)
    }
}

/// The most bytes of the defects and the kind in a name. A file system takes 255, and there is room
/// for a shard, a number and the ending.
const LONGEST_NAME: usize = 128;

/// Writes findings into a directory, each under a name of its own.
pub(super) struct Writer<'a> {
    directory: &'a Path,
    shard: Shard,
    /// What is replaced by no finding.
    own: &'a OwnFiles,
    /// How many findings have a name.
    names: BTreeMap<String, u64>,
}

impl<'a> Writer<'a> {
    /// Of the findings of this shard, of a command that has these files.
    pub(super) fn new(directory: &'a Path, shard: Shard, own: &'a OwnFiles) -> Writer<'a> {
        Writer {
            directory,
            shard,
            own,
            names: BTreeMap::new(),
        }
    }

    /// The file of a finding, which no other one gets.
    pub(super) fn file_of(&mut self, finding: &FindingRecord) -> PathBuf {
        let mut name = name_of(finding);
        if self.shard != Shard::WHOLE {
            let (number, of) = (self.shard.number(), self.shard.of());
            name = format!("shard-{number}-of-{of}-{name}");
        }
        self.directory.join(self.another(name) + ".json")
    }

    /// Writes the case of a finding into its file.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn write(&self, finding: &FindingRecord, file: &Path) -> Result<(), Failure> {
        self.own.check_made(file).map_err(Failure)?;
        let text = serde_json::to_string_pretty(&finding.case).map_err(Failure::operation)?;
        OutputFile::create(file)?.write_whole(&(text + "\n"))
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

/// Whether a file at this path below the directory of findings could be one: its name ends with a
/// kind, and perhaps a number.
pub(super) fn may_be_finding(below: &Path) -> bool {
    let Some(name) = json_right_in(below) else {
        return false;
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = name
        .rsplit_once('-')
        .filter(|(_, number)| is_number(number));
    let name = numbered.map_or(name, |(name, _)| name);
    let mut ends = name.match_indices('-').map(|(at, _)| &name[at + 1..]);
    Kind::named(name).is_some() || ends.any(|end| Kind::named(end).is_some())
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
    use crate::fuzz::violation::Violation;

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
        let own = OwnFiles::new();
        let mut writer = Writer::new(directory.path(), shard, &own);
        for many in 1..=all.len() {
            let finding = finding(&all[..many]);
            for _ in 0..2 {
                let file = writer.file_of(&finding);
                writer.write(&finding, &file).unwrap();
                let below = file.strip_prefix(directory.path()).unwrap();
                assert!(may_be_finding(below), "{below:?}");
            }
        }
    }

    #[test]
    fn only_what_ends_with_a_kind_may_be_a_finding() {
        let may_be = |name: &str| may_be_finding(Path::new(name));
        for name in [
            "lost-write.json",
            "zeros-2.json",
            "flush-noop-lost-write.json",
            "seed-7-lost-write-12.json",
            "shard-1-of-3-flush-noop-died.json",
        ] {
            assert!(may_be(name), "{name}");
        }
        for name in [
            "1.json",
            "3-of-8.json",
            "write.json",
            "lost-write",
            "lost-write.html",
            "below/lost-write.json",
            "lost-write-a.json",
            "",
        ] {
            assert!(!may_be(name), "{name}");
        }
    }
}
