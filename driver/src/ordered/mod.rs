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
pub use placement::Placement;
pub use relocation::{Hold, NotCommitted};
pub use statistics::Statistics;

use plan::Admission;
use publish::{Durability, Publication, PublicationStep};
use transfer::Files;

/// A publication begins by itself when so many words of the bitmap wait for one: it
/// bounds what a crash can lose, and the memory that remembers it.
const PENDING_WORDS: u64 = 1 << 16;

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
    queue: VecDeque<Request>,
    publishing: Option<(Request, Publication)>,
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

    /// Queues a request.
    ///
    /// # Errors
    /// The request itself, when as many as [`Limits::queue_depth`] are queued: step first.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if !self.has_room() {
            return Err(request);
        }
        self.queue.push_back(request);
        Ok(())
    }

    /// Whether another request can be queued.
    pub fn has_room(&self) -> bool {
        let in_flight = self.queue.len() + usize::from(self.publishing.is_some());
        in_flight < self.admission.limits.queue_depth
    }

    /// Does one bounded piece of work: a whole request without a sync in it, or one host
    /// operation of a publication. Requests are carried out in the order of submission.
    pub fn step(&mut self) -> Step {
        // Looked at before it is taken: it is large, and nearly always absent.
        if self.publishing.is_some()
            && let Some((request, publication)) = self.publishing.take()
        {
            return self.publish(request, publication);
        }
        match self.queue.front() {
            None => Step::Idle,
            Some(request) if self.hold.blocks(request) => Step::Blocked,
            Some(_) => match self.queue.pop_front() {
                Some(request) => self.begin(request),
                None => Step::Idle,
            },
        }
    }

    /// Carries out a request up to where it is done or has to become durable.
    fn begin(&mut self, mut request: Request) -> Step {
        if let Err(status) = self.admission.check(&request) {
            return self.complete(request, status, None);
        }
        if request.operation != Operation::Read && request.operation != Operation::Flush {
            self.durability.unsynced = true;
        }
        let done = self
            .files
            .carry_out(&mut request, &self.map, &self.placement);
        if let Err(failure) = done {
            return self.fail(request, failure);
        }
        let durable = match request.operation {
            Operation::Read | Operation::Discard => false,
            Operation::Flush => true,
            Operation::Write { fua } => {
                self.map.mark_dirty(request.range());
                fua || self.synchronous
            }
            Operation::WriteZeroes => {
                self.map.mark_dirty(request.range());
                self.synchronous
            }
        };
        if durable && self.durability.failed {
            return self.complete(request, Status::IoError, None);
        }
        let too_many = self.map.has_more_changes_than(PENDING_WORDS) && !self.durability.failed;
        if durable || (too_many && request.operation != Operation::Read) {
            self.publish(request, Publication::new())
        } else {
            self.complete(request, Status::Ok, None)
        }
    }

    fn publish(&mut self, request: Request, mut publication: Publication) -> Step {
        let step = publication.step(
            &self.files.cow,
            &mut self.map,
            &self.placement,
            &mut self.durability,
            &mut self.statistics,
        );
        match step {
            Ok(PublicationStep::Working) => {
                self.publishing = Some((request, publication));
                Step::Working
            }
            Ok(PublicationStep::Durable) => self.complete(request, Status::Ok, None),
            // The write itself is done, and nobody was promised more.
            Err(_) if !self.asks_for_durability(&request) => {
                self.complete(request, Status::Ok, None)
            }
            Err(failure) => self.fail(request, failure),
        }
    }

    fn asks_for_durability(&self, request: &Request) -> bool {
        match request.operation {
            Operation::Flush | Operation::Write { fua: true } => true,
            Operation::Write { fua: false } | Operation::WriteZeroes => self.synchronous,
            Operation::Read | Operation::Discard => false,
        }
    }

    fn fail(&mut self, request: Request, failure: HostFailure) -> Step {
        let status = Status::from(&failure.error);
        self.complete(request, status, Some(Box::new(failure)))
    }

    fn complete(
        &mut self,
        request: Request,
        status: Status,
        failure: Option<Box<HostFailure>>,
    ) -> Step {
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
    /// The host operation that failed; what was flushed before is still durable. A device
    /// with a failed sync behind it reports that.
    pub fn close(mut self) -> Result<(F, Option<F>), CloseError> {
        if self.durability.failed {
            return Err(CloseError::SyncFailed);
        }
        let mut publication = match self.publishing.take() {
            Some((_, publication)) => publication,
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
