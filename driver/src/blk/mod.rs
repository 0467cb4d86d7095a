//! The block layer's side of the driver: what a request is, how large it may be,
//! how a larger one is cut, and what comes back.

mod limits;
mod request;
mod status;

pub use limits::{Limits, Zeroing, split};
pub use request::{Completion, HostFailure, Operation, Request, Segment, Tag};
pub use status::Status;
