//! The threads of a campaign, which are watched for signs of life. Steps and host operations are
//! counted where they are taken, and too many of them are a finding. A loop in the driver that asks
//! nothing of the host is not counted: only from outside, and only by waiting, can it be told from
//! work. So the threads give a sign before each part of their work, and a thread that has given
//! none for long is abandoned.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::super::finding::StopSign;
use super::super::parts::{Part, Watch};
use super::dealer::Dealer;

/// Between two looks at threads from which nothing comes.
const LOOK: Duration = Duration::from_secs(1);

/// A thread that has given no sign at this many looks in a row will give none. The longest part of
/// a case is the reading of a device of 16 MiB, which takes a machine that does nothing else a few
/// milliseconds. Looks are counted, not seconds: a process that was stopped meanwhile has not
/// looked.
const PATIENCE: u32 = 60;

/// Runs the case at an index of the shard, watched.
pub(super) type RunOne<T> = dyn Fn(u64, &mut dyn Watch) -> T + Send + Sync;

/// The work of a campaign.
pub(super) struct Workers<T> {
    pub(super) dealer: Arc<Dealer>,
    pub(super) stop: StopSign,
    pub(super) run: Box<RunOne<T>>,
}

/// What there is to be told of the work.
pub(super) enum Event<T> {
    /// This number of threads was started.
    Started(u64),
    /// What came of the case at this index.
    Done(u64, T),
    /// For a while nothing came.
    Quiet,
}

/// No thread could be started.
#[derive(Debug, thiserror::Error)]
#[error("starting a thread: {}", driver::system_words(.0))]
pub struct NoThread(#[from] io::Error);

/// What a thread is to do.
type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread, which is not waited for: a stuck one is abandoned, and ends with the process.
fn start(work: Work) -> io::Result<()> {
    let builder = std::thread::Builder::new().name("fuzz".into());
    builder.spawn(work).map(drop)
}

/// What a thread says of itself.
#[derive(Default)]
struct Sign {
    /// Grows with each part of the work.
    parts: AtomicU64,
    /// The case that it is at, by its index.
    index: AtomicU64,
}

impl Sign {
    fn give(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> Workers<T> {
    /// Runs the cases on at most `jobs` threads: no more than there are cases, and no more than the
    /// operating system gives. What comes of them is told as it comes. The index of a case from
    /// which no sign came any more, if there is one; the others are left behind then.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn work(
        self,
        jobs: usize,
        tell: &mut dyn FnMut(Event<T>),
    ) -> Result<Option<u64>, NoThread> {
        self.work_patiently(jobs, LOOK, PATIENCE, start, tell)
    }

    fn work_patiently(
        self,
        jobs: usize,
        look: Duration,
        patience: u32,
        mut start: impl FnMut(Work) -> io::Result<()>,
        tell: &mut dyn FnMut(Event<T>),
    ) -> Result<Option<u64>, NoThread> {
        let (results, received) = channel();
        let threads = (jobs.max(1) as u64).min(self.dealer.left());
        let work = Arc::new(self);
        let mut watched = Vec::new();
        for _ in 0..threads {
            if (work.stop)() {
                break;
            }
            let sign = Arc::new(Sign::default());
            let thread = {
                let (work, results, sign) = (Arc::clone(&work), results.clone(), Arc::clone(&sign));
                Box::new(move || work.run_cases(&sign, &results))
            };
            match start(thread) {
                Ok(()) => watched.push(Watched::new(sign)),
                // A few are enough to go on with.
                Err(_) if !watched.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        drop(results);
        tell(Event::Started(watched.len() as u64));
        loop {
            match received.recv_timeout(look) {
                Ok((index, result)) => tell(Event::Done(index, result)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    let looks = watched.iter_mut().filter_map(|one| one.look(patience));
                    if let Some(stuck) = looks.min() {
                        return Ok(Some(stuck));
                    }
                    tell(Event::Quiet);
                }
            }
        }
    }

    fn run_cases(&self, sign: &Sign, results: &Sender<(u64, T)>) {
        let mut watch = Signing {
            sign,
            stop: &self.stop,
        };
        while let Some(index) = self.dealer.take(&*self.stop, || sign.give()) {
            sign.index.store(index, Ordering::Relaxed);
            sign.give();
            let result = (self.run)(index, &mut watch);
            if results.send((index, result)).is_err() {
                // Nobody waits any more: another thread is stuck.
                return;
            }
        }
        sign.parts.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Gives a sign with each part of the work, and takes the stop sign.
struct Signing<'a> {
    sign: &'a Sign,
    stop: &'a StopSign,
}

impl Watch for Signing<'_> {
    fn enter(&mut self, _: Part) {
        self.sign.give();
    }

    fn cuts_off(&mut self) -> bool {
        (self.stop)()
    }
}

/// A thread, and how long it has given no sign.
struct Watched {
    sign: Arc<Sign>,
    parts: u64,
    looks: u32,
}

impl Watched {
    fn new(sign: Arc<Sign>) -> Watched {
        Watched {
            sign,
            parts: 0,
            looks: 0,
        }
    }

    /// Looks at it. The index of its case, if it has given no sign at `patience` looks.
    fn look(&mut self, patience: u32) -> Option<u64> {
        let parts = self.sign.parts.load(Ordering::Relaxed);
        // One that has not begun waits for a processor, and one that is done waits for nothing.
        let is_at_work = parts != 0 && parts != u64::MAX;
        if !is_at_work || parts != self.parts {
            (self.parts, self.looks) = (parts, 0);
            return None;
        }
        self.looks += 1;
        let index = self.sign.index.load(Ordering::Relaxed);
        (self.looks >= patience).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::finished::Finished;
    use super::*;

    /// Five cases, run like this.
    fn workers(run: impl Fn(u64, &mut dyn Watch) + Send + Sync + 'static) -> Workers<()> {
        Workers {
            dealer: Arc::new(Dealer::of(&Finished::default(), 5)),
            stop: Arc::new(|| false),
            run: Box::new(run),
        }
    }

    /// How many were told of, and which was stuck.
    fn worked(
        workers: Workers<()>,
        jobs: usize,
        look: Duration,
        patience: u32,
        start: impl FnMut(Work) -> io::Result<()>,
    ) -> Result<(u64, Option<u64>), NoThread> {
        let mut done = 0;
        let mut tell = |event| done += u64::from(matches!(event, Event::Done(..)));
        let stuck = workers.work_patiently(jobs, look, patience, start, &mut tell)?;
        Ok((done, stuck))
    }

    #[test]
    fn a_case_that_gives_no_sign_any_more_is_told_and_left_behind() {
        for jobs in [1, 2] {
            // Lets the double go on when the test is over.
            let released = Arc::new(AtomicBool::new(false));
            // A driver that runs round in circles in one of its cases.
            let spins = Arc::clone(&released);
            let workers = workers(move |index, watch| {
                watch.enter(Part::Run);
                while index == 2 && !spins.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let worked = worked(workers, jobs, Duration::from_millis(1), 200, start);
            assert_eq!(worked.unwrap().1, Some(2));
            released.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_slow_case_is_waited_for() {
        // One that is slow, and says so.
        let workers = workers(|_, watch| {
            for _ in 0..100_000 {
                watch.enter(Part::Compare);
            }
        });
        let worked = worked(workers, 2, Duration::from_nanos(1), u32::MAX, start);
        assert_eq!(worked.unwrap(), (5, None));
    }

    /// Runs five cases on as many threads as there can be; the system gives this many. What came of
    /// it, and how often a thread was asked for.
    fn given(most: usize, stop: StopSign) -> (Result<(u64, Option<u64>), NoThread>, usize) {
        let workers = Workers {
            stop,
            ..workers(|_, _| {})
        };
        let mut asked = 0;
        let worked = worked(workers, usize::MAX, LOOK, PATIENCE, |work| {
            asked += 1;
            match asked <= most {
                true => start(work),
                false => Err(io::Error::from_raw_os_error(11)),
            }
        });
        (worked, asked)
    }

    #[test]
    fn there_are_no_more_threads_than_cases_and_than_the_system_gives() {
        let never: StopSign = Arc::new(|| false);
        let (worked, asked) = given(2, Arc::clone(&never));
        assert_eq!((worked.unwrap(), asked), ((5, None), 3));
        let (worked, asked) = given(usize::MAX, Arc::clone(&never));
        assert_eq!((worked.unwrap(), asked), ((5, None), 5));
        let (worked, asked) = given(0, never);
        assert_eq!(asked, 1);
        assert_eq!(
            worked.err().unwrap().to_string(),
            "starting a thread: resource temporarily unavailable"
        );
    }

    #[test]
    fn no_thread_is_started_once_a_campaign_is_to_end() {
        let (worked, asked) = given(usize::MAX, Arc::new(|| true));
        assert_eq!((worked.unwrap(), asked), ((0, None), 0));
    }

    #[test]
    fn looks_count_only_while_nothing_comes() {
        let mut watched = Watched::new(Arc::default());
        assert_eq!([watched.look(3), watched.look(3)], [None, None]);
        watched.sign.parts.store(1, Ordering::Relaxed);
        watched.sign.index.store(7, Ordering::Relaxed);
        assert_eq!(
            [watched.look(3), watched.look(3), watched.look(3)],
            [None; 3]
        );
        assert_eq!(watched.look(3), Some(7));
        watched.sign.parts.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(watched.look(1), None);
    }
}
