//! What of a device is not read when all of it is compared with the model. A trace of a few
//! bytes implies a device of any size, most of which nothing ever touches; reading its zeros
//! would take minutes and tell little. So where zeros are right, because nothing but zeros and
//! discards went there, the bitmap and the holes of the files are looked at instead: where
//! the bitmap leads to a hole, a read brings zeros. Whatever a file has data for is read, and so
//! is everything that was written.
//!
//! Of the holes some are read all the same, spread over all of them: a driver that goes
//! to a wrong place is not seen in the files.

use driver::driver::Driver;
use driver::host::HostFile;
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::intervals::IntervalSet;
use crate::oracle::{Initial, Oracle, Written};

/// Holes that come to no more than this together are read like everything else.
pub(super) const READ_ALL: Bytes = Bytes(1 << 30);

/// Of more, as many pieces are read.
const SAMPLES: u64 = 1024;

/// A shorter hole is read: that costs no more than to look for it.
const LEAST: SectorCount = SectorCount(256);

/// Odd, and far from a power of two: no regular error steps over all samples.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a comparison of a whole device leaves out.
#[derive(Debug)]
pub(super) struct Holes {
    /// These sectors are not read.
    unread: IntervalSet,
    /// Sectors of holes that are read as a sample.
    sampled: SectorCount,
    device: SectorCount,
}

impl Holes {
    /// None: all of a device of this size is read.
    pub(super) fn none(device: SectorCount) -> Holes {
        Holes {
            unread: IntervalSet::default(),
            sampled: SectorCount(0),
            device,
        }
    }

    /// Looks at the files of a device on which nothing is under way, and at what the model knows.
    /// What is not going to be read has been seen to be zeros, and has to stay so. The samples
    /// are pieces of `piece` sectors.
    pub(super) fn of<I: Initial>(
        device: &impl Driver,
        oracle: &mut Oracle<I>,
        piece: SectorCount,
    ) -> Holes {
        let mut holes = Holes::none(oracle.capacity());
        for zeros in zeros_of(oracle).iter() {
            let (mut at, end) = (Sector(zeros.start), Sector(zeros.end));
            while at < end {
                let (is_hole, stop) = hole_of(device, SectorRange::between(at..end));
                if is_hole && stop - at >= LEAST {
                    holes.unread.insert(at.0..stop.0);
                }
                at = stop;
            }
        }
        let holes = holes.without_samples(piece);
        for unread in holes.unread.iter() {
            let range = SectorRange::between(Sector(unread.start)..Sector(unread.end));
            oracle.wrote(range, Written::Zeros);
        }
        holes
    }

    /// Takes out what is read all the same.
    fn without_samples(mut self, piece: SectorCount) -> Holes {
        let all = self.unread.count();
        if SectorCount(all).bytes() <= READ_ALL {
            self.unread = IntervalSet::default();
            return self;
        }
        // The holes one after the other, cut into as many parts as there are samples.
        let part = all.div_ceil(SAMPLES);
        let mut samples = (0..all.div_ceil(part))
            .map(|number| number * part + number.wrapping_mul(STEP) % part)
            .peekable();
        let (mut before, mut taken) = (0, Vec::new());
        for hole in self.unread.iter() {
            let len = hole.end - hole.start;
            while let Some(sample) = samples.next_if(|sample| *sample < before + len) {
                let start = hole.start + (sample - before);
                taken.push(start..(start + piece.0).min(hole.end));
            }
            before += len;
        }
        let removed = taken.into_iter().map(|sample| self.unread.remove(sample));
        self.sampled = SectorCount(removed.sum());
        self
    }

    /// Sectors that are not read.
    pub(super) fn unread(&self) -> SectorCount {
        SectorCount(self.unread.count())
    }

    /// Sectors of holes that are read as a sample.
    pub(super) fn sampled(&self) -> SectorCount {
        self.sampled
    }

    /// All that is read, in order.
    pub(super) fn read(&self) -> impl Iterator<Item = SectorRange> + '_ {
        let end = self.device.0;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < end {
                let start = at;
                let (is_unread, stop) = self.unread.run_at(at, end);
                at = stop;
                if !is_unread {
                    return Some(SectorRange::between(Sector(start)..Sector(stop)));
                }
            }
            None
        })
    }
}

/// Where zeros are right, as far as a look for holes is worth it.
fn zeros_of<I: Initial>(oracle: &mut Oracle<I>) -> IntervalSet {
    let (mut zeros, end) = (IntervalSet::default(), Sector(0) + oracle.capacity());
    let (mut start, mut at) = (Sector(0), Sector(0));
    while at < end {
        let (are_right, stop) = oracle.zeros_at(at, end, LEAST);
        at = stop;
        match are_right {
            false => start = at,
            true if at - start >= LEAST => {
                zeros.insert(start.0..at.0);
            }
            // It may go on.
            true => {}
        }
    }
    zeros
}

/// Whether the sectors from the start of `range` on are where the device's files have a hole, and
/// up to which sector the same is true. `range` is not empty. A device that does not tell where it
/// reads has no hole.
pub(super) fn hole_of(device: &impl Driver, range: SectorRange) -> (bool, Sector) {
    let Some(found) = device.read_place(range) else {
        return (false, range.end());
    };
    match found.file {
        Some(file) if found.sectors.count >= LEAST => hole_at(file, found.at, found.sectors),
        _ => (false, found.sectors.end()),
    }
}

/// Whether `file` has a hole where the sectors from the start of `range` on are, the first of them
/// at `place`, and up to which sector the same is true. What lies past the end of the file is no
/// hole, and a host that cannot tell has none.
pub(super) fn hole_at<F: HostFile>(
    file: &F,
    place: FileOffset,
    range: SectorRange,
) -> (bool, Sector) {
    let (first, end) = (range.start, range.end());
    let within = |sectors: u64| (first + SectorCount(sectors)).min(end);
    let data = file.len().and_then(|len| Ok((len, file.next_data(place)?)));
    let (hole, data_end) = match data {
        Ok((_, Some(data))) => (
            data.start - place,
            within((data.end() - place).0.div_ceil(SECTOR_SIZE)),
        ),
        Ok((len, None)) => (Bytes(len.0.saturating_sub(place.0)), end),
        Err(_) => (Bytes(0), end),
    };
    match hole.whole_sectors() {
        SectorCount(0) => (false, data_end),
        sectors => (true, within(sectors.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::device_spec::DeviceSpec;
    use driver::host::{Access, HostNames};
    use driver::memory::{MemoryFile, MemoryHost};
    use driver::open::{OpenOptions, create, open};
    use driver::ordered::Ordered;

    use crate::replay::backing::{Stamped, StampedParts};
    use crate::stamp::Stamp;

    const PIECE: SectorCount = SectorCount(128);

    /// 4 GiB.
    const SECTORS: SectorCount = SectorCount(1 << 23);

    struct Disk {
        host: MemoryHost,
        device: Ordered<MemoryFile>,
        oracle: Oracle<Stamped>,
    }

    /// A device over a backing file that is stamped from sector 1,000,000 to 1,000,007.
    fn disk() -> Disk {
        let host = MemoryHost::new();
        let mut parts = StampedParts::none(SECTORS);
        parts.add(range(1_000_000, 8));
        parts
            .write(&host.create_new("backing".as_ref()).unwrap())
            .unwrap();
        create(&host, "cow".as_ref(), std::path::Path::new("backing"), None).unwrap();
        Disk {
            device: opened(&host),
            oracle: Oracle::new(SECTORS, Stamped::new(parts)),
            host,
        }
    }

    fn opened(host: &MemoryHost) -> Ordered<MemoryFile> {
        let spec = DeviceSpec::of("cow");
        open(host, &spec, OpenOptions::default()).unwrap().device
    }

    fn range(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    impl Disk {
        fn holes(&mut self) -> Holes {
            Holes::of(&self.device, &mut self.oracle, PIECE)
        }

        fn reads(&mut self, sectors: SectorRange) -> bool {
            let holes = self.holes();
            holes.unread.run_at(sectors.start.0, sectors.end().0) == (false, sectors.end().0)
        }

        /// Writes into a file past the driver.
        fn spoil(&self, name: &str, at: FileOffset) {
            let file = self.host.open(name.as_ref(), Access::ReadWrite).unwrap();
            file.write_all_at(&[1; 512], at).unwrap();
        }
    }

    #[test]
    fn an_untouched_device_is_read_where_its_files_have_data_and_in_samples() {
        let mut disk = disk();
        let holes = disk.holes();
        assert!(holes.sampled() >= SectorCount(SAMPLES / 2 * PIECE.0));
        let read: u64 = holes.read().map(|range| range.count.0).sum();
        assert_eq!(read + holes.unread().0, SECTORS.0);
        // What the files have, and the piece of the host's that it is in.
        assert!(read < holes.sampled().0 + 256);
        assert!(disk.reads(range(1_000_000, 8)));
    }

    /// Around a write that lies alone nothing more is read than what the host keeps in one piece.
    #[test]
    fn of_scattered_writes_each_is_read_and_hardly_more() {
        let mut disk = disk();
        let written = (0..1000).map(|number| range(1000 + number * 8000, 8));
        for range in written.clone() {
            disk.oracle.wrote(range, Written::Stamp(Stamp(1)));
        }
        let holes = disk.holes();
        let read: u64 = holes.read().map(|range| range.count.0).sum();
        let most = holes.sampled().0 + 1000 * 8 + 256;
        assert!(read <= most, "{read} of {most}");
        assert!(written.into_iter().all(|range| disk.reads(range)));
    }

    /// Samples lie in every part, and not all at the same place of it.
    #[test]
    fn samples_are_spread_over_all_holes() {
        let mut disk = disk();
        let holes = disk.holes();
        let part = SECTORS.0 / SAMPLES;
        let starts: Vec<_> = holes.read().map(|range| range.start.0).collect();
        for start in (0..SECTORS.0 - 2 * part).step_by(part as usize) {
            let next = starts.iter().find(|&&at| at >= start);
            assert!(next.is_some_and(|&at| at < start + 2 * part), "{start}");
        }
        let mut places: Vec<_> = starts.iter().map(|at| at % part / PIECE.0).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() as u64 > part / PIECE.0 / 2, "{places:?}");
    }

    #[test]
    fn what_was_written_is_read_wherever_the_bitmap_leads() {
        let mut disk = disk();
        let written = range(5_000_000, 8);
        // The device has lost it: it is clean there, over a hole.
        disk.oracle.wrote(written, Written::Stamp(Stamp(1)));
        assert!(disk.reads(written));
        // Zeros that were written last may be a hole.
        disk.oracle
            .wrote(range(4_000_000, 2_000_000), Written::Zeros);
        let holes = disk.holes();
        let in_samples = 2_000_000 / (SECTORS.0 / SAMPLES) + 2;
        let read = holes.read().filter(|range| range.start.0 / 2_000_000 == 2);
        let read: Vec<_> = read.collect();
        assert!(read.len() as u64 <= in_samples, "{}", read.len());
    }

    #[test]
    fn what_a_file_has_data_for_is_read_also_where_nothing_went() {
        let mut disk = disk();
        disk.spoil("backing", FileOffset(6_000_000 * SECTOR_SIZE));
        assert!(disk.reads(range(6_000_000, 1)));
        // A bit that nobody set, and data where it leads.
        let geometry = disk.device.geometry().unwrap();
        let sector = Sector(7_000_000);
        drop(disk.device);
        let cow = disk.host.open("cow".as_ref(), Access::ReadWrite).unwrap();
        let byte = geometry.bitmap_offset + Bytes(sector.0 / 8);
        cow.write_all_at(&[0xff], byte).unwrap();
        disk.device = opened(&disk.host);
        disk.spoil("cow", geometry.place_of(sector));
        assert!(disk.reads(SectorRange::new(sector, SectorCount(1))));
    }

    #[test]
    fn what_was_seen_to_be_zeros_stays_so() {
        let mut disk = disk();
        let last = range(SECTORS.0 - 1, 1);
        disk.oracle.wrote(last, Written::Stamp(Stamp(1)));
        let holes = disk.holes();
        let seen = holes.unread.iter().next().unwrap();
        let first = SectorRange::new(Sector(seen.start), SectorCount(1));
        let mut stamp = vec![0; 512];
        Stamp::BACKING.fill(first.start, &mut stamp);
        let wrong = disk
            .oracle
            .check(first, &stamp, |_, _| false)
            .unwrap()
            .first_wrong;
        assert!(wrong.unwrap().to_string().ends_with("expected zeros"));
    }

    #[test]
    fn the_end_of_a_file_is_no_hole() {
        let host = MemoryHost::new();
        let file = host.create_new("file".as_ref()).unwrap();
        file.set_len(Bytes(100 * 512)).unwrap();
        let at = |first: u64, count| hole_at(&file, FileOffset(first * 512), range(first, count));
        assert_eq!(at(10, 90), (true, Sector(100)));
        assert_eq!(at(10, 1000), (true, Sector(100)));
        assert_eq!(at(100, 900), (false, Sector(1000)));
        file.write_all_at(&[1], FileOffset(64 << 10)).unwrap();
        assert_eq!(at(10, 100), (true, Sector(110)));
        assert_eq!(at(128, 100), (false, Sector(129)));
    }
}
