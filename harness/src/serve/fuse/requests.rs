//! What the device has to do for the kernel, from when it is asked for until it is answered.
//!
//! A read is submitted by whoever has read it from the kernel: it has to wait for no other request,
//! and a thread between would have to be woken for each. For the same reason the device's own
//! thread answers what has ended. All else goes through two threads: one takes what has come, all
//! of it at a time, and submits it. The other answers reads of much data, which take their time. A
//! change that touches a sector in part goes round twice: the sectors that it touches in part come
//! back to the first thread, which then submits the change.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use driver::blk::Status;
use driver::units::{Sector, SectorCount, SectorRange};
use fuser::{Errno, ReplyData, ReplyEmpty};

use super::super::budget::Permit;
use super::super::client::{Completer, Done, Job, Submitter};
use super::super::export::Export;
use super::super::shares::Share;
use super::change::{Change, Content, Parts};
use super::errors;
use super::span::{Edges, Span};
use super::turns::{Ticket, Turn, Turns};

/// The most requests of an endpoint that are in flight; those that come after wait in the kernel.
pub(super) const MOST_IN_FLIGHT: u64 = 1024;

/// The most requests that are submitted together.
const BATCH: usize = 32;

/// What is asked of the device.
#[derive(Debug)]
pub(super) enum ForDevice {
    /// Other content.
    Change(Change),
    /// All that was done before is to be durable.
    Sync { reply: ReplyEmpty, slot: Permit },
    /// A sector that a change touches in part has been read, or why not.
    Edge(Ticket, Sector, Result<Vec<u8>, Status>),
    /// Nothing more comes.
    Stop,
}

/// What comes back with a job.
#[derive(Debug)]
enum Context {
    Read {
        span: Span,
        reply: ReplyData,
        _slot: Permit,
    },
    Edge(Ticket, Sector),
    Part(Arc<Parts>),
    Sync {
        reply: ReplyEmpty,
        _slot: Permit,
    },
}

/// The threads.
#[derive(Debug)]
pub(super) struct Threads {
    submits: JoinHandle<()>,
    answers: JoinHandle<()>,
    asked: Sender<ForDevice>,
    share: Share,
    reads: Reads,
}

/// Where reads go. It is none of those that keep the device's client there.
#[derive(Clone, Debug)]
pub(super) struct Reads(Weak<Submitter<Context>>);

impl Reads {
    /// Reads these bytes. Waits while the device's queue is full.
    pub(super) fn read(&self, span: Span, reply: ReplyData, permit: Permit, slot: Permit) {
        let context = Context::Read {
            span,
            reply,
            _slot: slot,
        };
        let job = (Job::Read(span.sectors()), context, Some(permit));
        let Some(submitter) = self.0.upgrade() else {
            return answer(job.1, Status::IoError, Vec::new());
        };
        if let Err(refused) = submitter.submit([job]) {
            for refused in refused {
                answer(refused.context, Status::IoError, Vec::new());
            }
        }
    }
}

impl Threads {
    /// Starts them, as one client of the export.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(export: &Export, name: String) -> io::Result<Threads> {
        let (asked, come) = unbounded();
        let edges: Sender<ForDevice> = asked.clone();
        let of_device = edges.clone();
        let answer = move |done| answer_done(done, &of_device);
        let (submitter, completer) = export.client_answered(name, answer);
        let share = submitter.share().clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let answers = thread("fuse-answers").spawn(move || answer_all(&completer, &edges))?;
        let submitter = Arc::new(submitter);
        let reads = Reads(Arc::downgrade(&submitter));
        let requests = Requests {
            submitter,
            turns: Turns::new(),
            reading: BTreeMap::new(),
            batch: Vec::new(),
        };
        // Where there is no thread for it, the submitter is dropped, and the other one ends.
        let submits = thread("fuse-submits").spawn(move || requests.submit_all(&come))?;
        Ok(Threads {
            submits,
            answers,
            asked,
            reads,
            share,
        })
    }

    /// Where reads go.
    pub(super) fn reads(&self) -> Reads {
        self.reads.clone()
    }

    /// Where all else goes.
    pub(super) fn asked(&self) -> Sender<ForDevice> {
        self.asked.clone()
    }

    /// Where requests take their memory from.
    pub(super) fn share(&self) -> Share {
        self.share.clone()
    }

    /// Ends them when all that was asked for is answered.
    pub(super) fn stop(self) {
        // A thread that has ended takes nothing.
        let _ = self.asked.send(ForDevice::Stop);
        let _ = self.submits.join();
        let _ = self.answers.join();
    }
}

/// A change that reads before it writes.
#[derive(Debug)]
struct Reading {
    change: Change,
    /// Sectors that have not been read.
    left: usize,
    edges: Edges,
    failed: Option<Status>,
}

struct Requests {
    submitter: Arc<Submitter<Context>>,
    turns: Turns<Change>,
    reading: BTreeMap<Ticket, Reading>,
    batch: Vec<(Job, Context, Option<Permit>)>,
}

impl Requests {
    fn submit_all(mut self, come: &Receiver<ForDevice>) {
        while let Ok(first) = come.recv() {
            let more = come.try_iter().take(BATCH - 1);
            for asked in std::iter::once(first).chain(more) {
                if matches!(asked, ForDevice::Stop) {
                    self.submit();
                    return;
                }
                self.take(asked);
            }
            self.submit();
        }
    }

    fn take(&mut self, asked: ForDevice) {
        match asked {
            ForDevice::Change(change) => {
                let keeps = !change.span.partial().is_empty();
                let begun = self.turns.come(change.span.sectors(), keeps, change);
                self.begin(begun);
            }
            ForDevice::Sync { reply, slot } => {
                let context = Context::Sync { reply, _slot: slot };
                self.batch.push((Job::Flush, context, None));
            }
            ForDevice::Edge(ticket, sector, read) => self.has_read(ticket, sector, read),
            ForDevice::Stop => {}
        }
    }

    /// Begins changes whose turn it is.
    fn begin(&mut self, begun: impl IntoIterator<Item = Turn<Change>>) {
        for Turn { change, ticket } in begun {
            let Some(ticket) = ticket else {
                self.carry_out(change, &Edges::new());
                continue;
            };
            let partial = change.span.partial();
            for &sector in &partial {
                let job = Job::Read(SectorRange::new(sector, SectorCount(1)));
                self.batch.push((job, Context::Edge(ticket, sector), None));
            }
            let reading = Reading {
                change,
                left: partial.len(),
                edges: Edges::new(),
                failed: None,
            };
            self.reading.insert(ticket, reading);
        }
    }

    fn has_read(&mut self, ticket: Ticket, sector: Sector, read: Result<Vec<u8>, Status>) {
        let Some(reading) = self.reading.get_mut(&ticket) else {
            return;
        };
        reading.left -= 1;
        match read {
            Ok(content) => drop(reading.edges.insert(sector, content)),
            Err(status) => reading.failed = Some(status),
        }
        if reading.left > 0 {
            return;
        }
        let Some(reading) = self.reading.remove(&ticket) else {
            return;
        };
        match reading.failed {
            Some(status) => reading.change.answer.give(status),
            None => self.carry_out(reading.change, &reading.edges),
        }
        // Those that overlap it are submitted after it, and the device keeps their order.
        let begun = self.turns.leave(ticket);
        self.begin(begun);
    }

    fn carry_out(&mut self, change: Change, edges: &Edges) {
        let Change {
            span,
            content,
            fua,
            answer,
            mut permit,
            slot,
        } = change;
        let jobs = match content {
            Content::Data(data) => vec![Job::Write {
                start: span.sectors().start,
                data: span.widened(data, edges),
                fua,
            }],
            Content::Zeros => span.zeroing(edges, fua),
        };
        let parts = Arc::new(Parts {
            answer,
            failed: OnceLock::new(),
            _slot: slot,
        });
        for job in jobs {
            let context = Context::Part(Arc::clone(&parts));
            self.batch.push((job, context, permit.take()));
        }
        // A span is not empty, so that there is a job: this does not answer yet.
        parts.ended(Status::Ok);
    }

    fn submit(&mut self) {
        // Failing one may let others begin, which fail too.
        while !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            let Err(refused) = self.submitter.submit(batch) else {
                return;
            };
            for refused in refused {
                match refused.context {
                    Context::Edge(ticket, sector) => {
                        self.has_read(ticket, sector, Err(Status::IoError));
                    }
                    context => answer(context, Status::IoError, Vec::new()),
                }
            }
        }
    }
}

/// Answers what the device's thread does not, until there is nobody left who submits.
fn answer_all(completer: &Completer<Context>, edges: &Sender<ForDevice>) {
    loop {
        match completer.next_batch() {
            Ok(Some(done)) => answer_done(done, edges),
            Ok(None) => return,
            Err(_) => return answer_done(completer.left(), edges),
        }
    }
}

/// Answers what has ended. The kernel takes an answer at once.
fn answer_done(done: Vec<Done<Context>>, edges: &Sender<ForDevice>) {
    for done in done {
        match done.context {
            Context::Edge(ticket, sector) => {
                let read = match done.status {
                    Status::Ok => Ok(done.data.concat()),
                    status => Err(status),
                };
                // It is not taken when all has failed.
                let _ = edges.send(ForDevice::Edge(ticket, sector, read));
            }
            context => answer(context, done.status, done.data),
        }
    }
}

/// Answers all but what a change reads first.
fn answer(context: Context, status: Status, data: Vec<Vec<u8>>) {
    match context {
        Context::Read { span, reply, .. } => match errors::of_status(status) {
            None => with_data(span, reply, data),
            Some(error) => reply.error(error),
        },
        Context::Part(parts) => parts.ended(status),
        Context::Sync { reply, .. } => match errors::of_status(status) {
            None => reply.ok(),
            Some(error) => reply.error(error),
        },
        Context::Edge(..) => {}
    }
}

fn with_data(span: Span, reply: ReplyData, data: Vec<Vec<u8>>) {
    let joined;
    let data = match &data[..] {
        [only] => &only[..],
        _ => {
            joined = data.concat();
            &joined[..]
        }
    };
    let bytes = span.before()..span.before() + span.len() as usize;
    match data.get(bytes) {
        Some(bytes) => reply.data(bytes),
        // The device has read less than it was asked for.
        None => reply.error(Errno::EIO),
    }
}
