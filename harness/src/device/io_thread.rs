//! The thread of a device that several submit to: it takes their messages, steps the device and
//! its resize, and hands completions over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use driver::blk::{Completion, Operation, Request, Status, Tag};
use driver::driver::Driver;
use driver::executor::Wait;
use driver::resize::{ResizeError, ResizeOutcome};

use super::handle::receive;
use super::known::{Known, Message, SubmitterNumber, Takes, Visits};
use super::owners::{Owner, Owners};
use super::{BlockDevice, DeviceError, SentResize, Stepped, Stopped};

/// Messages are looked at, and completions handed over, when this many requests have been served,
/// or when something else comes next. Both cost more than serving a small request.
const BATCH: usize = 16;

/// At most this many requests are served between two steps of a resize.
const REQUESTS_A_RESIZE_STEP: usize = 64;

/// The most completions that are kept which came too many: one is enough to tell that.
const MOST_STRAYS: usize = 16;

/// The longest that a new request waits for the thread to look, while it waits for an executor.
const LOOK_AFTER: Duration = Duration::from_micros(100);

/// Where completions go.
struct Receiving {
    completions: Takes,
    batch: Vec<Completion>,
    /// Requests of this submitter that are not completed.
    in_flight: usize,
    /// Requests of it that have come.
    taken: u64,
    /// It submits nothing after this many.
    last: Option<u64>,
}

impl Receiving {
    fn new(completions: Takes) -> Receiving {
        Receiving {
            completions,
            batch: Vec::new(),
            in_flight: 0,
            taken: 0,
            last: None,
        }
    }

    /// Whether nothing more will go there.
    fn is_over(&self) -> bool {
        self.last == Some(self.taken) && self.in_flight == 0 && self.batch.is_empty()
    }
}

/// The thread's own side.
pub(super) struct IoThread<D: Driver> {
    device: Stepped<D>,
    messages: Receiver<Message<D::File>>,
    known: Arc<Known>,
    /// Nothing more is taken.
    closed: bool,
    /// Requests for which the device's queue had no room.
    waiting: VecDeque<Request>,
    submitters: BTreeMap<SubmitterNumber, Receiving>,
    owners: Owners,
    /// The first few completions of what the driver was not given, or had completed before.
    strays: Vec<Completion>,
    /// Submitters that have completions in their batch.
    with_batch: Vec<SubmitterNumber>,
    /// Requests in flight that wait for a sync.
    syncing: usize,
    resizes: VecDeque<(SentResize<D::File>, Sender<ResizeOutcome>)>,
    /// Who waits for the resize under way.
    resizing: Option<Sender<ResizeOutcome>>,
}

impl<D: Driver> IoThread<D> {
    pub(super) fn new(
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
            owners: Owners::default(),
            strays: Vec::new(),
            with_batch: Vec::new(),
            syncing: 0,
            resizes: VecDeque::new(),
            resizing: None,
        }
    }

    /// Serves until it is stopped, and then until nothing is under way. What has ended before an
    /// error is handed over all the same.
    pub(super) fn run_to_its_end(&mut self) -> Result<(), DeviceError> {
        let ran = self.run().and_then(|()| self.device.settle());
        self.take_completions();
        self.hand_over();
        ran
    }

    /// What is left of a device on which nothing is under way.
    pub(super) fn into_stopped(self) -> Stopped<D> {
        let mut stopped = self.device.into_stopped();
        stopped.left.extend(self.strays);
        stopped
    }

    /// Serves until it is stopped, or all submitters have gone, and everything is done.
    fn run(&mut self) -> Result<(), DeviceError> {
        loop {
            let mut served = true;
            let mut left = REQUESTS_A_RESIZE_STEP;
            while served && left > 0 {
                self.take_messages();
                // What is done does not wait for a sync, which any step may be now.
                let most = match self.syncing {
                    0 => BATCH,
                    _ => 1,
                };
                served = self.device.serve_several(most)?;
                self.take_completions();
                self.hand_over();
                left = left.saturating_sub(most);
            }
            self.begin_resize()?;
            if self.resizing.is_some() {
                self.step_resize()?;
            } else if !served {
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
        self.take_visits();
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
            Message::Requests(submitter, requests) => {
                if let Some(receiving) = self.receiving(submitter) {
                    receiving.taken += requests.len() as u64;
                    receiving.in_flight += requests.len();
                }
                for mut request in requests {
                    request.tag = self.own(submitter, &request);
                    self.waiting.push_back(request);
                }
            }
            Message::Nothing(submitter, requests) => self.complete_nothing(submitter, requests),
            Message::Resize(resize, reply) => self.resizes.push_back((resize, reply)),
            Message::GiveUpResizes => self.give_up_resizes(),
            Message::Look(look) => look(self.device.driver()),
            Message::LookAround => self.take_visits(),
            Message::Stop => {
                // No later one is taken.
                self.give_up_resizes();
                self.closed = true;
            }
        }
    }

    fn take_visits(&mut self) {
        let Some(Visits { came, went }) = self.known.take_visits() else {
            return;
        };
        for (submitter, completions) in came {
            self.submitters
                .insert(submitter, Receiving::new(completions));
        }
        for (submitter, last) in went {
            if let Some(going) = self.submitters.get_mut(&submitter) {
                going.last = Some(last);
                if going.is_over() {
                    self.submitters.remove(&submitter);
                }
            }
        }
    }

    /// Where the completions of this submitter go. It may have come a moment ago.
    fn receiving(&mut self, submitter: SubmitterNumber) -> Option<&mut Receiving> {
        if !self.submitters.contains_key(&submitter) {
            self.take_visits();
        }
        self.submitters.get_mut(&submitter)
    }

    fn complete_nothing(&mut self, submitter: SubmitterNumber, requests: Vec<Request>) {
        let Some(receiving) = self.receiving(submitter) else {
            return;
        };
        receiving.taken += requests.len() as u64;
        let completions = requests.into_iter().map(|request| Completion {
            request,
            status: Status::Ok,
            failure: None,
        });
        receiving.completions.take(completions.collect());
        if receiving.is_over() {
            self.submitters.remove(&submitter);
        }
    }

    fn give_up_resizes(&mut self) {
        self.device.abandon_resize();
        for (_, reply) in self.resizes.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(Err(ResizeError::Abandoned));
        }
    }

    /// The tag that a submitter's request has on the device.
    fn own(&mut self, submitter: SubmitterNumber, request: &Request) -> Tag {
        let syncs = matches!(
            request.operation,
            Operation::Flush | Operation::Write { fua: true }
        );
        self.syncing += usize::from(syncs);
        self.owners.add(Owner {
            submitter,
            tag: request.tag,
            syncs,
        })
    }

    /// Puts what is complete into the batches of those whose it is.
    fn take_completions(&mut self) {
        let completions = self.device.completions();
        let count = completions.len();
        for (taken, mut completion) in completions.enumerate() {
            let Some(owner) = self.owners.remove(completion.request.tag) else {
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
                    receiving.batch.reserve(count - taken);
                }
                receiving.batch.push(completion);
            }
        }
    }

    /// Hands all batches over.
    fn hand_over(&mut self) {
        if self.with_batch.is_empty() {
            return;
        }
        self.known.update(self.device.driver());
        for submitter in self.with_batch.drain(..) {
            let Some(receiving) = self.submitters.get_mut(&submitter) else {
                continue;
            };
            let batch = std::mem::take(&mut receiving.batch);
            receiving.completions.take(batch);
            if receiving.is_over() {
                self.submitters.remove(&submitter);
            }
        }
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
