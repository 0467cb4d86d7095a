//! What a crash leaves of a simulated directory.

use std::collections::{BTreeMap, BTreeSet};

use driver::host::HostResult;
use serde::{Deserialize, Serialize};

use super::super::change::Change;
use super::super::inode::Inode;
use super::super::survivors::{
    BadSurvivors, InodeNumber, Survival, Unsynced, UnsyncedFile, UnsyncedOperation,
};
use super::carry_out::{ROOT, Tree};
use super::change::TreeChange;
use super::names::in_order;
use super::node::{Body, Node};

/// What is at stake when the power goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtStake {
    /// The changes of files, in the simulator's own words. It has no names.
    pub files: Unsynced,
    /// The numbers of the changes of names, oldest first.
    pub names: Vec<u64>,
}

/// What survives of it: a decision for each. What is not mentioned is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeSurvivors {
    /// Of the changes of each file, in their order.
    pub files: BTreeMap<InodeNumber, Vec<Survival>>,
    /// Of the changes of names, in their order.
    pub names: Vec<bool>,
}

impl AtStake {
    /// The numbers of all changes at stake, in order.
    pub fn indices(&self) -> Vec<u64> {
        let of_files = self.files.files.iter().flat_map(|file| &file.operations);
        let of_files = of_files.map(|operation| operation.index);
        let mut all: Vec<u64> = of_files.chain(self.names.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// What survives if `fate` says so of the change of each number.
    pub fn survivors(&self, mut fate: impl FnMut(u64) -> bool) -> TreeSurvivors {
        let mut decide = |operation: &UnsyncedOperation| match fate(operation.index) {
            true => Survival::Whole,
            false => Survival::Lost,
        };
        let files = self.files.files.iter();
        let files = files.map(|file| {
            let decided = file.operations.iter().map(&mut decide);
            (file.inode, decided.collect())
        });
        TreeSurvivors {
            files: files.collect(),
            names: self.names.iter().map(|&index| fate(index)).collect(),
        }
    }
}

impl Tree {
    /// What a power cut would put at stake now.
    pub fn at_stake(&self) -> AtStake {
        let named = self.may_be_named();
        let files = self.nodes.iter().filter_map(|(&inode, node)| {
            let file = node.file().ok()?;
            let operations = file.unsynced(&self.assumptions);
            let matters = !operations.is_empty() && named.contains(&inode);
            matters.then(|| UnsyncedFile {
                inode,
                path: std::rc::Rc::clone(&file.path),
                operations,
            })
        });
        AtStake {
            files: Unsynced {
                files: files.collect(),
                directories: Vec::new(),
                times: BTreeMap::new(),
                ordered_names: self.assumptions.ordered_names,
            },
            names: self.events.iter().map(|event| event.index).collect(),
        }
    }

    /// What there is after a power cut that left these survivors; all of it is durable. Where names
    /// are ordered, one that comes after a lost one in its directory is lost, too.
    ///
    /// # Errors
    /// If the survivors do not fit what is at stake.
    pub fn after_power_cut(&self, survivors: &TreeSurvivors) -> Result<Tree, BadSurvivors> {
        let mut directories = BTreeMap::new();
        for (&number, node) in &self.nodes {
            if let Ok(directory) = node.directory() {
                directories.insert(number, directory.at_rest());
            }
        }
        for (event, survives) in self.events.iter().zip(self.surviving_names(survivors)?) {
            for edit in event.edits.iter().filter(|_| survives) {
                if let Some(directory) = directories.get_mut(&edit.name.directory) {
                    directory.change(edit);
                }
            }
        }
        let mut nodes = self.named_by(&directories);
        for (number, node) in &mut nodes {
            if let Body::File(file) = &mut node.body {
                let kept = survivors.files.get(number).map(Vec::as_slice);
                let content = file.after_power_cut(*number, kept, &self.assumptions)?;
                *file = Inode::new(&file.path, content);
            }
        }
        Ok(self.restarted(nodes))
    }

    /// What there is after the processes were killed: all that was done.
    pub fn after_kill(&self) -> Tree {
        let directories = self.nodes.iter();
        let directories = directories.filter_map(|(&number, node)| {
            let directory = node.directory().ok()?;
            Some((number, directory.clone()))
        });
        let nodes = self.named_by(&directories.collect());
        self.restarted(nodes)
    }

    /// In how many ways a kill can cut `next` short, which is the change that comes next.
    pub fn borders_within(&self, next: &TreeChange) -> u64 {
        as_write(next).map_or(0, |write| write.borders(self.assumptions.unit_of_a_kill()))
    }

    /// As [`Tree::after_kill`], with what lies before the border with this number, counted from 1,
    /// of those within `next` done, too. `None` if there is no such border.
    pub fn after_kill_within(&self, next: &TreeChange, border: u64) -> Option<Tree> {
        let unit = self.assumptions.unit_of_a_kill();
        let done = as_write(next)?.up_to_border(unit, border)?;
        let mut tree = self.after_kill();
        let file = next.subject()?;
        tree.node_mut(file).ok()?.file_mut().ok()?.change(0, done);
        tree.settle_file(file).ok()?;
        Some(tree)
    }

    /// Which of the changes of names at stake survive, those that are lost with an earlier one left
    /// out. Empty if these are no decisions about them.
    pub fn surviving(&self, survivors: &TreeSurvivors) -> Vec<bool> {
        self.surviving_names(survivors).unwrap_or_default()
    }

    fn settle_file(&mut self, file: InodeNumber) -> HostResult<()> {
        self.node_mut(file)?.file_mut()?.settle();
        Ok(())
    }

    /// All that may have a name after a power cut.
    pub(super) fn may_be_named(&self) -> BTreeSet<InodeNumber> {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Ok(directory) = node.directory() {
                named.extend(directory.durable());
            }
        }
        let edits = self.events.iter().flat_map(|event| &event.edits);
        named.extend(edits.filter_map(|edit| edit.to));
        named
    }

    fn surviving_names(&self, survivors: &TreeSurvivors) -> Result<Vec<bool>, BadSurvivors> {
        let expected = self.events.len();
        let mut kept = survivors.names.clone();
        if kept.is_empty() {
            kept = vec![false; expected];
        }
        if kept.len() != expected {
            return Err(BadSurvivors::NameCount {
                directory: ".".into(),
                found: kept.len(),
                expected,
            });
        }
        Ok(match self.assumptions.ordered_names {
            true => in_order(&self.events, &kept),
            false => kept,
        })
    }

    /// The nodes that have a name where these directories have these names. A directory has one:
    /// where names are not ordered, a second one can be left of a rename of it.
    fn named_by(
        &self,
        directories: &BTreeMap<InodeNumber, super::names::Directory>,
    ) -> BTreeMap<InodeNumber, Node> {
        let mut nodes: BTreeMap<InodeNumber, Node> = BTreeMap::new();
        let mut next = vec![(ROOT, ROOT)];
        while let Some((number, parent)) = next.pop() {
            if let Some(node) = nodes.get_mut(&number) {
                node.links += u32::from(!node.is_directory());
                continue;
            }
            let Some(node) = self.nodes.get(&number) else {
                continue;
            };
            let mut node = node.clone();
            (node.links, node.open) = (1, 0);
            if let (Body::Directory(body), Some(names)) = (&mut node.body, directories.get(&number))
            {
                *body = names.clone();
                body.parent = parent;
                body.settle();
                next.extend(names.iter().map(|(_, within)| (within, number)));
            }
            nodes.insert(number, node);
        }
        nodes
    }

    /// The tree of these nodes, on which all is durable.
    fn restarted(&self, nodes: BTreeMap<InodeNumber, Node>) -> Tree {
        let mut tree = Tree::of(self.assumptions, nodes, self.next);
        for node in tree.nodes.values_mut() {
            if let Body::File(file) = &mut node.body {
                file.settle();
            }
        }
        tree
    }
}

/// A write as the simulator has it, unless no file is as long.
fn as_write(change: &TreeChange) -> Option<Change> {
    let range = change.range()?;
    range.start.0.checked_add(range.len.0)?;
    match change {
        TreeChange::Write { at, data, .. } => Some(Change::Write {
            at: *at,
            data: data[..].into(),
        }),
        _ => None,
    }
}
