//! A replay from beginning to end: the device made or brought up, the trace replayed, the
//! device compared, closed, reopened and compared again.
//!
//! The ways to begin are here, and where they meet. `before` checks what can be checked before
//! anything is written, `own_device` makes a device, `resizing` has the resizes, `comparing` the
//! comparison at the end, and `reporting` says what it all came to.

mod before;
mod comparing;
mod own_device;
mod reporting;
mod resizing;

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::memory::MemoryHost;
use driver::open::{Held, Opened, backing_path, open, reopen_backing};
use driver::ordered::Ordered;
use driver::units::Bytes;
use userhelper::image::backing_note::backing_note;
use userhelper::image_host::ImageHost;
use userhelper::real_files::{RealFile, RealHost};

use crate::clock::{self, Clock, WallClock};
use crate::device::{OnFiles, Running, Stepped};
use crate::oracle::{Initial, Oracle};
use crate::stamp::Coverage;

use super::backing::Given;
use super::bring_up::{BringsUp, Model, OrderedBut, ReplayDriver};
use super::limits::Files;
use super::options::{OpenTrace, Options};
use super::own_file::OwnFile;
use super::report::Report;
use super::room::size_if_created;
use super::run::Run;
use super::session_error::SessionError;
use super::stamp_host::StampHost;
use super::verify::Verify;

pub use own_device::files_made_in;

use own_device::COW_NAME;
use reporting::Replayed;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The backing file is being made.
    Preparing,
    /// Requests that have been replayed.
    Replayed(u64),
    /// Sectors that have been compared, and all that are to be.
    Verified(u64, u64),
}

/// A replay to be.
pub struct Session<'a> {
    /// The trace.
    pub trace: OpenTrace<'a>,
    /// How to replay it.
    pub options: Options,
    /// Is told how far things have come.
    pub progress: &'a dyn Fn(Progress),
}

impl Session<'_> {
    /// Replays on files made in `directory`: `backing.img` and `device.cow`.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn on_files(&self, directory: &Path, size: Option<Bytes>) -> Result<Report, SessionError> {
        let size = self.size(size)?;
        self.check_before(
            &DeviceSpec::of(directory.join(COW_NAME)),
            Some(size),
            Files::OnDisk,
        )?;
        let chosen = self.options.io.choose(self.depth())?;
        let report = match self.model() {
            None => self.on_own_device(RealHost, directory, size, &right(), |driver| {
                Ok(OnFiles::start(driver, &chosen)?)
            }),
            Some(model) => self.on_own_device(RealHost, directory, size, &model, |driver| {
                Ok(OnFiles::start(driver, &chosen)?)
            }),
        }?;
        Ok(Report {
            io: Some(chosen.taken()),
            ..report
        })
    }

    /// Replays on files made in `directory`, with the driver that `brings` brings up and that
    /// carries its host operations out itself.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn on_files_by<B: BringsUp<RealHost>>(
        &self,
        directory: &Path,
        size: Option<Bytes>,
        brings: &B,
    ) -> Result<Report, SessionError> {
        let size = self.size(size)?;
        let cow = DeviceSpec::of(directory.join(COW_NAME));
        self.check_before(&cow, Some(size), Files::OnDisk)?;
        self.on_own_device(RealHost, directory, size, brings, |driver| {
            Ok(Stepped::new(driver))
        })
    }

    /// Replays in memory, without a thread: on a host that keeps all bytes, or, where stamps
    /// take only the front of a sector, on one that keeps just those.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn in_memory(&self, size: Option<Bytes>) -> Result<Report, SessionError> {
        match (self.options.coverage, self.model()) {
            (Coverage::Whole, None) => self.on_host(MemoryHost::new(), size, &right()),
            (Coverage::Front, None) => self.on_host(StampHost::new(), size, &right()),
            (Coverage::Whole, Some(model)) => self.on_host(MemoryHost::new(), size, &model),
            (Coverage::Front, Some(model)) => self.on_host(StampHost::new(), size, &model),
        }
    }

    /// Replays on a host in memory, with the driver that `brings` brings up.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn on_host<H, B>(
        &self,
        host: H,
        size: Option<Bytes>,
        brings: &B,
    ) -> Result<Report, SessionError>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
        B: BringsUp<H>,
    {
        let size = self.size(size)?;
        let directory = Path::new("/memory");
        self.check_before(
            &DeviceSpec::of(directory.join(COW_NAME)),
            Some(size),
            Files::InMemory,
        )?;
        self.on_own_device(host, directory, size, brings, |driver| {
            Ok(Stepped::new(driver))
        })
    }

    /// Replays on the device that `spec` describes. What it holds is overwritten as the
    /// trace says; a missing COW file is made.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn on_device(&self, spec: &DeviceSpec) -> Result<Report, SessionError> {
        let chosen = self.options.io.choose(self.depth())?;
        let report = match self.model() {
            None => self.on_given_device(spec, &right(), |driver| {
                Ok(OnFiles::start(driver, &chosen)?)
            }),
            Some(model) => {
                self.on_given_device(spec, &model, |driver| Ok(OnFiles::start(driver, &chosen)?))
            }
        }?;
        Ok(Report {
            io: Some(chosen.taken()),
            ..report
        })
    }

    /// [`Session::on_device`], with the driver that `brings` brings up and that carries its host
    /// operations out itself.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn on_device_by<B: BringsUp<RealHost>>(
        &self,
        spec: &DeviceSpec,
        brings: &B,
    ) -> Result<Report, SessionError> {
        self.on_given_device(spec, brings, |driver| Ok(Stepped::new(driver)))
    }

    fn on_given_device<B, T>(
        &self,
        spec: &DeviceSpec,
        brings: &B,
        start: impl Fn(B::Driver) -> Result<T, SessionError>,
    ) -> Result<Report, SessionError>
    where
        B: BringsUp<RealHost>,
        T: Running<File = RealFile, Driver = B::Driver>,
    {
        let host = RealHost;
        // Opening creates a missing COW file, or switches the backing file if asked.
        let created = size_if_created(&host, spec);
        if created.is_some() || self.options.open.switch_backing {
            let capacity = created.map(|size| self.first_capacity(spec, size));
            self.check_before(spec, capacity.transpose()?, Files::OnDisk)?;
        }
        let opened = open(&host, spec, self.options.open)?;
        let capacity = match opened.interrupted {
            Some(record) => record.new_size.whole_sectors(),
            None => opened.device.capacity(),
        };
        // What was seen without a lock may be another size by now.
        if created != Some(capacity) {
            let capacity = self.first_capacity(spec, capacity)?;
            self.check_before(spec, Some(capacity), Files::OnDisk)?;
        }
        let backing = reopen_backing(&host, spec, self.options.open.trust, &opened.device)?;
        let path = (opened.device.image()).map(|image| backing_path(&spec.file, &image.header));
        let path = spec.backing.clone().or(path).unwrap_or_default();
        let note = backing.as_ref().and_then(|backing| {
            // What cannot be read, the replay tells.
            backing_note(&path, backing.file()).ok().flatten()
        });
        let oracle = Oracle::new(
            opened.device.capacity(),
            Given::new(path, backing.map(Held::into_file)),
        );
        Ok(Report {
            backing_note: note,
            ..self.replay(host, spec, opened, oracle, brings, start)?
        })
    }

    /// Requests in flight at most. A model has one host operation at a time, whatever it is given.
    fn depth(&self) -> usize {
        match self.options.driver {
            ReplayDriver::Ordered => self.options.depth,
            ReplayDriver::Linux(..) | ReplayDriver::RealKernel => 1,
        }
    }

    /// Whether the driver is a kernel's: the model of one, or a running one.
    fn is_of_a_kernel(&self) -> bool {
        self.options.driver != ReplayDriver::Ordered
    }

    fn model(&self) -> Option<Model> {
        match self.options.driver {
            ReplayDriver::Ordered | ReplayDriver::RealKernel => None,
            ReplayDriver::Linux(kernel, defects, pipe) => Some(Model {
                kernel,
                defects,
                pipe,
            }),
        }
    }

    /// Replays on a device that is open, and compares it.
    fn replay<H, B, T, I>(
        &self,
        host: H,
        spec: &DeviceSpec,
        opened: Opened<H::File>,
        mut oracle: Oracle<I>,
        brings: &B,
        start: impl Fn(B::Driver) -> Result<T, SessionError>,
    ) -> Result<Report, SessionError>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
        B: BringsUp<H>,
        T: Running<File = H::File, Driver = B::Driver>,
        I: Initial,
    {
        let path = &spec.file;
        let finished_switch = opened.finished_switch;
        let device = self.prepare(&host, spec, opened, &mut oracle)?;
        let manner = self.manner()?;
        let clock = WallClock::start();
        let driver = brings.take_over(&host, spec, device)?;
        let mut target = start(driver)?;
        let planned = self.planned(&host, path);
        let mut run = Run::new(&mut target, &mut oracle, manner, planned, &clock);
        let started_ns = clock.now_ns();
        let mut trace = (self.trace)()?;
        let progress = |done| (self.progress)(Progress::Replayed(done));
        let mut ended_early = None;
        if let Err(error) = run.replay(trace.as_mut(), progress) {
            run.give_up();
            ended_early = Some(error);
        }
        let elapsed_ns = clock.now_ns() - started_ns;
        let mut replayed = Replayed::of(&mut run, elapsed_ns);

        let started = clock::start();
        let verify = Verify {
            oracle: &mut oracle,
            counts: &mut replayed.counts,
            when: "at the end",
        };
        let own = OwnFile {
            host: &host,
            spec,
            options: self.options.open,
        };
        let statistics = self.compare(&own, brings, target, ended_early, verify, &start)?;

        let report = replayed.report(
            &self.options.driver,
            statistics,
            started.elapsed_ns(),
            trace.as_ref(),
        );
        Ok(Report {
            finished_switch,
            stamps_only: oracle.coverage() == Coverage::Front,
            ..report
        })
    }
}

/// The right driver.
fn right<F>() -> OrderedBut<fn(Ordered<F>) -> Ordered<F>> {
    OrderedBut(std::convert::identity)
}
