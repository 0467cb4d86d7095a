//! Building what a case begins with: the files on its host, and what its sectors hold. The COW
//! file is laid out as the format's page says, with nothing of the driver's code: a driver that
//! has another layout does not find what is in it.

use driver::units::{Bytes, FileOffset, Sector, SectorCount};

use crate::plain_format::{ByteOrder, Extension, Header, Layout, SECTOR, Version};
use crate::sim::{FileContent, SimHost};
use crate::stamp::Stamp;

use super::case::{Case, Image, ImageVersion, Patch};
use super::device::{BACKING, BACKING_SECONDS, COW, OTHER_BACKING};
use super::history::{Held, History};

/// The stamp of what is dirty at the start.
const AT_START: Stamp = Stamp(1);

/// What a case begins with.
pub struct Built {
    /// The host.
    pub host: SimHost,
    /// What the sectors hold.
    pub history: History,
    /// What the backing file holds.
    pub backing: FileContent,
}

/// Builds what `case` begins with.
pub fn build(case: &Case) -> Built {
    let image = &case.image;
    let host = SimHost::new(case.assumptions);
    let bytes = SectorCount(image.sectors).bytes();
    let mut content = vec![0; bytes.0 as usize];
    Stamp::BACKING.fill(Sector(0), &mut content);
    let backing = FileContent::from_bytes(&content);
    for path in [BACKING, OTHER_BACKING] {
        host.install(path, backing.clone());
        host.set_modified_seconds(path, BACKING_SECONDS);
    }
    let history = match image.missing {
        true => History::new((0..image.sectors).map(|_| Held::Stamp(Stamp::BACKING))),
        false => {
            let (cow, dirty) = cow_file(image);
            host.install(COW, cow);
            History::new(dirty.into_iter().map(|dirty| match dirty {
                true => Held::Stamp(AT_START),
                false => Held::Stamp(Stamp::BACKING),
            }))
        }
    };
    Built {
        host,
        history,
        backing,
    }
}

/// The COW file of an image, and which of its sectors are dirty.
pub fn cow_file(image: &Image) -> (FileContent, Vec<bool>) {
    let version = match image.version {
        ImageVersion::V1 => Version::V1,
        ImageVersion::V2 => Version::V2,
        ImageVersion::V3 => Version::V3,
        ImageVersion::V3Wide => Version::V3Wide,
    };
    let size = image.sectors * SECTOR;
    let header = Header {
        version,
        // As an x86 host wrote it; the other versions have one order.
        order: ByteOrder::Little,
        path: BACKING.into(),
        time: BACKING_SECONDS as u32,
        size,
        marked: false,
        alignment: image.alignment,
    };
    let Ok(layout) = header.layout() else {
        // Only a case edited by hand can ask for this; its image will not open.
        return (FileContent::default(), Vec::new());
    };
    let mut cow = FileContent::hole(Bytes(layout.end));
    cow.write_at(&header.bytes(), FileOffset(0));
    if image.extension && version == Version::V3 {
        let extension = Extension {
            backing_size: size,
            changing: false,
        };
        cow.write_at(&extension.bytes(), FileOffset(Extension::AT));
    }
    let mut dirty = vec![false; image.sectors as usize];
    let mut bitmap = vec![0; layout.bitmap_len as usize];
    for &(start, count) in &image.dirty {
        let end = start.saturating_add(count).min(layout.with_bit);
        for sector in start.min(end)..end {
            dirty[sector as usize] = true;
            let (byte, mask) = layout.bit(sector);
            bitmap[byte as usize] |= mask;
            let mut content = [0; SECTOR as usize];
            AT_START.fill(Sector(sector), &mut content);
            cow.write_at(&content, FileOffset(layout.place(sector)));
        }
    }
    if bitmap.iter().any(|&byte| byte != 0) {
        cow.write_at(&bitmap, FileOffset(layout.bitmap));
    }
    if image.ends_with_data {
        cow.set_len(Bytes(match dirty.iter().rposition(|&dirty| dirty) {
            Some(last) => layout.place(last as u64) + SECTOR,
            None => layout.bitmap + layout.bitmap_len,
        }));
    }
    damage(image, &header, &layout, &mut cow);
    (cow, dirty)
}

/// Makes wrong what the image has wrong.
fn damage(image: &Image, header: &Header, layout: &Layout, cow: &mut FileContent) {
    if let Some(kept) = image.bitmap_cut {
        let kept = kept.min(layout.bitmap_len.saturating_sub(1));
        cow.set_len(Bytes(layout.bitmap + kept));
    }
    let fields = header.version.fields();
    let (at, value) = match image.patched {
        None => return,
        Some(Patch::SectorSize(value)) => (fields.sector_size, value),
        Some(Patch::Alignment(value)) => match fields.alignment_and_format {
            Some((at, _)) => (at, value),
            None => return,
        },
    };
    let order = match header.version {
        Version::V1 => header.order,
        _ => ByteOrder::Big,
    };
    cow.write_at(&order.bytes(value), FileOffset(at));
}
