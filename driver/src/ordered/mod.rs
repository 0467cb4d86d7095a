//! The `ordered` driver: what ubd promises, kept.
//!
//! 1. A read returns the last acknowledged write, or a write still in flight.
//! 2. After a crash, a sector holds its last flushed content or that of a later write.
//! 3. Data is durable before the bit that points to it (`publish.rs`).
//! 4. A failed write sets no bit. After a failed sync nothing is acknowledged as durable
//!    any more until the device is opened again.
//! 5. The backing file is never written.
//!
//! A request goes down through this folder: queued here, checked and planned against the
//! map in `plan` (the kernel half), carried out in `transfer` (the host half), and, if it
//! asks for that, made durable in `publish`. [`Ordered::step`] is the whole machine;
//! [`LiveDevice`] is a thread that loops around it.

mod before;
mod headroom;
mod io_thread;
mod partial_sector;
mod placement;
mod plan;
mod publish;
mod relocation;
mod statistics;
mod transfer;

use std::collections::VecDeque;

use crate::blk::{Completion, HostFailure, Limits, Operation, Request, Status};
use crate::cow::{Extension, Geometry, Header, SectorMap};
use crate::host::HostFile;
use crate::units::{Sector, SectorCount};

pub use before::Before;
pub use headroom::{Headroom, write_extension};
pub use io_thread::{LiveDevice, Outcome, ThreadDied};
pub use partial_sector::PartialSector;
pub use placement::Placement;
pub use relocation::{Hold, NotCommitted};
pub use statistics::Statistics;

use plan::Admission;
use publish::{Durability, Publication, PublicationStep};
use transfer::Files;

/// A publication begins by itself when more words of the bitmap than this wait for one, unless a
/// device is told otherwise. That bounds what a crash can lose, and the memory that remembers it.
pub const PENDING_WORDS: u64 = 1 << 16;

/// What a COW file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CowImage {
    /// The header.
    pub header: Header,
    /// The extension block, if there is a valid one.
    pub extension: Option<Extension>,
    /// The layout in force: the old one while a reflow is under way.
    pub geometry: Geometry,
}

/// Everything that a device is made of; [`crate::open`] puts it together.
#[derive(Debug)]
pub struct Parts<F> {
    /// The COW file, or a raw disk.
    pub cow: F,
    /// The backing file.
    pub backing: Option<F>,
    /// `None` for a raw disk.
    pub image: Option<CowImage>,
    /// Which sectors are in the COW file.
    pub map: SectorMap,
    /// And where.
    pub placement: Placement,
    /// The sectors that the device offers.
    pub capacity: SectorCount,
    /// Writes are refused.
    pub read_only: bool,
    /// Every write is durable when it is acknowledged.
    pub synchronous: bool,
}

/// A device run by the `ordered` driver.
#[derive(Debug)]
pub struct Ordered<F> {
    files: Files<F>,
    image: Option<CowImage>,
    map: SectorMap,
    placement: Placement,
    admission: Admission,
    synchronous: bool,
    durability: Durability,
    /// The one at the front is carried out where it is, and leaves when it is done.
    queue: VecDeque<Request>,
    /// How far it has become durable, if it has to.
    publishing: Option<Publication>,
    /// More words of the bitmap than this do not wait.
    pending_words: u64,
    hold: Hold,
    statistics: Statistics,
}

/// What one step of the device came to.
#[derive(Debug)]
pub enum Step {
    /// Nothing is queued.
    Idle,
    /// The next request needs sectors that a relocation holds: let it go on.
    Blocked,
    /// One piece of a request was done, and there is more to it.
    Working,
    /// A request is finished.
    Completed(Completion),
}

impl<F: HostFile> Ordered<F> {
    /// A device of these parts.
    pub fn new(parts: Parts<F>) -> Ordered<F> {
        let mapped = match &parts.image {
            Some(image) => image.geometry.mapped(),
            None => parts.capacity,
        };
        Ordered {
            files: Files {
                cow: parts.cow,
                backing: parts.backing,
            },
            image: parts.image,
            map: parts.map,
            placement: parts.placement,
            admission: Admission {
                limits: Limits::ORDERED,
                end: Sector(parts.capacity.0),
                mapped_end: Sector(mapped.0),
                read_only: parts.read_only,
            },
            synchronous: parts.synchronous,
            durability: Durability::default(),
            queue: VecDeque::with_capacity(Limits::ORDERED.queue_depth),
            publishing: None,
            pending_words: PENDING_WORDS,
            hold: Hold::Nothing,
            statistics: Statistics::default(),
        }
    }

    /// The limits that a request has to keep.
    pub fn limits(&self) -> Limits {
        self.admission.limits
    }

    /// The sectors that the device offers now.
    pub fn capacity(&self) -> SectorCount {
        self.admission.end - Sector(0)
    }

    /// Which sectors are dirty.
    pub fn map(&self) -> &SectorMap {
        &self.map
    }

    /// What the COW file says about itself; `None` for a raw disk.
    pub fn image(&self) -> Option<&CowImage> {
        self.image.as_ref()
    }

    /// What the device has done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Lets a publication begin by itself when more words of the bitmap than this, each of 64
    /// sectors, wait for one: [`PENDING_WORDS`] at first. A write that makes it begin ends when
    /// all writes before it are durable.
    pub fn set_pending_words(&mut self, words: u64) {
        self.pending_words = words;
    }

    /// Queues a request.
    ///
    /// # Errors
    /// The request itself, when as many as [`Limits::queue_depth`] are queued: step first.
    #[inline]
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if !self.has_room() {
            return Err(request);
        }
        self.queue.push_back(request);
        Ok(())
    }

    /// Whether another request can be queued.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.admission.limits.queue_depth
    }

    /// Does one bounded piece of work: a whole request without a sync in it, or one host
    /// operation of a publication. Requests are carried out in the order of submission.
    pub fn step(&mut self) -> Step {
        if self.publishing.is_some() {
            return self.publish();
        }
        self.begin()
    }

    /// Carries out the next request up to where it is done or has to become durable.
    #[inline]
    fn begin(&mut self) -> Step {
        let Some(request) = self.queue.front_mut() else {
            return Step::Idle;
        };
        if self.hold.blocks(request) {
            return Step::Blocked;
        }
        let range = match self.admission.check(request) {
            Ok(range) => range,
            Err(status) => return self.complete(status, None),
        };
        if request.operation == Operation::Read {
            let segments = &mut request.segments;
            let read = self
                .files
                .read(segments, range.start, &self.map, &self.placement);
            return match read {
                Ok(()) => self.complete(Status::Ok, None),
                Err(failure) => self.fail(failure),
            };
        }
        let operation = request.operation;
        self.durability.unsynced |= operation != Operation::Flush;
        let done = self
            .files
            .change(request, range, &self.map, &self.placement);
        if let Err(failure) = done {
            return self.fail(failure);
        }
        let durable = match operation {
            Operation::Write { fua } => {
                self.map.mark_dirty(range);
                fua || self.synchronous
            }
            Operation::WriteZeroes => {
                self.map.mark_dirty(range);
                self.synchronous
            }
            Operation::Flush => true,
            Operation::Read | Operation::Discard => false,
        };
        if durable && self.durability.failed {
            return self.complete(Status::IoError, None);
        }
        let too_many =
            self.map.has_more_changes_than(self.pending_words) && !self.durability.failed;
        if durable || too_many {
            self.publishing = Some(Publication::new());
            return self.publish();
        }
        self.complete(Status::Ok, None)
    }

    /// Takes the publication for the request at the front a step further.
    fn publish(&mut self) -> Step {
        let Some(publication) = &mut self.publishing else {
            return Step::Idle;
        };
        let step = publication.step(
            &self.files.cow,
            &mut self.map,
            &self.placement,
            &mut self.durability,
            &mut self.statistics,
        );
        if let Ok(PublicationStep::Working) = step {
            return Step::Working;
        }
        self.publishing = None;
        match step {
            Ok(_) => self.complete(Status::Ok, None),
            // The write itself is done, and nobody was promised more.
            Err(_) if !self.front_asks_for_durability() => self.complete(Status::Ok, None),
            Err(failure) => self.fail(failure),
        }
    }

    fn front_asks_for_durability(&self) -> bool {
        match self.queue.front().map(|request| request.operation) {
            Some(Operation::Flush | Operation::Write { fua: true }) => true,
            Some(Operation::Write { fua: false } | Operation::WriteZeroes) => self.synchronous,
            Some(Operation::Read | Operation::Discard) | None => false,
        }
    }

    #[cold]
    fn fail(&mut self, failure: HostFailure) -> Step {
        let status = Status::from(&failure.error);
        self.complete(status, Some(Box::new(failure)))
    }

    /// The request at the front is done.
    #[inline]
    fn complete(&mut self, status: Status, failure: Option<Box<HostFailure>>) -> Step {
        let Some(request) = self.queue.pop_front() else {
            return Step::Idle;
        };
        self.statistics.requests += 1;
        Step::Completed(Completion {
            request,
            status,
            failure,
        })
    }

    /// Makes everything durable and gives the files back. Requests that are still queued
    /// are dropped, never acknowledged: step the device until it is idle first.
    ///
    /// # Errors
    /// The host operation that failed; what was flushed before is still durable. A device on
    /// which a sync has failed before reports that.
    pub fn close(mut self) -> Result<(F, Option<F>), CloseError> {
        if self.durability.failed {
            return Err(CloseError::SyncFailed);
        }
        let mut publication = match self.publishing.take() {
            Some(publication) => publication,
            None => Publication::new(),
        };
        loop {
            let step = publication.step(
                &self.files.cow,
                &mut self.map,
                &self.placement,
                &mut self.durability,
                &mut self.statistics,
            );
            match step {
                Ok(PublicationStep::Working) => {}
                // Writes may have been done after the interrupted publication began.
                Ok(PublicationStep::Durable) if self.has_unpublished() => {
                    publication = Publication::new();
                }
                Ok(PublicationStep::Durable) => break,
                Err(failure) => return Err(CloseError::Host(failure)),
            }
        }
        Ok((self.files.cow, self.files.backing))
    }

    fn has_unpublished(&self) -> bool {
        self.durability.unsynced || self.map.has_changes()
    }
}

/// Why a device could not be closed cleanly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// A host operation failed now.
    #[error(transparent)]
    Host(#[from] HostFailure),
    /// A sync failed earlier, and the writes since the last good one may be lost.
    #[error("a sync of the COW file failed earlier: writes after the last good flush may be lost")]
    SyncFailed,
}
