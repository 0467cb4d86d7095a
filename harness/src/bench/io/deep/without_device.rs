//! The reads of a run with no device between, in each way that the crate `bare` has.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bare::{Files, Place, Pool, Registered, Ring, in_turn};
use driver::executor;
use userhelper::real_files::RealFile;

use super::super::device::SetUpError;
use super::cases::BLOCK;
use crate::clock;

/// The index of the COW file.
pub(super) const COW_FILE: usize = 0;
/// The index of the backing file.
pub(super) const BACKING_FILE: usize = 1;

/// A way to read without a device.
#[derive(Clone, Copy)]
pub(super) enum Bare {
    InTurn,
    /// A ring that knows as much before as it may.
    Ring,
    /// A ring that knows this.
    RingKnowing(Registered),
    Threads,
}

impl Bare {
    /// Those that have several reads in flight.
    pub(super) const SIDE_BY_SIDE: [Bare; 2] = [Bare::Ring, Bare::Threads];

    /// As in a row.
    pub(super) fn name(self) -> &'static str {
        match self {
            Bare::InTurn => "one after the other",
            Bare::Ring | Bare::RingKnowing(_) => "a bare io_uring loop",
            Bare::Threads => "bare threads",
        }
    }

    /// What the reads take. `None` where the kernel has no such ring, or does not allow it.
    pub(super) fn time(
        self,
        files: &Files,
        depth: usize,
        places: &Arc<[Place]>,
    ) -> Result<Option<Duration>, SetUpError> {
        let len = BLOCK as usize;
        let ring = |registered| Ring::new(files, depth, len, registered);
        let by_ring = |ring: io::Result<Ring>| {
            let ring = ring.ok();
            ring.map(|mut ring| timed(|| ring.read(places))).transpose()
        };
        let time = match self {
            Bare::InTurn => timed(|| in_turn(files, len, places)).map(Some),
            // Buffers that stay in memory may be more than a user's share.
            Bare::Ring => {
                let best = ring(Registered::FilesAndBuffers);
                by_ring(best.or_else(|_| ring(Registered::Files)))
            }
            Bare::RingKnowing(registered) => by_ring(ring(registered)),
            Bare::Threads => {
                let pool = Pool::start(files, depth, len);
                pool.and_then(|mut pool| timed(|| pool.read(places)).map(Some))
            }
        };
        let way = self.name();
        time.map_err(|error| SetUpError::Bare { way, error })
    }
}

fn timed(read: impl FnOnce() -> io::Result<u64>) -> io::Result<Duration> {
    let started = clock::start();
    read()?;
    Ok(started.elapsed())
}

/// Second descriptors of a device's files, with the flags of the first ones.
pub(super) fn files_of(files: &executor::Files<RealFile>) -> io::Result<Files> {
    let both = [Some(&files.cow), files.backing.as_ref()];
    let opened = both.into_iter().flatten();
    let opened = opened.map(|file| Ok(File::from(file.as_fd().try_clone_to_owned()?)));
    opened.collect()
}
