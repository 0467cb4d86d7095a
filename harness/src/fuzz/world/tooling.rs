//! What is done to the image before a life opens the device: the recovery of a tool that a crash
//! has cut off, and a tool. Each change of the host is a crash point; wherever it comes, the
//! device shows the same disk, before `image recover` and after it.

use std::path::{Path, PathBuf};

use driver::units::{FileOffset, SectorCount};

use crate::plain_format::{CowFile, SECTOR};
use crate::sim::FileContent;

use super::super::build::another_backing;
use super::super::case::{DriverName, ImageTool, Life};
use super::super::check::{check_opened, read_all};
use super::super::device::Device;
use super::super::excuses::Work;
use super::super::paths::{BACKING, BACKING_SECONDS, COW, FAR_BACKING};
use super::super::put_in;
use super::super::signature::{Act, Phase};
use super::super::telling;
use super::super::tools::{self, CONVERTED, NotDone};
use super::super::under_tool::{UnderTool, names_then};
use super::super::violation::{Kind, Violation};
use super::{Line, Observer, SECTORS_A_PAGE, Stop, World};

/// The name of the new file that a rebuild of the COW file makes, until it gets the COW file's.
const UNNAMED: &str = "/disk/.cow.ubdlab-new";

/// Whether a tool makes a new file, beside the image.
fn makes_a_file(tool: ImageTool) -> bool {
    matches!(tool, ImageTool::ConvertToRaw | ImageTool::ConvertToCow)
}

fn violation(kind: Kind, what: String) -> Violation {
    Violation::new(kind, "using an image tool", &what)
        .by(Act::Tool)
        .with_error(what)
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
        if makes_a_file(tool) && self.host.inode(CONVERTED).is_some() {
            return Ok(());
        }
        self.install_other_backing(tool);
        let under = self.put_under(tool, half_merged)?;
        let merged = under.merged.clone();
        self.truth.tool.get_or_insert(under);
        let before = self.host.paths();
        self.begin(Work::Usual);
        let done = tools::use_tool(&self.host, tool, self.truth.opening.at_once);
        if done.is_ok() {
            put_in::after_tool(&self.case.defects, &self.host, tool);
        }
        self.show(observer, Phase::Tool, changes)?;
        match done {
            Ok(()) => {}
            Err(NotDone::Refused) => return Ok(self.refused(tool)?),
            Err(NotDone::Failed(error)) if self.excuses.tool(&self.host, &error.to_string()) => {
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
        let left = self.check_left(tool, &under, &before);
        left.map_err(|what| violation(Kind::Inconsistent, what))?;
        if !self.excuses.voids_promises(&self.host) {
            let promised = match under.tool == tool {
                true => under.clone(),
                false => under.recovered(&self.host),
            };
            if let Err(wrong) = promised.check_lasting(&self.host) {
                return Err(violation(Kind::Inconsistent, wrong.to_string()).into());
            }
            self.truth.done = Some(promised);
        }
        Ok(self.has_merged(tool, &under, merged)?)
    }

    /// Puts the file there that a rebase is to name, if there is none.
    fn install_other_backing(&mut self, tool: ImageTool) {
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
    }

    /// What a tool that is about to be used is to leave. With `half_merged`, some of it is put
    /// there already, where it merges.
    fn put_under(&mut self, tool: ImageTool, half_merged: bool) -> Result<UnderTool, Stop> {
        let makes_a_file = makes_a_file(tool);
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
        Ok(UnderTool {
            paths: self.paths_under(names_then(tool)),
            changes_long_path: tool == ImageTool::RebaseFar || named_far,
            tool,
            disk: makes_a_file.then_some(disk),
            merges_into,
            merged,
            half_merged: half,
        })
    }

    /// A tool was refused: it has changed nothing.
    fn refused(&mut self, tool: ImageTool) -> Result<(), Violation> {
        self.coverage.hit("image_tool_refused");
        let under = self.truth.tool.take();
        self.forget_half_merge(under.as_ref());
        let is_untouched = |under: UnderTool| match (under.merges_into, under.half_merged) {
            // What a crash has left of another is anything between.
            (Some(path), half @ Some(_)) if under.tool == tool => self.host.content(path) == half,
            _ => true,
        };
        if under.is_none_or(is_untouched) {
            return Ok(());
        }
        let what = "a merge that was refused has changed the backing file";
        Err(violation(Kind::BackingChanged, what.into()))
    }

    /// What a tool that is done has left, beside what was there `before`.
    fn check_left(
        &self,
        tool: ImageTool,
        under: &UnderTool,
        before: &[PathBuf],
    ) -> Result<(), String> {
        under.check_output(&self.host)?;
        self.check_done(tool)?;
        if makes_a_file(tool) && self.host.inode(CONVERTED).is_none() {
            return Err("there is no new file".into());
        }
        let is_left =
            |path: &PathBuf| path.as_path() != Path::new(CONVERTED) && !before.contains(path);
        let mut left = self.host.paths().into_iter().filter(is_left);
        // A fault may have kept the tool from removing it.
        match left.find(|path| !self.excuses.leaves(&self.host, path)) {
            Some(left) => Err(format!("{} is left", left.display())),
            None => Ok(()),
        }
    }

    /// A tool is done: the backing file that it merges into, if it does, is `merged`, if that is
    /// known.
    fn has_merged(
        &mut self,
        tool: ImageTool,
        under: &UnderTool,
        merged: Option<FileContent>,
    ) -> Result<(), Violation> {
        let Some(path) = under.merges_into else {
            return Ok(());
        };
        if under.tool != tool {
            self.forget_half_merge(Some(under));
        }
        let found = self.host.content(path).unwrap_or_default();
        if merged.is_some_and(|merged| merged != found) {
            let what = "the backing file does not hold the disk";
            return Err(violation(Kind::BackingChanged, what.into()));
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
