//! What `biosnoop` prints, that of bcc and that of libbpf-tools: a table with a heading.
//!
//! ```text
//! TIME(s)     COMM           PID    DISK    T SECTOR     BYTES   LAT(ms)
//! 0.000000    supervise      1950   xvda1   W 13092560   4096       0.74
//! ```
//!
//! Times are seconds since the first request, and those of its completion; positions are sectors,
//! lengths bytes. `T` is R or W in bcc's, the kernel's letters in libbpf-tools'. The columns after
//! BYTES (the time in the queue, the latency and others) depend on options; their values are not
//! used. A flush has the sector -1 and no bytes. DISK is empty where the kernel names none. With a
//! time of day in place of `TIME(s)` nothing says when a request was.

use driver::units::{Bytes, SECTOR_SIZE};

use super::device::Device;
use super::entry::{Decoded, Entry, Extent};
use super::error::excerpt;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_seconds, parse_u64};
use super::record::RecordFault;
use super::{TraceOperation, rwbs};

const HEADING: &str = "a heading like \"TIME(s) COMM PID DISK T SECTOR BYTES LAT(ms)\"";

/// The columns from the process's number on, which no name with spaces precedes from the right.
const COLUMNS: [&str; 5] = ["PID", "DISK", "T", "SECTOR", "BYTES"];

/// What a disk without a name is called.
const NO_DISK: &str = "?";

/// The sector of a request that goes to none, signed and unsigned. One of no bytes is a flush: bcc
/// prints R for it, because that is what it prints for all that is no write.
const NO_SECTOR: [&str; 2] = ["-1", "18446744073709551615"];

/// Where the columns stand that are read, counted in words from a line's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heading {
    /// The number of columns after BYTES.
    after: usize,
    /// Whether a column with the time of day precedes the one in seconds.
    has_clock: bool,
}

impl Heading {
    fn parse(line: &str) -> Option<Heading> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let time = words.iter().position(|&word| word == "TIME(s)")?;
        let columns = words.get(time + 1..)?.strip_prefix(&["COMM"])?;
        let after = columns.strip_prefix(&COLUMNS)?.len();
        let has_clock = match words[..time] {
            [] => false,
            ["TIME"] => true,
            _ => return None,
        };
        Some(Heading { after, has_clock })
    }

    /// What a line says; `None` if it is no line of the table.
    fn decode(self, line: &str) -> Option<Decoded> {
        let mut words = line.split_ascii_whitespace();
        if self.has_clock {
            words.next()?;
        }
        let time = parse_seconds(words.next()?)?;
        // From the end, because a process's name may have spaces in it.
        let mut words = words.rev().skip(self.after);
        let length = parse_u64(words.next()?)?;
        let sector = words.next()?;
        let letters = words.next()?;
        let disk = words.next()?;
        // A process that is not known has the number 0 or -1.
        let is_pid = |word: &str| word.parse::<i64>().is_ok();
        let before = words.next()?;
        let disk = match is_pid(before) {
            true => {
                words.next()?;
                disk
            }
            // What stands in front of the letters is the process, and no disk is named.
            false if is_pid(disk) => NO_DISK,
            false => return None,
        };
        if length == 0 && NO_SECTOR.contains(&sector) {
            return Some(Decoded::Entry(Entry {
                device: Some(Device::Name(disk.into())),
                ..Entry::new(time, TraceOperation::Flush, Extent::Nothing)
            }));
        }
        let offset = parse_u64(sector)?.checked_mul(SECTOR_SIZE)?;
        let parsed = rwbs::parse(letters, length.div_ceil(SECTOR_SIZE));
        let operation = match parsed {
            Some(rwbs) => match rwbs.operation {
                Some(operation) => operation,
                None => return Some(Decoded::Nothing),
            },
            None => TraceOperation::Write,
        };
        let extent = Extent::Bytes(Bytes(offset), Bytes(length));
        Some(Decoded::Entry(Entry {
            device: Some(Device::Name(disk.into())),
            preflush: parsed.is_some_and(|rwbs| rwbs.preflush),
            fua: parsed.is_some_and(|rwbs| rwbs.fua),
            fault: parsed.is_none().then(|| RecordFault {
                found: excerpt(letters.as_bytes()),
                expected: rwbs::EXPECTED.to_owned(),
            }),
            ..Entry::new(time, operation, extent)
        }))
    }
}

/// Whether the first line that is not empty is the heading.
pub(super) fn detect(prefix: &[u8]) -> bool {
    let first = first_lines(prefix).find(|line| !line.is_empty());
    first.is_some_and(|line| Heading::parse(&line).is_some())
}

/// The format, and its heading once that has been read.
#[derive(Default)]
pub(super) struct Biosnoop {
    heading: Option<Heading>,
}

impl LineFormat for Biosnoop {
    const SHOWS_ITS_END: bool = false;

    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault> {
        if line.trim_ascii().is_empty() {
            return Ok(Decoded::Nothing);
        }
        let Some(heading) = self.heading else {
            self.heading = Heading::parse(line);
            return match self.heading {
                Some(_) => Ok(Decoded::Nothing),
                None => Err(LineFault::line(HEADING)),
            };
        };
        let decoded = heading.decode(line);
        decoded.ok_or_else(|| LineFault::line("a line with a value in each column of the heading"))
    }
}
