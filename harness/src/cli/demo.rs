//! `ubdlab demo`: the main job, from beginning to end, with nothing to prepare.

use std::fmt;
use std::path::PathBuf;

use driver::resize::Strategy;
use driver::units::Bytes;

use crate::device::Io;
use crate::figures::{counted, grouped};
use crate::replay::error::ReplayError;
use crate::replay::{Options, PastEnd, Report, ResizeAt, Session, SessionError};
use crate::report::{ReplayPage, replay_page};
use crate::trace::{self, Bundled};

use super::driver_arg::IoArg;
use super::made_files::{
    FILE_OF_DEVICE, elsewhere, fate_of_files, files_in, in_directory, may_be_of_device, told,
};
use super::output::{self, InLines};
use super::own_files::OwnFiles;
use super::page::PageFile;
use super::progress::Shown;
use super::replay::verdict;
use super::{Failure, Verdict, terminal, wrong_usage};

const TRACE_NAME: &str = "ext4-unpack.ubdtrace (part of the program)";

const MIB: u64 = 1 << 20;

/// The disk at first, laid out as Linux lays it out: the bitmap's pages have room for a few
/// megabytes more, and not for any more than that.
const SIZE: Bytes = Bytes(200 * MIB);

/// Replay a recorded trace and grow the disk three times on the way: see it work
///
/// Real recorded I/O is replayed through the ordered driver over a COW file and a backing
/// file. On the way the device grows by headroom (nothing moves), by rebuild (what is dirty is
/// copied into a new file) and by reflow (the data moves within the file while requests are
/// served). Every sector read is compared with an independent model, and so is the whole
/// device at the end and after it was reopened.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab demo
  ubdlab demo --out /tmp/demo && ls -ls /tmp/demo
  ubdlab demo --report demo.html
  ubdlab demo --json

It needs up to 400 MiB of disk space in that directory.")]
pub(super) struct Args {
    /// Make the files in this directory and leave them there
    /// [default: a new temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Who carries out what the device asks of its files
    #[arg(long, value_enum, default_value_t = IoArg::Auto)]
    io: IoArg,

    /// Print the report as one JSON document
    #[arg(long)]
    json: bool,

    /// Write the report as a page, too: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn options(io: Io) -> Options {
    let resize = |request, mib, strategy| ResizeAt {
        request,
        size: Bytes(mib * MIB),
        strategy: Some(strategy),
    };
    Options {
        past_end: PastEnd::Wrap,
        resizes: vec![
            resize(7_500, 208, Strategy::Headroom),
            resize(15_000, 256, Strategy::Rebuild),
            resize(22_500, 320, Strategy::Reflow),
        ],
        alignment: Some(4096),
        io,
        ..Options::as_fast(32)
    }
}

/// The device before, on the way and after each resize, in as many columns as there are.
struct Strips<'a>(&'a Report);

impl InLines for Strips<'_> {}

impl fmt::Display for Strips<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAME: usize = 9;
        let Strips(report) = self;
        let characters = terminal::characters();
        let sights = || report.resizes.iter().flat_map(|resize| &resize.sights);
        let longest = sights().map(|sight| sight.strip.sectors).max().unwrap_or(1);
        let room = terminal::width().saturating_sub(NAME + 2).max(10) as u64;
        for (number, resize) in report.resizes.iter().enumerate() {
            let (number, strategy) = (number + 1, &resize.strategy);
            writeln!(f, "\nthe device at resize {number}, by {strategy}")?;
            for sight in &resize.sights {
                let cells = (room * sight.strip.sectors / longest.max(1)).max(1) as usize;
                let drawn = sight.strip.narrowed(cells).draw(characters);
                writeln!(f, "  {:<NAME$}{drawn}", sight.moment.name())?;
            }
        }
        writeln!(f, "  {}", characters.legend())
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (page, out) = (args.report.as_deref(), args.out.as_deref());
    let own = OwnFiles::new().writing("--report", page);
    if let Err(what) = own.making(FILE_OF_DEVICE, out, may_be_of_device).check() {
        return Ok(wrong_usage(what));
    }
    let open_trace = || Bundled::EXT4_UNPACK.open();
    let page = PageFile::begin(page, out)?;
    let described = open_trace().map_err(Failure::operation)?;
    if !args.json {
        output::line(format_args!(
            "trace      {TRACE_NAME}: {}",
            described.description().text
        ));
    }
    let summary = open_trace()
        .and_then(|mut trace| trace::summarize(trace.as_mut()))
        .map_err(Failure::operation)?;
    let shown = Shown::new(Some(summary.requests));
    let session = Session {
        trace: &open_trace,
        options: options(args.io.into()),
        progress: &|progress| shown.update(progress),
    };
    let kept = args.out.is_some();
    let mut device = String::new();
    let report = in_directory(args.out.as_deref(), |directory| {
        let files = format!("{SIZE}: {}", files_in(directory));
        device = told(&files, Some(fate_of_files(kept)));
        if !args.json {
            output::line(format_args!("device     {device}"));
        }
        session.on_files(directory, Some(SIZE))
    })?
    .map_err(|error| match error {
        SessionError::Replay { error, .. } if matches!(*error, ReplayError::NoSpace { .. }) => {
            let elsewhere = elsewhere(args.out.as_deref());
            Failure(format!("{TRACE_NAME}: {error}: {elsewhere}"))
        }
        error => Failure::operation(error),
    })?;
    drop(shown);
    page.write(|| {
        Ok(replay_page(ReplayPage {
            trace: TRACE_NAME,
            device: &device,
            description: &described.description().text,
            report: &report,
        }))
    })?;
    if args.json {
        output::json(&report)?;
        return Ok(verdict(&report));
    }
    output::lines(&report);
    output::lines(&Strips(&report));
    output::line("");
    let verdict = verdict(&report);
    output::line(match verdict {
        Verdict::Good => format!(
            "Nothing was lost: the disk grew {} on the way, and each of the {} sectors \
             compared shows what it should.",
            counted(report.resizes.len() as u64, "time"),
            grouped(report.sectors_verified)
        ),
        _ => "THE DISK IS NOT WHAT IT SHOULD BE.".to_string(),
    });
    Ok(verdict)
}
