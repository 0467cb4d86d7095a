//! `ubdlab fuzz --catalogue`.

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::figures::counted;
use crate::fuzz::catalogue::{CASES, Catalogue, Waiting, sections};
use crate::fuzz::doubles;
use crate::judge::JudgesCatalogue;

use super::super::interrupt::{self, Interrupt};
use super::super::output::{self, InLines};
use super::super::output_file::OutputFile;
use super::super::{Failure, Verdict};
use super::quietly;

/// The page.
struct Page(Catalogue, JudgesCatalogue);

/// Names of its own.
impl InLines for Page {}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

/// Measures all rows; where they go, `output` or standard output.
pub(super) fn measure(jobs: usize, output: Option<&Path>) -> Result<Verdict, Failure> {
    let interrupt = Interrupt::catch();
    // A name that nothing can be written to is refused before an hour has gone by.
    let output = output.map(OutputFile::create).transpose()?;
    let searched: usize = sections().iter().map(|section| section.entries.len()).sum();
    let all = searched + doubles::all().count();
    let bar = bar(all);
    let begun = Cell::new(0);
    let next = |name: &str| {
        begun.set(begun.get() + 1);
        bar.set_position(begun.get());
        bar.set_message(name.to_owned());
    };
    let waiting = Waiting {
        next: &next,
        stop: &|| interrupt.is_asked(),
    };
    let page = quietly(|| {
        let catalogue = Catalogue::measure(jobs, CASES, waiting);
        Page(catalogue, JudgesCatalogue::measure(jobs, waiting))
    });
    interrupt::clear_bar();
    let complete = page.0.rows() + page.1.rows();
    if complete < all {
        output::lines(&page);
        let unchanged = match &output {
            Some(file) => format!("; {} is as it was", driver::shown(file.target())),
            None => String::new(),
        };
        output::remark(format_args!(
            "interrupted with {complete} of {} measured{unchanged}",
            counted(all as u64, "row")
        ));
        let signal = interrupt::signal();
        return Ok(signal.map_or(Verdict::Good, Verdict::EndedBySignal));
    }
    match output {
        None => output::lines(&page),
        Some(file) => file.write_whole(page.to_string())?,
    }
    Ok(Verdict::Good)
}

/// Which row is measured, of how many.
fn bar(rows: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(4);
    let bar = ProgressBar::with_draw_target(Some(rows as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{pos} of {len}, {msg:32} {wide_bar} {elapsed}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    interrupt::show(&bar);
    bar
}
