//! What `ubdlab crash` tells, for a person.

use driver::exact_count;

use super::super::super::output;
use super::{Checked, FindingReport, Repeated, Report, Unsynced, repeating};

/// The most operations of a finding that are listed for a person.
const MOST_LISTED: usize = 12;

impl Report {
    pub(in crate::cli::crash) fn print(&self) {
        let Report {
            command,
            changes,
            syncs,
            points,
            images,
            different_images,
            checked_images,
            failed_images,
            ..
        } = self;
        output::line(format_args!(
            "{command}: {} ({})",
            exact_count(*changes, "change"),
            exact_count(*syncs, "sync")
        ));
        if !self.without_crash.passes {
            let end = &self.without_crash.end;
            output::line(format_args!("without any crash, the check {end}"));
            self.without_crash.print();
            output::line(
                "nothing was crashed: what is not fine without a crash tells nothing of one",
            );
            return;
        }
        output::line(format_args!(
            "{}: {} at {}, {different_images} of them different, {checked_images} checked",
            self.model,
            exact_count(*images, "image"),
            exact_count(*points, "moment"),
        ));
        if self.stopped_early {
            output::line("stopped before all were checked");
        }
        if let Some(why) = &self.ended_by_error {
            output::line(format_args!("ended before all were checked: {why}"));
        }
        let is_whole = !self.stopped_early && self.ended_by_error.is_none();
        match failed_images {
            0 if *checked_images == 0 && !is_whole => {}
            0 if !is_whole => output::line("the check passes on those that were checked"),
            0 => output::line("the check passes on all of them"),
            _ => output::line(format_args!(
                "the check does not pass on {}",
                exact_count(*failed_images, "image")
            )),
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
}

impl Checked {
    fn print(&self) {
        for line in &self.said {
            output::line(format_args!("    | {line}"));
        }
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
            said,
            ..
        } = self;
        output::line(format_args!(
            "a crash of {command}: the check {end}: {check}"
        ));
        for line in said {
            output::line(format_args!("    | {line}"));
        }
    }
}
