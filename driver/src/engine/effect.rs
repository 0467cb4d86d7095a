//! What becomes of a request whose operations end: it takes effect, and is complete or has to
//! become durable.

use crate::blk::{Completion, HostFailure, Operation as Asked, Request, Status};
use crate::host::{Action, FileRole, HostError, HostResult, Operation, OperationKind};
use crate::units::{FileOffset, SectorRange};

use super::Engine;
use super::begun::Slot;
use super::plan::Where;
use super::waiters::{operation_of_part, who};

/// What comes after the operations of a request.
pub(super) enum Effect {
    /// It is complete, with this status unless an operation failed.
    Complete(Status),
    /// It has to become durable.
    Publish,
}

impl Engine {
    /// An operation of a request's part has ended: the next one of it, or the end of the request.
    #[inline]
    pub(super) fn part_ended(&mut self, operation: Operation, result: HostResult<()>) {
        let Operation {
            waiter,
            file,
            action,
        } = operation;
        let (slot, part) = who(waiter);
        let failure = match result {
            Ok(()) => None,
            Err(error) => {
                if let (Action::ZeroRange(_), HostError::Unsupported) = (&action, &error)
                    && let Some(action) = action.instead()
                {
                    return self.ready.push_back(Operation {
                        waiter,
                        file,
                        action,
                    });
                }
                Some(self.host_failure(file, action.kind(), action.range().start, error))
            }
        };
        let place = Where {
            map: &self.map,
            placement: &self.placement,
        };
        let Some(begun) = self.requests.get_mut(slot) else {
            return;
        };
        if let Some((file, action)) = begun.go_on(part, action, failure, place) {
            return self
                .ready
                .push_back(operation_of_part(slot, part, file, action));
        }
        if begun.is_done() {
            if begun.failure.is_some() {
                self.in_parts.retain(|in_parts| *in_parts != slot);
            }
            self.took_effect(slot);
        }
    }

    /// All operations of a request have ended, so that it is complete or has to become durable.
    #[inline]
    pub(super) fn took_effect(&mut self, slot: Slot) {
        let Some(begun) = self.requests.get_mut(slot) else {
            return;
        };
        let (asked, range, failed) = (
            begun.request.operation,
            begun.range,
            begun.failure.is_some(),
        );
        match self.take_effect(asked, range, failed) {
            Effect::Complete(status) => self.end(slot, status),
            Effect::Publish => self.publish(slot),
        }
    }

    /// What a request asked for has been done, or has `failed`: what that changes here.
    #[inline]
    pub(super) fn take_effect(&mut self, asked: Asked, range: SectorRange, failed: bool) -> Effect {
        if asked.is_change() {
            self.durability.note_change();
        }
        if failed {
            return Effect::Complete(Status::Ok);
        }
        let durable = match asked {
            Asked::Write { fua } => {
                self.map.mark_dirty(range);
                fua || self.synchronous
            }
            Asked::WriteZeroes => {
                self.map.mark_dirty(range);
                self.synchronous
            }
            Asked::Flush => true,
            Asked::Read | Asked::Discard => false,
        };
        if durable && self.durability.failed {
            return Effect::Complete(Status::IoError);
        }
        let too_many = asked.is_change()
            && !self.durability.failed
            && self.map.has_more_changes_than(self.pending_words);
        match durable || too_many {
            true => Effect::Publish,
            false => Effect::Complete(Status::Ok),
        }
    }

    /// The next publication completes this request, which keeps nobody back any more.
    #[inline]
    pub(super) fn publish(&mut self, slot: Slot) {
        self.requests.took_effect(slot);
        self.to_publish.push(slot);
    }

    /// A request is complete.
    #[inline]
    pub(super) fn end(&mut self, slot: Slot, status: Status) {
        if let Some(begun) = self.requests.end(slot) {
            let completion = self.ended(begun.request, status, begun.failure);
            self.completed.push_back(completion);
        }
    }

    /// The completion of a request whose operations have ended. One of which one failed ends with
    /// that.
    #[inline]
    pub(super) fn ended(
        &mut self,
        request: Request,
        status: Status,
        failure: Option<Box<HostFailure>>,
    ) -> Completion {
        let status = match &failure {
            Some(failure) => Status::from(&failure.error),
            None => status,
        };
        self.completion(request, status, failure)
    }

    #[inline]
    pub(super) fn completion(
        &mut self,
        request: Request,
        status: Status,
        failure: Option<Box<HostFailure>>,
    ) -> Completion {
        self.statistics.requests += 1;
        Completion {
            request,
            status,
            failure,
        }
    }

    #[cold]
    pub(super) fn host_failure(
        &self,
        file: FileRole,
        kind: OperationKind,
        at: FileOffset,
        error: HostError,
    ) -> Box<HostFailure> {
        let role = match file {
            FileRole::Cow if self.placement.is_raw() => FileRole::RawDisk,
            file => file,
        };
        Box::new(HostFailure {
            kind,
            role,
            at,
            error,
        })
    }
}
