//! A client's job while it is under way: which requests it has begun with, what of it has to be
//! submitted yet, and what came of its parts.

use std::collections::BTreeMap;

use driver::blk::{Completion, Limits, Operation, Request, Segment, Status, Tag};
use driver::host::HostError;
use driver::units::{Bytes, SECTOR_SIZE, SectorCount, SectorRange};

use crate::clock::Started;

use super::budget::Permit;
use super::job::{Job, longest_transfer, pieces, request, segments};
use super::record::NotedJob;

/// The most parts of a job that comes in parts that are under way at once.
const PARTS_AT_ONCE: usize = 16;

/// The most of a job that comes in parts that is under way at once: others are served between two
/// parts, and a server that ends waits for those under way. Where zeros have to be written this
/// takes some milliseconds.
pub(super) const MOST_AT_ONCE: SectorCount = SectorCount((8 << 20) / SECTOR_SIZE);

/// The number of a part within its job takes this many bits of a tag.
pub(super) const PART_BITS: u32 = 24;

pub(super) const PART_MASK: u64 = (1 << PART_BITS) - 1;

/// A job under way.
#[derive(Debug)]
pub(super) struct Pending<C> {
    pub(super) context: C,
    pub(super) permit: Option<Permit>,
    pub(super) status: Status,
    /// What came of each part of a read, by its number.
    pub(super) read: BTreeMap<u64, Vec<Vec<u8>>>,
    /// The server is ending, or its client has gone, and a part was not begun.
    pub(super) is_given_up: bool,
    /// Parts that are under way.
    under_way: usize,
    /// It carries no data, and is submitted in parts.
    comes_in_parts: bool,
    /// The sectors of those parts, of such a job.
    sectors_under_way: SectorCount,
    /// What has to be submitted yet of such a job.
    rest: SectorRange,
    /// It is too long for all of its parts to be under way at once.
    pub(super) is_long: bool,
    parts: u64,
    operation: Operation,
    /// A flush comes after all else.
    then_flush: bool,
    /// Once it has ended well, what it has done is durable.
    is_durable: bool,
    /// A read came to the end of the file.
    met_the_end: bool,
    pub(super) asked: Option<NotedJob>,
}

/// The requests that a job begins with.
pub(super) enum Begins {
    /// The driver is asked for these.
    With(Vec<Request>),
    /// It is about no sectors, and this is what stands for it.
    WithNothing(Request),
    /// It is long, and begins when [`Pending::more`] is called.
    Later,
}

impl<C> Pending<C> {
    /// The job with this number as it begins, and the requests that it begins with. A device that
    /// is `synchronous` makes each change durable before it is answered.
    pub(super) fn begun(
        job: Job,
        (context, permit): (C, Option<Permit>),
        number: u64,
        (limits, synchronous): (Limits, bool),
        time: Option<Started>,
    ) -> (Pending<C>, Begins) {
        let range = job.range();
        let operation = job.operation();
        let is_nothing = range.is_empty() && operation != Operation::Flush;
        let then_flush = job.then_flush();
        let mut pending = Pending {
            context,
            permit,
            status: Status::Ok,
            read: BTreeMap::new(),
            is_given_up: false,
            under_way: 0,
            comes_in_parts: job.comes_in_parts(),
            sectors_under_way: SectorCount(0),
            rest: SectorRange::default(),
            is_long: job.comes_in_parts() && range.count > MOST_AT_ONCE,
            parts: 0,
            operation,
            then_flush,
            is_durable: match operation {
                Operation::Read => false,
                Operation::Flush | Operation::Write { fua: true } => true,
                Operation::Write { fua: false } | Operation::Discard | Operation::WriteZeroes => {
                    then_flush || synchronous
                }
            },
            met_the_end: false,
            asked: time.map(|time| NotedJob::at(time, operation, range).then_flush(then_flush)),
        };
        if is_nothing {
            let tag = pending.next_tag(number);
            let nothing = request(tag, operation, range.start, Vec::new());
            return (pending, Begins::WithNothing(nothing));
        }
        let requests = pending.first(job, number, limits);
        match pending.is_long {
            true => (pending, Begins::Later),
            false => (pending, Begins::With(requests)),
        }
    }

    /// The job where the device does not go on.
    pub(super) fn failed(self) -> Pending<C> {
        Pending {
            status: Status::IoError,
            ..self
        }
    }

    fn first(&mut self, job: Job, number: u64, limits: Limits) -> Vec<Request> {
        let operation = self.operation;
        match job {
            Job::Flush => vec![Request::flush(self.next_tag(number))],
            Job::Read(range) => {
                let pieces = driver::blk::split(range, longest_transfer(limits));
                let read = pieces.map(|piece| {
                    let segments = segments(vec![0; piece.count.bytes().0 as usize], limits);
                    request(self.next_tag(number), operation, piece.start, segments)
                });
                read.collect()
            }
            Job::Write {
                mut start, data, ..
            } => {
                let longest = longest_transfer(limits).bytes().0 as usize;
                let write = pieces(data, longest).into_iter().map(|piece| {
                    let at = start;
                    start += Bytes(piece.len() as u64).whole_sectors();
                    request(
                        self.next_tag(number),
                        operation,
                        at,
                        segments(piece, limits),
                    )
                });
                write.collect()
            }
            Job::Discard { range, .. }
            | Job::WriteZeroes { range, .. }
            | Job::WriteOutZeroes { range, .. } => {
                self.rest = range;
                match self.is_long {
                    true => Vec::new(),
                    false => self.more(number, limits),
                }
            }
        }
    }

    /// A part has ended.
    pub(super) fn part_ended(&mut self, completion: Completion) {
        let request = completion.request;
        self.under_way -= 1;
        if completion.status != Status::Ok && self.status == Status::Ok {
            self.status = completion.status;
        }
        let error = completion.failure.as_ref().map(|failure| &failure.error);
        self.met_the_end |= matches!(error, Some(HostError::UnexpectedEnd { .. }));
        match request.operation {
            Operation::Read => {
                let segments = request.segments.into_iter();
                let data = segments.map(|segment| segment.data).collect();
                self.read.insert(request.tag.0 & PART_MASK, data);
            }
            Operation::Discard | Operation::WriteZeroes | Operation::Write { .. }
                if self.comes_in_parts =>
            {
                self.sectors_under_way -= request.range().count;
            }
            _ => {}
        }
    }

    /// Whether what it has done is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.is_durable && self.status == Status::Ok
    }

    /// Whether the file has to be looked at before it is answered.
    pub(super) fn asks_for_the_file(&self) -> bool {
        self.is_durable() || self.met_the_end
    }

    /// Whether nothing of it is under way; nothing will be if there is no more.
    pub(super) fn is_still(&self) -> bool {
        self.under_way == 0
    }

    /// Of a job of which much is left nothing more is begun, and it has failed.
    pub(super) fn give_up_if_long(&mut self) {
        if self.rest.count > MOST_AT_ONCE && self.status == Status::Ok {
            self.status = Status::IoError;
            self.is_given_up = true;
        }
    }

    fn next_tag(&mut self, number: u64) -> Tag {
        // Only reads are told apart by the number of a part, and none has that many.
        let tag = Tag(number << PART_BITS | (self.parts & PART_MASK));
        self.parts += 1;
        self.under_way += 1;
        tag
    }

    /// The next parts of a job that comes in parts, as many as may be under way.
    pub(super) fn more(&mut self, number: u64, limits: Limits) -> Vec<Request> {
        let mut requests = Vec::new();
        let is_data = matches!(self.operation, Operation::Write { .. });
        let longest = match is_data {
            true => longest_transfer(limits),
            false => limits.max_discard,
        };
        let longest = longest.min(MOST_AT_ONCE).max(SectorCount(1));
        while !self.rest.is_empty() && self.status == Status::Ok {
            let count = self.rest.count.min(longest);
            let at_once = SectorCount(self.sectors_under_way.0 + count.0);
            if self.under_way >= PARTS_AT_ONCE || at_once > MOST_AT_ONCE {
                break;
            }
            let piece = SectorRange::new(self.rest.start, count);
            self.rest = SectorRange::between(piece.end()..self.rest.end());
            self.sectors_under_way = at_once;
            let tag = self.next_tag(number);
            let segments = match is_data {
                true => segments(vec![0; count.bytes().0 as usize], limits),
                false => vec![Segment::without_data(count)],
            };
            requests.push(request(tag, self.operation, piece.start, segments));
        }
        if self.under_way == 0 && self.then_flush && self.status == Status::Ok {
            self.then_flush = false;
            requests.push(Request::flush(self.next_tag(number)));
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use driver::units::Sector;

    use super::*;
    use crate::clock;

    /// A job as it begins, and what stands for it first.
    fn begun(job: Job, limits: Limits) -> (Pending<()>, Vec<Request>) {
        let time = Some(clock::start());
        let (pending, begins) = Pending::begun(job, ((), None), 1, (limits, false), time);
        let requests = match begins {
            Begins::With(requests) => requests,
            Begins::WithNothing(stands_for_it) => vec![stands_for_it],
            Begins::Later => Vec::new(),
        };
        (pending, requests)
    }

    #[test]
    fn what_is_to_be_durable_is_flushed_at_its_end_and_written_down_so() {
        let range = SectorRange::new(Sector(8), SectorCount(8));
        let nothing = SectorRange::new(Sector(8), SectorCount(0));
        let (start, data) = (range.start, vec![0; 4096]);
        for (job, expected) in [
            (Job::Discard { range, fua: true }, true),
            (Job::WriteZeroes { range, fua: true }, true),
            (Job::Discard { range, fua: false }, false),
            (Job::WriteZeroes { range, fua: false }, false),
            (
                Job::Discard {
                    range: nothing,
                    fua: true,
                },
                false,
            ),
            (
                Job::Write {
                    start,
                    data,
                    fua: true,
                },
                false,
            ),
        ] {
            let (mut pending, requests) = begun(job, Limits::ORDERED);
            assert_eq!(requests.len(), 1);
            let before = format!("{requests:?}");
            requests
                .into_iter()
                .for_each(|part| pending.part_ended(ended(part)));
            let last = pending.more(1, Limits::ORDERED);
            let operations: Vec<_> = last.iter().map(|request| request.operation).collect();
            let flush = expected.then_some(Operation::Flush);
            assert_eq!(operations, Vec::from_iter(flush), "{before}");
            let asked = format!("{:?}", pending.asked);
            let written_down = format!("then_flush: {expected}");
            assert!(asked.contains(&written_down), "{asked}");
        }
    }

    #[test]
    fn a_synchronous_device_makes_all_durable_that_it_is_asked_to_change() {
        let range = SectorRange::new(Sector(8), SectorCount(8));
        let write = |fua| Job::Write {
            start: range.start,
            data: vec![0; 4096],
            fua,
        };
        for synchronous in [false, true] {
            for (job, is_durable) in [
                (Job::Read(range), false),
                (Job::Flush, true),
                (write(false), synchronous),
                (write(true), true),
                (Job::Discard { range, fua: false }, synchronous),
                (Job::WriteZeroes { range, fua: false }, synchronous),
                (Job::WriteZeroes { range, fua: true }, true),
            ] {
                let words = format!("{synchronous}: {job:?}");
                let device = (Limits::ORDERED, synchronous);
                let (pending, _) = Pending::begun(job, ((), None), 1, device, None);
                assert_eq!(pending.is_durable(), is_durable, "{words}");
                assert!(!pending.failed().is_durable());
            }
        }
    }

    fn zeroes(count: SectorCount) -> Job {
        let range = SectorRange::new(Sector(3), count);
        Job::WriteZeroes { range, fua: true }
    }

    fn ended(request: Request) -> Completion {
        Completion {
            request,
            status: Status::Ok,
            failure: None,
        }
    }

    #[test]
    fn parts_of_a_long_job_follow_each_other_to_its_end() {
        for limits in [Limits::ORDERED, Limits::LINUX_6_12, Limits::LINUX_2_6] {
            let count = SectorCount(2 * MOST_AT_ONCE.0 + 1);
            let (mut pending, mut under_way) = begun(zeroes(count), limits);
            assert!(pending.is_long && under_way.is_empty());
            under_way.extend(pending.more(1, limits));
            let mut next = Sector(3);
            let mut flushed = false;
            while let Some(first) = (!under_way.is_empty()).then(|| under_way.remove(0)) {
                let sectors: u64 = under_way.iter().map(|part| part.range().count.0).sum();
                assert!(sectors + first.range().count.0 <= MOST_AT_ONCE.0);
                assert!(under_way.len() < PARTS_AT_ONCE && !flushed);
                match first.operation {
                    Operation::Flush => flushed = true,
                    _ => {
                        assert_eq!(first.start, next);
                        next += first.range().count;
                    }
                }
                pending.part_ended(ended(first));
                under_way.extend(pending.more(1, limits));
            }
            assert!(flushed && pending.is_still());
            assert_eq!(next, Sector(3) + count);
        }
    }

    #[test]
    fn a_server_that_ends_finishes_what_is_nearly_done_and_gives_up_the_rest() {
        for (pieces, goes_on) in [(2, true), (3, false)] {
            let limits = Limits::ORDERED;
            let count = SectorCount(pieces * MOST_AT_ONCE.0);
            let (mut pending, _) = begun(zeroes(count), limits);
            let first = pending.more(1, limits).remove(0);
            pending.part_ended(ended(first));
            pending.give_up_if_long();
            // Nothing is made durable of what has failed.
            assert_eq!(pending.more(1, limits).len(), usize::from(goes_on));
            assert_eq!(pending.status == Status::Ok, goes_on);
            assert_eq!(pending.is_given_up, !goes_on);
        }
    }
}
