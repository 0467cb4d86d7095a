//! A loop on `io_uring`: one call gives the kernel all reads that have a free buffer, and waits for
//! one that ends.
//!
//! This file has unsafe code. The kernel writes into buffers while their reads are under way. They
//! are on the heap and belong to the ring, which touches none whose read is under way, and never
//! gives one back that may be.
#![expect(unsafe_code, reason = "the kernel is given addresses; see above")]

use std::io;
use std::os::fd::AsRawFd;
use std::slice::Iter;

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};

use super::block::Block;
use super::{Files, Place, file_of, short};

/// What the kernel is told of before the first read, so that it need not look it up at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Nothing: a read names a descriptor and an address.
    Nothing,
    /// The files.
    Files,
    /// The files, and the buffers, which stay in memory.
    FilesAndBuffers,
}

/// A ring, and a buffer for each read that it may have in flight.
pub struct Ring {
    // It is dropped first: the kernel knows of the buffers through it.
    ring: IoUring,
    files: Files,
    blocks: Vec<Block>,
    /// What is read into each of them.
    places: Vec<Place>,
    /// Those of which no read is under way.
    free: Vec<usize>,
    registered: Registered,
}

impl Ring {
    /// A ring for `depth` reads of `len` bytes in flight.
    ///
    /// # Errors
    /// That the kernel does not have it, or does not allow it.
    pub fn new(
        files: &Files,
        depth: usize,
        len: usize,
        registered: Registered,
    ) -> io::Result<Ring> {
        let ring = made(u32::try_from(depth).map_err(io::Error::other)?)?;
        let mut blocks: Vec<_> = (0..depth).map(|_| Block::new(len)).collect();
        if registered != Registered::Nothing {
            let descriptors: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
            ring.submitter().register_files(&descriptors)?;
        }
        if registered == Registered::FilesAndBuffers {
            let vectors: Vec<_> = blocks.iter_mut().map(vector).collect();
            // SAFETY: the buffers are there as long as the ring, which is dropped before them.
            unsafe { ring.submitter().register_buffers(&vectors) }?;
        }
        Ok(Ring {
            ring,
            files: Files::clone(files),
            blocks,
            places: vec![Place { file: 0, at: 0 }; depth],
            free: (0..depth).collect(),
            registered,
        })
    }

    /// Reads the blocks at these places.
    ///
    /// # Errors
    /// Of the first read that fails, when those that were under way have ended.
    pub fn read(&mut self, places: &[Place]) -> io::Result<u64> {
        let (mut left, mut sum, mut failure) = (places.iter(), 0, None);
        loop {
            if failure.is_none() {
                failure = self.begin(&mut left).err();
            }
            if self.free.len() == self.blocks.len() {
                return failure.map_or(Ok(sum), Err);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for entry in self.ring.completion() {
                let slot = entry.user_data() as usize;
                self.free.push(slot);
                let (block, read) = (&self.blocks[slot], entry.result());
                if read < 0 {
                    failure.get_or_insert(io::Error::from_raw_os_error(-read));
                } else if read as usize == block.bytes().len() {
                    sum += block.first();
                } else {
                    failure.get_or_insert(short(self.places[slot], read as usize));
                }
            }
        }
    }

    /// Puts a read into the queue for each free buffer, as far as blocks are left.
    fn begin(&mut self, left: &mut Iter<'_, Place>) -> io::Result<()> {
        let mut queue = self.ring.submission();
        while let Some(&slot) = self.free.last() {
            let Some(&place) = left.next() else {
                break;
            };
            let file = file_of(&self.files, place)?.as_raw_fd();
            let block = &mut self.blocks[slot];
            let entry = entry(self.registered, file, place, block, slot);
            // SAFETY: the entry names a buffer of this ring, which nobody touches until the kernel
            // has ended the read. After that it is in `free` again.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
            self.free.pop();
            self.places[slot] = place;
        }
        Ok(())
    }
}

/// A ring in the cheapest of the ways that the kernel knows. Its owner is the only one to use it,
/// so completions may wait until it looks.
fn made(depth: u32) -> io::Result<IoUring> {
    let newest = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth);
    let newer = |_| IoUring::builder().setup_coop_taskrun().build(depth);
    newest.or_else(newer).or_else(|_| IoUring::new(depth))
}

/// As the kernel is told of a buffer that stays.
fn vector(block: &mut Block) -> libc::iovec {
    let bytes = block.bytes_mut();
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

fn entry(
    registered: Registered,
    file: i32,
    place: Place,
    block: &mut Block,
    slot: usize,
) -> squeue::Entry {
    let bytes = block.bytes_mut();
    let (address, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
    let index = Fixed(place.file as u32);
    let read = match registered {
        Registered::Nothing => opcode::Read::new(Fd(file), address, len)
            .offset(place.at)
            .build(),
        Registered::Files => opcode::Read::new(index, address, len)
            .offset(place.at)
            .build(),
        Registered::FilesAndBuffers => opcode::ReadFixed::new(index, address, len, slot as u16)
            .offset(place.at)
            .build(),
    };
    read.user_data(slot as u64)
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.free.len() < self.blocks.len() {
            // A wait has failed. The kernel may still write into these buffers: they are never
            // given back.
            std::mem::forget(std::mem::take(&mut self.blocks));
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("depth", &self.blocks.len())
            .field("registered", &self.registered)
            .finish_non_exhaustive()
    }
}
