//! What a device's thread and its submitters know of each other, and what is sent between them.
//!
//! A message that is in the queue when the thread ends is dropped only with the last submitter. So
//! nobody waits for what a message alone could bring: who has come and gone is kept beside the
//! queue, and whoever waits for a [`Reply`] also waits for the thread's end.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};
use driver::blk::{Completion, Limits, Request};
use driver::driver::Driver;
use driver::ordered::Statistics;
use driver::resize::ResizeOutcome;
use driver::units::SectorCount;

use crate::locked::locked;

use super::{DeviceError, SentResize};

/// Which of the submitters. None comes twice.
pub(super) type SubmitterNumber = u64;

/// A look at the driver from its thread, between two of its steps.
pub(super) type Look<F> = Box<dyn FnOnce(&dyn Driver<File = F>) + Send>;

pub(super) enum Message<F> {
    Requests(SubmitterNumber, Vec<Request>),
    /// Of these nothing is to be done.
    Nothing(SubmitterNumber, Vec<Request>),
    Resize(SentResize<F>, Sender<ResizeOutcome>),
    /// Gives up the resize under way, and those that wait.
    GiveUpResizes,
    Look(Look<F>),
    /// Wakes the thread: a submitter has gone.
    LookAround,
    /// Ends the thread when all requests that came before have been done. Resizes are given up.
    Stop,
}

/// Takes a submitter's completions on the device's thread, and keeps that waiting for nothing.
pub(super) struct Takes(Box<dyn FnMut(Vec<Completion>) + Send>);

impl Takes {
    pub(super) fn new(take: impl FnMut(Vec<Completion>) + Send + 'static) -> Takes {
        Takes(Box::new(take))
    }

    pub(super) fn take(&mut self, completions: Vec<Completion>) {
        (self.0)(completions);
    }
}

impl fmt::Debug for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takes").finish_non_exhaustive()
    }
}

/// Submitters that have come and gone since the thread has looked.
#[derive(Debug, Default)]
pub(super) struct Visits {
    /// Their completions go there.
    pub(super) came: Vec<(SubmitterNumber, Takes)>,
    /// They submit nothing more than this many requests. What takes a submitter's completions is
    /// dropped after the last of them.
    pub(super) went: Vec<(SubmitterNumber, u64)>,
}

/// What both sides know.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) limits: Limits,
    capacity: AtomicU64,
    statistics: Mutex<Statistics>,
    next: AtomicU64,
    /// `None` once the thread has ended.
    visits: Mutex<Option<Visits>>,
    /// There are visits that the thread has not seen.
    has_visits: AtomicBool,
    /// Why the thread has ended.
    ended: OnceLock<DeviceError>,
    /// Closes when it has.
    gone: Receiver<Infallible>,
}

impl Known {
    /// What is known of a device that is to be started. The thread keeps the sender until it ends.
    pub(super) fn of<D: Driver>(driver: &D) -> (Known, Sender<Infallible>) {
        let (is_there, gone) = bounded(0);
        let known = Known {
            limits: driver.limits(),
            capacity: AtomicU64::new(driver.capacity().0),
            statistics: Mutex::new(driver.statistics()),
            next: AtomicU64::new(0),
            visits: Mutex::new(Some(Visits::default())),
            has_visits: AtomicBool::new(false),
            ended: OnceLock::new(),
            gone,
        };
        (known, is_there)
    }

    pub(super) fn update<D: Driver>(&self, driver: &D) {
        self.capacity.store(driver.capacity().0, Ordering::Release);
        *locked(&self.statistics) = driver.statistics();
    }

    pub(super) fn capacity(&self) -> SectorCount {
        SectorCount(self.capacity.load(Ordering::Acquire))
    }

    pub(super) fn statistics(&self) -> Statistics {
        *locked(&self.statistics)
    }

    /// A submitter has come. Where the thread has ended, `completions` is dropped at once.
    pub(super) fn came(&self, completions: Takes) -> SubmitterNumber {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(visits) = &mut *locked(&self.visits) {
            visits.came.push((number, completions));
        }
        self.has_visits.store(true, Ordering::SeqCst);
        number
    }

    /// A submitter has gone, after it has submitted this many requests.
    pub(super) fn went(&self, number: SubmitterNumber, submitted: u64) {
        if let Some(visits) = &mut *locked(&self.visits) {
            visits.went.push((number, submitted));
        }
        self.has_visits.store(true, Ordering::SeqCst);
    }

    /// The visits since the last call, for the thread.
    pub(super) fn take_visits(&self) -> Option<Visits> {
        // Most often there are none, and a look costs less than a change.
        if !self.has_visits.load(Ordering::SeqCst) {
            return None;
        }
        self.has_visits.store(false, Ordering::SeqCst);
        locked(&self.visits).as_mut().map(std::mem::take)
    }

    /// The thread ends, of this: nobody is let in any more, and those who wait to be will not be.
    pub(super) fn end(&self, why: DeviceError) {
        // There is one end.
        let _ = self.ended.set(why);
        let left = locked(&self.visits).take();
        drop(left);
    }

    pub(super) fn ended(&self) -> Option<&DeviceError> {
        self.ended.get()
    }

    /// Closes when the thread has ended.
    pub(super) fn gone(&self) -> &Receiver<Infallible> {
        &self.gone
    }

    pub(super) fn why_it_ended(&self) -> DeviceError {
        self.ended.get().cloned().unwrap_or(DeviceError::Stopped)
    }

    /// What comes over `from`, unless the thread ends before.
    pub(super) fn reply<T>(self: &Arc<Known>, from: Receiver<T>) -> Reply<T> {
        Reply {
            from,
            known: Arc::clone(self),
        }
    }
}

/// What the device's thread answers, unless it ends before.
#[derive(Debug)]
pub struct Reply<T> {
    from: Receiver<T>,
    known: Arc<Known>,
}

impl<T> Reply<T> {
    /// Waits for it.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn wait(&self) -> Result<T, DeviceError> {
        let replied = select! {
            recv(self.from) -> reply => reply.ok(),
            // The thread may have answered before it ended.
            recv(self.known.gone) -> _ => self.from.try_recv().ok(),
        };
        replied.ok_or_else(|| self.why_none())
    }

    /// The reply, if it is there.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn now(&self) -> Result<Option<T>, DeviceError> {
        // In this order: what came before the end is there when the end is seen.
        let has_ended = self.known.ended().is_some();
        match self.from.try_recv() {
            Ok(reply) => Ok(Some(reply)),
            Err(TryRecvError::Empty) if !has_ended => Ok(None),
            Err(_) => Err(self.why_none()),
        }
    }

    /// Why no reply will come. The thread drops one only in its end, whose reason may come after.
    fn why_none(&self) -> DeviceError {
        let _ = self.known.gone.recv();
        self.known.why_it_ended()
    }
}
