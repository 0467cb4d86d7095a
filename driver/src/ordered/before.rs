//! What a resize keeps of the COW file so that it can leave it as it was, if it fails before
//! anything has moved: byte for byte, but for what the guest has written since.
//!
//! A file that was shorter than its data area gets its length back as far as the guest has not
//! written past it: [`Desk::set_cow_len`] cuts off no data.

use crate::cow::{Extension, Geometry, JournalRecord};
use crate::host::{FileRole, HostError, HostFile};
use crate::resize::ResizeError;
use crate::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorRange};

use super::zero_block::block_of;
use super::{Desk, Hold};

/// Where the extension block is, and after it the journal.
const SLACK: FileOffset = Extension::OFFSET;

/// The parts of a COW file that a resize changes before it moves or commits anything. Whole
/// sectors past the end of the device, which an interrupted shrink can leave, are not kept: they
/// belong to nobody.
#[derive(Clone, Debug)]
pub struct Before {
    geometry: Geometry,
    len: FileOffset,
    end: FileOffset,
    /// The part of a sector that a device of an odd size has after its last whole one.
    tail: Vec<u8>,
    slack: Vec<u8>,
    extension: Option<Extension>,
}

impl Before {
    /// The COW file of the device as it is now.
    ///
    /// # Errors
    /// The host's.
    pub async fn of<F: HostFile>(desk: &Desk<F>, old: &Geometry) -> Result<Before, ResizeError> {
        let doing = "examining the COW file";
        let seen = desk.look(|here| {
            let device = here.device();
            let extension = device.image().and_then(|image| image.extension);
            (device.capacity(), extension)
        });
        let (capacity, extension) = seen.await?;
        let end = old.place_of(Sector(0) + capacity);
        let len = FileOffset(0) + desk.len(FileRole::Cow, doing).await?;
        let journal_end = JournalRecord::slots_offset() + Bytes(JournalRecord::SLOTS_LEN as u64);
        let slack_end = old.bitmap_offset.min(journal_end).max(SLACK);
        let slack = vec![0; (slack_end - SLACK).0 as usize];
        let slack = desk.read(FileRole::Cow, doing, SLACK, slack).await?;
        let tail = vec![0; len.0.saturating_sub(end.0).min(SECTOR_SIZE) as usize];
        let tail = desk.read(FileRole::Cow, doing, end, tail).await?;
        Ok(Before {
            geometry: *old,
            len,
            end,
            tail,
            slack,
            extension,
        })
    }

    /// Puts it back, as far as the host lets it: a part that the host does not let keeps none of
    /// the others from being put back. The header on the disk has to be the former one, for
    /// certain; then it does not matter how much of this survives a crash.
    ///
    /// # Errors
    /// The host's first.
    pub async fn put_back<F: HostFile>(self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let doing = "putting back what was after the header";
        let (extension, end) = (self.extension, self.end);
        // If that fails, nobody knows whether the block is there: the next resize writes it again.
        desk.look(move |here| here.set_extension(extension)).await?;
        let slack = desk.write(FileRole::Cow, doing, SLACK, self.slack).await;
        let len = put_back_len(desk, end, self.len).await;
        // The cut may have taken it, whether or not the file has its length again.
        let tail = match self.tail.iter().any(|&byte| byte != 0) {
            true => {
                let doing = "putting back what was after the last sector";
                desk.write(FileRole::Cow, doing, end, self.tail)
                    .await
                    .map(drop)
            }
            false => Ok(()),
        };
        // What the resize wrote past the end may have shared a block with what ends there.
        let freed = desk.free_if_zero(&self.geometry, block_of(end)).await;
        slack.map(drop).and(len).and(tail).and(freed)
    }
}

/// Gives the file the length that it had. What is past the end of the device becomes zeros.
async fn put_back_len<F: HostFile>(
    desk: &Desk<F>,
    end: FileOffset,
    len: FileOffset,
) -> Result<(), ResizeError> {
    if len < end {
        // The guest may be writing past the length that the file had.
        desk.look(|here| {
            let all = SectorRange::new(Sector(0), here.device().capacity());
            here.set_hold(Hold::Window(all));
        })
        .await?;
        desk.turn().await?;
    }
    let mut cut = desk.set_cow_len(end.min(len)).await;
    if cut.is_ok() {
        cut = desk.set_cow_len(len).await;
    }
    desk.look(|here| here.set_hold(Hold::Nothing)).await?;
    match cut {
        // A block device has its length.
        Err(ResizeError::Host {
            error: HostError::Unsupported,
            ..
        }) => Ok(()),
        result => result,
    }
}
