//! `ubdlab bench`: what its commands have in common. A file for each of them is below.

mod fuzz;
mod io;
mod lookup;
mod replay;
mod resize;

use std::path::PathBuf;

use clap::Subcommand;

use crate::bench::{Row, Table};

use super::interrupt::Interrupt;
use super::output::{self, InLines};
use super::temporary::TemporaryDirectory;
use super::{Failure, Verdict, without_path};

/// Measure the hot paths, each beside what it is made of and beside other programs
///
/// Every row is measured in turns with what it is compared with, several times, and its
/// median is taken: the figures of another run on a busy machine differ, the ratios less so.
/// A ratio says how many times as good as what is beside it the value is. A target that is
/// missed is shown and changes nothing about the exit status.
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
    Fuzz(fuzz::FuzzArgs),
}

/// What all of them take.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Only the rows whose names contain TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

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
            let (parent, error) = (driver::shown(&parent), without_path(&error));
            Failure(format!("{parent}: creating a directory: {error}"))
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
        Command::Fuzz(args) => args.run(),
    }
}

/// A row is a line.
impl InLines for Table<'_> {}

fn collect(rows: &mut Vec<Row>, more: Vec<Row>) {
    if let Some(row) = more.first() {
        output::remark(format_args!("measured {}", row.name));
    }
    rows.extend(more);
}

/// Prints the rows that were asked for: some are measured along with others.
fn report(common: &Common, mut rows: Vec<Row>) -> Result<Verdict, Failure> {
    if let Some(only) = &common.only {
        rows.retain(|row| row.name.contains(only));
        if rows.is_empty() {
            return Err(Failure(format!("no row's name contains '{only}'")));
        }
    }
    match common.json {
        true => output::json(&rows)?,
        false => output::lines(&Table(&rows)),
    }
    Ok(Verdict::Good)
}
