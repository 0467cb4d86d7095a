//! What a resize of an open device comes to: by which strategy, how far, and why not. What it is,
//! a procedure, is in [`crate::ordered`].

use crate::host::{FailedOperation, HostError, OperationKind};
use crate::units::{Bytes, FileOffset};

/// How a resize goes about it; see `docs/format.md` and userhelper's planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Nothing moves: the bitmap still fits where it is.
    Headroom,
    /// What is dirty is copied, once, into a new file that replaces the old one.
    Rebuild,
    /// What is dirty is moved within the file, last bytes first.
    Reflow,
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Strategy::Headroom => "headroom",
            Strategy::Rebuild => "rebuild",
            Strategy::Reflow => "reflow",
        })
    }
}

/// A resize that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// How.
    pub strategy: Strategy,
    /// The size before.
    pub old_size: Bytes,
    /// The size now.
    pub new_size: Bytes,
    /// Bytes of data that were read and written elsewhere.
    pub moved: Bytes,
}

/// Why a resize ended early. Unless it says otherwise the device has its old size, all its
/// data, and can be used on and resized again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// A host operation failed.
    #[error("{doing}, at byte {at}: {error}")]
    Host {
        /// What the host was asked for.
        kind: OperationKind,
        /// What was being done, and on which file.
        doing: &'static str,
        /// Where in that file.
        at: FileOffset,
        /// What the host said.
        error: HostError,
    },
    /// A sync has failed before: what is durable is not known any more.
    #[error("a sync has failed: start the host anew and open the device again before a resize")]
    SyncFailed,
    /// The device cannot be resized like this.
    #[error("{0}")]
    Refused(String),
    /// It was given up. The device has its old size; or, where a reflow had moved something, a
    /// header that says so, and a recovery finishes the move.
    #[error("the resize was given up")]
    Abandoned,
}

impl ResizeError {
    /// For `map_err`: an operation of this kind failed, `doing` at `at`.
    pub fn host(
        kind: OperationKind,
        doing: &'static str,
        at: FileOffset,
    ) -> impl FnOnce(HostError) -> ResizeError {
        move |error| ResizeError::Host {
            kind,
            doing,
            at,
            error,
        }
    }

    /// For `map_err`: an operation failed, `doing` at `at`.
    pub fn failed(
        doing: &'static str,
        at: FileOffset,
    ) -> impl FnOnce(FailedOperation) -> ResizeError {
        move |failed| ResizeError::host(failed.kind, doing, at)(failed.error)
    }
}

/// How a resize ended.
pub type ResizeOutcome = Result<Resized, ResizeError>;

/// What one step of a resize came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResizeStep {
    /// No resize is under way.
    Idle,
    /// There is more to do.
    Working,
    /// A publication, requests that are kept out, or its own operation have to end first: step the
    /// device, then come again.
    Waiting,
    /// It is over. If it succeeded, the device has its new size, durably.
    Ended(ResizeOutcome),
}
