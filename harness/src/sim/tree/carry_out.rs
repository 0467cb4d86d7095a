//! What there is in a simulated directory, and how a change is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use driver::host::{HostError, HostResult};
use driver::units::{Bytes, FileOffset, FileRange};

use super::super::assumptions::Assumptions;
use super::super::change::Change;
use super::super::content::FileContent;
use super::super::payload::Payload;
use super::super::survivors::InodeNumber;
use super::change::{Moment, TreeChange};
use super::names::{Directory, NameEvent, needed_by};
use super::node::{Body, Found, INVALID, Node, NodeKind};

/// The directory at the top.
pub const ROOT: InodeNumber = InodeNumber(1);

/// The longest file, as on Linux: positions are signed there.
const MOST_BYTES: u64 = i64::MAX as u64;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 255;

/// ENAMETOOLONG.
const NAME_TOO_LONG: HostError = HostError::Os(36);

/// An entry of a directory: its name, what it stands for, and what kind of node that is.
pub type Listed<'a> = (&'a OsStr, InodeNumber, NodeKind);

/// A simulated directory with all that is in it. A clone shares the content.
#[derive(Clone)]
pub struct Tree {
    pub(super) assumptions: Assumptions,
    /// Trees that have a node in common share it.
    pub(super) nodes: BTreeMap<InodeNumber, Rc<Node>>,
    pub(super) next: u64,
    /// The nodes that have no name now.
    pub(super) unnamed: BTreeSet<InodeNumber>,
    /// The changes of names that are not durable.
    pub(super) events: Vec<NameEvent>,
    allocated: u64,
    /// Its changes are those of a list that is kept as long as it: pages share bytes with the list.
    is_of_a_list: bool,
}

impl Tree {
    /// An empty directory.
    pub fn new(assumptions: Assumptions) -> Tree {
        let mut root = Node::new(Body::Directory(Directory::new(ROOT)), Moment::default());
        (root.mode, root.links) = (0o755, 1);
        let nodes = BTreeMap::from([(ROOT, Rc::new(root))]);
        Tree::of(assumptions, nodes, ROOT.0 + 1)
    }

    /// An empty directory whose changes are going to be those of a list. Its pages share the bytes
    /// of the list's writes, each of which is kept in memory as long as one page of it is: so the
    /// list has to be kept as long as the directory.
    pub fn of_a_list(assumptions: Assumptions) -> Tree {
        Tree {
            is_of_a_list: true,
            ..Tree::new(assumptions)
        }
    }

    /// One of these nodes, all of which are durable.
    pub(super) fn of(
        assumptions: Assumptions,
        nodes: BTreeMap<InodeNumber, Rc<Node>>,
        next: u64,
    ) -> Tree {
        Tree {
            assumptions,
            allocated: nodes.values().map(|node| node.allocated()).sum(),
            nodes,
            next,
            unnamed: BTreeSet::new(),
            events: Vec::new(),
            is_of_a_list: false,
        }
    }

    /// The number for what is made next.
    pub fn next_number(&self) -> InodeNumber {
        InodeNumber(self.next)
    }

    /// How many files, directories and symbolic links are kept, those that have lost their name
    /// among them.
    pub fn node_count(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// The bytes that the content of all of them takes.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// What `stat` says.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn stat(&self, node: InodeNumber) -> HostResult<Found> {
        Ok(self.node(node)?.found())
    }

    /// What has this name.
    ///
    /// # Errors
    /// If nothing has, or what it is looked for in is no directory.
    pub fn lookup(&self, directory: InodeNumber, name: &OsStr) -> HostResult<InodeNumber> {
        check_name(name)?;
        let directory = self.node(directory)?.directory()?;
        directory.get(name).ok_or(HostError::NotFound)
    }

    /// What is in a directory, in order, and in which directory that is.
    ///
    /// # Errors
    /// If it is none.
    pub fn entries(&self, directory: InodeNumber) -> HostResult<(InodeNumber, Vec<Listed<'_>>)> {
        let directory = self.node(directory)?.directory()?;
        let entry = |(name, node)| Some((name, node, self.nodes.get(&node)?.kind()));
        let named = directory
            .iter()
            .map(|(name, node)| (name.as_os_str(), node));
        Ok((directory.parent, named.filter_map(entry).collect()))
    }

    /// What a file holds.
    ///
    /// # Errors
    /// If it is no file.
    pub fn content(&self, file: InodeNumber) -> HostResult<&FileContent> {
        Ok(self.node(file)?.file()?.current())
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// If it is none.
    pub fn target(&self, link: InodeNumber) -> HostResult<&Path> {
        match &self.node(link)?.body {
            Body::SymbolicLink(target) => Ok(target),
            _ => Err(INVALID),
        }
    }

    /// All that has a name, by its path, in order; the top is `.`. A directory comes before what
    /// is in it.
    pub fn walk(&self) -> Vec<(PathBuf, InodeNumber)> {
        let mut found = vec![(PathBuf::from("."), ROOT)];
        let mut seen = BTreeSet::new();
        let mut next = 0;
        while let Some((path, node)) = found.get(next).cloned() {
            next += 1;
            if !seen.insert(node) {
                continue;
            }
            let within = |name: &OsStr| match node {
                ROOT => PathBuf::from(name),
                _ => path.join(name),
            };
            if let Ok((_, entries)) = self.entries(node) {
                found.extend(entries.iter().map(|(name, node, _)| (within(name), *node)));
            }
        }
        found
    }

    /// A node is open once more.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn open(&mut self, node: InodeNumber) -> HostResult<()> {
        self.node_mut(node)?.open += 1;
        Ok(())
    }

    /// A node that was opened is closed.
    pub fn close(&mut self, node: InodeNumber) {
        if let Ok(node) = self.node_mut(node) {
            node.open = node.open.saturating_sub(1);
        }
    }

    /// Carries out a change, which has the number `index` in the list of changes. What fails has no
    /// effect.
    ///
    /// # Errors
    /// As a file system has them.
    pub fn carry_out(&mut self, index: u64, at: Moment, change: &TreeChange) -> HostResult<()> {
        match change {
            TreeChange::Write {
                file,
                at: from,
                data,
            } => {
                let data = match self.is_of_a_list {
                    true => Payload::Listed(Arc::clone(data)),
                    false => Payload::Sent(Arc::clone(data)),
                };
                self.change_file(index, at, *file, Change::Write { at: *from, data })
            }
            TreeChange::SetLen { file, len } => {
                self.change_file(index, at, *file, Change::SetLen(*len))
            }
            TreeChange::PunchHole { file, range } => {
                self.change_file(index, at, *file, Change::PunchHole(*range))
            }
            TreeChange::Reserve { file, range } => self.reserve(at, *file, *range),
            TreeChange::Create {
                name,
                node,
                what,
                attributes,
            } => self.create(index, at, name, *node, what, attributes),
            TreeChange::Link { node, name } => self.link(index, at, *node, name),
            TreeChange::Remove(name) => self.remove(index, at, name),
            TreeChange::Rename { from, to, exchange } => {
                self.rename(index, at, [from, to], *exchange)
            }
            TreeChange::SetAttributes { node, attributes } => {
                let node = self.node_mut(*node)?;
                node.give(attributes);
                node.changed = at;
                Ok(())
            }
            TreeChange::SyncFile(file) => {
                let persists = self.assumptions.sync_persists;
                let file = self.node_mut(*file)?.file_mut()?;
                if persists {
                    file.sync();
                }
                Ok(())
            }
            TreeChange::FailSync(file) => {
                let keeps_content = self.assumptions.failed_sync_keeps_content;
                let node = self.node_mut(*file)?;
                let before = node.allocated();
                node.file_mut()?.fail_sync(keeps_content);
                let after = node.allocated();
                self.allocated = self.allocated - before + after;
                Ok(())
            }
            TreeChange::SyncDirectory(directory) => self.sync_directory(*directory),
            TreeChange::Settle => {
                self.settle();
                Ok(())
            }
        }
    }

    /// Forgets what has no name, is not open, has no name after any power cut, and is not `needed`.
    /// Whoever builds a tree from a list of changes needs what a later one is about, which was open
    /// then. A directory stays as long as changes of its names are not durable: a sync of another
    /// one may make them so.
    pub fn forget_lost(&mut self, needed: impl Fn(InodeNumber) -> bool) {
        let is_lost = |number: &InodeNumber| {
            let node = self.nodes.get(number);
            node.is_some_and(|node| node.open == 0) && !needed(*number)
        };
        let unnamed = self.unnamed.iter().copied();
        let mut lost: BTreeSet<InodeNumber> = unnamed.filter(is_lost).collect();
        if lost.is_empty() {
            return;
        }
        for named in self.may_be_named(|inode| lost.contains(&inode)) {
            lost.remove(&named);
        }
        for edit in self.events.iter().flat_map(|event| &event.edits) {
            lost.remove(&edit.name.directory);
        }
        for number in lost {
            self.unnamed.remove(&number);
            if let Some(node) = self.nodes.remove(&number) {
                self.allocated -= node.allocated();
            }
        }
    }

    pub(super) fn node(&self, node: InodeNumber) -> HostResult<&Node> {
        self.nodes
            .get(&node)
            .map(|node| &**node)
            .ok_or(HostError::NotFound)
    }

    pub(super) fn node_mut(&mut self, node: InodeNumber) -> HostResult<&mut Node> {
        let node = self.nodes.get_mut(&node).ok_or(HostError::NotFound)?;
        Ok(Node::changed(node))
    }

    fn change_file(
        &mut self,
        index: u64,
        at: Moment,
        file: InodeNumber,
        change: Change,
    ) -> HostResult<()> {
        check_end(change.range())?;
        let node = self.node_mut(file)?;
        let before = node.allocated();
        let inode = node.file_mut()?;
        let is_same_len = |len| inode.current().length() == len;
        if !matches!(change, Change::SetLen(len) if is_same_len(len)) {
            inode.change(index, change);
        }
        node.content_changed(at);
        let after = node.allocated();
        self.allocated = self.allocated - before + after;
        Ok(())
    }

    fn reserve(&mut self, at: Moment, file: InodeNumber, range: FileRange) -> HostResult<()> {
        check_end(range)?;
        let node = self.node_mut(file)?;
        let before = node.allocated();
        node.file_mut()?.reserve(range);
        node.changed = at;
        let after = node.allocated();
        self.allocated = self.allocated - before + after;
        Ok(())
    }

    fn sync_directory(&mut self, directory: InodeNumber) -> HostResult<()> {
        self.node(directory)?.directory()?;
        if !self.assumptions.sync_persists {
            return Ok(());
        }
        let needed = needed_by(&self.events, directory, self.assumptions.ordered_names);
        let events = std::mem::take(&mut self.events);
        for (event, needed) in events.into_iter().zip(needed) {
            if !needed {
                self.events.push(event);
                continue;
            }
            for edit in &event.edits {
                self.node_mut(edit.name.directory)?
                    .directory_mut()?
                    .change_durably(edit);
            }
        }
        Ok(())
    }

    fn settle(&mut self) {
        for node in self.nodes.values_mut().filter(|node| !node.is_at_rest()) {
            Node::changed(node).settle();
        }
        self.events.clear();
    }

    /// The first byte at `from` or later that is data, or of a hole, the end of the file being one.
    /// `None` if there is none.
    ///
    /// # Errors
    /// If it is no file.
    pub fn seek(&self, file: InodeNumber, from: u64, data: bool) -> HostResult<Option<u64>> {
        let content = self.content(file)?;
        let len = content.length().0;
        if from >= len {
            return Ok(None);
        }
        let from = FileOffset(from);
        // Where it begins is known by its first byte.
        let first = content.next_data_up_to(from, Bytes(1)).map(|it| it.start);
        Ok(match data {
            true => first.map(|first| first.0),
            false if first == Some(from) => content.next_data(from).map(|run| run.end().0),
            false => Some(from.0),
        })
    }
}

fn check_end(FileRange { start, len }: FileRange) -> HostResult<()> {
    let end = start.0.checked_add(len.0);
    let is_possible = end.is_some_and(|end| end <= MOST_BYTES);
    is_possible.then_some(()).ok_or(HostError::TooLarge)
}

pub(super) fn check_name(name: &OsStr) -> HostResult<()> {
    let bytes = name.as_encoded_bytes();
    match bytes {
        b"" | b"." | b".." => Err(INVALID),
        _ if bytes.len() > LONGEST_NAME => Err(NAME_TOO_LONG),
        _ if bytes.contains(&b'/') || bytes.contains(&0) => Err(INVALID),
        _ => Ok(()),
    }
}
