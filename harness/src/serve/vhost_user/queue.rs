//! A guest's queue: chains are taken from it in batches, and come back to it as they end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use vhost_user_backend::{VringMutex, VringState, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryAtomic};

use crate::serve::Permit;

use super::chain::{Broken, Chain, ChainPieces, DescriptorTable, Memory};
use super::in_flight::{Consequence, QueueNotes};
use super::request::Answer;
use super::signals::{Call, Kick};
use crate::locked::locked;

/// The guest's memory, which the guest may exchange.
pub(super) type AllMemory = GuestMemoryAtomic<Memory>;

/// A queue as the library keeps it.
pub(super) type Vring = VringMutex<AllMemory>;

/// What is in flight of one queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ended: Condvar,
    /// The library's queue, once it has brought something.
    vring: OnceLock<Vring>,
    /// By which the client says that it has something.
    kick: Mutex<Option<Kick>>,
    /// Where the client hears that something has come back.
    call: Mutex<Option<Arc<Call>>>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    /// Those who wait until nothing is.
    waiting: usize,
    /// It has been served since it was stopped the last time.
    is_started: bool,
    /// Chains that were taken from it.
    taken: u64,
    /// Where it is noted what is in flight, from when the queue is started.
    notes: Option<QueueNotes>,
    /// Where it is to be noted when it is started the next time.
    next_notes: Option<QueueNotes>,
}

/// Chains that were taken from a queue at once, and the memory that they lie in.
pub(super) struct Batch {
    pub(super) chains: Vec<Taken>,
    pub(super) memory: Arc<Memory>,
}

/// A chain that was taken from its queue. It counts as in flight until this is dropped.
pub(super) struct Taken {
    pub(super) chain: Chain,
    queue: Arc<Queue>,
    notes: Option<QueueNotes>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.in_flight -= 1;
        // To wake somebody is a system call, also where nobody waits.
        if state.waiting > 0 && state.in_flight == 0 {
            self.queue.ended.notify_all();
        }
    }
}

impl Taken {
    /// The changes that have been answered until now, where they are counted.
    pub(super) fn answered_changes(&self) -> u64 {
        self.notes.as_ref().map_or(0, QueueNotes::answered)
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is in flight there when it is started the next time.
    pub(super) fn note_in(&self, notes: Option<QueueNotes>) {
        self.state().next_notes = notes;
    }

    /// It is kicked by that from now on. By what it was until now is given back.
    pub(super) fn kicked_by(&self, kick: Option<Kick>) -> Option<Kick> {
        std::mem::replace(&mut locked(&self.kick), kick)
    }

    /// Sets its kick back.
    pub(super) fn clear_kick(&self) {
        if let Some(kick) = &*locked(&self.kick) {
            kick.clear();
        }
    }

    /// Its answers are signalled there from now on.
    pub(super) fn signalled_at(&self, call: Option<Arc<Call>>) {
        *locked(&self.call) = call;
    }

    fn signal(&self) {
        // Whoever gives it another one does not wait for this.
        let call = locked(&self.call).clone();
        if let Some(call) = call {
            call.signal();
        }
    }

    /// Whether chains may be taken from it at any moment, as they have been.
    pub(super) fn is_running(&self) -> bool {
        let is_started = self.state().is_started;
        is_started
            && self.vring.get().is_some_and(|vring| {
                let vring = vring.get_ref();
                vring.is_enabled() && vring.get_queue().ready()
            })
    }

    /// Waits until all that was taken has ended, and is in the used ring. It is started again when
    /// something is taken again.
    pub(super) fn drain(&self) {
        let mut state = self.state();
        state.waiting += 1;
        while state.in_flight > 0 {
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.is_started = false;
        drop(state);
        // The last of it is in the ring when the ring's lock is free.
        if let Some(vring) = self.vring.get() {
            drop(vring.get_ref());
        }
    }

    /// Takes what the guest offers. `None` if that is nothing, and the guest will kick when there
    /// is something.
    pub(super) fn take(
        self: &Arc<Queue>,
        vring: &Vring,
        memory: &AllMemory,
    ) -> Result<Option<Batch>, Broken> {
        self.vring.get_or_init(|| vring.clone());
        let mut state = vring.get_mut();
        if !state.is_enabled() || !state.get_queue().ready() {
            return Ok(None);
        }
        let memory = memory.memory().into_inner();
        if !state.get_queue().is_valid(&*memory) {
            return Err(Broken::Rings);
        }
        let chains = self.start(&mut state, &memory)?;
        if !chains.is_empty() {
            return Ok(Some(Batch { chains, memory }));
        }
        state.disable_notification().map_err(library)?;
        let chains = self.take_from(&mut state, &memory)?;
        // Whatever was offered until now is looked at again.
        if chains.is_empty() && !state.enable_notification().map_err(library)? {
            return Ok(None);
        }
        Ok(Some(Batch { chains, memory }))
    }

    /// Starts a queue that has not been since it was stopped: what a server had taken that was
    /// killed, and has not answered.
    fn start(
        self: &Arc<Queue>,
        vring: &mut VringState<AllMemory>,
        memory: &Memory,
    ) -> Result<Vec<Taken>, Broken> {
        let notes = {
            let mut state = self.state();
            if state.is_started {
                return Ok(Vec::new());
            }
            state.is_started = true;
            state.notes = state.next_notes.clone();
            state.notes.clone()
        };
        let Some(notes) = notes else {
            return Ok(Vec::new());
        };
        let queue = vring.get_queue_mut();
        let used = queue.used_idx(memory, Ordering::Acquire).map_err(library)?;
        let Some(heads) = notes.resume(used.0, queue.size())? else {
            return Ok(Vec::new());
        };
        // What was offered is in the used ring, in flight, or has to be taken yet.
        queue.set_next_avail(used.0.wrapping_add(heads.len() as u16));
        let table = table_of(queue);
        let taken = heads
            .into_iter()
            .map(|head| self.taken(head, table, memory));
        taken.collect()
    }

    fn take_from(
        self: &Arc<Queue>,
        vring: &mut VringState<AllMemory>,
        memory: &Memory,
    ) -> Result<Vec<Taken>, Broken> {
        let queue = vring.get_queue_mut();
        let table = table_of(queue);
        let chains = queue.iter(memory).map_err(library)?;
        chains
            .map(|chain| self.taken(chain.head_index(), table, memory))
            .collect()
    }

    /// Takes a chain, and notes that.
    fn taken(
        self: &Arc<Queue>,
        head: u16,
        table: DescriptorTable,
        memory: &Memory,
    ) -> Result<Taken, Broken> {
        let chain = Chain::of(head, table, memory)?;
        let mut state = self.state();
        // A guest that offers a chain twice would otherwise have any number in flight.
        if state.in_flight >= usize::from(table.len) {
            return Err(Broken::TooMany(table.len));
        }
        state.in_flight += 1;
        state.taken += 1;
        if let Some(notes) = &state.notes {
            notes.begin(head, state.taken);
        }
        Ok(Taken {
            chain,
            queue: Arc::clone(self),
            notes: state.notes.clone(),
        })
    }
}

fn table_of(queue: &virtio_queue::Queue) -> DescriptorTable {
    DescriptorTable {
        address: GuestAddress(queue.desc_table()),
        len: queue.size(),
    }
}

/// What it takes to answer a request.
pub(super) struct Answering {
    pub(super) taken: Taken,
    pub(super) vring: Vring,
    pub(super) memory: Arc<Memory>,
    pub(super) consequence: Consequence,
    /// Of a batch, kept until the last of it is answered.
    pub(super) permit: Option<Arc<Permit>>,
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering")
            .field("chain", &self.taken.chain)
            .finish_non_exhaustive()
    }
}

/// An answer whose data and status are in the guest's memory, and which the guest has not seen.
pub(super) struct Written {
    taken: Taken,
    vring: Vring,
    /// What comes of it, now that it has ended.
    consequence: Consequence,
    /// Bytes that were written.
    len: u32,
}

impl Answering {
    /// Writes data and status into the guest's memory.
    pub(super) fn write(self, answer: Answer, data: &[Vec<u8>]) -> Result<Written, Broken> {
        let chain = &self.taken.chain;
        let writable = &chain.writable;
        let data_len = match answer {
            Answer::OK => data.iter().map(Vec::len).sum::<usize>() as u64,
            _ => 0,
        };
        let (answer, data_len) = match write_data(writable, &self.memory, data_len, data) {
            true => (answer, data_len.min(writable.len())),
            false => (Answer::FAILED, 0),
        };
        write_status(&self.memory, chain.status, answer)?;
        let consequence = match answer {
            Answer::OK => self.consequence,
            _ => Consequence::None,
        };
        Ok(Written {
            taken: self.taken,
            vring: self.vring,
            consequence,
            len: data_len as u32 + 1,
        })
    }
}

fn write_data(writable: &ChainPieces, memory: &Memory, len: u64, data: &[Vec<u8>]) -> bool {
    len == 0 || writable.write(memory, data).is_ok()
}

fn write_status(memory: &Memory, at: GuestAddress, answer: Answer) -> Result<(), Broken> {
    use vm_memory::Bytes;
    let written = memory.write_slice(&[answer.0], at);
    written.map_err(|_| Broken::StatusOutside(at.0))
}

/// Gives answers back to the guest, in order, and signals once where it wants to be.
pub(super) fn give_back(answers: Vec<Written>) -> Result<(), Broken> {
    let mut answers = answers.into_iter().peekable();
    while let Some(first) = answers.next() {
        let vring = first.vring.clone();
        let queue = Arc::clone(&first.taken.queue);
        let is_same = |next: &Written| Arc::ptr_eq(&next.taken.queue, &queue);
        let mut same = Vec::new();
        while let Some(next) = answers.next_if(is_same) {
            same.push(next);
        }
        let mut state = vring.get_mut();
        for answer in std::iter::once(first).chain(same) {
            let (head, notes) = (answer.taken.chain.head, answer.taken.notes.clone());
            // It has to be out of flight before the guest may offer it again.
            drop(answer.taken);
            let mut show = || {
                state.add_used(head, answer.len).map_err(library)?;
                Ok(state.get_queue().next_used())
            };
            match notes {
                Some(notes) => notes.end(head, answer.consequence, show)?,
                None => drop(show()?),
            }
        }
        // Under the lock, so that who has waited for it may rely on having been signalled.
        if state.needs_notification().map_err(library)? {
            queue.signal();
        }
    }
    Ok(())
}

fn library(error: virtio_queue::Error) -> Broken {
    Broken::Library(error.to_string())
}
