//! `ubdlab bench`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::bench::{Row, Table, fuzz, io, lookup};

use super::{Failure, Verdict, print, print_json, without_path};

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
  ubdlab bench io --json")]
pub(super) enum Command {
    Lookup(LookupArgs),
    Io(IoArgs),
    Fuzz(FuzzArgs),
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

/// Measure the sector lookup beside the original driver's loop and three crates
///
/// Times are net of reading the random positions. Maps that are empty, full, dirty in 1 % of
/// their sectors in extents of 4 KiB, and in half of them at random; devices of 1 GiB, 256 GiB
/// and 2 TiB. The maps of the largest device take 3 GiB of memory. hi_sparse_bitset holds no
/// more than the smallest one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench lookup
  ubdlab bench lookup --only 'run/50 % random' --json")]
pub(super) struct LookupArgs {
    #[command(flatten)]
    common: Common,
}

/// Measure the way to the host's files beside bare system calls and other programs
///
/// The driver reads and writes a COW file of 256 MiB that is in the page cache; pread and
/// pwrite do the same on the same file at the same offsets. System calls are counted where
/// their number is what matters: of a read across many runs, of a flush behind many writes.
/// Where qemu-img and nbdkit are found, their copy-on-write layers are measured beside it with
/// `qemu-img bench`; where they are not, the row says so. Takes 2 GiB of space and some minutes;
/// for the growth with the size of a device there are files of up to 256 GiB, nearly all holes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench io
  ubdlab bench io --only 'I/O thread' --dir /mnt/disk --json")]
pub(super) struct IoArgs {
    #[command(flatten)]
    common: Common,

    /// Make the files in a new directory below this one, removed at the end
    /// [default: where the system has its temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Measure the fuzzer: crash images a second and core, and where the time goes
///
/// Cases and seeds are fixed, one thread runs them. A crash image counts when it has been
/// built, opened, recovered, read whole and compared. The shares are of the same work with a
/// look at the clock wherever one part of it ends and the next begins.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench fuzz
  ubdlab bench fuzz --only 'share of the time/ordered, all' --json")]
pub(super) struct FuzzArgs {
    #[command(flatten)]
    common: Common,
}

impl IoArgs {
    fn run(&self) -> Result<Verdict, Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("ubdlab-bench-")
            .tempdir_in(&parent)
            .map_err(|error| {
                let (parent, error) = (driver::shown(&parent), without_path(&error));
                Failure(format!("{parent}: creating a directory: {error}"))
            })?;
        let (mut rows, only) = (Vec::new(), self.common.only.as_deref());
        io::measure(directory.path(), only, |more| collect(&mut rows, more))
            .map_err(Failure::operation)?;
        report(&self.common, &rows)
    }
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Lookup(LookupArgs { common }) => {
            let mut rows = Vec::new();
            lookup::measure(common.only.as_deref(), |more| collect(&mut rows, more));
            report(common, &rows)
        }
        Command::Io(args) => args.run(),
        Command::Fuzz(FuzzArgs { common }) => {
            let mut rows = Vec::new();
            fuzz::measure(common.only.as_deref(), |more| collect(&mut rows, more));
            report(common, &rows)
        }
    }
}

fn collect(rows: &mut Vec<Row>, more: Vec<Row>) {
    if let Some(row) = more.first() {
        eprintln!("measured {}", row.name);
    }
    rows.extend(more);
}

fn report(common: &Common, rows: &[Row]) -> Result<Verdict, Failure> {
    match common.json {
        true => print_json(&rows)?,
        false => print(Table(rows)),
    }
    Ok(Verdict::Good)
}
