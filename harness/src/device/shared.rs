//! A device on a thread of its own, for several submitters at once. Each has a [`Handle`], and
//! gets the completions of its own requests back, with its own tags.
//!
//! Requests may come in batches and completions go back in them, because a message that wakes the
//! other side costs more than carrying out a small request; a batch never waits for a sync or for
//! a resize. While operations are under way on an executor, the thread looks after new requests
//! every so often, because it cannot wait for both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use driver::blk::{Completion, Limits, Request};
use driver::driver::Portable;
use driver::executor::Died;
use driver::ordered::Statistics;
use driver::resize::ResizeOutcome;
use driver::units::SectorCount;

use crate::clock::Clock;

use super::io_thread::IoThread;
use super::known::{Known, Message};
use super::{BlockDevice, DeviceError, Handle, Running, SentResize, Stepped, Stopped};

/// A device on its thread.
#[derive(Debug)]
pub struct SharedDevice<D: Portable> {
    messages: Sender<Message<D::File>>,
    known: Arc<Known>,
    /// Gives the driver back, or nothing after a panic or an error.
    thread: JoinHandle<Option<(D::AtRest, Vec<Completion>)>>,
}

impl<D> SharedDevice<D>
where
    D: Portable + 'static,
    D::File: Send + Sync + 'static,
{
    /// Starts the thread of `device`, on which nothing is under way.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(device: Stepped<D>) -> std::io::Result<SharedDevice<D>> {
        let (known, is_there) = Known::of(device.driver());
        let known = Arc::new(known);
        let (messages, received) = bounded(known.limits.queue_depth.max(1));
        let told = Arc::clone(&known);
        let at_rest = device.into_rest();
        let thread = std::thread::Builder::new()
            .name("ubd-io".into())
            .spawn(move || {
                // Why it has ended is known before its channels close, and the last that closes is
                // this.
                let _is_there = is_there;
                let device = Stepped::<D>::from_rest(at_rest);
                let mut thread = IoThread::new(device, received, Arc::clone(&told));
                let ran = catch_unwind(AssertUnwindSafe(|| thread.run_to_its_end()));
                let failed = match ran {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error),
                    Err(panic) => Some(Died::of_panic(&*panic).into()),
                };
                let has_stopped = failed.is_none();
                told.end(failed.unwrap_or(DeviceError::Stopped));
                has_stopped.then(|| {
                    let stopped = thread.into_stopped();
                    (stopped.driver.into_rest(), stopped.left)
                })
            })?;
        Ok(SharedDevice {
            messages,
            known,
            thread,
        })
    }
}

impl<D: Portable> SharedDevice<D> {
    /// A new submitter.
    pub fn handle(&self) -> Handle<D::File> {
        Handle::new(self.messages.clone(), Arc::clone(&self.known))
    }

    /// Stops the device when it has completed all requests that were submitted before, and gives
    /// the driver back, with the first few completions that came too many, their tags the device's
    /// own. A resize that has not ended is given up. Whoever still has a handle gets
    /// [`DeviceError::Stopped`] from then on.
    ///
    /// # Errors
    /// If it did not go on.
    pub fn stop(self) -> Result<Stopped<D>, DeviceError> {
        // Where the thread has ended already, it says why.
        let _ = self.messages.send(Message::Stop);
        match self.thread.join() {
            Ok(Some((at_rest, left))) => Ok(Stopped {
                driver: D::from_rest(at_rest),
                left,
            }),
            Ok(None) => Err(self.known.why_it_ended()),
            Err(panic) => Err(Died::of_panic(&*panic).into()),
        }
    }
}

/// A device on its thread, with a single submitter.
#[derive(Debug)]
pub struct Live<D: Portable> {
    // Before the device: it has gone when that stops.
    handle: Handle<D::File>,
    shared: SharedDevice<D>,
}

impl<D> Live<D>
where
    D: Portable + 'static,
    D::File: Send + Sync + 'static,
{
    /// Starts the thread; on it the driver carries its operations out itself.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(driver: D) -> std::io::Result<Live<D>> {
        let shared = SharedDevice::start(Stepped::new(driver))?;
        let handle = shared.handle();
        Ok(Live { handle, shared })
    }
}

impl<D: Portable> Live<D> {
    /// The submitter.
    pub fn handle(&mut self) -> &mut Handle<D::File> {
        &mut self.handle
    }
}

impl<D: Portable> BlockDevice for Live<D> {
    type File = D::File;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        self.handle.submit(request)
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        self.handle.complete()
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        self.handle.complete_before(deadline_ns, clock)
    }

    fn capacity(&self) -> SectorCount {
        self.handle.capacity()
    }

    fn limits(&self) -> Limits {
        self.handle.limits()
    }

    fn statistics(&self) -> Statistics {
        self.handle.statistics()
    }

    fn resize(&mut self, resize: SentResize<D::File>) -> Result<(), DeviceError> {
        self.handle.resize(resize)
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        self.handle.resized(wait)
    }
}

impl<D: Portable> Running for Live<D> {
    type Driver = D;

    fn stop(mut self) -> Result<Stopped<D>, DeviceError> {
        let mut stopped = self.shared.stop()?;
        stopped.left.extend(self.handle.take_left());
        Ok(stopped)
    }
}
