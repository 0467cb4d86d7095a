//! The way of a request through the `ordered` driver, without any I/O in it.
//!
//! ```text
//! requests ──> [ admission · order · map · placement · publication ] ──> operations
//! completions <──                                                    <── what came of them
//! ```
//!
//! The engine is given requests, gives [`Operation`]s, is told how each has ended, and gives
//! completions. It calls nothing and waits for nothing, so that as many operations can be under way
//! as the device has requests, and nobody but who carries them out knows how. One request is an
//! exception: if it is `alone`, whoever steps a device in place carries out its runs as they are
//! found.
//!
//! A request goes down through this folder: it waits in `order` until nothing that it overlaps
//! with is before it, `admission` takes it or refuses it, `begun` makes operations of its parts, as
//! `plan` finds them in the map and in `placement`, and `publication` makes it durable, if it asks
//! for that.
//!
//! | before this | ends | shown by (`tests/it/in_flight.rs`) |
//! |---|---|---|
//! | a request begins | each that was submitted before it and overlaps with it, where one of the two changes something | `a_request_waits_for_the_one_before_it_…` |
//! | a publication begins | the publication before it | `a_flush_covers_what_was_acknowledged_…` |
//! | a relocation has its turn: a frontier falls, bits are copied, a bitmap is exchanged | the publication under way | `a_relocation_waits_for_the_publication_…` |
//! | a publication begins while a relocation has its turn | that turn | `no_publication_begins_within_a_turn_…` |
//! | what a relocation has written counts for a sync | the write, before the sync begins | `what_a_relocation_writes_counts_when_it_ends_…`, `a_sync_of_a_relocation_covers_…` |
//! | a source is freed | each request that touched its window, when that was copied: none goes there since | `a_relocation_waits_until_its_window_has_drained_…` |
//! | a resize that is given up is told so | its operation under way | `a_resize_that_is_given_up_is_told_so_…` |
//! | the data of a window is looked for and copied | each request that touches the window | `a_relocation_waits_until_its_window_has_drained_…` |
//! | the end of the device comes nearer | each request past the new end | `a_shrink_waits_for_what_is_under_way_…` |
//! | a file is copied, to be replaced | each request that has begun, its publication too | `who_keeps_everything_out_waits_for_…` |
//! | a device is closed | each operation that was given | `a_device_is_not_closed_under_…` |

mod admission;
mod alone;
mod begun;
mod hold;
mod occupied;
mod order;
mod placement;
mod plan;
mod publication;
mod publishing;
mod relocating;
mod statistics;

use std::collections::VecDeque;

use crate::blk::{Completion, HostFailure, Limits, Operation as Asked, Request, Status};
use crate::cow::SectorMap;
use crate::host::{Action, FileRole, Finished, HostError, Operation, OperationKind, Waiter};
use crate::units::{FileOffset, Sector, SectorCount, SectorRange};

pub use hold::Hold;
pub use placement::Placement;
pub use statistics::Statistics;

pub(crate) use admission::Admission;
pub(crate) use alone::{Alone, SoleTransfer};
pub(crate) use publication::Durability;

use begun::Begun;
use order::{InOrder, Slot};
use publication::Publication;
use relocating::{Relocating, Turn};

/// A publication begins by itself when more words of the bitmap than this wait for one, unless a
/// device is told otherwise. That bounds what a crash can lose, and the memory that remembers it.
pub const PENDING_WORDS: u64 = 1 << 16;

/// Where the data of a sector is.
#[derive(Clone, Copy)]
struct Where<'a> {
    map: &'a SectorMap,
    placement: &'a Placement,
}

/// What comes after the operations of a request.
enum Effect {
    /// It is complete, with this status unless an operation failed.
    Complete(Status),
    /// It has to become durable.
    Publish,
}

/// What a device does next for its requests, and what it knows for that.
#[derive(Debug)]
pub struct Engine {
    pub(crate) map: SectorMap,
    pub(crate) placement: Placement,
    pub(crate) admission: Admission,
    pub(crate) durability: Durability,
    pub(crate) statistics: Statistics,
    /// Every write is durable when it is acknowledged.
    synchronous: bool,
    /// More words of the bitmap than this do not wait.
    pending_words: u64,
    hold: Hold,
    requests: InOrder,
    /// Requests of which a part has begun, and another has not.
    in_parts: VecDeque<Slot>,
    /// Operations that come next of parts that have begun.
    ready: VecDeque<Operation>,
    /// Operations that were given and have not ended.
    under_way: usize,
    /// Requests that the next publication completes.
    to_publish: Vec<Slot>,
    publication: Option<Publication>,
    /// Its next operation, if nobody has taken that yet.
    publishes: Option<Action>,
    /// Requests that may still begin before the publication that something waits for: those that
    /// were there when it could have begun.
    sharing: Option<usize>,
    /// What a relocation is at.
    relocating: Relocating,
    completed: VecDeque<Completion>,
    /// No request begins any more.
    closing: bool,
    /// What made a publication fail that no request waited for.
    failure: Option<HostFailure>,
}

/// What an engine begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) map: SectorMap,
    pub(crate) placement: Placement,
    pub(crate) capacity: SectorCount,
    pub(crate) mapped: SectorCount,
    pub(crate) read_only: bool,
    pub(crate) synchronous: bool,
}

impl Engine {
    pub(crate) fn new(beginning: Beginning) -> Engine {
        let limits = Limits::ORDERED;
        Engine {
            map: beginning.map,
            placement: beginning.placement,
            admission: Admission {
                limits,
                end: Sector(0) + beginning.capacity,
                mapped_end: Sector(0) + beginning.mapped,
                read_only: beginning.read_only,
            },
            durability: Durability::default(),
            statistics: Statistics::default(),
            synchronous: beginning.synchronous,
            pending_words: PENDING_WORDS,
            hold: Hold::Nothing,
            requests: InOrder::with_capacity(limits.queue_depth),
            in_parts: VecDeque::new(),
            ready: VecDeque::new(),
            under_way: 0,
            to_publish: Vec::new(),
            publication: None,
            publishes: None,
            sharing: None,
            relocating: Relocating::default(),
            completed: VecDeque::new(),
            closing: false,
            failure: None,
        }
    }

    /// The sectors that the device offers now.
    pub(crate) fn capacity(&self) -> SectorCount {
        self.admission.end - Sector(0)
    }

    /// Lets a publication begin by itself when more words than this wait for one.
    pub(crate) fn set_pending_words(&mut self, words: u64) {
        self.pending_words = words;
    }

    /// Keeps requests out, or lets them in again.
    pub(crate) fn set_hold(&mut self, hold: Hold) {
        self.hold = hold;
        if hold == Hold::Nothing {
            // Whoever lets requests in again has had its turn.
            self.relocating.is_not_due();
        }
        self.requests.look_again();
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The request itself, when as many as [`Limits::queue_depth`] are not completed.
    #[inline]
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if !self.has_room() {
            return Err(request);
        }
        self.requests.submit(request);
        Ok(())
    }

    /// Whether another request can be taken.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.requests.len() < self.admission.limits.queue_depth
    }

    /// Whether a request is not completed.
    pub fn is_busy(&self) -> bool {
        self.requests.len() > 0
    }

    /// Whether an operation of a publication is under way, or the next to be given.
    pub fn is_publishing(&self) -> bool {
        self.publication.is_some()
    }

    /// Whether an operation of a publication may come next.
    pub(crate) fn publication_may_be_next(&self) -> bool {
        self.publishes.is_some() || self.wants_publication()
    }

    /// Whether a relocation has its turn from now on: no publication is under way, for it knows
    /// where the bitmap was when it began, and what is kept out has drained. None begins until
    /// [`Engine::end_turn`]. Otherwise the next publication waits for the relocation.
    pub(crate) fn begin_turn(&mut self) -> bool {
        let everything = self.hold == Hold::Everything;
        // Where all requests are kept out, those that have begun become durable first.
        let publishes = self.is_publishing() || everything && !self.to_publish.is_empty();
        self.relocating.turn = match !publishes && self.has_drained() {
            true => Turn::Has,
            false if self.is_publishing() && !everything => Turn::Due,
            false => Turn::No,
        };
        self.relocating.turn == Turn::Has
    }

    /// The relocation's turn is over: publications begin again.
    pub(crate) fn end_turn(&mut self) {
        self.relocating.turn = Turn::No;
    }

    /// Takes the completions that have not been given out, so that they keep nothing from
    /// beginning.
    pub(crate) fn set_aside_completions(&mut self) -> VecDeque<Completion> {
        std::mem::take(&mut self.completed)
    }

    /// Gives completions out again that were set aside, before those that have come since.
    pub(crate) fn put_back_completions(&mut self, mut aside: VecDeque<Completion>) {
        aside.append(&mut self.completed);
        self.completed = aside;
    }

    /// Whether no request under way is one that is kept out now.
    fn has_drained(&self) -> bool {
        let mut busy = self.requests.busy();
        !busy.any(|begun| self.hold.blocks(begun.request.operation, begun.range))
    }

    /// The sectors that requests under way write.
    pub(crate) fn being_written(&self) -> impl Iterator<Item = SectorRange> {
        let busy = self.requests.busy().filter(|begun| begun.changes());
        busy.map(|begun| begun.range)
    }

    /// The next operation to be carried out, if there is one that waits for no other. While a
    /// request is complete and [`Engine::next_completion`] has not given it, none begins.
    #[inline]
    pub fn next_operation(&mut self) -> Option<Operation> {
        let next = self.choose_operation();
        self.under_way += usize::from(next.is_some());
        next
    }

    /// Whether operations were given that have not ended.
    pub(crate) fn has_operations_under_way(&self) -> bool {
        self.under_way > 0
    }

    #[inline]
    fn choose_operation(&mut self) -> Option<Operation> {
        if let Some(operation) = self.ready.pop_front() {
            return Some(operation);
        }
        if let Some(action) = self.publishes.take() {
            return Some(publishing(action));
        }
        if let Some(operation) = self.next_part() {
            return Some(operation);
        }
        while !self.closing && self.completed.is_empty() && !self.publication_is_overdue() {
            let Some(request) = self.requests.next(self.hold) else {
                break;
            };
            if let Some(operation) = self.begin(request) {
                return Some(operation);
            }
        }
        // Those that come after what is complete may share it.
        if !self.completed.is_empty() && !self.closing && !self.publication_is_overdue() {
            return None;
        }
        self.begin_publication()
    }

    /// The next completion, if a request is complete.
    #[inline]
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    /// Begins a request; its first operation, if it needs one.
    #[inline]
    fn begin(&mut self, request: Request) -> Option<Operation> {
        self.sharing = self.sharing.map(|left| left.saturating_sub(1));
        let range = match self.admission.check(&request) {
            Ok(range) => range,
            Err(status) => {
                let refused = self.completion(request, status, None);
                self.completed.push_back(refused);
                return None;
            }
        };
        let mut begun = Begun::new(request, range);
        let first = begun.begin_part(self.place());
        let more = begun.has_more_parts();
        let slot = self.requests.begin(begun);
        let Some((part, file, action)) = first else {
            self.took_effect(slot);
            return None;
        };
        if more {
            self.in_parts.push_back(slot);
        }
        Some(operation(slot, part, file, action))
    }

    #[inline]
    fn place(&self) -> Where<'_> {
        Where {
            map: &self.map,
            placement: &self.placement,
        }
    }

    /// The first operation of the next part of a request that has begun.
    fn next_part(&mut self) -> Option<Operation> {
        while let Some(&slot) = self.in_parts.front() {
            let place = Where {
                map: &self.map,
                placement: &self.placement,
            };
            let Some(begun) = self.requests.get_mut(slot) else {
                self.in_parts.pop_front();
                continue;
            };
            let next = begun.begin_part(place);
            let is_done = begun.is_done();
            if !begun.has_more_parts() {
                self.in_parts.pop_front();
            }
            if let Some((part, file, action)) = next {
                return Some(operation(slot, part, file, action));
            }
            // The parts that were left had no sectors.
            if is_done {
                self.took_effect(slot);
            }
        }
        None
    }

    /// Takes note of how an operation has ended.
    #[inline]
    pub fn finish(&mut self, finished: Finished) {
        self.under_way = self.under_way.saturating_sub(1);
        let Finished { operation, result } = finished;
        let Operation {
            waiter,
            file,
            action,
        } = operation;
        if waiter >= RELOCATION {
            return match waiter == RELOCATION {
                true => self.relocated(file, action, result),
                false => self.go_on_publishing(&action, result.err()),
            };
        }
        let (slot, part) = who(waiter);
        let failure = match result {
            Ok(()) => None,
            Err(error) => {
                if let (Action::ZeroRange(_), HostError::Unsupported) = (&action, &error)
                    && let Some(action) = action.instead()
                {
                    return self.ready.push_back(Operation {
                        waiter,
                        file,
                        action,
                    });
                }
                Some(self.host_failure(file, action.kind(), action.range().start, error))
            }
        };
        let place = Where {
            map: &self.map,
            placement: &self.placement,
        };
        let Some(begun) = self.requests.get_mut(slot) else {
            return;
        };
        if let Some((file, action)) = begun.go_on(part, action, failure, place) {
            return self
                .ready
                .push_back(self::operation(slot, part, file, action));
        }
        if begun.is_done() {
            if begun.failure.is_some() {
                self.in_parts.retain(|in_parts| *in_parts != slot);
            }
            self.took_effect(slot);
        }
    }

    /// All operations of a request have ended, so that it is complete or has to become durable.
    #[inline]
    fn took_effect(&mut self, slot: Slot) {
        let Some(begun) = self.requests.get_mut(slot) else {
            return;
        };
        let (asked, range, failed) = (
            begun.request.operation,
            begun.range,
            begun.failure.is_some(),
        );
        match self.take_effect(asked, range, failed) {
            Effect::Complete(status) => self.end(slot, status),
            Effect::Publish => self.publish(slot),
        }
    }

    /// What a request asked for has been done, or has `failed`: what that changes here.
    #[inline]
    fn take_effect(&mut self, asked: Asked, range: SectorRange, failed: bool) -> Effect {
        if asked.is_change() {
            self.durability.note_change();
        }
        if failed {
            return Effect::Complete(Status::Ok);
        }
        let durable = match asked {
            Asked::Write { fua } => {
                self.map.mark_dirty(range);
                fua || self.synchronous
            }
            Asked::WriteZeroes => {
                self.map.mark_dirty(range);
                self.synchronous
            }
            Asked::Flush => true,
            Asked::Read | Asked::Discard => false,
        };
        if durable && self.durability.failed {
            return Effect::Complete(Status::IoError);
        }
        let too_many = asked.is_change()
            && !self.durability.failed
            && self.map.has_more_changes_than(self.pending_words);
        match durable || too_many {
            true => Effect::Publish,
            false => Effect::Complete(Status::Ok),
        }
    }

    /// The next publication completes this request, which keeps nobody back any more.
    #[inline]
    fn publish(&mut self, slot: Slot) {
        self.requests.took_effect(slot);
        self.to_publish.push(slot);
    }

    /// A request is complete.
    #[inline]
    fn end(&mut self, slot: Slot, status: Status) {
        if let Some(begun) = self.requests.end(slot) {
            let completion = self.ended(begun.request, status, begun.failure);
            self.completed.push_back(completion);
        }
    }

    /// The completion of a request whose operations have ended. One of which one failed ends with
    /// that.
    #[inline]
    fn ended(
        &mut self,
        request: Request,
        status: Status,
        failure: Option<Box<HostFailure>>,
    ) -> Completion {
        let status = match &failure {
            Some(failure) => Status::from(&failure.error),
            None => status,
        };
        self.completion(request, status, failure)
    }

    #[inline]
    fn completion(
        &mut self,
        request: Request,
        status: Status,
        failure: Option<Box<HostFailure>>,
    ) -> Completion {
        self.statistics.requests += 1;
        Completion {
            request,
            status,
            failure,
        }
    }

    /// From now on no request begins, and what has been written is made durable.
    pub(crate) fn begin_closing(&mut self) {
        self.requests.forget_waiting();
        self.end_turn();
        self.closing = true;
    }

    /// What kept the writes from becoming durable, since the device began to close.
    pub(crate) fn closing_failure(&mut self) -> Option<HostFailure> {
        self.failure.take()
    }

    fn has_unpublished(&self) -> bool {
        self.durability.is_unsynced() || self.map.has_changes()
    }

    #[cold]
    fn host_failure(
        &self,
        file: FileRole,
        kind: OperationKind,
        at: FileOffset,
        error: HostError,
    ) -> Box<HostFailure> {
        let role = match file {
            FileRole::Cow if self.placement.is_raw() => FileRole::RawDisk,
            file => file,
        };
        Box::new(HostFailure {
            kind,
            role,
            at,
            error,
        })
    }
}

/// Who waits for the operations of publications.
const PUBLICATION: Waiter = Waiter(u64::MAX);

/// Who waits for those of a relocation. Those of requests have lower numbers.
const RELOCATION: Waiter = Waiter(u64::MAX - 1);

fn publishing(action: Action) -> Operation {
    Operation {
        waiter: PUBLICATION,
        file: FileRole::Cow,
        action,
    }
}

#[inline]
fn operation(slot: Slot, part: u32, file: FileRole, action: Action) -> Operation {
    Operation {
        waiter: Waiter(u64::from(slot) << 32 | u64::from(part)),
        file,
        action,
    }
}

#[inline]
fn who(waiter: Waiter) -> (Slot, u32) {
    ((waiter.0 >> 32) as Slot, waiter.0 as u32)
}
