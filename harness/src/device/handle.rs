//! A submitter's end of a device that runs on a thread of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded,
};
use driver::blk::{Completion, Limits, Request};
use driver::driver::Driver;
use driver::host::HostFile;
use driver::ordered::Statistics;
use driver::resize::ResizeOutcome;
use driver::units::SectorCount;

use crate::clock::Clock;

use super::known::{Known, Message, Reply, SubmitterNumber, Takes};
use super::{BlockDevice, DeviceError, SentResize};

/// How often one side looks, before it goes to sleep, whether the other has sent something
/// meanwhile. All the looks together take some ten microseconds. Waking a sleeper costs the waker
/// about as much.
const LOOKS: u32 = 512;

/// After each this many looks it lets another thread run, which may be the one that it waits for.
const LOOKS_A_TURN: u32 = 32;

/// The half of a submitter that submits. When it is dropped, what it has submitted completes, and
/// then its [`Completions`] end.
#[derive(Debug)]
pub struct Submissions<F> {
    number: SubmitterNumber,
    /// Requests that have been handed over.
    submitted: AtomicU64,
    messages: Sender<Message<F>>,
    known: Arc<Known>,
}

impl<F> Submissions<F> {
    /// Hands several requests over at once; those that overlap are served in their order. Waits
    /// while the queue is full.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<(), DeviceError> {
        self.send_requests(requests, Message::Requests)
    }

    /// Hands over requests for nothing, each of which completes well at once; the driver does not
    /// see them.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn submit_nothing(&self, requests: Vec<Request>) -> Result<(), DeviceError> {
        self.send_requests(requests, Message::Nothing)
    }

    fn send_requests(
        &self,
        requests: Vec<Request>,
        message: impl FnOnce(SubmitterNumber, Vec<Request>) -> Message<F>,
    ) -> Result<(), DeviceError> {
        let count = requests.len() as u64;
        if count > 0 {
            self.send(message(self.number, requests))?;
            self.submitted.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The sectors that the device offers.
    pub fn capacity(&self) -> SectorCount {
        self.known.capacity()
    }

    /// The limits that a request has to keep.
    pub fn limits(&self) -> Limits {
        self.known.limits
    }

    /// What the device has done, at least up to the latest completion that was handed over.
    pub fn statistics(&self) -> Statistics {
        self.known.statistics()
    }

    /// Begins a resize when those before it have ended; how it ends comes as the reply.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn resize(&self, resize: SentResize<F>) -> Result<Reply<ResizeOutcome>, DeviceError> {
        let (reply, outcome) = bounded(1);
        self.send(Message::Resize(resize, reply))?;
        Ok(self.known.reply(outcome))
    }

    /// Gives up the resize under way, as [`driver::ordered::Ordered::abandon_resize`] says, and
    /// those that wait for it. How they end comes as their replies.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn give_up_resizes(&self) -> Result<(), DeviceError> {
        self.send(Message::GiveUpResizes)
    }

    /// What `look` sees of the driver between two of its steps; nothing is served meanwhile.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Driver<File = F>) -> R + Send + 'static,
    ) -> Result<R, DeviceError> {
        let (reply, seen) = bounded(1);
        self.send(Message::Look(Box::new(move |driver| {
            // Whoever asked may have gone.
            let _ = reply.send(look(driver));
        })))?;
        self.known.reply(seen).wait()
    }

    /// Another submitter to the same device.
    pub fn handle(&self) -> Handle<F> {
        Handle::new(self.messages.clone(), Arc::clone(&self.known))
    }

    /// Another submitter to the same device. Its completions are given to `take` on the device's
    /// own thread, which serves nobody meanwhile; `take` is dropped after the last of them, or when
    /// the device does not go on.
    pub fn answered_by(
        &self,
        take: impl FnMut(Vec<Completion>) + Send + 'static,
    ) -> Submissions<F> {
        Submissions {
            number: self.known.came(Takes::new(take)),
            submitted: AtomicU64::new(0),
            messages: self.messages.clone(),
            known: Arc::clone(&self.known),
        }
    }

    /// Closes, and says nothing before, when the device's thread has ended.
    pub fn end(&self) -> Receiver<Infallible> {
        self.known.gone().clone()
    }

    /// Why the device's thread has ended, if it has.
    pub fn ended(&self) -> Option<&DeviceError> {
        self.known.ended()
    }

    fn send(&self, message: Message<F>) -> Result<(), DeviceError> {
        let sent = self.messages.send(message);
        sent.map_err(|_| self.known.why_it_ended())
    }
}

impl<F> Drop for Submissions<F> {
    fn drop(&mut self) {
        let submitted = *self.submitted.get_mut();
        self.known.went(self.number, submitted);
        // A thread that has ended does not need to know, and one with a full queue looks anyway.
        let _ = self.messages.try_send(Message::LookAround);
    }
}

/// The half of a submitter that is given its completions.
#[derive(Debug)]
pub struct Completions {
    completions: Receiver<Vec<Completion>>,
    known: Arc<Known>,
}

impl Completions {
    /// Waits for completions, one at least. `None` when all have come, and there is nobody left
    /// who submits.
    ///
    /// # Errors
    /// If the device does not go on, or has been stopped.
    pub fn next_batch(&self) -> Result<Option<Vec<Completion>>, DeviceError> {
        match receive(&self.completions) {
            Ok(batch) => Ok(Some(batch)),
            Err(RecvError) => match self.known.ended() {
                None => Ok(None),
                Some(why) => Err(why.clone()),
            },
        }
    }
}

/// One submitter's end of a device that runs on its thread.
#[derive(Debug)]
pub struct Handle<F> {
    submissions: Submissions<F>,
    completions: Completions,
    ready: VecDeque<Completion>,
    /// Requests of this submitter that it has not been given back.
    in_flight: usize,
    outcome: Option<Reply<ResizeOutcome>>,
}

/// Another submitter to the same device.
impl<F> Clone for Handle<F> {
    fn clone(&self) -> Handle<F> {
        self.submissions.handle()
    }
}

impl<F> Handle<F> {
    /// Waits for nothing. Where the thread has ended, the first request says so.
    pub(super) fn new(messages: Sender<Message<F>>, known: Arc<Known>) -> Handle<F> {
        let (to_submitter, completions) = unbounded();
        let number = known.came(Takes::new(move |batch| {
            // A submitter that is about to go does not care about its completions.
            let _ = to_submitter.send(batch);
        }));
        Handle {
            submissions: Submissions {
                number,
                submitted: AtomicU64::new(0),
                messages,
                known: Arc::clone(&known),
            },
            completions: Completions { completions, known },
            ready: VecDeque::new(),
            in_flight: 0,
            outcome: None,
        }
    }

    /// The two halves of a submitter that has nothing in flight, for two threads.
    pub fn split(self) -> (Submissions<F>, Completions) {
        (self.submissions, self.completions)
    }

    /// Hands several requests over at once; those that overlap are served in their order. At a
    /// depth of more than one this is the cheaper way.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn submit_all(&mut self, requests: Vec<Request>) -> Result<(), DeviceError> {
        let count = requests.len();
        self.submissions.submit_all(requests)?;
        self.in_flight += count;
        Ok(())
    }

    /// Waits for the next completion, and takes those that came with it; there is a request in
    /// flight.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn complete_all(&mut self) -> Result<Vec<Completion>, DeviceError> {
        let batch = match self.ready.is_empty() {
            true => self.next_batch()?,
            false => std::mem::take(&mut self.ready).into(),
        };
        self.in_flight = self.in_flight.saturating_sub(batch.len());
        Ok(batch)
    }

    /// Completions that nobody has taken.
    pub(super) fn take_left(&mut self) -> impl Iterator<Item = Completion> + '_ {
        let ready = std::mem::take(&mut self.ready);
        ready
            .into_iter()
            .chain(self.completions.completions.try_iter().flatten())
    }

    fn why_it_ended(&self) -> DeviceError {
        self.submissions.known.why_it_ended()
    }

    /// Waits for completions, one at least.
    fn next_batch(&self) -> Result<Vec<Completion>, DeviceError> {
        if self.in_flight == 0 {
            return Err(DeviceError::Idle);
        }
        receive(&self.completions.completions).map_err(|_| self.why_it_ended())
    }

    fn take_ready(&mut self) -> Option<Completion> {
        let next = self.ready.pop_front();
        self.in_flight = self.in_flight.saturating_sub(usize::from(next.is_some()));
        next
    }
}

impl<F: HostFile> BlockDevice for Handle<F> {
    type File = F;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        self.submit_all(vec![request])
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        if self.ready.is_empty() {
            self.ready = self.next_batch()?.into();
        }
        self.take_ready().ok_or(DeviceError::Idle)
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        if self.ready.is_empty() {
            let left = deadline_ns.saturating_sub(clock.now_ns());
            let completions = &self.completions.completions;
            match completions.recv_timeout(Duration::from_nanos(left)) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.why_it_ended()),
            }
        }
        Ok(self.take_ready())
    }

    fn capacity(&self) -> SectorCount {
        self.submissions.capacity()
    }

    fn limits(&self) -> Limits {
        self.submissions.limits()
    }

    fn statistics(&self) -> Statistics {
        self.submissions.statistics()
    }

    fn resize(&mut self, resize: SentResize<F>) -> Result<(), DeviceError> {
        self.outcome = Some(self.submissions.resize(resize)?);
        Ok(())
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        let Some(reply) = &self.outcome else {
            return Ok(None);
        };
        let outcome = match wait {
            true => Some(reply.wait()?),
            false => reply.now()?,
        };
        if outcome.is_some() {
            self.outcome = None;
        }
        Ok(outcome)
    }
}

/// Receives a message, awake at first.
pub(super) fn receive<T>(from: &Receiver<T>) -> Result<T, RecvError> {
    for look in 1..=LOOKS {
        match from.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) if look % LOOKS_A_TURN == 0 => std::thread::yield_now(),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    from.recv()
}
