//! A change of some bytes, and how it is answered when all that it takes has ended.

use std::sync::{Arc, OnceLock};

use driver::blk::Status;
use fuser::{ReplyEmpty, ReplyWrite};

use super::super::budget::Permit;
use super::errors;
use super::span::Span;

/// A change of some bytes.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) span: Span,
    pub(super) content: Content,
    /// Durable when it is answered.
    pub(super) fua: bool,
    pub(super) answer: Answer,
    pub(super) permit: Option<Permit>,
    pub(super) slot: Permit,
}

/// What bytes become.
#[derive(Debug)]
pub(super) enum Content {
    /// This, which is as long as they are.
    Data(Vec<u8>),
    /// Zeros.
    Zeros,
}

/// How a change is answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// With its length in bytes.
    Written(ReplyWrite, u32),
    /// With nothing.
    Done(ReplyEmpty),
}

impl Answer {
    pub(super) fn give(self, status: Status) {
        match (self, errors::of_status(status)) {
            (Answer::Written(reply, len), None) => reply.written(len),
            (Answer::Written(reply, _), Some(error)) => reply.error(error),
            (Answer::Done(reply), None) => reply.ok(),
            (Answer::Done(reply), Some(error)) => reply.error(error),
        }
    }
}

/// A change whose jobs are under way. It is answered when the last of them has ended.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) answer: Answer,
    pub(super) failed: OnceLock<Status>,
    pub(super) _slot: Permit,
}

impl Parts {
    /// One of them has ended.
    pub(super) fn ended(self: Arc<Parts>, status: Status) {
        if status != Status::Ok {
            // The first failure is told.
            let _ = self.failed.set(status);
        }
        if let Some(parts) = Arc::into_inner(self) {
            let status = parts.failed.get().copied().unwrap_or(Status::Ok);
            parts.answer.give(status);
        }
    }
}
