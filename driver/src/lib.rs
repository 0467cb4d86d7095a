//! The ubd driver: the COW format, the sector map, and the handling of requests.
//!
//! There is no operating system in this crate, but for the bytes of a path (`path_bytes`). Files
//! and names of the host come in through the seams in [`host`]; time and randomness do not come in
//! at all. [`memory`] is a host in memory.
//!
//! Three layers, each using only those before it:
//! - [`cow`]: the format on disk, its geometry, and the map of dirty sectors; `name_backing` writes
//!   the name of another backing file into a header;
//! - [`blk`]: requests, limits, splitting and statuses as the block layer names them;
//! - the drivers: [`engine`], which makes host operations of requests and does no I/O; [`ordered`],
//!   an engine with its files, which an [`executor`] may carry operations out on; [`resize`], which
//!   says what a resize of such a device is; [`open`], which brings a device up or creates its COW
//!   file; [`linux`], models of the real kernels' drivers with their defects; and [`mod@driver`],
//!   what all of them are to whoever has one.
//!
//! All of them count in [`units`]. [`device_spec`] reads a device as UML's command line names it,
//! [`size`] reads a size as people write it, [`shown()`] escapes foreign text for people,
//! [`exact_count`] puts numbers of things in words, and [`at_once()`] is for `async` functions that
//! wait for nothing.

#![forbid(unsafe_code)]

pub mod blk;
mod coroutine;
pub mod cow;
mod date;
pub mod device_spec;
pub mod driver;
pub mod engine;
pub mod executor;
pub mod host;
pub mod linux;
pub mod memory;
mod name_backing;
pub mod open;
pub mod ordered;
mod path_bytes;
mod read_place;
pub mod resize;
mod shown;
pub mod size;
mod step;
pub mod units;
mod words;

pub use coroutine::at_once;
pub use date::since_1970;
pub use shown::{ManyLines, OneLine, is_control, shell_path, shell_word, shown};
pub use words::{any_of, exact_count, plural, rounded_size, system_words};
