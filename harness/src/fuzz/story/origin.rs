//! Where the wrong content of a sector was read from, and where the right one is: looked up in
//! what the host was asked for last and in the files as they are, with the reading of the format
//! that shares no code with the driver.

use std::path::{Path, PathBuf};

use driver::host::OperationKind;
use driver::units::{FileOffset, SECTOR_SIZE};

use crate::fuzz::paths::COW;
use crate::fuzz::violation::{Shown, Violation};
use crate::plain_format::CowFile;
use crate::sim::{FileContent, LoggedCall, SimHost};
use crate::stamp::{Content, Stamp};
use crate::strip::Strip;

/// Cells of the strip of a device.
const CELLS: usize = 256;

/// Sectors of a file that are looked through for content that is not at its place.
const MOST_SEARCHED: u64 = 1 << 20;

/// The host when something wrong was seen, and what it had been asked for until then.
pub(super) struct Scene<'a> {
    pub(super) host: &'a SimHost,
    pub(super) log: &'a [LoggedCall],
    /// The device is a raw disk, which has no header.
    pub(super) raw: bool,
}

/// Where the content of a sector came from.
#[derive(Default)]
pub(super) struct Origin {
    /// A name and a text each.
    pub(super) told: Vec<(&'static str, String)>,
    /// The operation that brought it, or can have brought it.
    pub(super) read: Option<LoggedCall>,
}

/// A sector of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    path: PathBuf,
    at: u64,
}

impl Scene<'_> {
    /// Where the wrong content came from and where the right one is. Nothing for what is not
    /// about the content of a sector.
    pub(super) fn explain(&self, violation: &Violation) -> Origin {
        let (Some(sector), Some(shown)) = (violation.sector, &violation.shown) else {
            return Origin::default();
        };
        let cow = self.cow();
        let spots = match &cow {
            Some(cow) => spots(cow, sector),
            None if self.raw => vec![Spot {
                path: PathBuf::from(COW),
                at: sector * SECTOR_SIZE,
            }],
            None => Vec::new(),
        };
        let (read, text) = self.read_from(&spots, shown);
        let mut told = vec![("read from", text)];
        // A part of a write cannot be told from other content.
        if !shown.allowed.is_empty() {
            let right = self.right(cow.as_ref(), &spots, sector, shown);
            told.push(("right one", right));
        }
        Origin {
            told,
            read: read.cloned(),
        }
    }

    /// The device as its COW file has it, with the wrong sector marked.
    pub(super) fn strip(&self, violation: &Violation) -> Option<Strip> {
        let cow = self.cow()?;
        let dirty = cow.dirty();
        Some(Strip {
            wrong_sector: violation.sector,
            ..Strip::of_sectors(cow.layout.sectors, &dirty, CELLS)
        })
    }

    fn cow(&self) -> Option<CowFile<FileContent>> {
        let content = self.host.content(COW).filter(|_| !self.raw)?;
        CowFile::open(content).ok()
    }

    /// The last read that can have brought it.
    fn read_from(&self, spots: &[Spot], shown: &Shown) -> (Option<&LoggedCall>, String) {
        let reads = || {
            let is_read = |logged: &&LoggedCall| {
                logged.call.kind == OperationKind::Read && logged.result.is_ok()
            };
            self.log.iter().rev().filter(is_read)
        };
        // First choice: a read of the sector's own place. Otherwise, if the content tells what it
        // is: a read of that content anywhere.
        let own = |holds: bool| {
            reads().find_map(|read| {
                let covered = spots.iter().filter(|spot| covers(read, spot));
                let mut fitting = covered.filter(|spot| !holds || self.held(spot) == shown.found);
                fitting.next().map(|spot| (read, spot.clone()))
            })
        };
        let elsewhere = || match shown.found {
            Content::Stamped(..) => reads().find_map(|read| {
                let mut covered = covered(read);
                let spot = covered.find(|spot| self.held(spot) == shown.found)?;
                Some((read, spot))
            }),
            Content::Zeros | Content::Foreign => None,
        };
        if let Some((read, spot)) = own(true).or_else(elsewhere) {
            let mut text = format!("{}, by {}", self.describe(&spot), read.call);
            let later = own(false).filter(|(later, _)| later.call.index > read.call.index);
            if let Some((later, spot)) = later {
                let (spot, later) = (self.describe(&spot), &later.call);
                text += &format!("; {later} has read {spot} since: that is not what was shown");
            }
            return (Some(read), text);
        }
        let text = match (own(false), reads().next()) {
            (Some((read, spot)), _) => format!(
                "{}, by {}: that is not what was shown",
                self.describe(&spot),
                read.call
            ),
            (None, Some(read)) => format!(
                "no place of this sector: the last that was read is {}",
                read.call
            ),
            (None, None) => "nowhere: no file was read for it".into(),
        };
        (own(false).map(|(read, _)| read).or(reads().next()), text)
    }

    /// Where the right content is, or where it should be.
    fn right(
        &self,
        cow: Option<&CowFile<FileContent>>,
        spots: &[Spot],
        sector: u64,
        shown: &Shown,
    ) -> String {
        let is_right = |spot: &Spot| shown.allowed.contains(&self.held(spot));
        // Without a header, or with the two layouts of a reflow, nothing says where it belongs.
        let Some(cow) = cow.filter(|cow| !cow.header.marked) else {
            let found = spots.iter().find(|spot| is_right(spot)).cloned();
            return match found.or_else(|| self.search(shown)) {
                Some(spot) => self.describe(&spot),
                None => "in no file any more".into(),
            };
        };
        let bit = bit(cow, sector);
        // The last that is allowed is the newest.
        let newest = shown.allowed.last();
        let from_backing = matches!(newest, Some(Content::Stamped(Stamp::BACKING, _)));
        let home = match from_backing {
            true => spots.last(),
            false => spots.first(),
        };
        if let Some(spot) = home.into_iter().chain(spots).find(|spot| is_right(spot)) {
            return format!("{}; {bit}", self.describe(spot));
        }
        let belongs = home.map_or("in no place that the files tell".into(), |home| {
            format!("in {}, which {}", name(home), self.holds(home))
        });
        match self.search(shown) {
            Some(spot) => format!(
                "{} is out of place; it belongs {belongs}; {bit}",
                self.describe(&spot)
            ),
            None => format!("in no file any more; it belongs {belongs}; {bit}"),
        }
    }

    /// Content that tells what it is, anywhere.
    fn search(&self, shown: &Shown) -> Option<Spot> {
        let stamped = |content: &Content| matches!(content, Content::Stamped(..));
        let wanted: Vec<&Content> = shown.allowed.iter().filter(|it| stamped(it)).collect();
        if wanted.is_empty() {
            return None;
        }
        self.host.paths().into_iter().find_map(|path| {
            let content = self.host.content(&path)?;
            let sectors = content.length().0.div_ceil(SECTOR_SIZE).min(MOST_SEARCHED);
            let spots = (0..sectors).map(|number| number * SECTOR_SIZE);
            let mut spots = spots.map(|at| Spot {
                path: path.clone(),
                at,
            });
            spots.find(|spot| wanted.contains(&&look(&content, spot.at)))
        })
    }

    fn held(&self, spot: &Spot) -> Content {
        let content = self.host.content(&spot.path).unwrap_or_default();
        look(&content, spot.at)
    }

    fn holds(&self, spot: &Spot) -> String {
        let content = self.host.content(&spot.path).unwrap_or_default();
        match spot.at >= content.length().0 {
            true => "is past the end of the file".into(),
            false => format!("holds {}", self.held(spot)),
        }
    }

    fn describe(&self, spot: &Spot) -> String {
        format!("{}, which {}", name(spot), self.holds(spot))
    }
}

/// The place of a sector in the COW file, and that in the backing file.
fn spots(cow: &CowFile<FileContent>, sector: u64) -> Vec<Spot> {
    let backing = String::from_utf8_lossy(&cow.header.path);
    vec![
        Spot {
            path: Path::new(COW).to_owned(),
            at: cow.layout.place(sector),
        },
        Spot {
            path: PathBuf::from(&*backing),
            at: sector * SECTOR_SIZE,
        },
    ]
}

fn bit(cow: &CowFile<FileContent>, sector: u64) -> String {
    let layout = &cow.layout;
    if sector >= layout.with_bit {
        return format!("the bitmap of {COW} has no bit for sector {sector}");
    }
    let (byte, _) = layout.bit(sector);
    let state = match cow.is_dirty(sector) {
        true => "set: whoever opens that now reads the sector from it",
        false => "clear: whoever opens that now reads the sector from the backing file",
    };
    format!(
        "its bit, {} of byte {} of {COW}, is {state}",
        sector % 8,
        layout.bitmap + byte
    )
}

fn name(spot: &Spot) -> String {
    format!("{} at byte {}", spot.path.display(), spot.at)
}

fn look(content: &FileContent, at: u64) -> Content {
    let mut sector = [0; SECTOR_SIZE as usize];
    content.read_at(&mut sector, FileOffset(at));
    Content::of(&sector)
}

/// Whether an operation asked for the first byte there.
fn covers(read: &LoggedCall, spot: &Spot) -> bool {
    let range = read.call.range;
    *read.call.path == *spot.path && (range.start.0..range.end().0).contains(&spot.at)
}

/// The sectors of a file that an operation asked for.
fn covered(read: &LoggedCall) -> impl Iterator<Item = Spot> {
    let range = read.call.range;
    let sectors = range.start.0 / SECTOR_SIZE..range.end().0.div_ceil(SECTOR_SIZE);
    let path = read.call.path.to_path_buf();
    sectors.map(move |number| Spot {
        path: path.clone(),
        at: number * SECTOR_SIZE,
    })
}
