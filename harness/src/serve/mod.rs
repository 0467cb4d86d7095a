//! A device served to real programs, while it lives.
//!
//! A request's way, downhill: an endpoint (a folder for each protocol) reads it from its client,
//! checks it and takes its part of the memory ([`Share`]); [`Submitter`] cuts it to the driver's
//! limits and hands it to the device's thread; [`Completer`] puts the parts together again; the
//! endpoint answers. [`Export`] is what all endpoints of a device share: who its clients are, how
//! much memory their requests may take, how the device is doing, and its resizes. [`record`] writes
//! down what was asked for. [`control`] is where the device's owner looks at it, grows it and stops
//! it.
//!
//! Nothing here trusts a client. What a client may claim is bounded before it is believed, and one
//! that is cut off leaves the device and the others as they are.

mod acceptor;
pub mod address;
mod budget;
mod client;
pub mod control;
mod export;
mod extents;
pub mod fuse;
pub mod handed_over;
mod job;
mod long_jobs;
pub mod nbd;
mod pending;
pub mod record;
mod resizing;
mod server;
pub mod service_manager;
mod shares;
pub mod socket;
mod status;
pub mod vhost_user;
mod watched_file;
mod way;

pub use budget::{Budget, Permit};
pub use client::{Completer, Done, Job, NoWay, Submitter};
pub use export::{About, Export, Tells};
pub use extents::Extent;
pub use resizing::{CannotResize, Grown};
pub use server::{Ending, Endpoint, Endpoints, Opening, Up};
pub use shares::{Share, Shares};
pub use status::{ClientStatus, DeviceStatus, ResizeState, ResizeStatus};
