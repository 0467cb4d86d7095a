//! Building what a case begins with: the files on its host, and what its sectors hold. The COW
//! file is laid out as the format's page says, with nothing of the driver's code: a driver that
//! has another layout does not find what is in it.

use std::collections::BTreeMap;

use driver::units::{Bytes, FileOffset, Sector};

use crate::plain_format::{ByteOrder, Extension, Header, Layout, SECTOR, Version};
use crate::sim::{FileContent, SimHost};
use crate::stamp::Stamp;

use super::case::{Case, Image, ImageVersion, Patch};
use super::history::{Held, History, front};
use super::paths::{BACKING, BACKING_SECONDS, COW, OTHER_BACKING};

/// The stamp of what is dirty at the start.
const AT_START: Stamp = Stamp(1);

/// The stamp of what a backing file is modified to.
const MODIFIED: Stamp = Stamp(2);

/// The stamp of what another backing file has.
const ANOTHER: Stamp = Stamp(3);

/// What a case begins with.
pub struct Built {
    /// The host.
    pub host: SimHost,
    /// What the sectors hold.
    pub history: History,
    /// What each backing file holds.
    pub backing: BTreeMap<&'static str, FileContent>,
}

/// The backing file of a device of more sectors than this has data at both ends only.
const LARGE: u64 = 32_768;
const AT_AN_END: u64 = 1024;

/// Builds what `case` begins with.
pub fn build(case: &Case) -> Built {
    let image = &case.image;
    let host = SimHost::new(case.assumptions);
    let grown = |stamp| Held::Front(stamp, image.partial as u16);
    let with_partial = |history: History, stamp| match image.partial {
        0 => history,
        _ => history.with_partial(grown(stamp)),
    };
    if image.raw {
        host.install(COW, stamped(image, AT_START, |_| true));
        let history = History::new((0..image.sectors).map(|_| Held::Stamp(AT_START)));
        return Built {
            host,
            history: with_partial(history, AT_START),
            backing: BTreeMap::new(),
        };
    }
    let has_data = |sector: u64| {
        image.sectors <= LARGE || sector < AT_AN_END || sector + AT_AN_END >= image.sectors
    };
    let below = |sector| match has_data(sector) {
        true => Held::Stamp(Stamp::BACKING),
        false => Held::Zeros,
    };
    let content = stamped(image, Stamp::BACKING, has_data);
    let backing = BTreeMap::from([(BACKING, content.clone()), (OTHER_BACKING, content)]);
    for (&path, content) in &backing {
        host.install(path, content.clone());
        host.set_modified_seconds(path, BACKING_SECONDS);
    }
    let history = match image.missing {
        true => History::new((0..image.sectors).map(below)),
        false => {
            let (cow, dirty) = cow_file(image);
            host.install(COW, cow);
            History::new((0..).zip(dirty).map(|(sector, dirty)| match dirty {
                true => Held::Stamp(AT_START),
                false => below(sector),
            }))
        }
    };
    Built {
        host,
        history: with_partial(history, Stamp::BACKING),
        backing,
    }
}

/// A disk of the image's size, with this stamp in the sectors that have data, and in the partial
/// last one.
fn stamped(image: &Image, stamp: Stamp, has_data: impl Fn(u64) -> bool) -> FileContent {
    let mut disk = FileContent::hole(size(image));
    for sector in (0..image.sectors).filter(|&sector| has_data(sector)) {
        let content = front(stamp, SECTOR as u16, Sector(sector));
        disk.write_at(&content, FileOffset(sector * SECTOR));
    }
    let content = front(stamp, SECTOR as u16, Sector(image.sectors));
    let at = FileOffset(image.sectors * SECTOR);
    disk.write_at(&content[..image.partial as usize], at);
    disk
}

/// What somebody makes of a backing file who writes to it between two lives.
pub fn modify(backing: &mut FileContent) {
    let content = front(MODIFIED, SECTOR as u16, Sector(0));
    backing.write_at(&content, FileOffset(0));
}

/// A backing file as this one with other contents here and there, for a rebase.
pub fn another_backing(backing: &FileContent) -> FileContent {
    let mut another = backing.clone();
    for sector in (0..backing.length().0 / SECTOR).step_by(7).take(40) {
        let content = front(ANOTHER, SECTOR as u16, Sector(sector));
        another.write_at(&content, FileOffset(sector * SECTOR));
    }
    another
}

fn size(image: &Image) -> Bytes {
    Bytes(image.sectors * SECTOR + image.partial)
}

/// The header of an image's COW file.
fn header(image: &Image) -> Header {
    Header {
        version: match image.version {
            ImageVersion::V1 => Version::V1,
            ImageVersion::V2 => Version::V2,
            ImageVersion::V3 => Version::V3,
            ImageVersion::V3Wide => Version::V3Wide,
        },
        // As an x86 host wrote it; the other versions have one order.
        order: ByteOrder::Little,
        path: BACKING.into(),
        time: BACKING_SECONDS as u32,
        size: size(image).0,
        marked: false,
        alignment: image.alignment,
    }
}

/// Where things are in an image's COW file. None of an image that no file can hold.
pub fn layout(image: &Image) -> Option<Layout> {
    header(image).layout().ok()
}

/// The COW file of an image, and which of its sectors are dirty.
pub fn cow_file(image: &Image) -> (FileContent, Vec<bool>) {
    let header = header(image);
    let Ok(layout) = header.layout() else {
        // Only a case edited by hand can ask for this; its image will not open.
        return (FileContent::default(), Vec::new());
    };
    let mut cow = FileContent::hole(Bytes(layout.end));
    cow.write_at(&header.bytes(), FileOffset(0));
    if image.extension && header.version == Version::V3 {
        let extension = Extension {
            backing_size: header.size,
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
    let data_end = match dirty.iter().rposition(|&dirty| dirty) {
        Some(last) => layout.place(last as u64) + SECTOR,
        None => layout.bitmap + layout.bitmap_len,
    };
    match image.data_cut {
        Some(bytes) => cow.set_len(Bytes(data_end - bytes)),
        None if image.ends_with_data => cow.set_len(Bytes(data_end)),
        None => {}
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
