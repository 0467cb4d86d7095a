//! One life of a device, from when it has come up to when it is closed: the guest's requests,
//! the I/O thread's steps, the completions and the resize beneath them.

use std::collections::BTreeMap;

use driver::blk::{Completion, HostFailure, Operation, Request, Segment, Status, Tag, split};
use driver::resize::ResizeStep;
use driver::units::{Sector, SectorCount, SectorRange};

use crate::stamp::Stamp;

use super::super::case::Action;
use super::super::device::{Device, Step, discards, requeues};
use super::super::history::{Held, Moment};
use super::super::resizer::{ActiveResize, Asked, begin};
use super::super::signature::{Act, Phase, Promise};
use super::super::violation::{Kind, Violation};
use super::{Line, Observer, Point, Stop, World};

#[derive(Clone, Copy)]
pub(super) struct Flying {
    pub(super) range: SectorRange,
    pub(super) moment: Moment,
    /// The guest has submitted it before, in vain.
    pub(super) again: bool,
}

/// A life under way.
pub(super) struct Living<'w, 'a, 'o> {
    pub(super) world: &'w mut World<'a>,
    pub(super) observer: &'o mut dyn Observer,
    pub(super) device: Device,
    pub(super) resize: Option<ActiveResize>,
    pub(super) resizes_begun: u32,
    pub(super) flying: BTreeMap<u32, Flying>,
    /// What failed, and is to be submitted once more.
    pub(super) failed: Vec<(Operation, SectorRange)>,
    pub(super) position: usize,
    pub(super) changes: usize,
    pub(super) has_faults: bool,
}

impl Living<'_, '_, '_> {
    pub(super) fn act(&mut self, action: Action) -> Result<(), Stop> {
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
        self.world.phase = phase;
        for snapshot in self.world.host.take_snapshots() {
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
            Err(_) => Ok(()),
            Ok(_) => {
                let what = "it is open, and was opened once more";
                let violation = Violation::new(Kind::NotExcluded, "opening it again", what);
                Err(violation.by(Act::Open).into())
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
        self.world.phase = match publishing {
            true => Phase::Publication,
            false => Phase::Request,
        };
        self.world.count_step(Act::Serve)?;
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
        let Some(flown) = self.flying.remove(&number) else {
            let what = format!("request {number} completed twice");
            let violation = Violation::new(Kind::WrongStatus, "on completion", what)
                .by(Act::of(request.operation))
                .breaking(Promise::WorkComesToAnEnd)
                .with_error("completed twice");
            return Err(violation.into());
        };
        let ok = completion.status == Status::Ok;
        self.world.tell_host();
        let status = completion.status;
        let line = || Line::Request(format!("request {number} completed: {status}"));
        self.world.tell(line);
        if !ok {
            self.check_failure(&request, completion.status, completion.failure.as_deref())?;
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
    fn check_failure(
        &self,
        request: &Request,
        status: Status,
        failure: Option<&HostFailure>,
    ) -> Result<(), Violation> {
        if self.world.faulty(self.has_faults) {
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
        let error = match failure {
            Some(failure) => format!("{status}: {failure}"),
            None => status.to_string(),
        };
        let violation = Violation::new(Kind::WrongStatus, "on completion", what);
        Err(violation.by(Act::of(request.operation)).with_error(error))
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
        self.world.phase = Phase::Resize;
        self.world.count_step(Act::Resize)?;
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
                if self.world.faulty(self.has_faults) {
                    // Which size is on the disk, opening will show.
                    self.world.coverage.hit("resize_failed_by_fault");
                    return Ok(false);
                }
                let violation = Violation::new(Kind::WrongStatus, "during a resize", &error);
                Err(violation.by(Act::Resize).with_error(error).into())
            }
        }
    }

    fn check_size(&self, target: u64) -> Result<(), Violation> {
        let capacity = self.device.capacity();
        if capacity == target {
            return Ok(());
        }
        let what = format!("found {capacity} sectors, expected {target}");
        Err(Violation::new(Kind::WrongSize, "after a resize", what).by(Act::Resize))
    }

    pub(super) fn close(mut self) -> Result<(), Stop> {
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
        world.phase = Phase::Closing;
        let clean = device.close();
        for snapshot in world.host.take_snapshots() {
            let point = Point {
                position,
                change: changes,
                phase: Phase::Closing,
            };
            changes += 1;
            world.look(observer, point, &snapshot)?;
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
        world.look(observer, point, &host)
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
