//! Our own CSV, for spreadsheets and scripts: everything that a record has, in plain words. What
//! comes from a trace that tells who has asked for each request and how it ended has two more
//! columns, `client` and `status`; reading passes over them.
//!
//! ```text
//! time_ns,operation,preflush,fua,start_sector,sectors
//! 0,write,1,0,2048,8
//! 125000,flush,0,0,0,0
//! ```

use std::io::Write;

use driver::units::{Sector, SectorCount};

use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::served::{Served, word};
use super::super::{Nanoseconds, Record, TraceOperation};
use super::{Dialect, fields, number};

/// The first line.
pub(crate) const HEADER: &str = "time_ns,operation,preflush,fua,start_sector,sectors";

/// What comes after it where a trace tells that.
pub(crate) const SERVED_COLUMNS: &str = ",client,status";

/// Whether it is the first line of a trace that tells.
pub(super) fn is_header(line: &str) -> bool {
    let columns = line.strip_prefix(HEADER);
    columns.is_some_and(|columns| columns.eq_ignore_ascii_case(SERVED_COLUMNS))
}

const OPERATIONS: [TraceOperation; 5] = [
    TraceOperation::Read,
    TraceOperation::Write,
    TraceOperation::Flush,
    TraceOperation::Discard,
    TraceOperation::WriteZeroes,
];

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    // With two more fields or without.
    let six = match line.split(',').count() {
        8 => line.rsplitn(3, ',').last().unwrap_or(line),
        _ => line,
    };
    let [time, operation, preflush, fua, start, count] = fields(six, Dialect::Own)?;
    let time = Nanoseconds(number(time, "a time in nanoseconds")?);
    let named = OPERATIONS
        .into_iter()
        .find(|known| known.to_string() == operation);
    let operation = named.ok_or_else(|| {
        LineFault::field(operation, "read, write, flush, discard or write-zeroes")
    })?;
    let flag = |field: &str| match field {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(LineFault::field(field, "0 or 1")),
    };
    let extent = Extent::Sectors(
        Sector(number(start, "a sector")?),
        SectorCount(number(count, "a number of sectors")?),
    );
    Ok(Decoded::Entry(Entry {
        preflush: flag(preflush)?,
        fua: flag(fua)?,
        ..Entry::new(time, operation, extent)
    }))
}

/// Appends a record's line to `line`.
pub(crate) fn write_record(line: &mut Vec<u8>, record: &Record, served: Option<Served>) {
    let Record {
        time,
        operation,
        preflush,
        fua,
        start,
        count,
    } = record;
    let (preflush, fua) = (u8::from(*preflush), u8::from(*fua));
    let mut written = write!(
        line,
        "{},{operation},{preflush},{fua},{start},{count}",
        time.0
    );
    if let Some(Served { client, status }) = served {
        written = written.and_then(|()| write!(line, ",{client},{}", word(status)));
    }
    written = written.and_then(|()| writeln!(line));
    written.expect("memory takes everything");
}
