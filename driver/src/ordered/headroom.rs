//! The resize that moves nothing: the new size's bitmap still fits where the bitmap is, so
//! the data stays where it is. Growing, new bits first and then the header's first sector;
//! shrinking, the header first.
//!
//! Growing:
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the file was cut to its data and extended | the old size; a hole behind the data | none needed |
//! | the extension block was written | the old size; the block says what the header says | none needed |
//! | some or all of the new bits | the old size; bits behind its end, which nobody reads | none needed: the next grow sets them all |
//! | the header sector was written | the old size or the new one, whole: the sector is one write | none needed |
//! | the last sync | the new size; new sectors dirty, their data a hole: zeros | none needed |
//!
//! Shrinking:
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the extension block was written | the old size | none needed |
//! | the header sector was written | the old size or the new one, each with all its data | none needed |
//! | some bits behind the end were cleared, the file cut | the new size | none needed: a grow sets all new bits and clears what lies under them |

use crate::cow::{Extension, Geometry, PAGE_BYTES, Version};
use crate::host::{HostError, HostFile};
use crate::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount};

use super::{CowImage, Ordered, Placement};

/// Bits are written in pieces of at most so many pages of bitmap.
const PAGES_A_STEP: u64 = 64;

/// A resize within the headroom, under way.
#[derive(Clone, Debug)]
pub struct Headroom {
    old_size: Bytes,
    new_size: Bytes,
    old_sectors: SectorCount,
    new_sectors: SectorCount,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Growing: make what lies behind the data read as zeros.
    Space,
    /// Shrinking: the extension block has to be there before the header leaves the size.
    Extension,
    /// The page of bitmap that old and gone or new sectors share.
    SharedBits,
    /// The rest of the bits, from this byte of the bitmap on.
    Bits(u64),
    /// The commit.
    Header,
    /// Shrinking: give back what lies behind the end.
    Tail,
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
            stage: if new_size.whole_sectors() >= old_sectors {
                Stage::Space
            } else {
                Stage::Extension
            },
        })
    }

    fn grows(&self) -> bool {
        self.new_sectors >= self.old_sectors
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
                clear_tail(device, &image.geometry, self.old_sectors, &geometry)?;
                write_extension(device, &image)?;
                // Publications write whole words: from now on the word that old and new
                // sectors share must carry the new bits too, or a flush would clear them.
                grow_map(device, self.new_sectors)?;
                let mut placement = Placement::settled(&image.geometry);
                placement.set_bitmap(geometry.bitmap());
                device.set_placement(placement);
                self.stage = Stage::SharedBits;
            }
            Stage::Extension => {
                if write_extension(device, &image)? {
                    device.sync_for_relocation()?;
                }
                self.stage = Stage::Header;
            }
            Stage::SharedBits => {
                // Old sectors' bits may be published only after their data is durable; and
                // no flush may come between taking these bits and writing them.
                let from = self.first_changed_byte();
                let to = self
                    .bits_end(&image.geometry, &geometry)
                    .min(page_end(from));
                let bits = bitmap_bytes(device, from, to);
                device.sync_for_relocation()?;
                write_bits(device, &geometry, from, &bits)?;
                self.stage = Stage::Bits(to);
            }
            Stage::Bits(from) => {
                let end = self.bits_end(&image.geometry, &geometry);
                if from < end {
                    let to = end.min(from + PAGES_A_STEP * PAGE_BYTES as u64);
                    let bits = bitmap_bytes(device, from, to);
                    write_bits(device, &geometry, from, &bits)?;
                    self.stage = Stage::Bits(to);
                } else if self.grows() {
                    device.sync_for_relocation()?;
                    self.stage = Stage::Header;
                } else {
                    self.stage = Stage::Tail;
                }
            }
            Stage::Header => {
                let mut header = image.header.clone();
                header.size = self.new_size;
                if !self.grows() {
                    // No request may reach what is about to go.
                    device.set_capacity(geometry.capacity(), geometry.mapped());
                }
                device.commit_header(&header)?;
                let placement = Placement::settled(&geometry);
                device.commit(
                    CowImage {
                        header,
                        extension: device.image().and_then(|image| image.extension),
                        geometry,
                    },
                    placement,
                );
                if self.grows() {
                    return Ok(self.done());
                }
                device.map_mut().shrink(self.new_sectors);
                self.stage = Stage::SharedBits;
            }
            Stage::Tail => {
                match device.set_cow_len(geometry.data_end()) {
                    // A block device stays as long as it is.
                    Err(ResizeError::Host {
                        error: HostError::Unsupported,
                        ..
                    }) => {}
                    result => result?,
                }
                device.sync_for_relocation()?;
                return Ok(self.done());
            }
        }
        Ok(ResizeStep::Working)
    }

    fn resize_raw<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
    ) -> Result<ResizeStep, ResizeError> {
        if self.grows() {
            device.set_cow_len(FileOffset(0) + self.new_size)?;
            device.sync_for_relocation()?;
            grow_map(device, self.new_sectors)?;
            device.set_capacity(self.new_sectors, self.new_sectors);
        } else {
            device.set_capacity(self.new_sectors, self.new_sectors);
            device.map_mut().shrink(self.new_sectors);
            device.set_cow_len(FileOffset(0) + self.new_size)?;
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

    /// Up to where bits are written: all new ones, or all that were there before.
    fn bits_end(&self, old: &Geometry, new: &Geometry) -> u64 {
        // After the commit of a shrink both are the new layout; the old one is gone.
        let old_len = self.old_size.sectors_touched().0.div_ceil(8);
        old.bitmap_len.max(new.bitmap_len).0.max(old_len)
    }
}

impl<F: HostFile> Resize<F> for Headroom {
    fn step(&mut self, device: &mut Ordered<F>) -> Result<ResizeStep, ResizeError> {
        if device.is_publishing() {
            return Ok(ResizeStep::Waiting);
        }
        let stage = self.stage;
        let result = self.do_stage(device);
        if result.is_err() && self.grows() && stage != Stage::Header {
            // Nothing on disk says that there are more sectors: forget them here too.
            device.map_mut().shrink(self.old_sectors);
            if let Some(geometry) = device.geometry() {
                device.set_placement(Placement::settled(&geometry));
            }
        }
        result
    }
}

fn new_geometry(image: &CowImage, new_size: Bytes) -> Result<Geometry, ResizeError> {
    Geometry::new(Version::V3, new_size, image.header.alignment)
        .map_err(|error| ResizeError::Refused(error.to_string()))
}

/// Makes everything behind the old sectors' data read as zeros, up to the new end.
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
    if !Extension::fits(&image.geometry) {
        return Err(ResizeError::Refused(
            "there is no room for the extension block before the bitmap".into(),
        ));
    }
    let extension = Extension {
        backing_size: image.header.size,
    };
    let action = "writing the extension block of the COW file";
    device.write_for_relocation(action, &extension.encode(), Extension::OFFSET)?;
    device.set_extension(Some(extension));
    Ok(true)
}

fn grow_map<F: HostFile>(device: &mut Ordered<F>, sectors: SectorCount) -> Result<(), ResizeError> {
    device
        .map_mut()
        .grow(sectors)
        .map_err(|error| ResizeError::Refused(error.to_string()))
}

fn page_end(byte: u64) -> u64 {
    (byte / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64
}

fn bitmap_bytes<F: HostFile>(device: &Ordered<F>, from: u64, to: u64) -> Vec<u8> {
    let mut bits = vec![0; to.saturating_sub(from) as usize];
    device.map().copy_bitmap(Bytes(from), &mut bits);
    bits
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
