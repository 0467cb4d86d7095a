//! The space that a merge into the backing file takes: an estimate, before anything is written.
//! What goes into holes of that file needs blocks of its file system; what goes where data is takes
//! none.

use driver::host::{HostFile, HostResult};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use crate::image_host::ImageHost;
use crate::space::Blocks;

use super::open::CowImageFile;
use super::{ImageError, backing_change};

/// Whether there is as much space free as merging the COW file into its backing file may take.
/// Where nobody knows how much is free, there is.
///
/// # Errors
/// [`ImageError::Refused`] if there is not; the host's.
pub(super) fn check_room<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
) -> Result<(), ImageError> {
    let path = &cow.backing_path;
    let examining = || ImageError::host(path, "examining", FileOffset(0));
    let Some(space) = host.free_space_beside(path).map_err(examining())? else {
        return Ok(());
    };
    let backing = backing_change::backing(&cow.device).map_err(ImageError::resize(&cow.path))?;
    let mut blocks = Blocks::of(space.block.0);
    add_new_blocks(cow, backing, &mut blocks).map_err(examining())?;
    // Without a new block there are no new records of extents either.
    let needed = blocks.space();
    if needed <= space.free {
        return Ok(());
    }
    let free = space.free;
    let problem = format!(
        "what is merged goes into holes of this file and may take {needed}, and only {free} are free \
         there: nothing was written"
    );
    Err(ImageError::refused(path, problem))
}

/// Adds the blocks that come to be taken in the backing file.
fn add_new_blocks<F: HostFile>(
    cow: &CowImageFile<F>,
    backing: &F,
    blocks: &mut Blocks,
) -> HostResult<()> {
    let device = &cow.device;
    let Some(geometry) = device.geometry() else {
        return Ok(());
    };
    let end = Sector(0) + device.capacity();
    let area = FileRange::new(geometry.data_offset, device.capacity().bytes());
    let mut ahead = DataAhead {
        file: backing,
        found: None,
    };
    // A dirty hole stays one, or becomes one.
    for data in device.cow().data_runs(area) {
        let data = data?;
        let start = Sector(0) + (data.start - area.start).whole_sectors();
        let stop = Sector(0) + (data.end() - area.start).sectors_touched();
        for run in (device.map()).dirty_runs(SectorRange::between(start..stop.min(end))) {
            let run = FileRange::new(FileOffset(run.start.bytes().0), run.count.bytes());
            ahead.add_holes(run, blocks)?;
        }
    }
    Ok(())
}

/// The data of a file, which is looked for once, from its start to its end.
struct DataAhead<'a, F> {
    file: &'a F,
    /// What was found last, if anything was looked for.
    found: Option<Option<FileRange>>,
}

impl<F: HostFile> DataAhead<'_, F> {
    /// The first data from `at` on. No later question is about a place before `at`.
    fn data(&mut self, at: FileOffset) -> HostResult<Option<FileRange>> {
        match self.found {
            Some(None) => return Ok(None),
            Some(Some(data)) if data.end() > at => return Ok(Some(data)),
            _ => {}
        }
        let found = self.file.next_data(at)?.filter(|data| data.len > Bytes(0));
        self.found = Some(found);
        Ok(found)
    }

    /// Adds the holes that lie in `range`.
    fn add_holes(&mut self, range: FileRange, blocks: &mut Blocks) -> HostResult<()> {
        let mut at = range.start;
        while at < range.end() {
            let data = self.data(at)?;
            let hole_end = data.map_or(range.end(), |data| data.start.min(range.end()));
            if hole_end > at {
                blocks.add(FileRange::between(at..hole_end));
            }
            at = data.map_or(range.end(), |data| data.end().max(hole_end));
        }
        Ok(())
    }
}
