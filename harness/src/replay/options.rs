//! How a trace is to be replayed.

use driver::open::OpenOptions;
use driver::resize::Strategy;
use driver::units::Bytes;
use userhelper::planner::Shrink;

use crate::device::Io;
use crate::stamp::Coverage;
use crate::trace::{TraceError, TraceSource};

use super::bring_up::ReplayDriver;
use super::limits::Allowed;
use super::pace::Pace;
use super::requests::PastEnd;

/// A resize asked for on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeAt {
    /// Before which request of the trace, from 0.
    pub request: u64,
    /// The size.
    pub size: Bytes,
    /// How; `None` leaves it to the planner.
    pub strategy: Option<Strategy>,
}

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver that serves the requests. Only `ordered` resizes.
    pub driver: ReplayDriver,
    /// Requests in flight at most.
    pub depth: usize,
    /// What becomes of requests past the end.
    pub past_end: PastEnd,
    /// When requests are submitted.
    pub pace: Pace,
    /// Resizes on the way.
    pub resizes: Vec<ResizeAt>,
    /// Whether they may make the device smaller.
    pub shrink: Shrink,
    /// How the size in a device's specification is reached; `None` leaves it to the planner.
    pub strategy: Option<Strategy>,
    /// How the device is opened.
    pub open: OpenOptions,
    /// The alignment of a COW file made for the replay; `None` leaves room for growth.
    pub alignment: Option<u32>,
    /// How much of a sector is stamped and compared. Only [`super::Session::in_memory`] can do with
    /// less than all of it.
    pub coverage: Coverage,
    /// What the replay may cost.
    pub allowed: Allowed,
    /// Who carries out what is asked of real files.
    pub io: Io,
}

impl Options {
    /// As fast as it goes, with at most `depth` requests in flight: no resize, no request past the
    /// end, and every byte compared.
    pub fn as_fast(depth: usize) -> Options {
        Options {
            driver: ReplayDriver::Ordered,
            depth,
            past_end: PastEnd::Refuse,
            pace: Pace::AsFast,
            resizes: Vec::new(),
            shrink: Shrink::Refuse,
            strategy: None,
            open: OpenOptions::default(),
            alignment: None,
            coverage: Coverage::Whole,
            allowed: Allowed::default(),
            io: Io::default(),
        }
    }
}

/// Opens the trace, from its start; a session needs it more than once.
pub type OpenTrace<'a> = &'a dyn Fn() -> Result<Box<dyn TraceSource>, TraceError>;
