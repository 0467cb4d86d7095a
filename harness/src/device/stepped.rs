//! A device that is stepped in place, by whoever submits to it. It carries its operations out one
//! after the other where they are given, without threads, and so without hops and without chance;
//! or gives them to an executor.

use std::collections::VecDeque;
use std::time::Duration;

use driver::blk::{Completion, Limits, Request};
use driver::driver::{Driver, Portable, Step};
use driver::executor::{Died, Executor, Wait};
use driver::ordered::Statistics;
use driver::resize::{ResizeError, ResizeOutcome, ResizeStep};
use driver::units::SectorCount;

use crate::clock::Clock;

use super::{BlockDevice, DeviceError, Running, SentResize, Stopped};

/// The executor is given what was begun when this many requests were submitted: a call for each
/// would cost more than it gains.
const BEGUN_TOGETHER: usize = 4;

/// Why a driver that has no resize refuses one.
const DOES_NOT_RESIZE: &str = "this driver does not resize";

/// A device that is stepped in place, alternately with its resize.
pub struct Stepped<D: Driver> {
    driver: D,
    /// Carries its operations out; `None`: each where it is given.
    executor: Option<Box<dyn Executor<D::File> + Send>>,
    completions: VecDeque<Completion>,
    /// Why nothing ends any more.
    died: Option<Died>,
    /// Operations that were begun since the executor was last looked at.
    begun: usize,
    /// The resize waits for something that is under way.
    resize_waits: bool,
    outcome: Option<ResizeOutcome>,
}

impl<D: Driver> Stepped<D> {
    /// Takes the driver over; it carries its operations out itself.
    pub fn new(driver: D) -> Stepped<D> {
        Stepped {
            driver,
            executor: None,
            completions: VecDeque::new(),
            died: None,
            begun: 0,
            resize_waits: false,
            outcome: None,
        }
    }

    /// Takes the driver over; `executor` carries its operations out.
    pub fn on(driver: D, executor: Box<dyn Executor<D::File> + Send>) -> Stepped<D> {
        Stepped {
            executor: Some(executor),
            ..Stepped::new(driver)
        }
    }

    /// Takes a request, if there is room; nothing begins.
    ///
    /// # Errors
    /// The request, where there is no room.
    pub(super) fn offer(&mut self, request: Request) -> Result<(), Request> {
        self.driver.submit(request)
    }

    /// The completions that are there, in their order.
    pub(super) fn completions(&mut self) -> impl ExactSizeIterator<Item = Completion> + '_ {
        self.completions.drain(..)
    }

    /// Whether there is a request that is not completed.
    pub(super) fn is_busy(&self) -> bool {
        self.driver.is_busy()
    }

    /// Whether an operation is under way elsewhere, which ends by itself.
    pub(super) fn has_under_way(&self) -> bool {
        let executor = self.executor.as_ref();
        executor.is_some_and(|executor| executor.under_way() > 0)
    }

    /// Steps until nothing more can be done. Completions that come meanwhile stay to be taken.
    pub(super) fn settle(&mut self) -> Result<(), DeviceError> {
        while self.step(Wait::ForOne)? {}
        Ok(())
    }

    /// What is left of a device that has settled.
    pub(super) fn into_stopped(self) -> Stopped<D> {
        Stopped {
            driver: self.driver,
            left: self.completions.into(),
        }
    }

    /// Gives up the resize under way, if there is one; it has to be stepped on.
    pub(super) fn abandon_resize(&mut self) {
        if let Some(ordered) = self.driver.ordered() {
            ordered.abandon_resize();
        }
    }

    /// The driver as it is.
    pub(super) fn driver(&self) -> &D {
        &self.driver
    }

    /// One step of the driver and one of the resize. Whether anything could be done. What is
    /// carried out elsewhere is waited for, if there is nothing else to do.
    pub(super) fn step(&mut self, wait: Wait) -> Result<bool, DeviceError> {
        let served = self.serve(wait)?;
        Ok(self.step_resize() || served)
    }

    /// One step of the resize. Whether there is one.
    fn step_resize(&mut self) -> bool {
        let Some(ordered) = self.driver.ordered() else {
            return false;
        };
        let step = match &mut self.executor {
            None => ordered.step_resize(),
            Some(executor) => ordered.step_resize_on(&mut **executor),
        };
        self.resize_waits = step == ResizeStep::Waiting;
        match step {
            ResizeStep::Idle => return false,
            ResizeStep::Working | ResizeStep::Waiting => {}
            ResizeStep::Ended(outcome) => self.outcome = Some(outcome),
        }
        true
    }

    /// Whether a resize is under way.
    fn is_resizing(&mut self) -> bool {
        let ordered = self.driver.ordered();
        ordered.is_some_and(|ordered| ordered.is_resizing())
    }

    /// One step of the driver. Whether anything could be done.
    pub(super) fn serve(&mut self, wait: Wait) -> Result<bool, DeviceError> {
        if self.executor.is_some() && self.is_dead() {
            return self.serve_dead();
        }
        let Some(executor) = &mut self.executor else {
            return Ok(match self.driver.step() {
                Step::Completed(completion) => {
                    self.completions.push_back(completion);
                    true
                }
                Step::Working => true,
                Step::Idle | Step::Blocked => false,
                Step::Died(why) => return Err(DeviceError::DriverDied(why)),
            });
        };
        self.driver.begin_on(&mut **executor);
        let before = self.completions.len();
        self.take_completed();
        // A resize goes on while the host is busy, and a completion is wanted at once.
        let resizes = self.is_resizing() && !self.resize_waits;
        let wait = match resizes || self.completions.len() > before {
            true => Wait::No,
            false => wait,
        };
        let ended = self.take_ended(wait)?;
        Ok(ended || self.completions.len() > before)
    }

    /// Serves until this many completions are there to be taken, or a step brings none. Whether
    /// there is a reason to go on: something was done, or there are completions, which make room
    /// for requests that wait.
    pub(super) fn serve_several(&mut self, completions: usize) -> Result<bool, DeviceError> {
        while self.completions.len() < completions {
            let before = self.completions.len();
            let served = self.serve(Wait::No)?;
            if self.completions.len() == before {
                return Ok(served || before > 0);
            }
        }
        Ok(true)
    }

    /// Takes what the executor has ended. Whether there was anything.
    fn take_ended(&mut self, wait: Wait) -> Result<bool, DeviceError> {
        let Some(executor) = &mut self.executor else {
            return Ok(false);
        };
        self.begun = 0;
        match self.driver.take_ended(&mut **executor, wait) {
            Ok(any) => {
                self.take_completed();
                Ok(any)
            }
            Err(died) => {
                self.died = Some(died);
                self.serve_dead()
            }
        }
    }

    fn take_completed(&mut self) {
        self.completions
            .extend(std::iter::from_fn(|| self.driver.next_completion()));
    }

    fn is_dead(&self) -> bool {
        self.died.is_some() || self.driver.death().is_some()
    }

    /// What is under way at a death ends all the same, and completes what it can; nothing begins
    /// any more. Whether that brought something.
    ///
    /// # Errors
    /// The death, once that brings nothing more.
    fn serve_dead(&mut self) -> Result<bool, DeviceError> {
        let before = self.completions.len();
        if let Some(executor) = &mut self.executor {
            // An executor that is dead itself may give none of them back.
            for _ in 0..executor.under_way() {
                match executor.finished(Wait::ForOne) {
                    Ok(Some(finished)) => self.driver.finish(finished),
                    Ok(None) => break,
                    Err(died) => drop(self.died.get_or_insert(died)),
                }
            }
        }
        self.take_completed();
        if self.completions.len() > before {
            return Ok(true);
        }
        match (&self.died, self.driver.death()) {
            (Some(died), _) => Err(died.clone().into()),
            (None, Some(why)) => Err(DeviceError::DriverDied(why)),
            (None, None) => Ok(false),
        }
    }

    /// Begins what can begin. Completions that are still to be taken keep nothing back: every few
    /// requests the executor is given what has been begun.
    fn begin(&mut self) -> Result<(), DeviceError> {
        let Some(executor) = &mut self.executor else {
            return Ok(());
        };
        self.driver.begin_on(&mut **executor);
        self.begun += 1;
        if self.begun >= BEGUN_TOGETHER && self.died.is_none() {
            self.take_ended(Wait::No)?;
        }
        Ok(())
    }
}

/// What a device is stepped with on its way to another thread.
type Hands<F> = Option<Box<dyn Executor<F> + Send>>;

impl<D: Portable> Stepped<D> {
    /// The device on its way to another thread: nothing of it is under way.
    pub(super) fn into_rest(self) -> (D::AtRest, Hands<D::File>) {
        (self.driver.into_rest(), self.executor)
    }

    /// The device on the thread that it runs on.
    pub(super) fn from_rest((at_rest, executor): (D::AtRest, Hands<D::File>)) -> Stepped<D> {
        Stepped {
            executor,
            ..Stepped::new(D::from_rest(at_rest))
        }
    }
}

impl<D: Driver> BlockDevice for Stepped<D> {
    type File = D::File;

    fn submit(&mut self, mut request: Request) -> Result<(), DeviceError> {
        while let Err(back) = self.driver.submit(request) {
            request = back;
            if !self.step(Wait::ForOne)? {
                return Err(DeviceError::Idle);
            }
        }
        self.begin()
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        loop {
            if let Some(completion) = self.completions.pop_front() {
                return Ok(completion);
            }
            if self.executor.is_none() && !self.is_resizing() {
                // As below, without the way through the queue.
                match self.driver.step() {
                    Step::Completed(completion) => return Ok(completion),
                    Step::Working => {}
                    Step::Idle | Step::Blocked => return Err(DeviceError::Idle),
                    Step::Died(why) => return Err(DeviceError::DriverDied(why)),
                }
            } else if !self.step(Wait::ForOne)? {
                return Err(DeviceError::Idle);
            }
        }
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        while self.completions.is_empty() {
            let left = deadline_ns.saturating_sub(clock.now_ns());
            if left == 0 {
                break;
            }
            let served = self.step(Wait::AtMost(Duration::from_nanos(left)))?;
            if !served && !self.has_under_way() {
                return Err(DeviceError::Idle);
            }
        }
        Ok(self.completions.pop_front())
    }

    fn capacity(&self) -> SectorCount {
        self.driver.capacity()
    }

    fn limits(&self) -> Limits {
        self.driver.limits()
    }

    fn statistics(&self) -> Statistics {
        self.driver.statistics()
    }

    fn resize(&mut self, resize: SentResize<D::File>) -> Result<(), DeviceError> {
        // That of a resize before this one, if nobody has asked for it, goes.
        self.outcome = match self.driver.ordered() {
            Some(ordered) => {
                ordered.begin_resize(resize);
                None
            }
            None => Some(Err(ResizeError::Refused(DOES_NOT_RESIZE.into()))),
        };
        Ok(())
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        while wait && self.is_resizing() {
            if !self.step(Wait::ForOne)? {
                return Err(DeviceError::Idle);
            }
        }
        Ok(self.outcome.take())
    }
}

impl<D: Driver> Running for Stepped<D> {
    type Driver = D;

    fn stop(mut self) -> Result<Stopped<D>, DeviceError> {
        self.settle()?;
        Ok(self.into_stopped())
    }
}
