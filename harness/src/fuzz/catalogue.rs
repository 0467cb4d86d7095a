//! The table of `docs/defects.md`: for each defect, whether the fuzzer finds it by its own
//! search, as what, and after how many cases. Everything in it is measured, with seeds that
//! are fixed, so that the same program writes the same table on any machine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use driver::linux::{Defect, Defects};

use super::campaign::one_watched;
use super::case::{Case, DriverName, Resizer};
use super::defect::CaseDefect;
use super::parts::Until;
use super::procedure_2003::ResizeDefect;
use super::running_kernel::InColumn;
use super::selection::described;
use super::shrink::shrink_until;
use super::subject::Subject;
use super::violation::{Kind, Violation};

/// Searches for each defect, from seeds that are far apart.
pub(crate) const SEARCHES: usize = 20;

/// Cases that a search runs at most.
pub const CASES: u64 = 5_000;

/// Between the first seeds of two searches.
const APART: u64 = 1 << 32;

/// Entries of the catalogue that cannot show in the fuzzer's cases, and why.
const NOT_EXPRESSIBLE: &[(&str, &str)] = &[
    (
        "11, completion-overrun",
        "completions are values that a step returns one at a time; there is no pipe of bytes in \
         which a batch of them could be cut",
    ),
    (
        "22, mtime-seconds, the half about a change within one second",
        "neither the format nor the seam to the host has fractions of a second; the half about \
         2^32 seconds is above",
    ),
    (
        "28, failed-header-read-is-success",
        "the device is opened by what the kernel's memory holds of an opening before, and in a life \
         of the fuzzer there is none before; the model has the switch, for `--against`, where it was \
         seen on 6.1",
    ),
    (
        "a COW file without a readable header, taken for a raw disk",
        "the model has no raw disks, and refuses it",
    ),
];

/// A defect that is looked for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in the catalogue, where it has one.
    pub number: Option<u8>,
    /// Its name.
    pub name: String,
    /// What it does wrong, in a sentence.
    pub does: String,
    /// Where the real thing is found.
    pub kernels: String,
    /// Whether it was seen there while that ran.
    pub on_kernel: String,
    /// What has it, and no other defect.
    pub subject: Subject,
}

/// Defects of one kind of thing.
#[derive(Clone, Debug)]
pub struct Section {
    /// What has them.
    pub title: &'static str,
    /// The defects.
    pub entries: Vec<Entry>,
}

/// The defects of the kernels' drivers that are looked for: all that can show in a case.
pub fn looked_for() -> impl Iterator<Item = Defect> {
    let all = Defect::ALL.iter().copied();
    all.filter(|defect| *defect != Defect::FailedHeaderReadIsSuccess)
}

/// All that is looked for.
pub fn sections() -> Vec<Section> {
    vec![
        Section {
            title: "The kernels' drivers",
            entries: looked_for().map(of_kernel).collect(),
        },
        Section {
            title: "Resizes",
            entries: ResizeDefect::ALL
                .iter()
                .map(|defect| of_resize(defect.name(), Some(*defect)))
                .chain([of_resize("spillner-2003", None)])
                .collect(),
        },
    ]
}

/// The driver of a kernel that has only this defect.
pub fn of_kernel(defect: Defect) -> Entry {
    let kernels = [
        (DriverName::Linux612, "6.12", Defects::LINUX_6_12),
        (DriverName::Linux26, "2.6", Defects::LINUX_2_6),
    ];
    let having = kernels.iter().filter(|(_, _, all)| all.contains(defect));
    let names: Vec<&str> = having.clone().map(|(_, name, _)| *name).collect();
    let driver = having.map(|(driver, _, _)| *driver).next();
    Entry {
        number: Some(defect.number()),
        name: defect.name().into(),
        does: defect.does(),
        kernels: match names.is_empty() {
            true if defect == Defect::SharedErrno => "6.12, 2.6; at times".into(),
            true => "others".into(),
            false => names.join(", "),
        },
        on_kernel: InColumn(defect).to_string(),
        subject: Subject {
            defects: vec![CaseDefect::Kernel(defect)],
            faults: true,
            ..Subject::healthy(driver.unwrap_or(DriverName::Linux612))
        },
    }
}

/// The model of 2003's resize that has only this defect; without one, the resize as it was in
/// 2003, with no journal and no syncs.
pub fn of_resize(name: &str, defect: Option<ResizeDefect>) -> Entry {
    Entry {
        number: None,
        name: name.into(),
        does: match defect {
            Some(defect) => defect.does(),
            None => "The procedure of 2003 as it was, without journal and syncs".into(),
        },
        kernels: "-".into(),
        on_kernel: "-".into(),
        subject: Subject {
            defects: defect.into_iter().map(CaseDefect::Resize).collect(),
            resizer: match defect {
                Some(_) => Resizer::Procedure2003,
                None => Resizer::Spillner2003,
            },
            faults: true,
            ..Subject::healthy(DriverName::Ordered)
        },
    }
}

/// What the searches for one defect came to.
#[derive(Clone, Debug)]
pub struct Row {
    entry: Entry,
    /// Of each search, the cases up to the first finding, it included.
    cases: Vec<Option<u64>>,
    /// How many searches found which kind first.
    kinds: BTreeMap<Kind, usize>,
    /// Requests in the earliest finding when shrunk.
    requests: Option<usize>,
}

impl Row {
    fn median(&self) -> Option<u64> {
        let mut cases: Vec<u64> = self.cases.iter().map(|c| c.unwrap_or(u64::MAX)).collect();
        cases.sort_unstable();
        let median = cases.get((cases.len().max(1) - 1) / 2).copied();
        median.filter(|&cases| cases != u64::MAX)
    }

    /// What is looked for.
    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// How many of the searches find it.
    pub(crate) fn found(&self) -> String {
        let found = self.cases.iter().flatten().count();
        format!("{found}/{SEARCHES}")
    }

    /// As what, the most frequent first.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let kinds: Vec<&str> = kinds.into_iter().map(|(kind, _)| kind.name()).collect();
        kinds.join(", ")
    }

    /// How many cases that takes, of at most `bound`.
    pub(crate) fn cases(&self, bound: u64) -> String {
        match self.median() {
            Some(cases) => cases.to_string(),
            None => format!("not found within {bound}"),
        }
    }

    /// How many requests are left.
    pub(crate) fn requests(&self) -> String {
        self.requests.map_or("-".into(), |n| n.to_string())
    }
}

/// One search: the number of cases it took, and what it found.
#[derive(Clone, Debug)]
pub struct FirstFinding {
    /// Cases run, the one that shows it included.
    pub cases: u64,
    /// The seed of that.
    pub seed: u64,
    /// The case.
    pub case: Case,
    /// What it shows.
    pub violation: Violation,
}

/// Runs cases of `subject` from `seed` on until one shows something wrong.
pub fn first_finding(subject: &Subject, seed: u64, cases: u64) -> Option<FirstFinding> {
    first_until(subject, seed, cases, &|| false)
}

fn first_until(
    subject: &Subject,
    seed: u64,
    cases: u64,
    stop: &dyn Fn() -> bool,
) -> Option<FirstFinding> {
    let mut numbers = (0..cases).take_while(|_| !stop());
    numbers.find_map(|number| {
        let seed = seed.wrapping_add(number);
        let (case, violation) = one_watched(seed, subject, &mut Until(stop)).finding?;
        Some(FirstFinding {
            cases: number + 1,
            seed,
            case: *case,
            violation,
        })
    })
}

/// Who waits for a catalogue.
#[derive(Clone, Copy)]
pub struct Waiting<'a> {
    /// Is told the name of what is measured next.
    pub next: &'a dyn Fn(&str),
    /// Whether to stop: the rows that are complete by then are the result.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Searches for one entry with `jobs` threads, each time through at most `bound` cases. None if
/// that was stopped.
pub(crate) fn measure(
    entry: &Entry,
    jobs: usize,
    bound: u64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Row> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; SEARCHES]);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SEARCHES {
                return;
            }
            let found = first_until(&entry.subject, number as u64 * APART, bound, stop);
            let mut results = match results.lock() {
                Ok(results) => results,
                Err(poisoned) => poisoned.into_inner(),
            };
            results[number] = found;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, SEARCHES) {
            // Those that there are do the work, and this one at the least.
            let started = std::thread::Builder::new().spawn_scoped(scope, work);
            if started.is_err() {
                break;
            }
        }
        work();
    });
    let results = match results.into_inner() {
        Ok(results) => results,
        Err(poisoned) => poisoned.into_inner(),
    };
    let mut kinds = BTreeMap::new();
    for found in results.iter().flatten() {
        *kinds.entry(found.violation.kind).or_default() += 1;
    }
    let earliest = results.iter().flatten().min_by_key(|found| found.cases);
    let requests = earliest.map(|found| {
        let (case, _) = shrink_until(&found.case, &found.violation, found.seed, &stop);
        case.requests()
    });
    if stop() {
        return None;
    }
    Some(Row {
        entry: entry.clone(),
        cases: results
            .iter()
            .map(|found| found.as_ref().map(|found| found.cases))
            .collect(),
        kinds,
        requests,
    })
}

/// The measured catalogue. As text, it is `docs/defects.md`.
#[derive(Clone, Debug)]
pub struct Catalogue {
    bound: u64,
    sections: Vec<(&'static str, Vec<Row>)>,
}

impl Catalogue {
    /// Searches for every defect with `jobs` threads and at most `bound` cases a search.
    pub fn measure(jobs: usize, bound: u64, waiting: Waiting<'_>) -> Catalogue {
        let mut measured = Vec::new();
        for section in sections() {
            let mut rows = Vec::new();
            for entry in &section.entries {
                if (waiting.stop)() {
                    break;
                }
                (waiting.next)(&entry.name);
                rows.extend(measure(entry, jobs, bound, waiting.stop));
            }
            measured.push((section.title, rows));
        }
        Catalogue {
            bound,
            sections: measured,
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.sections.iter().map(|(_, rows)| rows.len()).sum()
    }
}

/// The numbers up to the highest one that no defect has, of the model or of
/// [`NOT_EXPRESSIBLE`].
fn unused_numbers() -> Vec<String> {
    let has = |number: u8| {
        let starts = format!("{number}, ");
        Defect::ALL.iter().any(|defect| defect.number() == number)
            || NOT_EXPRESSIBLE
                .iter()
                .any(|(what, _)| what.starts_with(&starts))
    };
    let highest = Defect::ALL.iter().map(|defect| defect.number()).max();
    let unused = (1..=highest.unwrap_or(0)).filter(|&number| !has(number));
    unused.map(|number| number.to_string()).collect()
}

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# The defects that the fuzzer finds\n\n\
             Made by `ubdlab fuzz --catalogue --output docs/defects.md`: renew it like that, do not\n\
             edit it.\n\n\
             Each row is a driver with this one defect switched on. The fuzzer looks for anything\n\
             wrong, {SEARCHES} times from seeds that are fixed and far apart, through at most {} cases;\n\
             it is not told what to look for. *Cases* is the median of the cases up to the first\n\
             finding. *Found as* is the kind of violation seen first, the most frequent first.\n\
             *Requests* are those that are left in the earliest finding when it is shrunk; 0 means\n\
             that opening the device and reading it, or the resize alone, is enough. More about each,\n\
             and what the model does without it, is said in `driver/src/linux/defects.rs` and\n\
             `harness/src/fuzz/procedure_2003/defects.rs`. With no defect switched on, nothing is found.\n\n\
             `ubdlab fuzz --defect NAME` takes the names: those of the kernels' drivers with\n\
             `--driver linux-6.12` or `linux-2.6`, all others with `--driver ordered`. `spillner-2003` is no\n\
             defect but a resize, which `--resizer spillner-2003` takes. `ubdlab replay --defect NAME` takes\n\
             those of the kernels' drivers, and most of these show only after a crash, with a failing host or\n\
             on a damaged file, of which a replay has none. A defect that one of the two kernels alone has is\n\
             refused with the other one. `requeue-loses-bitmap` needs a pipe that fills: some of the fuzzer's\n\
             cases have a small one, and a replay has one where that defect is named. The real one has room\n\
             for all requests of a device.\n\n\
             *In Linux* names the two models that have a defect, 6.12 and 2.6; *others* are versions\n\
             between them or before: `driver/src/linux/defects.rs` says which. *At times* is a defect of\n\
             both that their models do not have by themselves: with it a model mishears each failure of\n\
             its host, and the kernels few. *On a kernel* says whether `ubdlab fuzz --driver kernel` has\n\
             seen it on a running one, and of which version; what was seen is a finding with its story\n\
             under `docs/findings/`, or `--against` has found it out, as [linux-ubd.md](linux-ubd.md)\n\
             tells. The numbers are those of a list of the driver's defects; {} stand for\n\
             nothing there.\n\n\
             {}",
            self.bound,
            unused_numbers().join(" and "),
            described()
        )?;
        for (title, rows) in &self.sections {
            writeln!(f, "\n## {title}\n")?;
            if rows.is_empty() {
                writeln!(f, "None was measured.")?;
                continue;
            }
            writeln!(
                f,
                "| No. | Defect | What it does wrong | In Linux | On a kernel | Found | Found as | Cases | Requests |"
            )?;
            writeln!(
                f,
                "|----:|--------|--------------------|----------|-------------|-------|----------|------:|---------:|"
            )?;
            for row in rows {
                write_row(f, row, self.bound)?;
            }
        }
        writeln!(f, "\n## What cannot show\n")?;
        for (what, why) in NOT_EXPRESSIBLE {
            writeln!(f, "- {what}: {why}.")?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, bound: u64) -> fmt::Result {
    let number = row.entry.number.map_or(String::new(), |n| n.to_string());
    writeln!(
        f,
        "| {number} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.name(),
        row.entry.does,
        row.entry.kernels,
        row.entry.on_kernel,
        row.found(),
        row.kinds(),
        row.cases(bound),
        row.requests(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::explore::Search;
    use super::*;

    #[test]
    fn the_median_counts_a_search_without_a_finding_as_the_longest() {
        let row = |cases: &[Option<u64>]| Row {
            entry: of_kernel(Defect::FlushNoop),
            cases: cases.to_vec(),
            kinds: BTreeMap::new(),
            requests: None,
        };
        assert_eq!(row(&[Some(3), None, Some(1)]).median(), Some(3));
        assert_eq!(row(&[None, None, Some(1)]).median(), None);
    }

    /// Ctrl-C need not wait for a case whose crash images are many.
    #[test]
    fn a_search_ends_in_the_middle_of_a_case() {
        let subject = of_kernel(Defect::FlushNoop).subject;
        let found = first_finding(&subject, 0, 1).expect("the first case shows it");
        let asked = std::cell::Cell::new(0);
        let begins = || asked.replace(asked.get() + 1) > 0;
        assert!(first_until(&subject, 0, 1, &begins).is_none());
        let search = || Search::for_anything(found.seed);
        assert!(search().of(&found.case).unwrap().is_some());
        let cut_off = search().of_watched(&found.case, &mut Until(&|| true));
        assert!(cut_off.unwrap().is_none());
    }

    #[test]
    fn a_number_without_a_row_is_explained() {
        assert_eq!(unused_numbers(), ["12", "23"]);
    }

    #[test]
    fn a_defect_is_looked_for_in_a_kernel_that_has_it() {
        assert_eq!(
            of_kernel(Defect::V3WideLayout).subject.driver,
            DriverName::Linux26
        );
        assert_eq!(of_kernel(Defect::FlushNoop).kernels, "6.12, 2.6");
        assert_eq!(of_kernel(Defect::EndOfMapOverrun).kernels, "others");
        let at_times = of_kernel(Defect::SharedErrno);
        assert_eq!(at_times.kernels, "6.12, 2.6; at times");
        assert_eq!(at_times.subject.driver, DriverName::Linux612);
    }
}
