//! The names that files have at a moment of a run.

use crate::mount::known_names::{KnownNames, stood_for};
use crate::sim::tree::{Recorded, Tree, TreeChange};
use crate::sim::{Assumptions, InodeNumber};

/// The names at a moment, from which it can go on to a later one.
pub(super) struct NamesThen<'a> {
    log: &'a [Recorded],
    at: usize,
    /// What has them, without content.
    tree: Tree,
    known: KnownNames,
}

impl<'a> NamesThen<'a> {
    /// Those when this many changes of `log` were made.
    pub(super) fn after(log: &'a [Recorded], point: u64) -> NamesThen<'a> {
        let tree = Tree::new(Assumptions::default());
        let mut names = NamesThen {
            log,
            at: 0,
            known: KnownNames::of(&tree),
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
                let before = stood_for(&self.tree, &recorded.change);
                let index = self.at as u64;
                // It has succeeded in the run, and so it does here.
                let _ = self.tree.carry_out(index, recorded.at, &recorded.change);
                self.known.follow(&self.tree, before);
            }
            self.at += 1;
        }
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
