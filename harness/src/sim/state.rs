//! What a simulated host consists of, and what one operation does to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use driver::host::{HostError, HostResult, LockKind, OperationKind, Replace};
use driver::units::{Bytes, FileRange};

use super::allowance::Spent;
use super::assumptions::Assumptions;
use super::call::{Call, LoggedCall};
use super::change::Change;
use super::content::FileContent;
use super::faults::{Fault, FaultPlan, Injected};
use super::host::SimHost;
use super::inode::Inode;
use super::mishearing::Mishearing;
use super::names::{NameChange, Names, directory_of};
use super::page::PAGE_SIZE;
use super::survivors::InodeNumber;

/// EXDEV: a rename from one directory to another, which the seam does not offer.
const CROSS_DEVICE: HostError = HostError::Os(18);

/// The state that all handles to a host share.
pub(crate) struct State {
    pub(crate) assumptions: Assumptions,
    pub(crate) inodes: BTreeMap<InodeNumber, Inode>,
    pub(crate) next_inode: u64,
    pub(crate) names: Names,
    /// The latest time that any file has had; on a host with a slow clock, the present time.
    pub(crate) clock: i64,
    pub(crate) capacity: Option<Bytes>,
    pub(crate) spent: Spent,
    pub(crate) log: Option<Vec<LoggedCall>>,
    locks: Vec<Lock>,
    pub(crate) next_description: u64,
    pub(crate) operations: u64,
    pub(crate) changes: u64,
    pub(crate) crash_before_operation: Option<u64>,
    pub(crate) crash_before_change: Option<u64>,
    pub(crate) crashed: bool,
    pub(crate) faults: Option<FaultPlan>,
    pub(crate) injected: Vec<Injected>,
    /// The host before each change, where that is kept.
    pub(crate) snapshots: Option<Vec<SimHost>>,
    /// What another process does, before the operation with this number.
    pub(crate) meanwhile: Option<(u64, Meanwhile)>,
    /// Of a snapshot: the write that came next, which a kill may cut short.
    pub(super) in_flight: Option<(InodeNumber, Change)>,
    /// What the program that runs on it mistakes.
    pub(super) mishearing: Mishearing,
    /// The name that it does not find when it looks for it next.
    pub(super) missed_name: Option<Rc<Path>>,
    /// The file that is taken for durable was written since its last sync.
    pub(super) has_written: bool,
    /// Writes that have failed and are still on their way.
    pub(super) late_writes: Vec<LateWrite>,
}

/// A write that has reported an error, and takes effect after the next change of its file.
#[derive(Clone)]
pub(super) struct LateWrite {
    pub(super) inode: InodeNumber,
    pub(super) index: u64,
    pub(super) write: Change,
}

/// What another process does between two operations of this one.
pub(crate) type Meanwhile = Box<dyn FnOnce(&SimHost)>;

/// A lock, held by an open description as OFD locks are: two opens of one file by one
/// process exclude each other too.
pub(crate) struct Lock {
    inode: InodeNumber,
    description: u64,
    kind: LockKind,
}

impl State {
    pub(crate) fn new(assumptions: Assumptions) -> Self {
        Self {
            assumptions,
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: Names::default(),
            clock: 0,
            capacity: None,
            spent: Spent::default(),
            log: None,
            locks: Vec::new(),
            next_description: 0,
            operations: 0,
            changes: 0,
            crash_before_operation: None,
            crash_before_change: None,
            crashed: false,
            faults: None,
            injected: Vec::new(),
            snapshots: None,
            meanwhile: None,
            in_flight: None,
            mishearing: Mishearing::default(),
            missed_name: None,
            has_written: false,
            late_writes: Vec::new(),
        }
    }

    pub(crate) fn inode(&self, inode: InodeNumber) -> &Inode {
        (self.inodes.get(&inode)).expect("a file that has a name or is open is kept")
    }

    pub(crate) fn inode_mut(&mut self, inode: InodeNumber) -> &mut Inode {
        (self.inodes.get_mut(&inode)).expect("a file that has a name or is open is kept")
    }

    /// How much of the start of the range there is space for.
    pub(crate) fn fitting(&self, inode: InodeNumber, range: FileRange) -> Bytes {
        let Some(capacity) = self.capacity else {
            return range.len;
        };
        let spare = capacity.0.saturating_sub(self.used().0) / PAGE_SIZE;
        self.inode(inode).current().fitting(range, spare)
    }

    pub(crate) fn used(&self) -> Bytes {
        let named = |number| self.names.iter().any(|(_, inode)| inode == number);
        let kept =
            (self.inodes.iter()).filter(|(number, inode)| inode.handles > 0 || named(**number));
        Bytes(kept.map(|(_, inode)| inode.current().allocated().0).sum())
    }

    pub(crate) fn new_inode(&mut self, path: &Rc<Path>, content: FileContent) -> InodeNumber {
        let number = InodeNumber(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(number, Inode::new(path, content));
        number
    }

    /// Carries out a change of a file's content, and after it the late writes to that file.
    pub(super) fn change(&mut self, inode: InodeNumber, index: u64, change: Change) {
        self.inode_mut(inode).change(index, change);
        let arrived: Vec<_> = (self.late_writes)
            .extract_if(.., |late| late.inode == inode)
            .collect();
        for late in arrived {
            self.inode_mut(inode).change(late.index, late.write);
        }
    }

    /// The file changes now, where there is a clock.
    pub(crate) fn touch(&mut self, inode: InodeNumber) {
        if !self.assumptions.steady_times {
            self.set_modified(inode, self.now());
        }
    }

    /// The time that a file gets which changes now.
    pub(crate) fn now(&self) -> i64 {
        match self.assumptions.slow_clock {
            true => self.clock,
            false => self.clock.saturating_add(1),
        }
    }

    pub(crate) fn set_modified(&mut self, inode: InodeNumber, seconds: i64) {
        if !self.assumptions.slow_clock {
            self.clock = self.clock.max(seconds);
        }
        let steady = self.assumptions.steady_times;
        let times = &mut self.inode_mut(inode).times;
        times.set(seconds);
        if steady {
            times.settle();
        }
    }

    /// The number of the operation, unless the host has crashed or does so now.
    pub(crate) fn pass_crash_point(&mut self, kind: OperationKind) -> HostResult<u64> {
        let (index, change) = (self.operations, self.changes);
        self.crashed |= self.crash_before_operation.is_some_and(|at| index >= at);
        self.crashed |= kind.is_change() && self.crash_before_change.is_some_and(|at| change >= at);
        if self.crashed {
            return Err(HostError::Io);
        }
        self.operations += 1;
        self.changes += u64::from(kind.is_change());
        Ok(index)
    }

    pub(crate) fn decide_fault(&mut self, call: &Call) -> Option<Fault> {
        let fault = self.faults.as_mut()?.decide(call)?;
        self.injected.push(Injected {
            call: call.clone(),
            fault,
        });
        Some(fault)
    }

    /// Releases what an open description held.
    pub(crate) fn close(&mut self, inode: InodeNumber, description: u64) {
        self.locks.retain(|lock| lock.description != description);
        self.inode_mut(inode).handles -= 1;
    }

    pub(crate) fn lock(
        &mut self,
        inode: InodeNumber,
        description: u64,
        kind: LockKind,
    ) -> HostResult<()> {
        let excludes = |lock: &Lock| {
            lock.inode == inode
                && lock.description != description
                && (kind == LockKind::Exclusive || lock.kind == LockKind::Exclusive)
        };
        if self.locks.iter().any(excludes) {
            return Err(HostError::Locked);
        }
        // A description holds one lock; taking another converts it.
        self.locks.retain(|lock| lock.description != description);
        self.locks.push(Lock {
            inode,
            description,
            kind,
        });
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        from: Rc<Path>,
        to: Rc<Path>,
        replace: Replace,
    ) -> HostResult<()> {
        let inode = self.names.get(&from).ok_or(HostError::NotFound)?;
        if directory_of(&from) != directory_of(&to) {
            return Err(CROSS_DEVICE);
        }
        let replaced = self.names.get(&to);
        if replaced.is_some() && replace == Replace::Nothing {
            return Err(HostError::AlreadyExists);
        }
        // Two names of one file, or one name twice: POSIX asks for nothing to be done.
        if replaced != Some(inode) {
            self.inode_mut(inode).path = Rc::clone(&to);
            self.names.change(NameChange::Rename { from, to, inode });
        }
        Ok(())
    }
}
