//! A client's job while it is under way: which requests it has begun with, what of it has to be
//! submitted yet, and what came of its parts.

use std::collections::BTreeMap;

use driver::blk::{Limits, Operation, Request, Segment, Status, Tag};
use driver::units::{Bytes, SectorCount, SectorRange};

use crate::clock::Started;

use super::budget::Permit;
use super::job::{Job, longest_transfer, pieces, request, segments};
use super::record::Asked;

/// The most parts of a job without data that are under way at once.
const PARTS_AT_ONCE: usize = 16;

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
        let mut pending = Pending {
            context,
            permit,
            status: Status::Ok,
            read: BTreeMap::new(),
            under_way: 0,
            rest: SectorRange::default(),
            parts: 0,
            operation,
            then_flush: !is_nothing
                && matches!(
                    job,
                    Job::WriteZeroes { fua: true, .. } | Job::Discard { fua: true, .. }
                ),
            asked: time.map(|time| {
                let then_flush = !is_nothing && matches!(job, Job::WriteZeroes { fua: true, .. });
                Asked::at(time, operation, range).then_flush(then_flush)
            }),
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
            let count = self.rest.count.min(limits.max_discard).max(SectorCount(1));
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
