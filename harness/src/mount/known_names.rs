//! The names by which each file of a simulated directory is known, to rules, which go by paths, and
//! to whoever tells of a crash: all that it has, the one that it has had longest first, and the
//! last that it had where there is none.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sim::InodeNumber;
use crate::sim::tree::{EntryName, NodeKind, ROOT, Tree, TreeChange};

/// The names. To know them costs what changes, and not what there is.
#[derive(Debug, Default)]
pub(crate) struct KnownNames(BTreeMap<InodeNumber, Names>);

/// Those of one file.
#[derive(Debug, Default)]
struct Names {
    /// At least one.
    entries: Vec<EntryName>,
    /// It has none any more: what is left is the last that it had.
    are_gone: bool,
}

impl Names {
    fn gain(&mut self, name: EntryName) {
        if std::mem::take(&mut self.are_gone) {
            self.entries.clear();
        }
        self.entries.push(name);
    }

    fn lose(&mut self, name: &EntryName) {
        match self.entries.as_slice() {
            [last] => self.are_gone |= last == name,
            _ => self.entries.retain(|entry| entry != name),
        }
    }
}

impl KnownNames {
    /// Those of all that is in a directory.
    pub(crate) fn of(tree: &Tree) -> KnownNames {
        let mut known = KnownNames::default();
        for_each_name(tree, |name, node| known.gain(node, name));
        known
    }

    /// All paths of a file from the top of the directory; that of the top is `.`. An empty one for
    /// what was never known.
    pub(crate) fn paths(&self, node: InodeNumber) -> Vec<Rc<Path>> {
        match self.0.get(&node) {
            _ if node == ROOT => vec![Path::new(".").into()],
            None => vec![Path::new("").into()],
            Some(names) => {
                let path = |name: &EntryName| self.path_of_name(name.directory, &name.name);
                names.entries.iter().map(path).collect()
            }
        }
    }

    /// The name that a file has had longest or, where it has none any more, the last.
    pub(crate) fn longest_held(&self, node: InodeNumber) -> Option<&EntryName> {
        self.0.get(&node)?.entries.first()
    }

    /// That of a name in a directory.
    pub(crate) fn path_of_name(&self, directory: InodeNumber, name: &OsStr) -> Rc<Path> {
        let mut names = vec![name];
        let mut at = directory;
        while at != ROOT {
            // A directory has one.
            let Some([entry, ..]) = self.0.get(&at).map(|names| names.entries.as_slice()) else {
                return Path::new("").into();
            };
            names.push(&entry.name);
            at = entry.directory;
        }
        names.iter().rev().collect::<PathBuf>().into()
    }

    /// A change was carried out, before which its names [stood for](stood_for) this.
    pub(crate) fn follow(&mut self, tree: &Tree, before: Vec<(EntryName, Option<InodeNumber>)>) {
        // What gets another name before it loses one always has one.
        let mut lost = Vec::new();
        for (name, before) in before {
            let after = tree.lookup(name.directory, &name.name).ok();
            if after == before {
                continue;
            }
            if let Some(node) = after {
                self.gain(node, name.clone());
            }
            lost.extend(before.map(|node| (node, name)));
        }
        for (node, name) in lost {
            if let Some(names) = self.0.get_mut(&node) {
                names.lose(&name);
            }
        }
    }

    fn gain(&mut self, node: InodeNumber, name: EntryName) {
        self.0.entry(node).or_default().gain(name);
    }
}

/// What the names stand for that a change is about, which is going to be carried out.
pub(crate) fn stood_for(tree: &Tree, change: &TreeChange) -> Vec<(EntryName, Option<InodeNumber>)> {
    let names = match change {
        TreeChange::Create { name, .. }
        | TreeChange::Link { name, .. }
        | TreeChange::Remove(name) => vec![name],
        TreeChange::Rename { from, to, .. } => vec![from, to],
        _ => Vec::new(),
    };
    let stands_for = |name: &EntryName| tree.lookup(name.directory, &name.name).ok();
    let names = names.into_iter();
    names.map(|name| (name.clone(), stands_for(name))).collect()
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
            (make(FILE, "a", NewNode::File), &["a"][..]),
            (make(DIRECTORY, "d", NewNode::Directory), &["a"]),
            (
                rename(entry(ROOT, "a"), entry(DIRECTORY, "b"), false),
                &["d/b"],
            ),
            (rename(entry(ROOT, "d"), entry(ROOT, "e"), false), &["e/b"]),
            (
                TreeChange::Link {
                    node: FILE,
                    name: entry(ROOT, "l"),
                },
                &["e/b", "l"],
            ),
            // Two names of one file: nothing is to be done.
            (
                rename(entry(ROOT, "l"), entry(DIRECTORY, "b"), false),
                &["e/b", "l"],
            ),
            (TreeChange::Remove(entry(DIRECTORY, "b")), &["l"]),
            (make(OTHER, "o", NewNode::File), &["l"]),
            (rename(entry(ROOT, "o"), entry(ROOT, "l"), true), &["o"]),
            // It loses its last name to another one.
            (rename(entry(ROOT, "l"), entry(ROOT, "o"), false), &["o"]),
        ];
        let all_of = |names: &KnownNames, node| {
            let paths = names.paths(node).into_iter();
            let mut paths: Vec<_> = paths.map(|path| path.to_path_buf()).collect();
            paths.sort();
            paths
        };
        for (index, (change, paths)) in (0..).zip(steps) {
            let before = stood_for(&tree, &change);
            tree.carry_out(index, Moment::default(), &change).unwrap();
            names.follow(&tree, before);
            let expected: Vec<_> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(all_of(&names, FILE), expected, "{change:?}");
            let mut found: BTreeMap<InodeNumber, Vec<PathBuf>> = BTreeMap::new();
            for (path, node) in tree.walk() {
                found.entry(node).or_default().push(path);
            }
            for (node, mut paths) in found {
                paths.sort();
                assert_eq!(all_of(&names, node), paths, "{change:?}");
            }
        }
        assert_eq!(all_of(&names, OTHER), [Path::new("o")]);
        assert_eq!(all_of(&names, ROOT), [Path::new(".")]);
        assert_eq!(all_of(&names, InodeNumber(99)), [Path::new("")]);
    }
}
