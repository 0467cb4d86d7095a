//! What a power cut leaves of a simulated directory, told by the names and bytes that are found
//! afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use driver::host::HostError;
use driver::units::{Bytes, FileOffset};
use harness::sim::tree::{
    Attributes, EntryName, Moment, NewNode, NodeKind, ROOT, Tree, TreeChange, TreeSurvivors,
};
use harness::sim::{Assumptions, InodeNumber, Survival};

/// A tree, and the number of the change that comes next.
struct Story {
    tree: Tree,
    next: u64,
}

impl Story {
    fn new() -> Story {
        Story::assuming(Assumptions::default())
    }

    fn assuming(assumptions: Assumptions) -> Story {
        Story {
            tree: Tree::new(assumptions),
            next: 0,
        }
    }

    fn without_ordered_names() -> Story {
        Story::assuming(Assumptions {
            ordered_names: false,
            ..Assumptions::default()
        })
    }

    fn attempt(&mut self, change: &TreeChange) -> Result<(), HostError> {
        let done = self.tree.carry_out(self.next, Moment(0), change);
        self.next += 1;
        done
    }

    fn does(&mut self, change: TreeChange) {
        self.attempt(&change).unwrap();
    }

    fn makes(&mut self, directory: InodeNumber, name: &str, what: NewNode) -> InodeNumber {
        let node = self.tree.next_number();
        self.does(TreeChange::Create {
            name: entry(directory, name),
            node,
            what,
            attributes: Attributes::default(),
        });
        node
    }

    fn writes(&mut self, file: InodeNumber, text: &str) {
        let (at, data) = (FileOffset(0), text.as_bytes().into());
        self.does(TreeChange::Write { file, at, data });
    }

    fn renames(&mut self, from: (InodeNumber, &str), to: (InodeNumber, &str)) {
        self.does(TreeChange::Rename {
            from: entry(from.0, from.1),
            to: entry(to.0, to.1),
            exchange: false,
        });
    }

    /// All that a power cut can leave now, by whole operations.
    fn left(&self) -> BTreeSet<String> {
        let at_stake = self.tree.at_stake();
        let indices = at_stake.indices();
        assert!(indices.len() < 12, "{indices:?}");
        let left = (0..1u64 << indices.len()).map(|bits| {
            let place = |index| indices.binary_search(&index).unwrap();
            let survivors = at_stake.survivors(|index| bits >> place(index) & 1 == 1);
            told(&self.tree.after_power_cut(&survivors).unwrap())
        });
        left.collect()
    }
}

fn entry(directory: InodeNumber, name: &str) -> EntryName {
    EntryName {
        directory,
        name: name.into(),
    }
}

/// `a=new d/ d/b=`
fn told(tree: &Tree) -> String {
    let mut words = Vec::new();
    for (path, node) in tree.walk().into_iter().skip(1) {
        words.push(match tree.stat(node).unwrap().kind {
            NodeKind::File => {
                let bytes = tree.content(node).unwrap().to_bytes();
                format!("{}={}", path.display(), String::from_utf8(bytes).unwrap())
            }
            NodeKind::Directory => format!("{}/", path.display()),
            NodeKind::SymbolicLink => {
                format!(
                    "{}->{}",
                    path.display(),
                    tree.target(node).unwrap().display()
                )
            }
        });
    }
    words.join(" ")
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|&one| one.to_owned()).collect()
}

#[test]
fn a_file_that_is_replaced_after_a_sync_is_old_or_new() {
    let mut story = Story::new();
    let old = story.makes(ROOT, "a", NewNode::File);
    story.writes(old, "old");
    story.does(TreeChange::Settle);
    let new = story.makes(ROOT, "b", NewNode::File);
    story.writes(new, "new");
    story.does(TreeChange::SyncFile(new));
    story.renames((ROOT, "b"), (ROOT, "a"));
    assert_eq!(story.left(), set(&["a=old", "a=old b=new", "a=new"]));
    story.does(TreeChange::SyncDirectory(ROOT));
    assert_eq!(story.left(), set(&["a=new"]));
}

#[test]
fn without_the_sync_the_new_name_may_have_no_content() {
    let mut story = Story::new();
    let new = story.makes(ROOT, "b", NewNode::File);
    story.writes(new, "new");
    story.renames((ROOT, "b"), (ROOT, "a"));
    assert_eq!(story.left(), set(&["", "b=", "b=new", "a=", "a=new"]));
}

#[test]
fn a_file_that_is_moved_is_in_one_directory_or_the_other() {
    let mut story = Story::new();
    let [one, other] = ["d", "e"].map(|name| story.makes(ROOT, name, NewNode::Directory));
    story.makes(one, "a", NewNode::File);
    story.does(TreeChange::Settle);
    story.renames((one, "a"), (other, "b"));
    assert_eq!(story.left(), set(&["d/ e/ d/a=", "d/ e/ e/b="]));
    story.does(TreeChange::SyncDirectory(other));
    assert_eq!(story.left(), set(&["d/ e/ e/b="]));
}

#[test]
fn what_is_synced_in_a_new_directory_is_not_lost_with_it() {
    let mut story = Story::new();
    let directory = story.makes(ROOT, "d", NewNode::Directory);
    story.makes(directory, "a", NewNode::File);
    assert_eq!(story.left(), set(&["", "d/", "d/ d/a="]));
    story.does(TreeChange::SyncDirectory(directory));
    assert_eq!(story.left(), set(&["d/ d/a="]));
}

#[test]
fn a_removed_file_may_come_back_with_what_was_synced_of_it() {
    let mut story = Story::new();
    let file = story.makes(ROOT, "a", NewNode::File);
    story.writes(file, "one");
    story.does(TreeChange::Settle);
    story.writes(file, "two");
    story.does(TreeChange::Remove(entry(ROOT, "a")));
    assert_eq!(story.left(), set(&["", "a=one", "a=two"]));
    story.tree.forget_lost(|_| false);
    assert_eq!(story.left(), set(&["", "a=one", "a=two"]));
    story.does(TreeChange::SyncDirectory(ROOT));
    story.tree.forget_lost(|_| false);
    assert_eq!(story.left(), set(&[""]));
    assert_eq!(story.tree.node_count(), 1);
    assert_eq!(story.tree.allocated(), 0);
}

/// The last rename without the one before it would leave the directory beneath itself.
#[test]
fn a_directory_keeps_one_name_where_names_are_not_ordered() {
    let mut story = Story::without_ordered_names();
    let directory = story.makes(ROOT, "a", NewNode::Directory);
    let within = story.makes(directory, "b", NewNode::Directory);
    story.does(TreeChange::Settle);
    story.renames((ROOT, "a"), (ROOT, "x"));
    story.renames((directory, "b"), (ROOT, "b"));
    story.renames((ROOT, "x"), (within, "a"));
    let left = ["", "a/ a/b/", "a/ b/", "b/ x/", "b/ b/a/", "x/ x/b/"];
    assert_eq!(story.left(), set(&left));
    let at_stake = story.tree.at_stake();
    let last = at_stake.names[2];
    let image = |survives: &dyn Fn(u64) -> bool| {
        let survivors = at_stake.survivors(survives);
        story.tree.after_power_cut(&survivors).unwrap()
    };
    let (beneath, nothing) = (image(&|index| index == last), image(&|_| false));
    assert_eq!(beneath.digest(), nothing.digest());
    let names: Vec<_> = beneath.walk().into_iter().map(|(_, node)| node).collect();
    assert_eq!(names, [ROOT, directory, within]);
}

/// What was moved out of a directory is made durable in both, though one of them is gone.
#[test]
fn a_directory_that_is_gone_is_known_as_long_as_its_names_are_at_stake() {
    let mut story = Story::without_ordered_names();
    let [one, other] = ["d", "e"].map(|name| story.makes(ROOT, name, NewNode::Directory));
    story.makes(one, "a", NewNode::File);
    story.does(TreeChange::Settle);
    story.renames((one, "a"), (other, "a"));
    story.does(TreeChange::Remove(entry(ROOT, "d")));
    story.does(TreeChange::SyncDirectory(ROOT));
    story.tree.forget_lost(|_| false);
    story.does(TreeChange::SyncDirectory(other));
    assert_eq!(story.left(), set(&["e/ e/a="]));
    story.tree.forget_lost(|_| false);
    assert_eq!(story.tree.node_count(), 3);
}

#[test]
fn names_that_are_exchanged_are_exchanged_both() {
    let mut story = Story::new();
    for name in ["a", "b"] {
        let file = story.makes(ROOT, name, NewNode::File);
        story.writes(file, name);
    }
    story.does(TreeChange::Settle);
    story.does(TreeChange::Rename {
        from: entry(ROOT, "a"),
        to: entry(ROOT, "b"),
        exchange: true,
    });
    assert_eq!(story.left(), set(&["a=a b=b", "a=b b=a"]));
}

#[test]
fn what_a_file_system_refuses_is_refused_and_changes_nothing() {
    let mut story = Story::new();
    let directory = story.makes(ROOT, "d", NewNode::Directory);
    let within = story.makes(directory, "e", NewNode::Directory);
    story.makes(ROOT, "a", NewNode::File);
    story.makes(ROOT, "l", NewNode::SymbolicLink("d/e".into()));
    let before = told(&story.tree);
    let rename = |from: (InodeNumber, &str), to: (InodeNumber, &str), exchange| {
        let (from, to) = (entry(from.0, from.1), entry(to.0, to.1));
        TreeChange::Rename { from, to, exchange }
    };
    for (change, error) in [
        (rename((ROOT, "d"), (within, "d"), false), HostError::Os(22)),
        (
            rename((directory, "e"), (ROOT, "d"), true),
            HostError::Os(22),
        ),
        (
            rename((ROOT, "d"), (ROOT, "a"), false),
            HostError::NOT_A_DIRECTORY,
        ),
        (rename((ROOT, "a"), (ROOT, "d"), false), HostError::Os(21)),
        (rename((ROOT, "x"), (ROOT, "y"), false), HostError::NotFound),
        (rename((ROOT, "a"), (ROOT, "y"), true), HostError::NotFound),
        (TreeChange::Remove(entry(ROOT, "d")), HostError::Os(39)),
        (TreeChange::Remove(entry(ROOT, "..")), HostError::Os(22)),
        (
            TreeChange::Link {
                node: directory,
                name: entry(ROOT, "y"),
            },
            HostError::PermissionDenied,
        ),
        (
            TreeChange::Write {
                file: directory,
                at: FileOffset(0),
                data: [1].into(),
            },
            HostError::Os(21),
        ),
        (
            TreeChange::Write {
                file: InodeNumber(99),
                at: FileOffset(u64::MAX),
                data: [1, 2].into(),
            },
            HostError::TooLarge,
        ),
    ] {
        assert_eq!(story.attempt(&change), Err(error), "{change:?}");
    }
    assert_eq!(told(&story.tree), before);
}

#[test]
fn survivors_that_do_not_fit_are_refused() {
    let mut story = Story::new();
    let file = story.makes(ROOT, "a", NewNode::File);
    story.writes(file, "a");
    let survivors = |files, names| TreeSurvivors { files, names };
    let refused = [
        survivors([(file, vec![Survival::Whole; 2])].into(), vec![true]),
        survivors(
            [(file, vec![Survival::Torn(vec![(0, 9)])])].into(),
            vec![true],
        ),
        survivors([].into(), vec![true; 2]),
    ];
    for survivors in refused {
        assert!(
            story.tree.after_power_cut(&survivors).is_err(),
            "{survivors:?}"
        );
    }
}

#[test]
fn images_are_alike_if_everybody_reads_the_same() {
    let story = |text: &str, name: &str, also: &str| {
        let mut story = Story::new();
        // Other numbers of nodes, and holes, make no difference.
        let lost = story.makes(ROOT, "lost", NewNode::File);
        story.writes(lost, also);
        story.does(TreeChange::Remove(entry(ROOT, "lost")));
        let file = story.makes(ROOT, name, NewNode::File);
        story.writes(file, text);
        story.tree.digest()
    };
    let one = story("text", "a", "x");
    assert_eq!(one, story("text", "a", "another"));
    assert_ne!(one, story("test", "a", "x"));
    assert_ne!(one, story("text", "b", "x"));
}

/// What the system gives at each write would make all images different.
#[test]
fn times_count_that_were_given_to_files_until_they_are_written() {
    let story = |times: &[i64], then: Option<&str>| {
        let mut story = Story::new();
        let file = story.makes(ROOT, "f", NewNode::File);
        story.writes(file, "text");
        for &time in times {
            let attributes = Attributes {
                modified: Some(Moment(time)),
                ..Attributes::default()
            };
            let node = file;
            story.does(TreeChange::SetAttributes { node, attributes });
        }
        if let Some(text) = then {
            story.writes(file, text);
        }
        story.tree.digest()
    };
    let never = story(&[], None);
    assert_ne!(story(&[5], None), never);
    assert_ne!(story(&[5], None), story(&[6], None));
    assert_eq!(story(&[5, 6], None), story(&[6], None));
    assert_eq!(story(&[5], Some("text")), never);
}

#[test]
fn data_and_holes_are_found_from_any_position() {
    let mut story = Story::new();
    let file = story.makes(ROOT, "f", NewNode::File);
    let data: Arc<[u8]> = vec![7; 3 * 4096].into();
    let at = FileOffset(2 * 4096);
    story.does(TreeChange::Write { file, at, data });
    let len = Bytes(10 * 4096);
    story.does(TreeChange::SetLen { file, len });
    let pages = |found: Option<u64>| found.map(|at| at / 4096);
    for (from, data, hole) in [
        (0, Some(2), Some(0)),
        (2, Some(2), Some(5)),
        (4, Some(4), Some(5)),
        (5, None, Some(5)),
        (10, None, None),
    ] {
        let seek = |data| story.tree.seek(file, from * 4096, data).unwrap();
        assert_eq!(
            (pages(seek(true)), pages(seek(false))),
            (data, hole),
            "{from}"
        );
    }
}

/// What a long run writes is in memory once, however many directories are made of its list.
#[test]
fn directories_that_are_made_of_one_list_share_its_bytes() {
    const PAGES: usize = 256;
    let data: Arc<[u8]> = vec![7; PAGES * 4096].into();
    let made = |mut tree: Tree| {
        let file = tree.next_number();
        let create = TreeChange::Create {
            name: entry(ROOT, "f"),
            node: file,
            what: NewNode::File,
            attributes: Attributes::default(),
        };
        let write = TreeChange::Write {
            file,
            at: FileOffset(0),
            data: Arc::clone(&data),
        };
        for (index, change) in (0..).zip([create, write, TreeChange::Settle]) {
            tree.carry_out(index, Moment(0), &change).unwrap();
        }
        tree
    };
    let holders = || Arc::strong_count(&data) - 1;
    let one = made(Tree::of_a_list(Assumptions::default()));
    let other = made(Tree::of_a_list(Assumptions::default()));
    assert_eq!(holders(), 2 * PAGES);
    assert_eq!(one.digest(), other.digest());
    drop((one, other));
    // Nobody has said that the list is kept.
    let alone = made(Tree::new(Assumptions::default()));
    assert_eq!((holders(), alone.allocated()), (0, data.len() as u64));
}
