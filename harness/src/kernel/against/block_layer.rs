//! What a kernel's block layer makes of a request of its guest before the driver has it. This is
//! the one place for that; each rule was seen in recordings of Linux 6.1.
//!
//! 1. *Cutting.* A request is cut, from its start on, into requests of the driver of at most as
//!    many sectors as the driver's limits say (64 with a COW file). Each has a buffer that begins
//!    with a page of memory, so that its segments are of 8 sectors, counted from its start.
//! 2. *Order.* Requests in flight together reach the driver in any order, and so do the parts of
//!    one. The driver itself serves them in the order in which it has got them, each as a whole.
//!    So the order is that of the recording: the next request is the one in flight whose
//!    operations are those that the recording has next. Of several it is one of which the
//!    recording has all operations, before the guest hears of the end of one that it would be
//!    served before, and that ends as the guest hears; of those the one with most operations.
//! 3. *Merging.* Requests in flight that ask for the same of sectors that follow each other may
//!    reach the driver as one, of at most as many sectors as its limits say. Each keeps its
//!    segments, but for those that have no data. It ends when all of it has been done, and with
//!    one status. Whether they were merged is taken from the recording, as their order is. FUA
//!    writes are not merged.
//! 4. *What asks nothing of the host* has no place in a recording, such as a flush. It is given to
//!    the model when the guest hears of its end.
//! 5. *Zeros that cannot be made.* If any part of a write of zeros fails, the block layer writes
//!    zeros over all of the request, cut as in rule 1, and the guest hears what comes of that.
//! 6. *Errors.* A request of several parts of which some fail ends with the error of one of them.
//!    Of a discard the guest learns only that it has failed.

use std::collections::VecDeque;

use driver::blk::{Limits, Operation, Request, Segment, Status, Tag, split};
use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::fuzz::recorded::{GuestOperation, GuestRequest};
use crate::stamp::Stamp;

/// Linux's numbers of errors.
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;

/// A request of the driver: a part of one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    operation: Operation,
    range: SectorRange,
    /// It writes zeros.
    is_zeros: bool,
}

impl Part {
    /// Whether the block layer makes one request of `before` and this, so that there are
    /// `sectors` in it: rule 3.
    pub(super) fn follows(&self, before: &Part, sectors: SectorCount, limits: Limits) -> bool {
        use Operation::{Discard, Flush, Read, Write, WriteZeroes};
        let longest = match self.operation {
            Flush | Write { fua: true } => return false,
            Read | Write { fua: false } => limits.max_transfer,
            Discard | WriteZeroes => limits.max_discard,
        };
        let is_next = before.range.end() == self.range.start;
        self.operation == before.operation && is_next && sectors <= longest
    }

    /// The end of its sectors.
    pub(super) fn end(&self) -> Sector {
        self.range.end()
    }

    /// Its sectors.
    pub(super) fn sectors(&self) -> SectorCount {
        self.range.count
    }
}

/// Requests whose sectors follow each other, as one: rule 3.
pub(super) fn merged(requests: Vec<Request>) -> Option<Request> {
    let mut requests = requests.into_iter();
    let mut all = requests.next()?;
    for next in requests {
        match (all.operation, all.segments.first_mut()) {
            (Operation::Discard | Operation::WriteZeroes, Some(only)) => {
                only.sectors += next.range().count;
            }
            _ => all.segments.extend(next.segments),
        }
    }
    Some(all)
}

/// A request of the guest that is in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) asked: GuestRequest,
    limits: Limits,
    /// Parts that the driver does not have yet.
    pub(super) waiting: VecDeque<Part>,
    /// Parts that it has, and that have not ended.
    under_way: usize,
    /// The errors of parts that have ended, but for those that rule 5 makes good.
    errors: Vec<Status>,
    has_fallen_back: bool,
    /// What the parts of a read have brought.
    pub(super) content: Vec<u8>,
}

impl InFlight {
    /// A request that the guest has submitted.
    pub(super) fn new(asked: GuestRequest, limits: Limits) -> InFlight {
        let mut request = InFlight {
            asked,
            limits,
            waiting: VecDeque::new(),
            under_way: 0,
            errors: Vec::new(),
            has_fallen_back: false,
            content: Vec::new(),
        };
        match asked.operation() {
            Operation::Flush => request.waiting.push_back(Part {
                operation: Operation::Flush,
                range: asked.range(),
                is_zeros: false,
            }),
            Operation::Read => {
                request.content = vec![0; asked.range().count.bytes().0 as usize];
                request.cut(Operation::Read, false);
            }
            operation => request.cut(operation, false),
        }
        request
    }

    /// Rule 1.
    fn cut(&mut self, operation: Operation, is_zeros: bool) {
        let longest = match operation {
            Operation::Discard | Operation::WriteZeroes => self.limits.max_discard,
            _ => self.limits.max_transfer,
        };
        let parts = split(self.asked.range(), longest.max(SectorCount(1)));
        self.waiting = parts
            .map(|range| Part {
                operation,
                range,
                is_zeros,
            })
            .collect();
    }

    /// A part, as the driver gets it.
    pub(super) fn request(&self, part: Part, tag: Tag) -> Request {
        let Part {
            operation, range, ..
        } = part;
        let (start, count) = (range.start, range.count);
        let data = || {
            let mut data = vec![0; count.bytes().0 as usize];
            if !part.is_zeros {
                Stamp(self.asked.number).fill(start, &mut data);
            }
            data
        };
        match operation {
            Operation::Read => Request::read(tag, start, count),
            Operation::Write { fua: false } => Request::write(tag, start, data()),
            Operation::Write { fua: true } => Request::write_fua(tag, start, data()),
            Operation::Flush => Request::flush(tag),
            Operation::Discard => Request::discard(tag, start, count),
            Operation::WriteZeroes => Request::write_zeroes(tag, start, count),
        }
    }

    /// The driver has got this one of the parts that wait.
    pub(super) fn take(&mut self, index: usize) -> Option<Part> {
        let part = self.waiting.remove(index);
        self.under_way += usize::from(part.is_some());
        part
    }

    /// A part has ended, and has these segments of what the driver was asked for.
    pub(super) fn ended(&mut self, part: Part, status: Status, segments: &[Segment]) {
        self.under_way -= 1;
        match status {
            Status::Ok if part.operation == Operation::Read => {
                let begin = (part.range.start.0 - self.asked.start) * SECTOR_SIZE;
                let content = self.content.get_mut(begin as usize..).unwrap_or_default();
                let data = segments.iter().flat_map(|it| &it.data);
                content
                    .iter_mut()
                    .zip(data)
                    .for_each(|(to, from)| *to = *from);
            }
            Status::Ok => {}
            failed => self.errors.push(failed),
        }
        let has_ended = self.under_way == 0 && self.waiting.is_empty();
        let is_zeros = part.operation == Operation::WriteZeroes;
        if has_ended && is_zeros && !self.errors.is_empty() && !self.has_fallen_back {
            // Rule 5.
            self.has_fallen_back = true;
            self.errors.clear();
            self.cut(Operation::Write { fua: false }, true);
        }
    }

    /// Linux's numbers of the errors with which it may end; none if it ends well. Rule 6.
    pub(super) fn errors(&self) -> Vec<i32> {
        let is_discard = self.asked.what == GuestOperation::Discard;
        let number = |status: &Status| match status {
            _ if is_discard => EIO,
            Status::NotSupported => EOPNOTSUPP,
            Status::NoSpace => ENOSPC,
            Status::Invalid => EINVAL,
            Status::IoError | Status::Ok => EIO,
        };
        let mut errors: Vec<i32> = self.errors.iter().map(number).collect();
        errors.sort_unstable();
        errors.dedup();
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(what: GuestOperation, start: u64, count: u64) -> InFlight {
        let number = 1001;
        let asked = GuestRequest {
            number,
            what,
            start,
            count,
        };
        InFlight::new(asked, Limits::LINUX_6_12)
    }

    fn ranges(request: &InFlight) -> Vec<(u64, u64)> {
        let waiting = request.waiting.iter();
        waiting
            .map(|part| (part.range.start.0, part.range.count.0))
            .collect()
    }

    #[test]
    fn a_request_is_cut_from_its_start_on() {
        let read = in_flight(GuestOperation::Read, 5, 130);
        assert_eq!(ranges(&read), [(5, 64), (69, 64), (133, 2)]);
        assert_eq!(ranges(&in_flight(GuestOperation::Flush, 0, 0)), [(0, 0)]);
    }

    #[test]
    fn zeros_that_cannot_be_made_are_written() {
        let mut zeros = in_flight(GuestOperation::WriteZeroes, 0, 100);
        for (index, status) in [(1, Status::NoSpace), (0, Status::Ok)] {
            let part = zeros.take(index).unwrap();
            let request = zeros.request(part, Tag(0));
            zeros.ended(part, status, &request.segments);
        }
        assert_eq!(ranges(&zeros), [(0, 64), (64, 36)]);
        let part = zeros.take(0).unwrap();
        let request = zeros.request(part, Tag(0));
        assert_eq!(request.operation, Operation::Write { fua: false });
        assert_eq!(request.segments[0].data, [0; 64 * 512]);
        assert_eq!(zeros.errors(), [0; 0]);
    }

    #[test]
    fn what_follows_is_merged_up_to_the_limit() {
        use GuestOperation::{Discard, Read, Write, WriteWithFua};
        let part = |what, start, count| in_flight(what, start, count).waiting[0];
        let limits = Limits::LINUX_6_12;
        for (before, next, is_merged) in [
            (part(Read, 8, 8), part(Read, 16, 4), true),
            (part(Read, 8, 8), part(Write, 16, 4), false),
            (part(Read, 8, 8), part(Read, 17, 4), false),
            (part(Write, 0, 60), part(Write, 60, 4), true),
            (part(Write, 0, 60), part(Write, 60, 5), false),
            (part(WriteWithFua, 8, 8), part(WriteWithFua, 16, 8), false),
        ] {
            let sectors = before.sectors() + next.sectors();
            assert_eq!(
                next.follows(&before, sectors, limits),
                is_merged,
                "{next:?}"
            );
        }
        for (what, segments) in [(Read, 2), (Discard, 1)] {
            let request = |start| {
                let asked = in_flight(what, start, 8);
                asked.request(asked.waiting[0], Tag(0))
            };
            let both = merged(vec![request(8), request(16)]).unwrap();
            assert_eq!(both.segments.len(), segments);
            assert_eq!(both.range().count, SectorCount(16));
        }
    }

    #[test]
    fn of_a_failed_discard_only_that_is_known() {
        for (what, error) in [
            (GuestOperation::Discard, EIO),
            (GuestOperation::Read, ENOSPC),
        ] {
            let mut request = in_flight(what, 0, 8);
            let part = request.take(0).unwrap();
            let asked = request.request(part, Tag(0));
            request.ended(part, Status::NoSpace, &asked.segments);
            assert_eq!(request.errors(), [error]);
        }
    }
}
