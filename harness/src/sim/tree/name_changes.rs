//! How names change in a simulated directory: what is made, linked, removed and renamed, and what
//! of that a file system refuses.

use std::path::Path;
use std::rc::Rc;

use driver::host::{HostError, HostResult};

use super::super::content::FileContent;
use super::super::inode::Inode;
use super::super::survivors::InodeNumber;
use super::carry_out::{ROOT, Tree, check_name};
use super::change::{Attributes, EntryName, Moment, NewNode};
use super::names::{Directory, Edit, NameEvent};
use super::node::{Body, INVALID, Node};

/// ENOTEMPTY.
const NOT_EMPTY: HostError = HostError::Os(39);

impl Tree {
    pub(super) fn create(
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
        self.nodes.insert(number, Rc::new(node));
        self.next = number.0.saturating_add(1);
        let edit = edit(name, None, Some(number));
        self.change_names(index, at, touches, vec![edit])
    }

    pub(super) fn link(
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

    pub(super) fn remove(&mut self, index: u64, at: Moment, name: &EntryName) -> HostResult<()> {
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

    pub(super) fn rename(
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
            directory.content_changed(at);
            directory.directory_mut()?.change(edit);
            if let Some(node) = edit.from.and_then(|node| self.node_mut(node).ok()) {
                node.links = node.links.saturating_sub(1);
            }
            if let Some(node) = edit.to.and_then(|node| self.node_mut(node).ok()) {
                node.links += 1;
                if let Ok(directory) = node.directory_mut() {
                    directory.parent = edit.name.directory;
                }
            }
        }
        let nodes = edits.iter().flat_map(|edit| [edit.from, edit.to]).flatten();
        for number in nodes {
            match self.nodes.get(&number).is_some_and(|node| node.links == 0) {
                true => self.unnamed.insert(number),
                false => self.unnamed.remove(&number),
            };
        }
        self.events.push(NameEvent {
            index,
            touches,
            edits,
        });
        Ok(())
    }
}

fn edit(name: &EntryName, from: Option<InodeNumber>, to: Option<InodeNumber>) -> Edit {
    Edit {
        name: name.clone(),
        from,
        to,
    }
}
