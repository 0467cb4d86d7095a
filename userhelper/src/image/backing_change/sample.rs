//! Choosing the places by which a backing file is known while it is changed.
//!
//! Two disks that are mixed up are seldom alike at their front: file systems keep there when they
//! were mounted last and how much was written (ext4 at 1 KiB, XFS at 0, btrfs at 64 KiB). So the
//! front is among the places, and the rest are spread over the data of the whole file. Where
//! there is a choice, zeros are passed over: they say little.

use crate::zeros::is_zero;
use driver::cow::{LONGEST_SAMPLED_RANGE, Sample, SampledRange};
use driver::host::{FailedOperation, HostFile, OperationKind};
use driver::ordered::Ordered;
use driver::resize::ResizeError;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

/// The front of the file, 128 KiB.
const FRONT: SectorCount = SectorCount(256);

/// The most places of each kind; together they are [`driver::cow::MOST_SAMPLED_RANGES`].
const FRONT_PLACES: usize = 6;
const FRONT_WRITTEN: usize = 3;
const SPREAD_PLACES: usize = 8;
const SPREAD_WRITTEN: usize = 3;

/// The most times that one place is looked for: each asks the host for data and reads some.
const TRIES: usize = 8;

/// The places of a file of `sectors` whole sectors. What a merge of `merged` writes is among them
/// with both its contents; without one the change writes nothing. The places are drawn from
/// `seed`: the same for the same file.
pub(super) fn choose<F: HostFile>(
    file: &F,
    sectors: SectorCount,
    merged: Option<&Ordered<F>>,
    seed: u64,
) -> Result<Sample, ResizeError> {
    let mut sampling = Sampling {
        file,
        end: Sector(0) + sectors,
        merged,
        state: seed,
        sample: Sample::new(),
        buffer: vec![0; LONGEST_SAMPLED_RANGE.bytes().0 as usize],
    };
    let at = FileOffset(0);
    sampling.choose().map_err(ResizeError::failed(
        "reading what the backing file is known by",
        at,
    ))?;
    match sampling.sample.ranges() {
        [] => Err(ResizeError::Refused(
            "the backing file has less than a sector, nothing to know it by".into(),
        )),
        _ => Ok(sampling.sample),
    }
}

struct Sampling<'a, F> {
    file: &'a F,
    /// Past the last whole sector.
    end: Sector,
    /// The device whose dirty sectors are written into the file.
    merged: Option<&'a Ordered<F>>,
    /// Of the generator.
    state: u64,
    sample: Sample,
    buffer: Vec<u8>,
}

impl<F: HostFile> Sampling<'_, F> {
    fn choose(&mut self) -> Result<(), FailedOperation> {
        let front = self.end.min(Sector(0) + FRONT);
        let mut from = Sector(0);
        for _ in 0..FRONT_PLACES {
            let Some(run) = self.next_kept(from, front) else {
                break;
            };
            self.add_kept(run)?;
            from = run.end();
        }
        self.add_front_written(front)?;
        // The first one after the front wherever that is, the others anywhere.
        self.add_data_from(front)?;
        for _ in 1..SPREAD_PLACES {
            let from = self.draw();
            self.add_data_from(from)?;
        }
        for _ in 0..SPREAD_WRITTEN {
            let from = self.draw();
            let run = self.next_written(from, self.end);
            if let Some(run) = run.or_else(|| self.next_written(Sector(0), self.end)) {
                self.add_written(run.start)?;
            }
        }
        Ok(())
    }

    /// The first written sectors of the front that are not zeros, or the very first.
    fn add_front_written(&mut self, front: Sector) -> Result<(), FailedOperation> {
        let mut added = 0;
        let mut from = Sector(0);
        while let Some(run) = self.next_written(from, front) {
            from = run.start + SectorCount(1);
            if !self.is_zero(SectorRange::new(run.start, SectorCount(1)))? {
                self.add_written(run.start)?;
                added += 1;
            }
            if added == FRONT_WRITTEN {
                return Ok(());
            }
        }
        match self.next_written(Sector(0), front) {
            Some(run) if added == 0 => self.add_written(run.start),
            _ => Ok(()),
        }
    }

    /// A place with data that the change leaves alone, at `from` or later, or from the start on;
    /// where none is found soon, whatever is at `from`.
    fn add_data_from(&mut self, from: Sector) -> Result<(), FailedOperation> {
        let mut at = from;
        for _ in 0..TRIES {
            let data = match at < self.end {
                true => {
                    let data = self.file.next_data(FileOffset(at.bytes().0));
                    data.map_err(OperationKind::NextData.failed())?
                }
                false => None,
            };
            let Some(data) = data else {
                at = Sector(0);
                continue;
            };
            let start = Sector(data.start.0.div_ceil(SECTOR_SIZE));
            let end = Sector(data.end().0 / SECTOR_SIZE).min(self.end);
            let start = match start > at && start < end {
                // Many searches end at the same data: each takes another part of it.
                true => start + SectorCount(self.draw().0 % (end - start).0),
                false => start.max(at),
            };
            let Some(run) = self.next_kept(start, end) else {
                at = end.max(start + SectorCount(1));
                continue;
            };
            if let Some(taken) = self.taken(run) {
                at = taken.end();
            } else if self.is_zero(run)? {
                at = self.draw();
            } else {
                return self.add_kept(run);
            }
        }
        match self.next_kept(from, self.end) {
            Some(run) if self.taken(run).is_none() => self.add_kept(run),
            _ => Ok(()),
        }
    }

    /// The next sectors in `from..end` that the change leaves alone, as long as a place may be.
    fn next_kept(&self, from: Sector, end: Sector) -> Option<SectorRange> {
        if from >= end {
            return None;
        }
        let past = |start: Sector| (start < end).then(|| SectorRange::between(start..end));
        let run = match self.merged {
            None => past(from),
            Some(device) => {
                let mapped = Sector(0) + device.capacity();
                let clean = match from < mapped {
                    true => device.map().next_clean(from, end.min(mapped)),
                    false => None,
                };
                clean.or_else(|| past(from.max(mapped)))
            }
        }?;
        Some(SectorRange::new(
            run.start,
            run.count.min(LONGEST_SAMPLED_RANGE),
        ))
    }

    /// The next sectors in `from..end` that the change writes.
    fn next_written(&self, from: Sector, end: Sector) -> Option<SectorRange> {
        let device = self.merged?;
        let end = end.min(Sector(0) + device.capacity());
        match from < end {
            true => device.map().next_dirty(from, end),
            false => None,
        }
    }

    /// The place that overlaps `range`, if one does.
    fn taken(&self, range: SectorRange) -> Option<SectorRange> {
        let places = self.sample.ranges().iter().map(|place| place.range);
        places.into_iter().find(|place| place.overlaps(range))
    }

    fn read(&mut self, range: SectorRange) -> Result<&[u8], FailedOperation> {
        let content = &mut self.buffer[..range.count.bytes().0 as usize];
        self.file
            .read_exact_at(content, FileOffset(range.start.bytes().0))
            .map_err(OperationKind::Read.failed())?;
        Ok(content)
    }

    fn is_zero(&mut self, range: SectorRange) -> Result<bool, FailedOperation> {
        Ok(is_zero(self.read(range)?))
    }

    fn add_kept(&mut self, range: SectorRange) -> Result<(), FailedOperation> {
        let digest = SampledRange::digest(self.read(range)?);
        self.sample.push(SampledRange {
            range,
            before: digest,
            after: digest,
        });
        Ok(())
    }

    /// A sector that the change writes may have its old content or its new one.
    fn add_written(&mut self, sector: Sector) -> Result<(), FailedOperation> {
        let range = SectorRange::new(sector, SectorCount(1));
        let Some(device) = self.merged.filter(|_| self.taken(range).is_none()) else {
            return Ok(());
        };
        let before = SampledRange::digest(self.read(range)?);
        let mut new = [0; SECTOR_SIZE as usize];
        let (place, _) = device.placement().place(range);
        let read = device.cow().read_exact_at(&mut new, place);
        read.map_err(OperationKind::Read.failed())?;
        self.sample.push(SampledRange {
            range,
            before,
            after: SampledRange::digest(&new),
        });
        Ok(())
    }

    /// A sector of the file, from a generator that gives the same for the same seed (SplitMix64).
    fn draw(&mut self) -> Sector {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Sector((drawn ^ (drawn >> 31)) % self.end.0.max(1))
    }
}

const _: () = assert!(
    FRONT_PLACES + FRONT_WRITTEN + SPREAD_PLACES + SPREAD_WRITTEN
        == driver::cow::MOST_SAMPLED_RANGES
);

#[cfg(test)]
mod tests {
    use super::*;
    use driver::device_spec::DeviceSpec;
    use driver::memory::{MemoryFile, MemoryHost};
    use driver::open::{OpenOptions, open};
    use driver::units::{Bytes, FileRange};

    const MIB: u64 = 1 << 20;

    /// A file of this length with bytes that are not zero in these ranges.
    fn file(host: &MemoryHost, len: u64, data: &[(u64, u64)]) -> MemoryFile {
        let file = host.file("/disk", b"");
        file.set_len(Bytes(len)).unwrap();
        for &(at, len) in data {
            let bytes: Vec<u8> = (0..len).map(|n| (at + n * 7) as u8 | 1).collect();
            file.write_all_at(&bytes, FileOffset(at)).unwrap();
        }
        file
    }

    fn chosen(file: &MemoryFile, seed: u64) -> Vec<SampledRange> {
        let sectors = file.len().unwrap().whole_sectors();
        let sample = choose(file, sectors, None, seed).unwrap();
        check(file, sample.ranges());
        sample.ranges().to_vec()
    }

    /// They lie within the file, overlap nowhere, and have the digests of what is there.
    fn check(file: &MemoryFile, places: &[SampledRange]) {
        for (n, place) in places.iter().enumerate() {
            assert!(place.range.end() <= Sector(0) + file.len().unwrap().whole_sectors());
            let others = places[..n].iter();
            assert!(others.clone().all(|it| !it.range.overlaps(place.range)));
            let mut content = vec![0; place.range.count.bytes().0 as usize];
            let at = FileOffset(place.range.start.bytes().0);
            file.read_exact_at(&mut content, at).unwrap();
            assert_eq!(place.before, SampledRange::digest(&content));
        }
    }

    fn is_zero(place: &SampledRange) -> bool {
        let zeros = vec![0; place.range.count.bytes().0 as usize];
        place.before == SampledRange::digest(&zeros)
    }

    #[test]
    fn the_front_is_among_them_and_the_rest_is_data_wherever_it_lies() {
        let clusters = [(300 * MIB, MIB), (MIB << 19, MIB), ((1 << 40) - MIB, MIB)];
        let file = file(&MemoryHost::new(), 1 << 40, &clusters);
        let places = chosen(&file, 1);
        let front = places
            .iter()
            .filter(|it| it.range.start < Sector(0) + FRONT);
        assert_eq!(front.map(|it| it.range.count.0).sum::<u64>(), FRONT.0);
        let data = places.iter().filter(|it| !is_zero(it)).count();
        assert_eq!(data, SPREAD_PLACES, "{places:?}");
        for (at, len) in clusters {
            let cluster = FileRange::new(FileOffset(at), Bytes(len));
            let inside = |place: &&SampledRange| {
                let at = FileOffset(place.range.start.bytes().0);
                cluster.start <= at && at < cluster.end()
            };
            assert!(places.iter().any(|place| inside(&place)), "none at {at}");
        }
        assert_eq!(places, chosen(&file, 1), "the same for the same file");
        assert_ne!(places, chosen(&file, 2));
    }

    #[test]
    fn zeros_are_passed_over_as_long_as_there_is_a_choice() {
        // Every second MiB was written with zeros.
        let host = MemoryHost::new();
        let data: Vec<_> = (0..64).map(|n| (n * 2 * MIB, MIB)).collect();
        let half = file(&host, 128 * MIB, &data);
        for n in 0..64 {
            let at = FileOffset((2 * n + 1) * MIB);
            half.write_all_at(&vec![0; MIB as usize], at).unwrap();
        }
        let zeros = chosen(&half, 1).iter().filter(|it| is_zero(it)).count();
        assert_eq!(zeros, 0);
        // Where there are only zeros, they say that there is nothing.
        let empty = file(&host, 128 * MIB, &[]);
        let places = chosen(&empty, 1);
        assert!(places.len() > FRONT_PLACES && places.iter().all(is_zero));
    }

    #[test]
    fn small_files_have_fewer_places_and_none_is_refused() {
        let host = MemoryHost::new();
        for sectors in [1, 2, 127, 128, 129, 256, 257, 1000] {
            let len = sectors * 512 + 100;
            let places = chosen(&file(&host, len, &[(0, len)]), sectors);
            let covered: u64 = places.iter().map(|it| it.range.count.0).sum();
            assert!(covered >= sectors.min(FRONT.0), "{sectors}: {places:?}");
        }
        let file = file(&host, 511, &[(0, 511)]);
        let refused = choose(&file, SectorCount(0), None, 1).unwrap_err();
        assert!(matches!(refused, ResizeError::Refused(_)));
    }

    fn mark_dirty(device: &mut Ordered<MemoryFile>, range: SectorRange) {
        let marked = device.relocate(|desk| async move {
            desk.look(move |here| here.map_mut().mark_dirty(range))
                .await
        });
        marked.unwrap();
    }

    #[test]
    fn what_a_merge_writes_has_both_its_contents() {
        let host = MemoryHost::new();
        let backing = file(&host, 8 * MIB, &[(1024, 8 * MIB - 1024)]);
        let spec: DeviceSpec = "ubda=/cow,/disk".parse().unwrap();
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let sectors = device.capacity();
        // The front but for its first sector, which is zeros.
        mark_dirty(&mut device, SectorRange::new(Sector(1), FRONT));
        let sample = choose(&backing, sectors, Some(&device), 1).unwrap();
        check(&backing, sample.ranges());
        let written = |place: &&SampledRange| device.map().is_dirty(place.range.start);
        let places = sample.ranges().iter().filter(written);
        let zeros = SampledRange::digest(&[0; 512]);
        for place in places.clone() {
            assert_eq!((place.range.count, place.after), (SectorCount(1), zeros));
        }
        // Sector 1 is zeros, too.
        let front: Vec<_> = places.map(|it| it.range.start).take(3).collect();
        assert_eq!(front, [Sector(2), Sector(3), Sector(4)]);
        let kept = sample.ranges().iter().filter(|it| !written(it));
        assert!(kept.clone().all(|it| it.before == it.after) && kept.count() == 1 + SPREAD_PLACES);
        // Every sector is written: nothing else is left to know the file by.
        let all = SectorRange::new(Sector(0), sectors);
        mark_dirty(&mut device, all);
        let sample = choose(&backing, sectors, Some(&device), 1).unwrap();
        assert_eq!(sample.ranges().len(), FRONT_WRITTEN + SPREAD_WRITTEN);
    }
}
