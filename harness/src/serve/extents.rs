//! Where the sectors of a device are: in the COW file or not, and whether there is data.

use driver::driver::Driver;
use driver::host::{FileRole, HostFile};
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

/// The last sector in the COW file is looked for in this many at a time, from the end.
const LOOKED_AT: SectorCount = SectorCount((16 << 20) / SECTOR_SIZE);

/// Sectors that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which.
    pub sectors: SectorRange,
    /// They are in the COW file; of a raw disk all are.
    pub dirty: bool,
    /// They are a hole of the file that they are in, and read as zeros.
    pub hole: bool,
}

/// The extents from the start of `range` on, which lies within the device, at most `most` of them.
/// Neighbours differ. Of a driver that does not tell where it reads, all counts as data.
pub(super) fn extents<F: HostFile>(
    driver: &dyn Driver<File = F>,
    range: SectorRange,
    most: usize,
) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    let mut rest = range;
    while !rest.is_empty() {
        let next = first_extent(driver, rest);
        let is_like = |last: &&mut Extent| (last.dirty, last.hole) == (next.dirty, next.hole);
        if let Some(last) = found.last_mut().filter(is_like) {
            last.sectors.count += next.sectors.count;
        } else if found.len() < most {
            found.push(next);
        } else {
            break;
        }
        rest = SectorRange::between(next.sectors.end()..rest.end());
    }
    found
}

/// Where the last sector of those ends that are in the COW file, or of a raw disk's. `None` if
/// there is none, and of a driver that does not tell where it reads.
pub(super) fn end_in_file<F: HostFile>(driver: &dyn Driver<File = F>) -> Option<FileOffset> {
    let mut end = Sector(0) + driver.capacity();
    let mut found = None;
    while end > Sector(0) && found.is_none() {
        let start = Sector(end.0.saturating_sub(LOOKED_AT.0));
        let mut rest = SectorRange::between(start..end);
        while !rest.is_empty() {
            let place = driver.read_place(rest)?;
            let sectors = SectorRange::between(rest.start..place.sectors.end().min(rest.end()));
            if place.role == FileRole::Cow {
                found = Some(place.at + sectors.count.bytes());
            }
            rest = SectorRange::between(sectors.end()..rest.end());
        }
        end = start;
    }
    found
}

fn first_extent<F: HostFile>(driver: &dyn Driver<File = F>, range: SectorRange) -> Extent {
    let as_data = |sectors, dirty| Extent {
        sectors,
        dirty,
        hole: false,
    };
    let Some(place) = driver.read_place(range) else {
        return as_data(range, true);
    };
    let dirty = place.role == FileRole::Cow;
    let sectors = SectorRange::between(range.start..place.sectors.end().min(range.end()));
    let Some(file) = place.file else {
        return as_data(sectors, dirty);
    };
    let (hole, bytes) = match file.next_data(place.at) {
        // A host that does not say takes it all for data.
        Err(_) => return as_data(sectors, dirty),
        Ok(None) => (true, u64::MAX),
        // Whole sectors of the hole: the data's first sector is data.
        Ok(Some(data)) if data.start > place.at => {
            (true, (data.start - place.at).0 / SECTOR_SIZE * SECTOR_SIZE)
        }
        Ok(Some(data)) => (
            false,
            (data.end() - place.at).0.next_multiple_of(SECTOR_SIZE),
        ),
    };
    // A hole that is shorter than a sector is data.
    let (hole, bytes) = match bytes {
        0 => (false, SECTOR_SIZE),
        bytes => (hole, bytes),
    };
    let count = sectors.count.min(SectorCount(bytes / SECTOR_SIZE));
    Extent {
        sectors: SectorRange::new(sectors.start, count),
        dirty,
        hole,
    }
}
