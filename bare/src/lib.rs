//! Reads of many blocks with what the kernel offers and nothing else: what a driver that reads the
//! same blocks is measured beside.
//!
//! Each way reads all blocks of a list, with a fixed number of reads in flight: [`in_turn`] one,
//! [`Ring`] and [`Pool`] as many as they are made for. None of them shares code with the executors
//! of a device, whose cost would then be on both sides of the comparison. None repeats a read that
//! is interrupted or short: that is an error.
//!
//! What they return is the sum of the first bytes of all blocks. Those who have read the same
//! blocks have the same sum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

mod block;
mod pool;
mod ring;

pub use pool::Pool;
pub use ring::{Registered, Ring};

use block::Block;

/// Files that blocks are read from.
pub type Files = Arc<[File]>;

/// Where a block is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The index of its file.
    pub file: usize,
    /// Its first byte there.
    pub at: u64,
}

/// Reads blocks of `len` bytes one after the other.
///
/// # Errors
/// Of the first read that fails.
pub fn in_turn(files: &Files, len: usize, places: &[Place]) -> io::Result<u64> {
    let mut block = Block::new(len);
    let mut sum = 0;
    for &place in places {
        sum += read(files, place, &mut block)?;
    }
    Ok(sum)
}

/// Reads a block with one system call. Returns its first byte.
fn read(files: &Files, place: Place, block: &mut Block) -> io::Result<u64> {
    let file = file_of(files, place)?;
    let read = file.read_at(block.bytes_mut(), place.at)?;
    match read == block.bytes().len() {
        true => Ok(block.first()),
        false => Err(short(place, read)),
    }
}

fn file_of(files: &Files, place: Place) -> io::Result<&File> {
    files.get(place.file).ok_or_else(|| {
        let (found, count) = (place.file, files.len());
        io::Error::other(format!("a block of file {found}, of {count} files"))
    })
}

fn short(place: Place, read: usize) -> io::Error {
    let what = format!(
        "a read at byte {} ended after {read} bytes, before the end of the block",
        place.at
    );
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

#[cfg(test)]
mod tests;
