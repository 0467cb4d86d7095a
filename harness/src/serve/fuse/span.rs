//! A range of bytes, and the sectors that it touches.

use std::collections::BTreeMap;

use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::super::client::Job;

/// Bytes of the device, one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    offset: u64,
    len: u64,
}

/// Sectors that a change has read, because it touches a part of each only.
pub(super) type Edges = BTreeMap<Sector, Vec<u8>>;

impl Span {
    /// As many of the `len` bytes from `offset` on as a device of `size` bytes has. `None` if it
    /// has none of them.
    pub(super) fn within(offset: u64, len: u64, size: u64) -> Option<Span> {
        let len = len.min(size.checked_sub(offset)?);
        (len > 0).then_some(Span { offset, len })
    }

    /// Its length in bytes.
    pub(super) fn len(self) -> u64 {
        self.len
    }

    fn end(self) -> u64 {
        self.offset + self.len
    }

    /// The sectors of which it touches a byte at least.
    pub(super) fn sectors(self) -> SectorRange {
        let first = Sector(self.offset / SECTOR_SIZE);
        SectorRange::between(first..Sector(self.end().div_ceil(SECTOR_SIZE)))
    }

    /// The sectors of which it touches a part only: at most the first and the last.
    pub(super) fn partial(self) -> Vec<Sector> {
        let sectors = self.sectors();
        let first = sectors.start;
        let last = Sector(sectors.end().0 - 1);
        let begins_within = !self.offset.is_multiple_of(SECTOR_SIZE);
        let ends_within = !self.end().is_multiple_of(SECTOR_SIZE);
        let mut partial = Vec::new();
        if begins_within || ends_within && first == last {
            partial.push(first);
        }
        if ends_within && first != last {
            partial.push(last);
        }
        partial
    }

    /// The bytes of its first sector that come before it.
    pub(super) fn before(self) -> usize {
        (self.offset % SECTOR_SIZE) as usize
    }

    /// `data`, which is as long as this, made as long as its sectors, of which `edges` has the
    /// content of those that it touches in part.
    pub(super) fn widened(self, data: Vec<u8>, edges: &Edges) -> Vec<u8> {
        if edges.is_empty() {
            return data;
        }
        let sectors = self.sectors();
        let mut wide = Vec::with_capacity(sectors.count.bytes().0 as usize);
        if let Some(first) = edges.get(&sectors.start) {
            wide.extend(&first[..self.before()]);
        }
        wide.extend(data);
        let ends_at = wide.len() % SECTOR_SIZE as usize;
        let last = edges.get(&Sector(sectors.end().0 - 1));
        if let Some(last) = last.filter(|_| ends_at > 0) {
            wide.extend(&last[ends_at..]);
        }
        wide
    }

    /// What makes it read as zeros, and nothing beside it.
    pub(super) fn zeroing(self, edges: &Edges, fua: bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        let sectors = self.sectors();
        let mut whole = sectors;
        for (&sector, content) in edges {
            let at = sector.0 * SECTOR_SIZE;
            let from = self.offset.max(at) - at;
            let to = self.end().min(at + SECTOR_SIZE) - at;
            let mut data = content.clone();
            data[from as usize..to as usize].fill(0);
            jobs.push(Job::Write {
                start: sector,
                data,
                fua,
            });
            if sector == whole.start {
                whole.start += SectorCount(1);
            }
            whole.count -= SectorCount(1);
        }
        if !whole.is_empty() {
            jobs.push(Job::WriteZeroes { range: whole, fua });
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: usize = 5 * SECTOR_SIZE as usize;

    fn disk() -> Vec<u8> {
        (0..DISK).map(|at| (at % 251) as u8 | 1).collect()
    }

    /// What the device has to read before the change, off the disk.
    fn edges_of(span: Span) -> Edges {
        let read = |sector: Sector| {
            let at = (sector.0 * SECTOR_SIZE) as usize;
            (sector, disk()[at..at + SECTOR_SIZE as usize].to_vec())
        };
        span.partial().into_iter().map(read).collect()
    }

    fn carry_out(disk: &mut [u8], job: Job) {
        let at = (job.range().start.0 * SECTOR_SIZE) as usize;
        match job {
            Job::Write { data, .. } => disk[at..at + data.len()].copy_from_slice(&data),
            Job::WriteZeroes { range, .. } => {
                disk[at..at + range.count.bytes().0 as usize].fill(0);
            }
            other => panic!("{other:?}"),
        }
    }

    /// All spans whose ends are at, just before or just after a sector's.
    fn spans() -> Vec<Span> {
        let ends: Vec<u64> = (0..=5)
            .flat_map(|sector| [0, 1, 511].map(|more| sector * SECTOR_SIZE + more))
            .collect();
        let pairs = ends
            .iter()
            .flat_map(|&from| ends.iter().map(move |&to| (from, to)));
        let spans = pairs.filter(|(from, to)| from < to);
        spans
            .filter_map(|(from, to)| Span::within(from, to - from, DISK as u64))
            .collect()
    }

    #[test]
    fn a_span_ends_where_the_device_does() {
        assert_eq!(Span::within(512, 0, 1024), None);
        assert_eq!(Span::within(1024, 1, 1024), None);
        assert_eq!(Span::within(u64::MAX, u64::MAX, 1024), None);
        let span = Span::within(1000, u64::MAX, 1024).unwrap();
        assert_eq!((span.len(), span.end()), (24, 1024));
    }

    #[test]
    fn a_write_changes_its_bytes_and_no_others() {
        for span in spans() {
            let data = vec![0xee; span.len as usize];
            let mut expected = disk();
            expected[span.offset as usize..span.end() as usize].fill(0xee);
            let mut found = disk();
            let data = span.widened(data, &edges_of(span));
            assert_eq!(
                data.len() as u64,
                span.sectors().count.bytes().0,
                "{span:?}"
            );
            let start = span.sectors().start;
            carry_out(
                &mut found,
                Job::Write {
                    start,
                    data,
                    fua: false,
                },
            );
            assert!(found == expected, "{span:?}");
        }
    }

    #[test]
    fn zeroing_changes_its_bytes_and_no_others_and_writes_few() {
        for span in spans() {
            let mut expected = disk();
            expected[span.offset as usize..span.end() as usize].fill(0);
            let mut found = disk();
            let jobs = span.zeroing(&edges_of(span), false);
            assert!(jobs.len() <= 3, "{span:?}: {jobs:?}");
            for job in jobs {
                carry_out(&mut found, job);
            }
            assert!(found == expected, "{span:?}");
        }
    }
}
