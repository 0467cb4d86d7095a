//! What a resize keeps of the COW file so that it can leave it as it was, if it fails before
//! anything has moved: byte for byte, but for what the guest has written since.
//!
//! A file that was shorter than its data area gets its length back as far as the guest has not
//! written past it: [`Ordered::set_cow_len`] cuts off no data.

use crate::cow::{Extension, Geometry, JournalRecord};
use crate::host::{HostError, HostFile};
use crate::resize::ResizeError;
use crate::units::{Bytes, FileOffset, SECTOR_SIZE, Sector};

use super::Ordered;

/// Where the extension block is, and after it the journal.
const SLACK: FileOffset = Extension::OFFSET;

/// The parts of a COW file that a resize changes before it moves or commits anything. Whole
/// sectors past the end of the device, which an interrupted shrink can leave, are not kept: they
/// belong to nobody.
#[derive(Clone, Debug)]
pub struct Before {
    len: FileOffset,
    end: FileOffset,
    /// The part of a sector that a device of an odd size has after its last whole one.
    tail: Vec<u8>,
    slack: Vec<u8>,
    extension: Option<Extension>,
}

impl Before {
    /// The COW file of `device` as it is now.
    ///
    /// # Errors
    /// The host's.
    pub fn of<F: HostFile>(device: &Ordered<F>, old: &Geometry) -> Result<Before, ResizeError> {
        let reading = |at| ResizeError::host("examining the COW file", at);
        let cow = device.cow();
        let end = old.place_of(Sector(0) + device.capacity());
        let len = FileOffset(0) + cow.len().map_err(reading(end))?;
        let journal_end = JournalRecord::slots_offset() + Bytes(JournalRecord::SLOTS_LEN as u64);
        let slack_end = old.bitmap_offset.min(journal_end).max(SLACK);
        let mut slack = vec![0; (slack_end - SLACK).0 as usize];
        cow.read_exact_at(&mut slack, SLACK)
            .map_err(reading(SLACK))?;
        let tail_len = len.0.saturating_sub(end.0).min(SECTOR_SIZE);
        let mut tail = vec![0; tail_len as usize];
        cow.read_exact_at(&mut tail, end).map_err(reading(end))?;
        Ok(Before {
            len,
            end,
            tail,
            slack,
            extension: device.image().and_then(|image| image.extension),
        })
    }

    /// Puts it back, as far as the host lets it: a part that the host does not let keeps none of
    /// the others from being put back. The header on the disk has to be the former one, for
    /// certain; then it does not matter how much of this survives a crash.
    ///
    /// # Errors
    /// The host's first.
    pub fn put_back<F: HostFile>(&self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        let action = "putting back what was after the header";
        // If that fails, nobody knows whether the block is there: the next resize writes it again.
        device.set_extension(self.extension);
        let slack = device.write_for_relocation(action, &self.slack, SLACK);
        // What is past the end of the device becomes zeros.
        let cut = device.set_cow_len(self.end.min(self.len));
        let len = match cut.and_then(|()| device.set_cow_len(self.len)) {
            // A block device has its length.
            Err(ResizeError::Host {
                error: HostError::Unsupported,
                ..
            }) => Ok(()),
            result => result,
        };
        // The cut may have taken it, whether or not the file has its length again.
        let tail = match self.tail.iter().any(|&byte| byte != 0) {
            true => {
                let action = "putting back what was after the last sector";
                device.write_for_relocation(action, &self.tail, self.end)
            }
            false => Ok(()),
        };
        slack.and(len).and(tail)
    }
}
