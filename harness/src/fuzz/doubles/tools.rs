//! Image tools that leave something wrong between two lives. Nobody asks what comes of what they
//! do to the files.

use driver::host::{Access, HostFile, HostNames};
use driver::units::{Bytes, FileOffset};

use crate::plain_format::{CowFile, SECTOR};
use crate::sim::{FileContent, SimFile, SimHost};

use super::super::case::ImageTool;
use super::super::paths::{BACKING, COW, THIRD_BACKING};
use super::super::tools::CONVERTED;
use super::{Double, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "tool-exchanges-a-sector",
        does: "writes one sector of a conversion, or of a merge, in the place of another",
        seam: Seam::Tool(|host, tool| change_sector(host, tool, Wrong::TheNext)),
        found_as: &[Kind::Inconsistent, Kind::BackingChanged],
        replay: None,
    },
    Double {
        name: "tool-leaves-zeros-for-backing-data",
        does: "leaves zeros in a sector that the backing file has data for, as a hole would",
        seam: Seam::Tool(|host, tool| change_sector(host, tool, Wrong::Zeros)),
        found_as: &[Kind::Inconsistent, Kind::BackingChanged],
        replay: None,
    },
    Double {
        name: "convert-loses-the-partial-sector",
        does: "ends a raw disk at its last whole sector",
        seam: Seam::Tool(|host, tool| {
            if let (ImageTool::ConvertToRaw, Some(disk)) = (tool, host.content(CONVERTED)) {
                let whole = disk.length().0 / SECTOR * SECTOR;
                write(host, CONVERTED, |file| drop(file.set_len(Bytes(whole))));
            }
        }),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "tool-leaves-a-temporary-file",
        does: "leaves the file that it has worked in beside the image",
        seam: Seam::Tool(|host, _| drop(host.create_new("/disk/cow.temporary".as_ref()))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "tool-leaves-a-wrong-time",
        does: "leaves another time of the backing file in the header of a COW file",
        seam: Seam::Tool(|host, tool| match tool {
            ImageTool::ConvertToCow => wrong_time(host, CONVERTED),
            ImageTool::Rebase | ImageTool::RebaseFar | ImageTool::Merge => wrong_time(host, COW),
            ImageTool::ConvertToRaw | ImageTool::Recover | ImageTool::Repair => {}
        }),
        found_as: &[Kind::Inconsistent, Kind::DoesNotOpen],
        replay: None,
    },
];

/// What a sector has in the place of its content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    TheNext,
    Zeros,
}

fn write(host: &SimHost, path: &str, write: impl FnOnce(&SimFile)) {
    if let Ok(file) = host.open(path.as_ref(), Access::ReadWrite) {
        write(&file);
    }
}

fn write_at(host: &SimHost, path: &str, data: &[u8], at: u64) {
    write(host, path, |file| drop(file.write_at(data, FileOffset(at))));
}

fn sector_at(content: &FileContent, at: u64) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    content.read_at(&mut sector, FileOffset(at));
    sector
}

/// Makes the first sector wrong for which that makes a difference.
fn change_sector(host: &SimHost, tool: ImageTool, wrong: Wrong) {
    let path = match tool {
        ImageTool::ConvertToRaw => CONVERTED,
        ImageTool::ConvertToCow => return change_cow(host, wrong),
        // A rebase before it has named another.
        ImageTool::Merge if names_the_third(host) => THIRD_BACKING,
        ImageTool::Merge => BACKING,
        ImageTool::Recover | ImageTool::Repair | ImageTool::Rebase | ImageTool::RebaseFar => return,
    };
    let Some(content) = host.content(path) else {
        return;
    };
    for at in (0..content.length().0 / SECTOR).map(|sector| sector * SECTOR) {
        let left = match wrong {
            Wrong::TheNext => sector_at(&content, at + SECTOR),
            Wrong::Zeros => vec![0; SECTOR as usize],
        };
        if left != sector_at(&content, at) {
            return write_at(host, path, &left, at);
        }
    }
}

/// Of the COW file that a conversion has made: a dirty sector with the content of another, or a
/// clean one that is marked dirty and has no data.
fn change_cow(host: &SimHost, wrong: Wrong) {
    let (Some(file), Some(backing)) = (host.content(CONVERTED), host.content(BACKING)) else {
        return;
    };
    let Ok(cow) = CowFile::open(file.clone()) else {
        return;
    };
    for sector in 0..cow.layout.with_bit {
        let place = cow.layout.place(sector);
        let (next, below) = (
            sector_at(&file, place + SECTOR),
            sector_at(&backing, sector * SECTOR),
        );
        match (wrong, cow.is_dirty(sector)) {
            (Wrong::TheNext, true) if sector_at(&file, place) != next => {
                return write_at(host, CONVERTED, &next, place);
            }
            (Wrong::Zeros, false) if below.iter().any(|&byte| byte != 0) => {
                let (byte, mask) = cow.layout.bit(sector);
                let at = cow.layout.bitmap + byte;
                let bits = sector_at(&file, at)[0] | mask;
                write_at(host, CONVERTED, &[0; SECTOR as usize], place);
                return write_at(host, CONVERTED, &[bits], at);
            }
            _ => {}
        }
    }
}

fn names_the_third(host: &SimHost) -> bool {
    let cow = host.content(COW).map(CowFile::open);
    cow.is_some_and(|cow| cow.is_ok_and(|cow| cow.header.path == THIRD_BACKING.as_bytes()))
}

fn wrong_time(host: &SimHost, path: &str) {
    let Some(Ok(cow)) = host.content(path).map(CowFile::open) else {
        return;
    };
    let mut header = cow.header;
    header.time = header.time.wrapping_add(1);
    write_at(host, path, &header.bytes(), 0);
}
