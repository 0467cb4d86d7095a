//! The resize that moves nothing: the new size's bitmap still fits where the bitmap is, so
//! the data stays where it is. Growing, new bits first and then the header's first sector;
//! shrinking, the header first.
//!
//! Growing:
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the file was cut to its data and extended | the old size; a hole past the data | none needed |
//! | the bytes of a partial last sector were written ([`super::PartialSector`]) | the old size; they count as the backing file has them | none needed: the next grow writes them again |
//! | the extension block was written | the old size; the block says what the header says | none needed |
//! | some or all of the new bits | the old size; bits past its end, which nobody reads | none needed: the next grow sets them all; `image recover` clears them |
//! | the header sector was written | the old size or the new one, whole: the sector is one write | none needed |
//! | the last sync | the new size; new sectors dirty, their data a hole: zeros | none needed |
//!
//! Shrinking:
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the extension block was written | the old size | none needed |
//! | the header sector was written | the old size or the new one, each with all its data | none needed |
//! | the bits past the end were cleared, the file cut | the new size | none needed: a grow sets all new bits and clears what lies under them |
//!
//! Before the cut, the block that the new end is in is punched if no dirty sector has its place
//! there. A reader looks at nothing in it, and so finds the new size too.
//!
//! A resize that fails, or is given up, before its commit leaves the file as it was. Bits of old
//! sectors that wait for a flush are not published here: of the byte that old and new sectors
//! share, only the new sectors' bits are changed.

use crate::cow::{Geometry, PagesAtOnce, Version};
use crate::host::{BLOCK, FileRole, HostError, HostFile};
use crate::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::commit::check_extension;
use super::procedure::{Procedure, Resize};
use super::zero_block::block_of;
use super::{Before, CowImage, Desk, Hold, NotCommitted, Ordered, PartialSector, Placement};

mod bits;

const RAW_LENGTH: &str = "changing the length of the disk";

/// A resize within the headroom.
#[derive(Clone, Debug)]
pub struct Headroom {
    old_size: Bytes,
    new_size: Bytes,
    old_sectors: SectorCount,
    new_sectors: SectorCount,
    /// What is written of the bitmap in one turn at most.
    pages_at_once: PagesAtOnce,
}

impl Headroom {
    /// Prepares the resize of `device` to `new_size`, a multiple of 512 bytes.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if data would have to move, or the device takes no writes.
    pub fn new<F: HostFile>(device: &Ordered<F>, new_size: Bytes) -> Result<Headroom, ResizeError> {
        let refuse = |why: String| Err(ResizeError::Refused(why));
        let old_sectors = device.capacity();
        let old_size = match device.image() {
            Some(image) => image.geometry.size,
            None => old_sectors.bytes(),
        };
        if device.is_read_only() {
            return refuse("the device is read-only".into());
        }
        if new_size.0 == 0 || !new_size.0.is_multiple_of(SECTOR_SIZE) {
            return refuse(format!(
                "{new_size} is not a positive multiple of 512 bytes"
            ));
        }
        if let Some(image) = device.image() {
            if image.header.version != Version::V3 {
                return refuse(format!(
                    "{} headers are rebuilt as V3",
                    image.header.version
                ));
            }
            if image.header.relocating {
                return refuse("an interrupted reflow has to be finished first".into());
            }
            check_extension(image)?;
            let new = new_geometry(image, new_size)?;
            if new.data_offset != image.geometry.data_offset {
                return refuse(format!(
                    "the bitmap for {new_size} does not fit before the data: \
                     the device grows without moving data up to {}",
                    image.geometry.headroom()
                ));
            }
        }
        Ok(Headroom {
            old_size,
            new_size,
            old_sectors,
            new_sectors: new_size.whole_sectors(),
            pages_at_once: PagesAtOnce::USUAL,
        })
    }

    /// Writes at most this much of the bitmap in a turn: for callers that want shorter turns, or
    /// more of them.
    #[must_use]
    pub fn with_pages_at_once(mut self, pages: PagesAtOnce) -> Headroom {
        self.pages_at_once = pages;
        self
    }

    /// Whether there are new sectors. Otherwise the end of the device comes nearer, if only by its
    /// partial last sector.
    fn grows(&self) -> bool {
        self.new_sectors > self.old_sectors
    }

    async fn carry_out<F: HostFile>(self, desk: &Desk<F>) -> ResizeOutcome {
        let image = desk.look(|here| here.device().image().cloned()).await?;
        if !self.grows() {
            // What is under way past the new end has to end before that end comes.
            let goes = Sector(0) + self.new_sectors..Sector(0) + self.old_sectors;
            let goes = Hold::Window(SectorRange::between(goes));
            desk.look(move |here| here.set_hold(goes)).await?;
            desk.turn().await?;
        }
        desk.check_syncs().await?;
        match image {
            None => self.resize_raw(desk).await?,
            Some(image) if self.grows() => self.grow(desk, image).await?,
            Some(image) => self.shrink(desk, image).await?,
        }
        Ok(Resized {
            strategy: Strategy::Headroom,
            old_size: self.old_size,
            new_size: self.new_size,
            moved: Bytes(0),
        })
    }

    async fn grow<F: HostFile>(&self, desk: &Desk<F>, image: CowImage) -> Result<(), ResizeError> {
        let new = new_geometry(&image, self.new_size)?;
        let before = Before::of(desk, &image.geometry).await?;
        let mut has_written_bits = false;
        let committed = self.prepare_and_commit(desk, &image, &new, &mut has_written_bits);
        let Err(not_committed) = committed.await else {
            return Ok(());
        };
        desk.decided().await;
        let undo = async {
            // A publication that is half done knows the longer bitmap.
            desk.turn().await?;
            // The device has no more sectors than before: forget them in memory first.
            let (old_sectors, placement) = (self.old_sectors, Placement::settled(&image.geometry));
            desk.look(move |here| {
                here.map_mut().shrink(old_sectors);
                here.set_placement(placement);
            })
            .await?;
            if !not_committed.undone {
                // Nobody knows which header is on the disk: it may need what is there.
                return Ok(());
            }
            // Bits past the end that cannot be cleared harm nobody, and the rest is put back.
            let cleared = match has_written_bits {
                true => self.clear_bits(desk, &new).await,
                false => Ok(()),
            };
            let put_back = before.put_back(desk).await;
            cleared.and(put_back)
        };
        // The first error is the one to report; what stays in the file is not read.
        let _ = undo.await;
        Err(not_committed.error)
    }

    async fn prepare_and_commit<F: HostFile>(
        &self,
        desk: &Desk<F>,
        image: &CowImage,
        new: &Geometry,
        has_written_bits: &mut bool,
    ) -> Result<(), NotCommitted> {
        let partial = PartialSector::to_carry(desk, new).await?;
        clear_tail(desk, &image.geometry, self.old_sectors, new).await?;
        if let Some(partial) = partial {
            partial.write(desk, FileRole::Cow).await?;
        }
        desk.need_extension(image).await?;
        // Publications write whole words: from now on the word that old and new sectors share must
        // carry the new bits too, or a flush would clear them.
        let (sectors, bitmap) = (self.new_sectors, new.bitmap());
        let mut placement = Placement::settled(&image.geometry);
        desk.look(move |here| {
            here.grow_map(sectors)?;
            placement.set_bitmap(bitmap);
            here.set_placement(placement);
            Ok::<_, ResizeError>(())
        })
        .await??;
        *has_written_bits = true;
        let mut from = self.first_changed_byte();
        while from < new.bitmap_len.0 {
            desk.turn().await?;
            from = self.write_bits(desk, new, from).await?;
        }
        desk.turn().await?;
        desk.sync().await?;
        desk.turn().await?;
        self.commit(desk, image, new).await
    }

    /// The commit, on the disk and then in memory.
    async fn commit<F: HostFile>(
        &self,
        desk: &Desk<F>,
        image: &CowImage,
        new: &Geometry,
    ) -> Result<(), NotCommitted> {
        let mut header = image.header.clone();
        header.size = self.new_size;
        desk.commit_header(&header).await?;
        let (sectors, geometry) = (self.new_sectors, *new);
        let in_memory = desk.follow(move |here| {
            let extension = here.device().image().and_then(|image| image.extension);
            let image = CowImage {
                header,
                extension,
                geometry,
            };
            here.commit(image, Placement::settled(&geometry));
            if sectors < here.device().map().sectors() {
                here.map_mut().shrink(sectors);
            }
        });
        Ok(in_memory.await?)
    }

    async fn shrink<F: HostFile>(
        &self,
        desk: &Desk<F>,
        image: CowImage,
    ) -> Result<(), ResizeError> {
        let new = new_geometry(&image, self.new_size)?;
        let before = Before::of(desk, &image.geometry).await?;
        let committed = async {
            // It has to be there before the header leaves the size.
            if desk.need_extension(&image).await? {
                desk.sync().await?;
            }
            desk.turn().await?;
            self.commit(desk, &image, &new).await
        };
        if let Err(not_committed) = committed.await {
            desk.decided().await;
            if not_committed.undone {
                // The first error is the one to report.
                let _ = before.put_back(desk).await;
            }
            return Err(not_committed.error);
        }
        // The device has its new size, and nobody looks past it: what cannot be tidied up does no
        // harm.
        desk.decided().await;
        let _ = self.tidy(desk, &new).await;
        Ok(())
    }

    /// Clears the bits past the end, and gives back the space there.
    async fn tidy<F: HostFile>(&self, desk: &Desk<F>, new: &Geometry) -> Result<(), ResizeError> {
        desk.turn().await?;
        self.clear_bits(desk, new).await?;
        self.free_last_block(desk, new).await?;
        desk.set_cow_len(new.data_end()).await
    }

    /// Frees the block that the file will end within, if no dirty sector has its place there.
    /// Cutting the file does not free it, and a later resize that makes the file longer looks for
    /// nothing under clean sectors.
    async fn free_last_block<F: HostFile>(
        &self,
        desk: &Desk<F>,
        new: &Geometry,
    ) -> Result<(), ResizeError> {
        let block = block_of(new.data_end()).start;
        if block < new.data_offset || block == new.data_end() {
            return Ok(());
        }
        let first = Sector(0) + (block - new.data_offset).whole_sectors();
        let last = SectorRange::between(first..Sector(0) + self.new_sectors);
        // A write that is under way there ends, and none begins until the procedure ends.
        desk.look(move |here| here.set_hold(Hold::Window(last)))
            .await?;
        desk.turn().await?;
        let is_clean = desk.look(move |here| {
            let mut dirty = here.device().map().dirty_runs(last);
            dirty.next().is_none()
        });
        match is_clean.await? {
            true => desk.free(FileRange::new(block, Bytes(BLOCK))).await,
            false => Ok(()),
        }
    }

    async fn resize_raw<F: HostFile>(&self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let doing = "examining the disk";
        // With a partial sector at the end it is longer than its sectors.
        let old_len = desk.len(FileRole::Cow, doing).await?;
        let new_len = FileOffset(0) + self.new_size;
        let set = desk.set_len(FileRole::Cow, RAW_LENGTH, new_len).await;
        if let Err(error) = set {
            if error == ResizeError::Abandoned {
                return Err(error);
            }
            desk.decided().await;
            // A server that has changed it may not get the answer through. The length tells: where
            // it is the new one, what was cut off is gone.
            match desk.len(FileRole::Cow, doing).await {
                Ok(len) if len == self.new_size => {}
                Ok(_) => return Err(error),
                Err(_) => {
                    desk.look(|here| here.refuse_writes()).await?;
                    return Err(error);
                }
            }
        }
        let sectors = self.new_sectors;
        if self.grows() {
            let prepared = async {
                desk.sync().await?;
                desk.look(move |here| here.grow_map(sectors)).await?
            };
            if let Err(error) = prepared.await {
                desk.decided().await;
                // The new sectors were never offered.
                let old_len = FileOffset(0) + old_len;
                let _ = desk.set_len(FileRole::Cow, RAW_LENGTH, old_len).await;
                return Err(error);
            }
            let offered = desk.follow(move |here| here.set_capacity(sectors, sectors));
            return offered.await;
        }
        // What was cut off is gone, whatever the sync says.
        desk.follow(move |here| {
            here.set_capacity(sectors, sectors);
            here.map_mut().shrink(sectors);
        })
        .await?;
        desk.decided().await;
        desk.sync().await
    }
}

impl<F: HostFile> Resize<F> for Headroom {
    fn begin(self: Box<Self>, desk: Desk<F>) -> Procedure {
        Box::pin(async move { self.carry_out(&desk).await })
    }
}

fn new_geometry(image: &CowImage, new_size: Bytes) -> Result<Geometry, ResizeError> {
    Geometry::new(Version::V3, new_size, image.header.alignment)
        .map_err(|error| ResizeError::Refused(error.to_string()))
}

/// Makes everything past the old sectors' data read as zeros, up to the new end.
async fn clear_tail<F: HostFile>(
    desk: &Desk<F>,
    old: &Geometry,
    old_sectors: SectorCount,
    new: &Geometry,
) -> Result<(), ResizeError> {
    let from = old.place_of(Sector(0) + old_sectors);
    match desk.set_cow_len(from).await {
        Ok(()) => desk.set_cow_len(new.data_end()).await,
        // A block device has its length: clear what is there.
        Err(ResizeError::Host {
            error: HostError::Unsupported,
            ..
        }) => desk.clear(FileRange::between(from..new.data_end())).await,
        Err(error) => Err(error),
    }
}
