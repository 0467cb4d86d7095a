//! What the guest asks of a device in a life: the requests as they are submitted, the steps that
//! serve them, and their completions against what is known of the sectors.

use driver::blk::{Completion, HostFailure, Operation, Request, Segment, Status, Tag, split};
use driver::driver::Driver;
use driver::units::{Sector, SectorCount, SectorRange};

use crate::stamp::Stamp;

use super::super::device::{Step, discards, requeues};
use super::super::excuses::Work;
use super::super::history::{Change, Held, Moment, RequestOutcome};
use super::super::signature::{Act, Phase};
use super::super::violation::{Kind, Violation};
use super::changing_size::settle_size;
use super::living::Living;
use super::{Line, Stop};

/// A request in flight.
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

/// Zeros in more sectors than this are written in several pieces where the host cannot zero a
/// range.
const LONG_ZEROS: SectorCount = SectorCount(128);

/// Operations under way that are many for a device.
const MANY_UNDER_WAY: usize = 6;

impl Living<'_, '_, '_> {
    /// Submits what the guest asks for, cut to the limits of the device.
    pub(super) fn submit(&mut self, operation: Operation, range: SectorRange) -> Result<(), Stop> {
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

    pub(super) fn submit_piece(
        &mut self,
        operation: Operation,
        range: SectorRange,
        again: bool,
    ) -> Result<(), Stop> {
        if !self.is_to_be_asked(operation, range) {
            return Ok(());
        }
        let number = self.world.next_request;
        let (request, change) = self.request_for(number, operation, range);
        self.note_first_write(operation, range);
        self.note_rare_request(operation, range, request.segments.len());
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
        let submitted = self.device.submit(request);
        self.show(Phase::Request)?;
        let is_submitted = match submitted {
            Ok(()) => true,
            Err(back) if requeues(self.world.case) => {
                // It is in flight from now on: the kernel's driver hands it over again by itself.
                self.world.coverage.hit("full_queue");
                self.flying.insert(number, flown);
                self.hand_over_again(back)?;
                true
            }
            Err(_) => false,
        };
        match is_submitted {
            true => {
                self.world.next_request += 1;
                self.flying.insert(number, flown);
                if operation == Operation::Flush && self.resize.is_some() {
                    self.world.coverage.hit("flush_between_steps_of_a_move");
                }
            }
            false => {
                self.world.coverage.hit("full_queue");
                self.world.truth.history.withdrawn(range, moment);
            }
        }
        Ok(())
    }

    /// Whether the guest asks for this: it is on the device, and does not go with a shrink that has
    /// begun.
    fn is_to_be_asked(&mut self, operation: Operation, range: SectorRange) -> bool {
        if operation != Operation::Flush
            && (range.is_empty() || range.end().0 > self.device.capacity())
        {
            return false;
        }
        // A device about to shrink loses what is asked of its end: few guests do that.
        let shrunk = self.resize.as_ref().map(|resize| resize.target);
        if shrunk.is_some_and(|target| operation != Operation::Flush && range.end().0 > target) {
            if !self.keeps_asking {
                return false;
            }
            self.world.coverage.hit("request_for_what_a_shrink_takes");
        }
        true
    }

    /// A request with its data, and what it is to change.
    fn request_for(
        &self,
        number: u32,
        operation: Operation,
        range: SectorRange,
    ) -> (Request, Change) {
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
        let request = Request {
            tag: Tag(u64::from(number)),
            operation,
            start: range.start,
            segments,
        };
        (request, change)
    }

    /// Submits a request until the queue has room for it, as the kernel does by itself.
    fn hand_over_again(&mut self, request: Request) -> Result<(), Stop> {
        let (operation, mut submitted) = (request.operation, Err(request));
        while let Err(back) = submitted {
            if !self.step()? {
                let what = "the queue is full, and the device has nothing to do";
                let violation = Violation::new(Kind::WrongCompletion, "submitting a request", what);
                return Err(violation.by(Act::of(operation)).into());
            }
            submitted = self.device.submit(back);
            self.show(Phase::Request)?;
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
    pub(super) fn step(&mut self) -> Result<bool, Stop> {
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

    pub(super) fn drain(&mut self) -> Result<(), Stop> {
        while self.step()? {}
        Ok(())
    }

    pub(super) fn complete(&mut self, completion: Completion) -> Result<(), Stop> {
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
                    _ if !ok => RequestOutcome::Failed,
                    Operation::Write { fua: true } => RequestOutcome::Durable,
                    Operation::Discard => RequestOutcome::Acknowledged,
                    _ if opening.synchronous => RequestOutcome::Durable,
                    _ => RequestOutcome::Acknowledged,
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
}

/// A request in a message: what it asks for, and at which sectors.
pub(super) fn said(operation: Operation, range: SectorRange) -> String {
    match operation {
        Operation::Flush => format!("a {operation}"),
        _ => format!("a {operation} at {range}"),
    }
}
