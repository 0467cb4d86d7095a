//! `ubdlab bench`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Subcommand;
use driver::size::parse_device_size;
use driver::units::Bytes;
use signal_hook::consts::{SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::bench::{Row, Table, io, lookup, resize};

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
  ubdlab bench io --json
  ubdlab bench resize --only '/16 GiB'")]
pub(super) enum Command {
    Lookup(LookupArgs),
    Io(IoArgs),
    Resize(ResizeArgs),
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
/// pwrite do the same on the same file at the same offsets. Where qemu-img and nbdkit are
/// found, their copy-on-write layers are measured beside it with `qemu-img bench`; where they
/// are not, the row says so.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench io
  ubdlab bench io --only 'I/O thread' --dir /mnt/disk --json")]
pub(super) struct IoArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,
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
    fn directory(&self) -> Result<TempDir, Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new()
            .prefix("ubdlab-bench-")
            .tempdir_in(&parent)
            .map_err(|error| {
                let (parent, error) = (driver::shown(&parent), without_path(&error));
                Failure(format!("{parent}: creating a directory: {error}"))
            })
    }
}

/// Measure resizes and merges beside the programs that do as much with as many bytes
///
/// Devices of 1, 16 and 256 GiB, with what is dirty in extents of 4 KiB or in one piece. Headroom
/// beside `qemu-img resize` of a qcow2 file, rebuild and reflow beside `cp --sparse=always` of the
/// same file and a sync of the copy, merge beside `uml_moo`, each from fresh files in each turn,
/// all of them in the page cache. A reflow under live I/O, with what requests wait. What needs
/// root (file systems that share extents, on loop devices) or other programs says so where it
/// cannot be had. Ends early at Ctrl-C, and removes what it has made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench resize
  ubdlab bench resize --only 'rebuild/16 GiB' --dirty 1G --dir /mnt/disk
  ubdlab bench resize --only growth --json")]
pub(super) struct ResizeArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,

    /// So much is dirty on each device, or half of it, if that is less: 4M to 64G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = dirty)]
    dirty: Bytes,
}

fn dirty(text: &str) -> Result<Bytes, String> {
    let size = parse_device_size(text).map_err(|error| error.to_string())?;
    match (4 << 20..=64 << 30).contains(&size.0) {
        true => Ok(size),
        false => Err(format!("found {size}, expected 4M to 64G")),
    }
}

impl ResizeArgs {
    fn run(&self) -> Result<Verdict, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure(format!("finding this program: {error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Without them the process just ends, and leaves its files.
            let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
        }
        let directory = self.place.directory()?;
        let settings = resize::Settings {
            directory: directory.path(),
            program: &program,
            dirty: self.dirty,
            only: self.common.only.as_deref(),
            stop: &stop,
        };
        let mut rows = Vec::new();
        resize::measure(settings, |more| collect(&mut rows, more)).map_err(Failure::operation)?;
        report(&self.common, &rows)
    }
}

impl IoArgs {
    fn run(&self) -> Result<Verdict, Failure> {
        let directory = self.place.directory()?;
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
        Command::Resize(args) => args.run(),
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
