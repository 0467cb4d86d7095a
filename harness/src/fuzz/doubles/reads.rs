//! Reads that bring too little, or something else.

use std::collections::{BTreeMap, BTreeSet};

use driver::blk::{Completion, Operation, Request, Status};
use driver::host::HostFile;
use driver::ordered::{Ordered, Step};
use driver::units::SECTOR_SIZE;

use super::{Defective, Disk, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "reads-return-nothing",
        does: "completes reads with empty buffers",
        seam: Seam::driver::<Nothing>(),
        found_as: &[Kind::WrongLength],
        replay: Some(Disk::Small),
    },
    Double {
        name: "reads-without-segments",
        does: "completes reads without any buffer",
        seam: Seam::driver::<NoSegments>(),
        found_as: &[Kind::WrongLength, Kind::WrongCompletion],
        replay: Some(Disk::Small),
    },
    Double {
        name: "read-short",
        does: "leaves the last sector of a read out of its buffer",
        seam: Seam::driver::<Short>(),
        found_as: &[Kind::WrongLength],
        replay: Some(Disk::Small),
    },
    Double {
        name: "reads-leave-the-buffer",
        does: "completes reads without looking at the disk",
        seam: Seam::driver::<Untouched>(),
        found_as: &[Kind::Foreign],
        replay: Some(Disk::Small),
    },
    Double {
        name: "read-leaves-the-end",
        does: "leaves the last eight bytes of a read's buffer as they were",
        seam: Seam::driver::<EndUntouched>(),
        found_as: &[Kind::Foreign],
        replay: Some(Disk::Small),
    },
    Double {
        name: "read-of-the-neighbour",
        does: "shows, of a read of several sectors, each one sector further on",
        seam: Seam::driver::<Neighbour>(),
        found_as: &[Kind::Misplaced],
        replay: Some(Disk::Small),
    },
    Double {
        name: "read-goes-back",
        does: "shows a sector's new content once, and then the one before it once more",
        seam: Seam::driver::<GoesBack>(),
        found_as: &[Kind::StaleRead, Kind::LostWrite, Kind::Zeros],
        replay: Some(Disk::Small),
    },
    Double {
        name: "far-reads-wrap",
        does: "reads what lies past 768 MiB from a place 256 MiB lower",
        seam: Seam::driver::<Wraps>(),
        // The devices of cases are smaller.
        found_as: &[],
        replay: Some(Disk::Large),
    },
];

/// A step whose reads, if they were successful, `spoil` changes.
fn step<F: HostFile>(device: &mut Ordered<F>, spoil: impl FnOnce(&mut Request)) -> Step {
    let mut step = device.step();
    if let Some(request) = read_of(&mut step) {
        spoil(request);
    }
    step
}

/// The successful read that has completed.
fn read_of(step: &mut Step) -> Option<&mut Request> {
    match step {
        Step::Completed(Completion {
            request,
            status: Status::Ok,
            ..
        }) if request.operation == Operation::Read => Some(request),
        _ => None,
    }
}

/// What the buffers of a read have in them, byte for byte, before it is carried out.
type Buffers = BTreeMap<u64, Vec<u8>>;

fn remember(buffers: &mut Buffers, request: &Request) {
    if let (Operation::Read, [segment]) = (request.operation, &request.segments[..]) {
        buffers.insert(request.tag.0, segment.data.clone());
    }
}

#[derive(Default)]
struct Nothing;

impl<F: HostFile> Defective<F> for Nothing {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            for segment in &mut read.segments {
                segment.data.clear();
            }
        })
    }
}

#[derive(Default)]
struct NoSegments;

impl<F: HostFile> Defective<F> for NoSegments {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| read.segments.clear())
    }
}

#[derive(Default)]
struct Short;

impl<F: HostFile> Defective<F> for Short {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            for segment in &mut read.segments {
                let shorter = segment.data.len().saturating_sub(SECTOR_SIZE as usize);
                segment.data.truncate(shorter);
            }
        })
    }
}

#[derive(Default)]
struct Untouched(Buffers);

impl<F: HostFile> Defective<F> for Untouched {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        remember(&mut self.0, &request);
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            if let (Some(before), [segment]) = (self.0.remove(&read.tag.0), &mut read.segments[..])
            {
                segment.data = before;
            }
        })
    }
}

#[derive(Default)]
struct EndUntouched(Buffers);

impl<F: HostFile> Defective<F> for EndUntouched {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        remember(&mut self.0, &request);
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            if let (Some(before), [segment]) = (self.0.remove(&read.tag.0), &mut read.segments[..])
            {
                let end = segment.data.len().saturating_sub(8);
                segment.data[end..].copy_from_slice(&before[end..]);
            }
        })
    }
}

#[derive(Default)]
struct Neighbour;

impl<F: HostFile> Defective<F> for Neighbour {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            for segment in &mut read.segments {
                let sector = SECTOR_SIZE.min(segment.data.len() as u64);
                segment.data.rotate_left(sector as usize);
            }
        })
    }
}

/// Of each sector what was shown last, and what was before that and not shown again yet.
#[derive(Default)]
struct GoesBack(BTreeMap<u64, (Vec<u8>, Option<Vec<u8>>)>);

impl<F: HostFile> Defective<F> for GoesBack {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            let contents = read.segments.iter_mut();
            let contents = contents.flat_map(|s| s.data.chunks_mut(SECTOR_SIZE as usize));
            for (sector, content) in (read.start.0..).zip(contents) {
                let now = content.to_vec();
                match self.0.remove(&sector) {
                    Some((last, Some(before))) if last == now => {
                        content.copy_from_slice(&before);
                        self.0.insert(sector, (now, None));
                    }
                    Some((last, _)) if last != now => {
                        self.0.insert(sector, (now, Some(last)));
                    }
                    _ => drop(self.0.insert(sector, (now, None))),
                }
            }
        })
    }
}

/// From this sector on, reads go elsewhere.
const FAR: u64 = 3 << 19;

/// They go to this many sectors lower.
const LOWER: u64 = 1 << 19;

/// The tags of the reads that went elsewhere.
#[derive(Default)]
struct Wraps(BTreeSet<u64>);

impl<F: HostFile> Defective<F> for Wraps {
    fn submit(&mut self, device: &mut Ordered<F>, mut request: Request) -> Result<(), Request> {
        if request.operation == Operation::Read && request.start.0 >= FAR {
            self.0.insert(request.tag.0);
            request.start.0 -= LOWER;
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        step(device, |read| {
            if self.0.remove(&read.tag.0) {
                read.start.0 += LOWER;
            }
        })
    }
}
