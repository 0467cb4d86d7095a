//! A case, whole, as data: what is on the disks, what is done, where it crashes and what
//! survives. It does not need the seed or the generator that made it; edited by hand it runs
//! again.

use driver::exact_count;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sim::{Assumptions, FaultRule, Survivors};

use super::defect::CaseDefect;
use super::procedure_2003::Model;
use super::violation::Violation;

/// What the format field of a case has to say.
pub const FORMAT: &str = "ubdlab case 1";

/// A case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// [`FORMAT`].
    pub format: String,
    /// The driver.
    pub driver: DriverName,
    /// Defects switched on, by their names; of the driver, or of the resize.
    #[serde(default)]
    pub defects: Vec<CaseDefect>,
    /// Who resizes.
    #[serde(default)]
    pub resizer: Resizer,
    /// How a kernel's driver is set up; `ordered` has nothing of it.
    #[serde(default)]
    pub kernel: KernelSetup,
    /// The guest submits once more what changes the disk and failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retries: bool,
    /// What is assumed of the host.
    pub assumptions: Assumptions,
    /// The image at the start.
    pub image: Image,
    /// One after the other, each from opening the device to the end of the process.
    pub lives: Vec<Life>,
    /// What was found, where this is a finding. Not needed to run the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Violation>,
}

impl Case {
    /// How many requests are submitted in it.
    pub fn requests(&self) -> usize {
        let actions = self.lives.iter().flat_map(|life| &life.actions);
        actions.filter(|action| action.is_request()).count()
    }

    /// Whether a case that somebody has edited can be run: nothing in it, and not all of it
    /// together, is larger than the memory of a machine.
    ///
    /// # Errors
    /// What is wrong, with what was found and what was expected.
    pub fn check(&self) -> Result<(), String> {
        /// Sectors of a device in a case.
        const MOST: u64 = 1 << 20;
        let in_range = |what: &str, found: u64, least: u64| match (least..=MOST).contains(&found) {
            true => Ok(()),
            false => Err(format!(
                "{what}: found {found}, expected from {least} to {MOST}"
            )),
        };
        in_range("image.sectors", self.image.sectors, 1)?;
        self.image.check()?;
        for segments_of in self.lives.iter().filter_map(|life| life.segments_of) {
            in_range("lives.segments_of", segments_of, 1)?;
        }
        for at_once in self.lives.iter().filter_map(|life| life.at_once) {
            in_range("lives.at_once", at_once, 1)?;
        }
        for &(start, count) in &self.image.dirty {
            in_range("image.dirty", start, 0)?;
            in_range("image.dirty", count, 0)?;
        }
        self.check_sums()?;
        for action in self.lives.iter().flat_map(|life| &life.actions) {
            match *action {
                Stimulus::Read { start, count }
                | Stimulus::Write { start, count, .. }
                | Stimulus::Discard { start, count }
                | Stimulus::WriteZeroes { start, count } => {
                    in_range("start", start, 0)?;
                    in_range("count", count, 0)?;
                }
                Stimulus::Resize {
                    sectors,
                    window,
                    alignment,
                    odd,
                    ..
                } => {
                    if odd >= 512 {
                        return Err(format!("odd: found {odd}, expected at most 511"));
                    }
                    in_range("sectors", sectors, 0)?;
                    in_range("window", window, 0)?;
                    if !alignment.is_multiple_of(512) {
                        return Err(format!(
                            "alignment: found {alignment}, expected 0 or a multiple of 512"
                        ));
                    }
                }
                _ => {}
            }
        }
        self.check_ordered()?;
        if self.kernel.pipe_capacity == 0 {
            return Err("kernel.pipe_capacity: found 0, expected at least 1".into());
        }
        if self.lives.is_empty() {
            return Err("lives: found none, expected at least one".into());
        }
        self.check_defects()
    }

    /// Whether what is dirty at first, and what requests are about, comes to no more together
    /// than what can be kept account of.
    fn check_sums(&self) -> Result<(), String> {
        /// Sectors: each takes some fifty bytes of the history.
        const MOST: u64 = 1 << 22;
        let within = |what: &str, counts: &mut dyn Iterator<Item = u64>| {
            // One that is about no sector takes memory too.
            let found = counts.fold(0, |sum: u64, count| sum.saturating_add(count.max(1)));
            match found <= MOST {
                true => Ok(()),
                false => Err(format!(
                    "{what}: found {found} sectors in all, expected at most {MOST}"
                )),
            }
        };
        within("image.dirty", &mut self.image.dirty.iter().map(|run| run.1))?;
        let actions = self.lives.iter().flat_map(|life| &life.actions);
        let mut counts = actions.map(|action| match *action {
            Stimulus::Read { count, .. }
            | Stimulus::Write { count, .. }
            | Stimulus::Discard { count, .. }
            | Stimulus::WriteZeroes { count, .. } => count,
            _ => 0,
        });
        within("lives.actions", &mut counts)?;
        within("lives", &mut self.lives.iter().map(|_| self.image.sectors))
    }
}

impl Case {
    /// Whether its driver can have all its defects.
    ///
    /// # Errors
    /// One that it cannot have.
    pub fn check_defects(&self) -> Result<(), String> {
        let mut defects = self.defects.iter();
        match defects.find(|defect| !self.driver.can_have(**defect)) {
            None => Ok(()),
            Some(foreign) => Err(format!(
                "defects: found {foreign}, expected defects that {} can have",
                self.driver.name()
            )),
        }
    }

    /// What only `ordered` has, with userhelper, and what excludes each other.
    fn check_ordered(&self) -> Result<(), String> {
        let is_ordered = self.driver == DriverName::Ordered && self.resize_model().is_none();
        let image = &self.image;
        let uses = |used: fn(&Life) -> bool| self.lives.iter().any(used);
        let needs_ordered = [
            ("image.partial", image.partial > 0),
            ("image.raw", image.raw),
            ("image.data_cut", image.data_cut.is_some()),
            ("lives.synchronous", uses(|life| life.synchronous)),
            (
                "lives.pending_words",
                uses(|life| life.pending_words.is_some()),
            ),
            (
                "lives.side_by_side",
                uses(|life| life.side_by_side.is_some()),
            ),
            ("lives.order", uses(|life| life.order.is_some())),
            ("lives.segments_of", uses(|life| life.segments_of.is_some())),
            ("lives.keeps_asking", uses(|life| life.keeps_asking)),
            ("lives.at_once", uses(|life| life.at_once.is_some())),
            ("lives.tool", uses(|life| life.tool.is_some())),
            ("lives.half_merged", uses(|life| life.half_merged)),
        ];
        for (what, is_used) in needs_ordered {
            if is_used && !is_ordered {
                let driver = self.driver.name();
                return Err(format!(
                    "{what}: found with {driver} or a model of a resize, expected with ordered and \
                     userhelper's"
                ));
            }
        }
        let other_backing = uses(|life| !life.backing.is_as_it_was());
        match uses(|life| life.tool.is_some()) {
            _ if image.raw && other_backing => {
                Err("lives.backing: found another one, and a raw disk has none".into())
            }
            true if image.raw => Err("lives.tool: found one, expected none for a raw disk".into()),
            true if other_backing => Err(
                "lives.tool: found one in a case whose backing file is modified or switched".into(),
            ),
            _ => Ok(()),
        }
    }
}

impl Image {
    /// Fields that the building of an image divides by, and those that exclude each other.
    fn check(&self) -> Result<(), String> {
        if self.alignment == 0 || !self.alignment.is_multiple_of(512) {
            return Err(format!(
                "image.alignment: found {}, expected a multiple of 512",
                self.alignment
            ));
        }
        let is_cut = self.bitmap_cut.is_some() || self.data_cut.is_some();
        if self.missing && (is_cut || self.patched.is_some()) {
            return Err("image: missing, and yet cut or patched".into());
        }
        if let Some(found) = self.data_cut {
            if !(1..=512).contains(&found) {
                return Err(format!(
                    "image.data_cut: found {found}, expected from 1 to 512"
                ));
            }
            // In every version the first sector has a bit.
            if !self
                .dirty
                .iter()
                .any(|&(start, count)| start == 0 && count > 0)
            {
                return Err("image.data_cut: found with sector 0 clean, expected it dirty".into());
            }
        }
        if self.partial >= 512 {
            let found = self.partial;
            return Err(format!(
                "image.partial: found {found}, expected at most 511"
            ));
        }
        let has_header = self.missing || is_cut || self.patched.is_some();
        if self.raw && (has_header || self.extension || self.ends_with_data) {
            return Err(
                "image: raw, and yet missing, cut, patched, short, or with an extension".into(),
            );
        }
        Ok(())
    }
}

/// How a kernel's driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSetup {
    /// The command line names the COW file alone, and the header the backing file.
    pub cow_alone: bool,
    /// Requests that fit into the pipe to the I/O thread.
    pub pipe_capacity: usize,
}

impl Default for KernelSetup {
    fn default() -> KernelSetup {
        KernelSetup {
            cow_alone: false,
            pipe_capacity: 64,
        }
    }
}

/// The drivers that can be fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DriverName {
    /// The correct one.
    #[serde(rename = "ordered")]
    Ordered,
    /// The model of Linux 5.11 to 6.12.
    #[serde(rename = "linux-6.12")]
    Linux612,
    /// The model of the 2.6 era.
    #[serde(rename = "linux-2.6")]
    Linux26,
}

impl DriverName {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DriverName::Ordered => "ordered",
            DriverName::Linux612 => "linux-6.12",
            DriverName::Linux26 => "linux-2.6",
        }
    }

    /// Whether the driver can have this defect: one of its own, one of a resize under it, or a
    /// double of it.
    pub fn can_have(self, defect: CaseDefect) -> bool {
        match (self, defect) {
            (DriverName::Ordered, CaseDefect::Resize(_) | CaseDefect::Double(_)) => true,
            (DriverName::Linux612 | DriverName::Linux26, CaseDefect::Kernel(_)) => true,
            (DriverName::Ordered, CaseDefect::Kernel(_)) => false,
            (
                DriverName::Linux612 | DriverName::Linux26,
                CaseDefect::Resize(_) | CaseDefect::Double(_),
            ) => false,
        }
    }
}

impl Case {
    /// The model that resizes, with its defects, or `None` for userhelper. A defect of a
    /// resize asks for the model by itself.
    pub fn resize_model(&self) -> Option<Model> {
        self.resizer.model(&self.defects)
    }
}

/// Who resizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resizer {
    /// Userhelper, with whatever strategy.
    #[default]
    Userhelper,
    /// The model of 2003's procedure, with the defects that the case names.
    #[serde(rename = "procedure-2003")]
    Procedure2003,
    /// The model of 2003's procedure in place, without journal and without syncs.
    #[serde(rename = "spillner-2003")]
    Spillner2003,
}

impl Resizer {
    /// The model that this asks for, or one of the `defects` does.
    pub fn model(self, defects: &[CaseDefect]) -> Option<Model> {
        let of_resize = defects.iter().filter_map(|defect| match defect {
            CaseDefect::Resize(defect) => Some(*defect),
            CaseDefect::Kernel(_) | CaseDefect::Double(_) => None,
        });
        let defects: Vec<_> = of_resize.collect();
        let spillner = self == Resizer::Spillner2003;
        let wanted = self != Resizer::Userhelper || !defects.is_empty();
        wanted.then_some(Model { defects, spillner })
    }
}

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVersion {
    /// Little endian.
    V1,
    /// Big endian, long path.
    V2,
    /// With alignment.
    V3,
    /// As 64-bit hosts wrote it.
    V3Wide,
}

/// The image that a case starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The size of the device.
    pub sectors: u64,
    /// The header.
    pub version: ImageVersion,
    /// For V3: the alignment in bytes.
    pub alignment: u32,
    /// Whether it has an extension block (V3 only): whether ubdlab made it.
    pub extension: bool,
    /// Sectors that are dirty, each with data, from and how many.
    pub dirty: Vec<(u64, u64)>,
    /// There is no COW file: opening creates one, and the rest of this, but for the size, is
    /// of no account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// The file ends within its bitmap, after this many bytes of it: it must be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitmap_cut: Option<u64>,
    /// The file ends this many bytes before its last dirty sector does, at least one and at most a
    /// sector: it must be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_cut: Option<u64>,
    /// The file ends where its last dirty sector does, or its bitmap where there is none: it is
    /// shorter than its data area, and opens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_with_data: bool,
    /// A field of the header has a value that it must be refused for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patched: Option<Patch>,
    /// Bytes, fewer than 512, that the device has after its whole sectors: the partial last
    /// sector, which no request reaches.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partial: u64,
    /// The file is a raw disk, opened as one (flag `d`): it has no header, no bitmap and no
    /// backing file, and the rest of this, but for the size, is of no account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl Image {
    /// A COW file in which nothing is out of the ordinary: without an extension block, and with
    /// all sectors clean.
    pub fn sound(sectors: u64, version: ImageVersion, alignment: u32) -> Image {
        Image {
            sectors,
            version,
            alignment,
            extension: false,
            dirty: Vec::new(),
            missing: false,
            bitmap_cut: None,
            data_cut: None,
            ends_with_data: false,
            patched: None,
            partial: 0,
            raw: false,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is done to the image before a life opens the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageTool {
    /// `image recover`.
    Recover,
    /// `image check --repair`.
    Repair,
    /// `image rebase` to a backing file with other contents.
    Rebase,
    /// `image rebase` to a shorter backing file with a long path.
    RebaseFar,
    /// `image merge --in-place`.
    Merge,
    /// `image convert` into a raw disk.
    ConvertToRaw,
    /// `image convert` into another COW file over the same backing file.
    ConvertToCow,
}

/// As in a story.
impl fmt::Display for ImageTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageTool::Recover => "image recover",
            ImageTool::Repair => "image check --repair",
            ImageTool::Rebase => "image rebase to another backing file",
            ImageTool::RebaseFar => "image rebase to a shorter backing file with a long path",
            ImageTool::Merge => "image merge --in-place",
            ImageTool::ConvertToRaw => "image convert to a raw disk",
            ImageTool::ConvertToCow => "image convert to a COW file",
        })
    }
}

/// A field of the header with a value that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patch {
    /// The sector size.
    SectorSize(u32),
    /// The alignment; V1 and V2 have none.
    Alignment(u32),
}

/// What has become of the backing file when a life begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingFile {
    /// Nothing.
    #[default]
    AsItWas,
    /// It was modified `seconds` later: opening must be refused from now on.
    Modified {
        /// How many seconds later.
        seconds: i64,
    },
    /// The device is opened with another file named that has the same size, time and content.
    Switched,
}

impl BackingFile {
    fn is_as_it_was(&self) -> bool {
        *self == BackingFile::AsItWas
    }
}

/// From opening the device to the end of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// What has become of the backing file.
    #[serde(default, skip_serializing_if = "BackingFile::is_as_it_was")]
    pub backing: BackingFile,
    /// What is done to the image first. If a tool was cut off by a crash, that is recovered
    /// before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ImageTool>,
    /// Before a merge, half of what it writes into the backing file is there already, and not
    /// durable: as another program has left it that was killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_merged: bool,
    /// Flag `s`: what is acknowledged is durable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synchronous: bool,
    /// The most words of the bitmap that wait for a publication; without it, the usual number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_words: Option<u64>,
    /// Host operations of the device go side by side, in an order that this number decides on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_by_side: Option<u64>,
    /// They go side by side in this order: of what could have happened each time, what did, counted
    /// from 0. When the list has come to its end, it is the first each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<u16>>,
    /// A request's data comes in segments, the first of this many sectors and each one after it a
    /// sector longer; without it, in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments_of: Option<u64>,
    /// The guest goes on asking for the sectors that a shrink is to take from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_asking: bool,
    /// A resize reads and writes this many bytes at once, and follows that in all else that it does
    /// in pieces; without it, 1 MiB. So does opening with the pages of the bitmap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u64>,
    /// What is done, in this order.
    pub actions: Vec<Stimulus>,
    /// Faults of the host; operations are counted from the opening on.
    #[serde(default)]
    pub faults: Vec<FaultRule>,
    /// More of them; operations are counted from where the first resize begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resize_faults: Vec<FaultRule>,
    /// How it ends.
    pub end: End,
}

impl Life {
    /// Takes out these actions, counted from 0. Where the life ends stays with its action.
    pub fn remove_actions(&mut self, range: std::ops::Range<usize>) {
        if let End::Kill { position, .. } | End::PowerCut { position, .. } = &mut self.end {
            // Positions count from 1, for opening is one too.
            let before = range.len().min(position.saturating_sub(1 + range.start));
            *position -= before;
        }
        self.actions.drain(range);
    }
}

/// What is applied to a device next: what a guest, the I/O thread, or a resize does. One that is
/// not possible at its moment is passed over. The files of cases call them actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stimulus {
    /// Submit a read.
    Read {
        /// First sector.
        start: u64,
        /// Sectors.
        count: u64,
    },
    /// Submit a write.
    Write {
        /// First sector.
        start: u64,
        /// Sectors.
        count: u64,
        /// Forced unit access.
        fua: bool,
    },
    /// Submit a flush.
    Flush,
    /// Submit a discard.
    Discard {
        /// First sector.
        start: u64,
        /// Sectors.
        count: u64,
    },
    /// Submit a write of zeros.
    WriteZeroes {
        /// First sector.
        start: u64,
        /// Sectors.
        count: u64,
    },
    /// One step of the I/O thread.
    Step,
    /// Steps of the I/O thread until it has nothing to do or is blocked.
    Drain,
    /// Somebody else opens the device too, and must be refused.
    OpenAgain,
    /// Begin a resize, if none is under way.
    Resize {
        /// The new size.
        sectors: u64,
        /// How.
        strategy: ResizeStrategy,
        /// The window of a reflow, in sectors.
        window: u64,
        /// The alignment of a reflow's new layout in bytes; 0 leaves it to the planner.
        alignment: u32,
        /// Bytes, fewer than 512, that the new size has after its whole sectors: unless this is 0,
        /// the size has to be refused.
        #[serde(default, skip_serializing_if = "is_zero")]
        odd: u64,
    },
    /// One step of the resize.
    StepResize,
    /// Steps of the resize until it ends or has to wait.
    FinishResize,
}

impl Stimulus {
    /// Whether it submits a request, and does nothing else.
    pub(super) fn is_request(&self) -> bool {
        !matches!(
            self,
            Stimulus::Step
                | Stimulus::Drain
                | Stimulus::OpenAgain
                | Stimulus::Resize { .. }
                | Stimulus::StepResize
                | Stimulus::FinishResize
        )
    }
}

/// As in a story: `write 8+4 FUA`, first sector and how many.
impl fmt::Display for Stimulus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stimulus::Read { start, count } => write!(f, "submit a read of {start}+{count}"),
            Stimulus::Write { start, count, fua } => {
                let fua = if *fua { " with FUA" } else { "" };
                write!(f, "submit a write of {start}+{count}{fua}")
            }
            Stimulus::Flush => f.write_str("submit a flush"),
            Stimulus::Discard { start, count } => write!(f, "submit a discard of {start}+{count}"),
            Stimulus::WriteZeroes { start, count } => {
                write!(f, "submit a write of zeros to {start}+{count}")
            }
            Stimulus::Step => f.write_str("one step of the I/O thread"),
            Stimulus::Drain => f.write_str("the I/O thread works until it has nothing to do"),
            Stimulus::OpenAgain => f.write_str("somebody else opens the device"),
            Stimulus::Resize {
                sectors, strategy, ..
            } => {
                let sectors = exact_count(*sectors, "sector");
                write!(f, "begin a resize to {sectors}, {}", strategy.words())
            }
            Stimulus::StepResize => f.write_str("one step of the resize"),
            Stimulus::FinishResize => f.write_str("the resize works until it ends or has to wait"),
        }
    }
}

/// How a case resizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeStrategy {
    /// As the planner chooses for a device in use.
    Auto,
    /// Nothing moves.
    Headroom,
    /// Into a new file.
    Rebuild,
    /// Within the file.
    Reflow,
}

impl ResizeStrategy {
    /// As a part of a sentence about a resize.
    const fn words(self) -> &'static str {
        match self {
            ResizeStrategy::Auto => "as the planner chooses",
            ResizeStrategy::Headroom => "into the headroom, where nothing moves",
            ResizeStrategy::Rebuild => "by a rebuild into a new file",
            ResizeStrategy::Reflow => "by a reflow within the file",
        }
    }
}

/// How a life ends. Positions count from 0: opening (and recovering), then the actions, then
/// closing. A change is an operation that changes the host, or syncs; it and what follows do
/// not happen any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The device is closed.
    Close,
    /// The process dies; the page cache survives.
    Kill {
        /// At which position.
        position: usize,
        /// Before which change of it, from 0.
        change: usize,
        /// That change is a write that is under way, and what lies before this page border within
        /// it is done, counted from 1. 0: it has not begun. (Where a kill has another unit than a
        /// page, by the assumption `kill_unit`, this border between such units.)
        #[serde(default, skip_serializing_if = "is_zero")]
        pages: u64,
    },
    /// The power goes.
    PowerCut {
        /// At which position.
        position: usize,
        /// Before which change of it, from 0.
        change: usize,
        /// What of the unsynced operations reached the disk.
        survivors: Survivors,
    },
}
