//! What `ubdlab crash` tells, for a person.

use driver::exact_count;

use crate::crash::MOST_LINES;

use super::super::super::output;
use super::{Checked, FindingReport, Repeated, Report, Unsynced, repeating};

/// The most operations of a finding that are listed for a person.
const MOST_LISTED: usize = 12;

impl Report {
    pub(in crate::cli::crash) fn print(&self) {
        self.print_run();
        if !self.without_crash.passes {
            let end = &self.without_crash.end;
            output::line(format_args!("without any crash, the check {end}"));
            self.without_crash.print();
            output::line(
                "nothing was crashed: what is not fine without a crash tells nothing of one",
            );
            return;
        }
        self.print_extent();
        self.print_verdict();
        if self.stopped_early && !self.checks_stopped {
            output::line("stopped before all that was found was shrunk");
        }
        if let Some(why) = &self.not_shrunk {
            output::line(format_args!("what was found is not shrunk: {why}"));
        }
        for (number, finding) in (1..).zip(&self.findings) {
            finding.print(number, self.findings.len());
        }
        if self.untold.kinds > 0 {
            output::line("");
            output::line(format_args!(
                "not told: {}, which say something else on {}",
                exact_count(self.untold.kinds, "further finding"),
                exact_count(self.untold.images, "image")
            ));
        }
        if self.findings.iter().any(FindingReport::may_be_kept) {
            output::line("");
            output::line(
                "not kept: with --out DIR each finding becomes a file, which ubdlab crash --repro \
                 checks again",
            );
        }
    }

    /// What was run.
    fn print_run(&self) {
        output::line(format_args!(
            "{}: {} ({})",
            self.command,
            exact_count(self.changes, "change"),
            exact_count(self.syncs, "sync")
        ));
        if !self.weakened.is_empty() {
            output::line(format_args!("not assumed: {}", self.weakened.join(", ")));
        }
        // Whether it has noticed what has failed.
        if !self.rules.is_empty() {
            output::line(self.command_end.told());
            print_said(&self.command_end.said);
        }
    }

    /// How much of it was crashed.
    fn print_extent(&self) {
        let (points, of_run) = (self.points, self.points_of_run);
        let moments = match points < of_run {
            true => format!("{points} of {}", exact_count(of_run, "moment")),
            false => exact_count(points, "moment"),
        };
        output::line(format_args!(
            "{}: {} at {moments}: {} different, {} checked",
            self.model,
            exact_count(self.images, "image"),
            self.different_images,
            self.checked_images
        ));
        if self.partial_points > 0 {
            output::line(format_args!(
                "at {} more can be left than was looked at (--images)",
                exact_count(self.partial_points, "moment")
            ));
        }
        if self.checks_stopped {
            output::line("stopped before all were checked");
        }
        if let Some(why) = &self.ended_by_error {
            output::line(format_args!("ended before all were checked: {why}"));
        }
    }

    /// What came of it.
    fn print_verdict(&self) {
        let is_whole = !self.checks_stopped && self.ended_by_error.is_none();
        let checked = exact_count(self.checked_images, "different image");
        let failed = self.failed_different_images;
        match failed {
            0 if self.checked_images == 0 && !is_whole => {}
            0 if !is_whole => output::line("the check passes on those that were checked"),
            0 => output::line("the check passes on all of them"),
            _ if !is_whole => output::line(format_args!(
                "the check does not pass on {failed} of the {checked} that were checked"
            )),
            _ => output::line(format_args!(
                "the check does not pass on {failed} of {checked} ({} of all {})",
                self.failed_images, self.images
            )),
        }
    }
}

impl Checked {
    fn print(&self) {
        print_said(&self.said);
    }
}

impl FindingReport {
    fn print(&self, number: usize, of: usize) {
        output::line("");
        output::line(format_args!(
            "finding {number} of {of}: {}: the check {}",
            exact_count(self.images, "image"),
            self.check.end
        ));
        self.check.print();
        match &self.after {
            None => output::line("  crashed before the command had changed anything"),
            Some(after) => output::line(format_args!(
                "  crashed after change {}: {after}",
                self.changes_before.saturating_sub(1)
            )),
        }
        match (&self.before, self.cut_short) {
            (Some(before), Some(part)) => output::line(format_args!(
                "  in the middle of: {before}, of which {part} were done"
            )),
            (Some(before), None) => output::line(format_args!("  before: {before}")),
            (None, _) => output::line("  when the command had ended"),
        }
        let not_survived = self.unsynced.iter().filter(|it| it.fate != "survived");
        let gone: Vec<_> = not_survived.collect();
        let kept = self.unsynced.len() - gone.len();
        let unsynced = exact_count(self.unsynced.len() as u64, "change");
        match (self.unsynced.is_empty(), gone.is_empty()) {
            (true, _) => {}
            (false, true) => output::line(format_args!(
                "  not synced then: {unsynced}, all of which survived"
            )),
            (false, false) => output::line(format_args!(
                "  not synced then: {unsynced}; {kept} survived, and these did not:"
            )),
        }
        for it in gone.iter().take(MOST_LISTED) {
            let Unsynced {
                change,
                operation,
                fate,
            } = it;
            output::line(format_args!("    {change}: {operation}: {fate}"));
        }
        if gone.len() > MOST_LISTED {
            output::line(format_args!("    and {} more", gone.len() - MOST_LISTED));
        }
        if let Some(why) = &self.not_fewest {
            output::line(format_args!(
                "  it may have lost more than it takes: its shrinking was {why}"
            ));
        }
        if let Some(file) = &self.file {
            output::line(format_args!("  again: {}", repeating(file)));
        }
        if let Some(why) = &self.not_written {
            output::line(format_args!("  not written: {why}"));
        }
    }
}

impl Repeated {
    pub(in crate::cli::crash) fn print(&self) {
        let Repeated {
            command,
            check,
            end,
            found_with_end,
            said,
            ..
        } = self;
        output::line(format_args!(
            "a crash of {command}: the check {end}: {check}"
        ));
        print_said(said);
        if found_with_end != end {
            output::line(format_args!("  when this was found it {found_with_end}"));
        }
    }
}

/// The last of these lines.
fn print_said(said: &[String]) {
    let before = said.len().saturating_sub(MOST_LINES);
    if before > 0 {
        let lines = exact_count(before as u64, "line");
        output::line(format_args!("    ({lines} before these)"));
    }
    for line in &said[before..] {
        output::line(format_args!("    | {line}"));
    }
}
