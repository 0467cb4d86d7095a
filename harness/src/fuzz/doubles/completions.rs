//! Completions that do not come, come twice or are another request's, and devices that hang.

use driver::blk::{Completion, Status};
use driver::host::HostFile;
use driver::ordered::{Ordered, Step};

use super::{Defective, Disk, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "completion-never",
        does: "carries every third request out, and completes it never",
        seam: Seam::driver::<Never>(),
        found_as: &[Kind::WrongCompletion],
        replay: Some(Disk::Small),
    },
    Double {
        name: "completion-twice",
        does: "completes every third request twice",
        seam: Seam::driver::<Twice>(),
        found_as: &[Kind::WrongCompletion],
        replay: Some(Disk::Small),
    },
    Double {
        name: "completions-exchanged",
        does: "gives two requests that complete one after the other each other's tags",
        seam: Seam::driver::<Exchanged>(),
        found_as: &[Kind::WrongCompletion, Kind::StaleRead, Kind::LostWrite],
        replay: Some(Disk::Small),
    },
    Double {
        name: "device-hangs",
        does: "has nothing to do after ten requests, whatever is queued",
        seam: Seam::driver::<Hangs>(),
        found_as: &[Kind::WrongCompletion],
        replay: Some(Disk::Small),
    },
    Double {
        name: "error-without-a-fault",
        does: "ends every fifth request with an error, on a host that works",
        seam: Seam::driver::<Fails>(),
        found_as: &[Kind::WrongStatus],
        replay: Some(Disk::Small),
    },
    Double {
        name: "failure-hidden",
        does: "reports requests as done that the host has failed",
        seam: Seam::driver::<Hides>(),
        found_as: &[
            Kind::LostWrite,
            Kind::StaleRead,
            Kind::Zeros,
            Kind::Foreign,
            Kind::WrongSize,
        ],
        replay: None,
    },
    Double {
        name: "close-fails",
        does: "cannot be closed, on a host that works",
        seam: Seam::driver::<CloseFails>(),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
];

/// A copy of a completion.
fn again(completion: &Completion) -> Completion {
    Completion {
        request: completion.request.clone(),
        status: completion.status,
        failure: completion.failure.clone(),
    }
}

#[derive(Default)]
struct Never(u64);

impl<F: HostFile> Defective<F> for Never {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let step = device.step();
        if let Step::Completed(_) = step {
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                return Step::Working;
            }
        }
        step
    }
}

#[derive(Default)]
struct Twice {
    count: u64,
    more: Option<Completion>,
}

impl<F: HostFile> Defective<F> for Twice {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if let Some(completion) = self.more.take() {
            return Step::Completed(completion);
        }
        let step = device.step();
        if let Step::Completed(completion) = &step {
            self.count += 1;
            if self.count.is_multiple_of(3) {
                self.more = Some(again(completion));
            }
        }
        step
    }
}

#[derive(Default)]
struct Exchanged {
    kept: Option<Completion>,
    ready: Option<Completion>,
}

impl<F: HostFile> Defective<F> for Exchanged {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if let Some(completion) = self.ready.take() {
            return Step::Completed(completion);
        }
        let step = device.step();
        match (step, self.kept.take()) {
            (Step::Completed(mut second), Some(mut first)) => {
                std::mem::swap(&mut first.request.tag, &mut second.request.tag);
                self.ready = Some(second);
                Step::Completed(first)
            }
            (Step::Completed(first), None) => {
                self.kept = Some(first);
                Step::Working
            }
            // There is no other.
            (Step::Idle | Step::Blocked, Some(first)) => Step::Completed(first),
            (step, kept) => {
                self.kept = kept;
                step
            }
        }
    }
}

#[derive(Default)]
struct Hangs(u64);

impl<F: HostFile> Defective<F> for Hangs {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        if self.0 == 10 {
            return Step::Idle;
        }
        let step = device.step();
        self.0 += u64::from(matches!(step, Step::Completed(_)));
        step
    }
}

#[derive(Default)]
struct Fails(u64);

impl<F: HostFile> Defective<F> for Fails {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step {
            self.0 += 1;
            if self.0.is_multiple_of(5) {
                completion.status = Status::IoError;
            }
        }
        step
    }
}

#[derive(Default)]
struct Hides;

impl<F: HostFile> Defective<F> for Hides {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step {
            completion.status = Status::Ok;
        }
        step
    }
}

#[derive(Default)]
struct CloseFails;

impl<F: HostFile> Defective<F> for CloseFails {
    fn close(&mut self, _: Ordered<F>) -> Result<(), String> {
        Err("it does not close today".into())
    }
}
