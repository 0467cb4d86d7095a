//! Where replayed requests go: a device on its own I/O thread, or one that is stepped in
//! place. The second carries its operations out one after the other where they are given, without
//! threads, and so without hops and without chance; or gives them to an executor.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use driver::blk::{Completion, Request};
use driver::executor::{Died, Executor, Wait};
use driver::host::HostFile;
use driver::ordered::{Hold, LiveDevice, Ordered, Outcome, Step};
use driver::resize::{Resize, ResizeStep};

use crate::clock::Clock;

/// Why a device does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// What carries its host operations out does not go on.
    #[error(transparent)]
    Died(#[from] Died),
    /// It has nothing to do, and yet there is something that it has not done.
    #[error("the device has nothing to do, and has not done what it was asked to")]
    Idle,
}

/// What is left of a running device when it is stopped.
pub struct Stopped<F> {
    /// The device.
    pub device: Ordered<F>,
    /// Completions that nobody was waiting for: each is one too many.
    pub left: Vec<Completion>,
}

/// A running device.
pub trait Target<F> {
    /// Hands a request over.
    ///
    /// # Errors
    /// If the device has died.
    fn submit(&mut self, request: Request) -> Result<(), TargetError>;

    /// The next completion; there is a request in flight.
    ///
    /// # Errors
    /// If the device has died.
    fn complete(&mut self) -> Result<Completion, TargetError>;

    /// The next completion, if one comes before `clock` shows `deadline_ns`; there is a request
    /// in flight. Where nothing says otherwise it comes at once.
    ///
    /// # Errors
    /// If the device has died.
    fn complete_before(
        &mut self,
        _deadline_ns: u64,
        _clock: &dyn Clock,
    ) -> Result<Option<Completion>, TargetError> {
        self.complete().map(Some)
    }

    /// Begins a resize; there is none under way.
    ///
    /// # Errors
    /// If the device has died; [`TargetError::Idle`] where nothing says that it resizes.
    fn resize(&mut self, _resize: Box<dyn Resize<F> + Send>) -> Result<(), TargetError> {
        Err(TargetError::Idle)
    }

    /// How the resize ended, if it has. Waits for it when asked to.
    ///
    /// # Errors
    /// If the device has died.
    fn resized(&mut self, _wait: bool) -> Result<Option<Outcome>, TargetError> {
        Ok(None)
    }

    /// Stops when the device has nothing more to do; every request has been completed and no
    /// resize is under way.
    ///
    /// # Errors
    /// If the device has died.
    fn stop(self) -> Result<Stopped<F>, TargetError>;
}

/// A device on its I/O thread.
pub struct Live<F> {
    device: LiveDevice<F>,
    outcome: Option<Receiver<Outcome>>,
}

impl<F: HostFile + Send + Sync + 'static> Live<F> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(device: Ordered<F>) -> std::io::Result<Live<F>> {
        Ok(Live {
            device: LiveDevice::start(device)?,
            outcome: None,
        })
    }
}

impl<F: HostFile + Send + Sync + 'static> Target<F> for Live<F> {
    fn submit(&mut self, request: Request) -> Result<(), TargetError> {
        Ok(self.device.submit(request)?)
    }

    fn complete(&mut self) -> Result<Completion, TargetError> {
        Ok(self.device.wait()?)
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, TargetError> {
        let left = deadline_ns.saturating_sub(clock.now_ns());
        Ok(self.device.wait_for(Duration::from_nanos(left))?)
    }

    fn resize(&mut self, resize: Box<dyn Resize<F> + Send>) -> Result<(), TargetError> {
        self.outcome = Some(self.device.resize(resize)?);
        Ok(())
    }

    fn resized(&mut self, wait: bool) -> Result<Option<Outcome>, TargetError> {
        let Some(receiver) = &self.outcome else {
            return Ok(None);
        };
        let outcome = match wait {
            true => receiver.recv().map_err(|_| self.device.why_it_died())?,
            false => match receiver.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(self.device.why_it_died().into()),
            },
        };
        self.outcome = None;
        Ok(Some(outcome))
    }

    fn stop(self) -> Result<Stopped<F>, TargetError> {
        let (device, left) = self.device.stop()?;
        Ok(Stopped { device, left })
    }
}

/// The executor is given what was begun when this many requests were submitted: a call for each
/// would cost more than it gains.
const BEGUN_TOGETHER: usize = 4;

/// A device that is stepped in place, alternately with its resize.
pub struct Stepped<F> {
    device: Ordered<F>,
    /// Carries its operations out; `None`: each where it is given.
    executor: Option<Box<dyn Executor<F>>>,
    completions: VecDeque<Completion>,
    resize: Option<Box<dyn Resize<F> + Send>>,
    /// Why nothing ends any more.
    died: Option<Died>,
    /// Operations that were begun since the executor was last looked at.
    begun: usize,
    /// The resize waits for something that is under way.
    resize_waits: bool,
    outcome: Option<Outcome>,
}

impl<F: HostFile> Stepped<F> {
    /// Takes the device over; it carries its operations out itself.
    pub fn new(device: Ordered<F>) -> Stepped<F> {
        Stepped {
            device,
            executor: None,
            completions: VecDeque::new(),
            resize: None,
            died: None,
            begun: 0,
            resize_waits: false,
            outcome: None,
        }
    }

    /// Takes the device over; `executor` carries its operations out.
    pub fn on(device: Ordered<F>, executor: Box<dyn Executor<F>>) -> Stepped<F> {
        Stepped {
            executor: Some(executor),
            ..Stepped::new(device)
        }
    }

    /// One step of the device and one of the resize. Whether anything could be done. What is
    /// carried out elsewhere is waited for, if there is nothing else to do.
    fn step(&mut self, wait: Wait) -> Result<bool, TargetError> {
        let served = self.serve(wait)?;
        let Some(resize) = &mut self.resize else {
            return Ok(served);
        };
        let step = resize.step(&mut self.device);
        self.resize_waits = matches!(step, Ok(ResizeStep::Waiting));
        let outcome = match step {
            Ok(ResizeStep::Working | ResizeStep::Waiting) => return Ok(true),
            Ok(ResizeStep::Done(resized)) => Ok(resized),
            Err(error) => Err(error),
        };
        // A resize that failed half-way must not leave requests waiting for it.
        self.device.set_hold(Hold::Nothing);
        self.resize = None;
        self.outcome = Some(outcome);
        Ok(true)
    }

    /// One step of the device. Whether anything could be done.
    fn serve(&mut self, wait: Wait) -> Result<bool, TargetError> {
        let Some(executor) = &mut self.executor else {
            return Ok(match self.device.step() {
                Step::Completed(completion) => {
                    self.completions.push_back(completion);
                    true
                }
                Step::Working => true,
                Step::Idle | Step::Blocked => false,
            });
        };
        if let Some(died) = &self.died {
            return Err(died.clone().into());
        }
        self.device.begin_on(&mut **executor);
        let before = self.completions.len();
        self.completions
            .extend(std::iter::from_fn(|| self.device.next_completion()));
        // A resize goes on while the host is busy, and a completion is wanted at once.
        let resizes = self.resize.is_some() && !self.resize_waits;
        let wait = match resizes || self.completions.len() > before {
            true => Wait::No,
            false => wait,
        };
        let ended = self.take_ended(wait)?;
        Ok(ended || self.completions.len() > before)
    }

    /// Takes what the executor has ended. Whether there was anything.
    fn take_ended(&mut self, wait: Wait) -> Result<bool, TargetError> {
        let Some(executor) = &mut self.executor else {
            return Ok(false);
        };
        self.begun = 0;
        let ended = self.device.take_ended(&mut **executor, wait);
        let any = ended.inspect_err(|died| self.died = Some(died.clone()))?;
        self.completions
            .extend(std::iter::from_fn(|| self.device.next_completion()));
        Ok(any)
    }

    /// Begins what can begin. Completions that are still to be taken keep nothing back: every few
    /// requests the executor is given what has been begun.
    fn begin(&mut self) -> Result<(), TargetError> {
        let Some(executor) = &mut self.executor else {
            return Ok(());
        };
        self.device.begin_on(&mut **executor);
        self.begun += 1;
        if self.begun >= BEGUN_TOGETHER && self.died.is_none() {
            self.take_ended(Wait::No)?;
        }
        Ok(())
    }
}

/// Offers a request to a target that is stepped in place until it takes it.
///
/// # Errors
/// [`TargetError::Idle`] if it does not, and has nothing to do.
pub(crate) fn hand_over<T>(
    target: &mut T,
    mut request: Request,
    offer: impl Fn(&mut T, Request) -> Result<(), Request>,
    step: impl Fn(&mut T) -> Result<bool, TargetError>,
) -> Result<(), TargetError> {
    while let Err(back) = offer(target, request) {
        request = back;
        if !step(target)? {
            return Err(TargetError::Idle);
        }
    }
    Ok(())
}

impl<F: HostFile> Target<F> for Stepped<F> {
    fn submit(&mut self, request: Request) -> Result<(), TargetError> {
        let offer = |this: &mut Self, request| this.device.submit(request);
        hand_over(self, request, offer, |this| this.step(Wait::ForOne))?;
        self.begin()
    }

    fn complete(&mut self) -> Result<Completion, TargetError> {
        loop {
            if let Some(completion) = self.completions.pop_front() {
                return Ok(completion);
            }
            if self.resize.is_none() && self.executor.is_none() {
                // As below, without the way through the queue.
                match self.device.step() {
                    Step::Completed(completion) => return Ok(completion),
                    Step::Working => {}
                    Step::Idle | Step::Blocked => return Err(TargetError::Idle),
                }
            } else if !self.step(Wait::ForOne)? {
                return Err(TargetError::Idle);
            }
        }
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, TargetError> {
        while self.completions.is_empty() {
            let left = deadline_ns.saturating_sub(clock.now_ns());
            if left == 0 {
                break;
            }
            let served = self.step(Wait::AtMost(Duration::from_nanos(left)))?;
            if !served && self.executor.is_none() {
                clock.sleep_until_ns(deadline_ns);
            }
        }
        Ok(self.completions.pop_front())
    }

    fn resize(&mut self, resize: Box<dyn Resize<F> + Send>) -> Result<(), TargetError> {
        self.resize = Some(resize);
        Ok(())
    }

    fn resized(&mut self, wait: bool) -> Result<Option<Outcome>, TargetError> {
        while wait && self.resize.is_some() {
            if !self.step(Wait::ForOne)? {
                return Err(TargetError::Idle);
            }
        }
        Ok(self.outcome.take())
    }

    fn stop(mut self) -> Result<Stopped<F>, TargetError> {
        while self.step(Wait::ForOne)? {}
        Ok(Stopped {
            device: self.device,
            left: self.completions.into(),
        })
    }
}
