//! The real I/O thread: a loop over [`Ordered::advance`], fed through a channel as ubd's is by
//! its pipe. Requests may come in batches and completions go back in them, because a message
//! that wakes the other side costs more than carrying out a small request; a batch never
//! waits for a sync or for a resize.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded,
};

use crate::blk::{Completion, Limits, Request};
use crate::executor::Died;
use crate::host::HostFile;
use crate::resize::{Outcome, Resize};

use super::{AtRest, Ordered, Step};

/// Completions are handed over when this many are ready, or when there is nothing else to do.
const BATCH: usize = 16;

/// How often one side looks, before it goes to sleep, whether the other has sent something
/// meanwhile. All the looks together take some ten microseconds. Waking a sleeper costs the waker
/// about as much.
const LOOKS: u32 = 512;

/// After each this many looks it lets another thread run, which may be the one that it waits for.
const LOOKS_A_TURN: u32 = 32;

type BoxedResize<F> = Box<dyn Resize<F> + Send>;

enum Message<F> {
    Requests(Vec<Request>),
    Resize(BoxedResize<F>, Sender<Outcome>),
}

/// The submitter's end of a device that runs on its I/O thread.
#[derive(Debug)]
pub struct LiveDevice<F> {
    messages: Sender<Message<F>>,
    completions: Receiver<Vec<Completion>>,
    ready: VecDeque<Completion>,
    /// Gives the device back, or nothing after a panic.
    thread: JoinHandle<Option<AtRest<F>>>,
    /// What the thread died of.
    died: Arc<OnceLock<Died>>,
}

impl<F: HostFile + Send + Sync + 'static> LiveDevice<F> {
    /// Starts the I/O thread of `device`. A resize under way is given up.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(device: Ordered<F>) -> std::io::Result<LiveDevice<F>> {
        let (messages, from_submitter) = bounded(Limits::ORDERED.queue_depth);
        let (to_submitter, completions) = unbounded();
        let died = Arc::new(OnceLock::new());
        let why = Arc::clone(&died);
        let device = device.into_rest();
        let thread = std::thread::Builder::new()
            .name("ubd-io".into())
            .spawn(move || {
                // What it is told of comes before its channels close.
                let (messages, completions) = (from_submitter.clone(), to_submitter.clone());
                let ran = catch_unwind(AssertUnwindSafe(|| {
                    let thread = IoThread::new(device.into(), from_submitter, to_submitter);
                    thread.run().into_rest()
                }));
                let device = ran.map_err(|panic| why.set(Died::of_panic(&*panic))).ok();
                drop((messages, completions));
                device
            })?;
        Ok(LiveDevice {
            messages,
            completions,
            ready: VecDeque::new(),
            thread,
            died,
        })
    }

    /// Hands a request over; waits while the queue is full.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn submit(&self, request: Request) -> Result<(), Died> {
        self.submit_all(vec![request])
    }

    /// Hands several requests over at once; those that overlap are served in their order; waits
    /// while the queue is full. At a depth of more than one this is the cheaper way.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<(), Died> {
        if requests.is_empty() {
            return Ok(());
        }
        let message = Message::Requests(requests);
        self.messages.send(message).map_err(|_| self.why_it_died())
    }

    /// Waits for the next completion. There has to be a request in flight.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn wait(&mut self) -> Result<Completion, Died> {
        loop {
            if let Some(completion) = self.ready.pop_front() {
                return Ok(completion);
            }
            let batch = receive(&self.completions).map_err(|_| self.why_it_died())?;
            self.ready.extend(batch);
        }
    }

    /// Waits for the next completion, but no longer than `longest`; `None` if none came.
    ///
    /// # Errors
    /// If the I/O thread has died.
    pub fn wait_for(&mut self, longest: Duration) -> Result<Option<Completion>, Died> {
        if self.ready.is_empty() {
            match self.completions.recv_timeout(longest) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.why_it_died()),
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Waits for the next completion, and takes those that came with it. There has to be a
    /// request in flight.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn wait_all(&mut self) -> Result<Vec<Completion>, Died> {
        if !self.ready.is_empty() {
            return Ok(std::mem::take(&mut self.ready).into());
        }
        receive(&self.completions).map_err(|_| self.why_it_died())
    }

    /// Begins a resize; requests are served between its steps, also those submitted before
    /// it. Its result comes through the channel returned. A second resize waits for the first.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn resize(&self, resize: BoxedResize<F>) -> Result<Receiver<Outcome>, Died> {
        let (reply, result) = bounded(1);
        let message = Message::Resize(resize, reply);
        self.messages
            .send(message)
            .map_err(|_| self.why_it_died())?;
        Ok(result)
    }

    /// Stops the thread when it has served everything submitted, and gives back the device
    /// and the completions that nobody waited for.
    ///
    /// # Errors
    /// If the thread has died.
    pub fn stop(self) -> Result<(Ordered<F>, Vec<Completion>), Died> {
        drop(self.messages);
        let mut left: Vec<_> = self.ready.into();
        left.extend(self.completions.iter().flatten());
        match self.thread.join() {
            Ok(Some(device)) => Ok((device.into(), left)),
            Ok(None) => Err(why_it_died(&self.died)),
            Err(panic) => Err(Died::of_panic(&*panic)),
        }
    }

    /// Why the thread does not answer any more.
    pub fn why_it_died(&self) -> Died {
        why_it_died(&self.died)
    }
}

fn why_it_died(died: &OnceLock<Died>) -> Died {
    died.get().cloned().unwrap_or(Died {
        what: "the thread that does the device's I/O has ended".into(),
    })
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

/// The thread's own side.
struct IoThread<F> {
    device: Ordered<F>,
    messages: Receiver<Message<F>>,
    open: bool,
    /// Requests that came with others for which the device's queue had room.
    waiting: VecDeque<Request>,
    completions: Sender<Vec<Completion>>,
    batch: Vec<Completion>,
    /// Resizes that wait for the one under way.
    resizes: VecDeque<(BoxedResize<F>, Sender<Outcome>)>,
    /// Who waits for that one.
    resizes_for: Option<Sender<Outcome>>,
}

impl<F: HostFile> IoThread<F> {
    fn new(
        device: Ordered<F>,
        messages: Receiver<Message<F>>,
        completions: Sender<Vec<Completion>>,
    ) -> IoThread<F> {
        IoThread {
            device,
            messages,
            open: true,
            waiting: VecDeque::new(),
            completions,
            batch: Vec::with_capacity(BATCH),
            resizes: VecDeque::new(),
            resizes_for: None,
        }
    }

    /// Serves until the submitter has hung up and everything is done.
    fn run(mut self) -> Ordered<F> {
        loop {
            self.take_messages();
            self.begin_resize();
            match self.device.advance() {
                Step::Completed(completion) => self.complete(completion),
                // What takes longer comes next: what is done should not wait for it.
                Step::Working => self.hand_over(),
                Step::Blocked | Step::Idle => {
                    self.hand_over();
                    if !self.open {
                        return self.device;
                    }
                    // Idle: all that came has been taken and served.
                    self.wait_for_message();
                }
            }
            if let Some(outcome) = self.device.take_outcome()
                && let Some(reply) = self.resizes_for.take()
            {
                // Whoever asked may have gone; the resize stands all the same.
                let _ = reply.send(outcome);
            }
        }
    }

    /// Begins the next resize, if none is under way.
    fn begin_resize(&mut self) {
        if !self.device.is_resizing()
            && let Some((resize, reply)) = self.resizes.pop_front()
        {
            self.device.begin_resize(resize);
            self.resizes_for = Some(reply);
        }
    }

    fn take_messages(&mut self) {
        while self.device.has_room() {
            if let Some(request) = self.waiting.pop_front() {
                let queued = self.device.submit(request);
                assert!(queued.is_ok(), "room was made sure of before");
                continue;
            }
            if !self.open {
                return;
            }
            match self.messages.try_recv() {
                Ok(message) => self.accept(message),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.open = false,
            }
        }
    }

    fn wait_for_message(&mut self) {
        match receive(&self.messages) {
            Ok(message) => self.accept(message),
            Err(_) => self.open = false,
        }
    }

    fn accept(&mut self, message: Message<F>) {
        match message {
            Message::Requests(requests) => self.waiting.extend(requests),
            Message::Resize(resize, reply) => self.resizes.push_back((resize, reply)),
        }
    }

    fn complete(&mut self, completion: Completion) {
        self.batch.push(completion);
        if self.batch.len() >= BATCH {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        // A submitter that has gone does not care about its completions.
        let _ = self.completions.send(batch);
    }
}
