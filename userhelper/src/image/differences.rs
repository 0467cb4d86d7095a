//! The sectors in which two disks differ. Where both have a hole, or take a piece from the same
//! place of the same file, nothing is read: two COW files over one backing file are compared at
//! the cost of what is in them.

use driver::host::{FileIdentity, FileRole, HostFile};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::image_host::ImageHost;

use super::content::{Piece, Source, reading};
use super::open::Image;
use super::{ImageError, Watch, report};

/// Bytes of two disks that are compared at once.
const AT_ONCE: Bytes = Bytes(1 << 20);

/// Sectors in the blocks, of 4 KiB, in which what differs is stored. Stock Linux, up to 6.12 at
/// least, reads a request wrongly after a page of which only a part is dirty: it advances by the
/// length of the last run instead of the page's.
const BLOCK: u64 = 8;

/// Finds the sectors in which two disks differ, as far as both go.
pub(super) struct Differences<'a, F> {
    a: &'a Image<F>,
    b: &'a Image<F>,
    /// Which files each of the two is read from.
    files: [Vec<(FileRole, FileIdentity)>; 2],
    at: Sector,
    end: Sector,
    buffers: [Vec<u8>; 2],
    /// What is in the buffers: from which sector on, and how many of them have been told.
    compared: Option<(Sector, usize)>,
    /// Blocks before this sector have been told.
    told: Sector,
}

impl<'a, F: HostFile> Differences<'a, F> {
    pub(super) fn between<H: ImageHost<File = F>>(
        host: &H,
        a: &'a Image<F>,
        b: &'a Image<F>,
    ) -> Result<Differences<'a, F>, ImageError> {
        let files = [files_of(host, a)?, files_of(host, b)?];
        let sectors = a.size().whole_sectors().min(b.size().whole_sectors());
        Ok(Differences {
            a,
            b,
            files,
            at: Sector(0),
            end: Sector(0) + sectors,
            buffers: [Vec::new(), Vec::new()],
            compared: None,
            told: Sector(0),
        })
    }

    /// The first sector past the whole ones that both have.
    pub(super) fn end(&self) -> Sector {
        self.end
    }

    /// The next run of whole blocks in which anything differs. A block is cut to end before
    /// `limit` where nothing past `limit` differs.
    pub(super) fn next_blocks(
        &mut self,
        limit: Sector,
        watch: Watch<'_>,
    ) -> Result<Option<SectorRange>, ImageError> {
        while let Some(run) = self.next(watch)? {
            let start = Sector(run.start.0 / BLOCK * BLOCK).max(self.told);
            let end = Sector(run.end().0.next_multiple_of(BLOCK)).min(self.end.min(limit));
            let end = end.max(run.end());
            if end > self.told {
                self.told = end;
                return Ok(Some(SectorRange::between(start..end)));
            }
        }
        Ok(None)
    }

    /// The next run of sectors that differ; a longer one may come in several parts.
    pub(super) fn next(&mut self, watch: Watch<'_>) -> Result<Option<SectorRange>, ImageError> {
        loop {
            if let Some(run) = self.next_in_buffers() {
                return Ok(Some(run));
            }
            if self.at >= self.end {
                return Ok(None);
            }
            self.advance()?;
            report(watch, self.at.bytes(), self.end.bytes())?;
        }
    }

    /// Passes over what is the same by its place, or reads the next piece of both.
    fn advance(&mut self) -> Result<(), ImageError> {
        let from = FileOffset(self.at.bytes().0);
        let until = FileOffset(self.end.bytes().0);
        let a = self.a.piece(from, until).map_err(reading(self.a))?;
        let b = self.b.piece(from, a.range.end()).map_err(reading(self.b))?;
        // A piece may end within a sector: that sector has to be read.
        let common = b.range.len.whole_sectors();
        if common > SectorCount(0) && self.is_same_place(&a, &b) {
            self.at += common;
            return Ok(());
        }
        let sectors = common.max(SectorCount(1)).min(AT_ONCE.whole_sectors());
        for (buffer, image) in self.buffers.iter_mut().zip([self.a, self.b]) {
            buffer.resize(sectors.bytes().0 as usize, 0);
            image.read(buffer, from).map_err(reading(image))?;
        }
        self.compared = Some((self.at, 0));
        self.at += sectors;
        Ok(())
    }

    fn is_same_place(&self, a: &Piece<'_, F>, b: &Piece<'_, F>) -> bool {
        match (&a.source, &b.source) {
            (Source::Zeros, Source::Zeros) => true,
            (Source::File(a, _, at), Source::File(b, _, bt)) => {
                let [of_a, of_b] = &self.files;
                let (a, b) = (identity(of_a, *a), identity(of_b, *b));
                at == bt && a.is_some() && a == b
            }
            _ => false,
        }
    }

    fn next_in_buffers(&mut self) -> Option<SectorRange> {
        let (start, told) = self.compared?;
        let [a, b] = &self.buffers;
        let sector = SECTOR_SIZE as usize;
        let differs = |n: &usize| {
            let bytes = n * sector..(n + 1) * sector;
            a[bytes.clone()] != b[bytes]
        };
        let sectors = a.len() / sector;
        let Some(first) = (told..sectors).find(differs) else {
            self.compared = None;
            return None;
        };
        let end = (first..sectors).find(|n| !differs(n)).unwrap_or(sectors);
        self.compared = Some((start, end));
        let count = SectorCount((end - first) as u64);
        Some(SectorRange::new(start + SectorCount(first as u64), count))
    }
}

/// Which files a disk is read from, each by what it is for it.
fn files_of<H: ImageHost>(
    host: &H,
    image: &Image<H::File>,
) -> Result<Vec<(FileRole, FileIdentity)>, ImageError> {
    let sources = image.sources().into_iter();
    let files = sources.map(|(role, path, file)| {
        let metadata = host.metadata(file);
        let metadata = metadata.map_err(ImageError::host(path, "examining", FileOffset(0)))?;
        Ok((role, metadata.identity))
    });
    files.collect()
}

fn identity(files: &[(FileRole, FileIdentity)], wanted: FileRole) -> Option<FileIdentity> {
    let found = files.iter().find(|(role, _)| *role == wanted);
    found.map(|(_, identity)| *identity)
}
