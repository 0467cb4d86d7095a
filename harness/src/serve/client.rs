//! One client's way to the device: jobs of any length in, cut to what the driver takes; and out
//! again whole, in whatever order they end.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, unbounded};
use driver::blk::Request;
use driver::executor::Died;
use userhelper::real_files::RealFile;

use crate::device::{Completions, DeviceError, Submissions};

use super::budget::Permit;
use super::export::Export;
use super::pending::{Begins, Pending};
use super::shares::Share;
use super::way::{Ended, Way};

pub use super::job::{Done, Job};

/// The most data of a job that is answered on the device's thread, in bytes. More takes longer than
/// to wake another one.
const LONGEST_AT_ONCE: usize = 64 << 10;

/// Why a job is not taken; the context comes back.
#[derive(Debug)]
pub struct NoWay<C> {
    /// Why.
    pub error: DeviceError,
    /// What the client gave with it.
    pub context: C,
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
    source: Source<C>,
    when_lost: Option<Box<dyn FnOnce() + Send>>,
}

/// Where a completer hears of what has ended.
enum Source<C> {
    /// From the device.
    Device(Completions),
    /// From what answers on the device's thread: what is left to do, or why that has panicked.
    AfterAtOnce(Receiver<Result<Late<C>, Panic>>),
}

/// What somebody has panicked with.
type Panic = Box<dyn Any + Send>;

/// What the device's thread does not wait for.
struct Late<C> {
    /// Answers to be given.
    done: Vec<Done<C>>,
    /// Parts to be submitted.
    more: Vec<Request>,
    submissions: Option<Arc<Submissions<RealFile>>>,
}

impl<C> fmt::Debug for Completer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("client", &self.way.client)
            .finish_non_exhaustive()
    }
}

/// A client whose [`Completer`] is told of all that has ended.
pub(super) fn client<C>(
    export: Export,
    number: (u64, Arc<AtomicU64>),
    share: Share,
    (submissions, completions): (Submissions<RealFile>, Completions),
) -> (Submitter<C>, Completer<C>) {
    let way = Way::new(export, number, submissions.limits());
    way.submits_by(submissions);
    halves(way, share, Source::Device(completions))
}

/// A client whose jobs are answered by `answer` on the device's thread, which it keeps waiting for
/// nothing. Long data, and parts that come next, are left to the [`Completer`].
pub(super) fn client_answered<C: Send + 'static>(
    export: Export,
    number: (u64, Arc<AtomicU64>),
    share: Share,
    mut answer: impl FnMut(Vec<Done<C>>) + Send + 'static,
) -> (Submitter<C>, Completer<C>) {
    let device = export.clone();
    let way = Way::new(export, number, device.limits());
    let (rest, late) = unbounded();
    let on = Arc::clone(&way);
    let submissions = device.submissions().answered_by(move |completions| {
        let Ended {
            pending,
            more,
            submissions,
        } = on.take(completions);
        let is_short = |done: &Done<C>| data_len(done) <= LONGEST_AT_ONCE;
        let (short, done): (Vec<_>, Vec<_>) = on.settled(pending).into_iter().partition(is_short);
        // A panic is of this client alone: its other thread has it.
        let answered = catch_unwind(AssertUnwindSafe(|| answer(short)));
        let left = match answered {
            Err(panic) => Err(panic),
            Ok(()) if done.is_empty() && more.is_empty() => return,
            Ok(()) => Ok(Late {
                done,
                more,
                submissions,
            }),
        };
        // Without the other thread nobody is there to be told.
        let _ = rest.send(left);
    });
    way.submits_by(submissions);
    halves(way, share, Source::AfterAtOnce(late))
}

fn data_len<C>(done: &Done<C>) -> usize {
    done.data.iter().map(Vec::len).sum()
}

fn halves<C>(way: Arc<Way<C>>, share: Share, source: Source<C>) -> (Submitter<C>, Completer<C>) {
    let completer = Completer {
        way: Arc::clone(&way),
        source,
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
            let Some(Late {
                done,
                more,
                submissions,
            }) = self.next_late()?
            else {
                return Ok(None);
            };
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

    /// What the device's thread has left to this one.
    fn next_late(&self) -> Result<Option<Late<C>>, DeviceError> {
        let late = match &self.source {
            Source::Device(completions) => {
                let completions = completions.next_batch()?;
                return Ok(completions.map(|completions| {
                    let ended = self.way.take(completions);
                    Late {
                        done: self.way.settled(ended.pending),
                        more: ended.more,
                        submissions: ended.submissions,
                    }
                }));
            }
            Source::AfterAtOnce(late) => late.recv(),
        };
        match late {
            Ok(Ok(late)) => Ok(Some(late)),
            // As if it had been here.
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => match self.way.export.device_ended() {
                None => Ok(None),
                Some(why) => Err(why.clone()),
            },
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
            .map(|pending| self.way.done(pending.failed()));
        failed.collect()
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
