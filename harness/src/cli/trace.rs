//! `ubdlab trace`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use crate::replay::report::{grouped, size};
use crate::trace::{
    Description, DeviceNumber, Event, ReadOptions, Summary, TraceHeader, TraceSource, TraceWriter,
    convert, open, summarize,
};

use super::{Failure, Verdict, print, print_json, without_path};

/// Look at recorded traces, and convert them
///
/// Traces of vscsi (version 1 and 2), ftrace text (block_rq_issue, block_bio_queue or
/// block_rq_complete) and ubdlab's own format are read, told apart by their content.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  ubdlab trace info traces/sqlite-wal.ubdtrace
  ubdlab trace convert recorded.txt recorded.ubdtrace")]
pub(super) enum Command {
    /// Say what a trace is and count what is in it
    #[command(after_long_help = "\
Examples:
  ubdlab trace info traces/sqlite-wal.ubdtrace
  ubdlab trace info recorded.txt --device 7,0 --event queue --json")]
    Info {
        /// The trace: vscsi, ftrace text, or ubdlab's own format, told apart by content
        trace: PathBuf,
        #[command(flatten)]
        reading: Reading,
        /// Print one JSON document, its fields named with their units
        #[arg(long)]
        json: bool,
    },
    /// Convert a trace to ubdlab's own format
    ///
    /// That format is small, can be entered in the middle and keeps flushes, FUA and discards.
    #[command(after_long_help = "\
Examples:
  ubdlab trace convert recorded.txt recorded.ubdtrace --device 7,0
  ubdlab trace convert old.vscsi new.ubdtrace")]
    Convert {
        /// The trace: vscsi, ftrace text, or ubdlab's own format, told apart by content
        source: PathBuf,
        /// The file to be written, in one piece; one that exists is replaced
        target: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
}

/// How a trace is read.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reading {
    /// Take only requests to this device (ftrace only)
    #[arg(long, value_name = "MAJOR,MINOR")]
    device: Option<DeviceNumber>,
    /// Which event of a request's life counts (ftrace only) [default: the first of these that
    /// the trace has]
    #[arg(long, value_enum)]
    event: Option<EventArg>,
    /// Go on where the recorder says that it lost events (ftrace only); an error otherwise
    #[arg(long)]
    allow_lost_events: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EventArg {
    /// block_rq_issue: handed to the driver
    Issue,
    /// block_bio_queue: asked for by the file system
    Queue,
    /// block_rq_complete: done
    Complete,
}

impl Reading {
    fn open(&self, path: &Path) -> Result<Box<dyn TraceSource>, Failure> {
        let options = ReadOptions {
            device: self.device,
            event: self.event.map(|event| match event {
                EventArg::Issue => Event::Issue,
                EventArg::Queue => Event::Queue,
                EventArg::Complete => Event::Complete,
            }),
            allow_lost_events: self.allow_lost_events,
        };
        open(path, &options).map_err(Failure::operation)
    }
}

#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    description: Description,
    #[serde(flatten)]
    summary: Summary,
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Info {
            trace,
            reading,
            json,
        } => info(&mut *reading.open(trace)?, *json),
        Command::Convert {
            source,
            target,
            reading,
        } => convert_to(&mut *reading.open(source)?, target),
    }
}

fn info(trace: &mut dyn TraceSource, json: bool) -> Result<Verdict, Failure> {
    let description = trace.description().clone();
    let summary = summarize(trace).map_err(Failure::operation)?;
    if json {
        print_json(&Info {
            description,
            summary,
        })?;
        return Ok(Verdict::Good);
    }
    let device = match description.device_size {
        Some(sectors) => sectors.bytes().to_string(),
        None => format!(
            "not told; the last request ends at {}",
            size(summary.max_end_sector * 512)
        ),
    };
    print(format_args!(
        "format      {}\nsource      {}\ndevice      {device}\nduration    {}\n\
         requests    {}\n  reads     {} ({})\n  writes    {} ({}), {} with preflush, {} FUA\n  \
         flushes   {}\n  discards  {} ({})\n  zeroes    {} ({})\n",
        description.format,
        description.text,
        summary.duration_ns,
        grouped(summary.requests),
        grouped(summary.reads),
        size(summary.sectors_read * 512),
        grouped(summary.writes),
        size(summary.sectors_written * 512),
        grouped(summary.preflush_writes),
        grouped(summary.fua_writes),
        grouped(summary.flushes),
        grouped(summary.discards),
        size(summary.sectors_discarded * 512),
        grouped(summary.write_zeroes),
        size(summary.sectors_zeroed * 512),
    ));
    Ok(Verdict::Good)
}

/// Converts into a temporary file that takes the target's name when it is whole.
fn convert_to(trace: &mut dyn TraceSource, target: &Path) -> Result<Verdict, Failure> {
    let failed =
        |error: std::io::Error| Failure(format!("{}: writing: {error}", driver::shown(target)));
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::NamedTempFile::new_in(directory).map_err(|error| {
        let cause = without_path(&error);
        Failure(format!("{}: writing: {cause}", driver::shown(target)))
    })?;
    let header = TraceHeader::from(trace.description());
    let out: BufWriter<&File> = BufWriter::new(temporary.as_file());
    let writer = TraceWriter::create(target, out, &header).map_err(Failure::operation)?;
    let (summary, mut out) = convert(trace, writer).map_err(Failure::operation)?;
    out.flush().map_err(failed)?;
    drop(out);
    temporary.as_file().sync_all().map_err(failed)?;
    let len = temporary.as_file().metadata().map_err(failed)?.len();
    let file = temporary
        .persist(target)
        .map_err(|error| failed(error.error))?;
    // A temporary file is its owner's alone; a trace is like any other file.
    set_usual_mode(&file).map_err(failed)?;
    print(format_args!(
        "{}: {} requests in {}\n",
        driver::shown(target),
        grouped(summary.requests),
        size(len)
    ));
    Ok(Verdict::Good)
}

fn set_usual_mode(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
