//! SYSTOR '17: `Timestamp,Response,IOType,LUN,Offset,Size`, as in
//! `1455592200.015121000,0.003245,R,4,1024,4096`.
//!
//! Times are seconds with a fraction, offsets and sizes in bytes. A blank type is some other
//! command, and skipped. The response time is not used.

use driver::units::Bytes;

use super::super::device::Device;
use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::number::parse_seconds;
use super::{Dialect, fields, number, operation};

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [time, response, kind, lun, offset, size] = fields(line, Dialect::Systor)?;
    let time = parse_seconds(time)
        .ok_or_else(|| LineFault::field(time, "a time in seconds with a fraction"))?;
    if !response.is_empty() && parse_seconds(response).is_none() {
        return Err(LineFault::field(response, "a response time in seconds"));
    }
    if kind.is_empty() {
        return Ok(Decoded::Nothing);
    }
    let lun = number(lun, "the number of a LUN")?;
    let extent = Extent::Bytes(
        Bytes(number(offset, "an offset in bytes")?),
        Bytes(number(size, "a size in bytes")?),
    );
    Ok(Decoded::Entry(Entry {
        device: Some(Device::Id(lun)),
        ..Entry::new(time, operation(kind, "R", "W")?, extent)
    }))
}
