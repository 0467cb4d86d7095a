//! What `ubdlab crash` tells, as a document; `text` says it to a person.

mod text;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::crash::{
    AtMoment, CannotCrash, Checks, CommandLine, Fate, Found, Group, MOST_LINES, Model, Part, Plan,
    Ran, Session, said_lines,
};
use crate::mount::Limits;
use crate::report::{CrashPage, CrashesTold, KeptAs, crash_page};
use crate::sim::RuleMet;

use super::Args;
use super::idle_rules::AsWritten;
use super::limits::Reached;

/// Who looks at what a crash has left.
const A_CHECK: &str = "a check of what a crash has left";

/// What came of a run and its crashes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    command: String,
    check: String,
    model: &'static str,
    /// What was not assumed, by the names of --weaken.
    weakened: Vec<String>,
    seed: u64,
    /// Changes that the command has made.
    changes: u64,
    syncs: u64,
    /// How the command ended, to which something may have failed.
    command_end: CommandEnd,
    /// What was to fail.
    rules: Vec<RuleReport>,
    /// For which limits of ours somebody was told that there is no space.
    #[serde(rename = "limits_reached")]
    reached: Vec<Reached>,
    /// Without a crash, what the check says of the end.
    without_crash: Checked,
    points: u64,
    /// The moments that the run has.
    points_of_run: u64,
    /// Those of the moments at which more can be left than was planned.
    partial_points: u64,
    images: u64,
    /// Images that are different.
    different_images: u64,
    checked_images: u64,
    /// Also where only the shrinking of what was found was.
    stopped_early: bool,
    #[serde(skip)]
    checks_stopped: bool,
    /// Why not all of them are checked, where nobody has stopped that.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_error: Option<String>,
    /// Those of the images that do not pass, those that are alike counted each.
    failed_images: u64,
    /// Those of the different ones that were checked.
    failed_different_images: u64,
    findings: Vec<FindingReport>,
    /// Why they are not shrunk, or not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_shrunk: Option<String>,
    /// What was found beside them, by what the check has said.
    untold: Untold,
    #[serde(skip)]
    for_the_page: ForThePage,
}

/// What a page tells beside it.
#[derive(Debug)]
struct ForThePage {
    model: Model,
    command_ran: Ran,
    without_crash: Ran,
    moments: Vec<AtMoment>,
    groups: Vec<Group>,
}

/// A rule, and what has come of it.
#[derive(Debug, Serialize)]
struct RuleReport {
    rule: AsWritten,
    /// Operations that matched it.
    matched: u64,
    /// Those that it has failed.
    failed: u64,
}

impl RuleReport {
    fn of(met: &RuleMet) -> RuleReport {
        RuleReport {
            rule: AsWritten::of(&met.rule),
            matched: met.matched,
            failed: met.failed,
        }
    }
}

#[derive(Debug, Serialize)]
struct CommandEnd {
    succeeded: bool,
    end: String,
    said: Vec<String>,
}

impl CommandEnd {
    fn of(ran: &Ran) -> CommandEnd {
        CommandEnd {
            succeeded: ran.end.is_good(),
            end: ran.end.to_string(),
            said: said_lines(&ran.said),
        }
    }

    fn told(&self) -> String {
        let and_said = if self.said.is_empty() {
            ""
        } else {
            ", and said:"
        };
        format!("the command {}{and_said}", self.end)
    }
}

#[derive(Debug, Serialize)]
struct Checked {
    passes: bool,
    end: String,
    said: Vec<String>,
}

/// What became of a finding as a file.
#[derive(Debug)]
pub(super) enum Kept {
    NotAskedFor,
    /// It is in this one.
    In(PathBuf),
    /// Why there is none.
    NotWritten(String),
}

impl Kept {
    pub(super) fn is_written(&self) -> bool {
        matches!(self, Kept::In(_))
    }

    /// Why it could not be written.
    pub(super) fn why_not(&self) -> Option<&str> {
        match self {
            Kept::NotWritten(why) => Some(why),
            _ => None,
        }
    }
}

#[derive(Debug, Serialize)]
struct FindingReport {
    /// Images for which the check says this.
    images: u64,
    /// Changes of the command before the crash.
    changes_before: u64,
    after: Option<String>,
    before: Option<String>,
    /// What was not synced.
    unsynced: Vec<Unsynced>,
    /// How many of the first bytes a kill has left of the write that came next.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_before_kill: Option<u64>,
    #[serde(skip)]
    cut_short: Option<Part>,
    check: Checked,
    /// Why it may have lost more than it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_fewest: Option<String>,
    /// Where it was written to.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    file: Option<PathBuf>,
    /// Why it could not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_written: Option<String>,
}

/// JSON has no other bytes than those of text.
fn as_text<S: Serializer>(file: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = file.as_ref().map(|file| file.to_string_lossy());
    text.serialize(serializer)
}

/// Kinds of findings that are only counted.
#[derive(Debug, Serialize)]
struct Untold {
    kinds: u64,
    images: u64,
}

#[derive(Debug, Serialize)]
struct Unsynced {
    change: u64,
    operation: String,
    fate: String,
}

/// Why nothing was crashed, where there is no run that could be told of.
#[derive(Debug, Serialize)]
pub(super) struct NothingCrashed {
    command: String,
    check: String,
    /// As it is said on standard error.
    error: String,
    /// What has not done what it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
    /// How that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<CommandEnd>,
    /// What was to fail.
    rules: Vec<RuleReport>,
    /// For which limits of ours it was told that there is no space.
    #[serde(rename = "limits_reached")]
    reached: Vec<Reached>,
}

impl NothingCrashed {
    pub(super) fn of(error: &CannotCrash, args: &Args, limits: Limits) -> NothingCrashed {
        let words = args.command.split_first();
        let command = words.map(|(program, arguments)| {
            CommandLine::Program(program.clone(), arguments.to_vec()).to_string()
        });
        let nothing = NothingCrashed {
            command: command.unwrap_or_default(),
            check: checked_by(args),
            error: String::new(),
            failed: None,
            end: None,
            rules: Vec::new(),
            reached: Vec::new(),
        };
        let CannotCrash::Failed { what, ran, rules } = error else {
            return nothing;
        };
        let reached = ran.reached.iter();
        NothingCrashed {
            failed: Some(what),
            end: Some(CommandEnd::of(ran)),
            rules: rules.iter().map(RuleReport::of).collect(),
            reached: reached
                .map(|limit| Reached::new(what, *limit, limits))
                .collect(),
            ..nothing
        }
    }

    /// With the reason in the words of standard error.
    pub(super) fn because(self, error: &str) -> NothingCrashed {
        NothingCrashed {
            error: error.to_owned(),
            ..self
        }
    }
}

fn checked_by(args: &Args) -> String {
    let check = args.check.as_ref();
    check.map_or_else(String::new, |it| it.to_string_lossy().into_owned())
}

impl Report {
    fn begin(session: &Session, args: &Args) -> Report {
        let (changes, syncs) = session.changes();
        Report {
            command: session.command().to_string(),
            check: checked_by(args),
            model: match Model::from(args.model) {
                Model::Power => "power",
                Model::Kill => "kill",
            },
            weakened: args.weaken.iter().map(|it| it.name()).collect(),
            seed: args.seed,
            changes,
            syncs,
            command_end: CommandEnd::of(&session.command_ran),
            rules: session.rules.iter().map(RuleReport::of).collect(),
            reached: (session.reached.iter())
                .map(|(who, limit)| Reached::new(who, *limit, session.limits()))
                .collect(),
            without_crash: Checked::of(&session.at_the_end),
            points: 0,
            points_of_run: 0,
            partial_points: 0,
            images: 0,
            different_images: 0,
            checked_images: 0,
            stopped_early: false,
            checks_stopped: false,
            ended_by_error: None,
            failed_images: 0,
            failed_different_images: 0,
            findings: Vec::new(),
            not_shrunk: None,
            untold: Untold {
                kinds: 0,
                images: 0,
            },
            for_the_page: ForThePage {
                model: args.model.into(),
                command_ran: session.command_ran.clone(),
                without_crash: session.at_the_end.clone(),
                moments: Vec::new(),
                groups: Vec::new(),
            },
        }
    }

    /// The check does not pass without a crash either.
    pub(super) fn of_a_bad_end(session: &Session, args: &Args) -> Report {
        Report::begin(session, args)
    }

    pub(super) fn of(
        session: &Session,
        args: &Args,
        plan: &Plan,
        checks: Checks,
        found: Found,
        kept: Vec<Kept>,
    ) -> Report {
        let mut begun = Report::begin(session, args);
        begun.for_the_page.moments = session.by_moment(plan, &checks);
        let by_checks = checks.reached.iter();
        let by_checks = by_checks.map(|limit| Reached::new(A_CHECK, *limit, session.limits()));
        begun.reached.extend(by_checks);
        let failed = checks.failed.iter();
        let alike = failed.map(|it| plan.planned.get(it.planned).map_or(1, |it| it.alike));
        Report {
            points: plan.points,
            points_of_run: plan.points_of_run,
            partial_points: plan.partial_points,
            images: plan.images,
            different_images: plan.planned.len() as u64,
            checked_images: checks.checked,
            stopped_early: checks.stopped || found.stopped,
            checks_stopped: checks.stopped,
            ended_by_error: checks.ended_by,
            failed_images: alike.sum(),
            failed_different_images: checks.failed.len() as u64,
            findings: (found.told.iter().zip(kept))
                .map(|(group, kept)| FindingReport::of(group, kept))
                .collect(),
            not_shrunk: found.not_shrunk,
            untold: Untold {
                kinds: found.untold_kinds,
                images: found.untold_images,
            },
            for_the_page: ForThePage {
                groups: found.told,
                ..begun.for_the_page
            },
            ..begun
        }
    }

    /// The page. `remarks` are what the user was told before.
    pub(super) fn page(&self, remarks: &[String]) -> String {
        let ForThePage {
            model,
            command_ran,
            without_crash,
            moments,
            groups,
        } = &self.for_the_page;
        let kept: Vec<KeptAs> = self.findings.iter().map(FindingReport::kept_as).collect();
        let words = std::env::args_os().skip(1);
        let invocation = CommandLine::Program("ubdlab".into(), words.collect());
        crash_page(&CrashPage {
            invocation: &invocation.to_string(),
            command: &self.command,
            check: &self.check,
            model: *model,
            weakened: &self.weakened,
            changes: self.changes,
            syncs: self.syncs,
            remarks,
            command_ran: (!self.rules.is_empty()).then_some(command_ran),
            without_crash,
            crashes: CrashesTold {
                points: self.points,
                points_of_run: self.points_of_run,
                partial_points: self.partial_points,
                images: self.images,
                different: self.different_images,
                checked: self.checked_images,
                failed: self.failed_images,
                failed_different: self.failed_different_images,
                stopped: self.checks_stopped,
                ended_by: self.ended_by_error.as_deref(),
                moments,
                findings: groups,
                untold: (self.untold.kinds, self.untold.images),
                kept: &kept,
            },
        })
    }

    /// The limits that checks of what a crash had left have reached.
    pub(super) fn reached_by_checks(&self) -> impl Iterator<Item = &Reached> {
        self.reached.iter().filter(|it| it.who == A_CHECK)
    }

    pub(super) fn is_good(&self) -> bool {
        self.without_crash.passes && self.failed_images == 0
    }
}

impl Checked {
    fn of(ran: &Ran) -> Checked {
        Checked {
            passes: ran.end.is_good(),
            end: ran.end.to_string(),
            said: said_lines(&ran.said),
        }
    }
}

impl FindingReport {
    fn of(group: &Group, kept: Kept) -> FindingReport {
        let finding = &group.finding;
        let (file, not_written) = match kept {
            Kept::NotAskedFor => (None, None),
            Kept::In(file) => (Some(file), None),
            Kept::NotWritten(why) => (None, Some(why)),
        };
        let unsynced = finding.at_stake().map(|operation| Unsynced {
            change: operation.number,
            operation: operation.operation.clone(),
            fate: match operation.fate {
                Fate::Safe => "safe".to_owned(),
                Fate::Survived => "survived".to_owned(),
                Fate::Lost => "lost".to_owned(),
                Fate::Torn(part) => format!("torn: {part} survived"),
            },
        });
        FindingReport {
            images: group.images,
            changes_before: finding.point,
            after: finding.after.clone(),
            before: finding.before.clone(),
            unsynced: unsynced.collect(),
            bytes_before_kill: finding.cut_short.map(|part| part.done),
            cut_short: finding.cut_short,
            check: Checked::of(&finding.ran),
            not_fewest: group.not_fewest.map(|why| why.to_string()),
            file,
            not_written,
        }
    }

    /// Nobody has asked for a file of it.
    fn may_be_kept(&self) -> bool {
        self.file.is_none() && self.not_written.is_none()
    }

    /// As the page has it.
    fn kept_as(&self) -> KeptAs {
        match (&self.file, &self.not_written) {
            (Some(file), _) => KeptAs::File {
                again: repeating(file),
            },
            (None, Some(why)) => KeptAs::NotWritten(why.clone()),
            (None, None) => KeptAs::NotAskedFor,
        }
    }
}

/// The command that checks what is in a file again.
pub(super) fn repeating(file: &Path) -> String {
    let word = driver::shell_path(file);
    format!("ubdlab crash --repro {word}")
}

/// What came of a finding that was checked again.
#[derive(Debug, Serialize)]
pub(super) struct Repeated {
    pub(super) command: String,
    pub(super) check: String,
    pub(super) passes: bool,
    pub(super) end: String,
    /// How the check ended when this was found.
    pub(super) found_with_end: String,
    pub(super) said: Vec<String>,
}

/// The last lines that say something.
pub(super) fn last_lines(said: &[u8]) -> Vec<String> {
    let mut lines = said_lines(said);
    lines.drain(..lines.len().saturating_sub(MOST_LINES));
    lines
}
