//! Flushes, FUA writes and closes after which less is durable than was promised.

use std::collections::{BTreeMap, VecDeque};

use driver::blk::{Completion, Operation, Request, Status, Tag};
use driver::host::HostFile;
use driver::ordered::{Ordered, Step};
use driver::units::{SECTOR_SIZE, Sector};

use super::{Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "flush-without-a-sync",
        does: "acknowledges a flush without carrying it out",
        seam: Seam::driver::<NoFlush>(),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "fua-without-a-sync",
        does: "carries out a FUA write as one without",
        seam: Seam::driver::<NoFua>(),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "close-without-a-sync",
        does: "closes without making anything durable, and says that it has",
        seam: Seam::driver::<NoClose>(),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "flush-reverts-older",
        does: "makes the write before the last one durable, and leaves the last one to chance",
        seam: Seam::driver::<Reverts>(),
        found_as: &[Kind::LostWrite, Kind::StaleRead],
        replay: None,
    },
];

fn done(request: Request) -> Completion {
    Completion {
        request,
        status: Status::Ok,
        failure: None,
    }
}

/// Flushes that were acknowledged.
#[derive(Default)]
struct NoFlush(VecDeque<Completion>);

impl<F: HostFile> Defective<F> for NoFlush {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        if request.operation == Operation::Flush {
            self.0.push_back(done(request));
            return Ok(());
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        match self.0.pop_front() {
            Some(flush) => Step::Completed(flush),
            None => device.step(),
        }
    }
}

/// The tags of FUA writes.
#[derive(Default)]
struct NoFua(Vec<Tag>);

impl<F: HostFile> Defective<F> for NoFua {
    fn submit(&mut self, device: &mut Ordered<F>, mut request: Request) -> Result<(), Request> {
        if let Operation::Write { fua: true } = request.operation {
            self.0.push(request.tag);
            request.operation = Operation::Write { fua: false };
        }
        device.submit(request)
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step
            && self.0.contains(&completion.request.tag)
        {
            completion.request.operation = Operation::Write { fua: true };
        }
        step
    }
}

#[derive(Default)]
struct NoClose;

impl<F: HostFile> Defective<F> for NoClose {
    fn close(&mut self, device: Ordered<F>) -> Result<(), String> {
        drop(device);
        Ok(())
    }
}

/// Of each sector what was written last, and before that. After a flush the older of a pair is
/// written once more and flushed, and then the newer: reads show nothing of it.
#[derive(Default)]
struct Reverts {
    written: BTreeMap<u64, (Vec<u8>, Option<Vec<u8>>)>,
    /// What else completed meanwhile.
    ready: VecDeque<Completion>,
}

/// The tag of its own requests.
const OWN: Tag = Tag(u64::MAX);

impl Reverts {
    fn carry_out<F: HostFile>(&mut self, device: &mut Driven<'_, F>, request: Request) {
        if device.submit(request).is_err() {
            return;
        }
        loop {
            match device.step() {
                Step::Completed(completion) if completion.request.tag == OWN => return,
                Step::Completed(completion) => self.ready.push_back(completion),
                Step::Working => {}
                Step::Idle | Step::Blocked => return,
            }
        }
    }

    fn note(&mut self, write: &Request) {
        let contents = write.segments.iter();
        let contents = contents.flat_map(|s| s.data.chunks(SECTOR_SIZE as usize));
        for (sector, content) in (write.start.0..).zip(contents) {
            let before = self.written.remove(&sector).map(|(last, _)| last);
            self.written.insert(sector, (content.to_vec(), before));
        }
    }
}

impl<F: HostFile> Defective<F> for Reverts {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if let Some(completion) = self.ready.pop_front() {
            return Step::Completed(completion);
        }
        let step = device.step();
        let Step::Completed(completion) = &step else {
            return step;
        };
        if completion.status != Status::Ok {
            return step;
        }
        match completion.request.operation {
            Operation::Write { .. } => self.note(&completion.request),
            Operation::Flush => {
                let pairs = std::mem::take(&mut self.written).into_iter();
                let mut pair = pairs
                    .filter_map(|(sector, (last, before))| Some((Sector(sector), last, before?)));
                if let Some((sector, last, before)) = pair.next_back() {
                    self.carry_out(device, Request::write(OWN, sector, before));
                    self.carry_out(device, Request::flush(OWN));
                    self.carry_out(device, Request::write(OWN, sector, last));
                }
            }
            _ => {}
        }
        step
    }
}
