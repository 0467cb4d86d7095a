//! `ubdlab image map`.

use std::path::{Path, PathBuf};

use driver::cow::SectorState;
use driver::host::HostFile;
use driver::open::ChosenBacking;
use driver::ordered::Ordered;
use driver::shown;
use serde::Serialize;
use userhelper::image::ImageError;
use userhelper::image::map::{MappedRun, mapped_runs};
use userhelper::image::open::{Format, cow_image_file, open_unlocked, open_unlocked_over};
use userhelper::real_files::RealHost;

use crate::strip::Strip;

use super::super::output::{self, Listing};
use super::super::{Failure, Verdict, terminal};
use super::{FormatArgs, InsteadArgs, existing, note, or_raw};

/// List the runs of clean and dirty sectors of a COW file, with their places in the two files
///
/// The backing file that the header names is not opened, whatever the image is, and no lock is
/// taken: this works beside a running UML.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image map root.cow
  ubdlab image map root.cow --json
  ubdlab image map root.cow --draw

Like qemu-img map: depth 0 is the COW file (dirty sectors), 1 the backing file (clean ones). A dirty
run that is a hole of the COW file reads as zeros. With --format raw: the runs of data and the holes
of a raw disk.")]
pub(in super::super) struct Args {
    /// The COW file
    cow: PathBuf,

    #[command(flatten)]
    format: FormatArgs,

    #[command(flatten)]
    instead: InsteadArgs,

    /// Print one JSON array, its fields named with their units
    #[arg(long)]
    json: bool,

    /// Draw the disk as a strip, as wide as the terminal
    #[arg(long, conflicts_with = "json")]
    draw: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    start_bytes: u64,
    length_bytes: u64,
    state: &'static str,
    /// 0 the COW file, 1 the backing file.
    depth: u8,
    /// A hole of the COW file: reads as zeros.
    zero: bool,
    /// Where it starts in that file.
    offset_bytes: u64,
    file: &'a str,
}

struct Files {
    format: Format,
    cow: String,
    backing: String,
}

impl Files {
    /// The two files, their paths written as `name` does.
    fn of(format: Format, cow: &Path, backing: &Path, name: impl Fn(&Path) -> String) -> Files {
        Files {
            format,
            cow: name(cow),
            backing: name(backing),
        }
    }

    fn entry(&self, run: MappedRun) -> Entry<'_> {
        let (state, depth, file) = match run.state {
            SectorState::Dirty if self.format == Format::Raw => ("raw", 0, &self.cow),
            SectorState::Dirty => ("dirty", 0, &self.cow),
            SectorState::Clean => ("clean", 1, &self.backing),
        };
        Entry {
            start_bytes: run.range.start.bytes().0,
            length_bytes: run.range.count.bytes().0,
            state,
            depth,
            zero: run.zero,
            offset_bytes: run.at.0,
            file,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let path = existing(&args.cow)?;
    let format = args.format.format();
    let cow = match args.instead.path()? {
        Some(_) if format == Format::Raw => {
            return Err(ImageError::has_no_backing(&path).into());
        }
        Some(backing) => {
            let raw = args.instead.is_raw();
            let chosen = ChosenBacking {
                path: &backing,
                raw,
            };
            open_unlocked_over(&RealHost, &path, (chosen, args.instead.instead()))?
        }
        None => {
            let opened = open_unlocked(&RealHost, &path, format);
            cow_image_file(&path, opened.map_err(or_raw(format))?)
        }
    };
    note(cow.backing_note());
    if args.draw && format == Format::Raw {
        let why = "a raw disk has no clean and dirty sectors to be drawn";
        return Err(Failure(format!("{}: {why}", shown(&path))));
    }
    if args.draw {
        draw(&cow.device);
        return Ok(Verdict::Good);
    }
    let reading = |error| -> Failure {
        ImageError::host(&path, "reading the data area", driver::units::FileOffset(0))(error).into()
    };
    let runs = mapped_runs(&cow.device).map(|run| run.map_err(reading));
    let (cow_path, backing) = (path.as_path(), cow.backing_path.as_path());
    match args.json {
        true => {
            let whole = |path: &Path| path.to_string_lossy().into_owned();
            list_as_json(&Files::of(format, cow_path, backing, whole), runs)?;
        }
        false => list(&Files::of(format, cow_path, backing, shown), runs)?,
    }
    Ok(Verdict::Good)
}

fn list_as_json(
    files: &Files,
    runs: impl Iterator<Item = Result<MappedRun, Failure>>,
) -> Result<(), Failure> {
    let mut out = Listing::new();
    let mut written = Ok(());
    let mut separator = "[";
    for run in runs {
        let json = serde_json::to_string(&files.entry(run?)).map_err(Failure::operation)?;
        written = written.and_then(|()| out.json(separator, &json));
        if written.is_err() {
            break;
        }
        separator = ",\n ";
    }
    let end = if separator == "[" { "[]\n" } else { "]\n" };
    let written = written.and_then(|()| out.json(end, ""));
    Listing::note(written.and_then(|()| out.finish()));
    Ok(())
}

fn list(
    files: &Files,
    runs: impl Iterator<Item = Result<MappedRun, Failure>>,
) -> Result<(), Failure> {
    let mut out = Listing::new();
    let mut written = out.line(format_args!(
        "{:>16} {:>16} {:>5} {:>16}  file",
        "start", "length", "", "offset"
    ));
    for run in runs {
        let entry = files.entry(run?);
        written = written.and_then(|()| {
            out.line(format_args!(
                "{:>16} {:>16} {:>5} {:>16}  {}{}",
                entry.start_bytes,
                entry.length_bytes,
                entry.state,
                entry.offset_bytes,
                entry.file,
                if entry.zero { " (zeros)" } else { "" },
            ))
        });
        if written.is_err() {
            break;
        }
    }
    Listing::note(written.and_then(|()| out.finish()));
    Ok(())
}

/// The strip, what its characters mean, and what it shows in words.
fn draw<F: HostFile>(device: &Ordered<F>) {
    let characters = terminal::characters();
    let frontier = device.placement().frontier();
    let strip = Strip::of(device.map(), frontier, terminal::width().saturating_sub(1));
    output::line(strip.draw(characters));
    output::line(strip.words());
    output::line(characters.legend());
}
