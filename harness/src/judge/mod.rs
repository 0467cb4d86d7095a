//! The judge's catalogue: for each defective double ([`crate::fuzz::doubles`]), whether the
//! fuzzer's checks and those of a replay see that something is wrong. Everything in it is
//! measured with fixed seeds.

mod replay;

use std::fmt;

use crate::fuzz::case::DriverName;
use crate::fuzz::catalogue::{Entry, Row, SEARCHES, Waiting, measure};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::doubles::{self, Double};
use crate::fuzz::generate::Subject;

pub use replay::{Detection, replay};

/// Cases that a search runs at most.
pub const CASES: u64 = 1_000;

/// What the fuzzer is given to find a double: `ordered` with it, on a host that may fail.
pub fn subject(double: &'static Double) -> Subject {
    Subject {
        defects: vec![CaseDefect::Double(double)],
        faults: true,
        ..Subject::healthy(DriverName::Ordered)
    }
}

/// What was measured of a double.
#[derive(Clone, Debug)]
struct Judged {
    name: &'static str,
    does: &'static str,
    /// What the fuzzer finds, if it has cases in which the double shows.
    row: Option<Row>,
    /// What a replay said of it, if it is put where a replay can see it.
    replay: Option<String>,
}

/// The measured catalogue. As text, it is the last part of `docs/defects.md`.
#[derive(Clone, Debug)]
pub struct JudgesCatalogue(Vec<Judged>);

impl JudgesCatalogue {
    /// Searches for every double with `jobs` threads, and replays with it.
    pub fn measure(jobs: usize, waiting: Waiting<'_>) -> JudgesCatalogue {
        let mut judged = Vec::new();
        for double in doubles::all() {
            if (waiting.stop)() {
                break;
            }
            (waiting.next)(double.name);
            let entry = Entry {
                number: None,
                name: double.name.into(),
                does: double.does.into(),
                kernels: String::new(),
                on_kernel: "-".into(),
                subject: subject(double),
            };
            let row = match double.found_as.is_empty() {
                true => None,
                false => match measure(&entry, jobs, CASES, waiting.stop) {
                    Some(row) => Some(row),
                    None => break,
                },
            };
            judged.push(Judged {
                name: double.name,
                does: double.does,
                row,
                replay: double
                    .replay
                    .map(|disk| replay(Some(double), disk).to_string()),
            });
        }
        JudgesCatalogue(judged)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for JudgesCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## The judge's catalogue\n\n\
             Each row is the `ordered` driver, or a resize under it, with a double put before it that\n\
             does this one thing wrong; `fuzz --defect` takes its name. The rows above measure the search,\n\
             these the checks: what none of them refuses, no search finds. The fuzzer looks for each\n\
             {SEARCHES} times, through at most {CASES} cases. *Replay* is what a replay in memory says of\n\
             it, made for this page: `ubdlab replay` has no option for a double. There *-* is one that was\n\
             not put into a replay, because it needs what such a replay has none of: a crash, a failing\n\
             host, a resize, an image tool or requests of several segments. In the other columns it is\n\
             one that no case of the fuzzer is large enough for. The doubles are in\n\
             `harness/src/fuzz/doubles/`.\n\n\
             | Double | What it does wrong | Found | Found as | Cases | Requests | Replay |\n\
             |--------|--------------------|-------|----------|------:|---------:|--------|"
        )?;
        for Judged {
            name,
            does,
            row,
            replay,
        } in &self.0
        {
            let row = row.as_ref();
            let cell = |of: &dyn Fn(&Row) -> String| row.map_or("-".into(), of);
            writeln!(
                f,
                "| {name} | {does} | {} | {} | {} | {} | {} |",
                cell(&Row::found),
                cell(&Row::kinds),
                cell(&|row| row.cases(CASES)),
                cell(&Row::requests),
                replay.as_deref().unwrap_or("-"),
            )?;
        }
        Ok(())
    }
}
