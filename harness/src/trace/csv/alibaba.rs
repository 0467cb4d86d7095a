//! Alibaba: `device_id,opcode,offset,length,timestamp`, as in
//! `419,W,8792731648,16384,1577808144360767`.
//!
//! Offsets and lengths are in bytes, times in microseconds.

use driver::units::Bytes;

use super::super::device::Device;
use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::number::parse_time;
use super::{Dialect, fields, number, operation};

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [device, opcode, offset, length, time] = fields(line, Dialect::Alibaba)?;
    let device = number(device, "the number of a device")?;
    let operation = operation(opcode, "R", "W")?;
    let extent = Extent::Bytes(
        Bytes(number(offset, "an offset in bytes")?),
        Bytes(number(length, "a length in bytes")?),
    );
    let time =
        parse_time(time, 1000).ok_or_else(|| LineFault::field(time, "a time in microseconds"))?;
    Ok(Decoded::Entry(Entry {
        device: Some(Device::Id(device)),
        ..Entry::new(time, operation, extent)
    }))
}
