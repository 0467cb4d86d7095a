//! Recorded I/O traces: readers of several formats, all streaming, and a compact
//! format of our own.
//!
//! [`open`] tells the format by its content and returns a [`TraceSource`], which
//! iterates over [`Record`]s. No reader holds more than a window of bounded size,
//! and every error names the file, the place, what was found and what was expected.
//! After an error a source ends.

pub mod compact;
pub mod detect;
pub mod error;
pub mod ftrace;
mod input;
pub mod record;
mod rwbs;
pub mod summary;
pub mod vscsi;

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use driver::units::{FileOffset, SectorCount};
use serde::Serialize;

pub use compact::{CompactReader, TraceHeader, TraceWriter};
pub use detect::Format;
pub use error::{Place, TraceError};
pub use ftrace::{DeviceNumber, Event};
pub use record::{Nanoseconds, Record, TraceOperation};
pub use summary::{Summary, convert, summarize};

use input::Input;

/// What a trace says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The name of its format.
    pub format: &'static str,
    /// The size of the recorded device, where the trace tells.
    #[serde(rename = "device_size_sectors", serialize_with = "sectors")]
    pub device_size: Option<SectorCount>,
    /// Where it comes from, in free text; may be empty.
    pub text: String,
}

fn sectors<S: serde::Serializer>(
    size: &Option<SectorCount>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    size.map(|count| count.0).serialize(serializer)
}

/// A stream of recorded requests.
pub trait TraceSource: Iterator<Item = Result<Record, TraceError>> + Send {
    /// What the trace says about itself.
    fn description(&self) -> &Description;
}

/// What to take out of a trace that holds more than one sequence of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only requests to this device. Without it, a second device is an error.
    /// Formats that know one device only ignore it.
    pub device: Option<DeviceNumber>,
    /// Which of the events in a request's life counts. Without it the one that
    /// the trace has, and if it has several, the first in [`Event`]'s order.
    pub event: Option<Event>,
    /// Go on where the recorder says that it lost events; otherwise an error.
    pub allow_lost_events: bool,
}

/// Opens the trace at `path`.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
    let file = File::open(path).map_err(|error| TraceError::Io {
        place: Place::new(path, FileOffset(0)),
        error,
    })?;
    open_stream(path, file, options)
}

/// Opens a trace that comes from anywhere; `name` is what errors call it.
pub fn open_stream(
    name: &Path,
    mut stream: impl Read + Send + 'static,
    options: &ReadOptions,
) -> Result<Box<dyn TraceSource>, TraceError> {
    let mut prefix = vec![0; detect::PREFIX_LEN];
    let length = Input::new(name, &mut stream).read_up_to(&mut prefix)?;
    prefix.truncate(length);
    let format = detect::detect(&prefix).ok_or_else(|| TraceError::UnknownFormat {
        file: name.to_owned(),
        found: if prefix.is_empty() {
            "nothing".to_owned()
        } else {
            error::excerpt(&prefix[..prefix.len().min(32)])
        },
    })?;
    let window = prefix.clone();
    let reader = BufReader::new(Cursor::new(prefix).chain(stream));
    Ok(match format {
        Format::Compact => Box::new(CompactReader::new(name, reader)?),
        Format::Vscsi(version) => Box::new(vscsi::VscsiReader::new(name, reader, version)),
        Format::Ftrace => Box::new(ftrace::FtraceReader::new(name, reader, &window, options)?),
    })
}
