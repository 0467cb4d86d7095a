//! One file of a host that keeps stamps: [`Stamps`] over a file in memory. A sector that has a
//! stamp there is that stamp; any other is what the file in memory holds.

use driver::host::{HostError, HostFile, HostResult};
use driver::memory::MemoryFile;
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE};

use super::SharedStamps;
use super::stamps::Stamps;
use crate::locked::locked;
use crate::stamp::Place;

const SECTOR: usize = SECTOR_SIZE as usize;

/// An open file. A clone shares its locks, as a duplicated descriptor does.
#[derive(Clone, Debug)]
pub struct StampFile {
    memory: MemoryFile,
    writable: bool,
    stamps: SharedStamps,
}

impl StampFile {
    pub(super) fn new(memory: MemoryFile, writable: bool, stamps: SharedStamps) -> StampFile {
        StampFile {
            memory,
            writable,
            stamps,
        }
    }

    pub(super) fn memory(&self) -> &MemoryFile {
        &self.memory
    }

    /// Turns a sector that is kept as a stamp into bytes: only a part of it is going to change.
    fn expand(&self, stamps: &mut Stamps, sector: u64) -> HostResult<()> {
        let Some(place) = stamps.get(sector) else {
            return Ok(());
        };
        let at = FileOffset(sector * SECTOR_SIZE);
        self.memory.write_all_at(&place.repeated(), at)?;
        stamps.clear(sector..sector + 1);
        Ok(())
    }

    /// Turns the sectors that the range covers in part into bytes.
    fn expand_ends(&self, stamps: &mut Stamps, start: u64, end: u64) -> HostResult<()> {
        for border in [start, end] {
            if !border.is_multiple_of(SECTOR_SIZE) {
                self.expand(stamps, border / SECTOR_SIZE)?;
            }
        }
        Ok(())
    }

    /// Reads part of a sector, all of whose bytes count.
    fn read_part(&self, stamps: &Stamps, buffer: &mut [u8], at: u64) -> HostResult<usize> {
        match stamps.get(at / SECTOR_SIZE) {
            Some(place) => {
                let first = (at % SECTOR_SIZE) as usize;
                buffer.copy_from_slice(&place.repeated()[first..][..buffer.len()]);
                Ok(buffer.len())
            }
            None => self.memory.read_at(buffer, FileOffset(at)),
        }
    }

    /// Reads whole sectors; fewer at the end of the file.
    fn read_sectors(&self, stamps: &Stamps, buffer: &mut [u8], first: u64) -> HostResult<usize> {
        let (mut done, count) = (0, buffer.len() / SECTOR);
        while done < count {
            let run = stamps.run(first + done as u64, (count - done) as u64);
            let len = run.len();
            let contents = buffer[done * SECTOR..][..len * SECTOR].chunks_exact_mut(SECTOR);
            let mut places = run.places().map_while(|place| place);
            let given = contents
                .map_while(|content| {
                    places.next()?.put(content);
                    Some(())
                })
                .count();
            done += given;
            if given == len {
                continue;
            }
            // From here on the bytes in memory, up to where stamps begin again.
            let plain = run.places().skip(given).position(|place| place.is_some());
            let plain = plain.unwrap_or(len - given);
            let part = &mut buffer[done * SECTOR..][..plain * SECTOR];
            let at = FileOffset((first + done as u64) * SECTOR_SIZE);
            let got = self.memory.read_at(part, at)?;
            if got < part.len() {
                return Ok(done * SECTOR + got);
            }
            done += plain;
        }
        Ok(count * SECTOR)
    }

    /// Writes whole sectors into a file that is long enough.
    fn write_sectors(&self, stamps: &mut Stamps, data: &[u8], first: u64) -> HostResult<()> {
        let (mut done, count) = (0, data.len() / SECTOR);
        while done < count {
            let sector = first + done as u64;
            let rest = &data[done * SECTOR..];
            let plain = rest
                .chunks_exact(SECTOR)
                .take_while(|content| Place::in_front_of(content).is_none())
                .count();
            if plain > 0 {
                stamps.clear(sector..sector + plain as u64);
                let at = FileOffset(sector * SECTOR_SIZE);
                self.memory.write_all_at(&rest[..plain * SECTOR], at)?;
                done += plain;
                continue;
            }
            let contents = rest.chunks_exact(SECTOR);
            done += stamps.put(sector, contents.map_while(Place::in_front_of));
        }
        Ok(())
    }

    /// Before a write: makes the file at least `end` bytes long. What is wrong with the write,
    /// the file in memory says.
    fn make_room(&self, stamps: &mut Stamps, end: u64) -> HostResult<()> {
        if end <= stamps.known_len && self.writable {
            return Ok(());
        }
        let len = self.memory.len()?.0;
        // Also where nothing grows: that asks whether it could.
        self.memory.set_len(Bytes(len.max(end)))?;
        stamps.known_len = len.max(end);
        Ok(())
    }
}

/// A range of bytes as the part of a sector at its front, whole sectors, and a part at its end.
/// The lengths of the first two.
fn cut(at: u64, len: usize) -> (usize, usize) {
    let to_border = at.next_multiple_of(SECTOR_SIZE) - at;
    let front = len.min(to_border as usize);
    let whole = (len - front) / SECTOR * SECTOR;
    (front, whole)
}

impl HostFile for StampFile {
    /// Of a sector that is kept as a stamp, and read whole, only the first 16 bytes are given.
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        let stamps = locked(&self.stamps);
        let end = at.0.checked_add(buffer.len() as u64);
        if buffer.is_empty() || end.is_none_or(|end| end > i64::MAX as u64) {
            // What is wrong with that, the file in memory says.
            return self.memory.read_at(buffer, at);
        }
        let (front, whole) = cut(at.0, buffer.len());
        let mut done = 0;
        if front > 0 {
            done = self.read_part(&stamps, &mut buffer[..front], at.0)?;
            if done < front {
                return Ok(done);
            }
        }
        if whole > 0 {
            let first = (at.0 + done as u64) / SECTOR_SIZE;
            let got = self.read_sectors(&stamps, &mut buffer[done..done + whole], first)?;
            done += got;
            if got < whole {
                return Ok(done);
            }
        }
        if done < buffer.len() {
            let at = at.0 + done as u64;
            done += self.read_part(&stamps, &mut buffer[done..], at)?;
        }
        Ok(done)
    }

    /// Of a sector that begins with a stamp, and is written whole, only the stamp is kept.
    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        let mut stamps = locked(&self.stamps);
        let stamps = &mut *stamps;
        let Some(end) =
            at.0.checked_add(data.len() as u64)
                .filter(|_| !data.is_empty())
        else {
            return self.memory.write_at(data, at);
        };
        self.make_room(stamps, end)?;
        let (front, whole) = cut(at.0, data.len());
        if front > 0 {
            self.expand(stamps, at.0 / SECTOR_SIZE)?;
            self.memory.write_all_at(&data[..front], at)?;
        }
        if whole > 0 {
            let first = (at.0 + front as u64) / SECTOR_SIZE;
            self.write_sectors(stamps, &data[front..front + whole], first)?;
        }
        let behind = front + whole;
        if behind < data.len() {
            let at = at + Bytes(behind as u64);
            self.expand(stamps, at.0 / SECTOR_SIZE)?;
            self.memory.write_all_at(&data[behind..], at)?;
        }
        Ok(data.len())
    }

    fn sync_data(&self) -> HostResult<()> {
        self.memory.sync_data()
    }

    fn len(&self) -> HostResult<Bytes> {
        self.memory.len()
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        let mut stamps = locked(&self.stamps);
        if self.writable && len < self.memory.len()? {
            self.expand_ends(&mut stamps, len.0, len.0)?;
        }
        self.memory.set_len(len)?;
        stamps.clear(len.0.div_ceil(SECTOR_SIZE)..u64::MAX / SECTOR_SIZE);
        stamps.known_len = len.0;
        Ok(())
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        self.clear(range, MemoryFile::punch_hole)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.clear(range, MemoryFile::zero_range)
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        let stamps = locked(&self.stamps);
        let plain = self.memory.next_data(from)?;
        let stamped = stamps.next_run(from.0 / SECTOR_SIZE).map(|run| {
            let start = FileOffset(run.start * SECTOR_SIZE).max(from);
            FileRange::between(start..FileOffset(run.end * SECTOR_SIZE))
        });
        Ok(match (plain, stamped) {
            (Some(plain), Some(stamped)) if stamped.start < plain.start => Some(stamped),
            (plain, stamped) => plain.or(stamped),
        })
    }
}

impl StampFile {
    /// Makes a range zeros, in the way that is given.
    fn clear(
        &self,
        range: FileRange,
        zero: impl Fn(&MemoryFile, FileRange) -> HostResult<()>,
    ) -> HostResult<()> {
        let mut stamps = locked(&self.stamps);
        let end = range.start.0.checked_add(range.len.0);
        let end = end.ok_or(HostError::TooLarge);
        if let (true, Ok(end)) = (self.writable, &end) {
            self.expand_ends(&mut stamps, range.start.0, *end)?;
        }
        zero(&self.memory, range)?;
        let (first, end) = (range.start.0.div_ceil(SECTOR_SIZE), end? / SECTOR_SIZE);
        if first < end {
            stamps.clear(first..end);
        }
        Ok(())
    }
}
