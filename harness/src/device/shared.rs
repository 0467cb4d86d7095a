//! A device on a thread of its own, for several submitters at once. Each has a [`Handle`], and
//! gets the completions of its own requests back, with its own tags.
//!
//! Requests may come in batches and completions go back in them, because a message that wakes the
//! other side costs more than carrying out a small request; a batch never waits for a sync or for
//! a resize. While operations are under way on an executor, the thread looks after new requests
//! each [`LOOK_AFTER`], because it cannot wait for both.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded,
};
use driver::blk::{Completion, Limits, Operation, Request, Tag};
use driver::driver::{Driver, Portable};
use driver::executor::{Died, Wait};
use driver::host::HostFile;
use driver::ordered::Statistics;
use driver::resize::Outcome;
use driver::units::SectorCount;

use crate::clock::Clock;

use super::{BlockDevice, DeviceError, Running, SentResize, Stepped, Stopped};

/// Completions are handed over when this many are ready, or when there is nothing else to do.
const BATCH: usize = 16;

/// At most this many requests are served between two steps of a resize.
const REQUESTS_A_RESIZE_STEP: usize = 64;

/// The most completions that are kept which came too many: one is enough to tell that.
const MOST_STRAYS: usize = 16;

/// The longest that a new request waits for the thread to look, while it waits for an executor.
const LOOK_AFTER: Duration = Duration::from_micros(100);

/// How often one side looks, before it goes to sleep, whether the other has sent something
/// meanwhile. All the looks together take some ten microseconds. Waking a sleeper costs the waker
/// about as much.
const LOOKS: u32 = 512;

/// After each this many looks it lets another thread run, which may be the one that it waits for.
const LOOKS_A_TURN: u32 = 32;

/// Which of the submitters.
type Submitter = u64;

enum Message<F> {
    /// A submitter has come; its completions go here.
    Came(Submitter, Sender<Vec<Completion>>),
    /// It has gone, and does not care about what is in flight.
    Went(Submitter),
    Requests(Submitter, Vec<Request>),
    Resize(SentResize<F>, Sender<Outcome>),
    /// Ends the thread when all that came before has been done.
    Stop,
}

/// What both sides know.
#[derive(Debug)]
struct Known {
    limits: Limits,
    capacity: AtomicU64,
    statistics: Mutex<Statistics>,
    /// The number of the next submitter.
    next: AtomicU64,
    /// Why the thread has ended.
    ended: OnceLock<DeviceError>,
}

impl Known {
    fn of<D: Driver>(driver: &D) -> Known {
        Known {
            limits: driver.limits(),
            capacity: AtomicU64::new(driver.capacity().0),
            statistics: Mutex::new(driver.statistics()),
            next: AtomicU64::new(0),
            ended: OnceLock::new(),
        }
    }

    fn update<D: Driver>(&self, driver: &D) {
        self.capacity.store(driver.capacity().0, Ordering::Release);
        let mut known = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = driver.statistics();
    }

    fn why_it_ended(&self) -> DeviceError {
        self.ended.get().cloned().unwrap_or(DeviceError::Stopped)
    }
}

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

/// One submitter's end of a device that runs on its thread.
#[derive(Debug)]
pub struct Handle<F> {
    number: Submitter,
    messages: Sender<Message<F>>,
    completions: Receiver<Vec<Completion>>,
    ready: VecDeque<Completion>,
    /// Requests of this submitter that it has not been given back.
    in_flight: usize,
    outcome: Option<Receiver<Outcome>>,
    known: Arc<Known>,
}

/// Another submitter to the same device.
impl<F> Clone for Handle<F> {
    fn clone(&self) -> Handle<F> {
        Handle::new(self.messages.clone(), Arc::clone(&self.known))
    }
}

impl<F> Handle<F> {
    fn new(messages: Sender<Message<F>>, known: Arc<Known>) -> Handle<F> {
        let number = known.next.fetch_add(1, Ordering::Relaxed);
        let (to_submitter, completions) = unbounded();
        // Where the thread has ended, the first request says so.
        let _ = messages.send(Message::Came(number, to_submitter));
        Handle {
            number,
            messages,
            completions,
            ready: VecDeque::new(),
            in_flight: 0,
            outcome: None,
            known,
        }
    }

    /// Hands several requests over at once; those that overlap are served in their order. At a
    /// depth of more than one this is the cheaper way.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn submit_all(&mut self, requests: Vec<Request>) -> Result<(), DeviceError> {
        if requests.is_empty() {
            return Ok(());
        }
        let count = requests.len();
        self.send(Message::Requests(self.number, requests))?;
        self.in_flight += count;
        Ok(())
    }

    /// Waits for the next completion, and takes those that came with it; there is a request in
    /// flight.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn complete_all(&mut self) -> Result<Vec<Completion>, DeviceError> {
        self.wait()?;
        self.in_flight = self.in_flight.saturating_sub(self.ready.len());
        Ok(std::mem::take(&mut self.ready).into())
    }

    fn send(&self, message: Message<F>) -> Result<(), DeviceError> {
        let sent = self.messages.send(message);
        sent.map_err(|_| self.known.why_it_ended())
    }

    /// Waits until something is ready.
    fn wait(&mut self) -> Result<(), DeviceError> {
        while self.ready.is_empty() {
            if self.in_flight == 0 {
                return Err(DeviceError::Idle);
            }
            let batch = receive(&self.completions).map_err(|_| self.known.why_it_ended())?;
            self.ready.extend(batch);
        }
        Ok(())
    }

    fn take_ready(&mut self) -> Option<Completion> {
        let next = self.ready.pop_front();
        self.in_flight = self.in_flight.saturating_sub(usize::from(next.is_some()));
        next
    }
}

impl<F> Drop for Handle<F> {
    fn drop(&mut self) {
        // A thread that has ended does not need to know.
        let _ = self.messages.send(Message::Went(self.number));
    }
}

impl<F: HostFile> BlockDevice for Handle<F> {
    type File = F;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        self.submit_all(vec![request])
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        self.wait()?;
        self.take_ready().ok_or(DeviceError::Idle)
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        if self.ready.is_empty() {
            let left = deadline_ns.saturating_sub(clock.now_ns());
            match self.completions.recv_timeout(Duration::from_nanos(left)) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.known.why_it_ended()),
            }
        }
        Ok(self.take_ready())
    }

    fn capacity(&self) -> SectorCount {
        SectorCount(self.known.capacity.load(Ordering::Acquire))
    }

    fn limits(&self) -> Limits {
        self.known.limits
    }

    fn statistics(&self) -> Statistics {
        let known = self.known.statistics.lock();
        *known.unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&mut self, resize: SentResize<F>) -> Result<(), DeviceError> {
        let (reply, outcome) = bounded(1);
        self.send(Message::Resize(resize, reply))?;
        self.outcome = Some(outcome);
        Ok(())
    }

    fn resized(&mut self, wait: bool) -> Result<Option<Outcome>, DeviceError> {
        let Some(receiver) = &self.outcome else {
            return Ok(None);
        };
        let outcome = match wait {
            true => receiver.recv().map_err(|_| self.known.why_it_ended())?,
            false => match receiver.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(self.known.why_it_ended()),
            },
        };
        self.outcome = None;
        Ok(Some(outcome))
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

    fn resized(&mut self, wait: bool) -> Result<Option<Outcome>, DeviceError> {
        self.handle.resized(wait)
    }
}

impl<D: Portable> Running for Live<D> {
    type Driver = D;

    fn stop(mut self) -> Result<Stopped<D>, DeviceError> {
        let mut stopped = self.shared.stop()?;
        let left = &mut stopped.left;
        left.extend(std::mem::take(&mut self.handle.ready));
        left.extend(self.handle.completions.try_iter().flatten());
        Ok(stopped)
    }
}

/// Receives a message, awake at first.
fn receive<T>(from: &Receiver<T>) -> Result<T, RecvError> {
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

/// Where completions go.
struct Receiving {
    completions: Sender<Vec<Completion>>,
    batch: Vec<Completion>,
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
    /// Completions in batches.
    batched: usize,
    /// Requests in flight that wait for a sync.
    syncing: usize,
    resizes: VecDeque<(SentResize<D::File>, Sender<Outcome>)>,
    /// Who waits for the resize under way.
    resizing: Option<Sender<Outcome>>,
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
                };
                self.submitters.insert(submitter, receiving);
            }
            Message::Went(submitter) => {
                if let Some(gone) = self.submitters.remove(&submitter) {
                    self.batched -= gone.batch.len();
                }
            }
            Message::Requests(submitter, requests) => {
                for mut request in requests {
                    request.tag = self.own(submitter, &request);
                    self.waiting.push_back(request);
                }
            }
            Message::Resize(resize, reply) => self.resizes.push_back((resize, reply)),
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
        for receiving in self.submitters.values_mut() {
            if !receiving.batch.is_empty() {
                let batch = std::mem::take(&mut receiving.batch);
                // A submitter that is about to go does not care about its completions.
                let _ = receiving.completions.send(batch);
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
