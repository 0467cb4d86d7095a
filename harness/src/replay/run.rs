//! The replay itself: as many requests in flight as the depth allows, submitted at the pace
//! asked for. Every read is compared with the model when it completes; resizes begin where they
//! are asked for and go on beneath the requests.

use std::borrow::Cow;
use std::collections::VecDeque;

use driver::blk::{Completion, Limits, Operation, Request, Segment, Status};
use driver::host::HostFile;
use driver::units::{Bytes, Sector, SectorCount, SectorRange};

use crate::clock::Clock;
use crate::device::{BlockDevice, DeviceError, SentResize};
use crate::oracle::{Initial, Oracle, checksums};
use crate::stamp::Stamp;
use crate::trace::{Record, TraceOperation, TraceSource};

use super::counts::Counts;
use super::error::{ReplayError, is_of_host, name, not_in_flight};
use super::in_flight::{Content, Flights, InFlight};
use super::measured::Measured;
use super::observe::Sights;
use super::pace::{Pace, PaceReport, Pacer, latency_histogram};
use super::report::ResizeReport;
use super::requests::{PastEnd, Placing, pieces};

/// A resize to begin before a request.
pub struct PlannedAt<F> {
    /// Before which request of the trace, from 0.
    pub request: u64,
    /// The size wished for.
    pub new_size: Bytes,
    /// The resize itself.
    pub resize: SentResize<F>,
    /// What is seen of it.
    pub sights: Sights,
}

/// A replay under way.
pub struct Run<'a, F: HostFile, T, I> {
    target: &'a mut T,
    oracle: &'a mut Oracle<I>,
    limits: Limits,
    depth: usize,
    placing: Placing,
    pacer: Pacer,
    /// When the request was due that is about to be submitted.
    due: Option<u64>,
    clock: &'a dyn Clock,
    /// In the order of their requests.
    resizes: VecDeque<PlannedAt<F>>,
    resizing: Option<Resizing>,
    in_flight: Flights,
    /// Segments of completed requests, a buffer in each, to be used again.
    spare: Vec<Vec<Segment>>,
    /// How long requests took, and when.
    pub measured: Measured,
    /// What was counted.
    pub counts: Counts,
}

/// How a replay is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// Requests in flight at most; at least 1, and no more than the driver takes.
    pub depth: usize,
    /// How the trace is laid onto the device.
    pub placing: Placing,
    /// When requests are submitted.
    pub pace: Pace,
}

struct Resizing {
    request: u64,
    new_size: Bytes,
    old_capacity: SectorCount,
    started_ns: u64,
    sights: Sights,
}

impl<'a, F: HostFile, T: BlockDevice<File = F>, I: Initial> Run<'a, F, T, I> {
    /// Prepares a replay on `target`, whose content `oracle` models.
    pub fn new(
        target: &'a mut T,
        oracle: &'a mut Oracle<I>,
        manner: Manner,
        mut resizes: Vec<PlannedAt<F>>,
        clock: &'a dyn Clock,
    ) -> Self {
        resizes.sort_by_key(|resize| resize.request);
        let grown = resizes.iter().map(|resize| resize.new_size.whole_sectors());
        let largest = grown.fold(oracle.capacity(), SectorCount::max);
        let limits = target.limits();
        let coverage = oracle.coverage();
        Run {
            target,
            oracle,
            limits,
            depth: manner.depth.clamp(1, limits.queue_depth),
            placing: manner.placing,
            pacer: Pacer::new(manner.pace, latency_histogram()),
            due: None,
            clock,
            resizes: resizes.into(),
            resizing: None,
            in_flight: Flights::default(),
            spare: Vec::new(),
            measured: Measured::begin(clock, coverage, largest),
            counts: Counts::default(),
        }
    }

    /// Replays the whole trace and waits for everything to complete. `progress` is told the
    /// number of requests every now and then.
    ///
    /// # Errors
    /// The first one; see [`ReplayError`].
    pub fn replay(
        &mut self,
        trace: &mut dyn TraceSource,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ReplayError> {
        while let Some(record) = trace.next() {
            let record = record?;
            self.due = self.pacer.due(record.time, || self.clock.now_ns());
            self.wait_until_due()?;
            while self
                .resizes
                .front()
                .is_some_and(|resize| resize.request <= self.counts.requests)
            {
                self.begin_resize()?;
            }
            self.notice_resize(false)?;
            self.counts.requests += 1;
            if self.counts.requests > u64::from(u32::MAX) {
                return Err(ReplayError::TooLong);
            }
            self.replay_record(&record, trace.payload())?;
            if self.counts.requests.is_multiple_of(1024) {
                progress(self.counts.requests);
            }
        }
        // Asked for past the end of the trace: better late than never.
        while !self.resizes.is_empty() {
            self.begin_resize()?;
        }
        self.drain()?;
        self.notice_resize(true)
    }

    /// What keeping the pace came to, if there was one to keep.
    pub fn pace_report(&self) -> Option<PaceReport> {
        self.pacer.report()
    }

    /// Takes completions until the next request is due.
    fn wait_until_due(&mut self) -> Result<(), ReplayError> {
        let Some(due) = self.due else {
            return Ok(());
        };
        while self.clock.now_ns() < due {
            if self.in_flight.is_empty() {
                self.clock.sleep_until_ns(due);
            } else {
                let completed = self.target.complete_before(due, self.clock);
                if let Some(completion) = completed.map_err(|error| self.not_completed(error))? {
                    self.take(completion)?;
                }
            }
        }
        Ok(())
    }

    /// After an error: lets what is in flight end, so that the device can be stopped and
    /// closed. What else goes wrong does not matter any more.
    pub fn give_up(&mut self) {
        self.resizes.clear();
        while !self.in_flight.is_empty() {
            match self.target.complete() {
                Ok(completion) => self.in_flight.remove(completion.request.tag),
                Err(_) => return,
            };
        }
        let _ = self.target.resized(true);
    }

    /// `payload` is what the record writes, if the trace tells.
    fn replay_record(
        &mut self,
        record: &Record,
        payload: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        if record.preflush || record.operation == TraceOperation::Flush {
            self.counts.flushes += 1;
            self.submit(Operation::Flush, SectorRange::default(), None)?;
        }
        let operation = match record.operation {
            TraceOperation::Flush => return Ok(()),
            TraceOperation::Read => Operation::Read,
            TraceOperation::Write => {
                self.counts.fua_writes += u64::from(record.fua);
                Operation::Write { fua: record.fua }
            }
            TraceOperation::Discard => {
                self.counts.discards += 1;
                Operation::Discard
            }
            TraceOperation::WriteZeroes => Operation::WriteZeroes,
        };
        let end = (record.start + record.count) - Sector(0);
        if end > self.oracle.capacity() && self.placing.past_end == PastEnd::Refuse {
            // It may lie in what is being added just now.
            self.notice_resize(true)?;
        }
        let capacity = self.oracle.capacity();
        let pieces = pieces(record, capacity, self.placing, self.limits).map_err(|error| {
            ReplayError::PastEnd {
                request: self.counts.requests,
                operation: record.operation,
                start: record.start,
                count: record.count,
                error,
            }
        })?;
        // The pieces are the record's sectors one after the other, wherever they go.
        let mut payload = payload;
        for piece in pieces {
            let length = piece.count.bytes().0 as usize;
            let split = payload.and_then(|data| data.split_at_checked(length));
            let (data, rest) = split.unzip();
            self.submit(operation, piece, data)?;
            payload = rest;
        }
        Ok(())
    }

    fn submit(
        &mut self,
        operation: Operation,
        range: SectorRange,
        payload: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        while self.in_flight.len() >= self.depth {
            self.take_completion()?;
        }
        if let Some(due) = self.due.take() {
            self.pacer.submitted(due, self.clock.now_ns());
        }
        let (segments, content) = self.segments(operation, range, payload);
        let tag = self.in_flight.add(InFlight {
            request: self.counts.requests,
            operation,
            range,
            content,
            started_ns: self.measured.now_ns(self.clock),
            seen: Vec::new(),
        });
        let start = range.start;
        Ok(self.target.submit(Request {
            tag,
            operation,
            start,
            segments,
        })?)
    }

    /// The parts of a request, and what they write.
    fn segments(
        &mut self,
        operation: Operation,
        range: SectorRange,
        payload: Option<&[u8]>,
    ) -> (Vec<Segment>, Content) {
        match operation {
            Operation::Flush => (Vec::new(), Content::None),
            Operation::Discard => {
                let segment = Segment::without_data(range.count);
                (vec![segment], Content::Discard)
            }
            Operation::WriteZeroes => {
                let segment = Segment::without_data(range.count);
                (vec![segment], Content::Zeros)
            }
            Operation::Read => {
                let mut segments = self.spare_segments(range.count);
                // What an earlier read left there must not pass for what this one brings.
                let coverage = self.oracle.coverage();
                for segment in &mut segments {
                    coverage.poison(&mut segment.data);
                }
                (segments, Content::None)
            }
            Operation::Write { .. } => {
                let mut segments = self.spare_segments(range.count);
                let coverage = self.oracle.coverage();
                let stamp = Stamp(self.counts.requests as u32);
                let mut content = Content::Stamp(stamp);
                for segment in &mut segments {
                    match payload {
                        Some(payload) => {
                            segment.data.copy_from_slice(payload);
                            content = Content::Data(checksums(payload));
                        }
                        None => coverage.stamp(stamp, range.start, &mut segment.data),
                    }
                }
                (segments, content)
            }
        }
    }

    /// One segment with a buffer of this length, in which anything may be.
    fn spare_segments(&mut self, count: SectorCount) -> Vec<Segment> {
        // One of this length need not be filled first.
        let fits = |segments: &Vec<Segment>| segments.iter().all(|s| s.sectors == count);
        let mut segments = match self.spare.iter().rposition(fits) {
            Some(fitting) => self.spare.swap_remove(fitting),
            None => self.spare.pop().unwrap_or_default(),
        };
        segments.resize_with(1, Segment::default);
        for segment in &mut segments {
            segment.sectors = count;
            segment.data.resize(count.bytes().0 as usize, 0);
        }
        segments
    }

    fn drain(&mut self) -> Result<(), ReplayError> {
        while !self.in_flight.is_empty() {
            self.take_completion()?;
        }
        Ok(())
    }

    fn take_completion(&mut self) -> Result<(), ReplayError> {
        match self.target.complete() {
            Ok(completion) => self.take(completion),
            Err(error) => Err(self.not_completed(error)),
        }
    }

    /// Why nothing completes, with what does not.
    fn not_completed(&self, error: DeviceError) -> ReplayError {
        match (error, self.in_flight.first()) {
            (DeviceError::Idle, Some(first)) => ReplayError::NeverCompleted {
                count: self.in_flight.len(),
                request: first.request,
                what: name(first.operation),
                range: first.range,
            },
            (error, _) => error.into(),
        }
    }

    fn take(&mut self, completion: Completion) -> Result<(), ReplayError> {
        let tag = completion.request.tag;
        let flown = match self.in_flight.remove(tag) {
            Some(flown) if flown.is_of(&completion.request) => flown,
            _ => return Err(not_in_flight(&completion)),
        };
        let operation = completion.request.operation;
        self.measured
            .completed(&flown, self.resizing.is_some(), self.clock);
        self.check_status(&completion, &flown)?;
        let range = flown.range;
        match operation {
            Operation::Read => self.check_read(&completion, &flown)?,
            Operation::Write { .. } => {
                self.counts.sectors_written += range.count.0;
                if let Content::Data(_) = flown.content {
                    self.counts.sectors_with_data += range.count.0;
                }
                self.in_flight.acknowledge(tag, flown, self.oracle);
            }
            Operation::WriteZeroes | Operation::Discard => {
                self.in_flight.acknowledge(tag, flown, self.oracle);
            }
            Operation::Flush => {}
        }
        let segments = completion.request.segments;
        let has_buffer = segments.iter().any(|segment| !segment.data.is_empty());
        if has_buffer && self.spare.len() < self.depth {
            self.spare.push(segments);
        }
        Ok(())
    }

    fn check_read(&mut self, completion: &Completion, flown: &InFlight) -> Result<(), ReplayError> {
        self.counts.sectors_read += flown.range.count.0;
        let coverage = self.oracle.coverage();
        let (mut seen, in_flight) = (Vec::new(), &self.in_flight);
        let early = |sector, content: &[u8]| {
            let shown = in_flight.shows(sector, content, coverage);
            seen.extend(shown.map(|tag| (tag, sector)));
            shown.is_some()
        };
        let content = content_of(&completion.request.segments);
        let compared = self.oracle.check(flown.range, &content, early)?;
        let when = || format!("request {} reading {}", flown.request, flown.range);
        self.counts.add(compared, when);
        for (tag, sector) in seen {
            self.in_flight.saw(tag, sector, self.oracle);
        }
        Ok(())
    }

    fn check_status(
        &mut self,
        completion: &Completion,
        flown: &InFlight,
    ) -> Result<(), ReplayError> {
        let operation = completion.request.operation;
        match (completion.status, operation) {
            (Status::Ok, _) => return Ok(()),
            (Status::NotSupported, Operation::Discard) => {
                self.counts.discards_unsupported += 1;
                return Ok(());
            }
            _ => {}
        }
        let cause = completion.failure.as_ref();
        Err(ReplayError::Failed {
            request: flown.request,
            what: name(operation),
            range: flown.range,
            status: completion.status,
            is_of_host: is_of_host(cause.map(Box::as_ref)),
            cause: cause.map_or(String::new(), |failure| format!(": {failure}")),
        })
    }

    /// Begins the next resize, after the one before has ended.
    fn begin_resize(&mut self) -> Result<(), ReplayError> {
        self.notice_resize(true)?;
        let Some(planned) = self.resizes.pop_front() else {
            return Ok(());
        };
        let old_capacity = self.oracle.capacity();
        let new_capacity = planned.new_size.whole_sectors();
        if new_capacity < old_capacity {
            // From here on nothing may be asked of what goes.
            self.drain()?;
            self.oracle.resized(new_capacity);
        }
        self.resizing = Some(Resizing {
            request: self.counts.requests,
            new_size: planned.new_size,
            old_capacity,
            started_ns: self.clock.now_ns(),
            sights: planned.sights,
        });
        Ok(self.target.resize(planned.resize)?)
    }

    /// Takes note if the resize under way has ended; waits for that if told to.
    fn notice_resize(&mut self, wait: bool) -> Result<(), ReplayError> {
        let Some(resizing) = &self.resizing else {
            return Ok(());
        };
        let Some(outcome) = self.target.resized(wait)? else {
            return Ok(());
        };
        let (request, new_size) = (resizing.request, resizing.new_size);
        let resized = outcome.map_err(|error| ReplayError::Resize {
            request,
            new_size,
            error,
        })?;
        let seen = resizing.sights.take();
        self.counts.resizes.push(ResizeReport {
            at_request: request,
            strategy: resized.strategy.to_string(),
            old_bytes: resizing.old_capacity.bytes().0,
            new_bytes: resized.new_size.0,
            moved_bytes: resized.moved.0,
            elapsed_ns: self.clock.now_ns().saturating_sub(resizing.started_ns),
            requests_meanwhile: self.counts.requests - request,
            began_ns: self.measured.since_begin(resizing.started_ns),
            data_out_of_stock_reach_at_byte: seen.out_of_stock_reach.map(|at| at.0),
            sights: seen.sights,
        });
        self.resizing = None;
        self.oracle.resized(resized.new_size.whole_sectors());
        Ok(())
    }
}

/// All that a read brought, in one piece.
pub(super) fn content_of(segments: &[Segment]) -> Cow<'_, [u8]> {
    match segments {
        [] => Cow::Borrowed(&[]),
        [only] => Cow::Borrowed(&only.data),
        segments => segments.iter().flat_map(|s| &s.data).copied().collect(),
    }
}
