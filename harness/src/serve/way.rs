//! A client's jobs on their way to the device and back: which are under way, and what the ends of
//! their parts come to.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use driver::blk::{Completion, Limits, Request, Status, Tag};
use userhelper::real_files::RealFile;

use crate::device::Submissions;
use crate::locked::locked;

use super::export::Export;
use super::job::Done;
use super::long_jobs::LongJobs;
use super::pending::{PART_BITS, Pending};

#[derive(Debug)]
pub(super) struct Jobs<C> {
    pub(super) next: u64,
    pub(super) pending: BTreeMap<u64, Pending<C>>,
    pub(super) long: LongJobs,
    /// Long jobs are not finished: nobody is there to be told.
    pub(super) gives_up: bool,
    /// `None` once nothing more will be submitted.
    pub(super) submissions: Option<Arc<Submissions<RealFile>>>,
    /// The client submits no more.
    pub(super) is_ending: bool,
}

#[derive(Debug)]
pub(super) struct Way<C> {
    pub(super) export: Export,
    pub(super) client: u64,
    /// How many jobs have come.
    pub(super) requests: Arc<AtomicU64>,
    pub(super) limits: Limits,
    pub(super) jobs: Mutex<Jobs<C>>,
}

impl<C> Drop for Way<C> {
    fn drop(&mut self) {
        self.export.client_gone(self.client);
    }
}

impl<C> Way<C> {
    /// The way of a client that cannot submit yet.
    pub(super) fn new(
        export: Export,
        (client, requests): (u64, Arc<AtomicU64>),
        limits: Limits,
    ) -> Arc<Way<C>> {
        Arc::new(Way {
            export,
            client,
            requests,
            limits,
            jobs: Mutex::new(Jobs {
                next: 0,
                pending: BTreeMap::new(),
                long: LongJobs::default(),
                gives_up: false,
                submissions: None,
                is_ending: false,
            }),
        })
    }

    pub(super) fn submits_by(&self, submissions: Submissions<RealFile>) {
        self.jobs().submissions = Some(Arc::new(submissions));
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, Jobs<C>> {
        locked(&self.jobs)
    }

    /// What completions of parts bring.
    pub(super) fn take(&self, completions: Vec<Completion>) -> Ended<C> {
        let mut ended = Ended {
            pending: Vec::with_capacity(completions.len()),
            more: Vec::new(),
            submissions: None,
        };
        let is_ending = self.export.is_ending();
        let mut jobs = self.jobs();
        jobs.gives_up |= is_ending;
        for completion in completions {
            let Tag(tag) = completion.request.tag;
            let number = tag >> PART_BITS;
            if let Some(pending) = jobs.pending.get_mut(&number) {
                pending.part_ended(completion);
                jobs.go_on(number, self.limits, &mut ended);
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
        if ended.iter().any(Pending::asks_for_the_file) && self.export.file_is_whole().is_err() {
            for pending in ended.iter_mut().filter(|pending| pending.is_durable()) {
                pending.status = Status::IoError;
            }
        }
    }

    /// What is told of jobs that have ended.
    pub(super) fn settled(&self, mut ended: Vec<Pending<C>>) -> Vec<Done<C>> {
        self.export.note_ended(ended.len());
        self.check_file(&mut ended);
        let done = ended.into_iter().map(|pending| self.done(pending));
        done.collect()
    }

    pub(super) fn done(&self, pending: Pending<C>) -> Done<C> {
        if let Some(asked) = pending.asked {
            self.export.record(self.client, asked, pending.status);
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
pub(super) struct Ended<C> {
    /// Jobs that have ended.
    pub(super) pending: Vec<Pending<C>>,
    /// The next parts.
    pub(super) more: Vec<Request>,
    pub(super) submissions: Option<Arc<Submissions<RealFile>>>,
}
