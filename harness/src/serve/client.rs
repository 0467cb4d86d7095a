//! One client's way to the device: jobs of any length in, cut to what the driver takes; and out
//! again whole, in whatever order they end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver::blk::{Limits, Operation, Request, Segment, Status, Tag};
use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount, SectorRange};
use userhelper::real_files::RealFile;

use crate::clock::Started;
use crate::device::{Completions, DeviceError, Submissions};

use super::budget::Permit;
use super::export::Export;
use super::record::Asked;
use super::server::Ending;

/// What a client asks for. Ranges are of whole sectors and lie within the device.
#[derive(Debug)]
pub enum Job {
    /// Read these sectors.
    Read(SectorRange),
    /// Write this data, a multiple of 512 bytes, from this sector on.
    Write {
        /// The first sector.
        start: Sector,
        /// The data.
        data: Vec<u8>,
        /// Durable when done, and with it all that was done before.
        fua: bool,
    },
    /// Make all that was done before durable.
    Flush,
    /// The content is not needed any more.
    Discard {
        /// Of which sectors.
        range: SectorRange,
        /// Durable when done.
        fua: bool,
    },
    /// Make the sectors read as zeros.
    WriteZeroes {
        /// Which.
        range: SectorRange,
        /// Durable when done.
        fua: bool,
    },
}

impl Job {
    /// The sectors that it is about; empty for a flush.
    pub fn range(&self) -> SectorRange {
        match self {
            Job::Read(range) | Job::Discard { range, .. } | Job::WriteZeroes { range, .. } => {
                *range
            }
            Job::Write { start, data, .. } => {
                SectorRange::new(*start, Bytes(data.len() as u64).whole_sectors())
            }
            Job::Flush => SectorRange::default(),
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Job::Read(_) => Operation::Read,
            Job::Write { fua, .. } => Operation::Write { fua: *fua },
            Job::Flush => Operation::Flush,
            Job::Discard { .. } => Operation::Discard,
            Job::WriteZeroes { .. } => Operation::WriteZeroes,
        }
    }
}

/// A job that has ended.
#[derive(Debug)]
pub struct Done<C> {
    /// What the client gave with it.
    pub context: C,
    /// How it ended: the first failure of its parts.
    pub status: Status,
    /// What a read has read, in order, if it ended well.
    pub data: Vec<Vec<u8>>,
    /// Its part of the memory, kept until the answer is out.
    pub permit: Option<Permit>,
}

/// Why a job is not taken; the context comes back.
#[derive(Debug)]
pub struct NoWay<C> {
    /// Why.
    pub error: DeviceError,
    /// What the client gave with it.
    pub context: C,
}

/// The most parts of a job without data that are under way at once.
const PARTS_AT_ONCE: usize = 16;

/// The number of a part within its job takes this many bits of a tag.
const PART_BITS: u32 = 24;

const PART_MASK: u64 = (1 << PART_BITS) - 1;

/// A job under way.
#[derive(Debug)]
struct Pending<C> {
    context: C,
    permit: Option<Permit>,
    status: Status,
    /// What came of each part of a read, by its number.
    read: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Parts that are under way.
    under_way: usize,
    /// What has to be submitted yet of a job without data.
    rest: SectorRange,
    parts: u64,
    operation: Operation,
    /// A flush comes after all else.
    then_flush: bool,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Jobs<C> {
    next: u64,
    pending: BTreeMap<u64, Pending<C>>,
    /// `None` once nothing more will be submitted.
    submissions: Option<Arc<Submissions<RealFile>>>,
    /// The client submits no more.
    is_ending: bool,
}

#[derive(Debug)]
struct Way<C> {
    export: Export,
    client: u64,
    limits: Limits,
    jobs: Mutex<Jobs<C>>,
}

impl<C> Drop for Way<C> {
    fn drop(&mut self) {
        self.export.client_gone(self.client);
    }
}

impl<C> Way<C> {
    fn jobs(&self) -> MutexGuard<'_, Jobs<C>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The half of a client that submits. When it is dropped, its jobs end, and then its
/// [`Completer`].
#[derive(Debug)]
pub struct Submitter<C>(Arc<Way<C>>);

/// The half of a client that is given what has ended.
#[derive(Debug)]
pub struct Completer<C> {
    way: Arc<Way<C>>,
    completions: Completions,
}

pub(super) fn client<C>(
    export: Export,
    client: u64,
    submissions: Submissions<RealFile>,
    completions: Completions,
) -> (Submitter<C>, Completer<C>) {
    let way = Arc::new(Way {
        export,
        client,
        limits: submissions.limits(),
        jobs: Mutex::new(Jobs {
            next: 0,
            pending: BTreeMap::new(),
            submissions: Some(Arc::new(submissions)),
            is_ending: false,
        }),
    });
    let completer = Completer {
        way: Arc::clone(&way),
        completions,
    };
    (Submitter(way), completer)
}

impl<C> Submitter<C> {
    /// Hands jobs over, each with what the client wants back with it and its part of the memory.
    /// Those that overlap are served in their order. Waits while the device's queue is full.
    ///
    /// # Errors
    /// If the device does not go on: of each job. Those in flight end as the [`Completer`] says.
    pub fn submit(
        &self,
        jobs: impl IntoIterator<Item = (Job, C, Option<Permit>)>,
    ) -> Result<(), Vec<NoWay<C>>> {
        let time = self.0.export.recording_time();
        let mut requests = Vec::new();
        let mut numbers = Vec::new();
        let submissions = {
            let mut known = self.0.jobs();
            for (job, context, permit) in jobs {
                let number = known.next;
                known.next += 1;
                let (pending, parts) = begun(job, context, permit, number, self.0.limits, time);
                known.pending.insert(number, pending);
                numbers.push(number);
                requests.extend(parts);
            }
            known.submissions.clone()
        };
        self.0.export.note_begun(self.0.client, numbers.len());
        let submitted = match submissions {
            Some(submissions) => submissions.submit_all(requests),
            None => Err(DeviceError::Stopped),
        };
        submitted.map_err(|error| {
            let mut known = self.0.jobs();
            let taken_back = numbers
                .iter()
                .filter_map(|number| known.pending.remove(number));
            let taken_back: Vec<_> = taken_back
                .map(|pending| NoWay {
                    error: error.clone(),
                    context: pending.context,
                })
                .collect();
            self.0.export.note_ended(taken_back.len());
            taken_back
        })
    }

    /// Jobs that have not ended.
    pub fn in_flight(&self) -> usize {
        self.0.jobs().pending.len()
    }
}

impl<C> Drop for Submitter<C> {
    fn drop(&mut self) {
        let mut jobs = self.0.jobs();
        jobs.is_ending = true;
        if jobs.pending.is_empty() {
            jobs.submissions = None;
        }
    }
}

/// A job as it begins, and the requests that it begins with.
fn begun<C>(
    job: Job,
    context: C,
    permit: Option<Permit>,
    number: u64,
    limits: Limits,
    time: Option<Started>,
) -> (Pending<C>, Vec<Request>) {
    let range = job.range();
    let operation = job.operation();
    let mut pending = Pending {
        context,
        permit,
        status: Status::Ok,
        read: BTreeMap::new(),
        under_way: 0,
        rest: SectorRange::default(),
        parts: 0,
        operation,
        then_flush: matches!(
            job,
            Job::WriteZeroes { fua: true, .. } | Job::Discard { fua: true, .. }
        ),
        asked: time.map(|time| {
            let then_flush = matches!(job, Job::WriteZeroes { fua: true, .. });
            Asked::at(time, operation, range).then_flush(then_flush)
        }),
    };
    let mut requests = Vec::new();
    match job {
        Job::Flush => requests.push(Request::flush(pending.next_tag(number))),
        Job::Read(range) => {
            for piece in driver::blk::split(range, longest_transfer(limits)) {
                let segments = segments(vec![0; piece.count.bytes().0 as usize], limits);
                let tag = pending.next_tag(number);
                requests.push(request(tag, operation, piece.start, segments));
            }
        }
        Job::Write { start, data, .. } => {
            let longest = longest_transfer(limits).bytes().0 as usize;
            let mut start = start;
            for piece in pieces(data, longest) {
                let count = Bytes(piece.len() as u64).whole_sectors();
                let tag = pending.next_tag(number);
                requests.push(request(tag, operation, start, segments(piece, limits)));
                start += count;
            }
        }
        Job::Discard { range, .. } | Job::WriteZeroes { range, .. } => {
            pending.rest = range;
            requests = pending.more(number, limits);
        }
    }
    (pending, requests)
}

fn request(tag: Tag, operation: Operation, start: Sector, segments: Vec<Segment>) -> Request {
    Request {
        tag,
        operation,
        start,
        segments,
    }
}

/// The longest transfer that the limits allow in whatever memory.
fn longest_transfer(limits: Limits) -> SectorCount {
    let in_segments = match limits.segment_boundary {
        None => limits.max_transfer,
        Some(boundary) => SectorCount(
            boundary
                .whole_sectors()
                .0
                .saturating_mul(limits.max_segments as u64),
        ),
    };
    limits.max_transfer.min(in_segments).max(SectorCount(1))
}

/// Data in pieces of at most `longest` bytes, each in memory of its own length.
fn pieces(data: Vec<u8>, longest: usize) -> Vec<Vec<u8>> {
    match data.len() <= longest {
        true => vec![data],
        false => data.chunks(longest).map(<[u8]>::to_vec).collect(),
    }
}

/// The data of a transfer, cut where the limits want it.
fn segments(data: Vec<u8>, limits: Limits) -> Vec<Segment> {
    match limits.segment_boundary {
        Some(boundary) if data.len() as u64 > boundary.0 => {
            let longest = boundary.0.max(SECTOR_SIZE) as usize;
            let pieces = data.chunks(longest);
            pieces
                .map(|piece| Segment::with_data(piece.to_vec()))
                .collect()
        }
        _ => vec![Segment::with_data(data)],
    }
}

impl<C> Pending<C> {
    fn next_tag(&mut self, number: u64) -> Tag {
        // Only reads are told apart by the number of a part, and none has so many.
        let tag = Tag(number << PART_BITS | (self.parts & PART_MASK));
        self.parts += 1;
        self.under_way += 1;
        tag
    }

    /// The next parts of a job without data, as many as may be under way.
    fn more(&mut self, number: u64, limits: Limits) -> Vec<Request> {
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

impl<C> Completer<C> {
    /// Waits for jobs that have ended, one at least. `None` when all have, and nobody is left who
    /// submits.
    ///
    /// # Errors
    /// If the device does not go on; what was in flight comes with [`Completer::left`].
    pub fn next_batch(&self) -> Result<Option<Vec<Done<C>>>, DeviceError> {
        loop {
            let completions = self.completions.next_batch().inspect_err(|error| {
                self.way.export.end(Ending::Died(error.clone()));
            })?;
            let Some(completions) = completions else {
                return Ok(None);
            };
            let mut done = Vec::with_capacity(completions.len());
            let mut more = Vec::new();
            let mut jobs = self.way.jobs();
            for completion in completions {
                let Tag(tag) = completion.request.tag;
                let (number, part) = (tag >> PART_BITS, tag & PART_MASK);
                let Some(pending) = jobs.pending.get_mut(&number) else {
                    continue;
                };
                pending.under_way -= 1;
                if completion.status != Status::Ok && pending.status == Status::Ok {
                    pending.status = completion.status;
                }
                if pending.operation == Operation::Read {
                    let segments = completion.request.segments.into_iter();
                    let data = segments.map(|segment| segment.data).collect();
                    pending.read.insert(part, data);
                }
                let next = pending.more(number, self.way.limits);
                let has_ended = next.is_empty() && pending.under_way == 0;
                more.extend(next);
                if has_ended && let Some(pending) = jobs.pending.remove(&number) {
                    done.push(self.done(pending));
                }
            }
            let submissions = jobs.submissions.clone();
            if jobs.is_ending && jobs.pending.is_empty() {
                jobs.submissions = None;
            }
            drop(jobs);
            self.way.export.note_ended(done.len());
            // Those that have ended are told first, and the next call says why no more will.
            if let Some(submissions) = submissions
                && let Err(error) = submissions.submit_all(more)
                && done.is_empty()
            {
                return Err(error);
            }
            if !done.is_empty() {
                return Ok(Some(done));
            }
        }
    }

    /// What was in flight when the device stopped going on: each has failed.
    pub fn left(&self) -> Vec<Done<C>> {
        let mut jobs = self.way.jobs();
        let pending = std::mem::take(&mut jobs.pending);
        drop(jobs);
        self.way.export.note_ended(pending.len());
        let failed = pending.into_values().map(|pending| {
            self.done(Pending {
                status: Status::IoError,
                ..pending
            })
        });
        failed.collect()
    }

    fn done(&self, pending: Pending<C>) -> Done<C> {
        if let Some(asked) = pending.asked {
            self.way
                .export
                .record(self.way.client, asked, pending.status);
        }
        let data = match pending.status {
            Status::Ok => pending.read.into_values().flatten().collect(),
            _ => Vec::new(),
        };
        Done {
            context: pending.context,
            status: pending.status,
            data,
            permit: pending.permit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_take_no_more_memory_than_they_hold() {
        let mut data = Vec::with_capacity(1 << 20);
        data.resize(10_000, 7);
        let cut = pieces(data, 512);
        assert_eq!(cut.len(), 20);
        let capacities = cut.iter().map(Vec::capacity).sum::<usize>();
        assert!(capacities <= 2 * 10_000, "{capacities}");
        assert_eq!(cut.concat(), vec![7; 10_000]);
    }
}
