//! An image tool at work between two lives: what it is to leave, what a crash may leave of it, and
//! what a recovery may.

use driver::units::FileOffset;

use crate::plain_format::{CowFile, SECTOR, Source, Version, Wrong};
use crate::sim::{FileContent, SimHost};

use super::case::{Case, ImageTool, ImageVersion};
use super::paths::{BACKING, COW, FAR_BACKING, THIRD_BACKING};
use super::tidy::Untidy;
use super::tools::CONVERTED;

/// An image tool that is at work, or was when a crash came.
#[derive(Clone, Debug)]
pub struct UnderTool {
    /// Which.
    pub tool: ImageTool,
    /// The disk with its partial last sector, where the tool makes a new file of it.
    pub(super) disk: Option<Vec<u8>>,
    /// The backing file that it writes to, if it does.
    pub merges_into: Option<&'static str>,
    /// What that file is to become.
    pub(super) merged: Option<FileContent>,
    /// What that file held when some of that was there already, in the host's memory alone.
    pub(super) half_merged: Option<FileContent>,
    /// It changes the header from a path to another, one of which goes over the end of a sector.
    pub(super) changes_long_path: bool,
    /// The paths to a backing file that it may leave in the header: the one that is there, and the
    /// one that it is to put there. None where others may.
    pub(super) paths: Vec<Vec<u8>>,
}

impl UnderTool {
    /// Whether it may leave a header that is half changed, and has to be finished before the device
    /// opens: in version 2, and with a long path, what a rebase changes lies in several sectors.
    pub fn may_refuse(&self, case: &Case) -> bool {
        let is_rebase = matches!(self.tool, ImageTool::Rebase | ImageTool::RebaseFar);
        is_rebase && (case.image.version == ImageVersion::V2 || self.changes_long_path)
    }

    /// What is there, also after a power cut, when the tool has said that it is done.
    ///
    /// # Errors
    /// What is not.
    pub fn check_lasting(&self, host: &SimHost) -> Result<(), Wrong> {
        let wrong = |what, found: &str| {
            Err(Wrong {
                at: 0,
                what,
                found: found.into(),
            })
        };
        if self.disk.is_some() && host.inode(CONVERTED).is_none() {
            return wrong("new file", "it is not there");
        }
        if let Err(found) = self.check_output(host) {
            return wrong("new file", &found);
        }
        let Some(file) = host.content(COW) else {
            return wrong("COW file", "it is not there");
        };
        let cow = CowFile::open(&file)?;
        let is_marked = cow.header.marked || cow.extension.is_some_and(|block| block.changing);
        // A conversion reads a device in the middle of a reflow, and leaves it there.
        if is_marked && self.disk.is_none() {
            return wrong("mark", "something is still under way");
        }
        self.check_path(&cow)?;
        let target = names_then(self.tool);
        if target.is_some_and(|target| cow.header.path != target.as_bytes()) {
            return wrong("path", "found another than that of the new backing file");
        }
        if let (Some(path), Some(merged)) = (self.merges_into, &self.merged) {
            if host.content(path).as_ref() != Some(merged) {
                return wrong("backing file", "it does not hold the disk");
            }
            if !cow.dirty().is_empty() {
                return wrong("bitmap", "found a dirty sector, expected none");
            }
        }
        match self.tool {
            // A block of zeros is not worth a repair.
            ImageTool::Repair => Untidy::but_leaks(&file)?.no_more_than(Untidy::default()),
            ImageTool::Recover => is_settled(&cow, &file),
            _ => Ok(()),
        }
    }

    /// Whether the header names the backing file that it did, or the one that it was to name.
    ///
    /// # Errors
    /// That it names another.
    fn check_path<S: Source>(&self, cow: &CowFile<S>) -> Result<(), Wrong> {
        match self.paths.is_empty() || self.paths.contains(&cow.header.path) {
            true => Ok(()),
            false => Err(Wrong {
                at: cow.header.version.fields().path,
                what: "path",
                found: "found another than before the tool, and not that of a new backing file"
                    .into(),
            }),
        }
    }

    /// Whether a recovery has left a COW file as every tool leaves one: nothing of a resize past
    /// the ends of the bitmap and of the data, and the backing file that it had.
    ///
    /// # Errors
    /// What is not so.
    pub fn check_recovered(
        &self,
        cow: &CowFile<&FileContent>,
        file: &FileContent,
    ) -> Result<(), Wrong> {
        self.check_path(cow)?;
        is_settled(cow, file)
    }

    /// What is there from when a recovery has said that it has ended this: all of it, if all of it
    /// is there now, and otherwise an image with nothing under way. A conversion ends by itself.
    pub(super) fn recovered(&self, host: &SimHost) -> UnderTool {
        match self.disk.is_none() && self.check_lasting(host).is_ok() {
            true => self.clone(),
            false => UnderTool {
                tool: ImageTool::Recover,
                disk: None,
                merges_into: None,
                merged: None,
                half_merged: None,
                changes_long_path: false,
                paths: self.paths.clone(),
            },
        }
    }

    /// A new file is there whole, or not at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_output(&self, host: &SimHost) -> Result<(), String> {
        match (&self.disk, host.content(CONVERTED)) {
            (Some(disk), Some(found)) => is_disk(self.tool, &found, disk, host),
            _ => Ok(()),
        }
    }
}

/// The backing file that the header names when the tool is done, if that is a new one.
pub(super) fn names_then(tool: ImageTool) -> Option<&'static str> {
    match tool {
        ImageTool::Rebase => Some(THIRD_BACKING),
        ImageTool::RebaseFar => Some(FAR_BACKING),
        ImageTool::Recover
        | ImageTool::Repair
        | ImageTool::Merge
        | ImageTool::ConvertToRaw
        | ImageTool::ConvertToCow => None,
    }
}

/// Whether nothing of an interrupted resize is left. What was not given back of its space is a
/// documented leak, and in the other versions no resize leaves anything.
fn is_settled(cow: &CowFile<&FileContent>, file: &FileContent) -> Result<(), Wrong> {
    match cow.header.version == Version::V3 {
        true => Untidy::but_leaks_in(cow, file).no_more_than(Untidy::default()),
        false => Ok(()),
    }
}

/// Whether a new file has the disk.
fn is_disk(tool: ImageTool, file: &FileContent, disk: &[u8], host: &SimHost) -> Result<(), String> {
    match tool {
        ImageTool::ConvertToRaw if file.length().0 != disk.len() as u64 => Err(format!(
            "the new file has {}, the disk {} bytes",
            file.length(),
            disk.len()
        )),
        ImageTool::ConvertToRaw => match file.holds(disk, FileOffset(0)) {
            true => Ok(()),
            false => Err("the new file does not hold the disk".into()),
        },
        ImageTool::ConvertToCow => {
            let below = host.content(BACKING).unwrap_or_default();
            let whole = disk.len() as u64 / SECTOR * SECTOR;
            let cow = CowFile::open(file).and_then(|cow| {
                cow.check_shown(&below, &disk[..whole as usize])?;
                Ok(cow)
            });
            let cow = cow.map_err(|wrong| format!("the new file: {wrong}"))?;
            describes(&cow, disk.len() as u64, host)?;
            is_tidy(file, cow.layout.end)
        }
        ImageTool::Recover
        | ImageTool::Repair
        | ImageTool::Rebase
        | ImageTool::RebaseFar
        | ImageTool::Merge => Ok(()),
    }
}

/// Whether the header of a new COW file is that of a disk of `size` bytes over the backing file.
fn describes<S: Source>(cow: &CowFile<S>, size: u64, host: &SimHost) -> Result<(), String> {
    let header = &cow.header;
    let below = host.content(BACKING).unwrap_or_default().length().0;
    let time = host.modified_seconds(BACKING).map(|seconds| seconds as u32);
    let recorded = cow.extension.map_or(below, |block| block.backing_size);
    let is_changing = cow.extension.is_some_and(|block| block.changing);
    let wrong = [
        ("size", header.size != size),
        ("path", header.path != BACKING.as_bytes()),
        ("time", Some(header.time) != time),
        ("size of the backing file", recorded != below),
        ("mark", header.marked || is_changing),
    ];
    match wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
        Some((what, _)) => Err(format!("the header of the new file has a wrong {what}")),
        None => Ok(()),
    }
}

/// Whether a new COW file has its whole length, and nothing that no reader looks at.
fn is_tidy(file: &FileContent, end: u64) -> Result<(), String> {
    if file.length().0 != end {
        let len = file.length();
        return Err(format!("the new file has {len}, expected {end} bytes"));
    }
    let untidy = Untidy::of(file).and_then(|untidy| untidy.no_more_than(Untidy::default()));
    untidy.map_err(|wrong| format!("the new file: {wrong}"))
}
