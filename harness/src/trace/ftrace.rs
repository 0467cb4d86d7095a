//! Text with the kernel's block events, as three tools print it: tracefs' `trace` and
//! `trace_pipe`, `trace-cmd report`, and `perf script`.
//!
//! ```text
//!    mount-17690   [001] .....  1286.999735: block_rq_issue: 7,0 RA 4096 () 0 + 8 be,0,4 [mount]
//!   umount-8821    [001] .....  1371.187017: block_bio_queue: 7,0 WFSM 2 + 2 [umount]
//! kworker/0:1-9    [000] ..s..  1100.626179: block_rq_complete: 7,0 RA () 0 + 8 be,0,4 [0]
//!    mount-17690   [001]        1286.999735: block_rq_issue:       7,0 RA 4096 () 0 + 8 [mount]
//!    mount 17690   [001]  1286.999735: block:block_rq_issue: 7,0 RA 4096 () 0 + 8 [mount]
//! ```
//!
//! Older kernels print no priority. Lines of other events are skipped, as
//! are comments (`#`). Two comments that `traces/record.sh` writes on top are read:
//! `# ubdlab: device_size_sectors=N` and `# ubdlab: description=TEXT`.

use driver::units::{Sector, SectorCount};

use super::device::{Device, DeviceNumber};
use super::entry::{Decoded, Entry, Extent};
use super::error::{Place, TraceError, excerpt};
use super::input::Input;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_seconds, parse_u64};
use super::record::{MAX_END_SECTOR, RecordFault};
use super::{Description, Event, Nanoseconds, Stream, TraceOperation, rwbs};

const LINE_EXPECTED: &str = "a line like \"comm-pid [cpu] flags seconds: event: fields\"";

/// Which tool printed the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// Nobody: it is the kernel's own.
    Tracefs,
    /// `trace-cmd report`, which begins with `cpus=N`.
    TraceCmd,
    /// `perf script`, which names events with their group: `block:block_rq_issue`.
    Perf,
}

/// The three parts of a line that matter.
struct Line<'a> {
    time: Nanoseconds,
    name: &'a str,
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
            let time = word.strip_suffix(':').filter(|word| word.contains('.'));
            if seen_cpu && let Some(time) = time.and_then(parse_seconds) {
                let rest = rest.trim_start();
                let (name, fields) = rest.split_once(": ").unwrap_or((rest, ""));
                let fields = fields.trim_start();
                return Some(Line { time, name, fields });
            }
            let cpu = word
                .strip_prefix('[')
                .and_then(|word| word.strip_suffix(']'));
            seen_cpu |= cpu.is_some_and(|cpu| cpu.parse::<u32>().is_ok());
        }
    }

    fn event(&self) -> Option<Event> {
        Event::from_name(self.name.strip_prefix("block:").unwrap_or(self.name))
    }
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
            parse_u64(bytes)?;
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
            start: Sector(parse_u64(start)?),
            count: SectorCount(parse_u64(count)?),
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

/// A line that is no event: empty, or a comment, or one of those that trace-cmd begins with.
fn is_comment(line: &str) -> bool {
    let is_cpu_line = || {
        line.starts_with("cpus=")
            || line.starts_with("version = ")
            || line.starts_with("CPU ") && line.ends_with(" is empty")
    };
    line.starts_with('#') || line.trim_ascii().is_empty() || is_cpu_line()
}

/// `CPU:1 [LOST 23 EVENTS]`, or trace-cmd's `CPU:1 [23 EVENTS DROPPED]`
fn is_lost_events(line: &str) -> bool {
    let line = line.trim_ascii();
    line.starts_with("CPU:") && (line.ends_with("EVENTS]") || line.ends_with("EVENTS DROPPED]"))
}

/// Whether `prefix` begins a trace of this kind: its first line that is no comment
/// is an event, or there is none and the kernel's own comment is there.
pub(super) fn detect(prefix: &[u8]) -> Option<Tool> {
    let starts_as_trace_cmd = prefix.starts_with(b"cpus=");
    let first = first_lines(prefix).find(|line| !is_comment(line) && !is_lost_events(line));
    let found = match first {
        Some(line) => match Line::parse(&line) {
            Some(line) if line.name.contains(':') => Some(Tool::Perf),
            line => line.map(|_| Tool::Tracefs),
        },
        None => {
            let is_tracefs = prefix.windows(9).any(|window| window == b"# tracer:");
            (is_tracefs || starts_as_trace_cmd).then_some(Tool::Tracefs)
        }
    };
    match found {
        Some(Tool::Tracefs) if starts_as_trace_cmd => Some(Tool::TraceCmd),
        found => found,
    }
}

/// Takes what our comments in the first part of a trace say into `description`.
pub(super) fn take_comments(
    input: &Input<Stream>,
    window: &[u8],
    description: &mut Description,
) -> Result<(), TraceError> {
    let mut offset = input.offset();
    for (index, line) in window.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line);
        let comment = text.strip_prefix("# ubdlab: ").map(str::trim_end);
        match comment.and_then(|comment| comment.split_once('=')) {
            Some(("description", text)) => description.text = text.to_owned(),
            Some(("device_size_sectors", text)) => {
                let size = parse_u64(text).filter(|size| (1..=MAX_END_SECTOR.0).contains(size));
                let size = size.ok_or_else(|| TraceError::Bad {
                    place: Place {
                        line: Some(index as u64 + 1),
                        ..input.place(offset)
                    },
                    found: excerpt(text.as_bytes()),
                    expected: "a number of sectors from 1 to 2^54".to_owned(),
                })?;
                description.device_size = Some(SectorCount(size));
            }
            _ => {}
        }
        offset.0 += line.len() as u64;
    }
    Ok(())
}

/// The format: nothing is carried from line to line.
pub(super) struct Ftrace;

impl LineFormat for Ftrace {
    const SHOWS_ITS_END: bool = true;

    fn decode(&mut self, text: &str) -> Result<Decoded, LineFault> {
        if is_comment(text) {
            return Ok(Decoded::Nothing);
        }
        if is_lost_events(text) {
            return Ok(Decoded::Lost(excerpt(text.trim_ascii().as_bytes())));
        }
        let Some(line) = Line::parse(text) else {
            return Err(LineFault::line(LINE_EXPECTED));
        };
        let Some(event) = line.event() else {
            return Ok(Decoded::Nothing);
        };
        let Some(fields) = Fields::parse(event, line.fields) else {
            return Err(LineFault::line(format!(
                "{}: {}",
                event.name(),
                Fields::expected(event)
            )));
        };
        Ok(entry(
            line.time,
            event,
            fields.device,
            fields.letters,
            (fields.start, fields.count),
        ))
    }
}

/// The entry of a block event whose letters say what it is.
pub(super) fn entry(
    time: Nanoseconds,
    event: Event,
    device: DeviceNumber,
    letters: &str,
    (start, count): (Sector, SectorCount),
) -> Decoded {
    let parsed = rwbs::parse(letters, count.0);
    let operation = match parsed {
        Some(rwbs) => match rwbs.operation {
            Some(operation) => operation,
            None => return Decoded::Nothing,
        },
        None => TraceOperation::Write,
    };
    let fault = parsed.is_none().then(|| RecordFault {
        found: excerpt(letters.as_bytes()),
        expected: rwbs::EXPECTED.to_owned(),
    });
    Decoded::Entry(Entry {
        device: Some(Device::Number(device)),
        event: Some(event),
        preflush: parsed.is_some_and(|rwbs| rwbs.preflush),
        fua: parsed.is_some_and(|rwbs| rwbs.fua),
        fault,
        ..Entry::new(time, operation, Extent::Sectors(start, count))
    })
}
