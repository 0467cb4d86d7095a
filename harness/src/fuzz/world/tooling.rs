//! What is done to the image before a life opens the device: the recovery of a tool that a crash
//! has cut off, and a tool. Each change of the host is a crash point; wherever it comes, the
//! device shows the same disk, before `image recover` and after it.

use std::path::{Path, PathBuf};

use driver::units::{FileOffset, SectorCount};

use crate::plain_format::{CowFile, SECTOR, Source, Version, Wrong};
use crate::sim::{FileContent, SimHost};

use super::super::build::another_backing;
use super::super::case::{Case, DriverName, ImageTool, ImageVersion, Life};
use super::super::check::{check_opened, read_all};
use super::super::device::Device;
use super::super::excuses::Work;
use super::super::paths::{BACKING, BACKING_SECONDS, COW, FAR_BACKING, THIRD_BACKING};
use super::super::put_in;
use super::super::signature::{Act, Phase};
use super::super::telling;
use super::super::tidy::Untidy;
use super::super::tools::{self, CONVERTED, NotDone};
use super::super::violation::{Kind, Violation};
use super::{Line, Observer, SECTORS_A_PAGE, Stop, World};

/// The name of the new file that a rebuild of the COW file makes, until it gets the COW file's.
const UNNAMED: &str = "/disk/.cow.ubdlab-new";

/// An image tool that is at work, or was when a crash came.
#[derive(Clone, Debug)]
pub struct UnderTool {
    /// Which.
    pub tool: ImageTool,
    /// The disk with its partial last sector, where the tool makes a new file of it.
    disk: Option<Vec<u8>>,
    /// The backing file that it writes to, if it does.
    pub merges_into: Option<&'static str>,
    /// What that file is to become.
    merged: Option<FileContent>,
    /// What that file held when some of that was there already, in the host's memory alone.
    half_merged: Option<FileContent>,
    /// It changes the header from a path to another, one of which goes over the end of a sector.
    changes_long_path: bool,
    /// The paths to a backing file that it may leave in the header: the one that is there, and the
    /// one that it is to put there. None where others may.
    paths: Vec<Vec<u8>>,
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
    fn recovered(&self, host: &SimHost) -> UnderTool {
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
fn names_then(tool: ImageTool) -> Option<&'static str> {
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

impl World<'_> {
    /// Recovers what a crash has cut off, and uses the tool of this life. Changes of the host are
    /// counted on from `changes`.
    pub(super) fn use_tools(
        &mut self,
        life: &Life,
        observer: &mut dyn Observer,
        changes: &mut usize,
    ) -> Result<(), Stop> {
        if self.truth.opening.must_refuse.is_some() || self.host.inode(COW).is_none() {
            return Ok(());
        }
        if self.truth.tool.is_some() {
            self.use_tool(ImageTool::Recover, false, observer, changes)?;
        }
        if life.tool.is_some() {
            self.ask_tools()?;
        }
        match life.tool {
            Some(tool) => self.use_tool(tool, life.half_merged, observer, changes),
            None => Ok(()),
        }
    }

    /// What the tools that change nothing tell of the image, on a copy of a host that has not
    /// failed.
    fn ask_tools(&mut self) -> Result<(), Stop> {
        let host = self.host.after_kill();
        let is_usual = self.case.driver == DriverName::Ordered && !self.case.image.raw;
        let backing = match self.named_backing() {
            Some(backing) if is_usual => backing,
            None if is_usual => {
                let what = "the header names none of the backing files";
                let violation = Violation::new(Kind::Inconsistent, "asking image tools", what);
                return Err(violation.by(Act::Tool).with_error(what).into());
            }
            _ => return Ok(()),
        };
        if self.truth.history.len() > SECTORS_A_PAGE {
            return Ok(());
        }
        let disk = self.disk()?;
        self.coverage.hit("image_tools_asked_about_the_image");
        telling::check(&host, backing, &disk).map_err(|what| {
            let violation = Violation::new(Kind::Inconsistent, "asking image tools", &what);
            violation.by(Act::Tool).with_error(what).into()
        })
    }

    /// Half of what a merge is to write into the backing file is there before it, in the host's
    /// memory alone, or all, where that is an odd number of sectors. The disk shows what it did:
    /// these sectors are dirty.
    fn merge_half(&self, path: &str) {
        let Some(Ok(cow)) = self.host.content(COW).map(CowFile::open) else {
            return;
        };
        let file = self.host.content(COW).unwrap_or_default();
        let dirty = cow.dirty();
        let step = if dirty.len().is_multiple_of(2) { 2 } else { 1 };
        for sector in dirty.into_iter().step_by(step) {
            let mut content = [0; SECTOR as usize];
            file.read_at(&mut content, FileOffset(cow.layout.place(sector)));
            let at = FileOffset(sector * SECTOR);
            // A merge that was killed has extended the file at its beginning.
            if self
                .host
                .content(path)
                .is_some_and(|below| at.0 + SECTOR <= below.length().0)
            {
                self.host.write_unsynced(path, &content, at);
            }
        }
    }

    fn use_tool(
        &mut self,
        tool: ImageTool,
        half_merged: bool,
        observer: &mut dyn Observer,
        changes: &mut usize,
    ) -> Result<(), Stop> {
        self.phase = Phase::Tool;
        self.tell(|| Line::Action(0, tool.to_string()));
        self.truth.done = None;
        let makes_a_file = matches!(tool, ImageTool::ConvertToRaw | ImageTool::ConvertToCow);
        if makes_a_file && self.host.inode(CONVERTED).is_some() {
            return Ok(());
        }
        let target = names_then(tool);
        if let Some(path) = target.filter(|path| self.host.inode(path).is_none()) {
            let mut content = another_backing(&self.truth.backing[BACKING]);
            if tool == ImageTool::RebaseFar {
                let sectors = content.length().whole_sectors().0;
                content.set_len(SectorCount(1 + sectors * 3 / 4).bytes());
            }
            self.host.install(path, content.clone());
            let seconds = BACKING_SECONDS + 1;
            self.host.set_modified_seconds(path, seconds);
            self.truth.backing.insert(path, content);
        }
        let disk = match makes_a_file || tool == ImageTool::Merge {
            true => self.disk()?,
            false => Vec::new(),
        };
        let merges_into = match tool {
            ImageTool::Merge => self.named_backing(),
            _ => None,
        };
        let merged = merges_into.map(|path| self.merged(path, &disk));
        let named_far = self.named_backing() == Some(FAR_BACKING);
        let half = merges_into.filter(|_| half_merged).and_then(|path| {
            self.coverage.hit("merge_into_what_is_not_durable");
            self.merge_half(path);
            self.host.content(path)
        });
        let paths = self.paths_under(target);
        self.truth.tool.get_or_insert(UnderTool {
            paths,
            changes_long_path: tool == ImageTool::RebaseFar || named_far,
            tool,
            disk: makes_a_file.then_some(disk),
            merges_into,
            merged: merged.clone(),
            half_merged: half,
        });
        let before = self.host.paths();
        self.begin(Work::Usual);
        let done = tools::use_tool(&self.host, tool, self.truth.opening.at_once);
        if done.is_ok() {
            put_in::after_tool(&self.case.defects, &self.host, tool);
        }
        self.show(observer, Phase::Tool, changes)?;
        let violation = |kind, what: String| {
            Violation::new(kind, "using an image tool", &what)
                .by(Act::Tool)
                .with_error(what)
        };
        match done {
            Ok(()) => {}
            Err(NotDone::Refused) => {
                self.coverage.hit("image_tool_refused");
                let under = self.truth.tool.take();
                self.forget_half_merge(under.as_ref());
                let is_untouched = |under: UnderTool| match (under.merges_into, under.half_merged) {
                    // What a crash has left of another is anything between.
                    (Some(path), half @ Some(_)) if under.tool == tool => {
                        self.host.content(path) == half
                    }
                    _ => true,
                };
                if !under.is_none_or(is_untouched) {
                    let what = "a merge that was refused has changed the backing file";
                    return Err(violation(Kind::BackingChanged, what.into()).into());
                }
                return Ok(());
            }
            Err(NotDone::Failed(_)) if self.excuses.tool(&self.host) => {
                return Err(self.give_up(observer, Phase::Tool, changes));
            }
            Err(NotDone::Failed(error)) => {
                return Err(violation(Kind::WrongStatus, format!("{tool}: {error}")).into());
            }
        }
        self.coverage.hit(match tool {
            ImageTool::Recover => "image_tool_recover",
            ImageTool::Repair => "image_tool_repair",
            ImageTool::Rebase => "image_tool_rebase",
            ImageTool::RebaseFar => "image_tool_rebase_far",
            ImageTool::Merge => "image_tool_merge",
            ImageTool::ConvertToRaw | ImageTool::ConvertToCow => "image_tool_convert",
        });
        let Some(under) = self.truth.tool.take() else {
            return Ok(());
        };
        if let Err(what) = under.check_output(&self.host) {
            return Err(violation(Kind::Inconsistent, what).into());
        }
        if let Err(what) = self.check_done(tool) {
            return Err(violation(Kind::Inconsistent, what).into());
        }
        if makes_a_file && self.host.inode(CONVERTED).is_none() {
            return Err(violation(Kind::Inconsistent, "there is no new file".into()).into());
        }
        let is_left =
            |path: &PathBuf| path.as_path() != Path::new(CONVERTED) && !before.contains(path);
        // Where the host has failed, that may have kept the tool from removing it.
        if !self.excuses.tool(&self.host)
            && let Some(left) = self.host.paths().into_iter().find(is_left)
        {
            let what = format!("{} is left", left.display());
            return Err(violation(Kind::Inconsistent, what).into());
        }
        if !self.excuses.tool(&self.host) {
            let promised = match under.tool == tool {
                true => under.clone(),
                false => under.recovered(&self.host),
            };
            if let Err(wrong) = promised.check_lasting(&self.host) {
                return Err(violation(Kind::Inconsistent, wrong.to_string()).into());
            }
            self.truth.done = Some(promised);
        }
        let Some(path) = under.merges_into else {
            return Ok(());
        };
        if under.tool != tool {
            self.forget_half_merge(Some(&under));
        }
        let found = self.host.content(path).unwrap_or_default();
        if merged.is_some_and(|merged| merged != found) {
            let what = "the backing file does not hold the disk";
            return Err(violation(Kind::BackingChanged, what.into()).into());
        }
        self.truth.backing.insert(path, found);
        Ok(())
    }

    /// The paths that the header may have under a tool: its own, and that of the new backing file.
    fn paths_under(&self, target: Option<&str>) -> Vec<Vec<u8>> {
        let cow = self.host.content(COW).map(CowFile::open);
        let Some(Ok(cow)) = cow.filter(|_| !self.truth.opening.switched) else {
            return Vec::new();
        };
        let target = target.map(|path| path.as_bytes().to_vec());
        [cow.header.path].into_iter().chain(target).collect()
    }

    /// What was half merged when a merge was refused, or cut off, is nobody's business any more: it
    /// becomes durable.
    fn forget_half_merge(&mut self, under: Option<&UnderTool>) {
        let Some(path) = under
            .filter(|it| it.half_merged.is_some())
            .and_then(|it| it.merges_into)
        else {
            return;
        };
        self.host.settle_file(path);
        if let Some(found) = self.host.content(path) {
            self.truth.backing.insert(path, found);
        }
    }

    /// What a tool that is done has left: a recovery no file without its name, and what changes the
    /// backing file the length of that file.
    fn check_done(&self, tool: ImageTool) -> Result<(), String> {
        let changes_backing = match tool {
            ImageTool::Rebase | ImageTool::RebaseFar | ImageTool::Merge => true,
            ImageTool::Recover if self.host.inode(UNNAMED).is_some() => {
                return Err("the new file of a rebuild that was interrupted is still there".into());
            }
            _ => false,
        };
        let (true, Some(path)) = (changes_backing, self.named_backing()) else {
            return Ok(());
        };
        let (Some(cow), Some(backing)) = (self.host.content(COW), self.host.content(path)) else {
            return Ok(());
        };
        let cow = CowFile::open(&cow).map_err(|wrong| wrong.to_string())?;
        match cow.extension {
            Some(extension) if extension.backing_size != backing.length().0 => Err(format!(
                "the extension block says that the backing file has {} bytes, and it has {}",
                extension.backing_size,
                backing.length()
            )),
            _ => Ok(()),
        }
    }

    /// The backing file that the COW file's header names.
    pub(super) fn named_backing(&self) -> Option<&'static str> {
        let cow = self.host.content(COW)?;
        let cow = CowFile::open(&cow).ok()?;
        let mut backing_files = self.truth.backing.keys().copied();
        backing_files.find(|path| path.as_bytes() == cow.header.path)
    }

    /// What the device shows of what is on the host now, without touching it.
    fn disk(&self) -> Result<Vec<u8>, Stop> {
        let when = "before an image tool";
        let host = self.host.after_kill();
        let opened = Device::open(&host, self.case, self.truth.opening);
        let mut content = Vec::new();
        // A device in the middle of a reflow is read as it is: with its old size.
        if let Some((mut device, _)) = check_opened(opened, self.truth.opening, when)? {
            read_all(&mut device, &mut content)?;
        }
        content.extend(self.partial_sector());
        Ok(content)
    }

    /// The partial last sector of the disk, which no request reaches: as the backing file has it.
    pub(super) fn partial_sector(&self) -> Vec<u8> {
        let cow = self.host.content(COW).map(CowFile::open);
        let size = cow.map_or(0, |cow| cow.map_or(0, |cow| cow.header.size));
        let mut content = vec![0; (size % SECTOR) as usize];
        let below = self
            .named_backing()
            .and_then(|path| self.host.content(path));
        below
            .unwrap_or_default()
            .read_at(&mut content, FileOffset(size / SECTOR * SECTOR));
        content
    }

    /// What a merge makes of the backing file.
    fn merged(&self, path: &str, disk: &[u8]) -> FileContent {
        let mut merged = self.host.content(path).unwrap_or_default();
        merged.write_at(disk, FileOffset(0));
        merged
    }
}
