//! The page of a program that was crashed: what was run and how much of it survives, moment by
//! moment, and for each finding the whole story, from the command's first change to what the check
//! has said of the remains.

use std::fmt::Write;

use driver::host::OperationKind;
use driver::plural;

use crate::crash::{AtMoment, CrashedOperation, Fate, Finding, Group, Model, Ran, Recipe};
use crate::figures::{counted, grouped, were};

use super::page::{Escaped, Page, Verdict};

/// The most moments that the table has.
const MOST_MOMENTS: usize = 60;

/// What a page of a crashed program is made from.
#[derive(Clone, Copy, Debug)]
pub struct CrashPage<'a> {
    /// The whole command that has made the page.
    pub invocation: &'a str,
    /// What was crashed.
    pub command: &'a str,
    /// What has looked at the images.
    pub check: &'a str,
    /// What a crash was.
    pub model: Model,
    /// What was not assumed, by the names of `--weaken`.
    pub weakened: &'a [String],
    /// Changes that the command has made.
    pub changes: u64,
    /// Syncs among them.
    pub syncs: u64,
    /// What else there is to know of the run, a sentence each.
    pub remarks: &'a [String],
    /// What the command did, where something was to fail while it ran.
    pub command_ran: Option<&'a Ran>,
    /// Without a crash, what the check has said of the end.
    pub without_crash: &'a Ran,
    /// What came of the crashes.
    pub crashes: CrashesTold<'a>,
}

/// What came of the crashes.
#[derive(Clone, Copy, Debug)]
pub struct CrashesTold<'a> {
    /// The moments.
    pub points: u64,
    /// Those that the run has.
    pub points_of_run: u64,
    /// Those of the moments at which more can be left than was planned.
    pub partial_points: u64,
    /// The images, those that are alike counted each.
    pub images: u64,
    /// Those that are different.
    pub different: u64,
    /// Those of them that were checked.
    pub checked: u64,
    /// Those that do not pass, with all that are like them.
    pub failed: u64,
    /// Those of the different ones.
    pub failed_different: u64,
    /// Whether the checks were stopped before the end.
    pub stopped: bool,
    /// Why they have ended before the end although nobody has stopped them.
    pub ended_by: Option<&'a str>,
    /// The different images by moment.
    pub moments: &'a [AtMoment],
    /// What was found.
    pub findings: &'a [Group],
    /// Kinds of findings beside these, and the images that show them.
    pub untold: (u64, u64),
    /// For each finding, what became of it as a file.
    pub kept: &'a [KeptAs],
}

/// What became of a finding as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptAs {
    /// Nobody has asked for one.
    NotAskedFor,
    /// There is one.
    File {
        /// The command that checks it again.
        again: String,
    },
    /// Why it could not be written.
    NotWritten(String),
}

/// The page.
pub fn crash_page(what: &CrashPage<'_>) -> String {
    let mut page = head(what);
    let told = &what.crashes;
    page.figures(&[
        ("changes", grouped(what.changes)),
        ("syncs", grouped(what.syncs)),
        ("moments", of_all(told)),
        ("images", grouped(told.images)),
        ("different images", grouped(told.different)),
        ("checked", grouped(told.checked)),
        ("of these, not passing", grouped(told.failed_different)),
        ("of all images, not passing", grouped(told.failed)),
    ]);
    page.section("run", "What was run");
    commands(
        &mut page,
        &[("crashed", what.command), ("check", what.check)],
    );
    if !what.weakened.is_empty() {
        page.paragraph(format_args!("Not assumed: {}.", what.weakened.join(", ")));
    }
    for remark in what.remarks {
        page.paragraph(remark);
    }
    if let Some(ran) = what.command_ran {
        page.paragraph(format_args!("The command {}.", ran.end));
        said(&mut page, "command", ran);
    }
    page.paragraph("All of it again:");
    page.raw(format_args!("<pre>{}</pre>\n", Escaped(what.invocation)));
    page.end_section();
    if !what.without_crash.end.is_good() {
        page.section("without-crash", "The check, without a crash");
        page.paragraph(format_args!("The check {}.", what.without_crash.end));
        said(&mut page, "check", what.without_crash);
        page.end_section();
        return page.finish();
    }
    moments(&mut page, told.moments);
    if let (kinds @ 1.., images) = told.untold {
        page.section("untold", "What is not told");
        page.paragraph(format_args!(
            "{} of findings, on {}, by what the check has said.",
            counted(kinds, "more kind"),
            counted(images, "image")
        ));
        page.end_section();
    }
    for (number, group) in told.findings.iter().enumerate() {
        let title = format!("Finding {} of {}", number + 1, told.findings.len());
        let images = counted(group.images, "image");
        page.section(&format!("finding-{}", number + 1), &title);
        page.paragraph(format_args!(
            "{images}: the check {}.",
            group.finding.ran.end
        ));
        tell(&mut page, &group.finding);
        if let Some(why) = group.not_fewest {
            page.paragraph(format_args!(
                "It may have lost more than it takes: its shrinking was {why}."
            ));
        }
        match told.kept.get(number) {
            Some(KeptAs::File { again }) => {
                page.paragraph("Again:");
                page.raw(format_args!("<pre>{}</pre>\n", Escaped(again)));
            }
            Some(KeptAs::NotWritten(why)) => {
                page.paragraph(format_args!("It could not be written: {why}."));
            }
            Some(KeptAs::NotAskedFor) | None => page.paragraph(
                "It was not kept. With --out DIR the command above writes each finding as a file, \
                 which ubdlab crash --repro checks again.",
            ),
        }
        page.end_section();
    }
    page.finish()
}

/// The page of one finding that was checked again.
pub fn crash_finding_page(command: &str, check: &str, finding: &Finding, again: &str) -> String {
    let title = format!("A crash of {command}");
    let (verdict, headline) = match finding.ran.end.is_good() {
        true => (Verdict::Good, "What the crash has left passes the check"),
        false => (
            Verdict::Bad,
            "What the crash has left does not pass the check",
        ),
    };
    let meaning = format!("The check {}.", finding.ran.end);
    let mut page = Page::new(&title, verdict, headline, &meaning);
    page.section("finding-1", "The crash");
    commands(&mut page, &[("crashed", command), ("check", check)]);
    tell(&mut page, finding);
    page.paragraph("Again:");
    page.raw(format_args!("<pre>{}</pre>\n", Escaped(again)));
    page.end_section();
    page.finish()
}

fn head(what: &CrashPage<'_>) -> Page {
    let title = format!("Crashing {}", what.command);
    let told = &what.crashes;
    if !what.without_crash.end.is_good() {
        return Page::new(
            &title,
            Verdict::Bad,
            "The check does not pass without a crash",
            "Nothing was crashed: what is not fine without a crash tells nothing of one.",
        );
    }
    let how = match what.model {
        Model::Power => "the power was cut, and of what was not synced any part survived",
        Model::Kill => "the processes were killed",
    };
    let mut tried = format!(
        "At {} {} of what the command did {how}. {} checked.",
        of_all(told),
        plural(told.points_of_run, "moment"),
        were(told.checked, "different image"),
    );
    if told.partial_points > 0 {
        let moments = counted(told.partial_points, "moment");
        let _ = write!(tried, " At {moments} more can be left than was looked at.");
    }
    if told.stopped {
        tried += " The checks were stopped before the end.";
    }
    if let Some(why) = told.ended_by {
        let _ = write!(tried, " The checks have ended before the end: {why}.");
    }
    match told.failed_different {
        0 if told.stopped => Page::new(
            &title,
            Verdict::Open,
            "The checks were stopped before they found anything",
            &tried,
        ),
        0 if told.ended_by.is_some() => Page::new(
            &title,
            Verdict::Open,
            "The checks have ended before they found anything",
            &tried,
        ),
        0 => Page::new(
            &title,
            Verdict::Good,
            "What the crashes have left passes the check",
            &tried,
        ),
        failed => {
            let images = counted(told.checked, "different image");
            let verb = if failed == 1 { "does" } else { "do" };
            let headline = format!("{} of {images} {verb} not pass the check", grouped(failed));
            Page::new(&title, Verdict::Bad, &headline, &tried)
        }
    }
}

/// The moments, as in `400 of 3,002` where some are left out.
fn of_all(told: &CrashesTold<'_>) -> String {
    match told.points < told.points_of_run {
        true => format!(
            "{} of {}",
            grouped(told.points),
            grouped(told.points_of_run)
        ),
        false => grouped(told.points),
    }
}

fn commands(page: &mut Page, commands: &[(&str, &str)]) {
    for (name, command) in commands {
        page.raw(format_args!(
            "<p>{}:</p>\n<pre>{}</pre>\n",
            Escaped(name),
            Escaped(command)
        ));
    }
}

/// A table of the moments, or of those at which something does not pass if they are many.
fn moments(page: &mut Page, moments: &[AtMoment]) {
    page.section("moments", "What survived, moment by moment");
    page.paragraph(
        "The images of each moment that no earlier one has left. A moment is left out if each of \
         its images is byte for byte one of an earlier moment.",
    );
    let few = moments.len() <= MOST_MOMENTS;
    let shown = moments.iter().filter(|moment| few || moment.failed > 0);
    let shown: Vec<_> = shown.take(MOST_MOMENTS).collect();
    if shown.len() < moments.len() {
        let others = counted((moments.len() - shown.len()) as u64, "moment");
        page.paragraph(format_args!(
            "Left out are {others}: those at which every image passes, and what exceeds {MOST_MOMENTS}."
        ));
    }
    let mut rows = vec![
        ["after", "images", "do not pass"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(shown.into_iter().map(|moment| {
        let after = match (moment.point.checked_sub(1), &moment.after) {
            (Some(number), Some(after)) => format!("{number}: {after}"),
            _ => "nothing yet".to_owned(),
        };
        vec![after, grouped(moment.different), grouped(moment.failed)]
    }));
    page.table(&rows);
    page.end_section();
}

/// The operations in their order, with those that were lost marked, the crash, and what the check
/// has said.
fn tell(page: &mut Page, finding: &Finding) {
    if finding.left_out > 0 {
        page.paragraph(format_args!(
            "{} that were not at stake are not listed.",
            counted(finding.left_out, "earlier change")
        ));
    }
    page.raw("<ol class=\"story\">\n");
    for operation in &finding.operations {
        let (class, tag) = class_and_tag(operation);
        line(
            page,
            class,
            &tag,
            &format!("{}: {}", operation.number, operation.operation),
        );
    }
    let killed = matches!(finding.recipe, Recipe::Killed | Recipe::KilledWithin(_));
    let crash = match killed {
        true => "the processes are killed",
        false => "the power is cut",
    };
    line(page, "crash", "CRASH", crash);
    match (&finding.before, finding.cut_short) {
        (Some(before), Some(part)) => {
            let what = format!("in the middle of: {before}, of which {part} were done");
            line(page, "remark", "", &what);
        }
        (Some(before), _) => line(page, "remark", "", &format!("before: {before}")),
        (None, _) => line(page, "remark", "", "when the command had ended"),
    }
    let class = match finding.ran.end.is_good() {
        true => "remark",
        false => "found",
    };
    let end = format!("the check {}", finding.ran.end);
    line(page, class, "check", &end);
    page.raw("</ol>\n");
    said(page, "check", &finding.ran);
}

fn line(page: &mut Page, class: &str, tag: &str, text: &str) {
    page.raw(format_args!(
        "<li class=\"{class}\"><span class=\"tag\">{}</span> {}</li>\n",
        Escaped(tag),
        Escaped(text)
    ));
}

fn class_and_tag(operation: &CrashedOperation) -> (&'static str, String) {
    use OperationKind::{SyncData, SyncDirectory};
    match operation.fate {
        Fate::Lost => ("host fate lost", "LOST".to_owned()),
        Fate::Torn(part) => ("host fate lost", format!("TORN, {part}")),
        Fate::Survived => ("host fate kept", "survived".to_owned()),
        Fate::Safe if matches!(operation.kind, SyncData | SyncDirectory) => {
            ("host changes", "sync".to_owned())
        }
        Fate::Safe => ("host", "safe".to_owned()),
    }
}

/// What a check has said, as it is, or the command.
fn said(page: &mut Page, who: &str, ran: &Ran) {
    let said = String::from_utf8_lossy(&ran.said);
    if said.trim().is_empty() {
        page.paragraph(format_args!("The {who} has said nothing."));
        return;
    }
    page.paragraph(format_args!("The {who} has said:"));
    page.raw("<pre>");
    for line in said.lines() {
        page.raw(format_args!("{}\n", Escaped(line)));
    }
    page.raw("</pre>\n");
}
