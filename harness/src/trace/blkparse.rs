//! The text that `blkparse` prints.
//!
//! ```text
//!   8,0    3        1     0.000000000   697  Q   W 223490 + 8 [kjournald]
//!   8,0    3        2     0.000001829   697  D  WS 223490 + 8 [kjournald]
//!   8,0    3        3     0.000009827     0  C  WS 223490 + 8 [0]
//!   8,0    3        4     0.000010000   697  Q FWS [kjournald]
//! ```
//!
//! Times are in seconds with nine digits, positions in sectors. `Q` (queued), `D` (handed to
//! the driver) and `C` (completed) are requests; the other actions are steps between those, and
//! skipped. Behind the events comes a summary for each CPU, in which nothing is read.

use driver::units::{Sector, SectorCount};

use super::device::DeviceNumber;
use super::entry::Decoded;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_seconds, parse_u64};
use super::{Event, Nanoseconds, ftrace};

const EXPECTED: &str =
    "a line like \"major,minor cpu sequence seconds pid action RWBS sector + count [comm]\"";

/// The actions that blkparse prints.
const ACTIONS: [&str; 16] = [
    "Q", "M", "F", "G", "S", "R", "D", "C", "P", "U", "UT", "I", "X", "B", "A", "m",
];

/// What is in front of the fields that depend on the action.
struct Head<'a> {
    device: DeviceNumber,
    time: Nanoseconds,
    action: &'a str,
    letters: &'a str,
    rest: &'a str,
}

impl Head<'_> {
    fn parse(text: &str) -> Option<Head<'_>> {
        let mut rest = text;
        let mut word = || {
            let text = rest.trim_start();
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            let word;
            (word, rest) = text.split_at(end);
            (!word.is_empty()).then_some(word)
        };
        let device = word()?.parse().ok()?;
        parse_u64(word()?)?;
        parse_u64(word()?)?;
        let time = word()?;
        let time = parse_seconds(time).filter(|_| time.contains('.'))?;
        parse_u64(word()?)?;
        let action = word().filter(|action| ACTIONS.contains(action))?;
        let letters = word()?;
        Some(Head {
            device,
            time,
            action,
            letters,
            rest: rest.trim_start(),
        })
    }

    fn event(&self) -> Option<Event> {
        match self.action {
            "Q" => Some(Event::Queue),
            "D" => Some(Event::Issue),
            "C" => Some(Event::Complete),
            _ => None,
        }
    }

    /// `223490 + 8 [comm]`, or only `[comm]` where nothing is transferred.
    fn extent(&self) -> Option<(Sector, SectorCount)> {
        // The command's name or the status at the end shows that nothing is cut off.
        if !self.rest.trim_end().ends_with(']') {
            return None;
        }
        if self.rest.starts_with('[') || self.rest.starts_with('(') {
            return Some((Sector(0), SectorCount(0)));
        }
        let (start, rest) = self.rest.split_once(" + ")?;
        let (count, _) = rest.split_once(' ')?;
        Some((Sector(parse_u64(start)?), SectorCount(parse_u64(count)?)))
    }

    /// A command to the device: its bytes stand where the sectors of others do.
    fn is_command(&self) -> bool {
        self.letters.starts_with('N') && self.rest.contains('(')
    }
}

/// `CPU0 (sda):` or `Total (sda):`
fn begins_summary(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default();
    let is_cpu = name
        .strip_prefix("CPU")
        .is_some_and(|number| parse_u64(number).is_some());
    (is_cpu || name == "Total") && line.trim_end().ends_with("):")
}

/// Whether the first line that is not empty is such a line.
pub(super) fn detect(prefix: &[u8]) -> bool {
    let first = first_lines(prefix).find(|line| !line.trim_ascii().is_empty());
    first.is_some_and(|line| Head::parse(&line).is_some())
}

/// The format.
#[derive(Default)]
pub(super) struct Blkparse {
    in_summary: bool,
}

impl LineFormat for Blkparse {
    const SHOWS_ITS_END: bool = true;

    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault> {
        self.in_summary |= begins_summary(line);
        if self.in_summary || line.trim_ascii().is_empty() {
            return Ok(Decoded::Nothing);
        }
        let Some(head) = Head::parse(line) else {
            return Err(LineFault::line(EXPECTED));
        };
        let Some(event) = head.event() else {
            return Ok(Decoded::Nothing);
        };
        if head.is_command() {
            return Ok(Decoded::Nothing);
        }
        let extent = head.extent().ok_or_else(|| LineFault::line(EXPECTED))?;
        Ok(ftrace::entry(
            head.time,
            event,
            head.device,
            head.letters,
            extent,
        ))
    }
}
