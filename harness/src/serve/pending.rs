//! A client's job while it is under way: which requests it has begun with, what of it has to be
//! submitted yet, and what came of its parts.

use std::collections::BTreeMap;

use driver::blk::{Limits, Operation, Request, Segment, Status, Tag};
use driver::units::{Bytes, SECTOR_SIZE, SectorCount, SectorRange};

use crate::clock::Started;

use super::budget::Permit;
use super::job::{Job, longest_transfer, pieces, request, segments};
use super::record::Asked;

/// The most parts of a job without data that are under way at once.
const PARTS_AT_ONCE: usize = 16;

/// The longest part of a job without data: a server that ends waits for those under way.
const LONGEST_PART: SectorCount = SectorCount((64 << 20) / SECTOR_SIZE);

/// A server that ends still finishes a job without data of which at most this is left. Where zeros
/// have to be written that takes some milliseconds.
const FINISHED_AT_THE_END: SectorCount = SectorCount((8 << 20) / SECTOR_SIZE);

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
    /// Parts that are under way.
    pub(super) under_way: usize,
    /// What has to be submitted yet of a job without data.
    rest: SectorRange,
    parts: u64,
    pub(super) operation: Operation,
    /// A flush comes after all else.
    then_flush: bool,
    pub(super) asked: Option<Asked>,
}

/// The requests that a job begins with.
pub(super) enum Begins {
    /// The driver is asked for these.
    With(Vec<Request>),
    /// It is about no sectors, and this is what stands for it.
    WithNothing(Request),
}

impl<C> Pending<C> {
    /// The job with this number as it begins, and the requests that it begins with.
    pub(super) fn begun(
        job: Job,
        (context, permit): (C, Option<Permit>),
        number: u64,
        limits: Limits,
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
            under_way: 0,
            rest: SectorRange::default(),
            parts: 0,
            operation,
            then_flush,
            asked: time.map(|time| Asked::at(time, operation, range).then_flush(then_flush)),
        };
        if is_nothing {
            let tag = pending.next_tag(number);
            let nothing = request(tag, operation, range.start, Vec::new());
            return (pending, Begins::WithNothing(nothing));
        }
        let requests = pending.first(job, number, limits);
        (pending, Begins::With(requests))
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
            Job::Discard { range, .. } | Job::WriteZeroes { range, .. } => {
                self.rest = range;
                self.more(number, limits)
            }
        }
    }

    /// The server is ending: a job of which much is left has failed, and none of that is begun.
    pub(super) fn give_up_if_long(&mut self) {
        if self.rest.count > FINISHED_AT_THE_END && self.status == Status::Ok {
            self.status = Status::IoError;
        }
    }

    fn next_tag(&mut self, number: u64) -> Tag {
        // Only reads are told apart by the number of a part, and none has that many.
        let tag = Tag(number << PART_BITS | (self.parts & PART_MASK));
        self.parts += 1;
        self.under_way += 1;
        tag
    }

    /// The next parts of a job without data, as many as may be under way.
    pub(super) fn more(&mut self, number: u64, limits: Limits) -> Vec<Request> {
        let mut requests = Vec::new();
        while self.under_way < PARTS_AT_ONCE && !self.rest.is_empty() && self.status == Status::Ok {
            let longest = limits.max_discard.min(LONGEST_PART).max(SectorCount(1));
            let count = self.rest.count.min(longest);
            let piece = SectorRange::new(self.rest.start, count);
            self.rest = SectorRange::between(piece.end()..self.rest.end());
            let tag = self.next_tag(number);
            let segments = vec![Segment::without_data(count)];
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
        let (pending, begins) = Pending::begun(job, ((), None), 1, limits, time);
        let requests = match begins {
            Begins::With(requests) => requests,
            Begins::WithNothing(stands_for_it) => vec![stands_for_it],
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
            pending.under_way = 0;
            let last = pending.more(1, Limits::ORDERED);
            let operations: Vec<_> = last.iter().map(|request| request.operation).collect();
            let flush = expected.then_some(Operation::Flush);
            assert_eq!(operations, Vec::from_iter(flush), "{requests:?}");
            let asked = format!("{:?}", pending.asked);
            let written_down = format!("then_flush: {expected}");
            assert!(asked.contains(&written_down), "{asked}");
        }
    }

    #[test]
    fn a_server_that_ends_finishes_a_short_job_and_gives_up_a_long_one() {
        for (limits, count, goes_on) in [
            (Limits::LINUX_2_6, FINISHED_AT_THE_END, true),
            (Limits::ORDERED, SectorCount(1 << 30), false),
        ] {
            let range = SectorRange::new(Sector(0), count);
            let (mut pending, requests) = begun(Job::WriteZeroes { range, fua: true }, limits);
            assert_eq!(requests.len(), PARTS_AT_ONCE);
            pending.under_way -= 1;
            pending.give_up_if_long();
            assert_eq!(pending.more(1, limits).len(), usize::from(goes_on));
            assert_eq!(pending.status == Status::Ok, goes_on);
            pending.under_way = 0;
            // Nothing is made durable of what has failed.
            assert_eq!(pending.more(1, limits).is_empty(), !goes_on);
        }
    }
}
