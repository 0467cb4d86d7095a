//! What a crash leaves of a simulated directory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use driver::host::HostResult;
use serde::{Deserialize, Serialize};

use super::super::change::Change;
use super::super::inode::Inode;
use super::super::payload::Payload;
use super::super::survivors::{
    BadSurvivors, InodeNumber, Survival, Unsynced, UnsyncedFile, UnsyncedOperation,
};
use super::carry_out::{ROOT, Tree};
use super::change::TreeChange;
use super::names::{Directory, in_order};
use super::node::{Body, Node};

/// What is at stake when the power goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtStake {
    /// The changes of files, in the simulator's own words. It has no names.
    pub files: Unsynced,
    /// The numbers of the changes of names, oldest first.
    pub names: Vec<u64>,
    /// The numbers of all of these.
    indices: Vec<u64>,
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
    /// These changes of files and of names.
    pub(crate) fn new(files: Unsynced, names: Vec<u64>) -> AtStake {
        let of_files = files.files.iter().flat_map(|file| &file.operations);
        let of_files = of_files.map(|operation| operation.index);
        let mut indices: Vec<u64> = of_files.chain(names.iter().copied()).collect();
        indices.sort_unstable();
        AtStake {
            files,
            names,
            indices,
        }
    }

    /// The numbers of all changes at stake, in order.
    pub fn indices(&self) -> &[u64] {
        &self.indices
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
        let with_changes = self.nodes.iter().filter_map(|(&inode, node)| {
            let file = node.file().ok().filter(|file| !file.is_at_rest())?;
            let operations = file.unsynced(&self.assumptions);
            let path = Rc::clone(&file.path);
            let has_changes = !operations.is_empty();
            has_changes.then_some(UnsyncedFile {
                inode,
                path,
                operations,
            })
        });
        let mut files: Vec<UnsyncedFile> = with_changes.collect();
        let wanted: BTreeSet<InodeNumber> = files.iter().map(|file| file.inode).collect();
        let named = self.may_be_named(|inode| wanted.contains(&inode));
        files.retain(|file| named.contains(&file.inode));
        let files = Unsynced {
            files,
            directories: Vec::new(),
            times: BTreeMap::new(),
            ordered_names: self.assumptions.ordered_names,
        };
        let names = self.events.iter().map(|event| event.index);
        AtStake::new(files, names.collect())
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
        let mut nodes = self.named_by(directories);
        for (number, node) in &mut nodes {
            let Ok(file) = node.file() else {
                continue;
            };
            let kept = survivors.files.get(number).map(Vec::as_slice);
            if file.is_at_rest() && kept.is_none_or(<[_]>::is_empty) {
                continue;
            }
            let content = file.after_power_cut(*number, kept, &self.assumptions)?;
            let remains = Inode::new(&file.path, content);
            Node::changed(node).body = Body::File(remains);
        }
        Ok(Tree::of(self.assumptions, nodes, self.next))
    }

    /// What there is after the processes were killed: all that was done.
    pub fn after_kill(&self) -> Tree {
        let directories = self.nodes.iter();
        let directories = directories.filter_map(|(&number, node)| {
            let directory = node.directory().ok()?;
            Some((number, directory.clone()))
        });
        let mut nodes = self.named_by(directories.collect());
        for node in nodes.values_mut().filter(|node| !node.is_at_rest()) {
            Node::changed(node).settle();
        }
        Tree::of(self.assumptions, nodes, self.next)
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

    /// Those of the `wanted` that may have a name after a power cut.
    pub(super) fn may_be_named(
        &self,
        wanted: impl Fn(InodeNumber) -> bool,
    ) -> BTreeSet<InodeNumber> {
        let directories = self.nodes.values().filter_map(|node| node.directory().ok());
        let durable = directories.flat_map(Directory::durable);
        let edits = self.events.iter().flat_map(|event| &event.edits);
        let named = [ROOT].into_iter().chain(durable);
        let named = named.chain(edits.filter_map(|edit| edit.to));
        named.filter(|&inode| wanted(inode)).collect()
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

    /// The nodes that have a name where these directories have these names, open to nobody. A
    /// directory keeps one name: where names are not ordered, a second one can be left of a rename
    /// of it, even one beneath itself. It keeps the one nearest the top, and of several there the
    /// first, as a file system check does. What is as it was is shared with this tree.
    fn named_by(
        &self,
        mut directories: BTreeMap<InodeNumber, Directory>,
    ) -> BTreeMap<InodeNumber, Rc<Node>> {
        let mut found = BTreeMap::from([(ROOT, Place::within(ROOT))]);
        let mut surplus = Vec::new();
        let mut next = VecDeque::from([ROOT]);
        while let Some(parent) = next.pop_front() {
            let names = directories.get(&parent).into_iter();
            for (name, number) in names.flat_map(Directory::iter) {
                let Some(node) = self.nodes.get(&number) else {
                    continue;
                };
                match found.entry(number) {
                    Entry::Vacant(place) => {
                        place.insert(Place::within(parent));
                        if node.is_directory() {
                            next.push_back(number);
                        }
                    }
                    Entry::Occupied(_) if node.is_directory() => {
                        surplus.push((parent, name.clone()));
                    }
                    Entry::Occupied(mut place) => place.get_mut().links += 1,
                }
            }
        }
        for (directory, name) in surplus {
            if let Some(names) = directories.get_mut(&directory) {
                names.drop_name(&name);
            }
        }
        let node = |(number, place): (InodeNumber, Place)| {
            let node = self.nodes.get(&number)?;
            Some((number, place.node(node, directories.get(&number))))
        };
        found.into_iter().filter_map(node).collect()
    }
}

/// What other nodes say of one that has a name.
struct Place {
    /// Of a directory, the one that it is in.
    parent: InodeNumber,
    links: u32,
}

impl Place {
    /// With one name there.
    fn within(parent: InodeNumber) -> Place {
        Place { parent, links: 1 }
    }

    /// The node with this said of it; of a directory, with these names in it.
    fn node(self, node: &Rc<Node>, names: Option<&Directory>) -> Rc<Node> {
        let has_names = |names: &Directory| {
            let directory = node.directory();
            directory
                .is_ok_and(|it| it.parent == self.parent && it.is_at_rest() && it.is_now(names))
        };
        let is_as_it_was = (node.links, node.open) == (self.links, 0);
        let mut node = Rc::clone(node);
        if is_as_it_was && names.is_none_or(has_names) {
            return node;
        }
        let changed = Node::changed(&mut node);
        (changed.links, changed.open) = (self.links, 0);
        if let (Ok(directory), Some(names)) = (changed.directory_mut(), names) {
            *directory = names.clone();
            directory.parent = self.parent;
            directory.settle();
        }
        node
    }
}

/// A write as the simulator has it, unless no file is as long.
fn as_write(change: &TreeChange) -> Option<Change> {
    let range = change.range()?;
    range.start.0.checked_add(range.len.0)?;
    match change {
        TreeChange::Write { at, data, .. } => Some(Change::Write {
            at: *at,
            data: Payload::Sent(Arc::clone(data)),
        }),
        _ => None,
    }
}
