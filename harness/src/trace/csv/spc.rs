//! SPC's trace file format, in which UMass published Financial and WebSearch:
//! `ASU,LBA,Size,Opcode,Timestamp`, as in `0,20941264,8192,W,0.551706`.
//!
//! Positions are blocks of 512 bytes, sizes bytes, times seconds since the start. A device is an
//! application storage unit (ASU). What follows the five fields is the recorder's own, and skipped.

use driver::units::{Bytes, SECTOR_SIZE};

use super::super::device::Device;
use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::number::parse_seconds;
use super::{Dialect, first_fields, number, operation};

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [asu, block, size, opcode, time] = first_fields(line, Dialect::Spc)?;
    let operation = operation(opcode, "R", "W")?;
    let offset = number(block, "a block of 512 bytes")?
        .checked_mul(SECTOR_SIZE)
        .ok_or_else(|| LineFault::field(block, "a block below 2^55"))?;
    let extent = Extent::Bytes(Bytes(offset), Bytes(number(size, "a size in bytes")?));
    let time = parse_seconds(time)
        .ok_or_else(|| LineFault::field(time, "a time in seconds with a fraction"))?;
    Ok(Decoded::Entry(Entry {
        device: Some(Device::Id(number(asu, "the number of an ASU")?)),
        ..Entry::new(time, operation, extent)
    }))
}
