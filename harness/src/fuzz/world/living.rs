//! One life of a device, from when it has come up to when it is closed: the guest's requests,
//! the I/O thread's steps, the completions and the resize beneath them.

use std::collections::BTreeMap;

use driver::blk::{Completion, HostFailure, Operation, Request, Segment, Status, Tag, split};
use driver::driver::Driver;
use driver::exact_count;
use driver::host::{Access, HostNames, LockKind, OperationKind};
use driver::resize::{ResizeError, ResizeStep};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::sim::{FaultRule, Injected};
use crate::stamp::Stamp;

use super::super::case::{Action, DriverName, ResizeStrategy};
use super::super::check::read_all;
use super::super::device::{Device, Step, discards, requeues};
use super::super::excuses::Work;
use super::super::history::{Change, Held, Moment, Outcome};
use super::super::paths::COW;
use super::super::put_in;
use super::super::resizer::{ActiveResize, Asked, NotBegun, begin};
use super::super::signature::{Act, Phase};
use super::super::violation::{Kind, Violation};
use super::looking::{BeforeResize, CameUp};
use super::{Line, Observer, Point, Stop, World, is_marked};

#[derive(Clone, Copy)]
pub(super) struct Flying {
    pub(super) operation: Operation,
    pub(super) range: SectorRange,
    pub(super) moment: Moment,
    /// How many operations the host had carried out when it was submitted.
    pub(super) operations: u64,
    /// The guest has submitted it before, in vain.
    pub(super) again: bool,
    /// Under a shrink: what it writes past the new end is in the file, and it waits for nothing but
    /// that this is durable.
    pub(super) is_written: bool,
    /// A shrink has taken some of its sectors before it ended: it has to fail.
    pub(super) is_gone: bool,
}

/// A resize that ended with an error, or was given up. The device still has its old size, and a
/// flush from then on makes sure of that. If the device has the new size all the same, because what
/// went wrong came after the commit, then nobody knows which of the two a crash leaves, and the
/// driver may not acknowledge a flush any more.
#[derive(Clone, Copy)]
pub(super) struct FailedResize {
    /// Flushes submitted after this moment count.
    pub(super) moment: Moment,
    /// The size before, in sectors.
    pub(super) old_size: u64,
    /// It did not fail, but was given up.
    pub(super) given_up: bool,
    /// A fault may have kept it from giving a raw disk its old length back, which is all that says
    /// how large that is.
    pub(super) length_is_lost: bool,
}

/// Zeros in more sectors than this are written in several pieces where the host cannot zero a
/// range.
const LONG_ZEROS: SectorCount = SectorCount(128);

/// Operations under way that are many for a device.
const MANY_UNDER_WAY: usize = 6;

/// The steps that end a reflow when all is moved: the new bitmap is cleared, written and synced,
/// the header is written, and the old bitmap freed.
const LAST_STEPS: u32 = 5;

/// A life under way.
pub(super) struct Living<'w, 'a, 'o> {
    pub(super) world: &'w mut World<'a>,
    pub(super) observer: &'o mut dyn Observer,
    pub(super) device: Device,
    pub(super) resize: Option<ActiveResize>,
    pub(super) resizes_begun: u32,
    /// The latest resize is to cut off the partial last sector, and no more.
    pub(super) cuts_partial: bool,
    /// What the host had when the device had come up.
    pub(super) came_up: CameUp,
    /// The COW file before the latest resize.
    pub(super) before_resize: Option<BeforeResize>,
    pub(super) flying: BTreeMap<u32, Flying>,
    /// What failed, and is to be submitted once more.
    pub(super) failed: Vec<(Operation, SectorRange)>,
    /// The latest resize, if it failed and no flush has settled the size since.
    pub(super) failed_resize: Option<FailedResize>,
    pub(super) position: usize,
    pub(super) changes: usize,
    /// Faults that count from the first resize on.
    pub(super) resize_faults: &'o [FaultRule],
    /// How many sectors the first segment of a request has; `None` where it has only one.
    pub(super) segments_of: Option<u64>,
    /// The guest goes on asking for the sectors that a shrink is to take from it.
    pub(super) keeps_asking: bool,
    /// A resize is given up with requests under way when the device is closed.
    pub(super) gives_up_at_once: bool,
}

impl Living<'_, '_, '_> {
    /// Does something, when the order of what goes side by side says so.
    pub(super) fn go_on_with(&mut self, action: Action) -> Result<(), Stop> {
        // What takes steps itself goes on at once.
        if !matches!(action, Action::Step | Action::Drain) {
            while !self.device.goes_on(!action.is_request()) {
                self.step()?;
            }
        }
        self.act(action)
    }

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
                odd,
            } => self.begin_resize(Asked {
                sectors,
                bytes: SectorCount(sectors).bytes() + Bytes(odd),
                strategy,
                window,
                alignment,
                at_once: self.world.truth.opening.at_once,
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
        self.world.phase = phase;
        let snapshots = self.world.host.take_snapshots();
        if self.device.under_way() > 0 && !snapshots.is_empty() {
            self.world.coverage.hit("crash_with_operations_under_way");
        }
        for snapshot in snapshots {
            let point = Point {
                position: self.position,
                change: self.changes,
                phase,
            };
            self.changes += 1;
            self.world.look(self.observer, point, &snapshot)?;
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
            Err(_) => self.open_backing_to_write(),
            Ok(_) => {
                let what = "it is open, and was opened once more";
                let violation = Violation::new(Kind::NotExcluded, "opening it again", what);
                Err(violation.by(Act::Open).into())
            }
        }
    }

    /// Somebody wants to write to the backing file, as a merge of another image over it does.
    fn open_backing_to_write(&mut self) -> Result<(), Stop> {
        let world = &mut *self.world;
        if world.case.driver != DriverName::Ordered || world.case.image.raw {
            return Ok(());
        }
        let Some(path) = world.named_backing() else {
            return Ok(());
        };
        let Ok(file) = world.host.open(path.as_ref(), Access::ReadWrite) else {
            return Ok(());
        };
        world.coverage.hit("second_opener_of_the_backing_file");
        match world.host.lock(&file, LockKind::Exclusive) {
            Err(_) => Ok(()),
            Ok(()) => {
                let what = "the backing file is in use, and was locked by somebody to be written";
                let violation = Violation::new(Kind::NotExcluded, "opening it again", what);
                Err(violation.by(Act::Open).with_error(what).into())
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
        // A device about to shrink loses what is asked of its end: few guests do that.
        let shrunk = self.resize.as_ref().map(|resize| resize.target);
        if shrunk.is_some_and(|target| operation != Operation::Flush && range.end().0 > target) {
            if !self.keeps_asking {
                return Ok(());
            }
            self.world.coverage.hit("request_for_what_a_shrink_takes");
        }
        let number = self.world.next_request;
        let stamp = Stamp(number);
        let bytes = range.count.bytes().0 as usize;
        let (segments, change) = match operation {
            Operation::Flush => (Vec::new(), Change::Nothing),
            Operation::Read => {
                let poisoned = vec![0xa5; bytes];
                (self.in_segments(poisoned), Change::Nothing)
            }
            Operation::Write { .. } => {
                let mut data = vec![0; bytes];
                stamp.fill(range.start, &mut data);
                let change = Change::Write(Held::Stamp(stamp));
                (self.in_segments(data), change)
            }
            Operation::Discard => {
                let segment = Segment::without_data(range.count);
                (vec![segment], Change::Discard)
            }
            Operation::WriteZeroes => {
                let segment = Segment::without_data(range.count);
                (vec![segment], Change::Write(Held::Zeros))
            }
        };
        let segments_count = segments.len();
        let request = Request {
            tag: Tag(u64::from(number)),
            operation,
            start: range.start,
            segments,
        };
        self.note_first_write(operation, range);
        self.note_rare_request(operation, range, segments_count);
        let history = &mut self.world.truth.history;
        let moment = match operation {
            Operation::Read => history.read_submitted(),
            _ => history.submitted(range, change),
        };
        self.note_beside(operation, range);
        let flown = Flying {
            operation,
            range,
            moment,
            operations: self.world.host.operations(),
            again,
            is_written: false,
            is_gone: false,
        };
        let line = || Line::Request(format!("this is request {number}"));
        self.world.tell(line);
        self.world.phase = Phase::Request;
        let mut submitted = self.device.submit(request);
        self.show(Phase::Request)?;
        if submitted.is_err() && requeues(self.world.case) {
            // It is in flight from now on: the kernel's driver hands it over again by itself.
            self.world.coverage.hit("full_queue");
            self.flying.insert(number, flown);
            while let Err(back) = submitted {
                if !self.step()? {
                    let what = "the queue is full, and the device has nothing to do";
                    let kind = Kind::WrongCompletion;
                    let violation = Violation::new(kind, "submitting a request", what);
                    return Err(violation.by(Act::of(operation)).into());
                }
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

    /// What is submitted beside what is under way.
    fn note_beside(&mut self, operation: Operation, range: SectorRange) {
        if self.device.under_way() == 0 {
            return;
        }
        let is_fua = |operation| operation == Operation::Write { fua: true };
        let is_flush = operation == Operation::Flush;
        let any = |of: &dyn Fn(&Flying) -> bool| self.flying.values().any(of);
        let flushes = any(&|other| other.operation == Operation::Flush);
        let came_up = [
            (
                "flush_among_writes_under_way",
                is_flush && any(&|other| other.operation.is_change()),
            ),
            ("flushes_under_way_together", is_flush && flushes),
            (
                "fua_beside_a_flush",
                is_fua(operation) && flushes || is_flush && any(&|other| is_fua(other.operation)),
            ),
            (
                "overlap_under_way",
                any(&|other| {
                    (operation.is_change() || other.operation.is_change())
                        && range.overlaps(other.range)
                }),
            ),
        ];
        for (name, _) in came_up.into_iter().filter(|(_, came_up)| *came_up) {
            self.world.coverage.hit(name);
        }
    }

    /// How a request has ended that was under way beside others.
    fn note_end_beside(&mut self, number: u32, ok: bool) {
        if !self.device.is_side_by_side() {
            return;
        }
        if self.flying.range(..number).next().is_some() {
            self.world.coverage.hit("requests_completed_out_of_order");
        }
        if !ok && self.flying.len() > 1 {
            self.world.coverage.hit("fault_in_one_of_many");
        }
    }

    /// The data of a request in as many segments as the life asks for.
    fn in_segments(&self, mut data: Vec<u8>) -> Vec<Segment> {
        let Some(first) = self.segments_of else {
            return vec![Segment::with_data(data)];
        };
        // Each is longer than the one before it, so that no device has more than a request may.
        let mut sectors = first.max(1);
        let mut segments = Vec::new();
        loop {
            let len = (SectorCount(sectors).bytes().0 as usize).min(data.len());
            let rest = data.split_off(len);
            segments.push(Segment::with_data(data));
            if rest.is_empty() {
                return segments;
            }
            (data, sectors) = (rest, sectors + 1);
        }
    }

    fn note_rare_request(&mut self, operation: Operation, range: SectorRange, segments: usize) {
        if segments >= 3 {
            self.world.coverage.hit("request_of_three_segments");
        }
        let is_whole = range.start == Sector(0) && range.count.0 == self.device.capacity();
        if operation == Operation::WriteZeroes && is_whole {
            self.world.coverage.hit("zeros_over_the_whole_device");
        }
    }

    /// A write to sectors that are all clean, under a resize.
    fn note_first_write(&mut self, operation: Operation, range: SectorRange) {
        if let (Operation::Write { .. }, Some(resize), Some(device)) =
            (operation, &mut self.resize, self.device.resizable())
        {
            resize.first_written |= device.map().next_dirty(range.start, range.end()).is_none();
        }
    }

    /// Whether a publication that is under way is one that nobody has asked for.
    fn publishes_by_itself(&self) -> bool {
        let mut all = self.flying.values();
        let asked = |flying: &Flying| {
            let operation = flying.operation;
            matches!(operation, Operation::Flush | Operation::Write { fua: true })
        };
        !self.world.truth.opening.synchronous && !all.any(asked) && self.device.is_publishing()
    }

    /// One step of the device. Whether it did anything.
    fn step(&mut self) -> Result<bool, Stop> {
        let publishing = self.device.is_publishing();
        self.world.phase = match publishing {
            true => Phase::Publication,
            false => Phase::Request,
        };
        self.world.count_step(Act::Serve)?;
        self.world.begin(Work::Usual);
        let step = self.device.step();
        if self.device.under_way() >= MANY_UNDER_WAY {
            self.world.coverage.hit("six_operations_under_way");
        }
        if !publishing && self.publishes_by_itself() {
            self.world.coverage.hit("publication_begun_by_itself");
        }
        let publishing = publishing || self.device.is_publishing();
        self.show(match publishing {
            true => Phase::Publication,
            false => Phase::Request,
        })?;
        match step {
            Step::Idle => Ok(false),
            Step::Blocked => {
                self.world.coverage.hit("write_into_the_window_being_moved");
                let first = self.flying.first_key_value();
                if first.is_some_and(|(_, it)| it.operation == Operation::WriteZeroes) {
                    self.world.coverage.hit("zeros_into_the_window_being_moved");
                }
                Ok(false)
            }
            Step::Working => Ok(true),
            Step::Died(how) => {
                let violation = Violation::new(Kind::Died, "serving a request", &how);
                Err(violation.by(Act::Serve).with_error(how).into())
            }
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
        let flown = self.take_off(&request)?;
        let ok = completion.status == Status::Ok;
        self.note_end_beside(number, ok);
        self.world.tell_host();
        let status = completion.status;
        let line = || Line::Request(format!("request {number} completed: {status}"));
        self.world.tell(line);
        if ok && flown.is_gone {
            let what = format!(
                "request {number}, {}, is acknowledged, and the device ends at sector {}",
                said(flown.operation, flown.range),
                self.device.capacity()
            );
            let violation = Violation::new(Kind::WrongStatus, "on completion", what);
            let error = "acknowledged past the end";
            return Err(violation
                .by(Act::of(flown.operation))
                .with_error(error)
                .into());
        }
        if !ok {
            self.check_failure(&request, &flown, status, completion.failure.as_deref())?;
            let changes = !matches!(request.operation, Operation::Read | Operation::Flush);
            if self.world.case.retries && changes && !flown.again {
                self.failed.push((request.operation, flown.range));
            }
        }
        let history = &mut self.world.truth.history;
        match request.operation {
            Operation::Flush if ok => {
                history.flushed(flown.moment);
                if let Some(resize) = &mut self.resize {
                    resize.flushed = true;
                }
                let target = self.resize.as_ref().map(|resize| resize.target);
                let (capacity, failed) = (self.device.capacity(), &mut self.failed_resize);
                settle_size(self.world, failed, capacity, target, flown.moment)?;
            }
            Operation::Flush => {}
            Operation::Read if ok => {
                let when = format!("request {number} reading {}", flown.range);
                let parts = request.segments.iter().map(|segment| &segment.data[..]);
                history.read(flown.range, flown.moment, parts, &when)?;
            }
            Operation::Read => history.read_failed(flown.moment),
            Operation::Write { .. } | Operation::Discard | Operation::WriteZeroes => {
                let opening = self.world.truth.opening;
                let outcome = match request.operation {
                    _ if !ok => Outcome::Failed,
                    Operation::Write { fua: true } => Outcome::Durable,
                    Operation::Discard => Outcome::Acknowledged,
                    _ if opening.synchronous => Outcome::Durable,
                    _ => Outcome::Acknowledged,
                };
                history.ended(flown.range, flown.moment, outcome);
                let is_long = flown.range.count > LONG_ZEROS;
                if ok
                    && is_long
                    && request.operation == Operation::WriteZeroes
                    && self.world.case.assumptions.no_zero_range
                {
                    let name = "long_zeros_on_a_host_without_zero_range";
                    self.world.coverage.hit(name);
                }
                if ok && let Some(words) = opening.pending_words {
                    self.check_pending(words)?;
                }
            }
        }
        Ok(())
    }

    /// The request in flight that this is the completion of.
    fn take_off(&mut self, request: &Request) -> Result<Flying, Violation> {
        let number = request.tag.0;
        let flown = u32::try_from(number).ok();
        let (what, error) = match flown.and_then(|number| self.flying.remove(&number)) {
            Some(flown)
                if flown.operation == request.operation
                    && (flown.operation == Operation::Flush || flown.range == request.range()) =>
            {
                return Ok(flown);
            }
            Some(flown) => {
                let what = format!(
                    "request {number} was {}, and {} has completed",
                    said(flown.operation, flown.range),
                    said(request.operation, request.range()),
                );
                (what, "another request")
            }
            None => {
                let what = format!("request {number} completed and was not in flight");
                (what, "not in flight")
            }
        };
        let violation = Violation::new(Kind::WrongCompletion, "on completion", what);
        Err(violation.by(Act::of(request.operation)).with_error(error))
    }

    /// A request may fail if the host did.
    fn check_failure(
        &self,
        request: &Request,
        flown: &Flying,
        status: Status,
        failure: Option<&HostFailure>,
    ) -> Result<(), Violation> {
        let (host, operation) = (&self.world.host, request.operation);
        let excuses = &self.world.excuses;
        let submitted = (flown.operations, flown.range.count.bytes());
        if excuses.request(host, submitted, operation, status, failure) {
            return Ok(());
        }
        let writes = !matches!(request.operation, Operation::Read | Operation::Flush);
        if writes && request.range().end().0 > self.device.writable() {
            return Ok(());
        }
        // A shrink has taken the sectors while it waited.
        let is_gone = status == Status::IoError && failure.is_none();
        if is_gone && request.range().end().0 > self.device.capacity() {
            return Ok(());
        }
        let what = format!(
            "request {}, {}, ended with \"{status}\" and no fault explains it",
            request.tag.0,
            said(request.operation, request.range())
        );
        let error = match failure {
            Some(failure) => format!("{status}: {failure}"),
            None => status.to_string(),
        };
        let violation = Violation::new(Kind::WrongStatus, "on completion", what);
        Err(violation.by(Act::of(request.operation)).with_error(error))
    }

    fn begin_resize(&mut self, asked: Asked) -> Result<(), Stop> {
        let capacity = self.device.capacity();
        if self.resize.is_some() || asked.sectors == 0 {
            return Ok(());
        }
        self.compare_losses(asked)?;
        let Some(device) = self.device.resizable() else {
            return Ok(());
        };
        let mut asked = asked;
        let whole = SectorCount(asked.sectors).bytes();
        let is_partial = self.world.truth.history.partial() == Some(capacity);
        let keeps = asked.sectors == capacity && is_partial && asked.bytes != whole;
        if asked.sectors == capacity {
            // Only a rebuild does anything with a device that keeps its size.
            let does_nothing = match is_partial {
                true => keeps && asked.strategy != ResizeStrategy::Rebuild,
                false => asked.bytes == whole,
            };
            if does_nothing {
                return Ok(());
            }
        }
        if keeps {
            asked.bytes = whole + Bytes(self.world.case.image.partial);
        }
        if asked.sectors < capacity && !self.flying.is_empty() && !self.keeps_asking {
            // A guest lets go of what is to disappear first.
            return Ok(());
        }
        let resize = match begin(&self.world.host, device, asked, self.world.case) {
            Ok(begun) => begun,
            Err(NotBegun::NotAsPlanned(why)) => {
                let when = "beginning a resize that was planned";
                let violation = Violation::new(Kind::WrongStatus, when, &why);
                return Err(violation.by(Act::Resize).with_error(why).into());
            }
            Err(NotBegun::Refused(_)) => {
                self.world.coverage.hit("resize_refused");
                if asked.bytes != whole && !keeps {
                    self.world
                        .coverage
                        .hit("resize_to_a_part_of_a_sector_refused");
                }
                return Ok(());
            }
        };
        let all = SectorRange::new(Sector(0), device.capacity());
        let is_cut = matches!(resize.coverage, "strategy_rebuild" | "strategy_reflow")
            && (device.map().dirty_runs(all)).any(|run| run.count.bytes() > asked.at_once.bytes());
        let world = &mut *self.world;
        if asked.bytes != whole && !keeps {
            let what = format!("a resize to {} bytes was begun", asked.bytes);
            let violation = Violation::new(Kind::WrongSize, "beginning a resize", what);
            return Err(violation.by(Act::Resize).into());
        }
        world.coverage.hit(resize.coverage);
        if is_cut {
            world.coverage.hit(match resize.coverage {
                "strategy_rebuild" => "run_rebuilt_in_pieces",
                _ => "run_moved_in_pieces",
            });
        }
        world.truth.history.has_now(capacity);
        if !self.flying.is_empty() {
            world.coverage.hit("requests_queued_when_a_resize_begins");
        }
        if self.resizes_begun > 0 {
            world.coverage.hit("two_resizes_in_a_row");
        } else if world.sizes_seen.len() > 1 {
            world.coverage.hit("resize_begun_again_after_a_crash");
        }
        if self.resizes_begun == 0 {
            world.host.add_faults(self.resize_faults);
        }
        self.resizes_begun += 1;
        world.note_resize(asked.sectors);
        self.cuts_partial = asked.sectors == capacity && asked.bytes == whole;
        world.may_lose_partial |= self.cuts_partial;
        world.truth.history.extend_to(asked.sectors.max(capacity));
        if !world.truth.sizes.contains(&asked.sectors) {
            world.truth.sizes.push(asked.sectors);
        }
        let stays = resize.coverage == "strategy_headroom";
        let moves = resize.coverage == "strategy_reflow" && asked.bytes == whole;
        self.resize = Some(resize);
        self.note_before(
            asked,
            stays,
            moves && asked.strategy == ResizeStrategy::Reflow,
        );
        let world = &mut *self.world;
        let side_by_side = self.device.is_side_by_side();
        world.excuses.begin_resize(&world.host, side_by_side);
        Ok(())
    }

    /// One step of the resize. Whether there is more to do at once.
    fn step_resize(&mut self) -> Result<bool, Stop> {
        let Some(resize) = &mut self.resize else {
            return Ok(false);
        };
        let (old_size, target, given_up) = (resize.old_size, resize.target, resize.given_up);
        resize.count_last_steps();
        let last_steps = resize.last_steps;
        let is_reflow = resize.coverage == "strategy_reflow";
        self.world.phase = Phase::Resize;
        self.world.count_step(Act::Resize)?;
        let capacity = self.device.capacity();
        let tells_ends = self.device.tells_ends();
        if target < capacity && tells_ends {
            // What has ended by now has ended before the sectors go.
            while let Some(completion) = self.device.next_completed() {
                self.complete(completion)?;
            }
            self.note_written(target, is_reflow);
        }
        self.world.begin(Work::Resize);
        let step = self.device.step_resize();
        self.show(Phase::Resize)?;
        let left = self.device.capacity();
        if left < capacity && tells_ends {
            let opening = self.world.truth.opening;
            // What waits to be durable had its effect while there were the sectors.
            let waits = opening.synchronous || opening.pending_words.is_some();
            for flown in self.flying.values_mut() {
                let may_end = match flown.operation {
                    Operation::Flush => true,
                    Operation::Write { fua: true } => flown.is_written,
                    Operation::Write { fua: false } => waits && flown.is_written,
                    Operation::WriteZeroes => waits,
                    Operation::Read | Operation::Discard => false,
                };
                flown.is_gone |= !may_end && flown.range.end().0 > left;
            }
        }
        match step {
            ResizeStep::Working => {
                // One may be its own.
                if is_reflow && self.device.under_way() > 1 {
                    let name = "window_moved_with_requests_around";
                    self.world.coverage.hit(name);
                }
                Ok(true)
            }
            ResizeStep::Waiting | ResizeStep::Idle => Ok(false),
            ResizeStep::Ended(Ok(_)) => {
                self.resize = None;
                self.world.excuses.end_resize();
                self.failed_resize = None;
                self.check_size(target)?;
                self.check_resized()?;
                if is_reflow && last_steps >= LAST_STEPS {
                    let name = "reflow_ended_with_first_writes_and_flushes";
                    self.world.coverage.hit(name);
                }
                self.note_resized(old_size, target);
                self.world.truth.sizes = vec![target];
                self.world.truth.history.resized_to(target);
                self.world.settle_partial("after a resize")?;
                if self.cuts_partial && self.world.truth.history.partial().is_some() {
                    let what = "the partial last sector is still there";
                    let violation = Violation::new(Kind::WrongSize, "after a resize", what);
                    return Err(violation.by(Act::Resize).into());
                }
                // What was asked of the sectors that are gone ends before there are others.
                let gone = |flying: &Flying| flying.range.end().0 > target;
                if self.flying.values().any(gone) {
                    self.world.coverage.hit("request_outlived_its_sectors");
                    self.drain()?;
                }
                Ok(false)
            }
            ResizeStep::Ended(Err(error)) => {
                self.resize = None;
                let excused = given_up && error == ResizeError::Abandoned;
                if !excused && !self.world.excuses.resize(&self.world.host, &error) {
                    let when = "during a resize";
                    let violation = Violation::new(Kind::WrongStatus, when, &error);
                    return Err(violation.by(Act::Resize).with_error(error).into());
                }
                self.world.coverage.hit(match given_up {
                    true => "resize_given_up",
                    false => "resize_failed",
                });
                if self.device.capacity() != target {
                    self.check_size(old_size)?;
                    self.check_undone(&error, given_up)?;
                }
                let faults = self.world.excuses.of_this_resize(&self.world.host);
                let length_is_lost = length_is_lost(&faults, &error);
                self.world.excuses.end_resize();
                let capacity = self.device.capacity();
                let moment = self.world.truth.history.now();
                self.failed_resize = Some(FailedResize {
                    moment,
                    // One that was given up after its commit has the new size.
                    old_size: if given_up { capacity } else { old_size },
                    given_up,
                    length_is_lost,
                });
                Ok(false)
            }
        }
    }

    /// Before a step of a shrink to `target` sectors, which may be the one that takes the others:
    /// the writes under way that have written into those. Where other changes overlap them, or data
    /// is being moved, nobody can tell, and then they may have.
    fn note_written(&mut self, target: u64, is_reflow: bool) {
        let may_wait = |flown: &Flying| {
            let is_write = matches!(flown.operation, Operation::Write { .. });
            is_write && !flown.is_written && flown.range.end().0 > target
        };
        if !self.flying.values().any(may_wait) {
            return;
        }
        let (Some(file), Some(device)) = (self.world.host.content(COW), self.device.resizable())
        else {
            return;
        };
        let geometry = device.geometry();
        let changes = self.flying.iter();
        let changes = changes.filter(|(_, flown)| flown.operation.is_change());
        let changes: Vec<_> = changes
            .map(|(&number, flown)| (number, flown.range))
            .collect();
        for (&number, flown) in &mut self.flying {
            if !may_wait(flown) {
                continue;
            }
            let overlaps = |&(other, range): &(u32, SectorRange)| {
                other != number && range.overlaps(flown.range)
            };
            let last = Sector(flown.range.end().0 - 1);
            let mut content = [0; SECTOR_SIZE as usize];
            Stamp(number).fill(last, &mut content);
            let place = match geometry {
                Some(geometry) => geometry.place_of(last),
                None => FileOffset(0) + last.bytes(),
            };
            flown.is_written =
                is_reflow || changes.iter().any(overlaps) || file.holds(&content, place);
        }
    }

    fn note_resized(&mut self, old_size: u64, target: u64) {
        let image = &self.world.case.image;
        let is_partial = self.world.truth.history.partial() == Some(old_size);
        let names = [
            ("resize_of_a_short_file", image.ends_with_data),
            ("raw_disk_resized", image.raw),
            (
                "grown_over_a_partial_last_sector",
                is_partial && target > old_size,
            ),
            (
                "rebuilt_with_a_partial_last_sector",
                is_partial && target == old_size && !self.cuts_partial,
            ),
            (
                "partial_last_sector_cut_off",
                is_partial && target == old_size && self.cuts_partial,
            ),
        ];
        for (name, _) in names.into_iter().filter(|(_, is)| *is) {
            self.world.coverage.hit(name);
        }
    }

    fn check_size(&self, target: u64) -> Result<(), Violation> {
        let capacity = self.device.capacity();
        if capacity == target {
            return Ok(());
        }
        let what = format!(
            "found {}, expected {target}",
            exact_count(capacity, "sector")
        );
        Err(Violation::new(Kind::WrongSize, "after a resize", what).by(Act::Resize))
    }

    pub(super) fn close(mut self) -> Result<(), Stop> {
        // A resize under way is given up: that is what a process that ends does.
        self.drain_for_close()?;
        self.read_whole()?;
        let Living {
            world,
            device,
            position,
            mut changes,
            observer,
            mut failed_resize,
            came_up,
            ..
        } = self;
        let capacity = device.capacity();
        let phase = Phase::Closing;
        world.phase = phase;
        world.begin(Work::Usual);
        let closed = device.close();
        for snapshot in world.host.take_snapshots() {
            let point = Point {
                position,
                change: changes,
                phase,
            };
            changes += 1;
            world.look(observer, point, &snapshot)?;
        }
        match closed {
            Ok(()) => {
                put_in::after_closing(&world.case.defects, &world.host);
                // A clean close is as good as a flush.
                let history = &mut world.truth.history;
                let moment = history.submitted(SectorRange::default(), Change::Nothing);
                history.flushed(moment);
                settle_size(world, &mut failed_resize, capacity, None, moment)?;
                Living::check_closed(world, &came_up)?;
            }
            Err(error) if world.excuses.close(&world.host, &error) => {}
            Err(error) => {
                let what = format!("{error}, and no fault explains it");
                let violation = Violation::new(Kind::WrongStatus, "closing", what);
                return Err(violation.by(Act::Close).with_error(error).into());
            }
        }
        // What the last change of a life has done, no later change shows.
        let point = Point {
            position,
            change: changes,
            phase,
        };
        let host = world.host.clone();
        world.look(observer, point, &host)
    }

    /// Lets everything end that was submitted.
    fn drain_for_close(&mut self) -> Result<(), Stop> {
        self.device.no_more_resizes();
        if !self.gives_up_at_once {
            self.drain()?;
        }
        if let (Some(resize), Some(device)) = (&mut self.resize, self.device.resizable()) {
            self.world.coverage.hit("closed_under_a_resize");
            if !self.flying.is_empty() {
                self.world
                    .coverage
                    .hit("resize_given_up_with_requests_under_way");
            }
            // It puts things back, or leaves them for a recovery.
            resize.given_up = true;
            device.abandon_resize();
            while self.resize.is_some() && (self.step_resize()? || self.step()?) {}
        }
        self.drain()?;
        let Some((number, flown)) = self.flying.first_key_value() else {
            return Ok(());
        };
        let what = format!(
            "request {number}, {}, does not complete: the device has nothing to do",
            said(flown.operation, flown.range)
        );
        let violation = Violation::new(Kind::WrongCompletion, "before closing", what);
        Err(violation.by(Act::of(flown.operation)).into())
    }

    /// What the guest sees last, of all sectors.
    fn read_whole(&mut self) -> Result<(), Stop> {
        let when = "reading the whole device before closing";
        let moment = self.world.truth.history.read_submitted();
        self.world.begin(Work::Usual);
        let mut content = Vec::new();
        let read = read_all(&mut self.device, &mut content);
        let excused = (read.as_ref()).is_err_and(|error| self.world.excuses_read(error));
        let history = &mut self.world.truth.history;
        match read {
            Ok(()) => {
                let count = SectorCount(self.device.capacity());
                let whole = SectorRange::new(Sector(0), count);
                history.read(whole, moment, std::iter::once(&content[..]), when)?;
            }
            Err(_) if excused => history.read_failed(moment),
            Err(violation) => return Err(violation.into()),
        }
        Ok(())
    }
}

/// A request in a message: what it asks for, and at which sectors.
fn said(operation: Operation, range: SectorRange) -> String {
    match operation {
        Operation::Flush => format!("a {operation}"),
        _ => format!("a {operation} at {range}"),
    }
}

/// Whether one of these faults may have hit a length being put back. The first of them has ended
/// the resize, unless that was refused or given up.
fn length_is_lost(faults: &[Injected], error: &ResizeError) -> bool {
    let ended_it = !matches!(error, ResizeError::Abandoned | ResizeError::Refused(_));
    let mut after = faults.iter().skip(usize::from(ended_it));
    after.any(|injected| injected.call.kind == OperationKind::SetLen)
}

/// A flush submitted at `moment`, or a close, has made everything durable: also the size that a
/// failed resize has left, which is the old one. A header that is marked says that a part has
/// been moved, and that whoever opens the device next goes on with it. `target` is that of a
/// resize under way.
fn settle_size(
    world: &mut World<'_>,
    failed_resize: &mut Option<FailedResize>,
    capacity: u64,
    target: Option<u64>,
    moment: Moment,
) -> Result<(), Violation> {
    let Some(failed) = failed_resize.filter(|failed| failed.moment < moment) else {
        return Ok(());
    };
    // A resize begun since then may have committed, and not have ended.
    if capacity != failed.old_size && Some(capacity) != target {
        let what = format!(
            "found {capacity} sectors, expected {}, for the resize has failed",
            failed.old_size
        );
        let when = "after a flush that was acknowledged";
        return Err(Violation::new(Kind::WrongSize, when, what).by(Act::Flush));
    }
    *failed_resize = None;
    // The device has the new size when it is opened next.
    if world.case.image.raw && failed.length_is_lost {
        return Ok(());
    }
    if is_marked(&world.host) {
        world.coverage.hit("resize_failed_half_way_then_flushed");
        return Ok(());
    }
    world.coverage.hit(match failed.given_up {
        true => "resize_given_up_then_closed",
        false => "resize_failed_then_flushed",
    });
    world.truth.sizes = [Some(capacity), target].into_iter().flatten().collect();
    let largest = capacity.max(target.unwrap_or(0));
    world.truth.history.truncate(largest);
    Ok(())
}
