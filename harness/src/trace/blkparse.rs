//! The text that `blkparse` prints.
//!
//! ```text
//!   8,0    3        1     0.000000000   697  Q   W 223490 + 8 [kjournald]
//!   8,0    3        2     0.000001829   697  D  WS 223490 + 8 [kjournald]
//!   8,0    3        3     0.000009827     0  C  WS 223490 + 8 [0]
//!   8,0    3        4     0.000010000   697  Q FWS [kjournald]
//!   8,0    3        5     0.000010900     0  C  FN 0 [0]
//!   8,0    3        6     0.000011000   200  D   R 36 (12 00 00 00 24 00 ..) [probe]
//!   8,0    3        7     0.000012000   200  D   R 36 [probe]
//!   8,0    3        8     0.000013829   697  D  WS 223490 + 8 (    2000) [kjournald]
//! ```
//!
//! Times are in seconds with nine digits, positions in sectors. `Q` (queued), `D` (handed to
//! the driver) and `C` (completed) are requests; the other actions are steps between those, and
//! skipped, as are packet commands: those with their bytes in round brackets, and those without,
//! which have a number of bytes alone (Linux since about 4.12 records no more of them). The time in
//! the round brackets of `blkparse -t` is passed over. After the events comes a summary for each
//! CPU, in which nothing is read.
//!
//! With its option `blk_classic` the kernel's `blk` tracer prints such lines without the sequence
//! number, after comments (`#`), and says where it lost events:
//!
//! ```text
//!   8,0    1  1234.100001000    77  Q   W 223488 + 8 [bash]
//! ```

use super::Nanoseconds;
use super::block_event::{Action, word};
use super::device::DeviceNumber;
use super::entry::Decoded;
use super::error::excerpt;
use super::ftrace::is_lost_events;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_seconds, parse_u64};

const EXPECTED: &str =
    "a line like \"major,minor cpu sequence seconds pid action RWBS sector + count [comm]\"";

/// A line's parts.
struct Line<'a> {
    device: DeviceNumber,
    time: Nanoseconds,
    action: Action<'a>,
}

impl Line<'_> {
    fn parse(text: &str) -> Option<Line<'_>> {
        let (device, rest) = word(text)?;
        let (cpu, rest) = word(rest)?;
        let (mut time, mut rest) = word(rest)?;
        if !time.contains('.') {
            // It is the sequence number.
            parse_u64(time)?;
            (time, rest) = word(rest)?;
        }
        let (pid, rest) = word(rest)?;
        for number in [cpu, pid] {
            parse_u64(number)?;
        }
        Some(Line {
            device: device.parse().ok()?,
            time: parse_seconds(time).filter(|_| time.contains('.'))?,
            action: Action::parse(rest)?,
        })
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

/// A line that is empty, or a comment of the kernel's.
fn is_comment(line: &str) -> bool {
    line.starts_with('#') || line.trim_ascii().is_empty()
}

/// Whether the first line that says something is such a line.
pub(super) fn detect(prefix: &[u8]) -> bool {
    let first = first_lines(prefix).find(|line| !is_comment(line) && !is_lost_events(line));
    first.is_some_and(|line| Line::parse(&line).is_some())
}

/// The format.
#[derive(Default)]
pub(super) struct Blkparse {
    in_summary: bool,
}

impl LineFormat for Blkparse {
    const SHOWS_ITS_END: bool = true;

    fn decode(&mut self, text: &str) -> Result<Decoded, LineFault> {
        self.in_summary |= begins_summary(text);
        if self.in_summary || is_comment(text) {
            return Ok(Decoded::Nothing);
        }
        if is_lost_events(text) {
            return Ok(Decoded::Lost(excerpt(text.trim_ascii().as_bytes())));
        }
        let line = Line::parse(text);
        let entry = line.and_then(|line| line.action.entry(line.time, line.device));
        entry.ok_or_else(|| LineFault::line(EXPECTED))
    }
}
