//! A device from when it is opened to serve it until it is closed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;

use crossbeam_channel::{Receiver, Select, Sender, never};
use driver::cow::JournalRecord;
use driver::device_spec::DeviceSpec;
use driver::driver::{Driver, Portable};
use driver::linux::LinuxOpenError;
use driver::open::{OpenOptions, Opened, open};
use driver::shown;
use userhelper::real_files::{RealFile, RealHost};

use crate::device::{DeviceError, Handle, Io, NoIo, SharedDevice, Stepped, Taken};
use crate::replay::{BringsUp, Model, ReplayDriver, SessionError};

use super::export::{About, Export, Tells};

/// What has clients. It is made when it has begun to listen.
pub trait Endpoint: Send {
    /// Where it listens, as in a message: `NBD at unix:/tmp/root.nbd`.
    fn place(&self) -> String;

    /// Closes, and says nothing before, when it has ended by itself.
    fn end(&self) -> Receiver<Infallible> {
        never()
    }

    /// Whether it has ended because somebody has taken it away, as a mount, and not of a failure.
    fn was_taken_away(&self) -> bool {
        false
    }

    /// Takes no more requests, answers what is in flight, and lets its clients go. A client that
    /// does not take its answers keeps it for a bounded time only.
    fn stop(self: Box<Self>);
}

/// The endpoints that have begun to listen. However a server ends, they stop.
pub struct Endpoints {
    export: Export,
    begun: Vec<Box<dyn Endpoint>>,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places()).finish()
    }
}

impl Endpoints {
    /// None yet.
    pub fn of(export: Export) -> Endpoints {
        Endpoints {
            export,
            begun: Vec::new(),
        }
    }

    /// One more.
    pub fn add(&mut self, endpoint: impl Endpoint + 'static) {
        self.begun.push(Box::new(endpoint));
    }

    /// Where they listen, as in a message.
    pub fn places(&self) -> impl Iterator<Item = String> {
        self.begun.iter().map(|endpoint| endpoint.place())
    }
}

/// Requests and resizes that come from now on are refused, a resize under way is given up, and
/// what is in flight is answered.
impl Drop for Endpoints {
    fn drop(&mut self) {
        self.export.refuse_requests();
        // What does not go on has no resize under way.
        let _ = self.export.give_up_resizes();
        for endpoint in self.begun.drain(..) {
            endpoint.stop();
        }
    }
}

/// Why a server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signal asked for it.
    Signal,
    /// Somebody with access to the control socket asked for it.
    Asked,
    /// The device does not go on.
    Died(DeviceError),
    /// Somebody has cut the file, in words.
    Cut(String),
    /// All endpoints were taken away: nobody wants to use the device any more.
    TakenAway,
    /// All endpoints have ended by themselves, one of them at least of a failure: nobody could use
    /// the device.
    Unused,
}

/// What to serve, and how.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The device.
    pub spec: DeviceSpec,
    /// How it is opened.
    pub options: OpenOptions,
    /// The driver.
    pub driver: ReplayDriver,
    /// Who carries its operations out.
    pub io: Io,
    /// Clients may make it smaller.
    pub allow_shrink: bool,
}

/// A device that is up, on its thread.
pub struct Up {
    /// The device, for endpoints.
    pub export: Export,
    /// A reflow that was interrupted, and is to be finished while the device is served.
    pub interrupted: Option<JournalRecord>,
    /// Whether the header was half changed to another backing file, and now names that one.
    pub finished_switch: bool,
    close: Box<dyn FnOnce() -> Result<(), String>>,
}

impl fmt::Debug for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Up")
            .field("export", &self.export)
            .finish_non_exhaustive()
    }
}

impl Opening {
    /// Opens the device, and starts its thread. `tells` says what is worth saying; why the server
    /// is to end goes to `ends`, which has room for one.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn bring_up(self, tells: Box<dyn Tells>, ends: Sender<Ending>) -> Result<Up, SessionError> {
        let Opened {
            device,
            interrupted,
            finished_switch,
        } = open(&RealHost, &self.spec, self.options)?;
        match self.driver {
            ReplayDriver::Ordered => self.up(device, interrupted, finished_switch, tells, ends),
            ReplayDriver::Linux(kernel, defects, pipe) => {
                if interrupted.is_some() {
                    return Err(SessionError::Model {
                        path: self.spec.file,
                        error: LinuxOpenError::Relocating,
                    });
                }
                let model = Model {
                    kernel,
                    defects,
                    pipe,
                };
                let driver = model.take_over(&RealHost, &self.spec, device)?;
                self.up(driver, None, finished_switch, tells, ends)
            }
            ReplayDriver::RealKernel => {
                let what = "the driver of a running kernel serves that kernel's guest alone";
                Err(SessionError::Kernel(what.to_owned()))
            }
        }
    }

    fn up<D>(
        self,
        driver: D,
        interrupted: Option<JournalRecord>,
        finished_switch: bool,
        tells: Box<dyn Tells>,
        ends: Sender<Ending>,
    ) -> Result<Up, SessionError>
    where
        D: Portable<File = RealFile> + 'static,
    {
        let is_model = matches!(self.driver, ReplayDriver::Linux(..));
        let (shared, handle, io) = started(driver, self.io, is_model)?;
        let about = About {
            path: self.spec.file.clone(),
            driver: self.driver.name(),
            defects: self.driver.defects(),
            io,
            read_only: self.spec.read_only,
            synchronous: self.spec.synchronous,
            resizes: !is_model && !self.spec.read_only,
            allow_shrink: self.allow_shrink,
        };
        Ok(Up {
            export: Export::new(about, handle, tells, ends),
            interrupted,
            finished_switch,
            close: Box::new(move || {
                let stopped = shared.stop().map_err(|error| error.to_string())?;
                stopped.close()
            }),
        })
    }
}

impl Up {
    /// Waits until the server is to end: somebody says so over `ending`, or the device has ended by
    /// itself, or the last of the endpoints has.
    pub fn until_the_end(&self, ending: &Receiver<Ending>, endpoints: &Endpoints) -> Ending {
        let device_end = self.export.device_end();
        let ends = (endpoints.begun.iter()).map(|endpoint| endpoint.end());
        let ends: Vec<_> = ends.collect();
        let mut select = Select::new();
        let is_asked = select.recv(ending);
        let is_device = select.recv(&device_end);
        let mut left: BTreeMap<usize, &dyn Endpoint> = (ends.iter().zip(&endpoints.begun))
            .map(|(end, endpoint)| (select.recv(end), &**endpoint))
            .collect();
        let mut all_taken_away = true;
        loop {
            let ended = select.ready();
            if ended == is_asked
                && let Ok(why) = ending.try_recv()
            {
                return why;
            }
            if ended == is_asked || ended == is_device {
                let why = self.export.device_ended().cloned();
                return Ending::Died(why.unwrap_or(DeviceError::Stopped));
            }
            select.remove(ended);
            if let Some(endpoint) = left.remove(&ended) {
                all_taken_away &= endpoint.was_taken_away();
            }
            if left.is_empty() {
                return match all_taken_away {
                    true => Ending::TakenAway,
                    false => Ending::Unused,
                };
            }
            let places: Vec<_> = left.values().map(|endpoint| endpoint.place()).collect();
            let line = format_args!("the device is still served: {}", places.join(", "));
            self.export.tell(&line);
        }
    }

    /// Gives up a resize under way, makes everything durable and closes the files. The endpoints
    /// have stopped.
    ///
    /// # Errors
    /// Why not everything is durable: all that is known of it.
    pub fn close(self) -> Result<(), String> {
        let is_whole = self.export.file_is_whole();
        self.export.let_file_go();
        let path = shown(&self.export.about().path);
        let closed = (self.close)().map_err(|error| format!("{path}: closing: {error}"));
        match (closed, is_whole) {
            (Err(error), Err(cut)) => Err(format!("{error}; {cut}")),
            (closed, is_whole) => closed.and(is_whole),
        }
    }
}

fn started<D>(
    driver: D,
    io: Io,
    is_model: bool,
) -> Result<(SharedDevice<D>, Handle<RealFile>, Taken), SessionError>
where
    D: Portable<File = RealFile> + 'static,
{
    // A model has one operation at a time.
    let depth = match is_model {
        true => 1,
        false => Driver::limits(&driver).queue_depth,
    };
    let chosen = io.choose(depth)?;
    let device = match chosen.executor()? {
        Some(executor) => Stepped::on(driver, executor),
        None => Stepped::new(driver),
    };
    let shared =
        SharedDevice::start(device).map_err(|error| SessionError::from(NoIo::Thread(error)))?;
    let handle = shared.handle();
    Ok((shared, handle, chosen.taken()))
}
