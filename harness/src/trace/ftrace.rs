//! Text of the kernel's tracefs, from `trace` or `trace_pipe`, with block events.
//!
//! ```text
//!    mount-17690   [001] .....  1286.999735: block_rq_issue: 7,0 RA 4096 () 0 + 8 be,0,4 [mount]
//!   umount-8821    [001] .....  1371.187017: block_bio_queue: 7,0 WFSM 2 + 2 [umount]
//! kworker/0:1-9    [000] ..s..  1100.626179: block_rq_complete: 7,0 RA () 0 + 8 be,0,4 [0]
//! ```
//!
//! Older kernels print no priority. Lines of other events are skipped, as
//! are comments (`#`). Two comments that `traces/record.sh` writes on top are read:
//! `# ubdlab: device_size_sectors=N` and `# ubdlab: description=TEXT`.

use std::fmt;
use std::io::BufRead;
use std::path::Path;
use std::str::FromStr;

use driver::units::{FileOffset, Sector, SectorCount};

use super::error::{Place, TraceError, excerpt};
use super::input::Input;
use super::record::MAX_END_SECTOR;
use super::rwbs;
use super::{Description, Format, Nanoseconds, ReadOptions, Record, TraceOperation, TraceSource};

/// Longer lines are refused. The kernel's own are below a page.
pub const MAX_LINE_LEN: usize = 4096;

const LINE_EXPECTED: &str = "a line like \"comm-pid [cpu] flags seconds: event: fields\"";

/// A moment in a request's life. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// `block_rq_issue`: handed to the driver, after merging. If the device has no
    /// FUA, a preflush and FUA have become flushes of their own here.
    Issue,
    /// `block_bio_queue`: as the file system asked, before merging and splitting.
    Queue,
    /// `block_rq_complete`: finished. A write with preflush may show twice here.
    Complete,
}

impl Event {
    const ALL: [Event; 3] = [Event::Issue, Event::Queue, Event::Complete];

    /// The kernel's name of the event.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Issue => "block_rq_issue",
            Event::Queue => "block_bio_queue",
            Event::Complete => "block_rq_complete",
        }
    }

    fn from_name(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// The kernel's number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device among the driver's.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.major, self.minor)
    }
}

/// `8,0` as in the trace, or `8:0` as lsblk prints it.
impl FromStr for DeviceNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceNumber, String> {
        let parse = || {
            let (major, minor) = text.split_once([',', ':'])?;
            Some(DeviceNumber {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("\"{text}\" is not a device number such as 8,0"))
    }
}

/// The three parts of a line that matter.
struct Line<'a> {
    time: Nanoseconds,
    event: Option<Event>,
    fields: &'a str,
}

impl Line<'_> {
    /// Looks for `[cpu]`, then `seconds:`, then `event:`; the command's name in
    /// front may contain anything, spaces and brackets included.
    fn parse(text: &str) -> Option<Line<'_>> {
        let (mut rest, mut seen_cpu) = (text, false);
        loop {
            rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            if word.is_empty() {
                return None;
            }
            rest = behind;
            if seen_cpu && let Some(time) = word.strip_suffix(':').and_then(parse_seconds) {
                let rest = rest.trim_start();
                let (name, fields) = rest.split_once(": ").unwrap_or((rest, ""));
                return Some(Line {
                    time,
                    event: Event::from_name(name),
                    fields,
                });
            }
            let cpu = word
                .strip_prefix('[')
                .and_then(|word| word.strip_suffix(']'));
            seen_cpu |= cpu.is_some_and(|cpu| cpu.parse::<u32>().is_ok());
        }
    }
}

/// `1286.999735`: seconds, and a fraction of one to nine digits.
fn parse_seconds(text: &str) -> Option<Nanoseconds> {
    let (seconds, fraction) = text.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=9).contains(&fraction.len()) || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let scale = 10_u64.pow(9 - fraction.len() as u32);
    let fraction = fraction.parse::<u64>().ok()? * scale;
    let whole = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    Some(Nanoseconds(whole.checked_add(fraction)?))
}

/// The fields of a block event.
struct Fields<'a> {
    device: DeviceNumber,
    letters: &'a str,
    start: Sector,
    count: SectorCount,
}

impl Fields<'_> {
    fn parse(event: Event, text: &str) -> Option<Fields<'_>> {
        let (device, rest) = text.split_once(' ')?;
        let (letters, mut rest) = rest.split_once(' ')?;
        if event == Event::Issue {
            let (bytes, behind) = rest.split_once(' ')?;
            bytes.parse::<u64>().ok()?;
            rest = behind;
        }
        if event != Event::Queue {
            // The bytes of a SCSI command, or nothing, between parentheses.
            rest = rest.strip_prefix('(')?.split_once(") ")?.1;
        }
        let (start, rest) = rest.split_once(" + ")?;
        let (count, rest) = rest.split_once(' ')?;
        // The command's name or the status at the end shows that nothing is cut off.
        if !rest.contains('[') || !rest.trim_end().ends_with(']') {
            return None;
        }
        Some(Fields {
            device: device.parse().ok()?,
            letters,
            start: Sector(start.parse().ok()?),
            count: SectorCount(count.parse().ok()?),
        })
    }

    const fn expected(event: Event) -> &'static str {
        match event {
            Event::Issue => "\"major,minor RWBS bytes () sector + count prio [comm]\"",
            Event::Queue => "\"major,minor RWBS sector + count [comm]\"",
            Event::Complete => "\"major,minor RWBS () sector + count prio [status]\"",
        }
    }
}

/// A line that is no event: empty, or a comment.
fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || line.starts_with(b"#")
}

/// `CPU:1 [LOST 23 EVENTS]`
fn is_lost_events(line: &[u8]) -> bool {
    line.starts_with(b"CPU:") && line.trim_ascii().ends_with(b"EVENTS]")
}

/// Whether `prefix` begins a trace of this kind: its first line that is no comment
/// is an event, or there is none and the kernel's own comment is there.
pub(super) fn detect(prefix: &[u8]) -> bool {
    let mut lines = prefix.split_inclusive(|byte| *byte == b'\n');
    let first = lines.find(|line| !is_comment(line) && !is_lost_events(line));
    match first {
        Some(line) => Line::parse(&String::from_utf8_lossy(line)).is_some(),
        None => prefix.windows(9).any(|window| window == b"# tracer:"),
    }
}

/// Reads the text of an ftrace.
#[derive(Debug)]
pub struct FtraceReader<R> {
    input: Input<R>,
    description: Description,
    options: ReadOptions,
    line: Vec<u8>,
    line_number: u64,
    first_time: Option<Nanoseconds>,
    device_was_chosen: bool,
    ended: bool,
}

impl<R: BufRead + Send> FtraceReader<R> {
    /// A reader of `reader`, which is at the start; `window` is what it begins with,
    /// some 64 KiB of it, in which the event to use and our comments are looked for.
    pub fn new(
        name: &Path,
        reader: R,
        window: &[u8],
        options: &ReadOptions,
    ) -> Result<FtraceReader<R>, TraceError> {
        let mut this = FtraceReader {
            input: Input::new(name, reader),
            description: Description {
                format: Format::Ftrace.name(),
                device_size: None,
                text: String::new(),
            },
            options: *options,
            line: Vec::new(),
            line_number: 0,
            first_time: None,
            device_was_chosen: options.device.is_some(),
            ended: false,
        };
        let mut seen = None;
        let mut offset = 0;
        for (index, line) in window.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line_number = index as u64 + 1;
            let text = String::from_utf8_lossy(line);
            if let Some(comment) = text.strip_prefix("# ubdlab: ") {
                this.take_comment(comment.trim_end(), offset, line_number)?;
            } else if let Some(event) = Line::parse(&text).and_then(|line| line.event) {
                seen = Some(seen.map_or(event, |seen: Event| seen.min(event)));
            }
            offset += line.len() as u64;
        }
        this.options.event = options.event.or(seen);
        Ok(this)
    }

    /// The event that is read; `None` as long as it is open and none has been seen.
    pub fn event(&self) -> Option<Event> {
        self.options.event
    }

    fn take_comment(&mut self, comment: &str, offset: u64, line: u64) -> Result<(), TraceError> {
        match comment.split_once('=') {
            Some(("description", text)) => self.description.text = text.to_owned(),
            Some(("device_size_sectors", text)) => {
                let size = text.parse().ok();
                let size = size.filter(|size| (1..=MAX_END_SECTOR.0).contains(size));
                let size = size.ok_or_else(|| TraceError::Bad {
                    place: Place {
                        line: Some(line),
                        ..self.input.place(FileOffset(offset))
                    },
                    found: excerpt(text.as_bytes()),
                    expected: "a number of sectors from 1 to 2^54".to_owned(),
                })?;
                self.description.device_size = Some(SectorCount(size));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads lines up to the next record.
    fn read(&mut self) -> Result<Option<Record>, TraceError> {
        loop {
            let offset = self.input.offset();
            let mut line = std::mem::take(&mut self.line);
            self.input.read_line(&mut line, MAX_LINE_LEN as u64 + 1)?;
            self.line_number += 1;
            let at_end = line.is_empty();
            let record = self.record(offset, &line);
            self.line = line;
            match record? {
                Some(record) => return Ok(Some(record)),
                None if at_end => return Ok(None),
                None => {}
            }
        }
    }

    /// The record in a line, if it has one.
    fn record(&mut self, offset: FileOffset, line: &[u8]) -> Result<Option<Record>, TraceError> {
        let place = || Place {
            line: Some(self.line_number),
            ..self.input.place(offset)
        };
        let bad = |found: String, expected: &str| TraceError::Bad {
            place: place(),
            found,
            expected: expected.to_owned(),
        };
        // A line that is wrong and has no line feed is one that the end cut.
        let complete = line.ends_with(b"\n");
        let wrong = |expected: &str| match complete {
            true => bad(excerpt(line.trim_ascii()), expected),
            false => TraceError::Cut {
                place: place(),
                found: format!("{} and no line feed", excerpt(line)),
                expected: expected.to_owned(),
            },
        };
        if line.len() > MAX_LINE_LEN && !complete {
            let found = format!("a line that begins with {}", excerpt(line));
            return Err(bad(
                found,
                &format!("at most {MAX_LINE_LEN} bytes in a line"),
            ));
        }
        if is_comment(line) {
            return Ok(None);
        }
        if is_lost_events(line) {
            return match self.options.allow_lost_events {
                true => Ok(None),
                false => Err(bad(excerpt(line.trim_ascii()), "a recording without gaps")),
            };
        }
        let text = String::from_utf8_lossy(line);
        let Some(line) = Line::parse(&text) else {
            return Err(wrong(LINE_EXPECTED));
        };
        let Some(event) = line.event else {
            return Ok(None);
        };
        if *self.options.event.get_or_insert(event) != event {
            return Ok(None);
        }
        let Some(fields) = Fields::parse(event, line.fields) else {
            return Err(wrong(&format!(
                "{}: {}",
                event.name(),
                Fields::expected(event)
            )));
        };
        let first = *self.options.device.get_or_insert(fields.device);
        if first != fields.device {
            return match self.device_was_chosen {
                true => Ok(None),
                false => Err(TraceError::SeveralDevices {
                    place: place(),
                    first,
                    second: fields.device,
                }),
            };
        }
        let Some(rwbs) = rwbs::parse(fields.letters, fields.count.0) else {
            let expected =
                "RWBS of an optional F, one of R W D DE F N WZ, an optional F, and A S M U";
            return Err(bad(excerpt(fields.letters.as_bytes()), expected));
        };
        let Some(operation) = rwbs.operation else {
            return Ok(None);
        };
        let first = *self.first_time.get_or_insert(line.time);
        // The clocks of two CPUs may differ by a little.
        let time = Nanoseconds(line.time.0.saturating_sub(first.0));
        if operation == TraceOperation::Flush {
            return Ok(Some(Record::flush(time)));
        }
        let record = Record {
            time,
            operation,
            preflush: rwbs.preflush,
            fua: rwbs.fua,
            start: fields.start,
            count: fields.count,
        };
        match record.check() {
            Ok(()) => Ok(Some(record)),
            Err(fault) => Err(bad(fault.found, &fault.expected)),
        }
    }
}

impl<R: BufRead + Send> Iterator for FtraceReader<R> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<R: BufRead + Send> TraceSource for FtraceReader<R> {
    fn description(&self) -> &Description {
        &self.description
    }
}
