//! Where a COW file has each part of its disk: runs of sectors that are all clean or all dirty,
//! with the place in the file that holds them. The backing file is not opened for it.

use driver::cow::SectorState;
use driver::host::{HostFile, HostResult};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

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

/// How much of what is dirty is data: the rest lies in holes of the COW file, and reads as zeros.
/// The host is asked once for each run of data of the file, however many dirty runs lie in it.
///
/// # Errors
/// The host's.
pub fn dirty_data<F: HostFile>(device: &Ordered<F>) -> HostResult<Bytes> {
    let mut extents = Extents {
        file: device.cow(),
        next: FileRange::new(FileOffset(0), Bytes(0)),
        from: FileOffset(0),
    };
    let all = SectorRange::new(Sector(0), device.capacity());
    let mut total = Bytes(0);
    for run in device.map().dirty_runs(all) {
        let mut rest = run;
        while !rest.is_empty() {
            let (at, front) = device.placement().place(rest);
            total += extents.data_in(FileRange::new(at, front.count.bytes()))?;
            rest = SectorRange::between(front.end()..rest.end());
        }
    }
    Ok(total)
}

/// What the host said last of where a file has data.
struct Extents<'a, F> {
    file: &'a F,
    /// The first data from `from` on.
    next: FileRange,
    from: FileOffset,
}

impl<F: HostFile> Extents<'_, F> {
    /// How much of `range` is data.
    fn data_in(&mut self, range: FileRange) -> HostResult<Bytes> {
        let (mut at, end) = (range.start, range.end());
        let mut total = Bytes(0);
        while at < end {
            if at < self.from || at >= self.next.end() {
                let none = FileRange::new(FileOffset(u64::MAX), Bytes(0));
                self.next = self.file.next_data(at)?.unwrap_or(none);
                self.from = at;
            }
            let (start, until) = (self.next.start.max(at), self.next.end().min(end));
            if start < until {
                total += until - start;
            }
            at = until;
        }
        Ok(total)
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
