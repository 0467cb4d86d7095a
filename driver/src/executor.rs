//! The seam to whoever carries host operations out: at once, in threads that wait, or by asking
//! the kernel for many at a time. [`crate::ordered::Ordered::step`] carries them out where they are
//! given, which needs no executor.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::host::{Action, FileRole, Finished, HostFile, Operation};

/// The host files under a device.
#[derive(Debug)]
pub struct Files<F> {
    /// The COW file, or a raw disk.
    pub cow: Arc<F>,
    /// The backing file; `None` for a raw disk, and where only the COW file is worked on.
    pub backing: Option<Arc<F>>,
    /// The file that a rebuild makes, while it does.
    pub new: Option<Arc<F>>,
}

impl<F> Clone for Files<F> {
    fn clone(&self) -> Files<F> {
        Files {
            cow: Arc::clone(&self.cow),
            backing: self.backing.clone(),
            new: self.new.clone(),
        }
    }
}

impl<F> Files<F> {
    /// The file with this role, if there is one.
    #[inline]
    pub fn of(&self, role: FileRole) -> Option<&Arc<F>> {
        match role {
            FileRole::Cow | FileRole::RawDisk => Some(&self.cow),
            FileRole::Backing => self.backing.as_ref(),
            FileRole::New => self.new.as_ref(),
        }
    }

    /// The file that an operation shares a range of, if it does that.
    #[inline]
    pub fn source_of(&self, operation: &Operation) -> Option<&Arc<F>> {
        match operation.action {
            Action::CloneRange { source, .. } => self.of(source),
            _ => None,
        }
    }
}

impl<F: HostFile> Files<F> {
    /// Carries an operation out on them, and waits for it.
    #[inline]
    pub fn carry_out(&self, operation: Operation) -> Finished {
        let file = self.of(operation.file).map(Arc::as_ref);
        let source = self.source_of(&operation).map(Arc::as_ref);
        operation.carry_out(file, source)
    }
}

/// Whether to wait where nothing has ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// No.
    No,
    /// Until an operation has ended. There has to be one under way.
    ForOne,
    /// Likewise, but no longer than this.
    AtMost(Duration),
}

/// Why nothing ends any more: what happened to what carries operations out. A device that refuses
/// something, or whose host does, has not died.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Died {
    /// In words.
    pub what: String,
}

impl Died {
    /// A thread that does a device's I/O has ended with this panic.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Died {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let why = words.unwrap_or("no reason was given");
        Died {
            what: format!("a thread that does the device's I/O has died: {why}"),
        }
    }
}

/// Carries operations out, several at a time. They may end in any order, and each ends once.
///
/// What is dropped with operations under way waits for them: they write into buffers.
pub trait Executor<F> {
    /// How many operations may be under way beside those that are.
    fn room(&self) -> usize;

    /// How many operations were begun, and have not been given back by [`Executor::finished`].
    /// With none, waiting brings nothing.
    fn under_way(&self) -> usize;

    /// Begins an operation on one of `files`. There has to be room.
    fn begin(&mut self, operation: Operation, files: &Files<F>);

    /// An operation that has ended, if there is one.
    ///
    /// # Errors
    /// That none will end any more.
    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died>;
}
