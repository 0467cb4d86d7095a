//! MSR Cambridge: `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`, as in
//! `128166372003061629,hm,1,Read,383496192,32768,413`.
//!
//! Times are Windows' (100 ns since 1601), offsets and sizes in bytes. A device is a host and
//! a disk of it, named `hm.1` here. The response time is not used.

use driver::units::Bytes;

use super::super::device::Device;
use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::number::parse_time;
use super::{Dialect, fields, number, operation};

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [time, host, disk, kind, offset, size, response] = fields(line, Dialect::Msr)?;
    let time = parse_time(time, 100)
        .ok_or_else(|| LineFault::field(time, "a time in units of 100 ns since 1601"))?;
    number(disk, "the number of a disk")?;
    if !response
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Err(LineFault::field(response, "a response time"));
    }
    let extent = Extent::Bytes(
        Bytes(number(offset, "an offset in bytes")?),
        Bytes(number(size, "a size in bytes")?),
    );
    let operation = operation(kind, "Read", "Write")?;
    Ok(Decoded::Entry(Entry {
        device: Some(Device::Name(format!("{host}.{disk}").into())),
        ..Entry::new(time, operation, extent)
    }))
}
