//! One client's way to the device: jobs of any length in, cut to what the driver takes; and out
//! again whole, in whatever order they end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use driver::blk::{Completion, Limits, Request, Status, Tag};
use driver::executor::Died;
use userhelper::real_files::RealFile;

use crate::device::{Completions, DeviceError, Submissions};
use crate::locked::locked;

use super::budget::Permit;
use super::export::Export;
use super::long_jobs::LongJobs;
use super::pending::{Begins, PART_BITS, Pending};
use super::shares::Share;

pub use super::job::Job;

/// A job that has ended.
#[derive(Debug)]
pub struct Done<C> {
    /// What the client gave with it.
    pub context: C,
    /// How it ended: the first failure of its parts.
    pub status: Status,
    /// It has failed because the server is ending, and it was too long to be finished.
    pub is_given_up: bool,
    /// What a read has read, in order, if it ended well.
    pub data: Vec<Vec<u8>>,
    /// Its part of the memory, kept until the answer is out.
    pub permit: Option<Permit>,
}

/// Why a job is not taken; the context comes back.
#[derive(Debug)]
pub struct NoWay<C> {
    /// Why.
    pub error: DeviceError,
    /// What the client gave with it.
    pub context: C,
}

#[derive(Debug)]
struct Jobs<C> {
    next: u64,
    pending: BTreeMap<u64, Pending<C>>,
    long: LongJobs,
    /// Long jobs are not finished: nobody is there to be told.
    gives_up: bool,
    /// `None` once nothing more will be submitted.
    submissions: Option<Arc<Submissions<RealFile>>>,
    /// The client submits no more.
    is_ending: bool,
}

#[derive(Debug)]
struct Way<C> {
    export: Export,
    client: u64,
    /// How many jobs have come.
    requests: Arc<AtomicU64>,
    limits: Limits,
    jobs: Mutex<Jobs<C>>,
}

impl<C> Drop for Way<C> {
    fn drop(&mut self) {
        self.export.client_gone(self.client);
    }
}

impl<C> Way<C> {
    fn jobs(&self) -> MutexGuard<'_, Jobs<C>> {
        locked(&self.jobs)
    }
}

/// The half of a client that submits. When it is dropped, its jobs end, and then its
/// [`Completer`].
#[derive(Debug)]
pub struct Submitter<C> {
    way: Arc<Way<C>>,
    share: Share,
}

/// The half of a client that is given what has ended. When it is dropped before the other half,
/// as by a panic of the thread that answers, jobs in flight are dropped with their contexts, and no
/// more are taken.
pub struct Completer<C> {
    way: Arc<Way<C>>,
    completions: Completions,
    when_lost: Option<Box<dyn FnOnce() + Send>>,
}

impl<C> fmt::Debug for Completer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("client", &self.way.client)
            .finish_non_exhaustive()
    }
}

pub(super) fn client<C>(
    export: Export,
    (client, requests): (u64, Arc<AtomicU64>),
    share: Share,
    submissions: Submissions<RealFile>,
    completions: Completions,
) -> (Submitter<C>, Completer<C>) {
    let way = Arc::new(Way {
        export,
        client,
        requests,
        limits: submissions.limits(),
        jobs: Mutex::new(Jobs {
            next: 0,
            pending: BTreeMap::new(),
            long: LongJobs::default(),
            gives_up: false,
            submissions: Some(Arc::new(submissions)),
            is_ending: false,
        }),
    });
    let completer = Completer {
        way: Arc::clone(&way),
        completions,
        when_lost: None,
    };
    (Submitter { way, share }, completer)
}

impl<C> Submitter<C> {
    /// Hands jobs over, each with what the client wants back with it and its part of the memory.
    /// Those that overlap are served in their order; one about no sectors has ended at once. Waits
    /// while the device's queue is full.
    ///
    /// A discard or a write of zeros of more than 8 MiB is served a part after the other. Whatever
    /// comes before it has ended may come between two of them.
    ///
    /// # Errors
    /// If the device does not go on: of each job. Those in flight end as the [`Completer`] says.
    pub fn submit(
        &self,
        jobs: impl IntoIterator<Item = (Job, C, Option<Permit>)>,
    ) -> Result<(), Vec<NoWay<C>>> {
        let way = &self.way;
        let time = way.export.recording_time();
        let device = (way.limits, way.export.about().synchronous);
        let (mut requests, mut nothing) = (Vec::new(), Vec::new());
        let mut numbers = Vec::new();
        let submissions = {
            let mut known = way.jobs();
            for (job, context, permit) in jobs {
                let number = known.next;
                known.next += 1;
                let of_client = (context, permit);
                let (mut pending, begins) = Pending::begun(job, of_client, number, device, time);
                match begins {
                    Begins::With(parts) => requests.extend(parts),
                    Begins::WithNothing(stands_for_it) => nothing.push(stands_for_it),
                    Begins::Later if known.long.come(number) => {
                        requests.extend(pending.more(number, way.limits));
                    }
                    Begins::Later => {}
                }
                known.pending.insert(number, pending);
                numbers.push(number);
            }
            known.submissions.clone()
        };
        way.requests
            .fetch_add(numbers.len() as u64, Ordering::Relaxed);
        way.export.note_begun(numbers.len());
        let submitted = match submissions {
            Some(submissions) => submissions
                .submit_nothing(nothing)
                .and_then(|()| submissions.submit_all(requests)),
            // The other half has gone.
            None => Err(Died {
                what: "nobody answers this client any more".into(),
            }
            .into()),
        };
        submitted.map_err(|error| self.take_back(&numbers, &error))
    }

    /// Jobs that were not submitted, of those that have not been dropped meanwhile.
    fn take_back(&self, numbers: &[u64], error: &DeviceError) -> Vec<NoWay<C>> {
        let mut known = self.way.jobs();
        let taken_back = numbers
            .iter()
            .filter_map(|number| known.pending.remove(number));
        let taken_back: Vec<_> = taken_back.collect();
        drop(known);
        self.way.export.note_ended(taken_back.len());
        let refused = taken_back.into_iter().map(|pending| NoWay {
            error: error.clone(),
            context: pending.context,
        });
        refused.collect()
    }

    /// Where its requests take their memory from.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Jobs that have not ended.
    pub fn in_flight(&self) -> usize {
        self.way.jobs().pending.len()
    }
}

impl<C> Drop for Submitter<C> {
    fn drop(&mut self) {
        let mut jobs = self.way.jobs();
        jobs.is_ending = true;
        let submissions = match jobs.pending.is_empty() {
            true => jobs.submissions.take(),
            false => None,
        };
        drop(jobs);
        drop(submissions);
    }
}

impl<C> Completer<C> {
    /// Calls `alarm` if this is dropped while the client may still submit, so that nobody waits for
    /// answers that will not come.
    pub fn when_lost(&mut self, alarm: impl FnOnce() + Send + 'static) {
        self.when_lost = Some(Box::new(alarm));
    }

    /// Waits for jobs that have ended, one at least. `None` when all have, and nobody is left who
    /// submits.
    ///
    /// # Errors
    /// If the device does not go on; what was in flight comes with [`Completer::left`].
    pub fn next_batch(&self) -> Result<Option<Vec<Done<C>>>, DeviceError> {
        loop {
            let Some(completions) = self.completions.next_batch()? else {
                return Ok(None);
            };
            let Ended {
                mut pending,
                more,
                submissions,
            } = self.take(completions);
            self.way.export.note_ended(pending.len());
            self.check_file(&mut pending);
            let done = pending.into_iter().map(|pending| self.done(pending));
            let done: Vec<_> = done.collect();
            // Those that have ended are told first, and the next call says why no more will.
            if let Some(submissions) = submissions
                && let Err(error) = submissions.submit_all(more)
                && done.is_empty()
            {
                return Err(error);
            }
            if !done.is_empty() {
                return Ok(Some(done));
            }
        }
    }

    /// What completions of parts bring.
    fn take(&self, completions: Vec<Completion>) -> Ended<C> {
        let mut ended = Ended {
            pending: Vec::with_capacity(completions.len()),
            more: Vec::new(),
            submissions: None,
        };
        let is_ending = self.way.export.is_ending();
        let mut jobs = self.way.jobs();
        jobs.gives_up |= is_ending;
        for completion in completions {
            let Tag(tag) = completion.request.tag;
            let number = tag >> PART_BITS;
            if let Some(pending) = jobs.pending.get_mut(&number) {
                pending.part_ended(completion);
                jobs.go_on(number, self.way.limits, &mut ended);
            }
        }
        ended.submissions = match jobs.is_ending && jobs.pending.is_empty() {
            true => jobs.submissions.take(),
            false => jobs.submissions.clone(),
        };
        ended
    }

    /// Nothing is durable in a file that somebody has cut. A read that met its end may be the first
    /// to notice.
    fn check_file(&self, ended: &mut [Pending<C>]) {
        if ended.iter().any(Pending::asks_for_the_file) && self.way.export.file_is_whole().is_err()
        {
            for pending in ended.iter_mut().filter(|pending| pending.is_durable()) {
                pending.status = Status::IoError;
            }
        }
    }

    /// Nobody is there any more who is told what has ended: long jobs are not finished.
    pub fn give_up(&self) {
        self.way.jobs().gives_up = true;
    }

    /// What was in flight when the device stopped going on: each has failed.
    pub fn left(&self) -> Vec<Done<C>> {
        let pending = std::mem::take(&mut self.way.jobs().pending);
        self.way.export.note_ended(pending.len());
        let failed = pending
            .into_values()
            .map(|pending| self.done(pending.failed()));
        failed.collect()
    }

    fn done(&self, pending: Pending<C>) -> Done<C> {
        if let Some(asked) = pending.asked {
            self.way
                .export
                .record(self.way.client, asked, pending.status);
        }
        let data = match pending.status {
            Status::Ok => pending.read.into_values().flatten().collect(),
            _ => Vec::new(),
        };
        Done {
            context: pending.context,
            status: pending.status,
            is_given_up: pending.is_given_up,
            data,
            permit: pending.permit,
        }
    }
}

impl<C> Drop for Completer<C> {
    fn drop(&mut self) {
        let mut jobs = self.way.jobs();
        let left = std::mem::take(&mut jobs.pending);
        let submissions = jobs.submissions.take();
        let is_lost = !jobs.is_ending || !left.is_empty();
        drop(jobs);
        drop(submissions);
        self.way.export.note_ended(left.len());
        drop(left);
        if is_lost && let Some(alarm) = self.when_lost.take() {
            alarm();
        }
    }
}

impl<C> Jobs<C> {
    /// Goes on with a job of which a part has ended, and with the long one that may begin when it
    /// has ended.
    fn go_on(&mut self, number: u64, limits: Limits, ended: &mut Ended<C>) {
        let mut next = Some(number);
        while let Some(number) = next.take() {
            let Some(pending) = self.pending.get_mut(&number) else {
                next = self.long.leave();
                continue;
            };
            if self.gives_up {
                pending.give_up_if_long();
            }
            let parts = pending.more(number, limits);
            let has_ended = parts.is_empty() && pending.is_still();
            ended.more.extend(parts);
            if has_ended && let Some(pending) = self.pending.remove(&number) {
                if pending.is_long {
                    next = self.long.leave();
                }
                ended.pending.push(pending);
            }
        }
    }
}

/// What completions of parts have brought.
struct Ended<C> {
    /// Jobs that have ended.
    pending: Vec<Pending<C>>,
    /// The next parts.
    more: Vec<Request>,
    submissions: Option<Arc<Submissions<RealFile>>>,
}
