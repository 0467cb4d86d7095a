//! Our own CSV, for spreadsheets and scripts: everything that a record has, in plain words.
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
use super::super::{Nanoseconds, Record, TraceOperation};
use super::{Dialect, fields, number};

/// The first line.
pub(crate) const HEADER: &str = "time_ns,operation,preflush,fua,start_sector,sectors";

const OPERATIONS: [TraceOperation; 5] = [
    TraceOperation::Read,
    TraceOperation::Write,
    TraceOperation::Flush,
    TraceOperation::Discard,
    TraceOperation::WriteZeroes,
];

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [time, operation, preflush, fua, start, count] = fields(line, Dialect::Own)?;
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
pub(crate) fn write_record(line: &mut Vec<u8>, record: &Record) {
    let Record {
        time,
        operation,
        preflush,
        fua,
        start,
        count,
    } = record;
    let (preflush, fua) = (u8::from(*preflush), u8::from(*fua));
    let written = writeln!(
        line,
        "{},{operation},{preflush},{fua},{start},{count}",
        time.0
    );
    written.expect("memory takes everything");
}
