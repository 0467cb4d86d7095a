//! What the kernel's requests about names mean.

use std::ffi::{OsStr, OsString};

use driver::host::{HostError, OperationKind};
use fuser::{Errno, FileAttr, RenameFlags};

use super::mounted_tree::MountedTree;
use super::translation::errno;
use crate::sim::InodeNumber;
use crate::sim::tree::{Attributes, EntryName, NewNode, NodeKind, TreeChange};

/// What a new file is, and whose.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) what: NewNode,
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// The bit of a directory's mode that gives what is made in it the directory's group.
const SET_GROUP: u32 = 0o2000;

impl MountedTree {
    pub(super) fn look_up(
        &mut self,
        directory: InodeNumber,
        name: &OsStr,
    ) -> Result<FileAttr, Errno> {
        let node = self.tree.lookup(directory, name);
        self.attributes(node.map_err(|error| errno(&error))?)
    }

    pub(super) fn make(&mut self, name: EntryName, made: Made) -> Result<FileAttr, Errno> {
        let within = self.tree.stat(name.directory);
        let within = within.map_err(|error| errno(&error))?;
        let is_directory = made.what == NewNode::Directory;
        let (kind, inherited) = match is_directory {
            true => (OperationKind::MakeDirectory, within.mode & SET_GROUP),
            false => (OperationKind::CreateNew, 0),
        };
        let group = match within.mode & SET_GROUP {
            0 => made.group,
            _ => within.group,
        };
        let node = self.tree.next_number();
        let attributes = Attributes {
            mode: Some(made.mode & 0o7777 | inherited),
            user: Some(made.user),
            group: Some(group),
            ..Attributes::default()
        };
        let change = TreeChange::Create {
            name,
            node,
            what: made.what,
            attributes,
        };
        self.carry_out_if(kind, change, |tree, change| {
            tree.check_room_for_a_node().map(|()| change)
        })?;
        self.attributes(node)
    }

    pub(super) fn link(&mut self, node: InodeNumber, name: EntryName) -> Result<FileAttr, Errno> {
        self.carry_out(OperationKind::Link, TreeChange::Link { node, name })?;
        self.attributes(node)
    }

    pub(super) fn remove(&mut self, name: EntryName, is_directory: bool) -> Result<(), Errno> {
        let entry = name.clone();
        let remove = TreeChange::Remove(name);
        self.carry_out_if(OperationKind::Remove, remove, |mounted, remove| {
            let tree = &mounted.tree;
            let node = tree.lookup(entry.directory, &entry.name);
            let found = node.and_then(|node| tree.stat(node));
            let found = found.map_err(|error| errno(&error))?;
            match (is_directory, found.kind == NodeKind::Directory) {
                (true, false) => Err(Errno::ENOTDIR),
                (false, true) => Err(Errno::EISDIR),
                _ => Ok(remove),
            }
        })
    }

    pub(super) fn rename(
        &mut self,
        from: EntryName,
        to: EntryName,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let exchange = flags == RenameFlags::RENAME_EXCHANGE;
        let replaces = flags != RenameFlags::RENAME_NOREPLACE;
        if replaces && !exchange && !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        let target = to.clone();
        let rename = TreeChange::Rename { from, to, exchange };
        self.carry_out_if(
            OperationKind::Rename,
            rename,
            |mounted, rename| match mounted.tree.lookup(target.directory, &target.name) {
                _ if replaces => Ok(rename),
                Err(HostError::NotFound) => Ok(rename),
                Ok(_) => Err(Errno::EEXIST),
                Err(error) => Err(errno(&error)),
            },
        )
    }

    pub(super) fn target(&mut self, link: InodeNumber) -> Result<Vec<u8>, Errno> {
        let target = self.tree.target(link).map_err(|error| errno(&error))?;
        Ok(target.as_os_str().as_encoded_bytes().to_vec())
    }

    /// The entries of an open directory from `offset` on, of which the kernel has had those before.
    /// From the front on they are those that there are then; whoever reads on sees no more and no
    /// fewer, whatever happens meanwhile.
    pub(super) fn entries(
        &mut self,
        directory: InodeNumber,
        handle: u64,
        offset: u64,
    ) -> Result<&[(OsString, InodeNumber, NodeKind)], Errno> {
        if offset == 0 {
            let entries = self.tree.entries(directory);
            let (parent, named) = entries.map_err(|error| errno(&error))?;
            let dots = [(".", directory), ("..", parent)];
            let dots = dots.map(|(name, node)| (OsString::from(name), node, NodeKind::Directory));
            let named = named.into_iter();
            let named = named.map(|(name, node, kind)| (name.to_owned(), node, kind));
            let all = dots.into_iter().chain(named).collect();
            self.handle(handle)?.entries = all;
        }
        let entries = &self.handle(handle)?.entries;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(&entries[from.min(entries.len())..])
    }

    pub(super) fn sync_directory(&mut self, directory: InodeNumber) -> Result<(), Errno> {
        let change = TreeChange::SyncDirectory(directory);
        self.carry_out(OperationKind::SyncDirectory, change)
    }
}
