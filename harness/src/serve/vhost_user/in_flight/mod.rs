//! What is in flight, noted in memory that outlives the server.
//!
//! The client keeps the memory, and gives it to the next server. The layout and the order of its
//! changes are those of the vhost-user specification ("inflight I/O tracking", split queues), so
//! that a server which was killed at any moment leaves notes that can be read:
//!
//! - A chain is noted before the device sees it.
//! - Which chain is answered next is noted before its answer shows in the used ring. The chain is
//!   out of flight after that, and then the place in the ring is noted. Where the noted place is
//!   another than the ring's, the answer shows, whatever the chain's own note says.
//!
//! The next server submits again what is in flight, in the order in which it was taken. A request
//! that was carried out and not answered is carried out twice, which changes nothing: its guest has
//! not gone on, and what overlaps keeps its order.
//!
//! # What a killed server takes with it
//!
//! A guest relies on more than on its requests in flight. What was written, answered and not yet
//! flushed is in the device's memory in part, and is lost with the server. A guest that went on
//! then would find old content under its feet. So the memory has a trailer of our own, which the
//! specification leaves to the server: how many changes were answered, and how many of them a flush
//! has covered. Where the two differ, the next server refuses the client, and says why. Both count
//! from a moment at which all was durable: the device is flushed before notes are lent, and before
//! those that come back are looked at.
//!
//! `messages` has the two messages by which a client borrows the memory and gives it back.

mod messages;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{AtomicAccess, Bytes, FileOffset, MmapRegion, VolatileMemory};

use super::chain::Broken;
use super::config::{LONGEST_QUEUE, QUEUES};
use crate::locked::locked;

pub(super) use messages::{Lender, Met};

/// A queue's notes: features in 8 bytes, and then in 2 bytes each the version, the number of
/// descriptors, the chain that is answered next, and the place in the used ring.
const HEADER: usize = 16;
const VERSION_AT: usize = 8;
const COUNT_AT: usize = 10;
const NEXT_AT: usize = 12;
const USED_AT: usize = 14;

/// The notes of a chain that begins with a descriptor: whether it is in flight in a byte, the chain
/// that was answered before it in the last 2 of 7, and when it was taken in 8.
const NOTE: usize = 16;
const BEFORE_AT: usize = 6;
const COUNTER_AT: usize = 8;

/// The version of the notes.
const VERSION: u16 = 1;

/// Queues' notes begin at multiples of this, as others lay them out.
const ALIGNMENT: usize = 64;

/// The trailer: a word by which it is known, the changes that were answered, and those that are
/// durable.
const TRAILER: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"UBDLABfl");
const ANSWERED_AT: usize = 8;
const DURABLE_AT: usize = 16;

/// Why memory for what is in flight is not lent, or not taken back.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoNotes {
    #[error(
        "found notes of what is in flight for {queues} queues of {len} descriptors, expected 1 to \
         {QUEUES} queues of 1 to {LONGEST_QUEUE}"
    )]
    Queues { queues: u16, len: u16 },
    #[error(
        "found {found} bytes from byte {offset} of a file of {file_len} bytes for what is in \
         flight, expected {expected}"
    )]
    Length {
        found: u64,
        offset: u64,
        file_len: u64,
        expected: usize,
    },
    #[error(
        "found a file for what is in flight that can be made shorter, expected one that is sealed \
         against that"
    )]
    Unsealed,
    #[error("found notes of what is in flight that no server of this kind has made")]
    Foreign,
    #[error(
        "found a queue that is running, expected all to be stopped when notes of what is in flight \
         are asked for or given back"
    )]
    Running,
    #[error(
        "what the guest was told is written cannot be made durable, because the device does not \
         flush: see what the server says of it"
    )]
    NotDurable,
    #[error(
        "{0} changes were answered and not flushed when its server was killed, and are lost: start \
         or reset the guest, whose journal replays"
    )]
    Lost(u64),
    #[error("memory for what is in flight: {0}")]
    Io(#[from] io::Error),
    #[error("memory for what is in flight: {0}")]
    Map(#[from] MmapRegionError),
}

/// How many queues are noted, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotedQueues {
    queues: u16,
    len: u16,
}

impl NotedQueues {
    pub(super) fn new(queues: u16, len: u16) -> Result<NotedQueues, NoNotes> {
        let fits = |found: u16, most: usize| (1..=most).contains(&usize::from(found));
        match fits(queues, QUEUES) && fits(len, LONGEST_QUEUE) {
            true => Ok(NotedQueues { queues, len }),
            false => Err(NoNotes::Queues { queues, len }),
        }
    }

    fn queue_len(self) -> usize {
        (HEADER + NOTE * usize::from(self.len)).next_multiple_of(ALIGNMENT)
    }

    fn trailer(self) -> usize {
        self.queue_len() * usize::from(self.queues)
    }

    /// The length of the memory, in bytes.
    pub(super) fn bytes(self) -> usize {
        self.trailer() + TRAILER
    }
}

/// The memory, of all queues.
#[derive(Debug)]
pub(super) struct InFlightNotes {
    memory: MmapRegion<()>,
    shape: NotedQueues,
    /// Held while the trailer is changed, which all queues have in common.
    trailer: Mutex<()>,
}

/// The notes of one queue.
#[derive(Clone, Debug)]
pub(super) struct QueueNotes {
    notes: Arc<InFlightNotes>,
    at: usize,
}

impl InFlightNotes {
    /// New memory with nothing in flight, and the file that it is, which nobody can make shorter.
    pub(super) fn new(shape: NotedQueues) -> Result<(InFlightNotes, OwnedFd), NoNotes> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("ubdlab in flight", flags).map_err(io::Error::from)?;
        let len = shape.bytes() as u64;
        rustix::fs::ftruncate(&file, len).map_err(io::Error::from)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(io::Error::from)?;
        let notes = InFlightNotes::mapped(file.try_clone()?, 0, shape)?;
        notes.store(shape.trailer(), MAGIC);
        Ok((notes, file))
    }

    /// Memory that a client gives back.
    pub(super) fn given_back(
        file: OwnedFd,
        offset: u64,
        len: u64,
        shape: NotedQueues,
    ) -> Result<InFlightNotes, NoNotes> {
        // Who touches memory that was cut off is killed. A file without seals is an error here.
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(NoNotes::Unsealed);
        }
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        let file_len = u64::try_from(stat.st_size).unwrap_or(0);
        let fits = offset.checked_add(len).is_some_and(|end| end <= file_len);
        if len != shape.bytes() as u64 || !fits {
            return Err(NoNotes::Length {
                found: len,
                offset,
                file_len,
                expected: shape.bytes(),
            });
        }
        let notes = InFlightNotes::mapped(file, offset, shape)?;
        let trailer = shape.trailer();
        if notes.load::<u64>(trailer) != MAGIC {
            return Err(NoNotes::Foreign);
        }
        let (answered, durable) = (notes.answered(), notes.durable());
        match answered == durable {
            true => Ok(notes),
            false => Err(NoNotes::Lost(answered.wrapping_sub(durable))),
        }
    }

    fn mapped(file: OwnedFd, offset: u64, shape: NotedQueues) -> Result<InFlightNotes, NoNotes> {
        let place = FileOffset::new(File::from(file), offset);
        Ok(InFlightNotes {
            memory: MmapRegion::from_file(place, shape.bytes())?,
            shape,
            trailer: Mutex::default(),
        })
    }

    /// The notes of a queue, if they are among these.
    pub(super) fn queue(self: &Arc<InFlightNotes>, index: usize) -> Option<QueueNotes> {
        let is_noted = index < usize::from(self.shape.queues);
        is_noted.then(|| QueueNotes {
            notes: Arc::clone(self),
            at: index * self.shape.queue_len(),
        })
    }

    /// How many changes have been answered.
    pub(super) fn answered(&self) -> u64 {
        self.load(self.shape.trailer() + ANSWERED_AT)
    }

    /// How many of them are durable, the first ones.
    fn durable(&self) -> u64 {
        self.load(self.shape.trailer() + DURABLE_AT)
    }

    /// Whether there are changes that were answered and are not durable.
    pub(super) fn has_volatile(&self) -> bool {
        let _both = locked(&self.trailer);
        self.answered() != self.durable()
    }

    /// The first `answered` changes are durable.
    pub(super) fn are_durable(&self, answered: u64) {
        let _alone = locked(&self.trailer);
        let durable = self.durable().max(answered);
        self.store(self.shape.trailer() + DURABLE_AT, durable);
    }

    /// A change is about to be answered.
    fn is_answered(&self) {
        let _alone = locked(&self.trailer);
        let answered = self.answered().wrapping_add(1);
        self.store(self.shape.trailer() + ANSWERED_AT, answered);
    }

    /// Where the memory is follows from its shape, so that neither this nor the other can fail.
    fn load<T: AtomicAccess + Default>(&self, at: usize) -> T {
        let loaded = self.memory.as_volatile_slice().load(at, Ordering::Acquire);
        loaded.unwrap_or_default()
    }

    /// Whatever was stored before shows before this.
    fn store<T: AtomicAccess>(&self, at: usize, value: T) {
        let stored = self.memory.as_volatile_slice();
        let _ = stored.store(value, at, Ordering::Release);
    }
}

/// What a request means for what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Nothing.
    None,
    /// It changes something, which a flush makes durable.
    Change,
    /// It makes durable as many changes as had been answered when it was submitted.
    Flush(u64),
}

impl QueueNotes {
    /// The changes that have been answered, of all queues.
    pub(super) fn answered(&self) -> u64 {
        self.notes.answered()
    }

    /// The chains that are in flight, in the order in which they were taken, of a queue of `len`
    /// descriptors with `used` as its place in the used ring. `None` if the queue begins.
    pub(super) fn resume(&self, used: u16, len: u16) -> Result<Option<Vec<u16>>, Broken> {
        let notes = &self.notes;
        let expected = notes.shape.len;
        let version = notes.load::<u16>(self.at + VERSION_AT);
        if version == 0 && len <= expected {
            notes.store(self.at + COUNT_AT, expected);
            notes.store(self.at + USED_AT, used);
            notes.store(self.at + VERSION_AT, VERSION);
            return Ok(None);
        }
        let found = notes.load::<u16>(self.at + COUNT_AT);
        if version != VERSION || found != expected || len > expected {
            return Err(Broken::OtherNotes {
                version,
                found,
                expected: len.max(expected),
            });
        }
        self.finish_answers(used);
        let mut in_flight: Vec<(u64, u16)> = (0..len)
            .filter(|&head| notes.load::<u8>(self.of(head)) == 1)
            .map(|head| (notes.load(self.of(head) + COUNTER_AT), head))
            .collect();
        in_flight.sort_unstable();
        Ok(Some(in_flight.into_iter().map(|(_, head)| head).collect()))
    }

    /// Takes the chains out of flight whose answers show in the ring and not in the notes: one of
    /// this server's, and a batch of another's.
    fn finish_answers(&self, used: u16) {
        let notes = &self.notes;
        let answered = used.wrapping_sub(notes.load(self.at + USED_AT));
        let mut head = notes.load::<u16>(self.at + NEXT_AT);
        for _ in 0..answered.min(notes.shape.len) {
            if head >= notes.shape.len {
                break;
            }
            notes.store(self.of(head), 0u8);
            head = notes.load(self.of(head) + BEFORE_AT);
        }
        notes.store(self.at + USED_AT, used);
    }

    /// A chain is taken, as the one of this number.
    pub(super) fn begin(&self, head: u16, number: u64) {
        if head < self.notes.shape.len {
            self.notes.store(self.of(head) + COUNTER_AT, number);
            self.notes.store(self.of(head), 1u8);
        }
    }

    /// A chain is answered: `show` makes that show in the used ring, and says the place in it then.
    pub(super) fn end(
        &self,
        head: u16,
        consequence: Consequence,
        show: impl FnOnce() -> Result<u16, Broken>,
    ) -> Result<(), Broken> {
        let notes = &self.notes;
        match consequence {
            Consequence::None => {}
            Consequence::Change => notes.is_answered(),
            Consequence::Flush(answered) => notes.are_durable(answered),
        }
        if head >= notes.shape.len {
            return show().map(drop);
        }
        let before = notes.load::<u16>(self.at + NEXT_AT);
        notes.store(self.of(head) + BEFORE_AT, before);
        notes.store(self.at + NEXT_AT, head);
        let used = show()?;
        notes.store(self.of(head), 0u8);
        notes.store(self.at + USED_AT, used);
        Ok(())
    }

    fn of(&self, head: u16) -> usize {
        self.at + HEADER + NOTE * usize::from(head)
    }
}
