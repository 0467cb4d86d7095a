//! What a guest's request asks for: its header and its range, checked.

use driver::blk::Status;
use driver::units::{SECTOR_SIZE, SectorRange};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use crate::serve::Job;

use super::chain::{Chain, Memory};
use super::config::{LONGEST_WITHOUT_DATA, MOST_DATA};

/// The byte by which a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub(super) u8);

impl Answer {
    /// It was done.
    pub const OK: Answer = Answer(VIRTIO_BLK_S_OK as u8);
    /// It failed, or is not as it should be.
    pub const FAILED: Answer = Answer(VIRTIO_BLK_S_IOERR as u8);
    /// There is no such request.
    pub const UNSUPPORTED: Answer = Answer(VIRTIO_BLK_S_UNSUPP as u8);
}

impl From<Status> for Answer {
    fn from(status: Status) -> Answer {
        match status {
            Status::Ok => Answer::OK,
            Status::NotSupported => Answer::UNSUPPORTED,
            // virtio knows no more than these.
            Status::NoSpace | Status::IoError | Status::Invalid => Answer::FAILED,
        }
    }
}

/// A request that may be carried out, but for what its data turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Read these sectors.
    Read(SectorRange),
    /// Write them.
    Write(SectorRange),
    /// Make what was written durable.
    Flush,
    /// Their content is not needed any more.
    Discard(SectorRange),
    /// Make them read as zeros.
    WriteZeroes(SectorRange),
    /// The serial number.
    Id,
}

/// What the device is for a request.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// It takes no changes.
    pub read_only: bool,
    /// Whether these bytes are whole sectors of the device, and which.
    pub sectors: &'a dyn Fn(u64, u64) -> Option<SectorRange>,
}

impl Wanted {
    /// Looks at a request. What is left of the chain's readable part is a write's data.
    ///
    /// # Errors
    /// How the request is answered at once.
    pub fn of(chain: &mut Chain, memory: &Memory, device: Device<'_>) -> Result<Wanted, Answer> {
        if !chain.is_in_order {
            return Err(Answer::FAILED);
        }
        let header = chain.readable.read_front::<16>(memory);
        let header = header.ok_or(Answer::FAILED)?;
        let kind = u32_at(&header, 0);
        let start = u64_at(&header, 8);
        if device.read_only
            && matches!(
                kind,
                VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES
            )
        {
            return Err(Answer::FAILED);
        }
        match kind {
            VIRTIO_BLK_T_IN => {
                let len = chain.writable.len();
                let range = data_range(start, len, device)?;
                Ok(Wanted::Read(range))
            }
            VIRTIO_BLK_T_OUT => {
                let range = data_range(start, chain.readable.len(), device)?;
                Ok(Wanted::Write(range))
            }
            VIRTIO_BLK_T_FLUSH => Ok(Wanted::Flush),
            VIRTIO_BLK_T_GET_ID => Ok(Wanted::Id),
            VIRTIO_BLK_T_DISCARD => Ok(Wanted::Discard(range_without_data(
                chain, memory, device, 0,
            )?)),
            VIRTIO_BLK_T_WRITE_ZEROES => Ok(Wanted::WriteZeroes(range_without_data(
                chain,
                memory,
                device,
                VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
            )?)),
            _ => Err(Answer::UNSUPPORTED),
        }
    }

    /// The memory that its data takes, in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Wanted::Read(range) | Wanted::Write(range) => range.count.bytes().0,
            _ => 0,
        }
    }

    /// What the device is asked to do, and whether what changes is durable when it is answered. A
    /// write's data is read from the guest's memory now.
    ///
    /// # Errors
    /// How the request is answered at once; the serial number is such an answer too.
    pub fn job(self, chain: &Chain, memory: &Memory, fua: bool) -> Result<Job, Answer> {
        Ok(match self {
            Wanted::Read(range) => Job::Read(range),
            Wanted::Write(range) => Job::Write {
                start: range.start,
                data: chain.readable.read(memory).map_err(|_| Answer::FAILED)?,
                fua,
            },
            Wanted::Flush => Job::Flush,
            Wanted::Discard(range) => Job::Discard { range, fua: false },
            Wanted::WriteZeroes(range) => Job::WriteZeroes { range, fua },
            Wanted::Id => return Err(Answer::OK),
        })
    }
}

/// The sectors that a read or write of `len` bytes is about, from the sector `start` on.
fn data_range(start: u64, len: u64, device: Device<'_>) -> Result<SectorRange, Answer> {
    let range = (len > 0 && len <= MOST_DATA)
        .then(|| start.checked_mul(SECTOR_SIZE))
        .flatten()
        .and_then(|offset| (device.sectors)(offset, len));
    range.ok_or(Answer::FAILED)
}

/// The sectors of a discard or write-zeroes, which has one range and no flags but these.
fn range_without_data(
    chain: &mut Chain,
    memory: &Memory,
    device: Device<'_>,
    flags: u32,
) -> Result<SectorRange, Answer> {
    let segment = chain.readable.read_front::<16>(memory);
    let segment = segment.ok_or(Answer::FAILED)?;
    if !chain.readable.is_empty() {
        return Err(Answer::FAILED);
    }
    let (start, count) = (u64_at(&segment, 0), u32_at(&segment, 8));
    if u32_at(&segment, 12) & !flags != 0 {
        return Err(Answer::UNSUPPORTED);
    }
    if count > LONGEST_WITHOUT_DATA {
        return Err(Answer::FAILED);
    }
    let offset = start.checked_mul(SECTOR_SIZE).ok_or(Answer::FAILED)?;
    let range = (device.sectors)(offset, u64::from(count) * SECTOR_SIZE);
    // A range without sectors is none that could be done, or left undone.
    match range {
        Some(range) if !range.is_empty() => Ok(range),
        _ => Err(Answer::FAILED),
    }
}

fn u32_at(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
