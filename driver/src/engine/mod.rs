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
//! with is before it, `choosing` lets it begin, `admission` takes it or refuses it, `begun` makes
//! operations of its parts, as `plan` finds them in the map and in `placement`. When they have
//! ended, `effect` says what that means, and `publication` makes it durable, if it asks for that.
//!
//! What ends before what, each shown by a test in `tests/it/in_flight.rs` here or in
//! `tests/it/relocation_in_flight.rs` of userhelper:
//!
//! | before this | ends | shown by |
//! |---|---|---|
//! | a request begins | each that was submitted before it and overlaps with it, where one of the two changes something | `a_request_waits_for_the_one_before_it_that_it_overlaps_with_and_keeps_back_no_other` |
//! | a publication begins | the publication before it | `a_flush_covers_what_was_acknowledged_before_it_also_when_a_sync_is_under_way` |
//! | a relocation has its turn | the publication under way | `a_relocation_waits_for_the_publication_under_way_and_the_next_one_for_the_relocation` |
//! | a frontier falls | the publication under way | `a_frontier_does_not_fall_while_a_publication_is_under_way` |
//! | bits of new sectors are written | the publication under way | `a_grow_writes_no_bit_while_a_publication_is_under_way` |
//! | a bitmap is exchanged | the publication under way | `a_bitmap_is_not_exchanged_while_a_publication_is_under_way` |
//! | a publication begins while a relocation has its turn | that turn | `no_publication_begins_within_a_turn_and_the_next_one_after_it` |
//! | what a relocation has written counts for a sync | the write, before the sync begins | `what_a_relocation_writes_counts_when_it_ends_and_belongs_to_the_next_sync`, `a_sync_of_a_relocation_covers_what_had_ended_when_it_began` |
//! | a turn begins that keeps a window to itself | each request that touches the window | `a_relocation_waits_until_its_window_has_drained_and_for_nothing_else` |
//! | the data of a window is looked for and copied | each request that touches the window | `a_window_is_not_copied_before_the_requests_that_touch_it_have_ended` |
//! | a source is freed | each request that touched its window, when that was copied: none goes there since | `a_source_is_not_freed_before_the_requests_that_touched_its_window_have_ended` |
//! | a resize that is given up is told so | its operation under way | `a_resize_that_is_given_up_is_told_so_once_and_after_its_operation_has_ended` |
//! | the end of the device comes nearer | each request past the new end | `a_shrink_waits_for_what_is_under_way_past_the_new_end` |
//! | a turn begins that keeps everything out | each request that has begun, its publication too | `who_keeps_everything_out_waits_for_the_publications_of_what_had_begun` |
//! | a file is copied, to be replaced | each request that has begun, its publication too | `a_rebuild_copies_nothing_before_what_had_begun_has_ended_and_is_durable` |
//! | a device is closed | each operation that was given | `a_device_is_not_closed_under_operations_that_have_not_ended` |

mod admission;
mod alone;
mod begun;
mod choosing;
mod effect;
mod hold;
mod occupied;
mod order;
mod placement;
mod plan;
mod publication;
mod publishing;
mod relocating;
mod statistics;
mod waiters;

use std::collections::VecDeque;

use crate::blk::{Completion, HostFailure, Limits, Request};
use crate::cow::SectorMap;
use crate::host::{Action, Finished, Operation};
use crate::units::{Sector, SectorCount};

pub use hold::Hold;
pub use placement::Placement;
pub use statistics::Statistics;

pub(crate) use admission::Admission;
pub(crate) use alone::{Alone, SoleTransfer};
pub(crate) use publication::Durability;

use begun::Slot;
use order::InOrder;
use publication::Publication;
use relocating::Relocating;
use waiters::{PUBLICATION, RELOCATION};

/// A publication begins by itself when more words of the bitmap than this wait for one, unless a
/// device is told otherwise. That bounds what a crash can lose, and the memory that remembers it.
pub const PENDING_WORDS: u64 = 1 << 16;

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

    /// The next completion, if a request is complete.
    #[inline]
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    /// Takes note of how an operation has ended.
    #[inline]
    pub fn finish(&mut self, finished: Finished) {
        self.under_way = self.under_way.saturating_sub(1);
        let Finished { operation, result } = finished;
        match operation.waiter {
            PUBLICATION => self.go_on_publishing(&operation.action, result.err()),
            RELOCATION => self.relocated(operation.file, operation.action, result),
            _ => self.part_ended(operation, result),
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
}
