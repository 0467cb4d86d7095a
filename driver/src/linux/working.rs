//! The thread: one request at a time comes out of the pipe, and of it one host operation at a time.

use crate::blk::{self, Completion, HostFailure, Status};
use crate::host::{Action, FileRole, Finished, HostFile, Operation, Waiter};

use super::defects::Defect;
use super::host_half::{AskedOfHost, Failed, FailedPart, Work};
use super::kernel_half::{Plan, PlannedSegment};
use super::{Closing, LinuxUbd, Step};

/// What the next piece of work is.
pub(super) enum Next {
    Idle,
    /// A host operation has to be carried out.
    Operation(Operation),
    /// It needed no host operation, and was this.
    Done(Step),
}

impl<F: HostFile> LinuxUbd<F> {
    /// What comes next, if no host operation is under way.
    pub(super) fn next(&mut self) -> Next {
        if self.under_way {
            return Next::Idle;
        }
        if let Some(closing) = &self.closing {
            return match *closing {
                Closing::Ended(_) => Next::Idle,
                Closing::Syncs(role) => match self.host_half.sync(role) {
                    Ok(asked) => Next::Operation(self.operation(asked)),
                    Err(failed) => {
                        self.closing = Some(Closing::Ended(Some(failed.failure)));
                        Next::Idle
                    }
                },
            };
        }
        let mut work = match self.work.take() {
            Some(work) => work,
            None => match self.pipe.pop_front() {
                Some(plan) => self.host_half.begin(plan),
                None => return Next::Idle,
            },
        };
        if !work.is_done() {
            match self.host_half.next(&mut work) {
                Ok(Some(asked)) => {
                    self.work = Some(work);
                    return Next::Operation(self.operation(asked));
                }
                Ok(None) => {}
                Err(failed) => return Next::Done(self.fail(work, failed)),
            }
        }
        Next::Done(self.go_on(work))
    }

    /// A host operation, which is under way from now on.
    fn operation(&mut self, (file, action): AskedOfHost) -> Operation {
        self.operations += 1;
        self.under_way = true;
        let publishes = self.work.as_ref().is_some_and(Work::writes_words);
        self.statistics.bitmap_writes += u64::from(publishes);
        let syncs = file == FileRole::Cow && action == Action::SyncData;
        self.statistics.syncs += u64::from(syncs);
        Operation {
            waiter: Waiter(self.operations),
            file,
            action,
        }
    }

    /// How the host operation under way has ended.
    pub(super) fn ended(&mut self, finished: Finished) -> Step {
        let Finished { operation, result } = finished;
        // The device may have begun to close meanwhile.
        if !self.under_way || operation.waiter != Waiter(self.operations) {
            return Step::Working;
        }
        self.under_way = false;
        if let Some(Closing::Syncs(role)) = self.closing {
            let synced = self.host_half.synced(role, result);
            self.closing = Some(Closing::Ended(synced.err().map(|failed| failed.failure)));
            return Step::Working;
        }
        let Some(mut work) = self.work.take() else {
            return Step::Working;
        };
        match self.host_half.ended(&mut work, operation.action, result) {
            Ok(()) => self.go_on(work),
            Err(failed) => self.fail(work, failed),
        }
    }

    /// Goes on with work of which a part is done.
    fn go_on(&mut self, work: Work) -> Step {
        if !work.is_done() {
            self.work = Some(work);
            return Step::Working;
        }
        let status = work.plan.refused.unwrap_or(Status::Ok);
        self.complete(work.plan, status, None)
    }

    /// Ends a request that failed; what of its bits stays set is a matter of defects.
    fn fail(&mut self, work: Work, failed: Failed) -> Step {
        let Work {
            mut plan, segment, ..
        } = work;
        let defects = self.kernel_half.defects;
        let after_data = match plan.request.operation {
            blk::Operation::Discard => defects.contains(Defect::FailedDiscardLeavesBits),
            _ => defects.contains(Defect::ErrorLeavesBit),
        };
        let here = match failed.what {
            FailedPart::Data => after_data,
            FailedPart::Bitmap => defects.contains(Defect::BitmapWriteNeverRetried),
            FailedPart::Sync => false,
        };
        for (index, planned) in plan.segments.iter_mut().enumerate() {
            // Of the segments after it, none was begun.
            let stays = if index == segment { here } else { after_data };
            if stays {
                planned.fresh = 0;
            }
        }
        self.take_back(&mut plan.segments);
        let status = Status::from(&failed.failure.error);
        self.complete(plan, status, Some(Box::new(failed.failure)))
    }

    /// Clears bits that were set too early, and plans again what was planned with them.
    fn take_back(&mut self, segments: &mut [PlannedSegment]) {
        if segments.iter().all(|segment| segment.fresh == 0) {
            return;
        }
        self.kernel_half.take_back(segments);
        for plan in &mut self.pipe {
            self.kernel_half.take_back(&mut plan.segments);
        }
        for plan in &mut self.pipe {
            self.kernel_half.plan_again(plan);
        }
    }

    fn complete(&mut self, plan: Plan, status: Status, failure: Option<Box<HostFailure>>) -> Step {
        if plan.orphan {
            return Step::Working;
        }
        self.statistics.requests += 1;
        Step::Completed(Completion {
            request: plan.request,
            status,
            failure,
        })
    }
}
