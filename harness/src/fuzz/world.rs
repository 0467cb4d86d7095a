//! The machine that a case runs in: the guest that submits, the I/O thread's steps, the
//! completions, the resize's steps, and the history that knows what has to be true.

mod changing_size;
mod living;
mod looking;
mod reliving;
mod serving;
mod tooling;

use std::collections::BTreeMap;

use driver::host::OperationKind;
use driver::units::{SECTOR_SIZE, SectorCount};
use driver::{any_of, exact_count};

use crate::plain_format::CowFile;
use crate::sim::{Decisions, Fault, FaultPlan, Injected, LoggedCall, SideBySide, SimHost};

use super::beside::Beside;
use super::budget::Budget;
use super::build::{Built, build, modify};
use super::case::{BackingFile, Case, Life};
use super::check::{check_opened, finish, read_all, unfinished};
use super::coverage::Coverage;
use super::device::{Device, Opening};
use super::disk_contents::DiskContents;
use super::excuses::{Excuses, Work};
use super::guard::guarded;
use super::paths::{BACKING_SECONDS, COW};
use super::put_in;
use super::resizer::Unfinished;
use super::signature::{Act, Phase};
use super::violation::{Kind, Violation};

use living::Living;
use looking::CameUp;

pub use reliving::{Mending, NotRelived};

pub use super::truth::Truth;
pub(super) use super::truth::is_marked;

/// Sectors whose bits fill a page of the bitmap.
const SECTORS_A_PAGE: u64 = 32_768;

/// Where in a life something happens: the position (opening, the actions, closing) and the
/// change of the host within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// 0 is opening, then the actions, then closing.
    pub position: usize,
    /// Before which change, from 0.
    pub change: usize,
    /// What was going on.
    pub phase: Phase,
}

/// Somebody who looks at every crash point of a life.
pub trait Observer {
    /// The host as it is before a change. To crash here, the image to go on with.
    ///
    /// # Errors
    /// What is wrong with an image.
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation>;
}

/// A line of a case's story.
#[derive(Clone, Debug)]
pub enum Line {
    /// What the guest, the I/O thread or the resize did, at which position.
    Action(usize, String),
    /// What the host was asked for by that.
    Host(LoggedCall),
    /// Likewise in a recorded life, where nothing was done of it. It is no crash point.
    InVain(LoggedCall),
    /// What a request is called, and what came of it.
    Request(String),
}

/// How a life ended.
#[derive(Debug)]
pub enum LifeEnd {
    /// The device was closed.
    Closed,
    /// It did not come up: it was refused, or a fault kept it from that.
    NotOpened,
    /// It crashed, and this is what is left.
    Crashed(SimHost),
}

/// The machine.
pub struct World<'a> {
    case: &'a Case,
    /// The simulated host.
    pub host: SimHost,
    /// What has to be true.
    pub truth: Truth,
    /// What came up.
    pub coverage: Coverage,
    /// What happened, line by line, where somebody wants to know.
    pub story: Option<Vec<Line>>,
    /// The requests of all lives have different numbers.
    next_request: u32,
    sizes_seen: Vec<u64>,
    /// A resize that is to cut off the partial last sector alone was begun, and nothing has said
    /// since whether it has.
    may_lose_partial: bool,
    /// What is going on, or was when the life before ended.
    phase: Phase,
    /// Whether a life has ended with a crash: before one, nothing may be lost by it.
    has_crashed: bool,
    /// Steps of the driver and of resizes in this life.
    steps: u64,
    /// What may fail in this life.
    excuses: Excuses,
    /// Who decides on the order of what goes side by side, if not the life.
    decisions: Option<Decisions>,
    /// A buffer for the whole disk, which every life reads.
    content: Vec<u8>,
}

/// Why a life does not go on.
enum Stop {
    Crashed(SimHost, Phase),
    /// Something is wrong with the life itself.
    Violated(Violation),
    /// Something is wrong with one of its crash images.
    BadImage(Violation),
    /// The device did not come up: nothing more can be done.
    NotOpened,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Stop {
        Stop::Violated(violation)
    }
}

impl<'a> World<'a> {
    /// The machine of a case, before its first life.
    pub fn new(case: &'a Case) -> World<'a> {
        let Built {
            host,
            history,
            backing,
        } = build(case);
        let sectors = case.image.sectors;
        let budget = Budget::of(&case.image);
        World {
            case,
            host,
            truth: Truth {
                history,
                sizes: vec![sectors],
                backing,
                tool: None,
                done: None,
                opening: Opening::default(),
                budget,
            },
            coverage: Coverage::default(),
            story: None,
            next_request: 1000,
            sizes_seen: vec![sectors],
            may_lose_partial: false,
            phase: Phase::Recovery,
            has_crashed: false,
            steps: 0,
            excuses: Excuses::of(case, None),
            decisions: None,
            content: Vec::new(),
        }
    }

    /// The machine as it is between two lives, to live the next one twice.
    pub fn between_lives(&self) -> World<'a> {
        World {
            case: self.case,
            host: self.host.after_kill(),
            truth: self.truth.clone(),
            coverage: Coverage::default(),
            story: None,
            next_request: self.next_request,
            sizes_seen: self.sizes_seen.clone(),
            may_lose_partial: self.may_lose_partial,
            phase: self.phase,
            has_crashed: self.has_crashed,
            steps: self.steps,
            excuses: self.excuses.clone(),
            decisions: None,
            content: Vec::new(),
        }
    }

    /// From now on all goes side by side, in the order that these decide on.
    pub(super) fn decide_by(&mut self, decisions: Decisions) {
        self.decisions = Some(decisions);
    }

    /// What carries out the operations of a life side by side, if they go so.
    fn side_by_side(&self, life: &Life) -> Option<SideBySide> {
        if let Some(decisions) = &self.decisions {
            return Some(SideBySide::decided(decisions.clone()));
        }
        if let Some(order) = &life.order {
            return Some(SideBySide::decided(Decisions::given(order)));
        }
        match life.side_by_side {
            Some(seed) => Some(SideBySide::new(seed, 2 + (seed % 7) as usize)),
            // One at a time, for a double that comes between.
            None => put_in::of_executor(&self.case.defects).map(|_| SideBySide::new(0, 1)),
        }
    }

    /// The case that it runs.
    pub fn case(&self) -> &'a Case {
        self.case
    }

    /// What was going on when the last life ended.
    pub fn ended_in(&self) -> Phase {
        self.phase
    }

    /// Lives one life; a crashed one leaves its image as the host of the next.
    ///
    /// # Errors
    /// The violation that was seen first.
    pub fn live(&mut self, life: &Life, observer: &mut dyn Observer) -> Result<LifeEnd, Violation> {
        self.steps = 0;
        self.excuses = Excuses::of(self.case, Some(life));
        self.truth.budget.add(life);
        self.host.set_allowance(self.truth.budget.allowance());
        let lived = guarded("while running", || self.try_live(life, observer));
        let (end, phase) = match lived {
            Ok(()) => (LifeEnd::Closed, Phase::Closing),
            Err(Stop::NotOpened) => (LifeEnd::NotOpened, Phase::Recovery),
            Err(Stop::Crashed(image, phase)) => (LifeEnd::Crashed(image), phase),
            Err(Stop::Violated(violation)) => return Err(violation.in_phase(self.phase)),
            Err(Stop::BadImage(violation)) => return Err(violation),
        };
        self.phase = phase;
        self.count_faults();
        let has_failed = self.sync_has_failed();
        if let LifeEnd::Crashed(image) = &end {
            self.has_crashed = true;
            self.host = image.clone();
        }
        if has_failed && self.host.assumptions().restart_after_failed_sync {
            self.host.settle();
        }
        Ok(end)
    }

    fn try_live(&mut self, life: &Life, observer: &mut dyn Observer) -> Result<(), Stop> {
        self.host.keep_snapshots();
        self.host.take_snapshots();
        if self.story.is_some() {
            self.host.record();
            self.host.take_log();
        }
        self.tell(|| Line::Action(0, "open the device".into()));
        put_in::put_on_host(&self.case.defects, &self.host);
        if !life.faults.is_empty() {
            self.host
                .set_faults(FaultPlan::at(life.faults.iter().cloned()));
        }
        self.truth.opening = Opening::of(self.case, life, self.truth.opening);
        self.note_opening();
        if let BackingFile::Modified { seconds } = life.backing
            && self.truth.opening.must_refuse.is_some()
        {
            self.modify_backing(seconds);
        }
        let mut changes = 0;
        let used = self.use_tools(life, observer, &mut changes);
        self.tell_host();
        used?;
        let device = self.come_up(observer, &mut changes);
        self.tell_host();
        let device = device?;
        let device = match self.side_by_side(life) {
            Some(under_way) => {
                self.coverage.hit("operations_side_by_side");
                let meddler = put_in::of_executor(&self.case.defects);
                device.go_side_by_side(Beside::new(under_way, meddler))
            }
            None => device,
        };
        self.phase = Phase::Request;
        let came_up = CameUp::of(&self.host);
        let mut living = Living {
            world: self,
            observer,
            device,
            resize: None,
            resizes_begun: 0,
            cuts_partial: false,
            came_up,
            before_resize: None,
            flying: BTreeMap::new(),
            failed: Vec::new(),
            failed_resize: None,
            position: 0,
            changes: 0,
            resize_faults: &life.resize_faults,
            segments_of: life.segments_of,
            keeps_asking: life.keeps_asking,
            gives_up_at_once: life.side_by_side.is_some_and(|seed| seed % 2 == 0),
        };
        for (index, &action) in life.actions.iter().enumerate() {
            living.position = index + 1;
            living.changes = 0;
            let position = living.position;
            living
                .world
                .tell(|| Line::Action(position, action.to_string()));
            let acted = living.go_on_with(action);
            living.world.tell_host();
            acted?;
        }
        living.position = life.actions.len() + 1;
        living.changes = 0;
        let position = living.position;
        let line = || Line::Action(position, "close the device".into());
        living.world.tell(line);
        let closed = living.close();
        self.tell_host();
        closed
    }

    fn tell(&mut self, line: impl FnOnce() -> Line) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    fn tell_host(&mut self) {
        if let Some(story) = &mut self.story {
            story.extend(self.host.take_log().into_iter().map(Line::Host));
        }
    }

    /// Opens the device, finishes what was interrupted, and compares everything.
    fn come_up(
        &mut self,
        observer: &mut dyn Observer,
        changes: &mut usize,
    ) -> Result<Device, Stop> {
        let when = "after opening";
        let all_durable = self.host.unsynced().operation_count() == 0;
        self.excuses.begin(&self.host, Work::Usual);
        let opened = Device::open(&self.host, self.case, self.truth.opening);
        if let Err(error) = &opened
            && !error.died
            && self.excuses.has_said(&self.host, &error.why)
        {
            put_in::after_failed_opening(&self.case.defects, &self.host);
            self.coverage.hit("opening_failed_by_fault");
            return Err(self.give_up(observer, Phase::Recovery, changes));
        }
        self.show(observer, Phase::Recovery, changes)?;
        let opened = check_opened(opened, self.truth.opening, when)?;
        let Some((mut device, interrupted)) = opened else {
            self.coverage.hit("refused_to_open");
            return Err(Stop::NotOpened);
        };
        if interrupted.is_some() {
            self.coverage.hit("recovered_reflow");
            self.excuses.begin(&self.host, Work::Resize);
            let finished = finish(&mut device, interrupted, &self.truth);
            match finished {
                Ok(()) => {}
                Err(Unfinished::Failed(error)) if self.excuses.resize(&self.host, &error) => {
                    if let Some(device) = device.resizable() {
                        put_in::after_failed_recovery(&self.case.defects, device);
                    }
                    drop(device);
                    self.coverage.hit("recovery_failed_by_fault");
                    return Err(self.give_up(observer, Phase::Recovery, changes));
                }
                Err(error) => return Err(unfinished(error, when).into()),
            }
            self.show(observer, Phase::Recovery, changes)?;
        }
        let capacity = device.capacity();
        if !self.truth.sizes.contains(&capacity) {
            let what = format!(
                "found {}, expected {}",
                exact_count(capacity, "sector"),
                any_of(&self.truth.sizes)
            );
            return Err(Violation::new(Kind::WrongSize, when, what).into());
        }
        let mut content = std::mem::take(&mut self.content);
        self.excuses.begin(&self.host, Work::Usual);
        match read_all(&mut device, &mut content) {
            Ok(()) => self.begin_with(capacity, content, all_durable, when)?,
            Err(violation) if self.excuses_read(&violation) => {
                drop(device);
                return Err(self.give_up(observer, Phase::Recovery, changes));
            }
            Err(violation) => return Err(violation.into()),
        }
        self.truth.sizes = vec![capacity];
        self.truth.done = None;
        self.settle_partial(when)?;
        Ok(device)
    }

    /// The device comes up with this content, which has to be one that the lives before may have
    /// left: from now on it is what the device shows.
    fn begin_with(
        &mut self,
        capacity: u64,
        content: Vec<u8>,
        all_durable: bool,
        when: &str,
    ) -> Result<(), Violation> {
        let history = &mut self.truth.history;
        let mut found = Vec::new();
        let seen = DiskContents::of(&content, &mut found);
        let checked = history.check_crash(SectorCount(capacity), seen, when);
        checked.map_err(|wrong| wrong.promised(self.has_crashed))?;
        history.resized_to(capacity);
        history.crashed();
        // A killed process leaves in the page cache what a power cut may still take.
        history.settle(&content, all_durable);
        self.content = content;
        Ok(())
    }

    /// The device does not come up, for the host has failed. What is left of it is looked at: it
    /// is opened on a host that does not fail, and nothing is gone.
    fn give_up(&mut self, observer: &mut dyn Observer, phase: Phase, changes: &mut usize) -> Stop {
        let point = |change| Point {
            position: 0,
            change,
            phase,
        };
        let shown = self.show(observer, phase, changes).and_then(|()| {
            let host = self.host.clone();
            self.look(observer, point(*changes), &host)
        });
        shown.err().unwrap_or(Stop::NotOpened)
    }

    /// Whether a fault explains that the whole device could not be read.
    fn excuses_read(&self, violation: &Violation) -> bool {
        violation.kind == Kind::WrongStatus && self.excuses.has_said(&self.host, &violation.what)
    }

    /// Shows the crash points before the device has come up.
    fn show(
        &mut self,
        observer: &mut dyn Observer,
        phase: Phase,
        changes: &mut usize,
    ) -> Result<(), Stop> {
        for snapshot in self.host.take_snapshots() {
            let point = Point {
                position: 0,
                change: *changes,
                phase,
            };
            *changes += 1;
            self.look(observer, point, &snapshot)?;
        }
        Ok(())
    }

    /// Lets the observer look at a crash point.
    fn look(
        &self,
        observer: &mut dyn Observer,
        point: Point,
        snapshot: &SimHost,
    ) -> Result<(), Stop> {
        match observer.look(point, snapshot, &self.truth) {
            Ok(None) => Ok(()),
            Ok(Some(image)) => Err(Stop::Crashed(image, point.phase)),
            Err(violation) => Err(Stop::BadImage(violation)),
        }
    }

    /// Another piece of work begins: faults from here on are its own.
    fn begin(&mut self, work: Work) {
        self.excuses.begin(&self.host, work);
    }

    /// One more step of the driver or of a resize, which `act` is about.
    fn count_step(&mut self, act: Act) -> Result<(), Violation> {
        self.steps += 1;
        let allowed = self.truth.budget.steps();
        if self.steps <= allowed {
            return Ok(());
        }
        let what = format!("found {} steps, expected at most {allowed}", self.steps);
        Err(Violation::new(Kind::DoesNotEnd, "while running", what).by(act))
    }

    /// What a failed sync gave up stays in the page cache, and no later sync makes it durable.
    /// The driver that saw it fail has to know; one that is started later cannot. So the next
    /// life begins when the host has got everything to the disk, as after a restart of it, unless
    /// that is not assumed.
    fn sync_has_failed(&self) -> bool {
        let failed = |injected: &Injected| {
            let fault = injected.fault;
            matches!(fault, Fault::FailedSync | Fault::FailedSyncForSpace)
        };
        self.host.injected().iter().any(failed)
    }

    /// Looks whether the device still has its partial last sector, which no request reaches.
    fn settle_partial(&mut self, when: &str) -> Result<(), Violation> {
        let Some(cow) = self.host.content(COW) else {
            return Ok(());
        };
        let size = match self.case.image.raw {
            true => Some(cow.length().0),
            false => CowFile::open(&cow).ok().map(|cow| cow.header.size),
        };
        let is_gone = size.is_some_and(|size| size.is_multiple_of(SECTOR_SIZE));
        let may_be = std::mem::take(&mut self.may_lose_partial);
        if !is_gone {
            self.truth.history.restore_partial();
        }
        if self.truth.history.partial().is_none() || !is_gone {
            return Ok(());
        }
        if !may_be {
            let what = "the partial last sector is gone, and no resize was to cut it off";
            return Err(Violation::new(Kind::WrongSize, when, what));
        }
        self.truth.history.drop_partial();
        Ok(())
    }

    fn note_opening(&mut self) {
        if self.case.image.missing {
            self.coverage.hit("created_by_opening");
        }
        if self.case.image.ends_with_data {
            self.coverage.hit("file_shorter_than_its_data_area");
        }
        if self.truth.opening.switched {
            self.coverage.hit("backing_file_switched");
        }
        let image = &self.case.image;
        let came_up = [
            ("raw_disk", image.raw),
            ("file_cut_within_its_data", image.data_cut.is_some()),
            ("partial_last_sector", image.partial > 0),
            (
                "bitmap_of_three_pages",
                image.sectors > 2 * SECTORS_A_PAGE && !image.raw,
            ),
            ("synchronous_device", self.truth.opening.synchronous),
        ];
        for (name, _) in came_up.into_iter().filter(|(_, came_up)| *came_up) {
            self.coverage.hit(name);
        }
    }

    /// Somebody has written to the backing file between two lives.
    pub(crate) fn modify_backing(&mut self, seconds: i64) {
        for (&path, content) in &mut self.truth.backing {
            modify(content);
            self.host.install(path, content.clone());
            self.host
                .set_modified_seconds(path, BACKING_SECONDS.saturating_add(seconds));
        }
    }

    fn count_faults(&mut self) {
        for injected in self.host.injected() {
            if injected.fault == Fault::IoAfter && injected.call.kind == OperationKind::Write {
                self.coverage.hit("fault_after_the_effect_of_a_write");
            }
            self.coverage.hit(match injected.fault {
                Fault::Io => "fault_io",
                Fault::NoSpace => "fault_no_space",
                Fault::Unsupported => "fault_unsupported",
                Fault::ShortRead(_) => "fault_short_read",
                Fault::ShortWrite(_) => "fault_short_write",
                Fault::FailedSync => "fault_failed_sync",
                Fault::FailedSyncForSpace => "fault_failed_sync_for_space",
                Fault::LyingSync => "fault_lying_sync",
                Fault::InPart(_) => "fault_in_part",
                Fault::IoAfter => "fault_after_its_effect",
            });
        }
    }

    fn note_resize(&mut self, target: u64) {
        let last = self.sizes_seen.last().copied().unwrap_or(target);
        self.coverage.hit(match target < last {
            true => "resize_shrink",
            false => "resize_grow",
        });
        if let [.., first, second] = self.sizes_seen[..]
            && first > second
            && target > second
        {
            self.coverage.hit("grow_then_shrink_then_grow");
        }
        self.sizes_seen.push(target);
    }
}
