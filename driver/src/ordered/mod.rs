//! The `ordered` driver: what ubd promises, kept.
//!
//! 1. A read returns, sector by sector, the last acknowledged write or one still in flight, and
//!    never goes back in time.
//! 2. After a crash, a sector holds its last flushed content or that of a later write.
//! 3. Data is durable before the bit that points to it (`engine/publication.rs`).
//! 4. A failed write sets no bit. After a failed sync nothing is acknowledged as durable
//!    any more until the device is opened again.
//! 5. The backing file is never written.
//!
//! What is done for a request, and in which order, [`crate::engine`] decides. [`Ordered`] is an
//! engine with its two files, and carries each operation out where it is given.

mod before;
mod commit;
mod desk;
mod headroom;
mod partial_sector;
mod procedure;
mod relocation;
mod resizing;
mod zero_block;

use std::convert::Infallible;
use std::sync::Arc;

use crate::blk::{Completion, HostFailure, Limits, Request};
use crate::cow::{Extension, Geometry, Header, SectorMap};
use crate::engine::{Alone, Beginning, Engine, SoleTransfer};
use crate::executor::{Executor, Files};
use crate::host::{Finished, HostError, HostFile, Operation};
use crate::resize::Resized;
use crate::step::Step as AnyStep;
use crate::units::SectorCount;

pub use crate::engine::{Hold, PENDING_WORDS, Placement, Statistics};
pub use before::Before;
pub use commit::NotCommitted;
pub use desk::Desk;
pub use headroom::Headroom;
pub use partial_sector::PartialSector;
pub use procedure::{Procedure, Resize};
pub use relocation::Relocation;

use resizing::Running;

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
pub struct DeviceParts<F> {
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
    engine: Engine,
    files: Files<F>,
    image: Option<CowImage>,
    /// The resize under way.
    resize: Option<Running<F, Resized>>,
}

/// A device without a resize under way, on its way to the thread that it runs on.
#[derive(Debug)]
pub struct AtRest<F> {
    engine: Engine,
    files: Files<F>,
    image: Option<CowImage>,
}

impl<F> From<AtRest<F>> for Ordered<F> {
    fn from(at_rest: AtRest<F>) -> Ordered<F> {
        Ordered {
            engine: at_rest.engine,
            files: at_rest.files,
            image: at_rest.image,
            resize: None,
        }
    }
}

/// What one step of the device came to. It never dies.
pub type Step = AnyStep<Infallible>;

impl<F: HostFile> Ordered<F> {
    /// A device of these parts.
    pub fn new(parts: DeviceParts<F>) -> Ordered<F> {
        let mapped = match &parts.image {
            Some(image) => image.geometry.mapped(),
            None => parts.capacity,
        };
        Ordered::from(AtRest {
            engine: Engine::new(Beginning {
                map: parts.map,
                placement: parts.placement,
                capacity: parts.capacity,
                mapped,
                read_only: parts.read_only,
                synchronous: parts.synchronous,
            }),
            files: Files {
                cow: Arc::new(parts.cow),
                backing: parts.backing.map(Arc::new),
                new: None,
            },
            image: parts.image,
        })
    }

    /// The device at rest: a resize under way is given up.
    pub(crate) fn into_rest(mut self) -> AtRest<F> {
        self.give_up_resize();
        AtRest {
            engine: self.engine,
            files: self.files,
            image: self.image,
        }
    }

    /// The limits that a request has to keep.
    pub fn limits(&self) -> Limits {
        self.engine.admission.limits
    }

    /// The sectors that the device offers now.
    pub fn capacity(&self) -> SectorCount {
        self.engine.capacity()
    }

    /// Which sectors are dirty.
    pub fn map(&self) -> &SectorMap {
        &self.engine.map
    }

    /// What the COW file says about itself; `None` for a raw disk.
    pub fn image(&self) -> Option<&CowImage> {
        self.image.as_ref()
    }

    /// The layout in force; `None` for a raw disk.
    pub fn geometry(&self) -> Option<Geometry> {
        self.image.as_ref().map(|image| image.geometry)
    }

    /// Where things are.
    pub fn placement(&self) -> &Placement {
        &self.engine.placement
    }

    /// The COW file, to look at.
    pub fn cow(&self) -> &F {
        &self.files.cow
    }

    /// The backing file, if it is open.
    pub fn backing(&self) -> Option<&F> {
        self.files.backing.as_deref()
    }

    /// Whether the device takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.engine.admission.read_only
    }

    /// Whether a publication is half done.
    pub fn is_publishing(&self) -> bool {
        self.engine.is_publishing()
    }

    /// Whether a sync has failed, so that nothing is acknowledged as durable any more.
    pub fn has_failed_sync(&self) -> bool {
        self.engine.durability.failed
    }

    /// What the device has done so far.
    pub fn statistics(&self) -> Statistics {
        self.engine.statistics
    }

    /// Lets a publication begin by itself when more words of the bitmap than this, each of 64
    /// sectors, wait for one: [`PENDING_WORDS`] at first. A write that makes it begin ends when
    /// all writes before it are durable.
    pub fn set_pending_words(&mut self, words: u64) {
        self.engine.set_pending_words(words);
    }

    /// Queues a request.
    ///
    /// # Errors
    /// The request itself, when as many as [`Limits::queue_depth`] are queued: step first.
    #[inline]
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.engine.submit(request)
    }

    /// Whether another request can be queued.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.engine.has_room()
    }

    /// Does one bounded piece of work: a whole request without a sync in it, or one host
    /// operation of a publication. Requests begin in the order of submission, but for those that
    /// have to wait.
    #[inline]
    pub fn step(&mut self) -> Step {
        self.step_of_any()
    }

    /// One step as [`Ordered::step`] does it, as that of a driver that may die of `D`.
    #[inline]
    pub(crate) fn step_of_any<D>(&mut self) -> AnyStep<D> {
        if let Some(completion) = self.engine.next_completion() {
            return AnyStep::Completed(completion);
        }
        if let Some(step) = self.serve_alone() {
            return step;
        }
        loop {
            let publishes = self.engine.publication_may_be_next();
            let Some(operation) = self.engine.next_operation() else {
                return match self.engine.next_completion() {
                    Some(completion) => AnyStep::Completed(completion),
                    None if self.engine.is_busy() => AnyStep::Blocked,
                    None => AnyStep::Idle,
                };
            };
            self.carry_out(operation);
            if let Some(completion) = self.engine.next_completion() {
                return AnyStep::Completed(completion);
            }
            // A sync takes its time: it is a step of its own.
            if publishes || self.engine.publication_may_be_next() {
                return AnyStep::Working;
            }
        }
    }

    /// Serves the first request, if it is alone.
    #[inline]
    fn serve_alone<D>(&mut self) -> Option<AnyStep<D>> {
        let files = &self.files;
        let served = self.engine.serve_alone(|piece: SoleTransfer<'_>| {
            let file = files.of(piece.role).ok_or(HostError::NotFound)?;
            match piece.writes {
                true => file.write_all_at(piece.data, piece.at),
                false => file.read_exact_at(piece.data, piece.at),
            }
        });
        Some(match served? {
            Alone::Complete(completion) => AnyStep::Completed(completion),
            // A sync takes its time: it is a step of its own.
            Alone::Waits => AnyStep::Working,
        })
    }

    #[inline]
    fn carry_out(&mut self, operation: Operation) {
        let finished = self.files.carry_out(operation);
        self.engine.finish(finished);
    }

    /// Begins what can begin, as far as `executor` has room. What has ended meanwhile is taken by
    /// [`Driver::take_ended`](crate::driver::Driver::take_ended), and what is complete comes from
    /// [`Ordered::next_completion`]; while something is complete, no other request begins.
    pub fn begin_on(&mut self, executor: &mut (impl Executor<F> + ?Sized)) {
        let mut room = executor.room();
        while room > 0
            && let Some(operation) = self.engine.next_operation()
        {
            executor.begin(operation, &self.files);
            room -= 1;
        }
    }

    /// Takes note of how one operation has ended that [`Ordered::begin_on`] began.
    pub fn finish(&mut self, finished: Finished) {
        self.engine.finish(finished);
    }

    /// The next completion, if a request is complete.
    #[inline]
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.engine.next_completion()
    }

    /// Whether a request is not completed.
    pub fn is_busy(&self) -> bool {
        self.engine.is_busy()
    }

    /// Makes everything durable and gives the files back. Requests that are still queued
    /// are dropped, never acknowledged: step the device until it is idle first. A resize under way
    /// is given up.
    ///
    /// # Errors
    /// [`CloseError::Busy`] while operations are under way. The host operation that failed; what
    /// was flushed before is still durable. A device on which a sync has failed before reports
    /// that.
    pub fn close(mut self) -> Result<Files<F>, CloseError> {
        if self.engine.has_operations_under_way() {
            return Err(CloseError::Busy);
        }
        self.give_up_resize();
        if self.engine.durability.failed {
            return Err(CloseError::SyncFailed);
        }
        self.engine.begin_closing();
        while let Some(operation) = self.engine.next_operation() {
            self.carry_out(operation);
        }
        match self.engine.closing_failure() {
            Some(failure) => Err(CloseError::Host(failure)),
            None => Ok(self.files),
        }
    }
}

/// Why a device could not be closed cleanly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// A host operation failed now.
    #[error(transparent)]
    Host(#[from] HostFailure),
    /// Operations that an executor was given have not ended: [`Ordered::finish`] has to be told of
    /// them first.
    #[error("host operations of the device are under way")]
    Busy,
    /// A sync failed earlier, and the writes since the last good one may be lost.
    #[error("a sync failed earlier: writes after the last good flush may be lost")]
    SyncFailed,
}
