//! What fails on a mounted directory: rules as the simulator has them ([`FaultRule`]), by which an
//! operation suffers a fault. What a program is told of it, and what it leaves, is the simulator's.

use std::path::Path;
use std::rc::Rc;

use driver::host::OperationKind;
use driver::units::{Bytes, FileOffset, FileRange};
use fuser::{Errno, FileAttr};

use super::known_names::KnownNames;
use super::mounted_tree::MountedTree;
use crate::sim::tree::TreeChange;
use crate::sim::{Call, Fault, FaultPlan, FaultRule, Injected, InodeNumber, RuleMet};

/// The rules, and what has failed by them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: FaultPlan,
    pub(super) names: KnownNames,
    injected: Vec<Injected>,
    asked: u64,
    /// How many bytes of a write were taken.
    shortened: Option<u32>,
}

/// What becomes of an operation.
#[derive(Debug)]
pub(super) enum Suffered {
    /// It is carried out.
    Nothing,
    /// This is carried out instead, if anything, and then it fails with this error, if any.
    Instead(Option<TreeChange>, Option<Errno>),
}

impl MountedTree {
    /// From now on operations fail by these rules. They count the operations from now on.
    pub fn fail_by(&mut self, rules: &[FaultRule]) {
        let plan = FaultPlan::at(rules.iter().cloned());
        self.faults = (!rules.is_empty()).then(|| Faults {
            plan,
            names: KnownNames::of(&self.tree),
            ..Faults::default()
        });
    }

    /// The faults that took place.
    pub fn injected(&self) -> &[Injected] {
        self.faults.as_ref().map_or(&[], |faults| &faults.injected)
    }

    /// What has come of the rules.
    pub fn rules_met(&self) -> &[RuleMet] {
        let faults = self.faults.as_ref();
        faults.map_or(&[], |faults| faults.plan.rules_met())
    }

    /// Whether a request that changes nothing is answered, which is about these bytes of a file.
    pub(super) fn may_look(
        &mut self,
        kind: OperationKind,
        node: InodeNumber,
        range: FileRange,
    ) -> Result<(), Errno> {
        match self.fault(kind, Some(node), None, range) {
            None => Ok(()),
            Some(fault) => Err(error_of(fault)),
        }
    }

    /// What the kernel is told of a node that somebody asks about.
    pub(super) fn look_at(&mut self, node: InodeNumber) -> Result<FileAttr, Errno> {
        self.may_look(OperationKind::Metadata, node, FileRange::default())?;
        self.attributes(node)
    }

    /// Opens a node that has a name.
    pub(super) fn open_named(&mut self, node: InodeNumber, durable: bool) -> Result<u64, Errno> {
        self.may_look(OperationKind::Open, node, FileRange::default())?;
        self.open(node, durable)
    }

    /// How much of a read is answered.
    pub(super) fn readable(&mut self, file: InodeNumber, at: u64, size: u32) -> Result<u32, Errno> {
        let range = FileRange::new(FileOffset(at), Bytes(u64::from(size)));
        match self.fault(OperationKind::Read, Some(file), None, range) {
            Some(Fault::ShortRead(count)) => {
                Ok(size.min(u32::try_from(count.max(1)).unwrap_or(u32::MAX)))
            }
            Some(_) => Err(Errno::EIO),
            None => Ok(size),
        }
    }

    /// How many bytes of the last write were taken, if they were not all.
    pub(super) fn take_shortened(&mut self) -> Option<u32> {
        self.faults.as_mut()?.shortened.take()
    }

    /// What becomes of a change.
    pub(super) fn suffers(&mut self, kind: OperationKind, change: &TreeChange) -> Suffered {
        if self.faults.is_none() {
            return Suffered::Nothing;
        }
        let (name, range) = (entry_of(change), change.range().unwrap_or_default());
        match self.fault(kind, change.subject(), name, range) {
            Some(fault) => self.suffered(fault, change),
            None => Suffered::Nothing,
        }
    }

    /// What takes the place of a change that suffers this.
    pub(super) fn suffered(&mut self, fault: Fault, change: &TreeChange) -> Suffered {
        match (fault, change) {
            (Fault::IoAfter, change) => Suffered::Instead(Some(change.clone()), Some(Errno::EIO)),
            (Fault::LyingSync, _) => Suffered::Instead(None, None),
            (Fault::FailedSync, TreeChange::SyncFile(file)) => {
                Suffered::Instead(Some(TreeChange::FailSync(*file)), Some(Errno::EIO))
            }
            (Fault::FailedSyncForSpace, TreeChange::SyncFile(file)) => {
                Suffered::Instead(Some(TreeChange::FailSync(*file)), Some(Errno::ENOSPC))
            }
            (Fault::ShortWrite(count), TreeChange::Write { file, at, data }) => {
                let count = data.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                if let Some(faults) = &mut self.faults {
                    faults.shortened = Some(count as u32);
                }
                let write = TreeChange::Write {
                    file: *file,
                    at: *at,
                    data: data[..count].into(),
                };
                Suffered::Instead((count > 0).then_some(write), None)
            }
            (Fault::InPart(count), TreeChange::PunchHole { file, range }) => {
                let range = FileRange::new(range.start, range.len.min(Bytes(count)));
                let punch = TreeChange::PunchHole { file: *file, range };
                Suffered::Instead((count > 0).then_some(punch), Some(Errno::EIO))
            }
            (fault, _) => Suffered::Instead(None, Some(error_of(fault))),
        }
    }

    /// What an operation suffers, which is counted. A change of names is about the `name`, and
    /// everything else about the file, by any name that it has.
    pub(super) fn fault(
        &mut self,
        kind: OperationKind,
        node: Option<InodeNumber>,
        name: Option<(InodeNumber, &std::ffi::OsStr)>,
        range: FileRange,
    ) -> Option<Fault> {
        let faults = self.faults.as_mut()?;
        let names: Vec<Rc<Path>> = match (name, node) {
            (Some((directory, name)), _) => vec![faults.names.path_of_name(directory, name)],
            (None, Some(node)) => faults.names.paths(node),
            (None, None) => vec![Path::new("").into()],
        };
        let mut call = Call::new(kind, names.first()?).on(range.start, range.len);
        (call.index, call.inode) = (faults.asked, node);
        faults.asked += 1;
        let (fault, name) = faults.plan.decide_by_any(&call, &names)?;
        call.path = name;
        faults.injected.push(Injected { call, fault });
        Some(fault)
    }
}

/// What is told of an operation that fails without an effect.
pub(super) fn error_of(fault: Fault) -> Errno {
    match fault {
        Fault::NoSpace => Errno::ENOSPC,
        Fault::Unsupported => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    }
}

/// The name that a change is about.
fn entry_of(change: &TreeChange) -> Option<(InodeNumber, &std::ffi::OsStr)> {
    match change {
        TreeChange::Create { name, .. }
        | TreeChange::Link { name, .. }
        | TreeChange::Remove(name)
        | TreeChange::Rename { from: name, .. } => Some((name.directory, &name.name)),
        _ => None,
    }
}
