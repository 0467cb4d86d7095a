//! Making a range of a file read as zeros: a hole, where the host makes holes; zeros whose space is
//! kept, where it knows those; and otherwise zeros that are written.

use std::convert::Infallible;

use crate::coroutine::at_once;
use crate::units::FileRange;

use super::operation::{Action, FinishedAction};
use super::{HostError, HostFile, HostResult};

impl Action {
    /// What makes the range read as zeros where the host does not know this action, if there is
    /// something.
    pub fn instead(&self) -> Option<Action> {
        match self {
            Action::PunchHole(range) => Some(Action::ZeroRange(*range)),
            Action::ZeroRange(range) => Some(Action::WriteZeros(*range)),
            _ => None,
        }
    }

    /// This action on another range, if it is one that makes a range read as zeros. Any other
    /// stays as it is.
    #[must_use]
    pub fn over(self, range: FileRange) -> Action {
        match self {
            Action::PunchHole(_) => Action::PunchHole(range),
            Action::ZeroRange(_) => Action::ZeroRange(range),
            Action::WriteZeros(_) => Action::WriteZeros(range),
            other => other,
        }
    }
}

impl FinishedAction {
    /// What takes its place, if the host does not know it and there is something.
    pub fn instead(&self) -> Option<Action> {
        match self.result {
            Err(HostError::Unsupported) => self.action.instead(),
            _ => None,
        }
    }
}

/// Carries out `action` by `carry_out`, or what takes its place where the host does not know it.
/// Which action that was in the end, the result says.
///
/// # Errors
/// What `carry_out` says.
pub async fn carry_out_or_instead<E>(
    action: Action,
    mut carry_out: impl AsyncFnMut(Action) -> Result<FinishedAction, E>,
) -> Result<FinishedAction, E> {
    let mut action = action;
    loop {
        let ended = carry_out(action).await?;
        match ended.instead() {
            Some(instead) => action = instead,
            None => return Ok(ended),
        }
    }
}

/// Makes a range of a file read as zeros: a hole where the host can, zeros otherwise.
///
/// # Errors
/// The host's.
pub fn clear<F: HostFile>(file: &F, range: FileRange) -> HostResult<()> {
    let carry_out = async |mut action: Action| {
        let result = action.carry_out(file, None);
        Ok::<_, Infallible>(FinishedAction { action, result })
    };
    let Ok(ended) = at_once(carry_out_or_instead(Action::PunchHole(range), carry_out));
    ended.result
}
