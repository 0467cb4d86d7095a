//! `ubdlab crash --repro`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::bounded;
use driver::shown;
use userhelper::unfinished::{self, Undoable};

use crate::crash::{CannotCrash, End, FindingFile, Shown, said_lines};
use crate::mount::Limits;
use crate::report::crash_finding_page;

use super::super::interrupt::{self, Interrupt};
use super::super::page::PageFile;
use super::super::{Failure, Verdict, output};
use super::limits::Reached;
use super::report::{Repeated, last_lines, repeating};
use super::{Args, failure};

/// Checks the remains of the finding in `file` again, or mounts them.
pub(super) fn repeat(file: &Path, args: &Args) -> Result<Verdict, Failure> {
    let page = PageFile::begin(args.report.as_deref(), None)?;
    let limits = args.limits.limits();
    let failed = |error: CannotCrash| match error {
        CannotCrash::Finding(_) => {
            let Failure(wrong) = failure(error, limits);
            Failure(format!("{}: {wrong}", shown(file)))
        }
        error => failure(error, limits),
    };
    let opened = File::open(file).map_err(|error| not_there(file, &error))?;
    let finding = FindingFile::read(opened, limits);
    let finding = finding.map_err(|error| failed(error.into()))?;
    let interrupt = Interrupt::catch();
    if let Some(directory) = &args.mount {
        let shown = show(&finding, directory, limits, &interrupt);
        return shown.map(|()| Verdict::Good).map_err(failed);
    }
    let (within, directory) = place_of(&finding, args.here, file).map_err(failed)?;
    // The mount lies over it, and so its name is enough.
    let stand_in = StandIn::at(&directory).and_then(|made| Ok((made, directory.canonicalize()?)));
    let (_stand_in, directory) = stand_in.map_err(|error| not_there(&directory, &error))?;
    let stop = interrupt.stop();
    let told = finding.check_again(&directory, &within, limits, args.timeout, stop);
    let told = told.map_err(failed)?;
    let ran = &told.ran;
    for limit in &ran.reached {
        output::remark(Reached::new("the check", *limit, limits).told());
    }
    let was_stopped = ran.end == End::Stopped;
    if ran.end.is_of_no_command() && ran.end.to_string() != finding.end {
        let said = last_lines(&ran.said).join(" / ");
        return Err(Failure(format!(
            "the check could not be run in {}: it {}, and {} when this was found; it said: {said}; \
             what it names has to be there",
            shown(&within),
            ran.end,
            finding.end
        )));
    }
    let repeated = Repeated {
        command: finding.command.clone(),
        check: finding.check.text().to_string_lossy().into_owned(),
        passes: ran.end.is_good(),
        end: ran.end.to_string(),
        found_with_end: finding.end.clone(),
        said: said_lines(&ran.said),
    };
    match args.json {
        true => output::json(&repeated)?,
        false => repeated.print(),
    }
    if let (true, Some(signal)) = (was_stopped, interrupt::signal()) {
        return Ok(Verdict::EndedBySignal(signal));
    }
    page.write(|| {
        let again = repeating(file);
        Ok(crash_finding_page(
            &repeated.command,
            &repeated.check,
            &told,
            &again,
        ))
    })?;
    Ok(match repeated.passes {
        true => Verdict::Good,
        false => Verdict::ViolationFound,
    })
}

/// Where the check runs, and what the remains lie over for it: where this was found or, if it is to
/// be `here`, as there. Nothing that the check names as the directory is a real one.
fn place_of(
    finding: &FindingFile,
    here: bool,
    file: &Path,
) -> Result<(PathBuf, PathBuf), CannotCrash> {
    let (within, directory) = (finding.within()?, finding.directory()?);
    if !here {
        return match std::fs::metadata(&within) {
            Ok(found) if found.is_dir() => Ok((within, directory)),
            found => {
                let why = found.map_or_else(driver::system_words, |_| "no directory".into());
                Err(CannotCrash::Place(format!(
                    "{}: the check runs in {}, where this was found: {why}; make it, with what the \
                     check names there, or --here runs the check in this directory",
                    shown(file),
                    shown(&within)
                )))
            }
        };
    }
    let this = std::env::current_dir().map_err(|error| CannotCrash::Start {
        what: "--here".into(),
        error,
    })?;
    match directory.strip_prefix(&within) {
        Ok(_) if this != within && directory.exists() => Err(CannotCrash::Place(format!(
            "--here: found {}, where this was found and to which its check may lead, expected it \
             not to be there; without --here the check runs there, on what the crash has left",
            shown(&directory)
        ))),
        Ok(named) => {
            let directory = this.join(named);
            Ok((this, directory))
        }
        Err(_) => Ok((this, directory)),
    }
}

/// Mounts the remains until a signal says that it is enough, or somebody else unmounts them.
fn show(
    finding: &FindingFile,
    directory: &Path,
    limits: Limits,
    interrupt: &Interrupt,
) -> Result<(), CannotCrash> {
    let (asks, asked) = bounded(1);
    interrupt.wake(move || {
        let _ = asks.send(());
    });
    let named = finding.named()?;
    let mounted = || {
        output::remark(format_args!(
            "{}: what the crash has left of {}; Ctrl-C takes it away",
            shown(directory),
            shown(&named)
        ));
    };
    let ended = finding.show(directory, limits, mounted, &asked)?;
    if ended == Shown::Unmounted {
        let place = shown(directory);
        output::remark(format_args!("{place}: somebody else has unmounted it"));
    }
    Ok(())
}

/// A directory at an absolute path, made as far as it is not there. What was made goes again,
/// unless somebody has put something into it.
struct StandIn {
    /// The innermost first.
    made: Vec<PathBuf>,
    undoable: Option<Undoable>,
}

impl StandIn {
    fn at(directory: &Path) -> io::Result<StandIn> {
        let missing = directory.ancestors().take_while(|place| !place.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let of_the_signal = made.clone();
        let make = || {
            let mut outermost_first = made.iter().rev();
            let done = outermost_first.try_for_each(std::fs::create_dir);
            match done {
                Ok(()) => Ok(((), move || remove(&of_the_signal))),
                Err(error) => {
                    let _ = remove(&made);
                    Err(error)
                }
            }
        };
        let ((), undoable) = unfinished::do_undoably(make)?;
        Ok(StandIn {
            made,
            undoable: Some(undoable),
        })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(undoable) = self.undoable.take() {
            unfinished::undo(undoable, || remove(&self.made));
        }
    }
}

/// Whether one of these empty directories has gone by this.
fn remove(made: &[PathBuf]) -> bool {
    made.iter()
        .filter(|place| std::fs::remove_dir(place).is_ok())
        .count()
        > 0
}

fn not_there(path: &Path, error: &std::io::Error) -> Failure {
    Failure(format!("{}: {}", shown(path), driver::system_words(error)))
}
