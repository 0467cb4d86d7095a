//! A pool of threads that wait in system calls.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, HostFile, Operation};

/// The most threads that a pool has.
const MOST_THREADS: usize = 64;

/// How often a side looks, before it goes to sleep, whether the other has sent something. All the
/// looks together take a few microseconds, about what it takes to wake a sleeper.
const LOOKS: u32 = 64;

/// An operation on its way to a thread.
pub(super) struct Job<F> {
    operation: Operation,
    file: Option<Arc<F>>,
    /// See [`Files::source_of`].
    source: Option<Arc<F>>,
}

impl<F> Job<F> {
    pub(super) fn of(operation: Operation, files: &Files<F>) -> Job<F> {
        Job {
            file: files.of(operation.file).cloned(),
            source: files.source_of(&operation).cloned(),
            operation,
        }
    }
}

/// What a worker has to say.
pub(super) type Report = Result<Finished, Died>;

/// A pool of threads, each of which carries one operation out at a time.
#[derive(Debug)]
pub struct Threads<F> {
    jobs: Option<Sender<Job<F>>>,
    reports: Receiver<Report>,
    workers: Vec<JoinHandle<()>>,
    under_way: usize,
    most: usize,
}

impl<F: HostFile + Send + Sync + 'static> Threads<F> {
    /// Starts `threads` threads, at least 1 and at most 64. As many operations are
    /// under way at most.
    ///
    /// # Errors
    /// If the operating system gives none of them.
    pub fn start(threads: usize) -> io::Result<Threads<F>> {
        let (jobs, from_device) = unbounded::<Job<F>>();
        let (to_device, reports) = unbounded();
        let mut workers = Vec::new();
        for index in 0..threads.clamp(1, MOST_THREADS) {
            let (jobs, reports) = (from_device.clone(), to_device.clone());
            let started = std::thread::Builder::new()
                .name(format!("ubd-io-{index}"))
                .spawn(move || work(&jobs, &reports, || ()));
            match started {
                Ok(worker) => workers.push(worker),
                // A few are enough to go on with.
                Err(_) if !workers.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Threads {
            jobs: Some(jobs),
            reports,
            most: workers.len(),
            workers,
            under_way: 0,
        })
    }
}

/// Carries jobs out until no more can come. After each report it calls `reported`.
pub(super) fn work<F: HostFile>(
    jobs: &Receiver<Job<F>>,
    reports: &Sender<Report>,
    reported: impl Fn(),
) {
    while let Ok(job) = receive(jobs) {
        let carried_out = catch_unwind(AssertUnwindSafe(|| {
            let (file, source) = (job.file.as_deref(), job.source.as_deref());
            job.operation.carry_out(file, source)
        }));
        drop((job.file, job.source));
        let report = carried_out.map_err(|panic| Died::of_panic(&*panic));
        // The device that does not listen any more is gone.
        if reports.send(report).is_err() {
            return;
        }
        reported();
    }
}

fn receive<T>(from: &Receiver<T>) -> Result<T, crossbeam_channel::RecvError> {
    for _ in 0..LOOKS {
        match from.try_recv() {
            Ok(received) => return Ok(received),
            Err(TryRecvError::Disconnected) => return Err(crossbeam_channel::RecvError),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    from.recv()
}

impl<F: HostFile + Send + Sync + 'static> Executor<F> for Threads<F> {
    fn room(&self) -> usize {
        self.most - self.under_way
    }

    fn under_way(&self) -> usize {
        self.under_way
    }

    fn begin(&mut self, operation: Operation, files: &Files<F>) {
        if let Some(jobs) = &self.jobs {
            self.under_way += 1;
            // Where no worker is left, the next wait says so.
            let _ = jobs.send(Job::of(operation, files));
        }
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        let received = match wait {
            Wait::ForOne if self.under_way > 0 => {
                receive(&self.reports).map_err(|_| TryRecvError::Disconnected)
            }
            Wait::AtMost(longest) if self.under_way > 0 => {
                let received = self.reports.recv_timeout(longest);
                received.map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            }
            Wait::No | Wait::ForOne | Wait::AtMost(_) => self.reports.try_recv(),
        };
        match received {
            Ok(report) => {
                self.under_way -= 1;
                report.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Died {
                what: "all threads that do the device's I/O have ended".into(),
            }),
        }
    }
}

impl<F> Drop for Threads<F> {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // It catches what panics, and says so.
            let _ = worker.join();
        }
    }
}
