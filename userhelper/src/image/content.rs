//! What a disk holds, as a raw file of it would: piece by piece, each either in one of the
//! files underneath or nothing but zeros. Holes are never read, so that the cost of going over
//! a disk grows with its data and not with its size.

use driver::cow::SectorState;
use driver::host::{FileRole, HostError, HostFile, HostResult};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use super::ImageError;
use super::open::{CowImageFile, Image};

/// Where the content of a piece is.
#[derive(Debug)]
pub enum Source<'a, F> {
    /// Nowhere: it reads as zeros.
    Zeros,
    /// In this file, which the image knows as this, from this byte on.
    File(FileRole, &'a F, FileOffset),
}

/// A piece of a disk.
#[derive(Debug)]
pub struct Piece<'a, F> {
    /// Which bytes of the disk, as positions in a raw file of it. Never empty.
    pub range: FileRange,
    /// Where they are.
    pub source: Source<'a, F>,
}

impl<F: HostFile> Piece<'_, F> {
    /// Reads the front of the piece.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, buffer: &mut [u8]) -> HostResult<()> {
        match self.source {
            Source::Zeros => {
                buffer.fill(0);
                Ok(())
            }
            Source::File(_, file, at) => file.read_exact_at(buffer, at),
        }
    }
}

impl<F: HostFile> Image<F> {
    /// The piece of the disk at `from`, which ends before `until`.
    ///
    /// # Errors
    /// The host's.
    ///
    /// # Panics
    /// If `from` is not before `until`, or `until` is past the disk's end.
    pub fn piece(&self, from: FileOffset, until: FileOffset) -> HostResult<Piece<'_, F>> {
        assert!(from < until && until.0 <= self.size().0, "within the disk");
        self.next_piece(from, until, &mut { NO_HOLE })
    }

    /// [`Image::piece`] for a caller that goes on from there. `hole` is where nothing is known to
    /// be in the raw file, or the backing file, so that the host is not asked again and again.
    fn next_piece(
        &self,
        from: FileOffset,
        until: FileOffset,
        hole: &mut FileRange,
    ) -> HostResult<Piece<'_, F>> {
        match self {
            Image::Raw { file, .. } => data_or_hole(
                FileRole::RawDisk,
                file.file(),
                FileRange::between(from..until),
                from,
                hole,
            ),
            Image::Cow(cow) => cow.piece(from, until, hole),
        }
    }

    /// Reads the disk from `at` on, as far as it goes; the rest of the buffer becomes zeros.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<()> {
        let end = (at + Bytes(buffer.len() as u64)).min(FileOffset(self.size().0));
        let mut done = 0;
        while at + Bytes(done as u64) < end {
            let piece = self.piece(at + Bytes(done as u64), end)?;
            let len = piece.range.len.0 as usize;
            piece.read(&mut buffer[done..done + len])?;
            done += len;
        }
        buffer[done..].fill(0);
        Ok(())
    }

    /// Iterates over the pieces of the disk that are data, in order.
    pub fn data(&self) -> Data<'_, F> {
        let range = FileRange::new(FileOffset(0), self.size());
        Data {
            image: self,
            range,
            hole: NO_HOLE,
        }
    }
}

impl<F: HostFile> CowImageFile<F> {
    fn piece(
        &self,
        from: FileOffset,
        until: FileOffset,
        hole: &mut FileRange,
    ) -> HostResult<Piece<'_, F>> {
        let sector = Sector(from.0 / driver::units::SECTOR_SIZE);
        let end = Sector(0) + self.device.capacity();
        // No bit says anything about a partial last sector: it is as the backing file has it.
        let (state, run_end) = match sector < end {
            true => {
                let limit = Sector(0) + Bytes(until.0).sectors_touched();
                let run = self.device.map().run_within(sector, limit.min(end));
                (run.state, run.range.end())
            }
            false => (SectorState::Clean, Sector(u64::MAX >> 9)),
        };
        let run_end = FileOffset(run_end.bytes().0).min(until);
        let range = FileRange::between(from..run_end);
        if state == SectorState::Clean {
            return match self.device.backing() {
                Some(backing) => data_or_hole(FileRole::Backing, backing, range, from, hole),
                None => Err(HostError::NotFound),
            };
        }
        let run = SectorRange::between(sector..Sector(0) + Bytes(run_end.0).sectors_touched());
        let (at, run) = self.device.placement().place(run);
        // The piece may begin within a sector.
        let at = at + (from - FileOffset(sector.bytes().0));
        let range = FileRange::between(from..run_end.min(FileOffset(run.end().bytes().0)));
        if range.len <= self.at_once.short() {
            // To ask whether it is a hole takes longer than to read it.
            let source = Source::File(FileRole::Cow, self.device.cow(), at);
            return Ok(Piece { range, source });
        }
        data_or_hole(FileRole::Cow, self.device.cow(), range, at, &mut {
            NO_HOLE
        })
    }
}

/// Nothing is known to be a hole.
const NO_HOLE: FileRange = FileRange {
    start: FileOffset(0),
    len: Bytes(0),
};

/// The front of `range`, which is in `file` from `at` on: data, or a hole, or past its end.
/// What is found to be a hole is in `hole` afterwards.
fn data_or_hole<'a, F: HostFile>(
    role: FileRole,
    file: &'a F,
    range: FileRange,
    at: FileOffset,
    hole: &mut FileRange,
) -> HostResult<Piece<'a, F>> {
    let front = |len: Bytes| FileRange::new(range.start, len.min(range.len));
    let zeros = |len| Piece {
        range: front(len),
        source: Source::Zeros,
    };
    if hole.start <= at && at < hole.end() {
        return Ok(zeros(hole.end() - at));
    }
    Ok(match file.next_data(at)? {
        None => {
            *hole = FileRange::new(at, Bytes(u64::MAX - at.0));
            zeros(range.len)
        }
        Some(data) if data.start > at => {
            *hole = FileRange::between(at..data.start);
            zeros(data.start - at)
        }
        Some(data) => Piece {
            range: front(data.end() - at),
            source: Source::File(role, file, at),
        },
    })
}

/// For `map_err`: the disk could not be read.
pub(super) fn reading<F: HostFile>(image: &Image<F>) -> impl Fn(HostError) -> ImageError + '_ {
    ImageError::host(image.path(), "reading the disk", FileOffset(0))
}

/// Iterator over the pieces of a disk that are data; see [`Image::data`].
#[derive(Debug)]
pub struct Data<'a, F> {
    image: &'a Image<F>,
    range: FileRange,
    hole: FileRange,
}

impl<'a, F: HostFile> Iterator for Data<'a, F> {
    type Item = HostResult<Piece<'a, F>>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.range.end();
        while self.range.start < end {
            let piece = match self.image.next_piece(self.range.start, end, &mut self.hole) {
                Ok(piece) => piece,
                Err(error) => {
                    self.range = FileRange::new(end, Bytes(0));
                    return Some(Err(error));
                }
            };
            self.range = FileRange::between(piece.range.end()..end);
            if matches!(piece.source, Source::File(..)) {
                return Some(Ok(piece));
            }
        }
        None
    }
}
