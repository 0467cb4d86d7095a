//! The disk that a COW file shows, sector by sector.

use std::ops::Range;

use super::SECTOR;
use super::extension::Extension;
use super::header::Header;
use super::layout::{BITS, Layout, Version};
use super::source::{Shown, Source};
use super::wrong::Wrong;

/// A COW file that a reader accepts.
#[derive(Clone, Debug)]
pub struct CowFile<S> {
    file: S,
    /// Its header.
    pub header: Header,
    /// Its extension block, if it has one.
    pub extension: Option<Extension>,
    /// Where it has what.
    pub layout: Layout,
    bitmap: Vec<u8>,
}

impl<S: Source> CowFile<S> {
    /// Reads all but the data.
    ///
    /// # Errors
    /// What a reader refuses.
    pub fn open(file: S) -> Result<CowFile<S>, Wrong> {
        let header = Header::read(&file)?;
        let layout = header.layout()?;
        let end = layout.bitmap + layout.bitmap_len;
        if file.len() < end {
            let found = format_args!("the file ends here, its bitmap at byte {end}");
            return Err(Wrong::new(file.len(), "bitmap", found));
        }
        let extension = match header.version {
            Version::V3 => Extension::read(&file)?,
            _ => None,
        };
        let mut bitmap = vec![0; layout.bitmap_len as usize];
        file.read(layout.bitmap, &mut bitmap);
        let cow = CowFile {
            file,
            header,
            extension,
            layout,
            bitmap,
        };
        let bytes = cow.bitmap.iter().rposition(|&byte| byte != 0);
        let bits = bytes.map_or(0, |byte| (byte as u64 + 1) * BITS);
        let mut sectors = (0..bits.min(layout.with_bit)).rev();
        let last = sectors.find(|&sector| cow.is_dirty(sector));
        let end = last.map_or(0, |last| layout.place(last) + SECTOR);
        // While a reflow is under way, some data is at its new place.
        if cow.file.len() < end && !cow.header.marked {
            let found = format_args!("the file ends here, the data of a dirty sector at {end}");
            return Err(Wrong::new(cow.file.len(), "data", found));
        }
        Ok(cow)
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// Whether the data of a sector is in this file.
    pub fn is_dirty(&self, sector: u64) -> bool {
        let (byte, mask) = self.layout.bit(sector);
        sector < self.layout.with_bit && self.bitmap[byte as usize] & mask != 0
    }

    /// The bytes of the file that have the bits past the last sector's, within the bitmap: one for
    /// each bit.
    pub fn bits_past_end(&self) -> Vec<u64> {
        let bits = self.layout.with_bit..self.layout.bitmap_len * 8;
        let is_set = |&bit: &u64| {
            let (byte, mask) = self.layout.bit(bit);
            self.bitmap[byte as usize] & mask != 0
        };
        let bytes = bits.filter(is_set).map(|bit| self.layout.bit(bit).0);
        bytes.map(|byte| self.layout.bitmap + byte).collect()
    }

    /// The sectors whose data is in this file, in order.
    pub fn dirty(&self) -> Vec<u64> {
        let sectors = 0..self.layout.sectors;
        sectors.filter(|&sector| self.is_dirty(sector)).collect()
    }

    /// The disk over this backing file. What that does not have is zeros, and a part of a sector
    /// at the end is the backing file's, because it cannot be written.
    pub fn disk(&self, backing: &(impl Source + ?Sized)) -> Vec<u8> {
        let mut disk = vec![0; self.header.size as usize];
        for (sector, content) in (0..).zip(disk.chunks_mut(SECTOR as usize)) {
            match self.is_dirty(sector) {
                true => self.file.read(self.layout.place(sector), content),
                false => backing.read(sector * SECTOR, content),
            }
        }
        disk
    }

    /// Compares the disk over `backing` with what a device showed of it.
    ///
    /// # Errors
    /// A device of another size, the first sector that differs, or a clean sector that the
    /// backing file does not have.
    pub fn check_shown<B, D>(&self, backing: &B, shown: &D) -> Result<(), Wrong>
    where
        B: Source + ?Sized,
        D: Shown<S> + Shown<B> + ?Sized,
    {
        let sectors = self.layout.sectors;
        let found = Shown::<S>::len(shown);
        if found != sectors * SECTOR {
            let at = self.header.version.fields().size;
            let found =
                format_args!("the file has {sectors} sectors, the device showed {found} bytes");
            return Err(Wrong::new(at, "size", found));
        }
        let below = backing.len() / SECTOR;
        let mut start = 0;
        while start < sectors {
            let dirty = self.is_dirty(start);
            let mut end = start + 1;
            while end < sectors && self.is_dirty(end) == dirty {
                end += 1;
            }
            let there = if dirty {
                end
            } else {
                end.min(below).max(start)
            };
            match dirty {
                true => {
                    let place = self.layout.place(start);
                    differs("dirty sector", &self.file, place, start..there, shown)?;
                }
                false => {
                    let place = start * SECTOR;
                    differs("clean sector", backing, place, start..there, shown)?;
                }
            }
            if there < end {
                let (byte, _) = self.layout.bit(there);
                let found = format_args!(
                    "sector {there} is clean, the backing file ends at sector {below}"
                );
                return Err(Wrong::new(self.layout.bitmap + byte, "bitmap", found));
            }
            start = end;
        }
        Ok(())
    }
}

/// Names the first of these sectors that was not shown as `file` has it, where they begin at `at`.
fn differs<F: Source + ?Sized>(
    what: &'static str,
    file: &F,
    at: u64,
    sectors: Range<u64>,
    shown: &(impl Shown<F> + ?Sized),
) -> Result<(), Wrong> {
    if shown.is_in(file, at, sectors.clone()) {
        return Ok(());
    }
    let place = |sector: u64| at + (sector - sectors.start) * SECTOR;
    let is_other = |&sector: &u64| !shown.is_in(file, place(sector), sector..sector + 1);
    let sector = sectors.clone().find(is_other).unwrap_or(sectors.start);
    let found = format_args!("sector {sector} as the file has it is not as the device showed it");
    Err(Wrong::new(place(sector), what, found))
}
