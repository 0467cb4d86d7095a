//! One file, directory or symbolic link of a simulated directory.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use driver::host::{HostError, HostResult};

use super::super::inode::Inode;
use super::change::{Attributes, Moment};
use super::names::Directory;

/// EISDIR.
const IS_A_DIRECTORY: HostError = HostError::Os(21);

/// EINVAL.
pub(super) const INVALID: HostError = HostError::Os(22);

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    SymbolicLink,
}

/// What `stat` says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as stat names them")]
pub struct Found {
    pub kind: NodeKind,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub len: u64,
    pub allocated: u64,
    /// Its names; of a directory 1.
    pub links: u32,
    pub accessed: Moment,
    pub modified: Moment,
    pub changed: Moment,
}

#[derive(Clone)]
pub(super) enum Body {
    File(Inode),
    Directory(Directory),
    SymbolicLink(PathBuf),
}

/// A node, with what is known of it beside its content.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) accessed: Moment,
    pub(super) modified: Moment,
    /// That time was given to it, as by `touch` or `cp -p`, and nothing has changed it since.
    pub(super) modified_is_given: bool,
    pub(super) changed: Moment,
    /// How many names it has now.
    pub(super) links: u32,
    /// How often it is open.
    pub(super) open: u32,
    /// A number that a node does not have of which a reader sees something else. It is made when
    /// it is asked for first.
    digest: OnceCell<u128>,
}

impl Node {
    pub(super) fn new(body: Body, at: Moment) -> Node {
        Node {
            body,
            mode: 0,
            user: 0,
            group: 0,
            accessed: at,
            modified: at,
            modified_is_given: false,
            changed: at,
            links: 0,
            open: 0,
            digest: OnceCell::new(),
        }
    }

    /// The node, to be changed, which other trees may share until then.
    pub(super) fn changed(shared: &mut Rc<Node>) -> &mut Node {
        let node = Rc::make_mut(shared);
        node.digest.take();
        node
    }

    /// What is known of it by now, or else what `make` says.
    pub(super) fn digest_or(&self, make: impl FnOnce(&Node) -> u128) -> u128 {
        *self.digest.get_or_init(|| make(self))
    }

    /// Whether nothing of it would be at stake in a power cut but what its directories say.
    pub(super) fn is_at_rest(&self) -> bool {
        match &self.body {
            Body::File(file) => file.is_at_rest(),
            Body::Directory(directory) => directory.is_at_rest(),
            Body::SymbolicLink(_) => true,
        }
    }

    /// Makes it durable as it is now.
    pub(super) fn settle(&mut self) {
        match &mut self.body {
            Body::File(file) => file.settle(),
            Body::Directory(directory) => directory.settle(),
            Body::SymbolicLink(_) => {}
        }
    }

    pub(super) fn kind(&self) -> NodeKind {
        match &self.body {
            Body::File(_) => NodeKind::File,
            Body::Directory(_) => NodeKind::Directory,
            Body::SymbolicLink(_) => NodeKind::SymbolicLink,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == NodeKind::Directory
    }

    /// As a file.
    pub(super) fn file(&self) -> HostResult<&Inode> {
        match &self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(IS_A_DIRECTORY),
            Body::SymbolicLink(_) => Err(INVALID),
        }
    }

    pub(super) fn file_mut(&mut self) -> HostResult<&mut Inode> {
        match &mut self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(IS_A_DIRECTORY),
            Body::SymbolicLink(_) => Err(INVALID),
        }
    }

    /// As a directory.
    pub(super) fn directory(&self) -> HostResult<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(HostError::NOT_A_DIRECTORY),
        }
    }

    pub(super) fn directory_mut(&mut self) -> HostResult<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(HostError::NOT_A_DIRECTORY),
        }
    }

    /// The space that its content takes.
    pub(super) fn allocated(&self) -> u64 {
        match &self.body {
            Body::File(file) => file.current().allocated().0,
            _ => 0,
        }
    }

    pub(super) fn give(&mut self, attributes: &Attributes) {
        let Attributes {
            mode,
            user,
            group,
            accessed,
            modified,
        } = *attributes;
        self.mode = mode.unwrap_or(self.mode);
        self.user = user.unwrap_or(self.user);
        self.group = group.unwrap_or(self.group);
        self.accessed = accessed.unwrap_or(self.accessed);
        if let Some(modified) = modified {
            (self.modified, self.modified_is_given) = (modified, true);
        }
    }

    /// Its content has changed.
    pub(super) fn content_changed(&mut self, at: Moment) {
        (self.modified, self.modified_is_given) = (at, false);
        self.changed = at;
    }

    pub(super) fn found(&self) -> Found {
        let len = match &self.body {
            Body::File(file) => file.current().length().0,
            Body::Directory(directory) => directory.len() as u64,
            Body::SymbolicLink(target) => target.as_os_str().len() as u64,
        };
        Found {
            kind: self.kind(),
            mode: self.mode,
            user: self.user,
            group: self.group,
            len,
            allocated: self.allocated(),
            // Of a directory some programs take a larger number for that of its subdirectories.
            links: if self.is_directory() { 1 } else { self.links },
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
        }
    }
}
