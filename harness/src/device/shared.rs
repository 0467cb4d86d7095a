//! A device on a thread of its own, for several submitters at once. Each has a [`Handle`], and
//! gets the completions of its own requests back, with its own tags.
//!
//! Requests may come in batches and completions go back in them, because a message that wakes the
//! other side costs more than carrying out a small request; a batch never waits for a sync or for
//! a resize. While operations are under way on an executor, the thread looks after new requests
//! each [`LOOK_AFTER`], because it cannot wait for both.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use driver::blk::{Completion, Limits, Operation, Request, Tag};
use driver::driver::{Driver, Portable};
use driver::executor::{Died, Wait};
use driver::ordered::Statistics;
use driver::resize::{ResizeError, ResizeOutcome};
use driver::units::SectorCount;

use crate::clock::Clock;

use super::handle::{Known, Message, Submitter, receive};
use super::{BlockDevice, DeviceError, Handle, Running, SentResize, Stepped, Stopped};

/// Completions are handed over when this many are ready, or when there is nothing else to do.
const BATCH: usize = 16;

/// At most this many requests are served between two steps of a resize.
const REQUESTS_A_RESIZE_STEP: usize = 64;

/// The most completions that are kept which came too many: one is enough to tell that.
const MOST_STRAYS: usize = 16;

/// The longest that a new request waits for the thread to look, while it waits for an executor.
const LOOK_AFTER: Duration = Duration::from_micros(100);

/// A device on its thread.
#[derive(Debug)]
pub struct Shared<D: Portable> {
    messages: Sender<Message<D::File>>,
    known: Arc<Known>,
    /// Gives the driver back, or nothing after a panic or an error.
    thread: JoinHandle<Option<(D::AtRest, Vec<Completion>)>>,
}

impl<D> Shared<D>
where
    D: Portable + 'static,
    D::File: Send + Sync + 'static,
{
    /// Starts the thread of `device`, on which nothing is under way.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(device: Stepped<D>) -> std::io::Result<Shared<D>> {
        let known = Arc::new(Known::of(device.driver()));
        let (messages, received) = bounded(known.limits.queue_depth.max(1));
        let told = Arc::clone(&known);
        let at_rest = device.into_rest();
        let thread = std::thread::Builder::new()
            .name("ubd-io".into())
            .spawn(move || {
                // Why it has ended is known before its channels close.
                let device = Stepped::<D>::from_rest(at_rest);
                let mut thread = IoThread::new(device, received, told);
                let ran = catch_unwind(AssertUnwindSafe(|| thread.run_to_its_end()));
                let failed = match ran {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error),
                    Err(panic) => Some(Died::of_panic(&*panic).into()),
                };
                let has_stopped = failed.is_none();
                let _ = (thread.known.ended).set(failed.unwrap_or(DeviceError::Stopped));
                has_stopped.then(|| {
                    let stopped = thread.into_stopped();
                    (stopped.driver.into_rest(), stopped.left)
                })
            })?;
        Ok(Shared {
            messages,
            known,
            thread,
        })
    }
}

impl<D: Portable> Shared<D> {
    /// A new submitter.
    pub fn handle(&self) -> Handle<D::File> {
        Handle::new(self.messages.clone(), Arc::clone(&self.known))
    }

    /// Stops the device when it has done all that was submitted before, and gives the driver back,
    /// with the first few completions that came too many, their tags the device's own. Whoever
    /// still has a handle gets [`DeviceError::Stopped`] from then on.
    ///
    /// # Errors
    /// If it did not go on.
    pub fn stop(self) -> Result<Stopped<D>, DeviceError> {
        // Where the thread has ended already, it says why.
        let _ = self.messages.send(Message::Stop);
        match self.thread.join() {
            Ok(Some((at_rest, left))) => Ok(Stopped {
                driver: D::from_rest(at_rest),
                left,
            }),
            Ok(None) => Err(self.known.why_it_ended()),
            Err(panic) => Err(Died::of_panic(&*panic).into()),
        }
    }
}

/// A device on its thread, with a single submitter.
#[derive(Debug)]
pub struct Live<D: Portable> {
    // Before the device: it has gone when that stops.
    handle: Handle<D::File>,
    shared: Shared<D>,
}

impl<D> Live<D>
where
    D: Portable + 'static,
    D::File: Send + Sync + 'static,
{
    /// Starts the thread; on it the driver carries its operations out itself.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(driver: D) -> std::io::Result<Live<D>> {
        let shared = Shared::start(Stepped::new(driver))?;
        let handle = shared.handle();
        Ok(Live { handle, shared })
    }
}

impl<D: Portable> Live<D> {
    /// The submitter.
    pub fn handle(&mut self) -> &mut Handle<D::File> {
        &mut self.handle
    }
}

impl<D: Portable> BlockDevice for Live<D> {
    type File = D::File;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        self.handle.submit(request)
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        self.handle.complete()
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        self.handle.complete_before(deadline_ns, clock)
    }

    fn capacity(&self) -> SectorCount {
        self.handle.capacity()
    }

    fn limits(&self) -> Limits {
        self.handle.limits()
    }

    fn statistics(&self) -> Statistics {
        self.handle.statistics()
    }

    fn resize(&mut self, resize: SentResize<D::File>) -> Result<(), DeviceError> {
        self.handle.resize(resize)
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        self.handle.resized(wait)
    }
}

impl<D: Portable> Running for Live<D> {
    type Driver = D;

    fn stop(mut self) -> Result<Stopped<D>, DeviceError> {
        let mut stopped = self.shared.stop()?;
        stopped.left.extend(self.handle.take_left());
        Ok(stopped)
    }
}

/// Where completions go.
struct Receiving {
    completions: Sender<Vec<Completion>>,
    batch: Vec<Completion>,
    /// Requests of this submitter that are not completed.
    in_flight: usize,
    /// It submits nothing more.
    has_gone: bool,
}

impl Receiving {
    /// Whether nothing more will go there.
    fn is_over(&self) -> bool {
        self.has_gone && self.in_flight == 0 && self.batch.is_empty()
    }
}

/// Whose a request is.
struct Owner {
    submitter: Submitter,
    /// The tag that it came with.
    tag: Tag,
    /// It waits for a sync.
    syncs: bool,
}

/// The thread's own side.
struct IoThread<D: Driver> {
    device: Stepped<D>,
    messages: Receiver<Message<D::File>>,
    known: Arc<Known>,
    /// Nothing more is taken.
    closed: bool,
    /// Requests for which the device's queue had no room.
    waiting: VecDeque<Request>,
    submitters: BTreeMap<Submitter, Receiving>,
    /// Whose each request in flight is, by the tag that it has on the device.
    owners: BTreeMap<Tag, Owner>,
    /// The tag of the next request. None comes twice, so that a late second completion of a
    /// request does not pass for the completion of another.
    next: Tag,
    /// The first few completions of what the driver was not given, or had completed before.
    strays: Vec<Completion>,
    /// Submitters that have completions in their batch.
    with_batch: Vec<Submitter>,
    /// Completions in batches.
    batched: usize,
    /// Requests in flight that wait for a sync.
    syncing: usize,
    resizes: VecDeque<(SentResize<D::File>, Sender<ResizeOutcome>)>,
    /// Who waits for the resize under way.
    resizing: Option<Sender<ResizeOutcome>>,
}

impl<D: Driver> IoThread<D> {
    fn new(
        device: Stepped<D>,
        messages: Receiver<Message<D::File>>,
        known: Arc<Known>,
    ) -> IoThread<D> {
        IoThread {
            device,
            messages,
            known,
            closed: false,
            waiting: VecDeque::new(),
            submitters: BTreeMap::new(),
            owners: BTreeMap::new(),
            next: Tag(0),
            strays: Vec::new(),
            with_batch: Vec::new(),
            batched: 0,
            syncing: 0,
            resizes: VecDeque::new(),
            resizing: None,
        }
    }

    /// Serves until it is stopped, and then until nothing is under way. What has ended before an
    /// error is handed over all the same.
    fn run_to_its_end(&mut self) -> Result<(), DeviceError> {
        let ran = self.run().and_then(|()| self.device.settle());
        self.take_completions();
        self.hand_over();
        ran
    }

    /// What is left of a device on which nothing is under way.
    fn into_stopped(self) -> Stopped<D> {
        let mut stopped = self.device.into_stopped();
        stopped.left.extend(self.strays);
        stopped
    }

    /// Serves until it is stopped, or all submitters have gone, and everything is done.
    fn run(&mut self) -> Result<(), DeviceError> {
        loop {
            let mut served = true;
            for _ in 0..REQUESTS_A_RESIZE_STEP {
                self.take_messages();
                served = self.device.serve(Wait::No)?;
                let completed = self.take_completions();
                if !served {
                    break;
                }
                if !completed {
                    // A publication goes on, which nobody may have asked for.
                    self.hand_over();
                }
            }
            self.begin_resize()?;
            if self.resizing.is_some() {
                self.hand_over();
                self.step_resize()?;
            } else if !served {
                self.hand_over();
                self.wait()?;
                if self.closed && !self.device.is_busy() && self.waiting.is_empty() {
                    self.take_completions();
                    self.hand_over();
                    return Ok(());
                }
            }
        }
    }

    /// Nothing can be done at once: waits for what is under way, or for a message.
    fn wait(&mut self) -> Result<(), DeviceError> {
        if self.device.has_under_way() {
            self.device.serve(Wait::AtMost(LOOK_AFTER))?;
            self.take_completions();
            return Ok(());
        }
        // Of what it was given, all has been done that can be.
        let expects_more = !self.waiting.is_empty() || !self.owners.is_empty();
        if expects_more || (self.closed && self.device.is_busy()) {
            return Err(DeviceError::Idle);
        }
        if !self.closed {
            match receive(&self.messages) {
                Ok(message) => self.accept(message),
                Err(_) => self.closed = true,
            }
        }
        Ok(())
    }

    fn take_messages(&mut self) {
        loop {
            while let Some(request) = self.waiting.pop_front() {
                if let Err(back) = self.device.offer(request) {
                    return self.waiting.push_front(back);
                }
            }
            if self.closed {
                return;
            }
            match self.messages.try_recv() {
                // Whoever looks again and again keeps no request waiting.
                Ok(message @ Message::Look(_)) => return self.accept(message),
                Ok(message) => self.accept(message),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.closed = true,
            }
        }
    }

    fn accept(&mut self, message: Message<D::File>) {
        match message {
            Message::Came(submitter, completions) => {
                let receiving = Receiving {
                    completions,
                    batch: Vec::new(),
                    in_flight: 0,
                    has_gone: false,
                };
                self.submitters.insert(submitter, receiving);
            }
            Message::Went(submitter) => {
                if let Some(going) = self.submitters.get_mut(&submitter) {
                    going.has_gone = true;
                    if going.is_over() {
                        self.submitters.remove(&submitter);
                    }
                }
            }
            Message::Requests(submitter, requests) => {
                if let Some(receiving) = self.submitters.get_mut(&submitter) {
                    receiving.in_flight += requests.len();
                }
                for mut request in requests {
                    request.tag = self.own(submitter, &request);
                    self.waiting.push_back(request);
                }
            }
            Message::Resize(resize, reply) => self.resizes.push_back((resize, reply)),
            Message::GiveUpResizes => {
                self.device.abandon_resize();
                for (_, reply) in self.resizes.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(ResizeError::Abandoned));
                }
            }
            Message::Look(look) => look(self.device.driver()),
            Message::Stop => self.closed = true,
        }
    }

    /// The tag that a submitter's request has on the device.
    fn own(&mut self, submitter: Submitter, request: &Request) -> Tag {
        let syncs = matches!(
            request.operation,
            Operation::Flush | Operation::Write { fua: true }
        );
        self.syncing += usize::from(syncs);
        let owner = Owner {
            submitter,
            tag: request.tag,
            syncs,
        };
        let tag = self.next;
        self.next = Tag(tag.0.wrapping_add(1));
        self.owners.insert(tag, owner);
        tag
    }

    /// Whether there was one.
    fn take_completions(&mut self) -> bool {
        let mut any = false;
        for mut completion in self.device.completions() {
            any = true;
            let Some(owner) = self.owners.remove(&completion.request.tag) else {
                if self.strays.len() < MOST_STRAYS {
                    self.strays.push(completion);
                }
                continue;
            };
            self.syncing -= usize::from(owner.syncs);
            completion.request.tag = owner.tag;
            if let Some(receiving) = self.submitters.get_mut(&owner.submitter) {
                receiving.in_flight = receiving.in_flight.saturating_sub(1);
                if receiving.batch.is_empty() {
                    self.with_batch.push(owner.submitter);
                }
                receiving.batch.push(completion);
                self.batched += 1;
            }
        }
        // What is done should not wait for a sync that may come next.
        if self.batched >= BATCH || self.syncing > 0 {
            self.hand_over();
        }
        any
    }

    fn hand_over(&mut self) {
        if self.batched == 0 {
            return;
        }
        self.known.update(self.device.driver());
        for submitter in self.with_batch.drain(..) {
            let Some(receiving) = self.submitters.get_mut(&submitter) else {
                continue;
            };
            let batch = std::mem::take(&mut receiving.batch);
            // A submitter that is about to go does not care about its completions.
            let _ = receiving.completions.send(batch);
            if receiving.is_over() {
                self.submitters.remove(&submitter);
            }
        }
        self.batched = 0;
    }

    fn begin_resize(&mut self) -> Result<(), DeviceError> {
        if self.resizing.is_none()
            && let Some((resize, reply)) = self.resizes.pop_front()
        {
            self.device.resize(resize)?;
            self.resizing = Some(reply);
        }
        Ok(())
    }

    fn step_resize(&mut self) -> Result<(), DeviceError> {
        self.device.step(Wait::AtMost(LOOK_AFTER))?;
        self.take_completions();
        if let Some(outcome) = self.device.resized(false)? {
            self.known.update(self.device.driver());
            if let Some(reply) = self.resizing.take() {
                // Whoever asked may have gone; the resize stands all the same.
                let _ = reply.send(outcome);
            }
        }
        Ok(())
    }
}
