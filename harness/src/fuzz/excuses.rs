//! What an injected fault excuses: the piece of work that it hits, with its own error, and
//! afterwards what its documented consequences refuse. Anything else that fails is a violation,
//! also on a host that has failed before.
//!
//! | rule | fault | what fails from then on, until the device is opened again |
//! |---|---|---|
//! | nothing is durable | a sync of the COW file fails | flushes, FUA writes, resizes, closing |
//! | the name is not durable | a sync of its directory fails during a resize | the same |
//! | the header is not known | a write to header or journal fails during a resize | the same, and every write |
//! | the journal is not known | a sync of the COW file fails during a resize | the same, and every write |
//!
//! The models of the kernels' drivers and of the resizes of 2003 have consequences that nobody has
//! documented. For them, any fault excuses any failure after it.

use std::path::Path;

use driver::blk::{HostFailure, Operation, Status};
use driver::cow::JournalRecord;
use driver::host::HostError;
use driver::ordered::CloseError;
use driver::resize::ResizeError;

use crate::sim::{Fault, Injected, OperationKind, SimHost};

use super::case::{Case, DriverName};
use super::device::{BACKING, OTHER_BACKING, THIRD_BACKING};

/// What a life is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Opening, serving a request or closing.
    Usual,
    /// A step of a resize.
    Resize,
}

/// What the faults of a life excuse.
#[derive(Clone, Debug)]
pub(super) struct Excuses {
    /// Any fault excuses everything after it.
    any: bool,
    /// The device has flag `s`: every write asks for what FUA asks for.
    synchronous: bool,
    /// The operation of the host that the current piece of work began with.
    began: u64,
    work: Work,
    nothing_is_durable: bool,
    takes_no_writes: bool,
}

impl Excuses {
    /// The excuses of a life of this case, before its first operation.
    pub(super) fn of(case: &Case, synchronous: bool) -> Excuses {
        Excuses {
            any: case.driver != DriverName::Ordered || case.resize_model().is_some(),
            synchronous,
            began: 0,
            work: Work::Usual,
            nothing_is_durable: false,
            takes_no_writes: false,
        }
    }

    /// A piece of work begins. What the one before has suffered has its consequences from now on.
    pub(super) fn begin(&mut self, host: &SimHost, work: Work) {
        if host.has_failed() {
            for injected in self.of_this_work(host) {
                self.take_consequences(&injected);
            }
        }
        (self.began, self.work) = (host.operations(), work);
    }

    fn of_this_work(&self, host: &SimHost) -> Vec<Injected> {
        let mut injected = host.injected();
        injected.retain(|injected| injected.index >= self.began);
        injected
    }

    fn take_consequences(&mut self, injected: &Injected) {
        let in_resize = self.work == Work::Resize;
        // A file that a rebuild has made goes on under its temporary name in what is injected.
        let is_backing = |path| &*injected.path == Path::new(path);
        let is_cow = ![BACKING, OTHER_BACKING, THIRD_BACKING]
            .into_iter()
            .any(is_backing);
        if error_of(injected.fault).is_none() {
            return;
        }
        match injected.kind {
            OperationKind::SyncData if is_cow => {
                self.nothing_is_durable = true;
                self.takes_no_writes |= in_resize;
            }
            OperationKind::SyncDirectory if in_resize => self.nothing_is_durable = true,
            OperationKind::Write if is_cow && in_resize => {
                let end = JournalRecord::slots_offset().0 + JournalRecord::SLOTS_LEN as u64;
                if injected.range.start.0 < end {
                    (self.nothing_is_durable, self.takes_no_writes) = (true, true);
                }
            }
            _ => {}
        }
    }

    /// Whether a fault in the current piece of work, or in an earlier one if that is enough, gives
    /// an error that is in these words.
    pub(super) fn has_said(&self, host: &SimHost, words: &str) -> bool {
        let injected = self.of_this_work(host);
        self.anything(host)
            || (injected.iter())
                .filter_map(|injected| error_of(injected.fault))
                .any(|error| words.contains(&error.to_string()))
    }

    /// Whether a request of this kind may have ended so in the current piece of work.
    pub(super) fn request(
        &self,
        host: &SimHost,
        operation: Operation,
        status: Status,
        failure: Option<&HostFailure>,
    ) -> bool {
        let has_said = |error: &HostError| {
            let mut injected = self.of_this_work(host).into_iter();
            injected.any(|injected| error_of(injected.fault).as_ref() == Some(error))
        };
        let refused = status == Status::IoError
            && match operation {
                Operation::Read => false,
                Operation::Flush => self.nothing_is_durable,
                Operation::Write { fua: true } => self.takes_no_writes || self.nothing_is_durable,
                Operation::Write { fua: false } | Operation::WriteZeroes => {
                    self.takes_no_writes || self.synchronous && self.nothing_is_durable
                }
                Operation::Discard => self.takes_no_writes,
            };
        self.anything(host)
            || match failure {
                Some(failure) => Status::from(&failure.error) == status && has_said(&failure.error),
                None => refused,
            }
    }

    /// Whether an image tool may have failed in the current piece of work: it asks much of the host
    /// in one go, and says of some of it only that a request has failed.
    pub(super) fn tool(&self, host: &SimHost) -> bool {
        self.has_failed_now(host)
    }

    /// Whether a step of a resize may have ended so.
    pub(super) fn resize(&self, host: &SimHost, error: &ResizeError) -> bool {
        self.anything(host)
            || match error {
                ResizeError::Host { error, .. } => self.has_said(host, &error.to_string()),
                ResizeError::SyncFailed => self.nothing_is_durable || self.has_failed_now(host),
                ResizeError::Refused(why) => self.takes_no_writes || self.has_said(host, why),
            }
    }

    /// Whether closing may have ended with these words.
    pub(super) fn close(&self, host: &SimHost, words: &str) -> bool {
        let refused = self.nothing_is_durable && words == CloseError::SyncFailed.to_string();
        refused || self.has_said(host, words)
    }

    fn has_failed_now(&self, host: &SimHost) -> bool {
        !self.of_this_work(host).is_empty()
    }

    fn anything(&self, host: &SimHost) -> bool {
        self.any && host.has_failed()
    }
}

/// The error that whoever suffers such a fault is told; none if it can go on.
fn error_of(fault: Fault) -> Option<HostError> {
    match fault {
        Fault::Io | Fault::IoAfter | Fault::InPart(_) | Fault::FailedSync => Some(HostError::Io),
        Fault::NoSpace => Some(HostError::NoSpace),
        Fault::Unsupported => Some(HostError::Unsupported),
        Fault::ShortWrite(0) => Some(HostError::WroteNothing),
        Fault::ShortWrite(_) | Fault::ShortRead(_) | Fault::LyingSync => None,
    }
}
