//! Traces as comma-separated values: five published collections, and our own.
//!
//! None of them quotes anything, so a line is split at its commas and nowhere else.

mod alibaba;
mod msr;
mod own;
mod spc;
mod systor;
mod tencent;

use super::entry::Decoded;
use super::lines::{LineFault, LineFormat, first_lines};
use super::number::parse_u64;
use super::{TraceOperation, Units};

pub(super) use own::{HEADER, SERVED_COLUMNS, write_record};

/// Whose CSV it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Microsoft Research Cambridge, 2007: enterprise servers.
    Msr,
    /// SYSTOR '17: a virtual desktop infrastructure.
    Systor,
    /// Alibaba's cloud block storage, 2020.
    Alibaba,
    /// Tencent's cloud block storage, 2018.
    Tencent,
    /// SPC's trace file format, 2002: Financial and WebSearch of UMass.
    Spc,
    /// What `trace convert --as csv` writes.
    Own,
}

impl Dialect {
    const ALL: [Dialect; 6] = [
        Dialect::Msr,
        Dialect::Systor,
        Dialect::Alibaba,
        Dialect::Tencent,
        Dialect::Spc,
        Dialect::Own,
    ];

    /// The names of its columns.
    pub const fn header(self) -> &'static str {
        match self {
            Dialect::Msr => "Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime",
            Dialect::Systor => "Timestamp,Response,IOType,LUN,Offset,Size",
            Dialect::Alibaba => "device_id,opcode,offset,length,timestamp",
            Dialect::Tencent => "Timestamp,Offset,Size,IOType,VolumeID",
            Dialect::Spc => "ASU,LBA,Size,Opcode,Timestamp",
            Dialect::Own => HEADER,
        }
    }

    /// The units that its numbers are in.
    pub(super) const fn units(self) -> Units {
        let (time, position) = match self {
            Dialect::Msr => ("100 ns", "bytes"),
            Dialect::Systor => ("seconds", "bytes"),
            Dialect::Alibaba => ("microseconds", "bytes"),
            Dialect::Tencent => ("seconds", "sectors of 512 bytes"),
            Dialect::Spc => ("seconds", "blocks of 512 bytes, lengths in bytes"),
            Dialect::Own => ("nanoseconds", "sectors of 512 bytes"),
        };
        Units { time, position }
    }

    /// What a line says.
    fn decode(self, line: &str) -> Result<Decoded, LineFault> {
        match self {
            Dialect::Msr => msr::decode(line),
            Dialect::Systor => systor::decode(line),
            Dialect::Alibaba => alibaba::decode(line),
            Dialect::Tencent => tencent::decode(line),
            Dialect::Spc => spc::decode(line),
            Dialect::Own => own::decode(line),
        }
    }

    fn is_header(self, line: &str) -> bool {
        line.eq_ignore_ascii_case(self.header()) || self == Dialect::Own && own::is_header(line)
    }
}

/// The dialect of the trace that begins with `prefix`: by its header, or else by its first
/// line. No line is right in two of them.
pub(super) fn detect(prefix: &[u8]) -> Option<Dialect> {
    let line = first_lines(prefix).find(|line| !line.is_empty())?;
    let mut all = Dialect::ALL.into_iter();
    all.find(|dialect| dialect.is_header(&line) || dialect.decode(&line).is_ok())
}

/// The format of one dialect.
pub(super) struct Csv {
    dialect: Dialect,
    is_past_header: bool,
}

impl Csv {
    pub(super) fn new(dialect: Dialect) -> Csv {
        Csv {
            dialect,
            is_past_header: false,
        }
    }
}

impl LineFormat for Csv {
    const SHOWS_ITS_END: bool = false;

    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault> {
        let may_be_header = !std::mem::replace(&mut self.is_past_header, true);
        if line.is_empty() || may_be_header && self.dialect.is_header(line) {
            return Ok(Decoded::Nothing);
        }
        self.dialect.decode(line)
    }
}

/// The fields of a line that has exactly `N`.
fn fields<const N: usize>(line: &str, dialect: Dialect) -> Result<[&str; N], LineFault> {
    match line.split(',').nth(N) {
        None => first_fields(line, dialect),
        Some(_) => Err(wrong_count::<N>(dialect)),
    }
}

/// The first `N` fields of a line, which may have more.
fn first_fields<const N: usize>(line: &str, dialect: Dialect) -> Result<[&str; N], LineFault> {
    let mut fields = [""; N];
    let mut found = line.split(',');
    for place in &mut fields {
        let field = found.next().ok_or_else(|| wrong_count::<N>(dialect))?;
        *place = field.trim_ascii();
    }
    Ok(fields)
}

fn wrong_count<const N: usize>(dialect: Dialect) -> LineFault {
    LineFault::line(format!("{N} fields: {}", dialect.header()))
}

/// A field that is a number.
fn number(field: &str, expected: &str) -> Result<u64, LineFault> {
    parse_u64(field).ok_or_else(|| LineFault::field(field, expected))
}

/// A field that says what is done, in one of two words.
fn operation(field: &str, read: &str, write: &str) -> Result<TraceOperation, LineFault> {
    if field.eq_ignore_ascii_case(read) {
        Ok(TraceOperation::Read)
    } else if field.eq_ignore_ascii_case(write) {
        Ok(TraceOperation::Write)
    } else {
        Err(LineFault::field(field, format!("{read} or {write}")))
    }
}
