//! The resize of 2003, slow and obvious: in place, last bytes first (`in_place`), or into a
//! new file (`new_file`). It is there to be wrong: [`ResizeDefect`] has one switch for each
//! way in which such a resize loses data, and the fuzzer has to find every one. With all of
//! them off it is right: it keeps userhelper's journal, so that what was interrupted is
//! finished by userhelper's recovery.
//!
//! `spillner-2003` is the in-place move as it was: no journal, no mark in the header, and not
//! one sync. Nothing else is wrong with it.
//!
//! What is left out on purpose: sharing extents, holes, undoing after a host's error (the
//! device takes no writes until it is opened again), devices of more than [`MOST_SECTORS`].
//! Of the defects, those of the rename show in the new file only; forward-copy,
//! stale-bits-after-shrink-then-grow, progress-not-durable and io-to-old-location-during-move
//! in place only, for a new file has no old content, no journal, and serves nobody meanwhile.
//! All of them can show; none is left out.

mod defects;
mod in_place;
mod new_file;

use driver::cow::{Geometry, JournalRecord, Version};
use driver::host::FileRole;
use driver::ordered::{CowImage, Desk, Ordered, Relocation, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Strategy};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::sim::{SimFile, SimHost};

use super::case::ResizeStrategy;
use super::resizer::Asked;

pub use defects::{ResizeDefect, UnknownResizeDefect};
pub use in_place::InPlace;
pub use new_file::NewFile;

/// The model looks at every sector by itself: it does not take larger devices.
pub const MOST_SECTORS: u64 = 4096;

/// How much farther than necessary data is moved, in bytes: so far that some windows have
/// several sectors, and not so far that all data fits into one.
const FARTHER: u64 = 8 * SECTOR_SIZE;

/// Which procedure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// What is wrong with it.
    pub defects: Vec<ResizeDefect>,
    /// No journal and no syncs.
    pub spillner: bool,
}

impl Model {
    fn has(&self, defect: ResizeDefect) -> bool {
        self.defects.contains(&defect)
    }
}

/// Begins the resize that is asked for, and says how it goes about it.
///
/// # Errors
/// Why the model does not do that.
pub fn begin(
    host: &SimHost,
    device: &Ordered<SimFile>,
    asked: Asked,
    model: &Model,
) -> Result<(Strategy, Box<dyn Resize<SimFile>>), String> {
    let image = device.image().ok_or("a raw disk has no layout")?;
    let old = image.geometry;
    let shrinks = asked.sectors < device.capacity().0;
    if asked.sectors.max(device.capacity().0) > MOST_SECTORS {
        return Err(format!("the model takes at most {MOST_SECTORS} sectors"));
    }
    if asked.strategy == ResizeStrategy::Rebuild && !model.spillner {
        let alignment = match (asked.alignment, image.header.version) {
            (0, Version::V3) => old.alignment,
            (0, _) => 4096,
            (asked, _) => asked,
        };
        let new = layout(asked.sectors, alignment)?;
        let resize = NewFile::new(host.clone(), new, model.clone());
        return Ok((Strategy::Rebuild, Box::new(resize)));
    }
    if image.header.version != Version::V3 || !JournalRecord::fits(&old) {
        return Err("the header has no room for a journal".into());
    }
    let stays = shrinks || asked.strategy == ResizeStrategy::Headroom;
    let new = match stays {
        true => layout(asked.sectors, old.alignment)?,
        false => behind(&old, asked)?,
    };
    if stays && new.data_offset != old.data_offset {
        return Err("the data would have to move".into());
    }
    let strategy = match stays {
        true => Strategy::Headroom,
        false => Strategy::Reflow,
    };
    let window = SectorCount(asked.window.max(1));
    let resize = InPlace::new(old, new, window, model.clone());
    Ok((strategy, Box::new(resize)))
}

fn layout(sectors: u64, alignment: u32) -> Result<Geometry, String> {
    Geometry::new(Version::V3, SectorCount(sectors).bytes(), alignment)
        .map_err(|error| error.to_string())
}

/// A layout whose bitmap lies past the old one: where the alignment asked for puts it, or not far
/// past the old one.
fn behind(old: &Geometry, asked: Asked) -> Result<Geometry, String> {
    let near = (old.bitmap().end() - FileOffset(0))
        .0
        .next_multiple_of(SECTOR_SIZE)
        + FARTHER;
    let near = u32::try_from(near).map_err(|error| error.to_string())?;
    layout(asked.sectors, asked.alignment.max(near))
}

/// The bitmap of the layout `new`, sector by sector: the dirty ones that the device has, and
/// all the new ones.
async fn bitmap(
    desk: &Desk<SimFile>,
    new: &Geometry,
    model: &Model,
) -> Result<Vec<u8>, ResizeError> {
    let (new, model) = (*new, model.clone());
    desk.look(move |here| bitmap_of(here.device(), &new, &model))
        .await
}

fn bitmap_of(device: &Ordered<SimFile>, new: &Geometry, model: &Model) -> Vec<u8> {
    let moves = device.geometry().map(|old| old.bitmap_offset) != Some(new.bitmap_offset);
    let lost = moves && model.has(ResizeDefect::BitmapNotMoved);
    let mut bits = vec![0; new.bitmap_len.0 as usize];
    for sector in 0..new.capacity().0 {
        let dirty = match sector < device.capacity().0 {
            true => device.map().is_dirty(Sector(sector)) && !lost,
            false => !model.has(ResizeDefect::TailLeftClean),
        };
        if dirty {
            bits[(sector / 8) as usize] |= 1 << (sector % 8);
        }
    }
    bits
}

/// Reads `len` bytes of the COW file; what is past its end reads as zeros.
async fn read(desk: &Desk<SimFile>, at: FileOffset, len: Bytes) -> Result<Vec<u8>, ResizeError> {
    let doing = "reading the COW file";
    let end = desk.len(FileRole::Cow, doing).await?;
    let there = len.0.min(end.0.saturating_sub(at.0));
    let content = vec![0; there as usize];
    let mut content = desk.read(FileRole::Cow, doing, at, content).await?;
    content.resize(len.0 as usize, 0);
    Ok(content)
}

/// The image of the open device.
async fn image(desk: &Desk<SimFile>) -> Result<CowImage, ResizeError> {
    let image = desk.look(|here| here.device().image().cloned()).await?;
    image.ok_or_else(|| ResizeError::Refused("a raw disk has no layout".into()))
}

/// Ends a resize early: the next opening finds out what is on the disk. One that was given up is
/// left as it is.
async fn end_early(desk: &Desk<SimFile>, error: ResizeError) -> ResizeOutcome {
    if error != ResizeError::Abandoned {
        desk.follow(|here| here.refuse_writes()).await?;
    }
    Err(error)
}

/// Lets the map, and the device with it, have the sectors of the layout `new`.
fn resize_map(
    here: &mut Relocation<'_, SimFile>,
    new: &Geometry,
    model: &Model,
) -> Result<(), ResizeError> {
    let (old_end, new_end) = (here.device().capacity(), new.capacity());
    if new_end < old_end {
        here.map_mut().shrink(new_end);
        return Ok(());
    }
    here.grow_map(new_end)?;
    if model.has(ResizeDefect::TailLeftClean) {
        let tail = SectorRange::between(Sector(old_end.0)..Sector(new_end.0));
        here.map_mut().mark_clean(tail);
    }
    Ok(())
}
