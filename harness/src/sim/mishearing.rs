//! Programs that mistake what a host says to them: the host does what it does, and whoever uses it
//! goes on as if it had said something else. The judge's doubles are made of it.

use std::path::Path;
use std::rc::Rc;

use driver::host::{HostError, HostResult, OperationKind};

use super::call::Call;
use super::change::Change;
use super::faults::{Fault, Injected};
use super::host::SimHost;
use super::state::State;
use super::survivors::InodeNumber;

/// What a program mistakes. By default it mistakes nothing.
#[derive(Clone, Copy, Default)]
pub struct Mishearing {
    /// Punches of holes and zeroings that have failed with these faults are taken for done.
    pub takes_for_done: Option<fn(&Injected) -> bool>,
    /// A rename that has taken effect and reported an error is taken for not done: who looks for
    /// the new name next does not find it.
    pub misses_renames: bool,
    /// What the file of this name holds is taken for durable: what is there already is not written,
    /// and without a write the file is not synced.
    pub takes_for_durable: Option<&'static str>,
}

impl SimHost {
    /// From here on, whoever uses the host mistakes what it says.
    pub fn mishear(&self, mishearing: Mishearing) {
        self.state_mut().mishearing = mishearing;
    }

    /// What is taken for the result of the operation that was carried out last.
    pub(super) fn heard(&self, result: HostResult<()>) -> HostResult<()> {
        let state = self.state();
        match (state.mishearing.takes_for_done, state.injected.last()) {
            (Some(takes), Some(last)) if last.call.index + 1 == state.operations && takes(last) => {
                Ok(())
            }
            _ => result,
        }
    }
}

impl State {
    /// Takes note of an operation that suffers a fault.
    pub(super) fn mishear(&mut self, call: &Call, fault: Option<Fault>) {
        if self.mishearing.misses_renames
            && (call.kind, fault) == (OperationKind::Rename, Some(Fault::IoAfter))
        {
            self.missed_name = call.to.clone();
        }
    }

    /// Whether a change of a file is left out, for it is there already.
    pub(super) fn leaves_out(
        &mut self,
        path: &Rc<Path>,
        inode: InodeNumber,
        change: &Change,
    ) -> bool {
        if !self.is_taken_for_durable(path) {
            return false;
        }
        let is_there = match change {
            Change::Write { at, data } => self.inode(inode).current().holds(data, *at),
            _ => false,
        };
        self.has_written |= !is_there;
        is_there
    }

    /// Whether a sync of a file is left out, for nothing was written.
    pub(super) fn leaves_out_sync(&mut self, path: &Rc<Path>) -> bool {
        self.is_taken_for_durable(path) && !std::mem::take(&mut self.has_written)
    }

    fn is_taken_for_durable(&self, path: &Rc<Path>) -> bool {
        let taken = self.mishearing.takes_for_durable;
        taken.is_some_and(|taken| **path == *Path::new(taken))
    }

    /// Whether a name is not found that is there.
    pub(super) fn misses(&mut self, path: &Rc<Path>) -> HostResult<()> {
        match self.missed_name.take_if(|missed| missed == path) {
            Some(_) => Err(HostError::NotFound),
            None => Ok(()),
        }
    }
}
