//! Failures that no fault explains, on a host that has failed.

use driver::blk::{Completion, HostFailure, Operation, Status};
use driver::host::{HostError, HostFile};
use driver::ordered::{Desk, Procedure, Resize, Step};
use driver::resize::ResizeError;
use userhelper::rebuild::SYNCING;

use crate::sim::SimFile;

use super::{BoxedResize, Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "one-fault-fails-the-next-too",
        does: "fails the request after one that has failed, with the error of that",
        seam: Seam::driver::<FailsTheNext>(),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
    Double {
        name: "failed-write-refuses-reads",
        does: "after a write has failed, refuses every read",
        seam: Seam::driver::<RefusesReads>(),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
    Double {
        name: "no-space-is-an-input-output-error",
        does: "says of a full host that it has an input/output error",
        seam: Seam::driver::<AnotherError>(),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
    Double {
        name: "failed-rebuild-refuses-flushes",
        does: "acknowledges no flush after a rebuild whose new file could not be synced",
        seam: Seam::Resize(|resize, _| Box::new(RefusesFlushes(resize))),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
];

struct RefusesFlushes(BoxedResize);

impl Resize<SimFile> for RefusesFlushes {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let outcome = self.0.begin(desk.clone()).await;
            if let Err(ResizeError::Host { doing, .. }) = &outcome
                && *doing == SYNCING
            {
                desk.follow(|here| here.distrust()).await?;
            }
            outcome
        })
    }
}

/// The failure of the request before.
#[derive(Default)]
struct FailsTheNext(Option<(Status, HostFailure)>);

impl<F: HostFile> Defective<F> for FailsTheNext {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step {
            match (self.0.take(), completion.status) {
                (Some((status, failure)), Status::Ok) => {
                    completion.status = status;
                    completion.failure = Some(Box::new(failure));
                }
                _ => {
                    let failure = completion.failure.as_deref().cloned();
                    self.0 = failure.map(|failure| (completion.status, failure));
                }
            }
        }
        step
    }
}

/// Whether a write has failed.
#[derive(Default)]
struct RefusesReads(bool);

impl<F: HostFile> Defective<F> for RefusesReads {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step {
            let is_read = completion.request.operation == Operation::Read;
            if is_read && self.0 {
                completion.status = Status::IoError;
            }
            self.0 |= !is_read && completion.failure.is_some();
        }
        step
    }
}

#[derive(Default)]
struct AnotherError;

impl<F: HostFile> Defective<F> for AnotherError {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(Completion {
            status,
            failure: Some(failure),
            ..
        }) = &mut step
            && failure.error == HostError::NoSpace
        {
            (*status, failure.error) = (Status::IoError, HostError::Io);
        }
        step
    }
}
