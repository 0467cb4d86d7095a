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
//! | the name is not known | a rename reports an error, and so does the look at the name after it | the same, and every write |
//! | the length is not known | a cut of a raw disk reports an error, and so does the look at its length | the same, and every write |
//!
//! The COW file is the one that has the name when the piece of work begins: what befalls the new
//! file of a rebuild befalls the rebuild alone.
//!
//! A transfer that is short excuses nothing: no call fails by it, and whoever asks for the rest
//! gets it. What is left behind by work that is reported as done is excused by faults of that work
//! alone, and a file beside the image only by a fault that names it.
//!
//! An image tool ends with the error of a fault, or with what a failed sync refuses.
//!
//! A resize may end with the error of a fault that came at any time since it began, for it puts
//! things back before it says so. Where its operations go side by side with those of requests, they
//! take effect in any piece of work.
//!
//! A request of a kernel's model may fail if the host has failed since it was submitted, whatever
//! the error. The models remember only that a sync of the COW file has failed, and report that for
//! whatever has to be durable. The models of the resizes of 2003 have consequences that nobody has
//! documented. For them, any fault excuses any failure after it, a short transfer too.

use std::path::Path;

use driver::blk::{HostFailure, Operation, Status};
use driver::host::{HostError, OperationKind};
use driver::ordered::CloseError;
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset};

use crate::plain_format::JOURNAL_END;
use crate::sim::{Fault, Injected, InodeNumber, SimHost};

use super::case::{Case, DriverName, Life};
use super::paths::COW;

/// What a life is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Opening, serving a request or closing.
    Usual,
    /// A step of a resize.
    Resize,
}

/// Whose consequences of a fault are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Those of `ordered` and userhelper: as documented.
    Documented,
    /// Those of a kernel's model, of which only a failed sync lasts.
    Kernel,
    /// Those of a model of 2003's resizes: any fault excuses everything after it.
    Nothing,
}

/// A resize under way.
#[derive(Clone, Copy, Debug)]
struct Resizing {
    /// The operation of the host that it began with.
    began: u64,
    /// Its operations go side by side with those of requests.
    side_by_side: bool,
}

/// What the faults of a life excuse.
#[derive(Clone, Debug)]
pub(super) struct Excuses {
    known: Known,
    /// The COW file when the current piece of work began.
    cow: Option<InodeNumber>,
    /// The device has flag `s`: every write asks for what FUA asks for.
    synchronous: bool,
    /// The operation of the host that the current piece of work began with.
    began: u64,
    work: Work,
    /// The resize under way.
    resizing: Option<Resizing>,
    nothing_is_durable: bool,
    takes_no_writes: bool,
}

impl Excuses {
    /// The excuses of a life of this case, before its first operation.
    pub(super) fn of(case: &Case, life: Option<&Life>) -> Excuses {
        Excuses {
            known: match case.driver {
                _ if case.resize_model().is_some() => Known::Nothing,
                DriverName::Ordered => Known::Documented,
                DriverName::Linux612 | DriverName::Linux26 => Known::Kernel,
            },
            cow: None,
            synchronous: life.is_some_and(|life| life.synchronous),
            began: 0,
            work: Work::Usual,
            resizing: None,
            nothing_is_durable: false,
            takes_no_writes: false,
        }
    }

    /// A piece of work begins. What the one before has suffered has its consequences from now on.
    pub(super) fn begin(&mut self, host: &SimHost, work: Work) {
        let suffered = host.failures_since(self.began);
        if !suffered.is_empty() {
            for injected in &suffered {
                self.take_consequences(injected);
            }
            let beside = self.resizing.filter(|resizing| resizing.side_by_side);
            let together = beside.map_or(suffered, |resizing| host.failures_since(resizing.began));
            let has_failed = |kind| together.iter().any(|injected| injected.call.kind == kind);
            let unknown = [
                (OperationKind::Rename, OperationKind::Open),
                (OperationKind::Rename, OperationKind::Metadata),
                (OperationKind::SetLen, OperationKind::Len),
            ];
            let is_unknown = |(change, look)| has_failed(change) && has_failed(look);
            if self.is_in_resize() && unknown.into_iter().any(is_unknown) {
                (self.nothing_is_durable, self.takes_no_writes) = (true, true);
            }
        }
        (self.began, self.work) = (host.operations(), work);
        self.cow = host.inode(COW);
    }

    /// A resize has begun.
    pub(super) fn begin_resize(&mut self, host: &SimHost, side_by_side: bool) {
        let began = host.operations();
        self.resizing = Some(Resizing {
            began,
            side_by_side,
        });
    }

    /// It has ended, and the last of its steps is the current piece of work.
    pub(super) fn end_resize(&mut self) {
        self.resizing = None;
    }

    /// Whether what happens in the current piece of work may happen to a resize.
    fn is_in_resize(&self) -> bool {
        let beside = self.resizing.is_some_and(|resizing| resizing.side_by_side);
        self.work == Work::Resize || beside
    }

    /// The faults since the resize under way began; if there is none, of the current piece of work.
    /// Short transfers are left out.
    pub(super) fn of_this_resize(&self, host: &SimHost) -> Vec<Injected> {
        host.failures_since(self.resizing.map_or(self.began, |it| it.began))
    }

    fn of_this_work(&self, host: &SimHost) -> Vec<Injected> {
        host.failures_since(self.began)
    }

    fn take_consequences(&mut self, injected: &Injected) {
        let in_resize = self.is_in_resize();
        let is_cow = injected.call.inode.is_some() && injected.call.inode == self.cow;
        let is_of_header_or_journal = injected.call.range.start.0 < JOURNAL_END;
        if injected.fault.error().is_none() {
            return;
        }
        match injected.call.kind {
            OperationKind::SyncData if is_cow => {
                self.nothing_is_durable = true;
                self.takes_no_writes |= in_resize;
            }
            OperationKind::SyncDirectory if in_resize => self.nothing_is_durable = true,
            OperationKind::Write if is_cow && in_resize && is_of_header_or_journal => {
                (self.nothing_is_durable, self.takes_no_writes) = (true, true);
            }
            _ => {}
        }
    }

    /// Whether a fault in the current piece of work, or in an earlier one if that is enough, gives
    /// an error that is in these words.
    pub(super) fn has_said(&self, host: &SimHost, words: &str) -> bool {
        self.anything(host) || one_says(&self.of_this_work(host), words)
    }

    /// Whether a request of this kind may have ended so. It was submitted when the host had carried
    /// out `submitted` operations, and has this length. The fault may have come at any time since
    /// then, for one fault can end several requests, and an operation can end later than it takes
    /// effect; but it has to be in an operation of the kind, and at the place, of which the failure
    /// tells.
    pub(super) fn request(
        &self,
        host: &SimHost,
        (submitted, len): (u64, Bytes),
        operation: Operation,
        status: Status,
        failure: Option<&HostFailure>,
    ) -> bool {
        let is_of_a_fault = |failure: &HostFailure| {
            let at = failure.at;
            let is_there = |start: FileOffset| at <= start && start <= at + len;
            let mut injected = host.injected_since(submitted).into_iter();
            injected.any(|injected| {
                gives(&injected, failure.kind, &failure.error)
                    && is_there(injected.call.range.start)
            })
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
        let of_a_kernel =
            self.known == Known::Kernel && (refused || !host.injected_since(submitted).is_empty());
        self.anything(host)
            || of_a_kernel
            || match failure {
                Some(failure) => Status::from(&failure.error) == status && is_of_a_fault(failure),
                None => refused,
            }
    }

    /// Whether an image tool may have ended with these words in the current piece of work. Where a
    /// request was refused for a sync that has failed, they say only that it has failed.
    pub(super) fn tool(&self, host: &SimHost, words: &str) -> bool {
        let faults = self.of_this_work(host);
        let refusals = [
            ResizeError::SyncFailed.to_string(),
            CloseError::SyncFailed.to_string(),
            format!("{:?}", Status::IoError),
        ];
        let is_refused = refusals.iter().any(|refusal| words.ends_with(refusal));
        one_says(&faults, words) || is_refused && faults.iter().any(is_failed_sync)
    }

    /// Whether a fault in the current piece of work keeps what it has reported as done from being
    /// there: a sync that lies, or space that the host did not take back, which no work fails for.
    pub(super) fn voids_promises(&self, host: &SimHost) -> bool {
        self.of_this_work(host).iter().any(|injected| {
            let gives_back = matches!(
                injected.call.kind,
                OperationKind::PunchHole | OperationKind::ZeroRange | OperationKind::SetLen
            );
            injected.fault == Fault::LyingSync || gives_back
        })
    }

    /// Whether a fault in the current piece of work explains that this file is left.
    pub(super) fn leaves(&self, host: &SimHost, path: &Path) -> bool {
        one_names(&self.of_this_work(host), path)
    }

    /// Whether a resize may have ended so.
    pub(super) fn resize(&self, host: &SimHost, error: &ResizeError) -> bool {
        let faults = self.of_this_resize(host);
        self.anything(host)
            || match error {
                ResizeError::Host { kind, error, .. } => one_gives(&faults, *kind, error),
                ResizeError::SyncFailed => {
                    self.nothing_is_durable || faults.iter().any(is_failed_sync)
                }
                ResizeError::Refused(_) => self.takes_no_writes,
                ResizeError::Abandoned => false,
            }
    }

    /// Whether closing may have ended with these words.
    pub(super) fn close(&self, host: &SimHost, words: &str) -> bool {
        let refused = match self.known {
            Known::Kernel => true,
            _ => words == CloseError::SyncFailed.to_string(),
        };
        self.nothing_is_durable && refused || self.has_said(host, words)
    }

    fn has_failed_now(&self, host: &SimHost) -> bool {
        !host.injected_since(self.began).is_empty()
    }

    /// Whether a resize that has ended with this error must have put back what was there: the fault
    /// that has ended it is the only one since it began. A resize can be refused for a fault that
    /// came before it, or be given up, and then one fault has hit the putting back.
    pub(super) fn must_be_undone(&self, host: &SimHost, error: &ResizeError) -> bool {
        let without_a_fault = match error {
            ResizeError::Host { .. } => false,
            ResizeError::SyncFailed => self.nothing_is_durable,
            ResizeError::Refused(_) => self.takes_no_writes,
            ResizeError::Abandoned => true,
        };
        self.of_this_resize(host).len() == usize::from(!without_a_fault)
    }

    /// Whether whatever has failed in the current piece of work may have.
    fn anything(&self, host: &SimHost) -> bool {
        match self.known {
            Known::Documented => false,
            Known::Kernel => self.has_failed_now(host),
            Known::Nothing => !host.injected().is_empty(),
        }
    }
}

/// Whether the error that one of these faults gives is in these words.
fn one_says(faults: &[Injected], words: &str) -> bool {
    (faults.iter())
        .filter_map(|injected| injected.fault.error())
        .any(|error| words.contains(&error.to_string()))
}

/// Whether one of these faults makes an operation of this kind fail with this error.
fn one_gives(faults: &[Injected], kind: OperationKind, error: &HostError) -> bool {
    faults.iter().any(|injected| gives(injected, kind, error))
}

fn gives(injected: &Injected, kind: OperationKind, error: &HostError) -> bool {
    injected.call.kind == kind && injected.fault.error().as_ref() == Some(error)
}

/// Whether one of these faults was in an operation on the file of this name.
pub(super) fn one_names(faults: &[Injected], path: &Path) -> bool {
    faults.iter().any(|injected| {
        let to = injected.call.to.as_deref();
        *injected.call.path == *path || to == Some(path)
    })
}

/// Whether it is a sync that has reported an error.
fn is_failed_sync(injected: &Injected) -> bool {
    let is_sync = matches!(
        injected.call.kind,
        OperationKind::SyncData | OperationKind::SyncDirectory
    );
    is_sync && injected.fault.error().is_some()
}

#[cfg(test)]
mod tests {
    use driver::host::{Access, HostError, HostFile, HostNames};

    use super::super::generate::{Subject, generate};
    use super::*;
    use crate::sim::{FaultPlan, FaultRule, FileContent};

    /// A host with a COW file and a new one, whose first sync fails.
    fn host_that_fails(path: &str) -> SimHost {
        let host = SimHost::default();
        host.install(COW, FileContent::from_bytes(&[1; 512]));
        host.install("/disk/new", FileContent::from_bytes(&[2; 512]));
        let rule = FaultRule::nth(path, OperationKind::SyncData, 0, Fault::FailedSync);
        host.set_faults(FaultPlan::at([rule]));
        host
    }

    fn sync(host: &SimHost, path: &str) {
        let file = host.open(path.as_ref(), Access::ReadWrite).unwrap();
        assert_eq!(file.sync_data(), Err(HostError::Io));
    }

    fn excuses(driver: DriverName) -> Excuses {
        Excuses::of(&generate(1, &Subject::healthy(driver)), None)
    }

    fn flush(excuses: &Excuses, host: &SimHost, submitted: u64) -> bool {
        excuses.request(
            host,
            (submitted, Bytes(0)),
            Operation::Flush,
            Status::IoError,
            None,
        )
    }

    #[test]
    fn a_failed_sync_refuses_flushes_if_it_was_the_cow_file_s_and_not_a_new_one_s() {
        for (path, refused) in [(COW, true), ("/disk/new", false)] {
            let (host, mut excuses) = (host_that_fails(path), excuses(DriverName::Ordered));
            excuses.begin(&host, Work::Resize);
            sync(&host, path);
            excuses.begin(&host, Work::Usual);
            assert_eq!(flush(&excuses, &host, host.operations()), refused, "{path}");
        }
    }

    fn syncing_failed() -> ResizeError {
        let doing = "syncing the COW file";
        ResizeError::host(OperationKind::SyncData, doing, FileOffset(0))(HostError::Io)
    }

    /// The resize is refused, or ends with an error of its own; then what it puts back is hit.
    #[test]
    fn a_resize_is_undone_unless_another_fault_than_the_one_that_ended_it_hits_it() {
        let ended = syncing_failed();
        for (error, refused) in [(ResizeError::SyncFailed, true), (ended, false)] {
            let (host, mut excuses) = (host_that_fails(COW), excuses(DriverName::Ordered));
            let punch = FaultRule::nth(COW, OperationKind::PunchHole, 0, Fault::Io);
            host.add_faults(&[punch]);
            excuses.begin(&host, Work::Resize);
            sync(&host, COW);
            if refused {
                excuses.begin(&host, Work::Resize);
            }
            assert!(excuses.must_be_undone(&host, &error), "{error}");
            let file = host.open(COW.as_ref(), Access::ReadWrite).unwrap();
            let range = driver::units::FileRange::new(FileOffset(0), Bytes(512));
            assert_eq!(file.punch_hole(range), Err(HostError::Io));
            assert!(!excuses.must_be_undone(&host, &error), "{error}");
        }
    }

    #[test]
    fn a_failed_request_is_of_a_fault_of_its_kind() {
        let excuses = excuses(DriverName::Ordered);
        let host = host_that_fails("/disk/new");
        let punch = FaultRule::nth(COW, OperationKind::PunchHole, 0, Fault::Io);
        host.add_faults(&[punch]);
        let file = host.open(COW.as_ref(), Access::ReadWrite).unwrap();
        let range = driver::units::FileRange::new(FileOffset(0), Bytes(512));
        assert_eq!(file.punch_hole(range), Err(HostError::Io));
        for kind in OperationKind::ALL {
            let failure = HostFailure {
                kind,
                role: driver::host::FileRole::Cow,
                at: FileOffset(0),
                error: HostError::Io,
            };
            let is_excused = excuses.request(
                &host,
                (0, Bytes(512)),
                Operation::Discard,
                Status::IoError,
                Some(&failure),
            );
            assert_eq!(is_excused, kind == OperationKind::PunchHole, "{kind}");
        }
    }

    #[test]
    fn a_resize_fails_with_the_error_of_a_fault_of_its_kind_and_is_not_refused_with_its_words() {
        let (host, mut excuses) = (host_that_fails(COW), excuses(DriverName::Ordered));
        excuses.begin(&host, Work::Resize);
        assert!(!excuses.resize(&host, &syncing_failed()), "no fault yet");
        sync(&host, COW);
        for kind in OperationKind::ALL {
            for error in [HostError::Io, HostError::NoSpace] {
                let is_of_the_fault = kind == OperationKind::SyncData && error == HostError::Io;
                let failed = ResizeError::host(kind, "resizing", FileOffset(0))(error);
                let is_excused = excuses.resize(&host, &failed);
                assert_eq!(is_excused, is_of_the_fault, "{kind}: {failed}");
            }
        }
        let refused = ResizeError::Refused(syncing_failed().to_string());
        assert!(!excuses.resize(&host, &refused));
    }

    #[test]
    fn a_kernel_s_request_fails_only_if_the_host_has_since_it_was_submitted() {
        let (host, mut excuses) = (host_that_fails("/disk/new"), excuses(DriverName::Linux612));
        let before = host.operations();
        excuses.begin(&host, Work::Usual);
        sync(&host, "/disk/new");
        excuses.begin(&host, Work::Usual);
        let after = host.operations();
        assert!(flush(&excuses, &host, before));
        assert!(!flush(&excuses, &host, after));
        assert!(!excuses.close(&host, &HostError::Io.to_string()));
    }
}
