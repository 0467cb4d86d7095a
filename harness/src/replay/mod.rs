//! Replaying a trace through a driver, with the device resized on the way, and every sector
//! compared with an independent model.
//!
//! From top to bottom: [`session`] brings the device up and takes it down, [`run`] is the
//! loop, `requests` makes requests of records, a [`BlockDevice`](crate::device::BlockDevice) is
//! where they go.

pub mod backing;
mod bring_up;
pub mod counts;
pub mod error;
mod holes;
mod in_flight;
pub mod limits;
pub mod measured;
pub mod observe;
pub mod options;
mod own_file;
pub mod pace;
mod precheck;
pub mod report;
mod requests;
mod room;
pub mod run;
pub mod session;
mod session_error;
pub mod stamp_host;
pub mod timeline;
mod verify;
pub mod volumes;

pub use bring_up::{BringsUp, OrderedBut, Pipe, Reopened, ReplayDriver};
pub(crate) use bring_up::{Model, left_to_a_kernel};
pub use limits::Allowed;
pub use options::{Options, ResizeAt};
pub use pace::Pace;
pub use report::Report;
pub use requests::{PastEnd, Placing};
pub use session::Session;
pub use session_error::SessionError;
