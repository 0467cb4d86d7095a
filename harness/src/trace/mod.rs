//! Recorded I/O traces: readers of the formats in docs/traces.md, all streaming, a compact format
//! of our own, writers of what other tools read, and statistics.
//!
//! [`open`] tells the format by its content, plain or compressed, and returns a
//! [`TraceSource`], which iterates over [`Record`]s. No reader holds more than a window of
//! bounded size, and every error names the file, the place, what was found and what was
//! expected. After an error a source ends.
//!
//! From bottom to top: `input` is a stream that knows its position, `lines` makes lines of it;
//! a file for each format has a decoder, which makes an entry of a line or record; `reader`
//! makes records of entries, the same way for all formats.

pub mod biosnoop;
pub mod blkparse;
pub mod blktrace;
mod block_event;
mod bundled;
pub mod by_device;
pub mod compact;
pub mod compression;
pub mod csv;
mod description;
pub mod detect;
pub mod device;
mod entry;
pub mod error;
mod event;
pub mod fio;
pub mod fiu;
pub mod ftrace;
pub mod generate;
mod input;
pub mod lines;
pub mod log_writes;
pub mod notes;
mod number;
mod open;
mod reader;
pub mod record;
mod rwbs;
mod select;
pub mod served;
pub mod stat;
pub mod summary;
pub mod vscsi;
pub mod write;

use std::io::{BufReader, Read};

pub use bundled::Bundled;
pub use by_device::{ByDevice, ToDevice};
pub use compact::{CompactReader, TraceHeader, TraceWriter};
pub use description::{Description, Units};
pub use detect::Format;
pub use device::{Device, DeviceChoice, DeviceNumber, Devices, MOST_DEVICES};
pub use error::{Place, TraceError};
pub use event::Event;
pub use generate::{Generator, Workload};
pub use notes::Notes;
pub use open::{files, open, open_stream};
pub use record::{Nanoseconds, Record, TraceOperation};
pub use select::{Known, LeftOut, Selection};
pub use served::Served;
pub use stat::{Statistics, statistics};
pub use summary::{Converted, Summary, convert, summarize};

/// What the decoders of foreign formats read from.
type Stream = BufReader<Box<dyn Read + Send>>;

/// A stream of recorded requests.
pub trait TraceSource: Iterator<Item = Result<Record, TraceError>> + Send {
    /// What the trace says about itself.
    fn description(&self) -> &Description;

    /// What was noticed in the part that has been read.
    fn notes(&self) -> &Notes;

    /// What the last record, a write, wrote: whole sectors, as many as it has. Only where the
    /// trace carries data.
    fn payload(&self) -> Option<&[u8]> {
        None
    }

    /// To which device the last record went, where the trace tells. Only with [`Devices::Each`].
    fn to_device(&self) -> Option<ToDevice<'_>> {
        None
    }

    /// Whether the trace tells of each record who has asked for it and how it ended.
    fn tells_served(&self) -> bool {
        false
    }

    /// Who has asked for the last record, and how it ended. Only where the trace tells.
    fn served(&self) -> Option<Served> {
        None
    }

    /// What was left out of the part that has been read, because only other requests were asked
    /// for.
    fn left_out(&self) -> LeftOut {
        LeftOut::default()
    }
}

/// What to take out of a trace that holds more than one sequence of requests, and what to do
/// about what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Requests to which devices.
    pub devices: Devices,
    /// Which of the events in a request's life counts, of formats that tell them apart. Without
    /// it the one that the trace has, and if it has several in its first 64 KiB, the first in
    /// [`Event`]'s order.
    pub event: Option<Event>,
    /// Go on where the recorder says that it lost events; otherwise an error.
    pub allow_lost_events: bool,
    /// Leave out lines and records that are wrong, and count them; otherwise an error. Our own
    /// format has checksums, and is never read past what is wrong.
    pub skip_bad: bool,
}
