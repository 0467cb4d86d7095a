//! A round of a campaign: a number of cases on several threads, which are watched for signs of
//! life. Steps and host operations are counted where they are taken, and too many of them are a
//! finding. A loop in the driver that asks nothing of the host is not counted: only from outside,
//! and only by waiting, can it be told from work. So the threads give a sign before each part of
//! their work, and a thread that has given none for long is abandoned.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::coverage::Coverage;
use super::explore::Explored;
use super::finding::{Finding, StopSign};
use super::parts::{Part, Watch};
use super::subject::Subject;
use super::violation::Cause;

/// Between two looks at threads from which nothing comes.
const LOOK: Duration = Duration::from_secs(1);

/// A thread that has given no sign at this many looks in a row will give none. The longest part of
/// a case is the reading of a device of 16 MiB, which takes a machine that does nothing else a few
/// milliseconds. Looks are counted, not seconds: a process that was stopped meanwhile has not
/// looked.
const PATIENCE: u32 = 60;

/// What a round came to.
#[derive(Default)]
pub(super) struct Round {
    pub(super) cases: u64,
    pub(super) host_operations: u64,
    pub(super) crash_images: u64,
    pub(super) coverage: Coverage,
    pub(super) cases_with_findings: u64,
    /// The earliest of each cause.
    pub(super) findings: BTreeMap<Cause, Finding>,
    /// The seed of a case from which no sign came any more.
    pub(super) stuck: Option<u64>,
}

impl Round {
    fn add(&mut self, seed: u64, explored: Explored) {
        self.cases += u64::from(!explored.cut_off);
        self.host_operations += explored.host_operations;
        self.crash_images += explored.crash_images;
        self.coverage.merge(&explored.coverage);
        let Some((case, violation)) = explored.finding else {
            return;
        };
        self.cases_with_findings += 1;
        let cause = violation.cause();
        let kept = self.findings.get(&cause);
        if kept.is_none_or(|kept| seed < kept.seed) {
            let finding = Finding {
                seed,
                case: *case,
                violation,
            };
            self.findings.insert(cause, finding);
        }
    }
}

/// Runs the case of a seed, watched.
type RunOne = fn(u64, &Subject, &mut dyn Watch) -> Explored;

/// The work of a round.
pub(super) struct Workers {
    /// The seed of the first case.
    pub(super) first: u64,
    /// How many there are.
    pub(super) cases: u64,
    pub(super) subject: Subject,
    pub(super) stop: StopSign,
    pub(super) run: RunOne,
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
    /// The case that it is at, by its number in the round.
    number: AtomicU64,
}

impl Workers {
    /// Runs the round on at most `jobs` threads: no more than it has cases, and no more than the
    /// operating system gives.
    ///
    /// # Errors
    /// If it gives none.
    pub(super) fn work(self, jobs: usize) -> Result<Round, NoThread> {
        self.work_patiently(jobs, LOOK, PATIENCE, start)
    }

    fn work_patiently(
        self,
        jobs: usize,
        look: Duration,
        patience: u32,
        mut start: impl FnMut(Work) -> io::Result<()>,
    ) -> Result<Round, NoThread> {
        let next = Arc::new(AtomicU64::new(0));
        let (results, received) = channel();
        let first = self.first;
        let threads = (jobs.max(1) as u64).min(self.cases);
        let work = Arc::new(self);
        let mut watched = Vec::new();
        for _ in 0..threads {
            if (work.stop)() {
                break;
            }
            let sign = Arc::new(Sign::default());
            let thread = {
                let (work, next, results) = (Arc::clone(&work), Arc::clone(&next), results.clone());
                let sign = Arc::clone(&sign);
                Box::new(move || work.run_cases(&next, &sign, &results))
            };
            match start(thread) {
                Ok(()) => watched.push(Watched::new(sign)),
                // A few are enough to go on with.
                Err(_) if !watched.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        drop(results);
        let mut round = Round::default();
        loop {
            match received.recv_timeout(look) {
                Ok((seed, explored)) => round.add(seed, explored),
                Err(RecvTimeoutError::Disconnected) => return Ok(round),
                Err(RecvTimeoutError::Timeout) => {
                    let stuck = watched
                        .iter_mut()
                        .filter_map(|one| one.look(patience))
                        .min();
                    if let Some(number) = stuck {
                        round.stuck = Some(first.wrapping_add(number));
                        return Ok(round);
                    }
                }
            }
        }
    }

    fn run_cases(&self, next: &AtomicU64, sign: &Sign, results: &Sender<(u64, Explored)>) {
        let mut watch = Signing {
            sign,
            stop: &self.stop,
        };
        while !(self.stop)() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.cases {
                break;
            }
            sign.number.store(number, Ordering::Relaxed);
            let seed = self.first.wrapping_add(number);
            let explored = (self.run)(seed, &self.subject, &mut watch);
            if results.send((seed, explored)).is_err() {
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
        self.sign.parts.fetch_add(1, Ordering::Relaxed);
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

    /// Looks at it. The number of its case, if it has given no sign at `patience` looks.
    fn look(&mut self, patience: u32) -> Option<u64> {
        let parts = self.sign.parts.load(Ordering::Relaxed);
        let is_done = parts == u64::MAX;
        if is_done || parts != self.parts {
            (self.parts, self.looks) = (parts, 0);
            return None;
        }
        self.looks += 1;
        let number = self.sign.number.load(Ordering::Relaxed);
        (self.looks >= patience).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::case::DriverName;
    use super::*;

    fn workers(run: RunOne) -> Workers {
        Workers {
            first: 100,
            cases: 5,
            subject: Subject::healthy(DriverName::Ordered),
            stop: Arc::new(|| false),
            run,
        }
    }

    /// Lets the double go on when the test is over.
    static RELEASED: AtomicBool = AtomicBool::new(false);

    /// A driver that runs round in circles in one of its cases.
    fn one_that_spins(seed: u64, _: &Subject, watch: &mut dyn Watch) -> Explored {
        watch.enter(Part::Run);
        while seed == 102 && !RELEASED.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Explored::default()
    }

    #[test]
    fn a_case_that_gives_no_sign_any_more_is_told_and_left_behind() {
        for jobs in [1, 2] {
            RELEASED.store(false, Ordering::Relaxed);
            let workers = workers(one_that_spins);
            let round = workers.work_patiently(jobs, Duration::from_millis(1), 20, start);
            let round = round.unwrap();
            assert_eq!(round.stuck, Some(102));
            RELEASED.store(true, Ordering::Relaxed);
        }
    }

    /// One that is slow, and says so.
    fn one_that_is_slow(_: u64, _: &Subject, watch: &mut dyn Watch) -> Explored {
        for _ in 0..100_000 {
            watch.enter(Part::Compare);
        }
        Explored::default()
    }

    #[test]
    fn a_slow_case_is_waited_for() {
        let workers = workers(one_that_is_slow);
        let round = workers.work_patiently(2, Duration::from_nanos(1), u32::MAX, start);
        let round = round.unwrap();
        assert_eq!((round.stuck, round.cases), (None, 5));
    }

    fn one_that_is_short(_: u64, _: &Subject, _: &mut dyn Watch) -> Explored {
        Explored::default()
    }

    /// Runs a round of five cases on as many threads as there can be; the system gives this many.
    /// What came of it, and how often a thread was asked for.
    fn given(most: usize, stop: StopSign) -> (Result<Round, NoThread>, usize) {
        let workers = Workers {
            stop,
            ..workers(one_that_is_short)
        };
        let mut asked = 0;
        let round = workers.work_patiently(usize::MAX, LOOK, PATIENCE, |work| {
            asked += 1;
            match asked <= most {
                true => start(work),
                false => Err(io::Error::from_raw_os_error(11)),
            }
        });
        (round, asked)
    }

    #[test]
    fn a_round_has_no_more_threads_than_cases_and_than_the_system_gives() {
        let never: StopSign = Arc::new(|| false);
        let (round, asked) = given(usize::MAX, Arc::clone(&never));
        assert_eq!((round.unwrap().cases, asked), (5, 5));
        let (round, asked) = given(2, Arc::clone(&never));
        assert_eq!((round.unwrap().cases, asked), (5, 3));
        let (round, asked) = given(0, never);
        assert_eq!(asked, 1);
        assert_eq!(
            round.err().unwrap().to_string(),
            "starting a thread: resource temporarily unavailable"
        );
    }

    #[test]
    fn no_thread_is_started_once_a_campaign_is_to_end() {
        let (round, asked) = given(usize::MAX, Arc::new(|| true));
        assert_eq!((round.unwrap().cases, asked), (0, 0));
    }

    #[test]
    fn looks_count_only_while_nothing_comes() {
        let mut watched = Watched::new(Arc::default());
        assert_eq!([watched.look(3), watched.look(3)], [None, None]);
        watched.sign.parts.store(1, Ordering::Relaxed);
        watched.sign.number.store(7, Ordering::Relaxed);
        assert_eq!(
            [watched.look(3), watched.look(3), watched.look(3)],
            [None; 3]
        );
        assert_eq!(watched.look(3), Some(7));
        watched.sign.parts.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(watched.look(1), None);
    }
}
