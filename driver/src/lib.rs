//! The ubd driver: the COW format, the sector map, and the handling of requests.
//!
//! There is no operating system in this crate. Files and names of the host come in
//! through the seams in [`host`]; time and randomness do not come in at all.
//!
//! Three layers, each using only those before it:
//! - [`cow`]: the format on disk, its geometry, and the map of dirty sectors;
//! - [`blk`]: requests, limits, splitting and statuses as the block layer names them;
//! - the drivers: [`ordered`], and [`open`], which brings a device up.

pub mod blk;
pub mod cow;
pub mod device_spec;
pub mod host;
pub mod linux;
pub mod memory;
mod name_backing;
pub mod open;
pub mod ordered;
pub mod resize;
mod shown;
pub mod size;
pub mod units;

pub use shown::{ManyLines, OneLine, is_control, shown};
