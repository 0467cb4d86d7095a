//! `ubdlab trace`.

use driver::plural;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use crate::figures::{grouped, size};
use crate::trace::notes::DeviceCounts;
use crate::trace::{
    Description, DeviceChoice, Devices, Event, Notes, Statistics, Summary, TraceSource, statistics,
    summarize,
};

use super::descriptor::is_standard_output;
use super::output;
use super::output_file::OutputFile;
use super::reading::{Reading, file_of, files_of, noticed};
use super::trace_file::{into_file, written};
use super::writing::Writing;
use super::{Failure, Verdict, generate, stat};

/// Look at recorded traces, convert them, and make new ones
///
/// It reads blktrace (binary), the text of blkparse, ftrace, trace-cmd report, perf script and
/// biosnoop, fio iologs, the CSV of MSR Cambridge, SYSTOR '17, Alibaba, Tencent and SPC (UMass),
/// FIU, vscsi, dm-log-writes, and ubdlab's own format and CSV; plain, or compressed with gzip or
/// zstd. They are told apart by their content, so that - can stand for standard input.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  ubdlab trace info traces/sqlite-wal.ubdtrace
  ubdlab trace info sda.blktrace.0
  ubdlab trace convert recorded.txt recorded.ubdtrace")]
pub(super) enum Command {
    /// Say what a trace is, in which units, and count what is in it, for each of its devices
    #[command(after_long_help = "\
Examples:
  ubdlab trace info traces/sqlite-wal.ubdtrace
  ubdlab trace info recorded.txt --device 7,0 --event queue --json
  zstdcat usr_0.csv.zst | ubdlab trace info -")]
    Info {
        /// The trace, or - for standard input
        trace: PathBuf,
        /// Take only requests to this device, named as it is listed here
        #[arg(long, value_name = "DEVICE")]
        device: Option<DeviceChoice>,
        #[command(flatten)]
        reading: Reading,
        /// Print one JSON document, its fields named with their units
        #[arg(long)]
        json: bool,
    },
    /// Say what a trace is like: mix, sizes, sequentiality, working set, overwrites, flushes, hot
    /// regions
    ///
    /// In one pass, in at most some 80 MiB of memory however long the trace: the working set is
    /// counted in blocks of 4 KiB, or larger ones where that would not be enough.
    #[command(after_long_help = "\
Examples:
  ubdlab trace stat traces/sqlite-wal.ubdtrace
  ubdlab trace stat usr_0.csv.gz --json
  ubdlab trace generate - --requests 100000 | ubdlab trace stat -")]
    Stat {
        /// The trace, or - for standard input
        trace: PathBuf,
        /// Take only requests to this device, named as trace info lists it
        #[arg(long, value_name = "DEVICE")]
        device: Option<DeviceChoice>,
        #[command(flatten)]
        reading: Reading,
        /// Print one JSON document, its fields named with their units
        #[arg(long)]
        json: bool,
    },
    Generate(generate::Args),
    /// Convert a trace to ubdlab's own format, to fio's iolog, to blkparse text or to CSV
    ///
    /// ubdlab's own format is small, can be entered in the middle and keeps flushes, FUA and
    /// discards. What another format has no word for becomes something else, and is counted. The
    /// data that dm-log-writes recorded is not kept.
    #[command(after_long_help = "\
Examples:
  ubdlab trace convert recorded.txt recorded.ubdtrace --device 7,0
  ubdlab trace convert sda.blktrace.0 sda.ubdtrace --event queue
  ubdlab trace convert old.vscsi - --as csv --limit 1000 | less
  ubdlab trace convert a.ubdtrace a.iolog --as fio --fio-file disk.img
  fio --name=again --read_iolog=a.iolog --ioengine=psync")]
    Convert {
        /// The trace, or - for standard input
        source: PathBuf,
        /// The file to be written, in one piece; one that exists is replaced. - for standard output
        target: PathBuf,
        /// Take only requests to this device, named as trace info lists it
        #[arg(long, value_name = "DEVICE")]
        device: Option<DeviceChoice>,
        #[command(flatten)]
        writing: Writing,
        #[command(flatten)]
        reading: Reading,
    },
}

/// What `--json` prints.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    description: Description,
    #[serde(flatten)]
    summary: Summary,
    event: Option<&'static str>,
    #[serde(flatten)]
    noticed: Noticed<'a>,
    devices: Vec<DeviceInfo>,
    requests_to_other_devices: u64,
    /// By the client's number, where the trace tells.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    clients: &'a BTreeMap<u32, u64>,
    /// By how they failed in the recording.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failed_requests: &'a BTreeMap<&'static str, u64>,
    /// That the recorder lost.
    lost_requests: u64,
}

/// What `trace stat --json` prints.
#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    statistics: Statistics,
    #[serde(flatten)]
    noticed: Noticed<'a>,
}

/// What [`noticed`] says, as fields.
#[derive(Serialize)]
struct Noticed<'a> {
    skipped_records: u64,
    first_skipped: Option<&'a str>,
    empty_requests: u64,
    rounded_requests: u64,
    earlier_requests: u64,
    earlier_by_at_most_ns: u64,
    lost_events_places: u64,
}

impl Noticed<'_> {
    fn of(notes: &Notes) -> Noticed<'_> {
        Noticed {
            skipped_records: notes.skipped,
            first_skipped: notes.first_skipped.as_deref(),
            empty_requests: notes.empty,
            rounded_requests: notes.rounded,
            earlier_requests: notes.earlier,
            earlier_by_at_most_ns: notes.earlier_by_at_most.0,
            lost_events_places: notes.lost,
        }
    }
}

#[derive(Serialize)]
struct DeviceInfo {
    device: String,
    #[serde(flatten)]
    counts: DeviceCounts,
}

/// Of all devices only where they are told apart afterwards.
fn only(device: Option<&DeviceChoice>) -> Option<Devices> {
    device.cloned().map(Devices::Only)
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Info {
            trace,
            device,
            reading,
            json,
        } => {
            let devices = only(device.as_ref()).unwrap_or(Devices::All);
            info(&mut *reading.open(trace, devices)?, (reading, trace), *json)
        }
        Command::Convert {
            source,
            target,
            device,
            writing,
            reading,
        } => {
            let devices = only(device.as_ref()).unwrap_or_default();
            let mut trace = reading.open(source, devices)?;
            convert_to(&mut *trace, (reading, source), target, writing)
        }
        Command::Stat {
            trace,
            device,
            reading,
            json,
        } => {
            let devices = only(device.as_ref()).unwrap_or_default();
            stat(&mut *reading.open(trace, devices)?, (reading, trace), *json)
        }
        Command::Generate(args) => generate::run(args),
    }
}

fn info(
    trace: &mut dyn TraceSource,
    (reading, path): (&Reading, &Path),
    json: bool,
) -> Result<Verdict, Failure> {
    let summary = summarize(trace).map_err(Failure::operation)?;
    let (description, notes) = (trace.description().clone(), trace.notes());
    let nothing = reading.if_nothing_was_read(path, summary.requests, trace)?;
    nothing.into_iter().for_each(output::remark);
    if json {
        let devices = notes.devices.iter().map(|(device, counts)| DeviceInfo {
            device: device.to_string(),
            counts: *counts,
        });
        output::json(&Info {
            description,
            summary,
            event: notes.event.map(Event::word),
            noticed: Noticed::of(notes),
            devices: devices.collect(),
            requests_to_other_devices: notes.requests_to_other_devices,
            clients: &notes.served.clients,
            failed_requests: &notes.served.failed,
            lost_requests: notes.served.lost,
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
    let compression = match description.compression {
        Some(compression) => format!(", compressed with {compression}"),
        None => String::new(),
    };
    let mut files = match description.files {
        1 => String::new(),
        files => format!(", {files} files"),
    };
    if description.files_left_out > 0 {
        let left_out = description.files_left_out;
        files +=
            &format!(", and {left_out} beside left out: no regular files, or read in another form");
    }
    output::line(format_args!(
        "format      {}{compression}{files}",
        description.format
    ));
    output::line(format_args!(
        "units       times in {}; positions in {}",
        description.units.time, description.units.position
    ));
    if !description.text.is_empty() {
        output::line(format_args!("source      {}", description.text));
    }
    output::line(format_args!("device      {device}"));
    output::line(format_args!("duration    {}", summary.duration_ns));
    print_event(notes);
    print_requests(&summary);
    print_devices(notes);
    noticed(notes).into_iter().for_each(output::line);
    Ok(Verdict::Good)
}

fn stat(
    trace: &mut dyn TraceSource,
    (reading, path): (&Reading, &Path),
    json: bool,
) -> Result<Verdict, Failure> {
    let statistics = statistics(trace).map_err(Failure::operation)?;
    let requests = statistics.summary.requests;
    let nothing = reading.if_nothing_was_read(path, requests, trace)?;
    nothing.into_iter().for_each(output::remark);
    if json {
        output::json(&Counted {
            statistics,
            noticed: Noticed::of(trace.notes()),
        })?;
        return Ok(Verdict::Good);
    }
    output::lines(&stat::Shown(&statistics));
    noticed(trace.notes()).into_iter().for_each(output::line);
    Ok(Verdict::Good)
}

/// Which event was taken, and which others there are.
fn print_event(notes: &Notes) {
    let Some(taken) = notes.event else {
        return;
    };
    if notes.events == [0; 3] {
        let event = taken.word();
        output::line(format_args!(
            "event       {event} makes no difference: this trace does not say which event a line is"
        ));
        return;
    }
    let seen = Event::ALL.into_iter().zip(notes.events);
    let seen = seen.filter(|(_, count)| *count > 0);
    let seen: String = seen
        .map(|(event, count)| format!(" {} {}", grouped(count), event.word()))
        .collect();
    output::line(format_args!("event       {}, of{seen}", taken.word()));
}

fn print_requests(summary: &Summary) {
    let bytes = |sectors: u64| size(sectors.saturating_mul(512));
    output::line(format_args!("requests    {}", grouped(summary.requests)));
    output::line(format_args!(
        "  reads     {} ({})",
        grouped(summary.reads),
        bytes(summary.sectors_read)
    ));
    output::line(format_args!(
        "  writes    {} ({}), {} with preflush, {} FUA",
        grouped(summary.writes),
        bytes(summary.sectors_written),
        grouped(summary.preflush_writes),
        grouped(summary.fua_writes)
    ));
    output::line(format_args!("  flushes   {}", grouped(summary.flushes)));
    for (name, count, sectors) in [
        ("discards", summary.discards, summary.sectors_discarded),
        ("zeroes", summary.write_zeroes, summary.sectors_zeroed),
    ] {
        let (count, bytes) = (grouped(count), bytes(sectors));
        output::line(format_args!("  {name:<9} {count} ({bytes})"));
    }
}

fn print_devices(notes: &Notes) {
    if notes.devices.is_empty() {
        return;
    }
    output::line(format_args!("devices     {}", notes.devices.len()));
    for (device, counts) in &notes.devices {
        output::line(format_args!(
            "  {device:<16} {:>12} {}, {:>10}, ends at {}",
            grouped(counts.requests),
            plural(counts.requests, "request"),
            size(counts.sectors.saturating_mul(512)),
            size(counts.max_end_sector.saturating_mul(512)),
        ));
    }
    if notes.requests_to_other_devices > 0 {
        output::line(format_args!(
            "  others           {:>12} {}",
            grouped(notes.requests_to_other_devices),
            plural(notes.requests_to_other_devices, "request")
        ));
    }
}

/// Converts into `target`, or onto standard output.
fn convert_to(
    trace: &mut dyn TraceSource,
    (reading, source): (&Reading, &Path),
    target: &Path,
    writing: &Writing,
) -> Result<Verdict, Failure> {
    let by_name = is_standard_output(target);
    // A standard output that takes no writes is told of below.
    if by_name && let Ok(output) = OutputFile::create(target) {
        output.not_over(&files_of(source))?;
    }
    if by_name || target == Path::new("-") {
        let out = output::data(writing.is_binary())?;
        let name = Path::new("standard output");
        let converted = output::unless_reader_left(writing.write(trace, name, out))?;
        let Some((summary, losses, _)) = converted else {
            return Ok(Verdict::Good);
        };
        let nothing = reading.if_nothing_was_read(source, summary.requests, trace)?;
        nothing.into_iter().for_each(output::remark);
        // The trace is what is on standard output: what else there is to say goes beside it.
        losses.lines().for_each(output::remark);
        noticed(trace.notes()).into_iter().for_each(output::remark);
        return Ok(Verdict::Good);
    }
    let output = OutputFile::create(target)?.made_from(file_of(source));
    output.not_over(&files_of(source))?;
    let mut nothing = None;
    let converted = into_file(output, |out| {
        let converted = writing.write(trace, target, out)?;
        nothing = reading.if_nothing_was_read(source, converted.0.requests, trace)?;
        Ok(converted)
    })?;
    let Some((summary, losses, len)) = converted else {
        return Ok(Verdict::Good);
    };
    nothing.into_iter().for_each(output::remark);
    output::line(written(target, summary.requests, len));
    losses.lines().for_each(output::line);
    noticed(trace.notes()).into_iter().for_each(output::line);
    Ok(Verdict::Good)
}
