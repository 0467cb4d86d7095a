//! A simulated directory that is mounted: what is open in it, the log of its changes, and its
//! limits.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use driver::host::OperationKind;
use driver::units::{Bytes, FileRange};
use fuser::{Errno, FileAttr, Generation};

use super::faults::{Faults, Suffered, error_of};
use super::known_names::stood_for;
use super::translation::{attributes, errno};
use crate::clock::time_of_day;
use crate::sim::tree::{Moment, NodeKind, Recorded, Tree, TreeChange};
use crate::sim::{Fault, InodeNumber, PAGE_SIZE};

/// What a mounted directory may take. What exceeds it ends in ENOSPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and symbolic links.
    pub nodes: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Changes.
    pub changes: u64,
    /// Bytes of the changes: what is written, names and where symbolic links lead.
    pub logged: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            nodes: 100_000,
            bytes: 2 << 30,
            changes: 2_000_000,
            logged: 2 << 30,
        }
    }
}

/// A limit that a mounted directory has reached: which of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as the limits are")]
pub enum Limit {
    Nodes,
    Bytes,
    Changes,
    Logged,
}

/// What was asked for of a file or a name, and what came of it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was asked for.
    pub kind: OperationKind,
    /// Of which file.
    pub node: Option<InodeNumber>,
    /// The bytes of it that were asked for.
    pub range: FileRange,
    /// How many bytes a read has brought.
    pub read: u64,
    /// The change that was carried out, if one was.
    pub change: Option<TreeChange>,
    /// Linux's number of the error that was told.
    pub errno: Option<i32>,
}

/// What is open.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) node: InodeNumber,
    /// What is written through it is durable when it is answered.
    pub(super) durable: bool,
    /// Of a directory, what was in it when it was read from the front.
    pub(super) entries: Vec<(OsString, InodeNumber, NodeKind)>,
}

/// A simulated directory as whoever serves a mount has it.
pub struct MountedTree {
    pub(super) tree: Tree,
    pub(super) limits: Limits,
    generation: u64,
    handles: BTreeMap<u64, Handle>,
    last_handle: u64,
    log: Option<Vec<Recorded>>,
    /// How many changes there were, kept in the log or not: what is not durable is in memory.
    changes: u64,
    /// The bytes of these changes.
    logged: u64,
    reached: BTreeSet<Limit>,
    answered: Option<Vec<Answered>>,
    pub(super) faults: Option<Faults>,
}

impl MountedTree {
    /// Shows `tree`.
    pub fn new(tree: Tree, limits: Limits) -> MountedTree {
        MountedTree {
            tree,
            limits,
            generation: 0,
            handles: BTreeMap::new(),
            last_handle: 0,
            log: None,
            changes: 0,
            logged: 0,
            reached: BTreeSet::new(),
            answered: None,
            faults: None,
        }
    }

    /// Shows another directory from now on. Who still has something open of the one before gets
    /// errors.
    pub fn show(&mut self, tree: Tree) {
        self.tree = tree;
        self.generation += 1;
        self.handles.clear();
        self.log = None;
        self.answered = None;
        self.faults = None;
        self.reached.clear();
        (self.changes, self.logged) = (0, 0);
    }

    /// The directory as it is now.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Keeps all changes from now on, after these, of which the directory is made.
    pub fn record_after(&mut self, made_of: Vec<Recorded>) {
        self.changes = made_of.len() as u64;
        self.logged = made_of.iter().map(|made| made.change.payload()).sum();
        self.log = Some(made_of);
    }

    /// Keeps what is asked for from now on, reads among it.
    pub fn keep_answered(&mut self) {
        self.answered.get_or_insert_default();
    }

    /// What was asked for since this was called last. Empty without
    /// [`MountedTree::keep_answered`].
    pub fn take_answered(&mut self) -> Vec<Answered> {
        self.answered
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// A read of a file was answered.
    pub(super) fn note_read(
        &mut self,
        file: InodeNumber,
        range: FileRange,
        result: &Result<u64, Errno>,
    ) {
        if let Some(answered) = &mut self.answered {
            answered.push(Answered {
                kind: OperationKind::Read,
                node: Some(file),
                range,
                read: *result.as_ref().unwrap_or(&0),
                change: None,
                errno: result.as_ref().err().map(|error| error.code()),
            });
        }
    }

    /// Makes everything durable, as it becomes on an idle machine. Nobody asks for it, and so it
    /// has no limit.
    pub fn settle(&mut self) {
        // Of this one there is no failure.
        let _ = self.keep(OperationKind::SyncDirectory, TreeChange::Settle);
    }

    /// How many changes were kept.
    pub fn recorded(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.len() as u64)
    }

    /// The changes that were kept. No more are.
    pub fn take_log(&mut self) -> Vec<Recorded> {
        self.log.take().unwrap_or_default()
    }

    /// The limits for which something was refused since this was called last.
    pub fn take_reached(&mut self) -> BTreeSet<Limit> {
        std::mem::take(&mut self.reached)
    }

    /// Carries a change out and keeps it, unless it is to fail.
    pub(super) fn carry_out(
        &mut self,
        kind: OperationKind,
        change: TreeChange,
    ) -> Result<(), Errno> {
        self.carry_out_if(kind, change, |_, change| Ok(change))
    }

    /// As [`MountedTree::carry_out`], if what is carried out is `possible`, which may cut it to
    /// what there is room for. Rules have counted the operation before.
    pub(super) fn carry_out_if(
        &mut self,
        kind: OperationKind,
        change: TreeChange,
        possible: impl FnOnce(&mut MountedTree, TreeChange) -> Result<TreeChange, Errno>,
    ) -> Result<(), Errno> {
        let suffered = self.suffers(kind, &change);
        self.carry_out_as(kind, change, suffered, possible)
    }

    /// Carries the changes out that one request is made of, if there is room for all of them. Rules
    /// take it for one operation, on these bytes of the file, and it is noted as one. What fails
    /// takes the place of the first change; where all of it is done and then fails, of the last.
    pub(super) fn carry_out_all(
        &mut self,
        kind: OperationKind,
        (file, range): (InodeNumber, FileRange),
        changes: Vec<TreeChange>,
    ) -> Result<(), Errno> {
        let fault = self.fault(kind, Some(file), None, range);
        let noted_before = self.answered.as_ref().map_or(0, Vec::len);
        let result = self.carry_out_each(kind, fault, changes);
        if let Some(answered) = &mut self.answered {
            // What lies past the end of the file is asked for, and changes nothing.
            let all_of_it = match kind {
                OperationKind::Allocate => TreeChange::Reserve { file, range },
                _ => TreeChange::PunchHole { file, range },
            };
            let first = answered.drain(noted_before..).next();
            answered.push(Answered {
                kind,
                node: Some(file),
                range,
                read: 0,
                change: match result {
                    Ok(()) => Some(all_of_it),
                    Err(_) => first.and_then(|first| first.change),
                },
                errno: result.as_ref().err().map(|error| error.code()),
            });
        }
        result
    }

    fn carry_out_each(
        &mut self,
        kind: OperationKind,
        fault: Option<Fault>,
        changes: Vec<TreeChange>,
    ) -> Result<(), Errno> {
        let fails_at = match fault {
            None => None,
            Some(fault) if changes.is_empty() => return Err(error_of(fault)),
            Some(Fault::IoAfter) => Some(changes.len() - 1),
            Some(_) => Some(0),
        };
        if matches!(fault, None | Some(Fault::IoAfter)) {
            self.check_room_for(&changes)?;
        }
        for (place, change) in changes.into_iter().enumerate() {
            let suffered = match fault.filter(|_| fails_at == Some(place)) {
                Some(fault) => self.suffered(fault, &change),
                None => Suffered::Nothing,
            };
            self.carry_out_as(kind, change, suffered, |_, change| Ok(change))?;
        }
        Ok(())
    }

    /// Whether there is space for all that is to be allocated.
    fn check_room_for(&mut self, changes: &[TreeChange]) -> Result<(), Errno> {
        for change in changes {
            if let TreeChange::Reserve { file, range } = change
                && self.fitting(*file, *range)? < range.len.0
            {
                return Err(self.no_room(Limit::Bytes));
            }
        }
        Ok(())
    }

    /// Carries a change out, or what takes its place, if that is possible, and notes it.
    fn carry_out_as(
        &mut self,
        kind: OperationKind,
        change: TreeChange,
        suffered: Suffered,
        possible: impl FnOnce(&mut MountedTree, TreeChange) -> Result<TreeChange, Errno>,
    ) -> Result<(), Errno> {
        let asked = self.answered.is_some().then(|| change.clone());
        let (change, error) = match suffered {
            Suffered::Nothing => (Some(change), None),
            Suffered::Instead(change, error) => (change, error),
        };
        let done = match change {
            None => Ok(None),
            Some(change) => possible(self, change).and_then(|change| {
                let carried = asked.is_some().then(|| change.clone());
                self.do_and_keep(kind, change).map(|()| carried)
            }),
        };
        let (carried, result) = match done {
            Ok(carried) => (carried, error.map_or(Ok(()), Err)),
            Err(error) => (None, Err(error)),
        };
        if let (Some(asked), Some(answered)) = (asked, &mut self.answered) {
            answered.push(Answered {
                kind,
                node: asked.subject(),
                range: asked.range().unwrap_or_default(),
                read: 0,
                change: carried,
                errno: result.as_ref().err().map(|error| error.code()),
            });
        }
        result
    }

    /// Carries a change out and keeps it, within the limits.
    fn do_and_keep(&mut self, kind: OperationKind, change: TreeChange) -> Result<(), Errno> {
        if self.changes >= self.limits.changes {
            return Err(self.no_room(Limit::Changes));
        }
        let logged = self.logged.saturating_add(change.payload());
        if logged > self.limits.logged {
            return Err(self.no_room(Limit::Logged));
        }
        self.keep(kind, change)
    }

    /// Carries a change out and keeps it.
    fn keep(&mut self, kind: OperationKind, change: TreeChange) -> Result<(), Errno> {
        let kept = self.recorded();
        let at = Moment::of(time_of_day());
        let faults = self.faults.as_ref();
        let before = faults.map(|_| stood_for(&self.tree, &change));
        self.tree
            .carry_out(kept, at, &change)
            .map_err(|error| errno(&error))?;
        if let (Some(faults), Some(before)) = (&mut self.faults, before) {
            faults.names.follow(&self.tree, before);
        }
        self.changes += 1;
        self.logged += change.payload();
        let is_sync = change.makes_names_durable();
        if let Some(log) = &mut self.log {
            log.push(Recorded { kind, at, change });
        }
        if is_sync {
            self.tree.forget_lost(|_| false);
        }
        Ok(())
    }

    /// A write of as many of the first bytes as there is space for.
    pub(super) fn fitting_write(&mut self, change: TreeChange) -> Result<TreeChange, Errno> {
        let TreeChange::Write { file, at, mut data } = change else {
            return Ok(change);
        };
        let range = FileRange::new(at, Bytes(data.len() as u64));
        let fitting = self.fitting(file, range)? as usize;
        if fitting < data.len() {
            data = data[..fitting].into();
        }
        Ok(TreeChange::Write { file, at, data })
    }

    /// How many of the first bytes of a range there is space for.
    fn fitting(&mut self, file: InodeNumber, range: FileRange) -> Result<u64, Errno> {
        let spare = self.limits.bytes.saturating_sub(self.tree.allocated()) / PAGE_SIZE;
        let content = self.tree.content(file).map_err(|error| errno(&error))?;
        let fitting = content.fitting(range, spare).0;
        // A program may take it for an error that less was written than it asked for.
        let no_space = (fitting < range.len.0).then(|| self.no_room(Limit::Bytes));
        match no_space {
            Some(no_space) if fitting == 0 => Err(no_space),
            _ => Ok(fitting),
        }
    }

    /// Whether one more file may be made.
    pub(super) fn check_room_for_a_node(&mut self) -> Result<(), Errno> {
        match self.tree.node_count() < self.limits.nodes {
            true => Ok(()),
            false => Err(self.no_room(Limit::Nodes)),
        }
    }

    pub(super) fn no_room(&mut self, limit: Limit) -> Errno {
        self.reached.insert(limit);
        Errno::ENOSPC
    }

    /// Opens a node; its number as long as it is open.
    pub(super) fn open(&mut self, node: InodeNumber, durable: bool) -> Result<u64, Errno> {
        self.tree.open(node).map_err(|error| errno(&error))?;
        self.last_handle += 1;
        let handle = Handle {
            node,
            durable,
            entries: Vec::new(),
        };
        self.handles.insert(self.last_handle, handle);
        Ok(self.last_handle)
    }

    pub(super) fn handle(&mut self, number: u64) -> Result<&mut Handle, Errno> {
        self.handles.get_mut(&number).ok_or(Errno::EBADF)
    }

    /// Nobody uses it any more. Of a directory that is no longer shown nothing is known.
    pub(super) fn close(&mut self, number: u64) {
        if let Some(handle) = self.handles.remove(&number) {
            self.tree.close(handle.node);
        }
    }

    /// What the kernel is told of a node.
    pub(super) fn attributes(&self, node: InodeNumber) -> Result<FileAttr, Errno> {
        let found = self.tree.stat(node).map_err(|error| errno(&error))?;
        Ok(attributes(node, &found))
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation)
    }
}
