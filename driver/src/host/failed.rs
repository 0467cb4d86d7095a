//! An operation of the host that failed, for whoever tells of it elsewhere.

use super::{HostError, OperationKind};

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOperation {
    /// What was asked for.
    pub kind: OperationKind,
    /// What the host said.
    pub error: HostError,
}

impl OperationKind {
    /// For `map_err`: an operation of this kind failed.
    pub fn failed(self) -> impl FnOnce(HostError) -> FailedOperation {
        move |error| FailedOperation { kind: self, error }
    }
}
