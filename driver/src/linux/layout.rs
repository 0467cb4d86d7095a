//! The header as the kernel takes it, and the layout that it computes from it: with the
//! switches off what [`crate::cow`] decodes and computes, with them on what Linux does to
//! fields that nobody checked.

use crate::cow::{Geometry, Header, HeaderError, LONGEST_HEADER, MAGIC, VERSION_AT, Version};
use crate::host::{HostError, HostFile, HostResult};
use crate::units::{Bytes, FileOffset, SECTOR_SIZE};

use super::error::{Death, LinuxOpenError, host};
use super::{Defect, Defects};

/// The fields of a header, believed or checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelHeader {
    pub(super) version: Version,
    pub(super) path: Vec<u8>,
    pub(super) mtime: u32,
    pub(super) size: Bytes,
    sector_size: u32,
    alignment: u32,
    /// The decoded header, where it could be decoded.
    pub(super) checked: Option<Header>,
}

impl KernelHeader {
    /// Reads the header of a COW file to where memory holds `remembered`, if that is one.
    pub(super) fn read<F: HostFile>(
        cow: &F,
        remembered: Option<&[u8]>,
        defects: Defects,
    ) -> Result<KernelHeader, LinuxOpenError> {
        let goes_on = defects.contains(Defect::FailedHeaderReadIsSuccess);
        let start = match (read_start(cow, defects), remembered) {
            (Err(_), Some(remembered)) if goes_on => remembered.to_vec(),
            (read, _) => read.map_err(host("reading the header"))?,
        };
        let decoded = Header::decode(&start);
        if let Ok(header) = &decoded
            && header.version == Version::V3Wide
            && defects.contains(Defect::V3WideLayout)
        {
            return believed(&start, Version::V3, false).ok_or_else(|| short(&start));
        }
        match decoded {
            Ok(header) if header.relocating => Err(LinuxOpenError::Relocating),
            Ok(header) => Ok(KernelHeader::checked(header)),
            Err(
                HeaderError::BadSectorSize { .. }
                | HeaderError::BadAlignment { .. }
                | HeaderError::UnknownFormat { .. },
            ) if defects.contains(Defect::HeaderUnchecked) => {
                let little = start.starts_with(&MAGIC.to_le_bytes());
                let path = start.get(Version::V3.fields().path..).unwrap_or_default();
                let wide = path.starts_with(&[0; 4]) && !defects.contains(Defect::V3WideLayout);
                // The version's first byte in the one order is its last in the other.
                let version = match start.get(VERSION_AT..VERSION_AT + 4) {
                    Some([1, ..] | [.., 1]) => Version::V1,
                    Some([2, ..] | [.., 2]) => Version::V2,
                    _ if wide => Version::V3Wide,
                    _ => Version::V3,
                };
                believed(&start, version, little && version == Version::V1)
                    .ok_or_else(|| short(&start))
            }
            Err(error) => Err(LinuxOpenError::Header(error)),
        }
    }

    /// That of a header in which nothing is wrong.
    pub(super) fn checked(header: Header) -> KernelHeader {
        KernelHeader {
            version: header.version,
            path: header.backing_path.clone(),
            mtime: header.backing_mtime,
            size: header.size,
            sector_size: SECTOR_SIZE as u32,
            alignment: header.alignment,
            checked: Some(header),
        }
    }
}

/// Reads the start of a COW file. Linux asks once for the longest header, and takes a read that is
/// short for the end of the file. Without [`Defect::ShortBitmapRead`] reads are not believed so,
/// and the rest is asked for.
fn read_start<F: HostFile>(cow: &F, defects: Defects) -> HostResult<Vec<u8>> {
    let mut start = vec![0; LONGEST_HEADER.0 as usize];
    let mut len = cow.read_at(&mut start, FileOffset(0))?;
    while len < start.len() && !defects.contains(Defect::ShortBitmapRead) {
        match cow.read_at(&mut start[len..], FileOffset(len as u64))? {
            0 => break,
            more => len += more,
        }
    }
    start.truncate(len);
    Ok(start)
}

fn short(start: &[u8]) -> LinuxOpenError {
    LinuxOpenError::Header(HeaderError::TooShort {
        found: start.len() as u64,
        expected: LONGEST_HEADER.0,
    })
}

/// Takes the fields from where `version` has them, whatever they are.
fn believed(start: &[u8], version: Version, little: bool) -> Option<KernelHeader> {
    let u32_at = |offset: usize| -> Option<u32> {
        let bytes = start.get(offset..offset + 4)?.try_into().ok()?;
        Some(match little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    };
    let u64_at = |offset: usize| -> Option<u64> {
        let (first, second) = (u32_at(offset)?, u32_at(offset + 4)?);
        let (low, high) = if little {
            (first, second)
        } else {
            (second, first)
        };
        Some(u64::from(high) << 32 | u64::from(low))
    };
    let places = version.fields();
    let path = start.get(places.path..places.path + places.path_len)?;
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    let sector_size = u32_at(places.sector_size)?;
    Some(KernelHeader {
        version,
        path: path.to_vec(),
        mtime: u32_at(places.mtime)?,
        size: Bytes(u64_at(places.size)?),
        sector_size,
        alignment: match places.alignment {
            Some(offset) => u32_at(offset)?,
            None => sector_size,
        },
        checked: None,
    })
}

/// Where things are in the COW file. Offsets are 64 bits that wrap, as the kernel's do: one
/// that became negative is a very large one, which the host refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) bitmap_offset: u64,
    pub(super) bitmap_len: u64,
    pub(super) data_offset: u64,
}

impl Layout {
    pub(super) fn of(header: &KernelHeader, defects: Defects) -> Result<Layout, LinuxOpenError> {
        let layout = match &header.checked {
            Some(checked) => {
                let geometry = Geometry::of(checked).map_err(LinuxOpenError::Layout)?;
                Layout {
                    bitmap_offset: geometry.bitmap_offset.0,
                    bitmap_len: geometry.bitmap_len.0,
                    data_offset: geometry.data_offset.0,
                }
            }
            None => believed_layout(header)?,
        };
        if !defects.contains(Defect::IntOffsets) {
            return Ok(layout);
        }
        let int = |offset: u64| i64::from(offset as u32 as i32) as u64;
        Ok(Layout {
            bitmap_offset: int(layout.bitmap_offset),
            data_offset: int(layout.data_offset),
            ..layout
        })
    }
}

fn believed_layout(header: &KernelHeader) -> Result<Layout, LinuxOpenError> {
    let died = |field| LinuxOpenError::Died(Death::DividedByZero { field });
    let size = header.size.0;
    let header_len = header.version.header_len().0;
    let sector = u64::from(header.sector_size);
    if sector == 0 {
        return Err(died("the sector size"));
    }
    let align = u64::from(header.alignment);
    if align == 0 {
        return Err(died("the alignment"));
    }
    let round_up = |offset: u64| offset.checked_next_multiple_of(align).unwrap_or(u64::MAX);
    let (bitmap_offset, bitmap_len) = match header.version {
        Version::V1 | Version::V2 => {
            let len = size.saturating_add(sector - 1) / (8 * sector);
            (header_len, len)
        }
        Version::V3 | Version::V3Wide => {
            let len = size.div_ceil(sector).div_ceil(8);
            (round_up(header_len), len)
        }
    };
    Ok(Layout {
        bitmap_offset,
        bitmap_len,
        data_offset: round_up(bitmap_offset.saturating_add(bitmap_len)),
    })
}

/// A position that a host takes; EINVAL for one that is negative where it has a sign.
pub(super) fn position(offset: u64) -> Result<FileOffset, HostError> {
    match i64::try_from(offset) {
        Ok(_) => Ok(FileOffset(offset)),
        Err(_) => Err(HostError::Os(22)),
    }
}
