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
//! A resize that fails before its commit leaves the file as it was. Bits of old sectors that
//! wait for a flush are not published here: of the byte that old and new sectors share,
//! only the new sectors' bits are changed.

use crate::cow::{Extension, Geometry, PAGE_BYTES, Version};
use crate::host::{HostError, HostFile};
use crate::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::{Before, CowImage, Hold, Ordered, PartialSector, Placement};

/// Pages of bitmap that one step writes at most.
const PAGES_A_STEP: u64 = 64;

/// A resize within the headroom, under way.
#[derive(Clone, Debug)]
pub struct Headroom {
    old_size: Bytes,
    new_size: Bytes,
    old_sectors: SectorCount,
    new_sectors: SectorCount,
    stage: Stage,
    /// Requests for the sectors that go are kept out.
    keeps_out: bool,
    /// What to put back if the resize fails; `None` when it has succeeded, or when nobody
    /// knows whether it has.
    before: Option<Before>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Growing: make the space past the data read as zeros.
    Space,
    /// Growing: the new bits, from this byte of the bitmap on.
    Bits(u64),
    /// Shrinking: the extension block has to be there before the header leaves the size.
    Extension,
    /// The commit.
    Header,
    /// Shrinking: clear the bits past the end, and give back the space there.
    Tidy,
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
            stage: if new_size.whole_sectors() > old_sectors {
                Stage::Space
            } else {
                Stage::Extension
            },
            keeps_out: false,
            before: None,
        })
    }

    /// Whether there are new sectors. Otherwise the end of the device comes nearer, if only by its
    /// partial last sector.
    fn grows(&self) -> bool {
        self.new_sectors > self.old_sectors
    }

    fn do_stage<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
    ) -> Result<ResizeStep, ResizeError> {
        let Some(image) = device.image().cloned() else {
            return self.resize_raw(device);
        };
        let geometry = new_geometry(&image, self.new_size)?;
        match self.stage {
            Stage::Space => {
                self.begin(device, &image)?;
                let partial = PartialSector::to_carry(device, &geometry)?;
                clear_tail(device, &image.geometry, self.old_sectors, &geometry)?;
                if let Some(partial) = partial {
                    partial.write(device)?;
                }
                write_extension(device, &image)?;
                // Publications write whole words: from now on the word that old and new
                // sectors share must carry the new bits too, or a flush would clear them.
                device
                    .map_mut()
                    .grow(self.new_sectors)
                    .map_err(|error| ResizeError::Refused(error.to_string()))?;
                let mut placement = Placement::settled(&image.geometry);
                placement.set_bitmap(geometry.bitmap());
                device.set_placement(placement);
                self.stage = Stage::Bits(self.first_changed_byte());
            }
            Stage::Bits(from) if from < geometry.bitmap_len.0 => {
                let to = page_end(from + (PAGES_A_STEP - 1) * PAGE_BYTES as u64);
                let to = to.min(geometry.bitmap_len.0);
                let mut bits = vec![0; (to - from) as usize];
                device.map().copy_bitmap(Bytes(from), &mut bits);
                if from == self.first_changed_byte() {
                    let old_bits = self.kept_bits(device, &geometry)?;
                    bits[0] = bits[0] & !self.kept_mask() | old_bits;
                }
                write_bits(device, &geometry, from, &bits)?;
                self.stage = Stage::Bits(to);
            }
            Stage::Bits(_) => {
                device.sync_for_relocation()?;
                self.stage = Stage::Header;
            }
            Stage::Extension => {
                self.begin(device, &image)?;
                if write_extension(device, &image)? {
                    device.sync_for_relocation()?;
                }
                self.stage = Stage::Header;
            }
            Stage::Header => {
                let mut header = image.header.clone();
                header.size = self.new_size;
                if let Err(not_committed) = device.commit_header(&header) {
                    if !not_committed.undone {
                        self.before = None;
                    }
                    return Err(not_committed.error);
                }
                self.before = None;
                let extension = device.image().and_then(|image| image.extension);
                let image = CowImage {
                    header,
                    extension,
                    geometry,
                };
                device.commit(image, Placement::settled(&geometry));
                if self.grows() {
                    return Ok(self.done());
                }
                device.map_mut().shrink(self.new_sectors);
                self.stage = Stage::Tidy;
            }
            Stage::Tidy => {
                // The device has its new size, and nobody looks past it: what cannot be tidied up
                // does no harm.
                let _ = self.clear_bits(device, &geometry);
                let _ = device.set_cow_len(geometry.data_end());
                return Ok(self.done());
            }
        }
        Ok(ResizeStep::Working)
    }

    /// Before anything is changed.
    fn begin<F: HostFile>(
        &mut self,
        device: &Ordered<F>,
        image: &CowImage,
    ) -> Result<(), ResizeError> {
        if device.has_failed_sync() {
            return Err(ResizeError::SyncFailed);
        }
        self.before = Some(Before::of(device, &image.geometry)?);
        Ok(())
    }

    /// Leaves the file as it was, as far as the host lets it; the header on the disk is the old
    /// one. Bits past the end that cannot be cleared harm nobody, and the rest is put back.
    fn undo<F: HostFile>(
        &self,
        device: &mut Ordered<F>,
        before: &Before,
    ) -> Result<(), ResizeError> {
        let mut cleared = Ok(());
        if let (Stage::Bits(_) | Stage::Header, true, Some(image)) =
            (self.stage, self.grows(), device.image())
        {
            let geometry = new_geometry(image, self.new_size)?;
            cleared = self.clear_bits(device, &geometry);
        }
        let put_back = before.put_back(device);
        cleared.and(put_back)
    }

    fn resize_raw<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
    ) -> Result<ResizeStep, ResizeError> {
        if device.has_failed_sync() {
            return Err(ResizeError::SyncFailed);
        }
        // With a partial sector at the end it is longer than its sectors.
        let examining = ResizeError::host("examining the raw disk", FileOffset(0));
        let old_len = device.cow().len().map_err(examining)?;
        if let Err(error) = device.set_raw_len(self.new_size) {
            // A server that has changed it may not get the answer through. The length tells: where
            // it is the new one, what was cut off is gone.
            match device.cow().len() {
                Ok(len) if len == self.new_size => {}
                Ok(_) => return Err(error),
                Err(_) => {
                    device.refuse_writes();
                    return Err(error);
                }
            }
        }
        if self.grows() {
            if let Err(error) = device.sync_for_relocation() {
                // The new sectors were never offered.
                let _ = device.set_raw_len(old_len);
                return Err(error);
            }
            device
                .map_mut()
                .grow(self.new_sectors)
                .map_err(|error| ResizeError::Refused(error.to_string()))?;
            device.set_capacity(self.new_sectors, self.new_sectors);
        } else {
            // What was cut off is gone, whatever the sync says.
            device.set_capacity(self.new_sectors, self.new_sectors);
            device.map_mut().shrink(self.new_sectors);
            device.sync_for_relocation()?;
        }
        Ok(self.done())
    }

    fn done(&self) -> ResizeStep {
        ResizeStep::Done(Resized {
            strategy: Strategy::Headroom,
            old_size: self.old_size,
            new_size: self.new_size,
            moved: Bytes(0),
        })
    }

    /// The byte of the bitmap with the bit of the first sector that comes or goes.
    fn first_changed_byte(&self) -> u64 {
        self.old_sectors.min(self.new_sectors).0 / 8
    }

    /// The bits in that byte of the sectors that stay.
    fn kept_mask(&self) -> u8 {
        (1 << (self.old_sectors.min(self.new_sectors).0 % 8)) - 1
    }

    /// What the bitmap on the disk has there for the sectors that stay.
    fn kept_bits<F: HostFile>(
        &self,
        device: &Ordered<F>,
        geometry: &Geometry,
    ) -> Result<u8, ResizeError> {
        let at = geometry.bitmap_offset + Bytes(self.first_changed_byte());
        let mut byte = [0];
        if self.kept_mask() != 0 {
            device
                .cow()
                .read_exact_at(&mut byte, at)
                .map_err(ResizeError::host("reading the bitmap of the COW file", at))?;
        }
        Ok(byte[0] & self.kept_mask())
    }

    /// Clears the bits of the sectors that went, or that did not come after all.
    fn clear_bits<F: HostFile>(
        &self,
        device: &mut Ordered<F>,
        geometry: &Geometry,
    ) -> Result<(), ResizeError> {
        let mut from = self.first_changed_byte();
        if self.kept_mask() != 0 {
            let kept = self.kept_bits(device, geometry)?;
            write_bits(device, geometry, from, &[kept])?;
            from += 1;
        }
        // There is room for a bit of a partial last sector too, perhaps in a byte of its own.
        let larger = self.old_size.max(self.new_size);
        let end = larger.sectors_touched().0.div_ceil(8);
        let start = geometry.bitmap_offset + Bytes(from);
        match end.saturating_sub(from) {
            0 => Ok(()),
            len => device.clear_for_relocation(FileRange::new(start, Bytes(len))),
        }
    }
}

impl<F: HostFile> Resize<F> for Headroom {
    fn step(&mut self, device: &mut Ordered<F>) -> Result<ResizeStep, ResizeError> {
        if !device.lets_relocation_in() {
            return Ok(ResizeStep::Waiting);
        }
        if !self.grows() && !self.keeps_out {
            // What is under way past the new end has to end before that end comes.
            let goes = Sector(0) + self.new_sectors..Sector(0) + self.old_sectors;
            device.set_hold(Hold::Window(SectorRange::between(goes)));
            self.keeps_out = true;
            return Ok(ResizeStep::Working);
        }
        let result = self.do_stage(device);
        if !matches!(result, Ok(ResizeStep::Working)) {
            device.set_hold(Hold::Nothing);
        }
        if result.is_err() && device.capacity() == self.old_sectors {
            // The device has no more sectors than before: forget them in memory first.
            device.map_mut().shrink(self.old_sectors);
            if let Some(geometry) = device.geometry() {
                device.set_placement(Placement::settled(&geometry));
            }
            if let Some(before) = self.before.take() {
                // The first error is the one to report; what stays in the file is not read.
                let _ = self.undo(device, &before);
            }
        }
        result
    }
}

fn new_geometry(image: &CowImage, new_size: Bytes) -> Result<Geometry, ResizeError> {
    Geometry::new(Version::V3, new_size, image.header.alignment)
        .map_err(|error| ResizeError::Refused(error.to_string()))
}

/// Makes everything past the old sectors' data read as zeros, up to the new end.
fn clear_tail<F: HostFile>(
    device: &mut Ordered<F>,
    old: &Geometry,
    old_sectors: SectorCount,
    new: &Geometry,
) -> Result<(), ResizeError> {
    let from = old.place_of(Sector(0) + old_sectors);
    match device.set_cow_len(from) {
        Ok(()) => device.set_cow_len(new.data_end()),
        // A block device has its length: clear what is there.
        Err(ResizeError::Host {
            error: HostError::Unsupported,
            ..
        }) => device.clear_for_relocation(FileRange::between(from..new.data_end())),
        Err(error) => Err(error),
    }
}

/// Writes the extension block of an open device if there is none yet: once the header's size
/// has changed, only the block knows the size of the backing file. Whether it wrote.
///
/// # Errors
/// The host's, or [`ResizeError::Refused`] if there is no room for the block.
pub fn write_extension<F: HostFile>(
    device: &mut Ordered<F>,
    image: &CowImage,
) -> Result<bool, ResizeError> {
    if image.extension.is_some() {
        return Ok(false);
    }
    check_extension(image)?;
    let extension = Extension::new(image.header.size);
    let action = "writing the extension block of the COW file";
    device.write_for_relocation(action, &extension.encode(), Extension::OFFSET)?;
    device.set_extension(Some(extension));
    Ok(true)
}

fn check_extension(image: &CowImage) -> Result<(), ResizeError> {
    match image.extension.is_some() || Extension::fits(&image.geometry) {
        true => Ok(()),
        false => Err(ResizeError::Refused(
            "there is no room for the extension block before the bitmap".into(),
        )),
    }
}

fn page_end(byte: u64) -> u64 {
    (byte / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64
}

fn write_bits<F: HostFile>(
    device: &mut Ordered<F>,
    geometry: &Geometry,
    from: u64,
    bits: &[u8],
) -> Result<(), ResizeError> {
    let action = "writing the bitmap of the COW file";
    device.write_for_relocation(action, bits, geometry.bitmap_offset + Bytes(from))
}
