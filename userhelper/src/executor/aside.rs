//! A thread beside the ring, for what the ring is not asked for: punching and zeroing ranges,
//! looking for data, lengths, sharing extents. Any of them may take its time, in the file system or
//! for the disk. Whoever began it would wait for it, and all requests with him.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use driver::executor::{Died, Files};
use driver::host::{Finished, Operation};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::real_files::RealFile;

use super::threads::{Job, Report, work};

/// The most wakes that are taken at once.
const WAKES: usize = 64;

/// The thread, and how it is heard of.
pub(super) struct Aside {
    jobs: Option<Sender<Job<RealFile>>>,
    reports: Receiver<Report>,
    /// Becomes readable when an operation has ended.
    wakes: PipeReader,
    worker: Option<JoinHandle<()>>,
    under_way: usize,
}

impl Aside {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn start() -> io::Result<Aside> {
        let (jobs, from_device) = unbounded();
        let (to_device, reports) = unbounded();
        let (wakes, waker) = io::pipe()?;
        fcntl_setfl(&wakes, OFlags::NONBLOCK)?;
        fcntl_setfl(&waker, OFlags::NONBLOCK)?;
        let worker = std::thread::Builder::new()
            .name("ubd-aside".into())
            .spawn(move || work(&from_device, &to_device, || wake(&waker)))?;
        Ok(Aside {
            jobs: Some(jobs),
            reports,
            wakes,
            worker: Some(worker),
            under_way: 0,
        })
    }

    /// Operations that [`Aside::ended`] has not given back.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn begin(&mut self, operation: Operation, files: &Files<RealFile>) {
        if let Some(jobs) = &self.jobs {
            self.under_way += 1;
            // The thread ends after this does.
            let _ = jobs.send(Job::of(operation, files));
        }
    }

    /// What has ended, if anything has.
    pub(super) fn ended(&mut self) -> Option<Result<Finished, Died>> {
        let report = self.reports.try_recv().ok()?;
        self.under_way -= 1;
        Some(report)
    }

    /// What ends next, if anything does within this time, or ever. There has to be one under way.
    pub(super) fn wait(&mut self, longest: Option<Duration>) -> Option<Result<Finished, Died>> {
        let report = match longest {
            None => self
                .reports
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(longest) => self.reports.recv_timeout(longest),
        };
        let report = match report {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Err(Died {
                what: "the thread beside the ring has ended".into(),
            }),
        };
        self.under_way -= 1;
        Some(report)
    }

    /// What becomes readable when an operation ends.
    pub(super) fn wakes(&self) -> RawFd {
        self.wakes.as_raw_fd()
    }

    /// Takes note of what was readable: from here on it is so when another operation ends.
    pub(super) fn is_awake(&mut self) {
        let mut wakes = [0; WAKES];
        // A pipe that is empty says so, and one that is not wakes once more.
        let _ = self.wakes.read(&mut wakes);
    }
}

fn wake(mut waker: &PipeWriter) {
    // One that is full is readable as it is.
    let _ = waker.write(&[0]);
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take() {
            // It catches what panics, and says so.
            let _ = worker.join();
        }
    }
}
