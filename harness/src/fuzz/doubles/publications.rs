//! Publications that say more, or less, than what they began with.

use std::collections::VecDeque;

use driver::blk::{Completion, Operation as Asked, Request, Status};
use driver::executor::{Executor, Files};
use driver::host::{Action, HostFile, Operation};
use driver::ordered::{Ordered, Step};
use driver::units::FileRange;

use crate::sim::{Happened, SimFile};

use super::late::Late;
use super::meddler::{Beneath, Meddler};
use super::{Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "bits-set-after-the-sync",
        does: "publishes, with the bits that a sync has covered, those that were set since it began",
        seam: Seam::Executor(|| Box::new(LateBits)),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "flush-joins-a-publication",
        does: "acknowledges a flush when the publication ends that had begun before it",
        seam: Seam::driver::<Joins>(),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "bitmap-exchanged-under-a-publication",
        does: "publishes to the old bitmap alone while a reflow makes the new one",
        seam: Seam::Executor(|| Box::<OldBitmapOnly>::default()),
        found_as: &[Kind::LostWrite, Kind::Zeros, Kind::StaleRead],
        replay: None,
    },
];

/// The bitmap, counted from 0, that an operation writes words of, and which it is of those that a
/// publication writes.
fn bitmap_written(device: &Ordered<SimFile>, operation: &Operation) -> Option<(usize, FileRange)> {
    let range = operation.action.range();
    let bitmaps = device.placement().bitmaps().iter().copied().enumerate();
    let mut written = bitmaps.filter(|(_, bitmap)| bitmap.overlaps(range));
    let is_write = matches!(operation.action, Action::Write { .. });
    written.next().filter(|_| is_write)
}

#[derive(Debug)]
struct LateBits;

impl Meddler for LateBits {
    fn begin(&mut self, mut operation: Operation, files: &Files<SimFile>, beneath: Beneath<'_>) {
        let Beneath { device, under_way } = beneath;
        if let Some((_, bitmap)) = bitmap_written(device, &operation)
            && let Action::Write { at, buffer } = &mut operation.action
        {
            let words = &mut buffer.data[buffer.part.clone()];
            let mut now = vec![0; words.len()];
            device.map().copy_bitmap(*at - bitmap.start, &mut now);
            for (byte, now) in words.iter_mut().zip(now) {
                *byte |= now;
            }
        }
        under_way.begin(operation, files);
    }
}

#[derive(Debug, Default)]
struct OldBitmapOnly(Late);

impl Meddler for OldBitmapOnly {
    fn begin(&mut self, operation: Operation, files: &Files<SimFile>, beneath: Beneath<'_>) {
        let Beneath { device, under_way } = beneath;
        match bitmap_written(device, &operation) {
            Some((1.., _)) => self.0.drop_it(operation),
            _ => under_way.begin(operation, files),
        }
    }

    fn has_news(&self) -> bool {
        self.0.has_news()
    }

    fn happen(&mut self, beneath: Beneath<'_>) -> Happened {
        self.0.happen(beneath.under_way)
    }
}

/// Flushes that came while a publication was under way, and completions of such.
#[derive(Default)]
struct Joins {
    joined: Vec<Request>,
    ready: VecDeque<Completion>,
    /// A request has failed that asked for durability: the publication may have.
    failed: bool,
}

impl<F: HostFile> Defective<F> for Joins {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        if request.operation == Asked::Flush && device.is_publishing() {
            self.joined.push(request);
            return Ok(());
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if let Some(completion) = self.ready.pop_front() {
            return Step::Completed(completion);
        }
        let step = device.step();
        if let Step::Completed(completion) = &step {
            self.failed |= completion.status != Status::Ok;
        }
        if !device.is_publishing() {
            for request in self.joined.drain(..) {
                let submitted = match self.failed {
                    true => device.submit(request),
                    false => Err(request),
                };
                self.ready.extend(submitted.err().map(|request| Completion {
                    request,
                    status: Status::Ok,
                    failure: None,
                }));
            }
            self.failed = false;
        }
        match step {
            Step::Idle | Step::Blocked => self.ready.pop_front().map_or(step, Step::Completed),
            step => step,
        }
    }
}
