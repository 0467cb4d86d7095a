//! `ubdlab crash`.

mod earlier;
mod failed_operations;
mod idle_rules;
mod limits;
mod report;
mod repro;
mod weaken;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use driver::shown;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::crash::{
    BadFinding, CannotCrash, CommandLine, Group, Model, Options, Replaceable, Session,
};
use crate::mount::{Limits, parse_fault_rule};
use crate::sim::tree::load::CannotLoad;
use crate::sim::{Assumptions, FaultRule};

use super::fuzz::parse_duration;
use super::interrupt::{self, Interrupt};
use super::output_file::{OutputFile, not_created};
use super::own_files::{OwnFiles, json_right_in};
use super::page::PageFile;
use super::{Failure, Verdict, output, wrong_usage};

use failed_operations::failed_operations;
use idle_rules::idle_rules;
use limits::{LimitArgs, Reached};
use report::{Kept, NothingCrashed, Report};
use weaken::OfADirectory;

/// Crash any program that writes files, at every moment of what it does, and check what is left
///
/// DIR is copied into a simulated host in memory, which a FUSE mount shows in its place. COMMAND
/// runs on it, and every change that it makes is written down. Then it is crashed: at each moment
/// the power is cut, of what was not synced any part survives, and the check looks at what is
/// left. DIR itself stays as it is.
///
/// The commands name files as they always do: the mount lies over DIR, in a view of the file system
/// that only they have. It goes with them, however the program ends.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab crash --dir work --check 'qemu-img check -r leaks work/disk.qcow2' \\
    -- qemu-img commit work/top.qcow2
  ubdlab crash --dir work --check 'ubdlab image check --repair work/a.cow' \\
    -- ubdlab image resize work/a.cow +1M
  ubdlab crash --dir db --setup 'sqlite3 db/a \"create table t(x)\"' \\
    --check 'test \"$(sqlite3 db/a \"pragma integrity_check\")\" = ok' \\
    -- sqlite3 db/a 'insert into t values (1)'

A check does first what is done after a power cut: it repairs, recovers, replays a journal.

It takes root, or `unshare --user --map-root-user --mount` before the command, and the kernel's
FUSE. docs/crash.md says what is assumed of a disk.")]
pub(super) struct Args {
    /// The directory that the command works in, which is copied into memory
    #[arg(long, value_name = "DIR", required_unless_present = "repro")]
    dir: Option<PathBuf>,

    /// What looks at each image, in a shell: with status 0 it is fine
    #[arg(long, value_name = "COMMAND", required_unless_present = "repro")]
    check: Option<OsString>,

    /// What runs before, in a shell and without a crash
    ///
    /// What it leaves is durable when COMMAND begins.
    #[arg(long, value_name = "COMMAND")]
    setup: Option<OsString>,

    /// What a crash is
    #[arg(long, value_enum, default_value_t = ModelArg::Power)]
    model: ModelArg,

    /// Assume less of the disk; may be repeated
    ///
    /// What makes no difference to the crashes is refused: what is said of a kill with --model
    /// power, for example.
    #[arg(long, value_enum, value_name = "ASSUMPTION", alias = "assume")]
    weaken: Vec<OfADirectory>,

    /// Let an operation of COMMAND fail, by a rule in JSON; may be repeated
    ///
    /// {"file": {"suffix": ".cow"}, "kind": "sync_data", "occurrence": {"nth": 0},
    /// "fault": "failed_sync"}, for example: docs/crash.md has all that a rule can say. Files are
    /// named as from DIR. COMMAND may then fail, too; what it leaves is crashed and checked like
    /// any other end. A rule that has failed nothing is told of.
    #[arg(long, value_name = "RULE", value_parser = parse_fault_rule)]
    fault: Vec<FaultRule>,

    /// Crash at no more moments than this
    ///
    /// At most 1000000. Of a longer run those around syncs and changes of names come first, and
    /// the others are spread over it.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 400,
        value_parser = clap::value_parser!(u64).range(1..=MOST_POINTS)
    )]
    points: u64,

    /// Look at no more images than this of one moment
    ///
    /// At most 100000. All that can be left, where that is not more. Images that are byte for
    /// byte alike are checked once. Times of files count where COMMAND has set them itself.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 24,
        value_parser = clap::value_parser!(u64).range(1..=MOST_IMAGES)
    )]
    images: u64,

    /// Checks that run at a time, from 1 to 256 [default: the machine's cores]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,

    /// The longest that a command or a check may take: 90s, 5m, or seconds without unit
    ///
    /// A check that takes longer is a finding.
    #[arg(long, value_name = "T", default_value = "60s", value_parser = parse_timeout)]
    timeout: Duration,

    #[command(flatten)]
    limits: LimitArgs,

    /// Choose other images where there are too many of them
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Write each kind of finding into this directory, as a file that --repro takes
    ///
    /// Those of an earlier run that have the same names are replaced. The others stay, and are told
    /// of.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write a page with each finding's story: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "mount")]
    report: Option<PathBuf>,

    /// Check what the crash in this file has left, once more
    ///
    /// The check is a shell command in FILE. Look at a file from somebody else first. It runs in
    /// the directory in which it ran when this was found, which has to be there, with what the
    /// check names beside DIR.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "dir", "check", "setup", "model", "weaken", "fault", "points", "images", "jobs", "seed", "keep", "out",
        "command",
    ])]
    repro: Option<PathBuf>,

    /// Run the check of --repro in this directory, as on another machine
    ///
    /// DIR is beneath it as it was beneath the other one, or in its own place if it was elsewhere.
    #[arg(long, requires = "repro", conflicts_with = "mount")]
    here: bool,

    /// Mount what the crash has left on DIR, which is empty, until Ctrl-C
    ///
    /// SIGTERM and SIGHUP end it, too, with status 0: it has done what it was asked for.
    #[arg(long, value_name = "DIR", requires = "repro", conflicts_with = "json")]
    mount: Option<PathBuf>,

    /// Make DIR what the command has made of it, when it has ended
    ///
    /// DIR stays as it is if the command fails, the check does not pass without a crash, a finding
    /// or the page cannot be written, a signal ends the run, or somebody else has changed DIR
    /// meanwhile. What would be lost is refused before anything runs: mounts beneath DIR, FIFOs,
    /// sockets, devices, extended attributes and hard links to names outside.
    #[arg(long)]
    keep: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// What is crashed, and its arguments
    #[arg(last = true, required_unless_present = "repro", value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModelArg {
    /// The power is cut: of what was not synced any part survives
    Power,
    /// The processes are killed: what they did is there
    Kill,
}

impl From<ModelArg> for Model {
    fn from(model: ModelArg) -> Model {
        match model {
            ModelArg::Power => Model::Power,
            ModelArg::Kill => Model::Kill,
        }
    }
}

/// The most moments.
const MOST_POINTS: u64 = 1_000_000;

/// The most images of one moment.
const MOST_IMAGES: u64 = 100_000;

/// The most images of all moments. What is known of each is kept in memory.
const MOST_PLANNED: u64 = 10_000_000;

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("found no time, in which nothing ends; expected 1s or more".into()),
        found => Ok(found),
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let own = OwnFiles::new()
        .reading("--repro", &args.repro)
        .writing("--report", args.report.as_deref())
        .making("a finding", args.out.as_deref(), may_be_finding);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    if let Some(file) = &args.repro {
        return repro::repeat(file, args);
    }
    let options = match args.options()? {
        Some(options) => options,
        None => return Ok(wrong_usage("COMMAND: found nothing to crash".into())),
    };
    if let Some(wrong) = args
        .wrong_alone()
        .or(args.wrong_together(&options.directory))
    {
        return Ok(wrong_usage(wrong));
    }
    let limits = options.limits;
    let kept = args
        .keep
        .then(|| Replaceable::look(&options.directory, limits.nodes));
    let kept = kept.transpose().map_err(Failure::operation)?;
    let interrupt = Interrupt::catch();
    let (session, told) = crash_and_tell(options, args, &own, &interrupt);
    if let (Some(kept), Some(named)) = (&kept, &args.dir) {
        match (&session, why_it_stays(session.as_ref(), &told)) {
            (Some(session), None) => session
                .keep(kept, interrupt.stop())
                .map_err(|error| failure(error, limits))?,
            (_, why) => {
                let (place, why) = (shown(named), why.unwrap_or("nothing has run"));
                output::remark(format_args!("{place}: it stays as it was: {why}"));
            }
        }
    }
    let is_good = told?;
    Ok(match (interrupt::signal(), is_good) {
        (Some(signal), _) => Verdict::EndedBySignal(signal),
        (None, true) => Verdict::Good,
        (None, false) => Verdict::ViolationFound,
    })
}

/// Why the real directory is not to become what the command has made of it, whatever the way out.
fn why_it_stays(session: Option<&Session>, told: &Result<bool, Failure>) -> Option<&'static str> {
    match (interrupt::signal(), told, session) {
        (Some(_), ..) => Some("a signal has ended the run"),
        // What has failed is said after it.
        (None, told, session) => session
            .and_then(Session::why_not_kept)
            .or(told.is_err().then_some("the run has failed")),
    }
}

/// Runs the command, crashes it, and tells what came of that. The run, if there was one, and
/// whether nothing was found.
fn crash_and_tell(
    options: Options,
    args: &Args,
    own: &OwnFiles,
    interrupt: &Interrupt,
) -> (Option<Session>, Result<bool, Failure>) {
    let limits = options.limits;
    let begin = || -> Result<(PageFile<'_>, Session), Failure> {
        if let Some(directory) = &args.out {
            std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
        }
        let page = PageFile::begin(args.report.as_deref(), None)?;
        match Session::run(options, interrupt.stop()) {
            Ok(session) => Ok((page, session)),
            Err(error) => {
                let document = args.json.then(|| NothingCrashed::of(&error, args, limits));
                let failure = failure(error, limits);
                if let Some(document) = document {
                    output::json(&document.because(&failure.0))?;
                }
                Err(failure)
            }
        }
    };
    match begin() {
        Ok((page, session)) => {
            let told = crash_session(&session, args, own, interrupt, page);
            (Some(session), told)
        }
        Err(failure) => (None, Err(failure)),
    }
}

/// Crashes a run, and tells what came of it: whether nothing was found.
fn crash_session(
    session: &Session,
    args: &Args,
    own: &OwnFiles,
    interrupt: &Interrupt,
    page: PageFile<'_>,
) -> Result<bool, Failure> {
    let mut remarks = remarks(session);
    remarks.iter().for_each(output::remark);
    let (report, failure) = crash(session, args, own, interrupt);
    let of_the_checks: Vec<String> = report.reached_by_checks().map(Reached::told).collect();
    of_the_checks.iter().for_each(output::remark);
    remarks.extend(of_the_checks);
    match args.json {
        true => output::json(&report)?,
        false => report.print(),
    }
    page.write(|| Ok(report.page(&remarks)))?;
    failure.map_or(Ok(report.is_good()), Err)
}

/// The report, and what has kept it from being whole.
fn crash(
    session: &Session,
    args: &Args,
    own: &OwnFiles,
    interrupt: &Interrupt,
) -> (Report, Option<Failure>) {
    let end = session.at_the_end.end;
    if !end.is_good() {
        let why = match end.is_of_no_command() {
            true => format!("the check could not be run: without a crash, it {end}"),
            false => format!("nothing was crashed: without a crash, the check {end}"),
        };
        return (Report::of_a_bad_end(session, args), Some(Failure(why)));
    }
    let planning = bar("planning", "moments");
    let plan = session.plan(interrupt.stop(), &|done, of| {
        planning.set_length(of);
        planning.set_position(done);
    });
    interrupt::clear_bar();
    let bar = bar("checking", "images");
    bar.set_length(plan.planned.len() as u64);
    let progress = |done| bar.set_position(done);
    let checks = session.check(&plan, interrupt.stop(), &progress);
    interrupt::clear_bar();
    let found = session.found(&checks, &plan, interrupt.stop());
    let earlier = args.out.as_deref().map(earlier::numbers_in);
    let write = |(number, group)| match &args.out {
        None => Kept::NotAskedFor,
        Some(directory) => {
            let file = directory.join(earlier::name_of(number));
            let may_be_made = own.check_made(&file).map_err(Failure);
            match may_be_made.and_then(|()| write(session, group, &file)) {
                Ok(()) => Kept::In(file),
                Err(Failure(why)) => Kept::NotWritten(why),
            }
        }
    };
    // Where there is no space for one there may be for another.
    let kept: Vec<Kept> = (1..).zip(&found.told).map(write).collect();
    if let (Some(directory), Some(earlier)) = (&args.out, earlier) {
        let written = (1..).zip(&kept).filter(|(_, kept)| kept.is_written());
        let written: Vec<u64> = written.map(|(number, _)| number).collect();
        let told = earlier::told(directory, &earlier, &written);
        told.iter().for_each(output::remark);
    }
    let not_written = kept.iter().find_map(Kept::why_not);
    let in_the_checks = checks.ended_by.as_deref().or(found.not_shrunk.as_deref());
    let failure = in_the_checks.or(not_written);
    let failure = failure.map(|why| Failure(why.to_owned()));
    let report = Report::of(session, args, &plan, checks, found, kept);
    (report, failure)
}

/// Whether a file at this path below the directory of findings could be one.
fn may_be_finding(below: &Path) -> bool {
    json_right_in(below).is_some_and(|name| name.starts_with("finding-"))
}

fn write(session: &Session, group: &Group, file: &Path) -> Result<(), Failure> {
    let text = serde_json::to_string(&session.file_of(&group.finding));
    let text = text.map_err(Failure::operation)?;
    // It has in it what only the owner may read in the directory.
    OutputFile::create(file)?.private().write_whole(text + "\n")
}

/// What the user should know before the report.
fn remarks(session: &Session) -> Vec<String> {
    let left_out = session.left_out.iter().map(|path| {
        let path = shown(path);
        format!("{path}: left out: neither a file nor a directory nor a symbolic link")
    });
    let injected = failed_operations(&session.injected);
    let idle = idle_rules(&session.rules);
    let limits = session.limits();
    let reached = session.reached.iter();
    let full = reached.map(|(who, limit)| Reached::new(who, *limit, limits).told());
    left_out.chain(injected).chain(idle).chain(full).collect()
}

fn bar(doing: &str, what: &str) -> ProgressBar {
    // Hidden by itself when stderr is no terminal.
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let template = format!("{doing} {{wide_bar}} {{pos}}/{{len}} {what}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    interrupt::show(&bar);
    bar
}

fn failure(error: CannotCrash, limits: Limits) -> Failure {
    let mut text = error.to_string();
    match &error {
        CannotCrash::Failed { what, ran, rules } => {
            let said = report::last_lines(&ran.said);
            if !said.is_empty() {
                text += &format!("; it said: {}", said.join(" / "));
            }
            let reached = ran.reached.iter();
            let reached = reached.map(|limit| Reached::new(what, *limit, limits).told());
            for more in reached.chain(idle_rules(rules)) {
                text += &format!("; {more}");
            }
        }
        CannotCrash::Load(CannotLoad::TooMuch { what, .. }) => {
            text += &format!("; --max-{what} raises that");
        }
        CannotCrash::Finding(wrong) => {
            let raises = match wrong {
                BadFinding::TooMuch { .. } | BadFinding::TooLong { .. } => "--max-bytes",
                BadFinding::TooManyChanges { .. } => "--max-changes",
                BadFinding::TooManyFiles { .. } => "--max-files",
                _ => return Failure(text),
            };
            text += &format!("; {raises} raises that");
        }
        _ => {}
    }
    Failure(text)
}

impl Args {
    /// What is asked for; `None` if nothing is to be crashed.
    fn options(&self) -> Result<Option<Options>, Failure> {
        let (Some(named), Some(check), Some((program, arguments))) =
            (&self.dir, &self.check, self.command.split_first())
        else {
            return Ok(None);
        };
        let at = |path: &Path, error: std::io::Error| {
            Failure(format!("{}: {}", shown(path), driver::system_words(error)))
        };
        let directory = named.canonicalize().map_err(|error| at(named, error))?;
        if !directory.is_dir() {
            let place = shown(named);
            return Err(Failure(format!(
                "{place}: found a file, expected a directory"
            )));
        }
        let within = std::env::current_dir().map_err(|error| at(Path::new("."), error))?;
        let mut assumptions = Assumptions::default();
        for weakening in &self.weaken {
            weakening.apply(&mut assumptions);
        }
        Ok(Some(Options {
            directory,
            within,
            setup: self.setup.clone().map(CommandLine::Shell),
            command: CommandLine::Program(program.clone(), arguments.to_vec()),
            check: CommandLine::Shell(check.clone()),
            model: self.model.into(),
            assumptions,
            faults: self.fault.clone(),
            points: self.points,
            images: self.images,
            jobs: self.jobs(),
            timeout: self.timeout,
            seed: self.seed,
            limits: self.limits.limits(),
        }))
    }

    /// What has no sense by itself.
    fn wrong_alone(&self) -> Option<String> {
        // What a shell makes of a variable that is unset.
        if self
            .command
            .first()
            .is_some_and(|program| program.is_empty())
        {
            return Some("COMMAND: found an empty name, expected that of a program".into());
        }
        // An empty line passes on everything.
        let check = self.check.as_ref()?;
        let is_blank = check.as_encoded_bytes().iter().all(u8::is_ascii_whitespace);
        is_blank.then(|| "--check: found an empty command, expected one that looks at DIR".into())
    }

    /// What cannot be had together.
    fn wrong_together(&self, directory: &Path) -> Option<String> {
        if self.mount.is_some() {
            return Some("--mount: expected --repro with it".into());
        }
        let lacking = self.weaken.iter().find_map(|weakening| {
            let lacks = weakening.lacks(self.model.into(), !self.fault.is_empty())?;
            let name = weakening.name();
            Some(format!(
                "--weaken {name}: found nothing to which it makes a difference, expected {lacks} \
                 with it"
            ))
        });
        if lacking.is_some() {
            return lacking;
        }
        if self.points.saturating_mul(self.images) > MOST_PLANNED {
            return Some(format!(
                "--points {} --images {}: found more than {MOST_PLANNED} images together",
                self.points, self.images
            ));
        }
        let written = [("--out", &self.out), ("--report", &self.report)];
        written
            .into_iter()
            .filter(|_| self.keep)
            .find_map(|(option, path)| {
                let path = path.as_deref()?;
                is_within(path, directory).then(|| {
                let (path, named) = (shown(path), shown(directory));
                format!(
                    "{option} {path}: found a place in {named}, which --keep replaces; expected \
                     another one"
                )
            })
            })
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.map_or_else(cores, |jobs| jobs as usize)
    }
}

/// Whether a path, of which the last parts may not be there yet, leads into a directory.
fn is_within(path: &Path, directory: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().find_map(|part| part.canonicalize().ok());
    real.is_some_and(|real| real.starts_with(directory))
}
