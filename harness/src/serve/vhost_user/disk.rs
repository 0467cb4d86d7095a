//! The device as the library sees it: what its queues bring goes to the export, and what has ended
//! comes back to them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use driver::blk::Status;
use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use vmm_sys_util::epoll::EventSet;

use crate::serve::{Completer, Done, Export, Job, Share, Submitter};

use super::chain::Broken;
use super::config::{self, LONGEST_QUEUE, QUEUES, Serial};
use super::in_flight::{Consequence, InFlightNotes, NoNotes};
use super::queue::{AllMemory, Answering, Batch, Queue, Taken, Vring, Written, give_back};
use super::request::{Answer, Device, Wanted};
use crate::locked::locked;

/// What a queue's thread is woken with to end. The library has the numbers up to that of queues.
pub(super) const END: u64 = QUEUES as u64 + 1;

/// What it is woken with by the client.
pub(super) const KICKED: u64 = END + 1;

/// Requests are submitted at once until their data is this long, in bytes.
const BATCH: u64 = 1 << 20;

/// Ends the connection, for a reason that is told.
pub(super) type BreakOff = Box<dyn Fn(String) + Send + Sync>;

/// A virtio block device of one connection.
pub(super) struct Disk {
    export: Export,
    share: Share,
    serial: Serial,
    memory: AllMemory,
    queues: [Arc<Queue>; QUEUES],
    submitter: RwLock<Option<Submitter<Answering>>>,
    /// Where it is noted what is in flight, if the client has memory for it.
    notes: Mutex<Option<Arc<InFlightNotes>>>,
    /// The guest does not flush, and relies on all that is answered being durable.
    is_write_through: AtomicBool,
    /// Nothing is taken from the queues any more.
    is_ending: AtomicBool,
    break_off: BreakOff,
}

impl Disk {
    pub(super) fn new(
        export: Export,
        memory: AllMemory,
        submitter: Submitter<Answering>,
        break_off: BreakOff,
    ) -> Disk {
        Disk {
            serial: config::serial(&export),
            export,
            share: submitter.share().clone(),
            memory,
            queues: std::array::from_fn(|_| Arc::default()),
            submitter: RwLock::new(Some(submitter)),
            notes: Mutex::default(),
            is_write_through: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            break_off,
        }
    }

    /// Takes nothing more from the queues.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    /// Submits nothing more; what is in flight ends, and then its completer. The threads of the
    /// queues have ended.
    pub(super) fn let_go(&self) {
        let submitter = &mut *self
            .submitter
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(submitter.take());
    }

    /// Notes there what is in flight, from when each queue is started.
    pub(super) fn note_in(&self, notes: &Arc<InFlightNotes>) {
        for (index, queue) in self.queues.iter().enumerate() {
            queue.note_in(notes.queue(index));
        }
        *locked(&self.notes) = Some(Arc::clone(notes));
    }

    /// The queue of a number, if it has that many.
    pub(super) fn queue(&self, index: usize) -> Option<&Queue> {
        self.queues.get(index).map(Arc::as_ref)
    }

    /// Gets ready for notes that are lent or given back.
    ///
    /// A guest that was reset has not flushed, and reads what it wrote before. A guest that was
    /// stopped for a while goes on with what it wrote. The notes have to count from a moment at
    /// which all that was answered is durable.
    pub(super) fn prepare_for_notes(&self, place: &str) -> Result<(), NoNotes> {
        if self.queues.iter().any(|queue| queue.is_running()) {
            return Err(NoNotes::Running);
        }
        for queue in &self.queues {
            queue.drain();
        }
        match self.export.about().read_only || self.flush(place) {
            true => Ok(()),
            false => Err(NoNotes::NotDurable),
        }
    }

    /// Makes durable what was answered, so that a client which comes back, also to another server,
    /// finds all of it. All that was taken has been answered.
    pub(super) fn settle(&self, place: &str) {
        let is_volatile = {
            let notes = locked(&self.notes);
            notes.as_ref().is_some_and(|notes| notes.has_volatile())
        };
        if is_volatile {
            // If it fails, the notes go on saying what is not durable.
            self.flush(place);
        }
    }

    /// Flushes the device, for clients that have answers to rely on. Whether all that was answered
    /// is durable; the notes say it if it is.
    fn flush(&self, place: &str) -> bool {
        let notes = locked(&self.notes).clone();
        let answered = notes.as_ref().map_or(0, |notes| notes.answered());
        let (submitter, completer) = self.export.client::<()>(place.to_owned());
        let submitted = submitter.submit([(Job::Flush, (), None)]);
        drop(submitter);
        let mut is_durable = submitted.is_ok();
        loop {
            match completer.next_batch() {
                Ok(Some(done)) => {
                    is_durable &= done.iter().all(|done| done.status == Status::Ok);
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        if is_durable && let Some(notes) = notes {
            notes.are_durable(answered);
        }
        is_durable
    }

    /// Answers what ends, until all has.
    pub(super) fn answer_all(&self, completer: &Completer<Answering>) {
        loop {
            let batch = match completer.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(error) => {
                    let left = self.answer(completer.left());
                    (self.break_off)(match left {
                        Ok(()) => error.to_string(),
                        Err(broken) => broken.to_string(),
                    });
                    return;
                }
            };
            if let Err(broken) = self.answer(batch) {
                (self.break_off)(broken.to_string());
            }
        }
    }

    pub(super) fn answer(&self, batch: Vec<Done<Answering>>) -> Result<(), Broken> {
        let written = batch
            .into_iter()
            .map(|done| done.context.write(done.status.into(), &done.data));
        // What can be answered is, whatever became of the others.
        let (written, broken) = parted(written);
        give_back(written)?;
        broken
    }

    /// Serves what a queue offers until that is nothing.
    fn serve(&self, queue: &Arc<Queue>, vring: &Vring) -> Result<(), Broken> {
        while !self.is_ending.load(Ordering::Acquire) {
            match queue.take(vring, &self.memory)? {
                Some(batch) => self.submit(batch, vring)?,
                None => break,
            }
        }
        Ok(())
    }

    fn submit(&self, batch: Batch, vring: &Vring) -> Result<(), Broken> {
        let sectors = |offset, len| self.export.sectors(offset, len);
        let device = Device {
            read_only: self.export.about().read_only,
            sectors: &sectors,
        };
        let mut at_once = Vec::new();
        let mut together = Vec::new();
        let mut bytes = 0;
        for mut taken in batch.chains {
            let wanted = Wanted::of(&mut taken.chain, &batch.memory, device);
            let consequence =
                wanted.map_or(Consequence::None, |wanted| self.consequence(wanted, &taken));
            let answering = Answering {
                taken,
                vring: vring.clone(),
                memory: Arc::clone(&batch.memory),
                consequence,
                permit: None,
            };
            match wanted {
                Ok(wanted) => {
                    if bytes > 0 && bytes + wanted.bytes() > BATCH {
                        self.submit_together(std::mem::take(&mut together), bytes)?;
                        bytes = 0;
                    }
                    bytes += wanted.bytes();
                    together.push((wanted, answering));
                }
                Err(answer) => at_once.push(answering.write(answer, &[])),
            }
        }
        let (at_once, broken) = parted(at_once);
        give_back(at_once)?;
        self.submit_together(together, bytes)?;
        broken
    }

    /// What a request means for what is durable, if it succeeds.
    fn consequence(&self, wanted: Wanted, taken: &Taken) -> Consequence {
        match wanted {
            // What was discarded may come back.
            Wanted::Read(_) | Wanted::Id | Wanted::Discard(_) => Consequence::None,
            Wanted::Flush => Consequence::Flush(taken.answered_changes()),
            Wanted::Write(_) | Wanted::WriteZeroes(_) if self.is_durable_at_once() => {
                Consequence::None
            }
            Wanted::Write(_) | Wanted::WriteZeroes(_) => Consequence::Change,
        }
    }

    /// Whether a change is durable when it is answered.
    fn is_durable_at_once(&self) -> bool {
        self.is_write_through() || self.export.about().synchronous
    }

    fn is_write_through(&self) -> bool {
        self.is_write_through.load(Ordering::Acquire)
    }

    /// Submits requests with `bytes` bytes of data. They share their part of the memory, because
    /// one that waited for it while it had some could wait for itself.
    fn submit_together(
        &self,
        requests: Vec<(Wanted, Answering)>,
        bytes: u64,
    ) -> Result<(), Broken> {
        let permit = (bytes > 0).then(|| Arc::new(self.share.take(bytes)));
        let mut jobs: Vec<(Job, Answering, _)> = Vec::with_capacity(requests.len());
        let mut at_once = Vec::new();
        for (wanted, mut answering) in requests {
            let fua = self.is_write_through();
            match wanted.job(&answering.taken.chain, &answering.memory, fua) {
                Ok(job) => {
                    answering.permit = permit.clone();
                    jobs.push((job, answering, None));
                }
                Err(answer) => {
                    let id = (wanted == Wanted::Id).then(|| self.serial.to_vec());
                    at_once.push(answering.write(answer, id.as_slice()));
                }
            }
        }
        let submitter = self
            .submitter
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(submitter) = &*submitter
            && !jobs.is_empty()
            && let Err(refused) = submitter.submit(jobs)
        {
            let failed = refused.into_iter().map(|refused| refused.context);
            at_once.extend(failed.map(|context| context.write(Answer::FAILED, &[])));
        }
        let (at_once, broken) = parted(at_once);
        give_back(at_once)?;
        broken
    }
}

/// What was written, and the first that could not be.
fn parted(
    all: impl IntoIterator<Item = Result<Written, Broken>>,
) -> (Vec<Written>, Result<(), Broken>) {
    let mut broken = Ok(());
    let mut written = Vec::new();
    for one in all {
        match one {
            Ok(one) => written.push(one),
            Err(error) => broken = broken.and(Err(error)),
        }
    }
    (written, broken)
}

impl VhostUserBackend for Disk {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        LONGEST_QUEUE
    }

    fn features(&self) -> u64 {
        config::features(&self.export)
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        config::protocol_features()
    }

    /// The specification: what a guest writes that did not accept to flush is durable when it is
    /// answered.
    fn acked_features(&self, features: u64) {
        let flushes = features & 1 << VIRTIO_BLK_F_FLUSH != 0;
        self.is_write_through.store(!flushes, Ordering::Release);
    }

    /// The library asks each queue by itself.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::bytes(self.export.capacity(), offset, size)
    }

    /// All look at the memory that the library replaces.
    fn update_memory(&self, _memory: AllMemory) -> io::Result<()> {
        Ok(())
    }

    /// A thread for each queue.
    fn queues_per_thread(&self) -> Vec<u64> {
        (0..QUEUES).map(|queue| 1 << queue).collect()
    }

    /// The guest wants to know how far a queue has come: what was taken is answered first.
    fn stop_vring(&self, index: u32) -> io::Result<()> {
        if let Some(queue) = self.queues.get(index as usize) {
            queue.drain();
        }
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _events: EventSet,
        vrings: &[Vring],
        thread: usize,
    ) -> io::Result<()> {
        if u64::from(event) == END {
            // The library ends its thread for any error.
            return Err(io::ErrorKind::Interrupted.into());
        }
        let (Some(queue), Some(vring)) = (self.queues.get(thread), vrings.first()) else {
            return Ok(());
        };
        if u64::from(event) == KICKED {
            queue.clear_kick();
        }
        if let Err(broken) = self.serve(queue, vring) {
            self.end();
            (self.break_off)(broken.to_string());
        }
        Ok(())
    }
}
