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
//! The kernel's `blk` tracer prints blkparse's actions in place of an event's name and fields:
//!
//! ```text
//!     bash-77      [001] .....  1234.100001:   8,0    Q   W 223488 + 8 [bash]
//! ```
//!
//! Older kernels print no priority. `trace-cmd report --ts-diff` has the distance to the event
//! before in front of the name, `(+12)`, and `perf script -F +period` a number. `perf script -F
//! -cpu` prints no CPU; there the group in front of the event's name shows where that is. Lines of
//! other events are skipped, as are comments (`#`) and the stack traces that follow an event, with
//! the places in the source that `-F +srcline` prints. Text in which no line is an event that is
//! known here is an error: it was recorded with others, or nothing was recorded. Two
//! comments that `traces/record.sh` writes on top are read: `# ubdlab: device_size_sectors=N` and
//! `# ubdlab: description=TEXT`.

use driver::units::{Sector, SectorCount};

use super::block_event::{Action, entry, word};
use super::device::DeviceNumber;
use super::entry::Decoded;
use super::error::{Place, TraceError, excerpt};
use super::input::Input;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_seconds, parse_u64};
use super::record::MAX_END_SECTOR;
use super::{Description, Event, Nanoseconds, Stream};

const LINE_EXPECTED: &str = "a line like \"comm-pid [cpu] flags seconds: event: fields\"";

const TRACED_EXPECTED: &str = "\"major,minor action RWBS sector + count [comm]\"";

const KNOWN_EVENTS: &str = "block_rq_issue, block_bio_queue or block_rq_complete, or the actions Q, D and C of \
     the blk tracer";

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
    /// Name and fields.
    rest: &'a str,
}

impl Line<'_> {
    /// Looks for `[cpu]`, then `seconds:`, then `event:`; or, without a CPU, for `seconds:` and
    /// `group:event:`. The command's name in front may contain anything, spaces and brackets
    /// included.
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
            let named = || without_distance(rest.trim_start());
            if let Some(time) = time.and_then(parse_seconds)
                && (seen_cpu || has_group(named()))
            {
                let rest = named();
                let (name, fields) = rest.split_once(": ").unwrap_or((rest, ""));
                let fields = fields.trim_start();
                return Some(Line {
                    time,
                    name,
                    fields,
                    rest,
                });
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

    /// The device and action of a line of the kernel's `blk` tracer, which has no event's name.
    fn traced(&self) -> Option<(DeviceNumber, Action<'_>)> {
        let (device, rest) = word(self.rest)?;
        Some((device.parse().ok()?, Action::parse(rest)?))
    }
}

/// Whether `text` begins with an event's name as perf prints it, `group:event:`.
fn has_group(text: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let name = word(text).and_then(|(first, _)| first.strip_suffix(':'));
    name.and_then(|name| name.split_once(':'))
        .is_some_and(|(group, event)| is_name(group) && is_name(event))
}

/// What follows `(+12)` of `trace-cmd report --ts-diff`, or the number of
/// `perf script -F +period`.
fn without_distance(text: &str) -> &str {
    match word(text) {
        Some((first, rest))
            if parse_u64(first).is_some() || first.starts_with("(+") && first.ends_with(')') =>
        {
            rest.trim_start()
        }
        _ => text,
    }
}

/// A line of a stack trace, which belongs to the event above: ` => function` as the kernel and
/// trace-cmd print it, or an address, a symbol and its object as perf does; or the place in the
/// source that perf prints below that, see [`is_source_line`].
fn is_stack_line(text: &str) -> bool {
    let line = text.trim_ascii();
    let is_address = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    line.starts_with("=> ")
        || is_source_line(text)
        || text.starts_with([' ', '\t'])
            && line.ends_with(')')
            && word(line).is_some_and(|(first, rest)| is_address(first) && rest.contains(" ("))
}

/// What `perf script -F +srcline` prints below an address: `  blk-mq.c:1234`, or where that is not
/// known `  symbol+74` or `  object[ffffffff81234567]`.
fn is_source_line(text: &str) -> bool {
    let is_number = |text: &str| parse_u64(text).is_some();
    let is_address = |text: &str| {
        let mut bytes = text.bytes();
        !text.is_empty() && bytes.all(|byte| byte.is_ascii_hexdigit())
    };
    let Some(line) = text.strip_prefix("  ").map(str::trim_ascii_end) else {
        return false;
    };
    let ends_in = |separator, is: &dyn Fn(&str) -> bool| {
        let parts = line.rsplit_once(separator);
        parts.is_some_and(|(before, after)| !before.is_empty() && is(after))
    };
    !line.contains(char::is_whitespace)
        && (ends_in(':', &is_number)
            || ends_in('+', &is_number)
            || ends_in('[', &|text| text.strip_suffix(']').is_some_and(is_address)))
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
pub(super) fn is_lost_events(line: &str) -> bool {
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
            Some(line) if !line.name.contains(' ') && line.name.contains(':') => Some(Tool::Perf),
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

/// The lines that are shown where no event is known.
const SHOWN_LINES: usize = 3;

/// The format, and whether there was an event yet that is known.
#[derive(Default)]
pub(super) struct Ftrace {
    is_known: bool,
    /// The first lines that are events of others.
    unknown: Vec<String>,
}

impl Ftrace {
    fn decode_line(&self, text: &str, line: &Line<'_>) -> Result<Option<Decoded>, LineFault> {
        if let Some(event) = line.event() {
            let fields = Fields::parse(event, line.fields).ok_or_else(|| {
                let expected = format!("{}: {}", event.name(), Fields::expected(event));
                LineFault::line(expected)
            })?;
            let extent = (fields.start, fields.count);
            let entry = entry(line.time, event, fields.device, fields.letters, extent);
            return Ok(Some(entry));
        }
        let Some((device, action)) = line.traced() else {
            return Ok(None);
        };
        match action.entry(line.time, device) {
            Some(entry) => Ok(Some(entry)),
            None => Err(LineFault::field(text.trim_ascii(), TRACED_EXPECTED)),
        }
    }
}

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
            return match is_stack_line(text) {
                true => Ok(Decoded::Nothing),
                false => Err(LineFault::line(LINE_EXPECTED)),
            };
        };
        match self.decode_line(text, &line)? {
            Some(decoded) => {
                self.is_known = true;
                Ok(decoded)
            }
            None => {
                if !self.is_known && self.unknown.len() < SHOWN_LINES {
                    self.unknown.push(excerpt(text.trim_ascii().as_bytes()));
                }
                Ok(Decoded::Nothing)
            }
        }
    }

    fn end(&mut self) -> Result<(), LineFault> {
        let unknown = std::mem::take(&mut self.unknown);
        // It is said once: who goes on after what is wrong comes to the end again.
        if std::mem::replace(&mut self.is_known, true) {
            return Ok(());
        }
        let found = match unknown.is_empty() {
            true => "comments and no event: nothing was recorded".to_owned(),
            false => format!("events of other kinds only: {}", unknown.join(", ")),
        };
        Err(LineFault {
            found: Some(found),
            expected: KNOWN_EVENTS.to_owned(),
        })
    }
}
