//! Reads that are planned long before they are carried out, as the kernels' drivers do.

use std::collections::VecDeque;

use driver::blk::{Completion, Operation, Request, Status};
use driver::host::{FileRole, HostFile};
use driver::ordered::{Ordered, Step};
use driver::units::{FileOffset, SECTOR_SIZE, Sector};

use super::{Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[Double {
    name: "read-planned-too-early",
    does: "looks up where a read's data is when it is submitted, and reads when that was freed",
    seam: Seam::driver::<PlannedEarly>(),
    found_as: &[
        Kind::StaleRead,
        Kind::LostWrite,
        Kind::Zeros,
        Kind::Misplaced,
        Kind::Foreign,
    ],
    replay: None,
}];

/// More reads than this do not wait.
const MOST: usize = 8;

/// A read, and where its sectors were when it was submitted.
struct PlannedRead {
    request: Request,
    places: Vec<(FileRole, FileOffset)>,
}

/// Reads that were submitted while data was being moved, and that wait for the end of that.
#[derive(Default)]
struct PlannedEarly {
    planned: VecDeque<PlannedRead>,
    waits_no_more: bool,
}

fn plan<F: HostFile>(device: &Ordered<F>, request: Request) -> PlannedRead {
    let range = request.range();
    let sectors = (range.start.0..range.end().0).map(Sector);
    let place = |sector: Sector| match device.map().is_dirty(sector) {
        true => (FileRole::Cow, device.placement().place_of(sector)),
        false => (FileRole::Backing, FileOffset(sector.0 * SECTOR_SIZE)),
    };
    PlannedRead {
        places: sectors.map(place).collect(),
        request,
    }
}

impl PlannedRead {
    fn carry_out<F: HostFile>(mut self, device: &Ordered<F>) -> Completion {
        let segments = self.request.segments.iter_mut();
        let contents = segments.flat_map(|s| s.data.chunks_mut(SECTOR_SIZE as usize));
        let mut is_read = true;
        for ((role, at), content) in self.places.into_iter().zip(contents) {
            let read = match (role, device.backing()) {
                (FileRole::Cow | FileRole::RawDisk, _) => device.cow().read_exact_at(content, at),
                (FileRole::Backing, Some(backing)) => backing.read_exact_at(content, at),
                // Nothing is placed in the file of a rebuild before it is the COW file.
                (FileRole::Backing, None) | (FileRole::New, _) => Ok(()),
            };
            is_read &= read.is_ok();
        }
        Completion {
            request: self.request,
            status: if is_read { Status::Ok } else { Status::IoError },
            failure: None,
        }
    }
}

impl<F: HostFile> Defective<F> for PlannedEarly {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        let moves = device.placement().frontier().is_some();
        let (range, capacity) = (request.range(), device.capacity());
        let fits = range.end().0 <= capacity.0;
        // Whoever reads the whole device does not go on with a resize meanwhile.
        let is_small = range.count < capacity.min(device.limits().max_transfer);
        let is_taken = fits && is_small && request.operation == Operation::Read;
        if self.planned.len() < MOST && moves && is_taken {
            self.planned.push_back(plan(device, request));
            return Ok(());
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let step = device.step();
        let is_moved = self.waits_no_more || device.placement().frontier().is_none();
        match step {
            Step::Idle | Step::Blocked if !self.planned.is_empty() && !is_moved => Step::Blocked,
            Step::Idle | Step::Blocked => match self.planned.pop_front() {
                Some(planned) => Step::Completed(planned.carry_out(device)),
                None => step,
            },
            step => step,
        }
    }

    fn no_more_resizes(&mut self) {
        self.waits_no_more = true;
    }
}
