//! The options that every command has that reads a trace, and where the trace comes from: a
//! file, or `-` for standard input.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::trace::{
    self, DeviceChoice, Devices, Event, LeftOut, Nanoseconds, Notes, ReadOptions, Selection,
    TraceError, TraceSource,
};

use crate::figures::{counted, grouped, time, were};
use crate::trace::served::ServedCounts;

use super::Failure;
use super::output_file::cause;
use super::temporary::TemporaryFile;

/// What errors call it.
const STANDARD_INPUT: &str = "standard input";

/// Which part of a trace is read, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reading the trace")]
pub(super) struct Reading {
    /// Which event of a request's life counts, where the trace has several [default: the first
    /// of these that the trace has]
    #[arg(long, value_enum)]
    pub(super) event: Option<EventArg>,
    /// Go on where the recorder says that it lost events; an error otherwise
    #[arg(long)]
    pub(super) allow_lost_events: bool,
    /// Leave out lines and records that are wrong, and count them; an error otherwise
    #[arg(long)]
    pub(super) skip_bad: bool,
    /// Leave out the first N requests, of those that --from and --to let through
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(super) skip: u64,
    /// Take at most N requests
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Take only requests at TIME or later, counted from the trace's first request: 1.5s, 20ms,
    /// 300us, 7ns, or seconds without unit
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) from: Option<Nanoseconds>,
    /// Take only requests before TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) to: Option<Nanoseconds>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum EventArg {
    /// block_rq_issue, blkparse's D: handed to the driver
    Issue,
    /// block_bio_queue, blkparse's Q: asked for by the file system
    Queue,
    /// block_rq_complete, blkparse's C: done
    Complete,
}

impl EventArg {
    fn event(self) -> Event {
        match self {
            EventArg::Issue => Event::Issue,
            EventArg::Queue => Event::Queue,
            EventArg::Complete => Event::Complete,
        }
    }
}

/// The most devices that are named where none of them was asked for.
const MOST_DEVICES_TOLD: usize = 8;

impl Reading {
    pub(super) fn options(&self, devices: Devices) -> ReadOptions {
        ReadOptions {
            devices,
            event: self.event.map(EventArg::event),
            allow_lost_events: self.allow_lost_events,
            skip_bad: self.skip_bad,
        }
    }

    pub(super) fn selection(&self) -> Selection {
        Selection {
            skip: self.skip,
            limit: self.limit,
            from: self.from,
            to: self.to,
        }
    }

    /// What was seen in the trace `path`, all of which was read, if `requests` is 0.
    ///
    /// # Errors
    /// If there are requests in it, and what was asked for has left all of them out.
    pub(super) fn if_nothing_was_read(
        &self,
        path: &Path,
        requests: u64,
        trace: &dyn TraceSource,
    ) -> Result<Option<String>, Failure> {
        // Nothing is what was asked for.
        if requests > 0 || self.limit == Some(0) {
            return Ok(None);
        }
        let (name, notes, left_out) = (name_of(path), trace.notes(), trace.left_out());
        if let Some(why) = self.why_nothing_was_taken(notes, &left_out) {
            return Err(Failure(format!("{}: {why}", driver::shown(name))));
        }
        let nothing = nothing_read(name, notes);
        let others = |asked: Event| notes.events.iter().sum::<u64>() > 0 && !notes.has(asked);
        match self.event.map(EventArg::event).is_some_and(others) {
            true => Err(Failure(nothing)),
            false => Ok(Some(nothing)),
        }
    }

    /// Why no request was taken, if it is because of what was asked for.
    fn why_nothing_was_taken(&self, notes: &Notes, left_out: &LeftOut) -> Option<String> {
        if left_out.requests > 0 {
            return Some(format!(
                "none of {} was taken: --from, --to and --skip leave them out, and the last is at {}",
                counted(left_out.requests, "request"),
                time(left_out.last.0)
            ));
        }
        let choice = left_out.device.as_ref()?;
        if notes.devices.is_empty() {
            return None;
        }
        let more = notes.devices.len().saturating_sub(MOST_DEVICES_TOLD);
        let told = notes.devices.keys().take(MOST_DEVICES_TOLD);
        let mut told: Vec<_> = told.map(ToString::to_string).collect();
        told.extend((more > 0).then(|| format!("and {more} more")));
        let told = told.join(", ");
        Some(format!(
            "no request of device {choice}: the trace has {told}"
        ))
    }

    /// Looks into the trace that `open` opens, as far as its first request, if a part of it is
    /// asked for.
    ///
    /// # Errors
    /// If it has requests, and none of them is in the part. What is wrong with the trace itself is
    /// left to whoever reads it.
    pub(super) fn check_something_is_taken(
        &self,
        path: &Path,
        device: Option<&DeviceChoice>,
        open: impl FnOnce() -> Result<Box<dyn TraceSource>, TraceError>,
    ) -> Result<(), Failure> {
        let is_part = (self.skip, self.from, self.to) != (0, None, None);
        if !is_part && self.event.is_none() && device.is_none() {
            return Ok(());
        }
        let Ok(mut trace) = open() else {
            return Ok(());
        };
        match trace.next() {
            Some(_) => Ok(()),
            None => self.if_nothing_was_read(path, 0, &*trace).map(drop),
        }
    }

    /// Opens the trace, to be read once.
    pub(super) fn open(
        &self,
        path: &Path,
        devices: Devices,
    ) -> Result<Box<dyn TraceSource>, Failure> {
        let options = self.options(devices);
        let opened = match is_standard_input(path) {
            true => trace::open_stream(Path::new(STANDARD_INPUT), std::io::stdin(), &options),
            false => trace::open(path, &options),
        };
        let source = opened.map_err(Failure::operation)?;
        Ok(self.selection().of(source))
    }
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// The file that is read where a trace is named like this: whoever may read it knows the trace.
pub(super) fn file_of(path: &Path) -> &Path {
    match is_standard_input(path) {
        true => Path::new("/dev/stdin"),
        false => path,
    }
}

/// All files that are read where a trace is named like this.
pub(super) fn files_of(path: &Path) -> Vec<PathBuf> {
    match is_standard_input(path) {
        true => vec![file_of(path).to_owned()],
        false => trace::files(path),
    }
}

/// What messages call the trace that is named like this.
fn name_of(path: &Path) -> &Path {
    match is_standard_input(path) {
        true => Path::new(STANDARD_INPUT),
        false => path,
    }
}

/// What was seen in a trace in which there was no request, or none of those asked for.
fn nothing_read(name: &Path, notes: &Notes) -> String {
    let mut seen = Vec::new();
    let mut add = |count: u64, noun: &str, which: &str| {
        if count > 0 {
            seen.push(format!("{}{which}", counted(count, noun)));
        }
    };
    for (event, count) in Event::ALL.into_iter().zip(notes.events) {
        add(count, &format!("{} event", event.word()), "");
    }
    if notes.events == [0; 3] {
        let to_devices = notes.devices.values().map(|counts| counts.requests);
        add(to_devices.sum(), "request", " to other devices");
    }
    add(notes.empty, "request", " of no bytes");
    add(notes.skipped, "bad line or record", "");
    add(notes.others, "line or record", " without a request");
    if seen.is_empty() {
        seen.push("nothing".to_owned());
    }
    let event = match notes.event {
        Some(event) => format!(" (of the {} events)", event.word()),
        None => String::new(),
    };
    let (name, seen) = (driver::shown(name), seen.join(", "));
    format!("{name}: no request was taken{event}; seen were: {seen}")
}

/// A trace that can be opened more than once.
pub(super) enum Rereadable {
    /// A file.
    File(PathBuf),
    /// What came from standard input, kept in a temporary file.
    Kept(TemporaryFile),
}

impl Rereadable {
    /// The trace at `path`; standard input is read to its end and kept.
    pub(super) fn new(path: &Path) -> Result<Rereadable, Failure> {
        if !is_standard_input(path) {
            return Ok(Rereadable::File(path.to_owned()));
        }
        let place = std::env::temp_dir();
        let failed = |error: std::io::Error| {
            let cause = cause(&place, &error);
            Failure(format!(
                "{}: keeping what comes from standard input: {cause}",
                driver::shown(&place)
            ))
        };
        let file = TemporaryFile::new_in(&place).map_err(failed)?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file.as_file()).map_err(failed)?;
        Ok(Rereadable::Kept(file))
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &Path {
        match self {
            Rereadable::File(path) => path,
            Rereadable::Kept(_) => Path::new(STANDARD_INPUT),
        }
    }

    /// Opens it at its start.
    pub(super) fn open(&self, options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
        match self {
            Rereadable::File(path) => trace::open(path, options),
            Rereadable::Kept(file) => {
                let failed = |error| TraceError::Io {
                    place: trace::Place::new(self.name(), driver::units::FileOffset(0)),
                    error,
                };
                // A handle of its own: several readers may be under way.
                let mut own = file.reopen().map_err(failed)?;
                own.seek(SeekFrom::Start(0)).map_err(failed)?;
                trace::open_stream(self.name(), own, options)
            }
        }
    }
}

/// What a reader noticed that is worth a word, a line each.
pub(super) fn noticed(notes: &Notes) -> Vec<String> {
    let mut lines = Vec::new();
    if notes.skipped > 0 {
        let first = notes.first_skipped.as_deref().unwrap_or_default();
        let skipped = counted(notes.skipped, "bad line or record");
        lines.push(format!("skipped     {skipped}; the first: {first}"));
    }
    if notes.empty > 0 {
        let empty = counted(notes.empty, "request");
        lines.push(format!("empty       {empty} of no bytes, passed over"));
    }
    if notes.rounded > 0 {
        lines.push(format!(
            "rounded     {} outward to whole sectors",
            counted(notes.rounded, "request")
        ));
    }
    if notes.earlier > 0 {
        lines.push(format!(
            "earlier     {} with a time before that of the one before, by at most {}",
            counted(notes.earlier, "request"),
            time(notes.earlier_by_at_most.0)
        ));
    }
    if notes.lost > 0 {
        lines.push(format!(
            "lost        the recorder lost events at {}",
            counted(notes.lost, "place")
        ));
    }
    if !notes.served.clients.is_empty() {
        lines.push(clients(&notes.served));
    }
    if !notes.served.failed.is_empty() {
        let failed = notes.served.failed.iter();
        let failed = failed.map(|(word, &count)| format!("{} {word}", grouped(count)));
        lines.push(format!(
            "failed      in the recording: {}",
            failed.collect::<Vec<_>>().join(", ")
        ));
    }
    if notes.served.lost > 0 {
        lines.push(format!(
            "lost        {} not in the trace: the recorder's disk was too slow",
            were(notes.served.lost, "request")
        ));
    }
    lines
}

/// Who asked, on a line: the first clients, and how many others there are.
fn clients(served: &ServedCounts) -> String {
    const NAMED: usize = 8;
    let named = served.clients.iter().take(NAMED);
    let mut all: Vec<_> = named
        .map(|(client, &requests)| format!("{client}: {}", counted(requests, "request")))
        .collect();
    let rest: u64 = served.clients.values().skip(NAMED).sum();
    let rest = rest + served.of_other_clients;
    if rest > 0 {
        all.push(format!("others: {}", counted(rest, "request")));
    }
    format!("clients     {}", all.join("; "))
}

/// `1.5s`, `20ms`, `300us`, `7ns`, or a number of seconds.
pub(super) fn parse_time(text: &str) -> Result<Nanoseconds, String> {
    const UNITS: [(&str, u32); 4] = [("ns", 0), ("us", 3), ("ms", 6), ("s", 9)];
    let unit = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit));
    let (number, digits) = match unit {
        Some((unit, digits)) => (&text[..text.len() - unit.len()], digits as usize),
        None => (text, 9),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let wrong = || format!("found {text:?}, expected a time such as 1.5s, 20ms, 300us or 7ns");
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > digits {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<digits$}")
        .parse()
        .map(Nanoseconds)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ns) in [
            ("1.5s", 1_500_000_000),
            ("2", 2_000_000_000),
            ("0.25", 250_000_000),
            ("20ms", 20_000_000),
            ("0.3ms", 300_000),
            ("300us", 300_000),
            ("7ns", 7),
        ] {
            assert_eq!(parse_time(text), Ok(Nanoseconds(ns)), "{text}");
        }
        for text in ["", "s", "1.5ns", "-1", "1h", "99999999999s", "1,5s"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
