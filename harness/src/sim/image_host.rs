//! The simulated host as the image tools see it, so that every resize can crash here. Where it
//! shares no extents a rebuild copies, which takes more operations and so has more places to
//! crash.

use std::ops::ControlFlow;
use std::path::Path;

use driver::host::{HostResult, OperationKind};
use driver::units::{Bytes, SECTOR_SIZE};
use userhelper::image_host::{FreeSpace, ImageHost};

use super::call::Call;
use super::file::SimFile;
use super::host::SimHost;

impl ImageHost for SimHost {
    fn free_space_beside(&self, _path: &Path) -> HostResult<Option<FreeSpace>> {
        let state = self.state();
        let free = |capacity: Bytes| FreeSpace {
            free: Bytes(capacity.0.saturating_sub(state.used().0)),
            block: Bytes(SECTOR_SIZE),
        };
        Ok(state.capacity.map(free))
    }

    fn set_modified(&self, file: &SimFile, seconds: i64) -> HostResult<()> {
        let call = Call::new(OperationKind::SetModified, file.path());
        self.perform(
            call,
            |()| 0,
            |state, _, _| {
                state.set_modified(file.inode(), seconds);
                Ok(())
            },
        )
    }

    fn sync_all(&self, file: &SimFile) -> HostResult<()> {
        file.sync(true)
    }

    fn allocated(&self, file: &SimFile) -> HostResult<Option<Bytes>> {
        let state = self.state();
        Ok(Some(state.inode(file.inode()).current().allocated()))
    }

    /// Time stands still: two runs of one seed are the same, whatever the machine does.
    fn now_ns(&self) -> u64 {
        0
    }

    fn now_seconds(&self) -> i64 {
        self.state().now()
    }

    /// Waiting takes no time, and the clock is there at once.
    fn wait_until(
        &self,
        seconds: i64,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        goes_on()?;
        self.advance_clock(seconds);
        ControlFlow::Continue(())
    }
}
