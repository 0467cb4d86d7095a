//! A guest's queue: chains are taken from it in batches, and come back to it as they end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use vhost_user_backend::{VringMutex, VringState, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryAtomic};

use crate::serve::Permit;

use super::chain::{Broken, Chain, Memory, Pieces};
use super::request::Answer;

/// The guest's memory, which the guest may exchange.
pub(super) type AllMemory = GuestMemoryAtomic<Memory>;

/// A queue as the library keeps it.
pub(super) type Vring = VringMutex<AllMemory>;

/// What is in flight of one queue.
#[derive(Default)]
pub(super) struct Queue {
    in_flight: Mutex<usize>,
    ended: Condvar,
    /// The library's queue, once it has brought something.
    vring: OnceLock<Vring>,
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
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.queue.count() -= 1;
        self.queue.ended.notify_all();
    }
}

impl Queue {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that was taken has ended, and is in the used ring.
    pub(super) fn drain(&self) {
        let mut count = self.count();
        while *count > 0 {
            count = self
                .ended
                .wait(count)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(count);
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
        state.disable_notification().map_err(library)?;
        let chains = self.take_from(&mut state, &memory)?;
        // Whatever was offered until now is looked at again.
        if chains.is_empty() && !state.enable_notification().map_err(library)? {
            return Ok(None);
        }
        Ok(Some(Batch { chains, memory }))
    }

    fn take_from(
        self: &Arc<Queue>,
        state: &mut VringState<AllMemory>,
        memory: &Memory,
    ) -> Result<Vec<Taken>, Broken> {
        let queue = state.get_queue_mut();
        let size = queue.size();
        let mut chains = Vec::new();
        for chain in queue.iter(memory).map_err(library)? {
            let chain = Chain::of(chain, memory)?;
            let mut count = self.count();
            // A guest that offers a chain twice would otherwise have any number in flight.
            if *count >= usize::from(size) {
                return Err(Broken::TooMany(size));
            }
            *count += 1;
            chains.push(Taken {
                chain,
                queue: Arc::clone(self),
            });
        }
        Ok(chains)
    }
}

/// What it takes to answer a request.
pub(super) struct Answering {
    pub(super) taken: Taken,
    pub(super) vring: Vring,
    pub(super) memory: Arc<Memory>,
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
        Ok(Written {
            taken: self.taken,
            vring: self.vring,
            len: data_len as u32 + 1,
        })
    }
}

fn write_data(writable: &Pieces, memory: &Memory, len: u64, data: &[Vec<u8>]) -> bool {
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
        let is_same = |next: &Written| Arc::ptr_eq(&next.taken.queue, &first.taken.queue);
        let mut same = Vec::new();
        while let Some(next) = answers.next_if(is_same) {
            same.push(next);
        }
        let mut state = vring.get_mut();
        for answer in std::iter::once(first).chain(same) {
            let head = answer.taken.chain.head;
            // It has to be out of flight before the guest may offer it again.
            drop(answer.taken);
            state.add_used(head, answer.len).map_err(library)?;
        }
        let signals = state.needs_notification().map_err(library)?;
        if signals {
            // One that has too many signals waiting for it gets the next one.
            let _ = state.signal_used_queue();
        }
    }
    Ok(())
}

fn library(error: virtio_queue::Error) -> Broken {
    Broken::Library(error.to_string())
}
