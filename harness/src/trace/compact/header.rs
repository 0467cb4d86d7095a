//! The header of a `.ubdtrace` file.

use driver::exact_count;
use driver::units::SectorCount;

use super::super::Description;
use super::super::error::excerpt;
use super::super::record::MAX_END_SECTOR;
use super::frame::RECORD_LEN;
use super::{Fault, field, u32_at, u64_at};

/// The first bytes of every `.ubdtrace` file.
pub const FILE_MAGIC: [u8; 8] = *b"UBDTRACE";

/// The longest description that the header may hold, in bytes.
pub const MAX_DESCRIPTION_LEN: usize = 4096;

/// The length of the header without the description.
pub(super) const FIXED_LEN: usize = 32;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Requests alone.
    One,
    /// Of each request who has asked for it and how it ended too.
    Two,
}

impl Version {
    fn number(self) -> u16 {
        match self {
            Version::One => 1,
            Version::Two => 2,
        }
    }

    /// That of a header.
    pub(super) fn of(fixed: &[u8; FIXED_LEN]) -> Result<Version, Fault> {
        match u16::from_le_bytes(field(fixed, 8)) {
            1 => Ok(Version::One),
            2 => Ok(Version::Two),
            other => {
                let found = format!("format version {other}");
                Err(Fault::new(8, found, "version 1 or 2"))
            }
        }
    }
}

/// What the header of a trace says about the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceHeader {
    /// The size of the recorded device; `None` if unknown.
    pub device_size: Option<SectorCount>,
    /// Where the trace comes from. Only the first 4096 bytes are kept.
    pub description: String,
}

impl From<&Description> for TraceHeader {
    fn from(description: &Description) -> TraceHeader {
        TraceHeader {
            device_size: description.device_size,
            description: description.text.clone(),
        }
    }
}

impl TraceHeader {
    pub(super) fn encode(&self, version: Version) -> Vec<u8> {
        let mut end = self.description.len().min(MAX_DESCRIPTION_LEN);
        while !self.description.is_char_boundary(end) {
            end -= 1;
        }
        let description = &self.description.as_bytes()[..end];
        let device_size = self.device_size.map_or(0, |size| size.0);
        let mut bytes = Vec::with_capacity(FIXED_LEN + end);
        bytes.extend_from_slice(&FILE_MAGIC);
        bytes.extend_from_slice(&version.number().to_le_bytes());
        bytes.extend_from_slice(&(RECORD_LEN as u16).to_le_bytes());
        bytes.extend_from_slice(&(end as u32).to_le_bytes());
        bytes.extend_from_slice(&device_size.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), description);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(description);
        bytes
    }

    /// Checks the fixed part and returns the length of the description after it.
    pub(super) fn description_len(fixed: &[u8; FIXED_LEN]) -> Result<usize, Fault> {
        if fixed[..8] != FILE_MAGIC {
            return Err(Fault::new(0, excerpt(&fixed[..8]), excerpt(&FILE_MAGIC)));
        }
        Version::of(fixed)?;
        let record_len = u16::from_le_bytes(field(fixed, 10));
        if usize::from(record_len) != RECORD_LEN {
            let found = format!("records of {}", exact_count(record_len.into(), "byte"));
            return Err(Fault::new(10, found, format!("{RECORD_LEN} bytes")));
        }
        let length = u32_at(fixed, 12);
        if length as usize > MAX_DESCRIPTION_LEN {
            let found = format!("a description of {length} bytes");
            return Err(Fault::new(
                12,
                found,
                format!("at most {MAX_DESCRIPTION_LEN}"),
            ));
        }
        Ok(length as usize)
    }

    /// `description` is as long as `description_len` said.
    pub(super) fn decode(
        fixed: &[u8; FIXED_LEN],
        description: Vec<u8>,
    ) -> Result<TraceHeader, Fault> {
        let (stored, computed) = (
            u32_at(fixed, 28),
            crc32c::crc32c_append(crc32c::crc32c(&fixed[..28]), &description),
        );
        if stored != computed {
            return Err(Fault::checksum(28, "the header", stored, computed));
        }
        let device_size = u64_at(fixed, 16);
        if device_size > MAX_END_SECTOR.0 {
            let found = format!("a device of {device_size} sectors");
            return Err(Fault::new(16, found, format!("at most {MAX_END_SECTOR}")));
        }
        if u32_at(fixed, 24) != 0 {
            return Err(Fault::new(24, u32_at(fixed, 24).to_string(), "0"));
        }
        let description = String::from_utf8(description).map_err(|error| {
            let at = FIXED_LEN + error.utf8_error().valid_up_to();
            Fault::new(at as u64, "a description that is not UTF-8", "UTF-8")
        })?;
        Ok(TraceHeader {
            device_size: Some(SectorCount(device_size)).filter(|size| size.0 > 0),
            description,
        })
    }
}
