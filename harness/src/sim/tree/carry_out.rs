//! What there is in a simulated directory, and how a change is carried out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use driver::host::{HostError, HostResult};
use driver::units::{FileOffset, FileRange};

use super::super::assumptions::Assumptions;
use super::super::change::Change;
use super::super::content::FileContent;
use super::super::inode::Inode;
use super::super::survivors::InodeNumber;
use super::change::{Attributes, EntryName, Moment, NewNode, TreeChange};
use super::names::{Directory, Edit, NameEvent, needed_by};
use super::node::{Body, Found, INVALID, Node, NodeKind};

/// The directory at the top.
pub const ROOT: InodeNumber = InodeNumber(1);

/// The longest file, as on Linux: positions are signed there.
const MOST_BYTES: u64 = i64::MAX as u64;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 255;

/// ENAMETOOLONG.
const NAME_TOO_LONG: HostError = HostError::Os(36);

/// ENOTEMPTY.
const NOT_EMPTY: HostError = HostError::Os(39);

/// A simulated directory with all that is in it. A clone shares the content.
#[derive(Clone)]
pub struct Tree {
    pub(super) assumptions: Assumptions,
    pub(super) nodes: BTreeMap<InodeNumber, Node>,
    pub(super) next: u64,
    /// The changes of names that are not durable.
    pub(super) events: Vec<NameEvent>,
    allocated: u64,
}

impl Tree {
    /// An empty directory.
    pub fn new(assumptions: Assumptions) -> Tree {
        let mut root = Node::new(Body::Directory(Directory::new(ROOT)), Moment::default());
        (root.mode, root.links) = (0o755, 1);
        Tree::of(assumptions, BTreeMap::from([(ROOT, root)]), ROOT.0 + 1)
    }

    /// One of these nodes, all of which are durable.
    pub(super) fn of(
        assumptions: Assumptions,
        nodes: BTreeMap<InodeNumber, Node>,
        next: u64,
    ) -> Tree {
        Tree {
            assumptions,
            allocated: nodes.values().map(Node::allocated).sum(),
            nodes,
            next,
            events: Vec::new(),
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
    pub fn entries(
        &self,
        directory: InodeNumber,
    ) -> HostResult<(InodeNumber, Vec<(&OsStr, InodeNumber, NodeKind)>)> {
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
        let mut next = 0;
        while let Some((path, node)) = found.get(next).cloned() {
            next += 1;
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
                let data = Rc::from(&data[..]);
                self.change_file(index, at, *file, Change::Write { at: *from, data })
            }
            TreeChange::SetLen { file, len } => {
                self.change_file(index, at, *file, Change::SetLen(*len))
            }
            TreeChange::PunchHole { file, range } => {
                self.change_file(index, at, *file, Change::PunchHole(*range))
            }
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

    /// Forgets what has no name, is not open, and has no name after any power cut. Whoever builds
    /// a tree from a list of changes must not: a later one may be about a file that was open then.
    pub fn forget_lost(&mut self) {
        let is_lost = |node: &Node| node.links == 0 && node.open == 0;
        if !self.nodes.values().any(is_lost) {
            return;
        }
        let named = self.may_be_named();
        self.nodes
            .retain(|number, node| !is_lost(node) || named.contains(number));
        self.allocated = self.nodes.values().map(Node::allocated).sum();
    }

    pub(super) fn node(&self, node: InodeNumber) -> HostResult<&Node> {
        self.nodes.get(&node).ok_or(HostError::NotFound)
    }

    pub(super) fn node_mut(&mut self, node: InodeNumber) -> HostResult<&mut Node> {
        self.nodes.get_mut(&node).ok_or(HostError::NotFound)
    }

    fn change_file(
        &mut self,
        index: u64,
        at: Moment,
        file: InodeNumber,
        change: Change,
    ) -> HostResult<()> {
        let FileRange { start, len } = change.range();
        let end = start.0.checked_add(len.0);
        end.filter(|&end| end <= MOST_BYTES)
            .ok_or(HostError::TooLarge)?;
        let node = self.node_mut(file)?;
        let before = node.allocated();
        let inode = node.file_mut()?;
        let is_same_len = |len| inode.current().length() == len;
        if !matches!(change, Change::SetLen(len) if is_same_len(len)) {
            inode.change(index, change);
        }
        (node.modified, node.changed) = (at, at);
        let after = node.allocated();
        self.allocated = self.allocated - before + after;
        Ok(())
    }

    fn create(
        &mut self,
        index: u64,
        at: Moment,
        name: &EntryName,
        number: InodeNumber,
        what: &NewNode,
        attributes: &Attributes,
    ) -> HostResult<()> {
        self.check_free(name)?;
        if number.0 < self.next {
            return Err(INVALID);
        }
        let body = match what {
            NewNode::File => {
                let path = Rc::from(Path::new(&name.name));
                Body::File(Inode::new(&path, FileContent::default()))
            }
            NewNode::Directory => Body::Directory(Directory::new(name.directory)),
            NewNode::SymbolicLink(target) => Body::SymbolicLink(target.clone()),
        };
        let mut node = Node::new(body, at);
        node.give(attributes);
        let touches = match node.is_directory() {
            true => vec![name.directory, number],
            false => vec![name.directory],
        };
        self.nodes.insert(number, node);
        self.next = number.0.saturating_add(1);
        let edit = edit(name, None, Some(number));
        self.change_names(index, at, touches, vec![edit])
    }

    fn link(
        &mut self,
        index: u64,
        at: Moment,
        number: InodeNumber,
        name: &EntryName,
    ) -> HostResult<()> {
        self.check_free(name)?;
        let node = self.node_mut(number)?;
        if node.is_directory() {
            return Err(HostError::PermissionDenied);
        }
        node.changed = at;
        let edit = edit(name, None, Some(number));
        self.change_names(index, at, vec![name.directory], vec![edit])
    }

    fn remove(&mut self, index: u64, at: Moment, name: &EntryName) -> HostResult<()> {
        let number = self.lookup(name.directory, &name.name)?;
        let node = self.node_mut(number)?;
        let mut touches = vec![name.directory];
        if let Ok(directory) = node.directory() {
            if directory.len() > 0 {
                return Err(NOT_EMPTY);
            }
            touches.push(number);
        }
        node.changed = at;
        let edit = edit(name, Some(number), None);
        self.change_names(index, at, touches, vec![edit])
    }

    fn rename(
        &mut self,
        index: u64,
        at: Moment,
        [from, to]: [&EntryName; 2],
        exchange: bool,
    ) -> HostResult<()> {
        let moved = self.lookup(from.directory, &from.name)?;
        check_name(&to.name)?;
        let replaced = match self.lookup(to.directory, &to.name) {
            Err(HostError::NotFound) if !exchange => None,
            found => Some(found?),
        };
        if replaced == Some(moved) {
            // Two names of one file: POSIX asks for nothing to be done.
            return Ok(());
        }
        self.check_not_within(to.directory, moved)?;
        let mut touches = vec![from.directory, to.directory];
        if let Some(replaced) = replaced {
            match exchange {
                true => self.check_not_within(from.directory, replaced)?,
                false => self.check_replaceable(moved, replaced)?,
            }
            if self.node(replaced)?.is_directory() && !exchange {
                touches.push(replaced);
            }
        }
        let edits = vec![
            edit(from, Some(moved), replaced.filter(|_| exchange)),
            edit(to, replaced, Some(moved)),
        ];
        for node in replaced.into_iter().chain([moved]) {
            self.node_mut(node)?.changed = at;
        }
        self.change_names(index, at, touches, edits)
    }

    fn check_replaceable(&self, moved: InodeNumber, replaced: InodeNumber) -> HostResult<()> {
        let [moved, replaced] = [self.node(moved)?, self.node(replaced)?];
        match (moved.is_directory(), replaced.directory()) {
            (true, Ok(replaced)) if replaced.len() > 0 => Err(NOT_EMPTY),
            (true, Err(_)) => Err(HostError::NOT_A_DIRECTORY),
            (false, Ok(_)) => replaced.file().map(drop),
            _ => Ok(()),
        }
    }

    /// A directory must not be moved into itself.
    fn check_not_within(&self, directory: InodeNumber, moved: InodeNumber) -> HostResult<()> {
        let mut at = directory;
        while at != ROOT {
            if at == moved {
                return Err(INVALID);
            }
            at = self.node(at)?.directory()?.parent;
        }
        match moved {
            ROOT => Err(INVALID),
            _ => Ok(()),
        }
    }

    fn check_free(&self, name: &EntryName) -> HostResult<()> {
        let directory = self.node(name.directory)?;
        if directory.links == 0 {
            return Err(HostError::NotFound);
        }
        match self.lookup(name.directory, &name.name) {
            Ok(_) => Err(HostError::AlreadyExists),
            Err(HostError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn change_names(
        &mut self,
        index: u64,
        at: Moment,
        touches: Vec<InodeNumber>,
        edits: Vec<Edit>,
    ) -> HostResult<()> {
        for edit in &edits {
            let directory = self.node_mut(edit.name.directory)?;
            (directory.modified, directory.changed) = (at, at);
            directory.directory_mut()?.change(edit);
            if let Some(node) = edit.from.and_then(|node| self.nodes.get_mut(&node)) {
                node.links = node.links.saturating_sub(1);
            }
            if let Some(node) = edit.to.and_then(|node| self.nodes.get_mut(&node)) {
                node.links += 1;
                if let Ok(directory) = node.directory_mut() {
                    directory.parent = edit.name.directory;
                }
            }
        }
        self.events.push(NameEvent {
            index,
            touches,
            edits,
        });
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
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::File(file) => file.settle(),
                Body::Directory(directory) => directory.settle(),
                Body::SymbolicLink(_) => {}
            }
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
        let run = content.next_data(FileOffset(from));
        Ok(match (data, run) {
            (true, run) => run.map(|run| run.start.0),
            (false, Some(run)) if run.start.0 <= from => Some(run.end().0),
            (false, _) => Some(from),
        })
    }
}

fn edit(name: &EntryName, from: Option<InodeNumber>, to: Option<InodeNumber>) -> Edit {
    Edit {
        name: name.clone(),
        from,
        to,
    }
}

fn check_name(name: &OsStr) -> HostResult<()> {
    let bytes = name.as_encoded_bytes();
    match bytes {
        b"" | b"." | b".." => Err(INVALID),
        _ if bytes.len() > LONGEST_NAME => Err(NAME_TOO_LONG),
        _ if bytes.contains(&b'/') || bytes.contains(&0) => Err(INVALID),
        _ => Ok(()),
    }
}
