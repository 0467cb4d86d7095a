//! `ubdlab bench`: what its commands have in common. A file for each of them is below.

mod fuzz;
mod io;
mod lookup;
mod replay;
mod resize;
mod serve;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Subcommand;
use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::bench::{BenchError, Only, Row, Settings, Table};
use crate::device::Io;
use crate::locked::locked;

use super::driver_arg::IoArg;
use super::interrupt::{self, Interrupt};
use super::output::{self, InLines};
use super::output_file::cause;
use super::temporary::TemporaryDirectory;
use super::{Failure, Verdict, wrong_usage};

/// Measure the hot paths, each beside what it is made of and beside other programs
///
/// Every row is measured in turns with what it is compared with, several times, and its
/// median is taken: the figures of another run on a busy machine differ, the ratios less so.
/// A ratio says how many times as good as what is beside it the value is. A target that is
/// missed is shown and changes nothing about the exit status. Ctrl-C prints the rows so far.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  ubdlab bench lookup --only '/1 GiB'
  ubdlab bench io --json
  ubdlab bench resize --only '/16 GiB'")]
pub(super) enum Command {
    Lookup(lookup::LookupArgs),
    Io(io::IoArgs),
    Replay(replay::ReplayArgs),
    Resize(resize::ResizeArgs),
    Serve(serve::ServeArgs),
    Fuzz(fuzz::FuzzArgs),
}

/// What all of them take.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// Only the rows whose names contain TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Print the names of the rows, and measure none
    #[arg(long)]
    list: bool,

    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

impl Common {
    fn only(&self) -> Only {
        match self.list {
            true => Only::none(),
            false => Only::containing(self.only.as_deref()),
        }
    }
}

/// Names of rows in a message: a few lines of a terminal.
const NAMES_SHOWN: usize = 6;

/// Where the files are.
#[derive(Debug, clap::Args)]
struct Place {
    /// Make the files in a new directory below this one, removed at the end
    /// [default: where the system has its temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn directory(&self) -> Result<TemporaryDirectory, Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        TemporaryDirectory::new_in(&parent, "ubdlab-bench-").map_err(|error| {
            let (place, cause) = (driver::shown(&parent), cause(&parent, &error));
            Failure(format!("{place}: creating a directory: {cause}"))
        })
    }
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Lookup(args) => args.run(),
        Command::Io(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::Resize(args) => args.run(),
        Command::Serve(args) => args.run(),
        Command::Fuzz(args) => args.run(),
    }
}

/// What benchmarks with other programs measure. What they have started is ended, and what they have
/// made is removed, also at Ctrl-C.
fn with_programs(
    common: &Common,
    place: &Place,
    dirty: Bytes,
    io: Option<IoArg>,
    measure: impl FnOnce(Settings<'_>, &mut dyn FnMut(Vec<Row>)) -> Result<(), BenchError>,
) -> Result<Verdict, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure(format!("finding this program: {error}")))?;
    let interrupt = Interrupt::catch();
    let directory = place.directory()?;
    let only = common.only();
    let settings = Settings {
        directory: directory.path(),
        program: &program,
        dirty,
        io: io.map(Io::from),
        only: &only,
        stop: interrupt.stop(),
    };
    let rows = Rows::new(common);
    match measure(settings, &mut |more| rows.collect(more)) {
        Err(BenchError::Interrupted) => {
            output::remark("interrupted; everything that was made is removed");
        }
        measured => measured.map_err(Failure::operation)?,
    }
    rows.report(&only)
}

/// How much is dirty: 4M to `most`.
fn dirty(text: &str, most: &str) -> Result<Bytes, String> {
    let parsed = |text| parse_device_size(text).map_err(|error| error.to_string());
    let (size, largest) = (parsed(text)?, parsed(most)?);
    match (4 << 20..=largest.0).contains(&size.0) {
        true => Ok(size),
        false => Err(format!("found {size}, expected 4M to {most}")),
    }
}

/// A row is a line.
impl InLines for Table<'_> {}

/// The rows as they come. When a signal ends the process, those that there are by then are printed.
struct Rows {
    common: Common,
    rows: Arc<Mutex<Vec<Row>>>,
}

impl Rows {
    fn new(common: &Common) -> Rows {
        let rows: Arc<Mutex<Vec<Row>>> = Arc::default();
        let (common, so_far) = (common.clone(), Arc::clone(&rows));
        let words = common.clone();
        interrupt::at_end(move || {
            let rows = asked_for(&words, std::mem::take(&mut *locked(&so_far)));
            if rows.is_empty() {
                let before = "interrupted before the first row was measured";
                output::failure(&Failure(before.to_owned()));
            }
            // There is nobody left whom a failure could be reported to.
            let _ = print(&words, &rows).and_then(|()| output::complete());
        });
        Rows { common, rows }
    }

    fn collect(&self, more: Vec<Row>) {
        let first = more.first().map(|row| row.name.clone());
        locked(&self.rows).extend(more);
        if let Some(name) = first {
            output::remark(format_args!("measured {name}"));
        }
    }

    /// Prints the rows that were asked for: some are measured along with others.
    fn report(self, only: &Only) -> Result<Verdict, Failure> {
        interrupt::forget_last_words();
        if self.common.list {
            return list(&self.common, only.refused());
        }
        let rows = asked_for(&self.common, std::mem::take(&mut *locked(&self.rows)));
        if let Some(signal) = interrupt::signal() {
            if rows.is_empty() {
                output::remark("interrupted before the first row was measured");
            }
            print(&self.common, &rows)?;
            return Ok(Verdict::EndedBySignal(signal));
        }
        if let Some(text) = self.common.only.as_deref().filter(|_| rows.is_empty()) {
            return Ok(wrong_usage(no_row(text, &only.refused())));
        }
        print(&self.common, &rows)?;
        Ok(Verdict::Good)
    }
}

/// A text that fits no row: some of the rows that there are.
fn no_row(text: &str, names: &[String]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| format!("'{name}'"))
        .collect();
    let rest = match names.len().saturating_sub(shown.len()) {
        0 => String::new(),
        rest => format!(" and {rest} more, which --list prints"),
    };
    let shown = shown.join(", ");
    format!("no row's name contains '{text}'; there are {shown}{rest}")
}

/// Prints the names of the rows that are asked for.
fn list(common: &Common, mut names: Vec<String>) -> Result<Verdict, Failure> {
    if let Some(only) = &common.only {
        names.retain(|name| name.contains(only));
    }
    match common.json {
        true => output::json(&names)?,
        false => names.iter().for_each(output::line),
    }
    Ok(Verdict::Good)
}

fn asked_for(common: &Common, mut rows: Vec<Row>) -> Vec<Row> {
    if let Some(only) = &common.only {
        rows.retain(|row| row.name.contains(only));
    }
    rows
}

fn print(common: &Common, rows: &[Row]) -> Result<(), Failure> {
    match common.json {
        true => output::json(&rows)?,
        false => output::lines(&Table(rows)),
    }
    Ok(())
}
