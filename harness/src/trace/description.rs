//! What a trace says about itself, and what its format says about it.

use driver::units::SectorCount;
use serde::Serialize;

use super::Format;

/// The units of a format's numbers, in words. Records have them converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Units {
    /// That of its times.
    #[serde(rename = "time_unit")]
    pub time: &'static str,
    /// That of its positions and lengths.
    #[serde(rename = "position_unit")]
    pub position: &'static str,
}

/// What a trace says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The name of its format.
    pub format: &'static str,
    /// How it was compressed: "gzip" or "zstd".
    pub compression: Option<&'static str>,
    /// The units that it is in.
    #[serde(flatten)]
    pub units: Units,
    /// The number of files that it consists of: one for each CPU with blktrace, else 1.
    pub files: usize,
    /// The number of files that would be parts of it by their names, but are no regular files.
    pub files_left_out: usize,
    /// The size of the recorded device, where the trace tells.
    #[serde(rename = "device_size_sectors", serialize_with = "sectors")]
    pub device_size: Option<SectorCount>,
    /// Where it comes from, in free text; may be empty.
    pub text: String,
}

impl Description {
    /// Of a trace of which only the format is known.
    pub(super) fn of(format: Format) -> Description {
        Description {
            format: format.name(),
            compression: None,
            units: format.units(),
            files: 1,
            files_left_out: 0,
            device_size: None,
            text: String::new(),
        }
    }
}

fn sectors<S: serde::Serializer>(
    size: &Option<SectorCount>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    size.map(|count| count.0).serialize(serializer)
}
