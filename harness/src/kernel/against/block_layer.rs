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
//!    recording has all operations, and of those the one with most of them.
//! 3. *What asks nothing of the host* has no place in a recording, such as a flush. It is given to
//!    the model when the guest hears of its end.
//! 4. *Zeros that cannot be made.* If any part of a write of zeros fails, the block layer writes
//!    zeros over all of the request, cut as in rule 1, and the guest hears what comes of that.
//! 5. *Errors.* A request of several parts of which some fail ends with the error of one of them.
//!    Of a discard the guest learns only that it has failed.

use std::collections::VecDeque;

use driver::blk::{Limits, Operation, Request, Status, Tag, split};
use driver::units::{SECTOR_SIZE, SectorCount, SectorRange};

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

/// A request of the guest that is in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) asked: GuestRequest,
    limits: Limits,
    /// Parts that the driver does not have yet.
    pub(super) waiting: VecDeque<Part>,
    /// Parts that it has, and that have not ended.
    under_way: usize,
    /// The errors of parts that have ended, but for those that rule 4 makes good.
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

    /// A part has ended.
    pub(super) fn ended(&mut self, part: Part, status: Status, request: &Request) {
        self.under_way -= 1;
        match status {
            Status::Ok if part.operation == Operation::Read => {
                let begin = (part.range.start.0 - self.asked.start) * SECTOR_SIZE;
                let content = self.content.get_mut(begin as usize..).unwrap_or_default();
                let data = request.segments.iter().flat_map(|it| &it.data);
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
            // Rule 4.
            self.has_fallen_back = true;
            self.errors.clear();
            self.cut(Operation::Write { fua: false }, true);
        }
    }

    /// Linux's numbers of the errors with which it may end; none if it ends well. Rule 5.
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
            zeros.ended(part, status, &request);
        }
        assert_eq!(ranges(&zeros), [(0, 64), (64, 36)]);
        let part = zeros.take(0).unwrap();
        let request = zeros.request(part, Tag(0));
        assert_eq!(request.operation, Operation::Write { fua: false });
        assert_eq!(request.segments[0].data, [0; 64 * 512]);
        assert_eq!(zeros.errors(), [0; 0]);
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
            request.ended(part, Status::NoSpace, &asked);
            assert_eq!(request.errors(), [error]);
        }
    }
}
