//! The name by which each file of a mounted directory is known to rules, which go by paths: the
//! first that it has, and when that goes another one, and the last that it had where there is none.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::sim::InodeNumber;
use crate::sim::tree::{EntryName, NodeKind, ROOT, Tree, TreeChange};

/// The names. To know them costs what changes, and not what there is.
#[derive(Debug, Default)]
pub(super) struct KnownNames(BTreeMap<InodeNumber, EntryName>);

impl KnownNames {
    /// Those of all that is in a directory.
    pub(super) fn of(tree: &Tree) -> KnownNames {
        let mut known = KnownNames::default();
        for_each_name(tree, |name, node| {
            known.0.entry(node).or_insert(name);
        });
        known
    }

    /// A path from the top of the directory; the top is `.`. An empty one for what was never known.
    pub(super) fn path(&self, node: InodeNumber) -> PathBuf {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            let Some(entry) = self.0.get(&at) else {
                return PathBuf::new();
            };
            names.push(&entry.name);
            at = entry.directory;
        }
        match names.is_empty() {
            true => PathBuf::from("."),
            false => names.iter().rev().collect(),
        }
    }

    /// That of a name in a directory.
    pub(super) fn path_of_name(&self, directory: InodeNumber, name: &std::ffi::OsStr) -> PathBuf {
        match directory {
            ROOT => Path::new(name).to_owned(),
            _ => self.path(directory).join(name),
        }
    }

    /// A change was carried out, by which `loser`, if any, has lost a name.
    pub(super) fn follow(&mut self, tree: &Tree, change: &TreeChange, loser: Option<InodeNumber>) {
        let lost = match change {
            TreeChange::Create { name, node, .. } | TreeChange::Link { name, node } => {
                self.0.entry(*node).or_insert_with(|| name.clone());
                return;
            }
            TreeChange::Remove(name) => name,
            TreeChange::Rename { from, to, .. } => {
                self.renamed(tree, from, to);
                self.renamed(tree, to, from);
                to
            }
            _ => return,
        };
        if let Some(loser) = loser {
            self.lose(tree, loser, lost);
        }
    }

    /// What has the name `to` now was known by `from`, perhaps.
    fn renamed(&mut self, tree: &Tree, from: &EntryName, to: &EntryName) {
        let moved = tree.lookup(to.directory, &to.name);
        let known = moved.ok().and_then(|moved| self.0.get_mut(&moved));
        if let Some(known) = known.filter(|known| *known == from) {
            *known = to.clone();
        }
    }

    fn lose(&mut self, tree: &Tree, loser: InodeNumber, lost: &EntryName) {
        let is_lost = tree.lookup(lost.directory, &lost.name) != Ok(loser);
        let was_known_by_it = self.0.get(&loser) == Some(lost);
        if !is_lost || !was_known_by_it || tree.stat(loser).is_ok_and(|found| found.links == 0) {
            return;
        }
        // Files with several names are few.
        let mut other = None;
        for_each_name(tree, |name, node| {
            if node == loser && other.is_none() {
                other = Some(name);
            }
        });
        if let Some(other) = other {
            self.0.insert(loser, other);
        }
    }
}

/// What loses a name by a change that is going to be carried out.
pub(super) fn loser(tree: &Tree, change: &TreeChange) -> Option<InodeNumber> {
    let name = match change {
        TreeChange::Remove(name) => name,
        TreeChange::Rename {
            to,
            exchange: false,
            ..
        } => to,
        _ => return None,
    };
    tree.lookup(name.directory, &name.name).ok()
}

/// All names, those of a directory before those in it.
fn for_each_name(tree: &Tree, mut each: impl FnMut(EntryName, InodeNumber)) {
    let mut open = VecDeque::from([ROOT]);
    while let Some(directory) = open.pop_front() {
        let Ok((_, entries)) = tree.entries(directory) else {
            continue;
        };
        for (name, node, kind) in entries {
            let name = name.to_owned();
            each(EntryName { directory, name }, node);
            if kind == NodeKind::Directory {
                open.push_back(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Assumptions;
    use crate::sim::tree::{Attributes, Moment, NewNode};

    const FILE: InodeNumber = InodeNumber(2);
    const DIRECTORY: InodeNumber = InodeNumber(3);
    const OTHER: InodeNumber = InodeNumber(4);

    fn entry(directory: InodeNumber, name: &str) -> EntryName {
        EntryName {
            directory,
            name: name.into(),
        }
    }

    fn make(node: InodeNumber, name: &str, what: NewNode) -> TreeChange {
        TreeChange::Create {
            name: entry(ROOT, name),
            node,
            what,
            attributes: Attributes::default(),
        }
    }

    fn rename(from: EntryName, to: EntryName, exchange: bool) -> TreeChange {
        TreeChange::Rename { from, to, exchange }
    }

    /// Whatever happens to names, they are those that one who looks through everything finds, as
    /// long as there is one.
    #[test]
    fn names_are_followed_from_change_to_change() {
        let mut tree = Tree::new(Assumptions::default());
        let mut names = KnownNames::of(&tree);
        let steps = [
            (make(FILE, "a", NewNode::File), "a"),
            (make(DIRECTORY, "d", NewNode::Directory), "a"),
            (
                rename(entry(ROOT, "a"), entry(DIRECTORY, "b"), false),
                "d/b",
            ),
            (rename(entry(ROOT, "d"), entry(ROOT, "e"), false), "e/b"),
            (
                TreeChange::Link {
                    node: FILE,
                    name: entry(ROOT, "l"),
                },
                "e/b",
            ),
            (TreeChange::Remove(entry(DIRECTORY, "b")), "l"),
            (make(OTHER, "o", NewNode::File), "l"),
            (rename(entry(ROOT, "o"), entry(ROOT, "l"), true), "o"),
            // It loses its last name to another one.
            (rename(entry(ROOT, "l"), entry(ROOT, "o"), false), "o"),
        ];
        for (index, (change, path)) in (0..).zip(steps) {
            let loser = loser(&tree, &change);
            tree.carry_out(index, Moment::default(), &change).unwrap();
            names.follow(&tree, &change, loser);
            assert_eq!(names.path(FILE), Path::new(path), "{change:?}");
            for_each_name(&tree, |name, node| {
                let path = names.path(node);
                let is_it = path == names.path_of_name(name.directory, &name.name);
                assert!(is_it || tree.stat(node).unwrap().links > 1, "{name:?}");
            });
        }
        assert_eq!(names.path(OTHER), Path::new("o"));
        assert_eq!(names.path(ROOT), Path::new("."));
        assert_eq!(names.path(InodeNumber(99)), Path::new(""));
    }
}
