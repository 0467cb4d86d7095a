//! The host of a disk that is about to fail.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Action, Finished, HostError, Operation};
use harness::device::Taken;
use harness::serve::About;
use userhelper::real_files::RealFile;

/// The most operations that are under way.
const DEPTH: usize = 64;

/// Carries each operation out where it begins. A sync fails instead while `syncs_fail` is set.
pub(crate) struct Failing {
    ended: VecDeque<Finished>,
    syncs_fail: Arc<AtomicBool>,
}

impl Failing {
    /// A host whose syncs fail while this is set.
    pub(crate) fn when(syncs_fail: &Arc<AtomicBool>) -> Failing {
        Failing {
            ended: VecDeque::new(),
            syncs_fail: Arc::clone(syncs_fail),
        }
    }
}

impl Executor<RealFile> for Failing {
    fn room(&self) -> usize {
        DEPTH.saturating_sub(self.ended.len())
    }

    fn under_way(&self) -> usize {
        self.ended.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<RealFile>) {
        let fails = operation.action == Action::SyncData && self.syncs_fail.load(Ordering::SeqCst);
        self.ended.push_back(match fails {
            true => Finished {
                operation,
                result: Err(HostError::Io),
            },
            false => files.carry_out(operation),
        });
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(self.ended.pop_front())
    }
}

/// What is known of a device on such a host.
pub(crate) fn about(path: PathBuf) -> About {
    About {
        path,
        driver: "ordered",
        defects: Vec::new(),
        io: Taken::Inline,
        read_only: false,
        synchronous: false,
        resizes: true,
        allow_shrink: false,
    }
}
