//! A descriptor chain of a guest, taken apart without trusting it.
//!
//! What comes from the guest's memory is read once and checked before it is used. A chain in which
//! no place for a status is found cannot be answered at all: the guest's driver is broken, and so
//! its connection ends. Every other mistake is answered with a status.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

/// The guest's memory, as it was when a chain was taken from a queue.
pub type Memory = GuestMemoryMmap<()>;

/// The most descriptors that a chain may have. A guest that keeps to the limits of the
/// configuration needs 128.
const MOST_DESCRIPTORS: usize = 1024;

/// The length of a descriptor, in bytes.
const DESCRIPTOR: u32 = 16;

/// Why a guest's queue cannot be served any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A chain has a loop, or is too long.
    #[error("found a descriptor chain without an end, expected at most {MOST_DESCRIPTORS} parts")]
    Endless,
    /// A chain leads out of its table.
    #[error("found descriptor {found} in a chain, expected one of the table's {table}")]
    Astray {
        /// The descriptor's number.
        found: u16,
        /// The length of the table, in descriptors.
        table: u16,
    },
    /// A table lies outside the guest's memory.
    #[error("found a descriptor outside the guest's memory, at {0:#x}")]
    DescriptorOutside(u64),
    /// A table of a chain's own is not as it should be.
    #[error(
        "found an indirect table of {0} bytes, expected whole descriptors of {DESCRIPTOR} bytes \
         and no other table in it"
    )]
    Indirect(u32),
    /// A chain's pieces are longer than 4 GiB.
    #[error("found a descriptor chain of more than 4 GiB")]
    Long,
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
    /// What is known of requests in flight is not of this queue.
    #[error(
        "found notes of what is in flight in version {version} and for {found} descriptors, \
         expected version 1 and at least {expected}"
    )]
    OtherNotes {
        /// The version of the notes.
        version: u16,
        /// The descriptors that they are for.
        found: u16,
        /// The descriptors of the queue.
        expected: u16,
    },
    /// What the library says.
    #[error("queue: {0}")]
    Library(String),
}

/// A piece of guest memory that a chain names. Whether it is there is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPiece {
    /// Where it begins.
    pub address: GuestAddress,
    /// Its length in bytes.
    pub len: u32,
}

/// Pieces in their order, as one sequence of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainPieces(Vec<ChainPiece>);

/// An access outside the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside;

/// A chain whose status can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Which of the queue's chains it is.
    pub head: u16,
    /// What the device reads: header and data.
    pub readable: ChainPieces,
    /// What the device writes, but for the status.
    pub writable: ChainPieces,
    /// Where the status goes.
    pub status: GuestAddress,
    /// Whether what is read comes before what is written, as it has to.
    pub is_in_order: bool,
}

/// Where descriptors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorTable {
    /// The first of them.
    pub address: GuestAddress,
    /// How many there are.
    pub len: u16,
}

impl Chain {
    /// Takes the chain apart that begins with the descriptor `head` of the table.
    ///
    /// # Errors
    /// Why it cannot be answered.
    pub fn of(head: u16, table: DescriptorTable, memory: &Memory) -> Result<Chain, Broken> {
        let mut readable = ChainPieces::default();
        let mut writable = ChainPieces::default();
        let mut is_in_order = true;
        let mut walk = Walk::from(head, table, memory);
        while let Some(descriptor) = walk.next()? {
            let piece = ChainPiece {
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

/// Follows a chain, descriptor by descriptor. The library's own walk ends without a word where a
/// chain leads astray, and begins at what the guest offers only.
struct Walk<'a> {
    memory: &'a Memory,
    table: DescriptorTable,
    next: Option<u16>,
    /// Descriptors that it may follow yet.
    left: usize,
    /// Bytes of the pieces up to here.
    bytes: u32,
    is_indirect: bool,
}

impl<'a> Walk<'a> {
    fn from(head: u16, table: DescriptorTable, memory: &'a Memory) -> Walk<'a> {
        Walk {
            memory,
            table,
            next: Some(head),
            left: MOST_DESCRIPTORS,
            bytes: 0,
            is_indirect: false,
        }
    }

    /// The next descriptor that names a piece; `None` after the last one.
    fn next(&mut self) -> Result<Option<Descriptor>, Broken> {
        let Some(index) = self.next else {
            return Ok(None);
        };
        let mut descriptor = self.descriptor(index)?;
        if descriptor.refers_to_indirect_table() {
            self.enter(descriptor)?;
            descriptor = self.descriptor(0)?;
            if descriptor.refers_to_indirect_table() {
                return Err(Broken::Indirect(descriptor.len()));
            }
        }
        self.left = self.left.checked_sub(1).ok_or(Broken::Endless)?;
        self.bytes = (self.bytes.checked_add(descriptor.len())).ok_or(Broken::Long)?;
        self.next = descriptor.has_next().then(|| descriptor.next());
        Ok(Some(descriptor))
    }

    fn descriptor(&self, index: u16) -> Result<Descriptor, Broken> {
        let DescriptorTable { address, len } = self.table;
        if index >= len {
            return Err(Broken::Astray {
                found: index,
                table: len,
            });
        }
        let at = (address.0).saturating_add(u64::from(index) * u64::from(DESCRIPTOR));
        let descriptor = self.memory.read_obj(GuestAddress(at));
        descriptor.map_err(|_| Broken::DescriptorOutside(at))
    }

    /// Goes on in the table that a descriptor names, which has no such descriptor itself.
    fn enter(&mut self, descriptor: Descriptor) -> Result<(), Broken> {
        let len = descriptor.len();
        let count = u16::try_from(len / DESCRIPTOR).unwrap_or(0);
        if self.is_indirect || count == 0 || !len.is_multiple_of(DESCRIPTOR) {
            return Err(Broken::Indirect(len));
        }
        self.is_indirect = true;
        self.table = DescriptorTable {
            address: descriptor.addr(),
            len: count,
        };
        Ok(())
    }
}

impl ChainPieces {
    fn push(&mut self, piece: ChainPiece) {
        if piece.len > 0 {
            self.0.push(piece);
        }
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = ChainPiece> {
        self.0.iter().copied()
    }

    /// Whether they have no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their length in bytes.
    pub fn len(&self) -> u64 {
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
    fn take_front(&mut self, len: u32) -> Option<ChainPieces> {
        let mut front = ChainPieces::default();
        let mut missing = len;
        while missing > 0 {
            let first = self.0.first_mut()?;
            let taken = first.len.min(missing);
            front.push(ChainPiece {
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
    pub fn read_front<const N: usize>(&mut self, memory: &Memory) -> Option<[u8; N]> {
        let front = self.take_front(N as u32)?;
        front.read(memory).ok()?.try_into().ok()
    }

    /// Reads them all. How long they may be is the caller's to check.
    ///
    /// # Errors
    /// If they are not all in the memory.
    pub fn read(&self, memory: &Memory) -> Result<Vec<u8>, Outside> {
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
    ///
    /// # Errors
    /// If one that data comes to is not in the memory. Those before it have been written.
    pub fn write(&self, memory: &Memory, data: &[Vec<u8>]) -> Result<(), Outside> {
        let mut pieces = self.0.iter().copied();
        let mut piece = ChainPiece {
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
