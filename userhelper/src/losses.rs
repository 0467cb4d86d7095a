//! What a device would lose by becoming smaller. It never again shows what lies past its new end,
//! whether that is kept in the COW file or in the backing file: a later grow brings new sectors,
//! which read as zeros. So zeros are no loss, whether they are a hole or stored.
//!
//! Holes are passed over without reading them, so that the cost grows with the data and not with
//! the size. Data is read until some of it turns out to be something else than zeros, and
//! [`COUNTED`] more, to say how much it is. While requests wait, only [`COUNTED_LIVE`] is read in
//! all. What is not read counts as lost.

use crate::zeros::is_zero;
use std::fmt;

use driver::cow::SectorState;
use driver::host::{FileRole, HostError, HostFile, OperationKind};
use driver::ordered::Ordered;
use driver::rounded_size;
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorRange};

/// Bytes that are read only to count what is lost, after it is known that something is.
pub const COUNTED: Bytes = Bytes(64 << 20);

/// The runs of sectors and extents of data that are looked at while requests wait.
const ASKED_LIVE: u64 = 10_000;

/// Bytes that are read at most while requests wait: a fraction of a second, on a slow disk.
pub const COUNTED_LIVE: Bytes = Bytes(16 << 20);

/// Bytes that are read at once, in whole sectors.
const CHUNK: Bytes = Bytes(1 << 20);

/// Data past the new end of a device. Displayed, it is a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The first sector that has some.
    pub first: Sector,
    /// The length of all sectors in the COW file, or of the raw disk, that have some.
    pub in_cow: Bytes,
    /// The length of all sectors in the backing file that have some; a raw disk has none.
    pub in_backing: Option<Bytes>,
    /// Whether all of it was read. Otherwise sectors of zeros may be among those counted.
    pub exact: bool,
}

impl Loss {
    /// The length of all that is lost.
    pub fn total(&self) -> Bytes {
        self.in_cow + self.in_backing.unwrap_or_default()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.exact { "" } else { "at most " };
        write!(
            f,
            "{most}{} past the new end, the first at sector {}",
            match self.total().0 {
                1 => "1 byte of data lies".to_owned(),
                bytes => format!("{bytes} bytes{} of data lie", in_brackets(bytes)),
            },
            self.first
        )?;
        match self.in_backing {
            None => Ok(()),
            Some(in_backing) => write!(
                f,
                " ({} of them in the COW file, {} in the backing file)",
                self.in_cow.0, in_backing.0
            ),
        }
    }
}

/// A number of bytes as people say it, in brackets; nothing where that is the number itself.
fn in_brackets(bytes: u64) -> String {
    match bytes {
        0..1024 => String::new(),
        _ => format!(" ({})", rounded_size(bytes)),
    }
}

/// How much may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All until something is found, and [`COUNTED`] after that.
    Thorough,
    /// [`COUNTED_LIVE`].
    WhileRequestsWait,
}

/// A file that could not be examined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}, at byte {at}: {error}")]
pub struct NotExamined {
    /// What the host was asked for.
    pub kind: OperationKind,
    /// What was being done, and on which file.
    pub doing: &'static str,
    /// Where in it.
    pub at: FileOffset,
    /// What the host said.
    pub error: HostError,
}

/// What `device`, which has `old_size`, loses if it gets `new_size`, which is less; `None` if
/// nothing but zeros.
///
/// # Errors
/// If one of its files cannot be examined.
pub fn losses<F: HostFile>(
    device: &Ordered<F>,
    old_size: Bytes,
    new_size: Bytes,
    effort: Effort,
) -> Result<Option<Loss>, NotExamined> {
    let mut search = Search {
        effort,
        asked: 0,
        has_backing: device.image().is_some(),
        read: Bytes(0),
        loss: None,
        buffer: Vec::new(),
    };
    let own = match device.image() {
        Some(_) => FileRole::Cow,
        None => FileRole::RawDisk,
    };
    let mut cow = Extents::of(device.cow(), own);
    let mut backing = device
        .backing()
        .map(|file| Extents::of(file, FileRole::Backing));
    let end = Sector(0) + device.capacity();
    let mut at = Sector(0) + new_size.whole_sectors();
    while at < end {
        if !search.may_ask() {
            let rest = SectorRange::between(at..end).count.bytes();
            search.add(own, at, rest).exact = false;
            return Ok(search.loss);
        }
        let run = device.map().run_within(at, end);
        let range = match (run.state, &mut backing) {
            (SectorState::Clean, Some(backing)) => {
                let place = FileOffset(run.range.start.bytes().0);
                let bytes = FileRange::new(place, run.range.count.bytes());
                search.look(backing, bytes, run.range.start)?;
                run.range
            }
            (SectorState::Clean, None) => {
                return Err(NotExamined {
                    kind: OperationKind::Read,
                    doing: examining(FileRole::Backing),
                    at: FileOffset(at.bytes().0),
                    error: HostError::NotFound,
                });
            }
            (SectorState::Dirty, _) => {
                let (place, range) = device.placement().place(run.range);
                let bytes = FileRange::new(place, range.count.bytes());
                search.look(&mut cow, bytes, range.start)?;
                range
            }
        };
        at = range.end();
    }
    // No bit says anything about a partial last sector. It is where a clean one would be.
    let partial = FileRange::between(FileOffset(end.bytes().0)..FileOffset(old_size.0));
    if partial.len > Bytes(0) {
        let file = match device.image() {
            None => Some(&mut cow),
            Some(_) => backing.as_mut(),
        };
        if let Some(file) = file {
            search.look(file, partial, end)?;
        }
    }
    Ok(search.loss)
}

fn examining(file: FileRole) -> &'static str {
    match file {
        FileRole::Cow | FileRole::New => "examining the COW file",
        FileRole::RawDisk => "examining the disk",
        FileRole::Backing => "examining the backing file",
    }
}

/// A file that is gone through from its front to its end: each extent of data in it is asked
/// for once, however many runs of sectors lie in it.
struct Extents<'a, F> {
    file: &'a F,
    which: FileRole,
    /// The last one that the host reported, `None` before the first.
    last: Option<FileRange>,
}

impl<'a, F: HostFile> Extents<'a, F> {
    fn of(file: &'a F, which: FileRole) -> Extents<'a, F> {
        Extents {
            file,
            which,
            last: None,
        }
    }

    fn failed(
        &self,
        kind: OperationKind,
        at: FileOffset,
    ) -> impl FnOnce(HostError) -> NotExamined + use<F> {
        let doing = examining(self.which);
        move |error| NotExamined {
            kind,
            doing,
            at,
            error,
        }
    }

    /// The first data in `range`, which is not before that of the last call.
    fn first_in(&mut self, range: FileRange) -> Result<Option<FileRange>, NotExamined> {
        let extent = match self.last {
            Some(last) if range.start < last.end() => last,
            _ => {
                let found = self.file.next_data(range.start);
                // Nothing but a hole: an extent that no range reaches.
                let nothing = FileRange::new(FileOffset(u64::MAX), Bytes(0));
                let failed = self.failed(OperationKind::NextData, range.start);
                found.map_err(failed)?.unwrap_or(nothing)
            }
        };
        self.last = Some(extent);
        let start = extent.start.max(range.start);
        let end = extent.end().min(range.end());
        Ok((start < end).then(|| FileRange::between(start..end)))
    }
}

struct Search {
    effort: Effort,
    /// Runs of sectors and extents of data that were looked at.
    asked: u64,
    has_backing: bool,
    /// Bytes read; with [`Effort::Thorough`], since something was found.
    read: Bytes,
    loss: Option<Loss>,
    buffer: Vec<u8>,
}

impl Search {
    /// Looks for data in `range` of a file, where `first` and the sectors after it are.
    fn look<F: HostFile>(
        &mut self,
        extents: &mut Extents<'_, F>,
        range: FileRange,
        first: Sector,
    ) -> Result<(), NotExamined> {
        let mut at = range.start;
        while let Some(data) = extents.first_in(FileRange::between(at..range.end()))? {
            if !self.may_ask() {
                let sector = first + (data.start - range.start).whole_sectors();
                self.add(extents.which, sector, range.end() - data.start)
                    .exact = false;
                return Ok(());
            }
            // Whole sectors, but for a partial one at the end.
            let start = range.start + (data.start - range.start).whole_sectors().bytes();
            let end = (range.start + (data.end() - range.start).sectors_touched().bytes())
                .min(range.end());
            let mut from = start.max(at);
            while from < end {
                let piece = FileRange::new(from, (end - from).min(CHUNK));
                let sector = first + (from - range.start).whole_sectors();
                from = match self.may_read(piece.len) {
                    true => {
                        self.examine(extents, piece, sector)?;
                        piece.end()
                    }
                    false => {
                        let loss = self.add(extents.which, sector, end - from);
                        loss.exact = false;
                        end
                    }
                };
            }
            at = end;
        }
        Ok(())
    }

    /// Whether one more run or extent may be looked at. While requests wait, what is past the
    /// bound counts as lost unseen.
    fn may_ask(&mut self) -> bool {
        self.asked += 1;
        self.effort == Effort::Thorough || self.asked <= ASKED_LIVE
    }

    fn may_read(&self, len: Bytes) -> bool {
        match self.effort {
            Effort::Thorough => self.loss.is_none() || self.read + len <= COUNTED,
            Effort::WhileRequestsWait => self.read + len <= COUNTED_LIVE,
        }
    }

    /// Reads a piece that begins with `sector`, and counts what is not zeros.
    fn examine<F: HostFile>(
        &mut self,
        extents: &Extents<'_, F>,
        piece: FileRange,
        sector: Sector,
    ) -> Result<(), NotExamined> {
        if self.loss.is_some() || self.effort == Effort::WhileRequestsWait {
            self.read += piece.len;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(piece.len.0 as usize, 0);
        extents
            .file
            .read_zero_filled_at(&mut buffer, piece.start)
            .map_err(extents.failed(OperationKind::Read, piece.start))?;
        let sectors = buffer.chunks(SECTOR_SIZE as usize);
        for (number, content) in (sector.0..).zip(sectors) {
            if !is_zero(content) {
                let len = Bytes(content.len() as u64);
                self.add(extents.which, Sector(number), len);
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn add(&mut self, which: FileRole, first: Sector, len: Bytes) -> &mut Loss {
        let loss = self.loss.get_or_insert(Loss {
            first,
            in_cow: Bytes(0),
            in_backing: self.has_backing.then_some(Bytes(0)),
            exact: true,
        });
        match which {
            FileRole::Cow | FileRole::New | FileRole::RawDisk => loss.in_cow += len,
            FileRole::Backing => *loss.in_backing.get_or_insert_default() += len,
        }
        loss
    }
}
