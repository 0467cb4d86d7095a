//! Requests that take effect in another order than they were submitted in, or later than they
//! say.

use std::collections::{BTreeMap, BTreeSet};

use driver::blk::{Completion, Operation, Request, Status, Tag};
use driver::host::HostFile;
use driver::ordered::{Ordered, Step};
use driver::units::SECTOR_SIZE;

use super::{Defective, Disk, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "overlap-exchanged",
        does: "carries out the later of two writes that overlap first",
        seam: Seam::driver::<Overlap>(),
        found_as: &[Kind::StaleRead, Kind::LostWrite],
        replay: Some(Disk::Small),
    },
    Double {
        name: "write-acknowledged-early",
        does: "acknowledges a write, and carries it out after the next request",
        seam: Seam::driver::<Early>(),
        found_as: &[
            Kind::StaleRead,
            Kind::LostWrite,
            Kind::Zeros,
            Kind::Misplaced,
        ],
        replay: Some(Disk::Small),
    },
    Double {
        name: "discard-flips",
        does: "shows zeros after a discard once, and then what was there before",
        seam: Seam::driver::<Flips>(),
        found_as: &[Kind::StaleRead, Kind::LostWrite],
        replay: Some(Disk::Small),
    },
    Double {
        name: "second-segment-twice",
        does: "writes, of three segments or more, the second one into the third's place too",
        seam: Seam::driver::<SecondTwice>(),
        found_as: &[Kind::Misplaced, Kind::LostWrite, Kind::StaleRead],
        replay: None,
    },
    Double {
        name: "failed-write-comes-back",
        does: "carries a failed write out after all, once it was read that it had failed",
        seam: Seam::driver::<ComesBack>(),
        found_as: &[Kind::StaleRead, Kind::LostWrite],
        replay: None,
    },
];

fn is_write(request: &Request) -> bool {
    matches!(request.operation, Operation::Write { .. })
}

#[derive(Default)]
struct SecondTwice;

impl<F: HostFile> Defective<F> for SecondTwice {
    fn submit(&mut self, device: &mut Ordered<F>, mut request: Request) -> Result<(), Request> {
        if let (true, [_, second, third, ..]) = (is_write(&request), &mut request.segments[..]) {
            let len = second.data.len().min(third.data.len());
            third.data[..len].copy_from_slice(&second.data[..len]);
        }
        device.submit(request)
    }
}

/// A write that waits for the next request.
#[derive(Default)]
struct Overlap(Option<Request>);

impl<F: HostFile> Defective<F> for Overlap {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        let Some(held) = self.0.take() else {
            if is_write(&request) && device.has_room() {
                self.0 = Some(request);
                return Ok(());
            }
            return device.submit(request);
        };
        let exchanged = is_write(&request) && request.range().overlaps(held.range());
        let (first, second) = match exchanged {
            true => (request, held),
            false => (held, request),
        };
        device.submit(first)?;
        self.0 = Some(second);
        Ok(())
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        match (device.step(), self.0.take()) {
            (Step::Idle, Some(held)) => {
                self.0 = device.submit(held).err();
                device.step()
            }
            (step, held) => {
                self.0 = held;
                step
            }
        }
    }
}

/// A write that was acknowledged and waits for the next request, and the tags of those that
/// were acknowledged before they are done.
#[derive(Default)]
struct Early {
    held: Option<Request>,
    ready: Option<Completion>,
    acknowledged: BTreeSet<u64>,
}

impl<F: HostFile> Defective<F> for Early {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        if self.held.is_none() && self.ready.is_none() && is_write(&request) {
            self.acknowledged.insert(request.tag.0);
            self.held = Some(request.clone());
            self.ready = Some(Completion {
                request,
                status: Status::Ok,
                failure: None,
            });
            return Ok(());
        }
        device.submit(request)?;
        if let Some(held) = self.held.take() {
            self.held = device.submit(held).err();
        }
        Ok(())
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if let Some(completion) = self.ready.take() {
            return Step::Completed(completion);
        }
        match device.step() {
            Step::Completed(completion) if self.acknowledged.remove(&completion.request.tag.0) => {
                Step::Working
            }
            step => step,
        }
    }
}

/// The discarded sectors, and whether they have been shown as zeros.
#[derive(Default)]
struct Flips {
    ready: Option<Completion>,
    discarded: BTreeMap<u64, bool>,
}

impl<F: HostFile> Defective<F> for Flips {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        let range = request.range();
        let sectors = range.start.0..range.end().0;
        match request.operation {
            Operation::Discard if self.ready.is_none() && range.end().0 <= device.capacity().0 => {
                self.discarded.extend(sectors.map(|sector| (sector, false)));
                self.ready = Some(Completion {
                    request,
                    status: Status::Ok,
                    failure: None,
                });
                return Ok(());
            }
            Operation::Write { .. } | Operation::WriteZeroes => {
                for sector in sectors {
                    self.discarded.remove(&sector);
                }
            }
            _ => {}
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = match self.ready.take() {
            Some(completion) => Step::Completed(completion),
            None => device.step(),
        };
        if let Step::Completed(completion) = &mut step
            && completion.request.operation == Operation::Read
        {
            let request = &mut completion.request;
            let contents = request.segments.iter_mut();
            let contents = contents.flat_map(|s| s.data.chunks_mut(SECTOR_SIZE as usize));
            for (sector, content) in (request.start.0..).zip(contents) {
                if let Some(shown @ false) = self.discarded.get_mut(&sector) {
                    *shown = true;
                    content.fill(0);
                }
            }
        }
        step
    }
}

/// A write that failed, and the tag of it once it has been submitted again.
#[derive(Default)]
struct ComesBack {
    failed: Option<Request>,
    own: Option<Tag>,
}

impl<F: HostFile> Defective<F> for ComesBack {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let completion = match device.step() {
            Step::Completed(completion) => completion,
            step => return step,
        };
        let request = &completion.request;
        if is_write(request) && self.own == Some(request.tag) {
            self.own = None;
            return Step::Working;
        }
        let range = request.range();
        let done = completion.status == Status::Ok;
        if is_write(request) && !done {
            self.failed = Some(request.clone());
        } else if request.operation == Operation::Read && done {
            let is_read = |failed: &mut Request| failed.range().overlaps(range);
            if let Some(failed) = self.failed.take_if(is_read) {
                self.own = Some(failed.tag);
                // Without room it stays failed.
                let _ = device.submit(failed);
            }
        }
        Step::Completed(completion)
    }
}
