//! The machine that a case runs in: the guest that submits, the I/O thread's steps, the
//! completions, the resize's steps, and the history that knows what has to be true.

use std::collections::BTreeMap;
use std::path::Path;

use driver::blk::{Completion, Operation, Request, Segment, Status, Tag, split};
use driver::resize::ResizeStep;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};
use userhelper::resize::recover;

use crate::sim::{Fault, FaultPlan, FileContent, Injected, LoggedOperation, SimHost};
use crate::stamp::Stamp;

use super::case::{Action, BackingFile, Case, Life};
use super::check::{self, check_opened, read_all};
use super::coverage::Coverage;
use super::device::{
    BACKING, BACKING_SECONDS, COW, Device, OTHER_BACKING, Opening, Step, discards, requeues,
};
use super::history::{Held, History, Moment};
use super::resizer::{ActiveResize, Asked, begin};
use super::violation::{Kind, Violation};

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

/// What was going on at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening, and finishing what was interrupted.
    Recovery,
    /// A request.
    Request,
    /// A flush, or what a FUA write has to make durable.
    Publication,
    /// A resize.
    Resize,
    /// Closing.
    Closing,
}

/// What has to be true of whatever is found after a crash.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Of the sectors.
    pub history: History,
    /// The sizes in sectors that the device may have once recovered.
    pub sizes: Vec<u64>,
    /// What the backing file holds.
    pub backing: FileContent,
    /// How the device is opened, and whether it may be.
    pub opening: Opening,
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
    Host(LoggedOperation),
    /// What came of a request.
    Completion(String),
}

/// How a life ended.
#[derive(Debug)]
pub enum LifeEnd {
    /// The device was closed.
    Closed,
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
}

#[derive(Clone, Copy)]
struct Flying {
    range: SectorRange,
    moment: Moment,
    /// The guest has submitted it before, in vain.
    again: bool,
}

/// A life under way.
struct Living<'w, 'a, 'o> {
    world: &'w mut World<'a>,
    observer: &'o mut dyn Observer,
    device: Device,
    resize: Option<ActiveResize>,
    resizes_begun: u32,
    flying: BTreeMap<u32, Flying>,
    /// What failed, and is to be submitted once more.
    failed: Vec<(Operation, SectorRange)>,
    position: usize,
    changes: usize,
    has_faults: bool,
}

/// Why a life does not go on.
enum Stop {
    Crashed(SimHost),
    Violated(Violation),
    /// A fault kept the device from coming up: nothing more can be done.
    Over,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Stop {
        Stop::Violated(violation)
    }
}

impl<'a> World<'a> {
    /// The machine of a case, before its first life.
    pub fn new(case: &'a Case) -> World<'a> {
        let (host, history, backing) = check::build(case);
        let sectors = case.image.sectors;
        World {
            case,
            host,
            truth: Truth {
                history,
                sizes: vec![sectors],
                backing,
                opening: Opening::default(),
            },
            coverage: Coverage::default(),
            story: None,
            next_request: 1000,
            sizes_seen: vec![sectors],
        }
    }

    /// Lives one life; a crashed one leaves its image as the host of the next.
    ///
    /// # Errors
    /// The violation that was seen first.
    pub fn live(&mut self, life: &Life, observer: &mut dyn Observer) -> Result<LifeEnd, Violation> {
        match self.try_live(life, observer) {
            Ok(()) | Err(Stop::Over) => {
                self.count_faults();
                if self.sync_has_failed() {
                    self.host.settle();
                }
                Ok(LifeEnd::Closed)
            }
            Err(Stop::Crashed(image)) => {
                self.count_faults();
                if self.sync_has_failed() {
                    image.settle();
                }
                self.host = image.clone();
                Ok(LifeEnd::Crashed(image))
            }
            Err(Stop::Violated(violation)) => Err(violation),
        }
    }

    fn try_live(&mut self, life: &Life, observer: &mut dyn Observer) -> Result<(), Stop> {
        self.host.keep_snapshots();
        self.host.take_snapshots();
        if self.story.is_some() {
            self.host.record();
            self.host.take_log();
        }
        self.tell(Line::Action(0, "open the device".into()));
        if !life.faults.is_empty() {
            self.host
                .set_faults(FaultPlan::at(life.faults.iter().cloned()));
        }
        let has_faults = !life.faults.is_empty();
        self.truth.opening = Opening::of(self.case, life, self.truth.opening);
        self.note_opening();
        if let BackingFile::Modified { seconds } = life.backing
            && self.truth.opening.must_refuse.is_some()
        {
            self.modify_backing(seconds);
        }
        let device = self.come_up(observer, has_faults);
        self.tell_host();
        let device = device?;
        let mut living = Living {
            world: self,
            observer,
            device,
            resize: None,
            resizes_begun: 0,
            flying: BTreeMap::new(),
            failed: Vec::new(),
            position: 0,
            changes: 0,
            has_faults,
        };
        for (index, &action) in life.actions.iter().enumerate() {
            living.position = index + 1;
            living.changes = 0;
            let line = Line::Action(living.position, format!("{action:?}"));
            living.world.tell(line);
            let acted = living.act(action);
            living.world.tell_host();
            acted?;
        }
        living.position = life.actions.len() + 1;
        living.changes = 0;
        let line = Line::Action(living.position, "close the device".into());
        living.world.tell(line);
        let closed = living.close();
        self.tell_host();
        closed
    }

    fn tell(&mut self, line: Line) {
        if let Some(story) = &mut self.story {
            story.push(line);
        }
    }

    fn tell_host(&mut self) {
        if let Some(story) = &mut self.story {
            story.extend(self.host.take_log().into_iter().map(Line::Host));
        }
    }

    /// Opens the device, finishes what was interrupted, and compares everything.
    fn come_up(&mut self, observer: &mut dyn Observer, has_faults: bool) -> Result<Device, Stop> {
        let when = "after opening";
        let all_durable = self.host.unsynced().operation_count() == 0;
        let opened = Device::open(&self.host, self.case, self.truth.opening);
        let mut changes = 0;
        self.show_recovery(observer, &mut changes)?;
        let faulty = has_faults && !self.host.injected().is_empty();
        if faulty && opened.as_ref().is_err_and(|error| !error.died) {
            return Err(Stop::Over);
        }
        let opened = check_opened(opened, self.truth.opening, when)?;
        let Some((mut device, interrupted)) = opened else {
            self.coverage.hit("refused_to_open");
            return Err(Stop::Over);
        };
        if let (Some(record), Some(resizable)) = (interrupted, device.resizable()) {
            self.coverage.hit("recovered_reflow");
            let recovered = recover(resizable, record);
            self.show_recovery(observer, &mut changes)?;
            match recovered {
                Ok(_) => {}
                Err(_) if has_faults && !self.host.injected().is_empty() => return Err(Stop::Over),
                Err(error) => {
                    return Err(Violation::new(Kind::DoesNotRecover, when, error).into());
                }
            }
        }
        let capacity = device.capacity();
        if !self.truth.sizes.contains(&capacity) {
            let what = format!("found {capacity} sectors, expected {:?}", self.truth.sizes);
            return Err(Violation::new(Kind::WrongSize, when, what).into());
        }
        let mut content = Vec::new();
        match read_all(&mut device, &mut content) {
            Ok(()) => {
                let history = &mut self.truth.history;
                history.check_crash(Sector(0), &content, when)?;
                history.truncate(capacity);
                history.crashed();
                // A killed process leaves in the page cache what a power cut may still take.
                history.settle(Sector(0), &content, all_durable);
            }
            Err(_) if has_faults && !self.host.injected().is_empty() => return Err(Stop::Over),
            Err(violation) => return Err(violation.into()),
        }
        self.truth.sizes = vec![capacity];
        if self.cow_is_not_durable() {
            return Err(Stop::Over);
        }
        Ok(device)
    }

    /// Whether the COW file shows what no sync will make durable any more. Opening has synced
    /// it; what is left was lost by a sync that failed in an earlier life, which was killed.
    /// The host shows it to the next process as if nothing had happened, and so no driver can
    /// promise anything of it.
    fn cow_is_not_durable(&self) -> bool {
        let unsynced = self.host.unsynced();
        unsynced
            .files
            .iter()
            .any(|file| *file.path == *Path::new(COW))
    }

    fn show_recovery(
        &mut self,
        observer: &mut dyn Observer,
        changes: &mut usize,
    ) -> Result<(), Stop> {
        for snapshot in self.host.take_snapshots() {
            let point = Point {
                position: 0,
                change: *changes,
                phase: Phase::Recovery,
            };
            *changes += 1;
            if let Some(image) = observer.look(point, &snapshot, &self.truth)? {
                return Err(Stop::Crashed(image));
            }
        }
        Ok(())
    }

    /// What a failed sync gave up stays in the page cache, and no later sync makes it durable.
    /// The driver that saw it fail has to know; one that is started later cannot. So the next
    /// life begins when the host has got everything to the disk, as after a restart of it.
    fn sync_has_failed(&self) -> bool {
        let failed = |injected: &Injected| injected.fault == Fault::FailedSync;
        self.host.injected().iter().any(failed)
    }

    fn note_opening(&mut self) {
        if self.case.image.missing {
            self.coverage.hit("created_by_opening");
        }
        if self.truth.opening.switched {
            self.coverage.hit("backing_file_switched");
        }
    }

    /// Somebody has written to the backing file between two lives.
    fn modify_backing(&mut self, seconds: i64) {
        let mut content = self.truth.backing.clone();
        let mut first = [0; SECTOR_SIZE as usize];
        Stamp(2).fill(Sector(0), &mut first);
        content.write_at(&first, FileOffset(0));
        self.truth.backing = content.clone();
        for path in [BACKING, OTHER_BACKING] {
            self.host.install(path, content.clone());
            self.host
                .set_modified_seconds(path, BACKING_SECONDS.saturating_add(seconds));
        }
    }

    fn count_faults(&mut self) {
        for injected in self.host.injected() {
            self.coverage.hit(match injected.fault {
                Fault::Io => "fault_io",
                Fault::NoSpace => "fault_no_space",
                Fault::Unsupported => "fault_unsupported",
                Fault::ShortRead(_) => "fault_short_read",
                Fault::ShortWrite(_) => "fault_short_write",
                Fault::FailedSync => "fault_failed_sync",
                Fault::LyingSync => "fault_lying_sync",
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

impl Living<'_, '_, '_> {
    fn act(&mut self, action: Action) -> Result<(), Stop> {
        for (operation, range) in std::mem::take(&mut self.failed) {
            self.world.coverage.hit("failed_request_retried");
            self.submit_piece(operation, range, true)?;
        }
        let range = |start, count| SectorRange::new(Sector(start), SectorCount(count));
        match action {
            Action::Read { start, count } => self.submit(Operation::Read, range(start, count)),
            Action::Write { start, count, fua } => {
                self.submit(Operation::Write { fua }, range(start, count))
            }
            Action::Flush => self.submit(Operation::Flush, SectorRange::default()),
            Action::Discard { start, count } => {
                self.submit(Operation::Discard, range(start, count))
            }
            Action::WriteZeroes { start, count } => {
                self.submit(Operation::WriteZeroes, range(start, count))
            }
            Action::Step => self.step().map(drop),
            Action::Drain => self.drain(),
            Action::OpenAgain => self.open_again(),
            Action::Resize {
                sectors,
                strategy,
                window,
                alignment,
            } => self.begin_resize(Asked {
                sectors,
                strategy,
                window,
                alignment,
            }),
            Action::StepResize => self.step_resize().map(drop),
            Action::FinishResize => {
                while self.step_resize()? {}
                Ok(())
            }
        }
    }

    /// Shows the crash points of what was just done, before anybody is told of it.
    fn show(&mut self, phase: Phase) -> Result<(), Stop> {
        for snapshot in self.world.host.take_snapshots() {
            let point = Point {
                position: self.position,
                change: self.changes,
                phase,
            };
            self.changes += 1;
            if let Some(image) = self.observer.look(point, &snapshot, &self.world.truth)? {
                return Err(Stop::Crashed(image));
            }
        }
        Ok(())
    }

    /// Somebody else opens the device, by the same names.
    fn open_again(&mut self) -> Result<(), Stop> {
        let world = &*self.world;
        let opened = Device::open(&world.host, world.case, world.truth.opening);
        self.show(Phase::Request)?;
        self.world.coverage.hit("second_opener");
        match opened {
            Err(_) => Ok(()),
            Ok(_) => {
                let what = "it is open, and was opened once more";
                Err(Violation::new(Kind::NotExcluded, "opening it again", what).into())
            }
        }
    }

    /// Submits what the guest asks for, cut to the limits of the device.
    fn submit(&mut self, operation: Operation, range: SectorRange) -> Result<(), Stop> {
        let limits = self.device.limits();
        let longest = match operation {
            Operation::Flush => return self.submit_piece(operation, range, false),
            Operation::Read | Operation::Write { .. } => limits.max_transfer,
            Operation::Discard | Operation::WriteZeroes if !discards(self.world.case) => {
                return Ok(());
            }
            Operation::Discard | Operation::WriteZeroes => limits.max_discard,
        };
        for piece in split(range, longest) {
            self.submit_piece(operation, piece, false)?;
        }
        Ok(())
    }

    fn submit_piece(
        &mut self,
        operation: Operation,
        range: SectorRange,
        again: bool,
    ) -> Result<(), Stop> {
        if operation != Operation::Flush
            && (range.is_empty() || range.end().0 > self.device.capacity())
        {
            return Ok(());
        }
        // A device about to shrink loses what is asked of its end: no guest does that.
        let shrunk = self.resize.as_ref().map(|resize| resize.target);
        if shrunk.is_some_and(|target| operation != Operation::Flush && range.end().0 > target) {
            return Ok(());
        }
        let number = self.world.next_request;
        let stamp = Stamp(number);
        let bytes = range.count.bytes().0 as usize;
        let (segments, writes) = match operation {
            Operation::Flush => (Vec::new(), None),
            Operation::Read => (vec![Segment::with_data(vec![0xa5; bytes])], None),
            Operation::Write { .. } => {
                let mut data = vec![0; bytes];
                stamp.fill(range.start, &mut data);
                let writes = Some((Held::Stamp(stamp), true));
                (vec![Segment::with_data(data)], writes)
            }
            Operation::Discard => {
                let writes = Some((Held::Zeros, false));
                (vec![Segment::without_data(range.count)], writes)
            }
            Operation::WriteZeroes => {
                let writes = Some((Held::Zeros, true));
                (vec![Segment::without_data(range.count)], writes)
            }
        };
        let request = Request {
            tag: Tag(u64::from(number)),
            operation,
            start: range.start,
            segments,
        };
        let moment = self.world.truth.history.submitted(range, writes);
        let flown = Flying {
            range,
            moment,
            again,
        };
        let mut submitted = self.device.submit(request);
        self.show(Phase::Request)?;
        if submitted.is_err() && requeues(self.world.case) {
            // It is in flight from now on: the kernel's driver hands it over again by itself.
            self.world.coverage.hit("full_queue");
            self.flying.insert(number, flown);
            while let Err(back) = submitted {
                self.step()?;
                submitted = self.device.submit(back);
                self.show(Phase::Request)?;
            }
        }
        match submitted {
            Ok(()) => {
                self.world.next_request += 1;
                self.flying.insert(number, flown);
                if operation == Operation::Flush && self.resize.is_some() {
                    self.world.coverage.hit("flush_between_steps_of_a_move");
                }
            }
            Err(_) => {
                self.world.coverage.hit("full_queue");
                self.world.truth.history.withdrawn(range, moment);
            }
        }
        Ok(())
    }

    /// One step of the device. Whether it did anything.
    fn step(&mut self) -> Result<bool, Stop> {
        let publishing = self.device.is_publishing();
        let step = self.device.step();
        let publishing = publishing || self.device.is_publishing();
        self.show(match publishing {
            true => Phase::Publication,
            false => Phase::Request,
        })?;
        match step {
            Step::Idle => Ok(false),
            Step::Blocked => {
                self.world.coverage.hit("write_into_the_window_being_moved");
                Ok(false)
            }
            Step::Working => Ok(true),
            Step::Died(how) => Err(Violation::new(Kind::Died, "serving a request", how).into()),
            Step::Completed(completion) => {
                self.complete(completion)?;
                Ok(true)
            }
        }
    }

    fn drain(&mut self) -> Result<(), Stop> {
        while self.step()? {}
        Ok(())
    }

    fn complete(&mut self, completion: Completion) -> Result<(), Stop> {
        let request = completion.request;
        let number = request.tag.0 as u32;
        let Some(flown) = self.flying.remove(&number) else {
            let what = format!("request {number} completed twice");
            return Err(Violation::new(Kind::WrongStatus, "on completion", what).into());
        };
        let ok = completion.status == Status::Ok;
        self.world.tell_host();
        let line = format!("request {number} completed: {}", completion.status);
        self.world.tell(Line::Completion(line));
        if !ok {
            self.check_failure(&request, completion.status)?;
            let changes = !matches!(request.operation, Operation::Read | Operation::Flush);
            if self.world.case.retries && changes && !flown.again {
                self.failed.push((request.operation, flown.range));
            }
        }
        let history = &mut self.world.truth.history;
        match request.operation {
            Operation::Flush => {
                if ok {
                    history.flushed(flown.moment);
                }
            }
            Operation::Read => {
                if ok {
                    let when = format!("request {number} reading {}", flown.range);
                    let mut first = flown.range.start;
                    for segment in &request.segments {
                        history.check_read(first, &segment.data, flown.moment, &when)?;
                        first += segment.sectors;
                    }
                }
            }
            Operation::Write { fua } => history.ended(flown.range, flown.moment, ok, ok && fua),
            Operation::Discard | Operation::WriteZeroes => {
                history.ended(flown.range, flown.moment, ok, false);
            }
        }
        Ok(())
    }

    /// A request may fail if the host did.
    fn check_failure(&self, request: &Request, status: Status) -> Result<(), Violation> {
        if self.has_faults && !self.world.host.injected().is_empty() {
            return Ok(());
        }
        let writes = !matches!(request.operation, Operation::Read | Operation::Flush);
        if writes && request.range().end().0 > self.device.writable() {
            return Ok(());
        }
        let what = format!(
            "request {}, {:?} of {}, ended with \"{status}\" and no fault was injected",
            request.tag.0,
            request.operation,
            request.range()
        );
        Err(Violation::new(Kind::WrongStatus, "on completion", what))
    }

    fn begin_resize(&mut self, asked: Asked) -> Result<(), Stop> {
        let capacity = self.device.capacity();
        let Some(device) = self.device.resizable() else {
            return Ok(());
        };
        if self.resize.is_some() || asked.sectors == 0 || asked.sectors == capacity {
            return Ok(());
        }
        if asked.sectors < capacity && !self.flying.is_empty() {
            // A guest lets go of what is to disappear first.
            return Ok(());
        }
        let resize = match begin(&self.world.host, device, asked, self.world.case) {
            Ok(begun) => begun,
            Err(_) => {
                self.world.coverage.hit("resize_refused");
                return Ok(());
            }
        };
        let world = &mut *self.world;
        world.coverage.hit(resize.coverage);
        if !self.flying.is_empty() {
            world.coverage.hit("requests_queued_when_a_resize_begins");
        }
        if self.resizes_begun > 0 {
            world.coverage.hit("two_resizes_in_a_row");
        } else if world.sizes_seen.len() > 1 {
            world.coverage.hit("resize_begun_again_after_a_crash");
        }
        self.resizes_begun += 1;
        world.note_resize(asked.sectors);
        world.truth.history.extend_to(asked.sectors.max(capacity));
        if !world.truth.sizes.contains(&asked.sectors) {
            world.truth.sizes.push(asked.sectors);
        }
        self.resize = Some(resize);
        Ok(())
    }

    /// One step of the resize. Whether there is more to do at once.
    fn step_resize(&mut self) -> Result<bool, Stop> {
        let (Some(resize), Some(device)) = (&mut self.resize, self.device.resizable()) else {
            return Ok(false);
        };
        let target = resize.target;
        let result = resize.step(device);
        self.show(Phase::Resize)?;
        match result {
            Ok(ResizeStep::Working) => Ok(true),
            Ok(ResizeStep::Waiting) => Ok(false),
            Ok(ResizeStep::Done(_)) => {
                self.resize = None;
                self.check_size(target)?;
                self.world.truth.sizes = vec![target];
                self.world.truth.history.truncate(target);
                Ok(false)
            }
            Err(error) => {
                self.resize = None;
                self.device.release();
                if self.has_faults && !self.world.host.injected().is_empty() {
                    // Which size is on the disk, opening will show.
                    self.world.coverage.hit("resize_failed_by_fault");
                    return Ok(false);
                }
                let when = "during a resize";
                Err(Violation::new(Kind::WrongStatus, when, error).into())
            }
        }
    }

    fn check_size(&self, target: u64) -> Result<(), Violation> {
        let capacity = self.device.capacity();
        if capacity == target {
            return Ok(());
        }
        let what = format!("found {capacity} sectors, expected {target}");
        Err(Violation::new(Kind::WrongSize, "after a resize", what))
    }

    fn close(mut self) -> Result<(), Stop> {
        // A resize under way is given up: that is what a process that ends does.
        self.drain_for_close()?;
        let Living {
            world,
            device,
            position,
            mut changes,
            observer,
            flying,
            ..
        } = self;
        let clean = device.close();
        for snapshot in world.host.take_snapshots() {
            let point = Point {
                position,
                change: changes,
                phase: Phase::Closing,
            };
            changes += 1;
            if let Some(image) = observer.look(point, &snapshot, &world.truth)? {
                return Err(Stop::Crashed(image));
            }
        }
        if clean && flying.is_empty() {
            // A clean close is as good as a flush.
            let moment = world.truth.history.submitted(SectorRange::default(), None);
            world.truth.history.flushed(moment);
        }
        // What the last change of a life has done, no later change shows.
        let point = Point {
            position,
            change: changes,
            phase: Phase::Closing,
        };
        let host = world.host.clone();
        match observer.look(point, &host, &world.truth)? {
            Some(image) => Err(Stop::Crashed(image)),
            None => Ok(()),
        }
    }

    fn drain_for_close(&mut self) -> Result<(), Stop> {
        self.drain()?;
        if self.resize.take().is_some() {
            self.device.release();
            self.drain()?;
        }
        Ok(())
    }
}

/// Whether the backing file still holds what it should, without a fault or a count.
pub fn backing_is_unchanged(host: &SimHost, truth: &Truth) -> bool {
    let unchanged = |path| host.content(path).as_ref() == Some(&truth.backing);
    unchanged(BACKING) && unchanged(OTHER_BACKING)
}
