//! An executor of operations that waits to be told. Shared by the tests here and those of
//! userhelper (`userhelper/tests/it/relocation_in_flight.rs`).

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, Operation};
use driver::memory::MemoryFile;

/// Keeps what was begun until it is told to carry it out.
#[derive(Default)]
pub(crate) struct Later {
    pub(crate) begun: Vec<Operation>,
    pub(crate) files: Option<Files<MemoryFile>>,
}

impl Executor<MemoryFile> for Later {
    fn room(&self) -> usize {
        64
    }

    fn under_way(&self) -> usize {
        self.begun.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<MemoryFile>) {
        self.files = Some(files.clone());
        self.begun.push(operation);
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(None)
    }
}
