//! `ubdlab bench io`: the `ordered` driver on files, beside bare system calls on the same
//! files at the same offsets, and beside other programs that put a copy-on-write layer over
//! a file. Everything is in the page cache, but for the cold and the direct rows in `deep`: what
//! is measured is the way to it.

mod cold_replay;
mod counting;
mod deep;
mod device;
mod flush;
mod growth;
mod in_place;
mod peers;
mod runs;
mod scale;
mod shared_flush;
mod threaded;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::{Only, Row};
use crate::device::Io;
use scale::Scale;

pub use device::SetUpError;
pub(super) use device::served;

/// Measures all rows with files in `directory`; calls `each` when a few of them are there. `io`
/// carries out what the device asks of files that are not in the page cache; [`Io::Auto`] is
/// each, of which the best counts.
///
/// # Errors
/// If the files cannot be made or used.
pub fn measure(
    directory: &Path,
    only: &Only,
    io: Io,
    mut each: impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    in_place::measure(directory, only, &mut each)?;
    threaded::measure(directory, only, &mut each)?;
    runs::measure(directory, only, &mut each)?;
    flush::measure(directory, only, &mut each)?;
    growth::measure(directory, only, &mut each)?;
    peers::measure(directory, only, &mut each)?;
    let scale = &Scale::FULL;
    shared_flush::measure(directory, only, scale, &mut each)?;
    deep::measure(directory, only, io, scale, &mut each)?;
    cold_replay::measure(directory, only, io, scale, &mut each)
}
