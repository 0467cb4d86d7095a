//! The traces of Florida International University (FIU), as SNIA publishes them: words between
//! white space, with a digest of what was transferred.
//!
//! ```text
//! 89967404222 5062 nfsd 562600552 8 W 6 0 6b8b4567327b23c6643c986966334873
//! ```
//!
//! In this order: the time in nanoseconds, the process's number and name, the first block and the
//! number of blocks of 512 bytes, R or W in either case, the device's major and minor number, the
//! MD5 digest, or several one after the other. The digests are not used.

use driver::units::{Sector, SectorCount};

use super::TraceOperation;
use super::device::{Device, DeviceNumber};
use super::entry::{Decoded, Entry, Extent};
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::{parse_time, parse_u64};

const EXPECTED: &str =
    "a line like \"nanoseconds pid process block blocks R|W major minor digest\"";

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    let (time, pid) = (words.next()?, words.next()?);
    parse_u64(pid)?;
    // From the end, because a process's name may have spaces in it.
    let mut words = words.rev().peekable();
    words.next_if(|word| is_digest(word))?;
    while words.next_if(|word| is_digest(word)).is_some() {}
    let minor = words.next()?.parse().ok()?;
    let major = words.next()?.parse().ok()?;
    let operation = match words.next()? {
        "R" | "r" => TraceOperation::Read,
        "W" | "w" => TraceOperation::Write,
        _ => return None,
    };
    let count = SectorCount(parse_u64(words.next()?)?);
    let start = Sector(parse_u64(words.next()?)?);
    words.next()?;
    let time = parse_time(time, 1)?;
    Some(Entry {
        device: Some(Device::Number(DeviceNumber { major, minor })),
        ..Entry::new(time, operation, Extent::Sectors(start, count))
    })
}

/// Whether it is an MD5 digest.
fn is_digest(word: &str) -> bool {
    word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the first line that is not empty is such a line.
pub(super) fn detect(prefix: &[u8]) -> bool {
    let first = first_lines(prefix).find(|line| !line.is_empty());
    first.is_some_and(|line| parse(&line).is_some())
}

/// The format: nothing is carried from line to line.
pub(super) struct Fiu;

impl LineFormat for Fiu {
    const SHOWS_ITS_END: bool = true;

    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(Decoded::Nothing);
        }
        let entry = parse(line).ok_or_else(|| LineFault::line(EXPECTED))?;
        Ok(Decoded::Entry(entry))
    }
}
