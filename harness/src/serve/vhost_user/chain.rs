//! A descriptor chain of a guest, taken apart without trusting it.
//!
//! What comes from the guest's memory is read once and checked before it is used. A chain in which
//! no place for a status is found cannot be answered at all: the guest's driver is broken, and so
//! its connection ends. Every other mistake is answered with a status.

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

/// The guest's memory, as it was when a chain was taken from a queue.
pub(super) type Memory = GuestMemoryMmap<()>;

/// The most descriptors that a chain may have. A guest that keeps to the limits of the
/// configuration needs 128.
const MOST_DESCRIPTORS: usize = 1024;

/// Why a guest's queue cannot be served any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// A chain has a loop, leaves the table or the memory, or is too long.
    #[error("found a descriptor chain without an end, expected at most {MOST_DESCRIPTORS} parts")]
    Endless,
    /// A chain has no byte that the device may write.
    #[error("found a descriptor chain without room for a status")]
    NoStatus,
    /// The status byte lies outside the guest's memory.
    #[error("found a status outside the guest's memory, at {0:#x}")]
    StatusOutside(u64),
    /// The rings lie outside the memory or are not as they should be.
    #[error("found a queue whose rings are not in the guest's memory")]
    Rings,
    /// More is offered than the queue has descriptors.
    #[error("found more requests than the queue's {0} descriptors allow")]
    TooMany(u16),
    /// What the library says.
    #[error("queue: {0}")]
    Library(String),
}

/// A piece of guest memory that a chain names. Whether it is there is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) address: GuestAddress,
    pub(super) len: u32,
}

/// Pieces in their order, as one sequence of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces(Vec<Piece>);

/// An access outside the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outside;

/// A chain whose status can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Which of the queue's chains it is.
    pub(super) head: u16,
    /// What the device reads: header and data.
    pub(super) readable: Pieces,
    /// What the device writes, but for the status.
    pub(super) writable: Pieces,
    /// Where the status goes.
    pub(super) status: GuestAddress,
    /// Whether what is read comes before what is written, as it has to.
    pub(super) is_in_order: bool,
}

impl Chain {
    /// Takes a chain apart.
    pub(super) fn of(chain: DescriptorChain<&Memory>, memory: &Memory) -> Result<Chain, Broken> {
        let head = chain.head_index();
        let mut readable = Pieces::default();
        let mut writable = Pieces::default();
        let mut is_in_order = true;
        // The iterator ends without a word where the chain leads astray.
        let mut goes_on = true;
        for descriptor in chain.take(MOST_DESCRIPTORS) {
            goes_on = descriptor.has_next();
            let piece = Piece {
                address: descriptor.addr(),
                len: descriptor.len(),
            };
            match descriptor.is_write_only() {
                true => writable.push(piece),
                false => {
                    is_in_order &= writable.0.is_empty();
                    readable.push(piece);
                }
            }
        }
        if goes_on {
            return Err(Broken::Endless);
        }
        let status = writable.take_last_byte().ok_or(Broken::NoStatus)?;
        if !memory.check_range(status, 1, Permissions::Write) {
            return Err(Broken::StatusOutside(status.0));
        }
        Ok(Chain {
            head,
            readable,
            writable,
            status,
            is_in_order,
        })
    }
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        if piece.len > 0 {
            self.0.push(piece);
        }
    }

    /// Their length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|piece| u64::from(piece.len)).sum()
    }

    /// Takes the last byte away; where it is.
    fn take_last_byte(&mut self) -> Option<GuestAddress> {
        let last = self.0.last_mut()?;
        last.len -= 1;
        let address = last.address.0.checked_add(u64::from(last.len))?;
        if last.len == 0 {
            self.0.pop();
        }
        Some(GuestAddress(address))
    }

    /// Takes the first `len` bytes away, if there are that many.
    fn take_front(&mut self, len: u32) -> Option<Pieces> {
        let mut front = Pieces::default();
        let mut missing = len;
        while missing > 0 {
            let first = self.0.first_mut()?;
            let taken = first.len.min(missing);
            front.push(Piece {
                address: first.address,
                len: taken,
            });
            missing -= taken;
            first.len -= taken;
            first.address = GuestAddress(first.address.0.checked_add(u64::from(taken))?);
            if first.len == 0 {
                self.0.remove(0);
            }
        }
        Some(front)
    }

    /// Takes the first `N` bytes away and reads them. `None` if they are not there.
    pub(super) fn read_front<const N: usize>(&mut self, memory: &Memory) -> Option<[u8; N]> {
        let front = self.take_front(N as u32)?;
        front.read(memory).ok()?.try_into().ok()
    }

    /// Reads them all. How long they may be is the caller's to check.
    pub(super) fn read(&self, memory: &Memory) -> Result<Vec<u8>, Outside> {
        let mut data = vec![0; self.len() as usize];
        let mut rest = &mut data[..];
        for piece in &self.0 {
            let (part, after) = rest.split_at_mut(piece.len as usize);
            memory
                .read_slice(part, piece.address)
                .map_err(|_| Outside)?;
            rest = after;
        }
        Ok(data)
    }

    /// Writes `data` into them, as far as there is room.
    pub(super) fn write(&self, memory: &Memory, data: &[Vec<u8>]) -> Result<(), Outside> {
        let mut pieces = self.0.iter().copied();
        let mut piece = Piece {
            address: GuestAddress(0),
            len: 0,
        };
        for part in data {
            let mut part = &part[..];
            while !part.is_empty() {
                if piece.len == 0 {
                    match pieces.next() {
                        Some(next) => piece = next,
                        None => return Ok(()),
                    }
                }
                let len = part.len().min(piece.len as usize);
                let (now, later) = part.split_at(len);
                memory
                    .write_slice(now, piece.address)
                    .map_err(|_| Outside)?;
                part = later;
                piece.len -= len as u32;
                let next = piece.address.0.checked_add(len as u64).ok_or(Outside)?;
                piece.address = GuestAddress(next);
            }
        }
        Ok(())
    }
}
