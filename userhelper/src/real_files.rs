//! Files on the host: the seams of [`driver::host`] on Linux itself.
//!
//! System calls go through std and rustix, but for two that both lack: nix takes the
//! locks, and reflink-copy shares extents. No code here is unsafe.
//!
//! A seam is a file: `names` is what happens to names, `file` what is asked of an open file, and
//! `image_tools` what the image tools ask beyond that. The others are what these three use.

mod attributes;
mod belongings;
mod beneath;
mod directory;
mod errors;
mod file;
mod image_tools;
mod lock;
mod metadata;
mod modes;
mod names;
mod rights;

pub use belongings::Belongings;
pub(crate) use errors::{host_error, is_repeated};
pub use errors::{names_are_fixed, why_fixed};
pub use file::RealFile;
pub use image_tools::free_space;
pub use modes::{Given, give_mode_at, give_storage_attributes_at};

/// The files of this machine, as this process sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealHost;
