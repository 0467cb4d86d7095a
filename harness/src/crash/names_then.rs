//! The names that files have at a moment of a run, and changes in words that go by them.

use std::collections::BTreeMap;

use crate::mount::known_names::{KnownNames, stood_for};
use crate::sim::tree::{EntryName, Recorded, Tree, TreeChange};
use crate::sim::{Assumptions, InodeNumber};

/// The names at a moment, from which it can go on to a later one.
pub(super) struct NamesThen<'a> {
    log: &'a [Recorded],
    at: usize,
    /// What has them, without content.
    tree: Tree,
    known: KnownNames,
    /// By the number of each link that was made, the name that the file had before. It may be gone,
    /// and the new one would be told as a link to itself.
    linked: BTreeMap<usize, EntryName>,
}

impl<'a> NamesThen<'a> {
    /// Those when this many changes of `log` were made.
    pub(super) fn after(log: &'a [Recorded], point: u64) -> NamesThen<'a> {
        let tree = Tree::new(Assumptions::default());
        let mut names = NamesThen {
            log,
            at: 0,
            known: KnownNames::of(&tree),
            linked: BTreeMap::new(),
            tree,
        };
        names.advance_to(point);
        names
    }

    /// Goes on to this moment, which is no earlier one.
    pub(super) fn advance_to(&mut self, point: u64) {
        let end = usize::try_from(point).unwrap_or(usize::MAX);
        while let Some(recorded) = self.log.get(self.at).filter(|_| self.at < end) {
            if is_about_names(&recorded.change) {
                if let TreeChange::Link { node, .. } = recorded.change {
                    let name = self.known.longest_held(node).cloned();
                    self.linked.extend(name.map(|name| (self.at, name)));
                }
                let before = stood_for(&self.tree, &recorded.change);
                let index = self.at as u64;
                // It has succeeded in the run, and so it does here.
                let _ = self.tree.carry_out(index, recorded.at, &recorded.change);
                self.known.follow(&self.tree, before);
            }
            self.at += 1;
        }
    }

    /// The change with this number in words.
    pub(super) fn told(&self, number: usize) -> Option<String> {
        let recorded = self.log.get(number)?;
        let linked = match recorded.change {
            TreeChange::Link { node, .. } => self.linked.get(&number).map(|name| (node, name)),
            _ => None,
        };
        Some(recorded.told(&|node| match linked {
            Some((file, name)) if file == node => {
                let path = self.known.path_of_name(name.directory, &name.name);
                path.to_string_lossy().into_owned()
            }
            _ => self.name(node),
        }))
    }

    /// The path of a file from the top of the directory. Of its names it is the one that it has had
    /// longest or, where it has none any more, the last.
    pub(super) fn name(&self, node: InodeNumber) -> String {
        let first = self.known.paths(node).into_iter().next();
        match first.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path.to_string_lossy().into_owned(),
            None => format!("node {}", node.0),
        }
    }
}

fn is_about_names(change: &TreeChange) -> bool {
    match change {
        TreeChange::Create { .. }
        | TreeChange::Link { .. }
        | TreeChange::Remove(_)
        | TreeChange::Rename { .. }
        | TreeChange::SyncDirectory(_)
        | TreeChange::Settle => true,
        TreeChange::Write { .. }
        | TreeChange::SetLen { .. }
        | TreeChange::PunchHole { .. }
        | TreeChange::Reserve { .. }
        | TreeChange::SetAttributes { .. }
        | TreeChange::SyncFile(_)
        | TreeChange::FailSync(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;

    use super::*;
    use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT};

    const DIRECTORY: InodeNumber = InodeNumber(2);
    const FILE: InodeNumber = InodeNumber(3);

    fn entry(directory: InodeNumber, name: &str) -> EntryName {
        EntryName {
            directory,
            name: name.into(),
        }
    }

    fn make(node: InodeNumber, name: EntryName, what: NewNode) -> TreeChange {
        TreeChange::Create {
            name,
            node,
            what,
            attributes: Attributes::default(),
        }
    }

    #[test]
    fn a_link_is_told_by_the_name_that_the_file_had() {
        let link = |name: &str| TreeChange::Link {
            node: FILE,
            name: entry(ROOT, name),
        };
        let log = [
            make(DIRECTORY, entry(ROOT, "d"), NewNode::Directory),
            make(FILE, entry(DIRECTORY, "tmp"), NewNode::File),
            link("b"),
            TreeChange::Remove(entry(DIRECTORY, "tmp")),
            TreeChange::Rename {
                from: entry(ROOT, "d"),
                to: entry(ROOT, "e"),
                exchange: false,
            },
            link("c"),
        ];
        let log = log.map(|change| Recorded {
            kind: OperationKind::Link,
            at: Moment::default(),
            change,
        });
        let told = |point, number| NamesThen::after(&log, point).told(number).unwrap();
        for point in [2, 3, 4] {
            assert_eq!(told(point, 2), "link d/tmp as b", "{point}");
        }
        // By the names of the moment.
        assert_eq!(told(6, 2), "link e/tmp as b");
        assert_eq!(told(6, 5), "link b as c");
        assert_eq!(NamesThen::after(&log, 6).told(6), None);
    }

    #[test]
    fn names_are_those_of_the_moment_and_go_with_their_directory() {
        let rename = |from, to| TreeChange::Rename {
            from,
            to,
            exchange: false,
        };
        let log = [
            make(DIRECTORY, entry(ROOT, "d"), NewNode::Directory),
            make(FILE, entry(DIRECTORY, "x.new"), NewNode::File),
            TreeChange::SyncDirectory(ROOT),
            rename(entry(DIRECTORY, "x.new"), entry(DIRECTORY, "x")),
            rename(entry(ROOT, "d"), entry(ROOT, "e")),
            TreeChange::Remove(entry(DIRECTORY, "x")),
            TreeChange::Remove(entry(ROOT, "e")),
        ];
        let log = log.map(|change| Recorded {
            kind: OperationKind::Rename,
            at: Moment::default(),
            change,
        });
        let expected = [
            ("node 2", "node 3"),
            ("d", "node 3"),
            ("d", "d/x.new"),
            ("d", "d/x.new"),
            ("d", "d/x"),
            ("e", "e/x"),
            ("e", "e/x"),
            ("e", "e/x"),
        ];
        let mut names = NamesThen::after(&log, 0);
        for (point, (directory, file)) in (0..).zip(expected) {
            names.advance_to(point);
            for names in [&names, &NamesThen::after(&log, point)] {
                assert_eq!(names.name(DIRECTORY), directory, "{point}");
                assert_eq!(names.name(FILE), file, "{point}");
            }
        }
        assert_eq!(names.name(ROOT), ".");
    }
}
