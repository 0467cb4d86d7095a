//! What every driver is to whoever has one: a machine that takes requests, gives host operations
//! as values, takes their results, and gives completions. [`Driver::step`] carries the operations
//! out where they are given; an [`Executor`] may carry them out instead.

use crate::blk::{Completion, Limits, Request, Zeroing};
use crate::cow::SectorState;
use crate::executor::{Died, Executor, Wait};
use crate::host::{FileRole, Finished, HostFile};
use crate::linux::LinuxUbd;
use crate::ordered::{AtRest, Ordered, Statistics};
use crate::units::{FileOffset, SectorCount, SectorRange};

pub use crate::read_place::ReadPlace;
pub use crate::step::Step;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// It is not taken, or not completed, and there is nothing more to do.
    #[error("the request does not complete")]
    Stalls,
    /// There is more to do after as many steps as it may take.
    #[error("the request takes steps without end")]
    DoesNotEnd,
    /// The driver is dead, of this.
    #[error("the driver died: {0}")]
    Died(String),
}

/// A driver with its files. A host operation is under way only between [`Driver::begin_on`] and
/// [`Driver::finish`].
pub trait Driver {
    /// The host's files.
    type File: HostFile;

    /// Takes a request.
    ///
    /// # Errors
    /// The request itself, where there is no room: step, and submit it again.
    fn submit(&mut self, request: Request) -> Result<(), Request>;

    /// Does one bounded piece of work, and waits for the host operations in it.
    fn step(&mut self) -> Step;

    /// Begins the host operations that can begin, as far as `executor` has room. While something
    /// is complete, no other request begins.
    fn begin_on(&mut self, executor: &mut dyn Executor<Self::File>);

    /// Takes note of how one operation has ended that [`Driver::begin_on`] began.
    fn finish(&mut self, finished: Finished);

    /// The next completion, if a request is complete.
    fn next_completion(&mut self) -> Option<Completion>;

    /// Whether a request is not completed.
    fn is_busy(&self) -> bool;

    /// What the driver has died of.
    fn death(&self) -> Option<String> {
        None
    }

    /// The sectors that it offers now.
    fn capacity(&self) -> SectorCount;

    /// The sectors that can be written, from the first on: in V1 and V2 the last few may have no
    /// bit.
    fn writable(&self) -> SectorCount {
        self.capacity()
    }

    /// The limits that a request has to keep.
    fn limits(&self) -> Limits;

    /// What it does with discards and writes of zeros.
    fn zeroing(&self) -> Zeroing {
        Zeroing::AsHost
    }

    /// What it has done so far.
    fn statistics(&self) -> Statistics;

    /// Whether a publication is half done.
    fn is_publishing(&self) -> bool {
        false
    }

    /// Whether a sync has failed, so that nothing is acknowledged as durable any more. The
    /// kernels' drivers do not remember that.
    fn has_failed_sync(&self) -> bool {
        false
    }

    /// How many sectors are dirty, of a raw disk all. It may have to be counted.
    fn dirty_count(&self) -> SectorCount;

    /// The `ordered` driver, which a resize works on; `None` of a driver that does not resize.
    fn ordered(&mut self) -> Option<&mut Ordered<Self::File>> {
        None
    }

    /// The open COW file or raw disk. `None` of a driver that does not tell.
    fn own_file(&self) -> Option<&Self::File> {
        None
    }

    /// Where the sectors from the start of `range` on, which is not empty, would be read: as
    /// many of them as lie in one piece. A driver with defects says what it would do with them.
    /// `None` of a driver that does not tell.
    fn read_place(&self, range: SectorRange) -> Option<ReadPlace<'_, Self::File>> {
        let _ = range;
        None
    }

    /// Makes everything durable and closes the files. Requests in flight are dropped, never
    /// acknowledged.
    ///
    /// # Errors
    /// The driver's words: not everything is durable.
    fn close(self) -> Result<(), String>
    where
        Self: Sized;

    /// Takes all that has ended on `executor`, and waits for the first of it as `wait` says.
    /// Whether there was anything.
    ///
    /// # Errors
    /// The executor's: nothing ends any more.
    fn take_ended(
        &mut self,
        executor: &mut dyn Executor<Self::File>,
        wait: Wait,
    ) -> Result<bool, Died> {
        let mut ended = executor.finished(wait)?;
        let any = ended.is_some();
        while let Some(finished) = ended {
            self.finish(finished);
            ended = executor.finished(Wait::No)?;
        }
        Ok(any)
    }

    /// Has one request carried out by a driver that has nothing else to do.
    ///
    /// # Errors
    /// Why it does not complete.
    #[inline]
    fn serve(&mut self, request: Request) -> Result<Completion, NotServed> {
        self.serve_within(request, u64::MAX)
    }

    /// Likewise, in at most `steps` steps, so that a driver that is wrong keeps nobody for ever.
    ///
    /// # Errors
    /// Why it does not complete.
    #[inline]
    fn serve_within(&mut self, request: Request, steps: u64) -> Result<Completion, NotServed> {
        let mut left = steps;
        let mut submitted = self.submit(request);
        while let Err(back) = submitted {
            // A pipe smaller than the request takes it in parts.
            count(&mut left)?;
            match self.step() {
                Step::Working => submitted = self.submit(back),
                Step::Died(why) => return Err(NotServed::Died(why)),
                Step::Idle | Step::Blocked | Step::Completed(_) => return Err(NotServed::Stalls),
            }
        }
        completion_within(self, &mut left)
    }

    /// Steps until a request that was submitted is complete.
    ///
    /// # Errors
    /// Why none completes.
    #[inline]
    fn step_to_completion(&mut self) -> Result<Completion, NotServed> {
        let mut left = u64::MAX;
        completion_within(self, &mut left)
    }
}

/// Counts a step.
#[inline]
fn count(left: &mut u64) -> Result<(), NotServed> {
    *left = left.checked_sub(1).ok_or(NotServed::DoesNotEnd)?;
    Ok(())
}

#[inline]
fn completion_within<D: Driver + ?Sized>(
    driver: &mut D,
    left: &mut u64,
) -> Result<Completion, NotServed> {
    loop {
        count(left)?;
        match driver.step() {
            Step::Completed(completion) => return Ok(completion),
            Step::Working => {}
            Step::Died(why) => return Err(NotServed::Died(why)),
            Step::Idle | Step::Blocked => return Err(NotServed::Stalls),
        }
    }
}

/// A driver that can go to another thread, while nothing of it belongs to one.
pub trait Portable: Driver + Sized {
    /// The driver on its way.
    type AtRest: Send + std::fmt::Debug + 'static;

    /// The driver, of which nothing is under way. A resize under way is given up.
    fn into_rest(self) -> Self::AtRest;

    /// The driver on the thread that it runs on.
    fn from_rest(at_rest: Self::AtRest) -> Self;
}

impl<F: HostFile + Send + Sync + std::fmt::Debug> Portable for Ordered<F> {
    type AtRest = AtRest<F>;

    fn into_rest(self) -> AtRest<F> {
        Ordered::into_rest(self)
    }

    fn from_rest(at_rest: AtRest<F>) -> Ordered<F> {
        at_rest.into()
    }
}

impl<F: HostFile + Send + Sync + std::fmt::Debug> Portable for LinuxUbd<F> {
    type AtRest = LinuxUbd<F>;

    fn into_rest(self) -> LinuxUbd<F> {
        self
    }

    fn from_rest(at_rest: LinuxUbd<F>) -> LinuxUbd<F> {
        at_rest
    }
}

impl<F: HostFile> Driver for Ordered<F> {
    type File = F;

    #[inline]
    fn submit(&mut self, request: Request) -> Result<(), Request> {
        Ordered::submit(self, request)
    }

    #[inline]
    fn step(&mut self) -> Step {
        self.step_of_any()
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<F>) {
        Ordered::begin_on(self, executor);
    }

    fn finish(&mut self, finished: Finished) {
        Ordered::finish(self, finished);
    }

    #[inline]
    fn next_completion(&mut self) -> Option<Completion> {
        Ordered::next_completion(self)
    }

    fn is_busy(&self) -> bool {
        Ordered::is_busy(self)
    }

    fn capacity(&self) -> SectorCount {
        Ordered::capacity(self)
    }

    fn writable(&self) -> SectorCount {
        let mapped = self.geometry().map(|geometry| geometry.mapped());
        mapped.unwrap_or(Ordered::capacity(self))
    }

    fn limits(&self) -> Limits {
        Ordered::limits(self)
    }

    fn zeroing(&self) -> Zeroing {
        Zeroing::Always
    }

    fn statistics(&self) -> Statistics {
        Ordered::statistics(self)
    }

    fn is_publishing(&self) -> bool {
        Ordered::is_publishing(self)
    }

    fn has_failed_sync(&self) -> bool {
        Ordered::has_failed_sync(self)
    }

    fn dirty_count(&self) -> SectorCount {
        self.map().dirty_count()
    }

    fn ordered(&mut self) -> Option<&mut Ordered<F>> {
        Some(self)
    }

    fn own_file(&self) -> Option<&F> {
        Some(self.cow())
    }

    fn read_place(&self, range: SectorRange) -> Option<ReadPlace<'_, F>> {
        let run = self.map().run_within(range.start, range.end());
        Some(match run.state {
            SectorState::Clean => ReadPlace {
                role: FileRole::Backing,
                file: self.backing(),
                at: FileOffset(run.range.start.bytes().0),
                sectors: run.range,
            },
            SectorState::Dirty => {
                let (at, sectors) = self.placement().place(run.range);
                ReadPlace {
                    role: FileRole::Cow,
                    file: Some(self.cow()),
                    at,
                    sectors,
                }
            }
        })
    }

    fn close(self) -> Result<(), String> {
        let closed = Ordered::close(self);
        closed.map(drop).map_err(|error| error.to_string())
    }
}

impl<F: HostFile> Driver for LinuxUbd<F> {
    type File = F;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        LinuxUbd::submit(self, request)
    }

    fn step(&mut self) -> Step {
        LinuxUbd::step(self).map_death(|death| death.to_string())
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<F>) {
        LinuxUbd::begin_on(self, executor);
    }

    fn finish(&mut self, finished: Finished) {
        LinuxUbd::finish(self, finished);
    }

    fn next_completion(&mut self) -> Option<Completion> {
        LinuxUbd::next_completion(self)
    }

    fn is_busy(&self) -> bool {
        LinuxUbd::is_busy(self)
    }

    fn death(&self) -> Option<String> {
        LinuxUbd::death(self).map(|death| death.to_string())
    }

    fn capacity(&self) -> SectorCount {
        LinuxUbd::capacity(self)
    }

    fn writable(&self) -> SectorCount {
        LinuxUbd::writable(self)
    }

    fn limits(&self) -> Limits {
        LinuxUbd::limits(self)
    }

    fn zeroing(&self) -> Zeroing {
        LinuxUbd::zeroing(self)
    }

    fn statistics(&self) -> Statistics {
        LinuxUbd::statistics(self)
    }

    fn dirty_count(&self) -> SectorCount {
        LinuxUbd::dirty_count(self)
    }

    fn own_file(&self) -> Option<&F> {
        Some(LinuxUbd::cow(self))
    }

    fn read_place(&self, range: SectorRange) -> Option<ReadPlace<'_, F>> {
        Some(LinuxUbd::read_place(self, range))
    }

    fn close(self) -> Result<(), String> {
        let closed = LinuxUbd::close(self);
        closed.map(drop).map_err(|error| error.to_string())
    }
}
