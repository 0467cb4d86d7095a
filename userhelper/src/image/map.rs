//! Where a COW file has each part of its disk: runs of sectors that are all clean or all dirty,
//! with the place in the file that holds them. The backing file is not opened for it.

use driver::cow::SectorState;
use driver::host::{HostFile, HostResult};
use driver::ordered::Ordered;
use driver::units::{FileOffset, FileRange, Sector, SectorRange};

/// A run of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRun {
    /// Which sectors.
    pub range: SectorRange,
    /// Whether they are in the COW file or in the backing file.
    pub state: SectorState,
    /// Where in that file.
    pub at: FileOffset,
    /// Whether they are a hole in the COW file, and so read as zeros. Not known, and `false`,
    /// of the backing file.
    pub zero: bool,
}

/// Iterates over the runs of a device, in order.
#[derive(Debug)]
pub struct MappedRuns<'a, F> {
    device: &'a Ordered<F>,
    at: Sector,
}

/// The runs of `device`, which is a COW file's.
pub fn mapped_runs<F: HostFile>(device: &Ordered<F>) -> MappedRuns<'_, F> {
    MappedRuns {
        device,
        at: Sector(0),
    }
}

impl<F: HostFile> MappedRuns<'_, F> {
    fn run(&self, end: Sector) -> HostResult<MappedRun> {
        let run = self.device.map().run_within(self.at, end);
        let state = run.state;
        if state == SectorState::Clean {
            return Ok(MappedRun {
                range: run.range,
                state,
                at: FileOffset(run.range.start.bytes().0),
                zero: false,
            });
        }
        let (at, range) = self.device.placement().place(run.range);
        let cow = self.device.cow();
        let data = cow.next_data(at)?;
        let data = data.filter(|data| data.start < at + range.count.bytes());
        let until = |end: FileOffset| {
            let sectors = (end - at).sectors_touched();
            SectorRange::new(range.start, sectors.min(range.count))
        };
        // A hole that ends within a sector ends with the sector before.
        let hole = match data {
            None => range,
            Some(data) if data.start <= at => SectorRange::new(range.start, Default::default()),
            Some(data) => SectorRange::new(range.start, (data.start - at).whole_sectors()),
        };
        let (range, zero) = match data {
            _ if !hole.is_empty() => (hole, true),
            Some(data) => (
                until(self.end_of_data(data, at + range.count.bytes())?),
                false,
            ),
            None => (range, true),
        };
        Ok(MappedRun {
            range,
            state,
            at,
            zero,
        })
    }

    /// Data that goes on after what the host reports as one run is one run.
    fn end_of_data(&self, data: FileRange, limit: FileOffset) -> HostResult<FileOffset> {
        let mut end = data.end();
        while end < limit {
            match self.device.cow().next_data(end)? {
                Some(next) if next.start == end => end = next.end(),
                _ => break,
            }
        }
        Ok(end)
    }
}

impl<F: HostFile> Iterator for MappedRuns<'_, F> {
    type Item = HostResult<MappedRun>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = Sector(0) + self.device.capacity();
        if self.at >= end {
            return None;
        }
        let run = self.run(end);
        self.at = run.as_ref().map_or(end, |run| run.range.end());
        Some(run)
    }
}
