//! Tencent: `Timestamp,Offset,Size,IOType,VolumeID`, as in `1538323200,12910952,128,0,1063`.
//!
//! Times are whole seconds, offsets and sizes in sectors of 512 bytes; 0 reads and 1 writes.

use driver::units::{Sector, SectorCount};

use super::super::device::Device;
use super::super::entry::{Decoded, Entry, Extent};
use super::super::lines::LineFault;
use super::super::number::parse_seconds;
use super::{Dialect, fields, number, operation};

pub(super) fn decode(line: &str) -> Result<Decoded, LineFault> {
    let [time, offset, size, kind, volume] = fields(line, Dialect::Tencent)?;
    let time = parse_seconds(time).ok_or_else(|| LineFault::field(time, "a time in seconds"))?;
    let extent = Extent::Sectors(
        Sector(number(offset, "an offset in sectors")?),
        SectorCount(number(size, "a size in sectors")?),
    );
    let operation = operation(kind, "0", "1")?;
    let volume = number(volume, "the number of a volume")?;
    Ok(Decoded::Entry(Entry {
        device: Some(Device::Id(volume)),
        ..Entry::new(time, operation, extent)
    }))
}
