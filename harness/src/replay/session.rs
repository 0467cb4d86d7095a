//! A replay from beginning to end: the device made or brought up, the trace replayed, the
//! device compared, closed, reopened and compared again.

use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{Access, HostError, HostNames};
use driver::linux::{self, LinuxOpenError};
use driver::memory::MemoryHost;
use driver::open::{Held, Opened, backing_path, create, open, reopen_backing};
use driver::ordered::{Ordered, Statistics};
use driver::units::{Bytes, SECTOR_SIZE, SectorCount};
use userhelper::image::backing_note::backing_note;
use userhelper::image_host::ImageHost;
use userhelper::planner::{PlanError, Shrink, Wish, plan};
use userhelper::real_files::{RealFile, RealHost};
use userhelper::resize::{PlannedResize, WishedResize, not_planned, recover, surroundings};

use crate::clock::{self, Clock, WallClock};
use crate::device::{OnFiles, Running, Stepped};
use crate::oracle::{Initial, Oracle};
use crate::stamp::Coverage;
use crate::trace::TraceOperation;

use super::backing::{Given, STAMP_ALL, Stamped, StampedParts};
use super::bring_up::{BringsUp, Model, OrderedBut, ReplayDriver};
use super::error::ReplayError;
use super::limits::{Files, LARGEST_IMPLIED};
use super::observe::{Observed, Sights};
use super::options::{OpenTrace, Options, ResizeAt};
use super::own_file::OwnFile;
use super::precheck::precheck;
use super::report::Report;
use super::requests::{PastEnd, Placing, placed};
use super::room::{room_for, size_if_created};
use super::run::{Manner, PlannedAt, Run};
use super::session_error::SessionError;
use super::stamp_host::StampHost;
use super::verify::{NotVerified, Verify, idle, take_in};

/// The files of a device made for a replay.
const COW_NAME: &str = "device.cow";
const BACKING_NAME: &str = "backing.img";

/// The files of a device that is made for a replay in `directory`.
pub fn files_made_in(directory: &Path) -> [PathBuf; 2] {
    [COW_NAME, BACKING_NAME].map(|name| directory.join(name))
}

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

    fn size(&self, given: Option<Bytes>) -> Result<SectorCount, SessionError> {
        if let Some(size) = given {
            return Ok(size.whole_sectors());
        }
        let mut trace = (self.trace)()?;
        let (what, sectors) = match trace.description().device_size {
            Some(size) => ("the recorded device has", size),
            None => {
                let summary = crate::trace::summarize(trace.as_mut())?;
                let end = SectorCount(summary.max_end_sector);
                ("the last request ends at", end)
            }
        };
        match sectors.bytes() {
            Bytes(0) => Err(SessionError::UnknownSize),
            size if size > LARGEST_IMPLIED => Err(SessionError::ImpliedSize { what, size }),
            _ => Ok(sectors),
        }
    }

    /// How requests are submitted.
    fn manner(&self) -> Result<Manner, SessionError> {
        Ok(Manner {
            depth: self.options.depth,
            placing: self.placing()?,
            pace: self.options.pace,
        })
    }

    /// How the trace is laid onto the device. Only for scaling does that need to read it.
    fn placing(&self) -> Result<Placing, SessionError> {
        let past_end = self.options.past_end;
        let recorded = match past_end {
            PastEnd::Scale => {
                let mut trace = (self.trace)()?;
                let told = trace.description().device_size.unwrap_or_default();
                let summary = crate::trace::summarize(trace.as_mut())?;
                told.max(SectorCount(summary.max_end_sector))
            }
            PastEnd::Refuse | PastEnd::Wrap | PastEnd::Clip => SectorCount(0),
        };
        Ok(Placing { past_end, recorded })
    }

    /// Before anything is written: whether the trace can be replayed on a device of this size.
    fn check_before(
        &self,
        spec: &DeviceSpec,
        capacity: Option<SectorCount>,
        files: Files,
    ) -> Result<(), SessionError> {
        let cow = &spec.file;
        if let Some(found) = capacity.filter(|&size| size > linux::MAX_SECTORS)
            && self.is_of_a_kernel()
        {
            return Err(SessionError::Model {
                path: cow.clone(),
                error: LinuxOpenError::TooLarge { found },
            });
        }
        let placing = self.placing()?;
        let room = match files {
            Files::OnDisk => room_for(cow, capacity.unwrap_or_default(), spec.data),
            Files::InMemory => None,
        };
        precheck(self.trace, &self.options, placing, capacity, files, room)
            .map_err(replay_error(cow))
    }

    /// The size with which the replay begins, on a device of this one.
    fn first_capacity(
        &self,
        spec: &DeviceSpec,
        capacity: SectorCount,
    ) -> Result<SectorCount, SessionError> {
        match spec.size {
            Some(new) if new < capacity.bytes() && self.options.shrink == Shrink::Refuse => {
                let old = capacity.bytes();
                Err(SessionError::Plan {
                    path: spec.file.clone(),
                    error: PlanError::WouldShrink { old, new },
                })
            }
            Some(new) => Ok(new.whole_sectors()),
            None => Ok(capacity),
        }
    }

    /// Which parts of the backing file have to be told from others.
    fn stamped_parts(&self, sectors: SectorCount) -> Result<StampedParts, SessionError> {
        if sectors.bytes() <= STAMP_ALL {
            return Ok(StampedParts::all(sectors));
        }
        let mut parts = StampedParts::none(sectors);
        parts.spread();
        let placing = self.placing()?.for_stamping();
        for record in (self.trace)()? {
            let record = record?;
            for range in placed(&record, sectors, placing).unwrap_or_default() {
                match record.operation {
                    TraceOperation::Read => parts.add(range),
                    _ => drop(parts.add_borders(range)),
                }
            }
        }
        Ok(parts)
    }

    fn on_own_device<H, B, T>(
        &self,
        host: H,
        directory: &Path,
        sectors: SectorCount,
        brings: &B,
        start: impl Fn(B::Driver) -> Result<T, SessionError>,
    ) -> Result<Report, SessionError>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
        B: BringsUp<H>,
        T: Running<File = H::File, Driver = B::Driver>,
    {
        (self.progress)(Progress::Preparing);
        let (cow, backing) = (directory.join(COW_NAME), directory.join(BACKING_NAME));
        // Asked before the backing file is made: nothing is to be left of what fails.
        if host.open(&cow, Access::ReadOnly).is_ok() {
            let exists = host_error(&cow, "creating");
            return Err(exists(HostError::AlreadyExists));
        }
        let coverage = self.options.coverage;
        let parts = self.stamped_parts(sectors)?.with_coverage(coverage);
        let file = host
            .create_new(&backing)
            .map_err(host_error(&backing, "creating"))?;
        let made = parts
            .write(&file)
            .and_then(|()| host.give_mode(&backing, &file, &[]))
            .map_err(host_error(&backing, "writing the backing file"))
            .and_then(|()| Ok(create(&host, &cow, &backing, self.options.alignment)?));
        match made {
            // Opened below, like any other.
            Ok(file) => drop(file),
            Err(error) => {
                // The first error is the one to report.
                let _ = host.remove(&backing);
                return Err(error);
            }
        }
        let spec = DeviceSpec {
            // As on UML's command line when the COW file is new. To a kernel it makes a difference.
            backing: self.is_of_a_kernel().then(|| backing.clone()),
            ..DeviceSpec::of(cow)
        };
        let opened = open(&host, &spec, self.options.open)?;
        let oracle = Oracle::new(opened.device.capacity(), Stamped::new(parts.clone()));
        let oracle = oracle.with_coverage(coverage);
        let mut report = self.replay(host, &spec, opened, oracle, brings, start)?;
        let changed = parts
            .count_changed(&file)
            .map_err(host_error(&backing, "reading the backing file"))?;
        report.backing_unchanged = Some(changed == 0);
        Ok(report)
    }

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
        let (mut counts, latency) = (run.counts.clone(), run.measured.latencies());
        let requests_elapsed_ns = run.measured.requests_elapsed_ns.min(elapsed_ns);
        let mut timeline = std::mem::take(&mut run.measured.timeline);
        timeline.reach(elapsed_ns);
        let pace = run.pace_report();

        let started = clock::start();
        let verify = Verify {
            oracle: &mut oracle,
            counts: &mut counts,
            when: "at the end",
        };
        let own = OwnFile {
            host: &host,
            spec,
            options: self.options.open,
        };
        let statistics = self.compare(&own, brings, target, ended_early, verify, &start)?;

        let per_second = |count| count as f64 / (requests_elapsed_ns.max(1) as f64 / 1e9);
        let bytes = (counts.sectors_read + counts.sectors_written) * SECTOR_SIZE;
        let is_told = self.options.driver != ReplayDriver::RealKernel;
        Ok(Report {
            requests: counts.requests,
            sectors_read: counts.sectors_read,
            sectors_written: counts.sectors_written,
            sectors_written_with_data: counts.sectors_with_data,
            sectors_verified: counts.sectors_compared,
            sectors_verified_zeros: counts.sectors_zeros,
            sectors_in_holes: counts.sectors_in_holes,
            sectors_sampled: counts.sectors_sampled,
            mismatches: counts.mismatches,
            other_faults: counts.other_faults,
            mismatch_examples: counts.examples,
            mismatch_examples_left_out: counts.examples_left_out,
            flushes: counts.flushes,
            fua_writes: counts.fua_writes,
            discards: counts.discards,
            discards_unsupported: counts.discards_unsupported,
            syncs: is_told.then_some(statistics.syncs),
            bitmap_writes: is_told.then_some(statistics.bitmap_writes),
            resizes: counts.resizes,
            elapsed_ns,
            requests_elapsed_ns,
            verify_elapsed_ns: started.elapsed_ns(),
            requests_per_second: per_second(counts.requests),
            bytes_per_second: per_second(bytes),
            latency,
            pace,
            records_skipped: trace.notes().skipped,
            requests_rounded: trace.notes().rounded,
            requests_unsupported: trace.left_out().unsupported,
            requests_earlier: trace.notes().earlier,
            requests_earlier_by_at_most_ns: trace.notes().earlier_by_at_most.0,
            requests_failed_in_trace: trace.notes().served.failed.values().sum(),
            io: None,
            driver: self.options.driver.name(),
            defects: self.options.driver.defects(),
            small_pipe_requests: self.options.driver.small_pipe(),
            finished_switch,
            backing_note: None,
            backing_unchanged: None,
            stamps_only: oracle.coverage() == Coverage::Front,
            timeline,
        })
    }

    /// Brings the device to where the trace begins: a resize under way in it is finished, and it
    /// gets the size that its specification asks for.
    fn prepare<H: ImageHost + Clone, I: Initial>(
        &self,
        host: &H,
        spec: &DeviceSpec,
        opened: Opened<H::File>,
        oracle: &mut Oracle<I>,
    ) -> Result<Ordered<H::File>, SessionError> {
        let path = &spec.file;
        let failed = |error| SessionError::Resize {
            path: path.clone(),
            error,
        };
        let mut device = take_in(opened.device, oracle).map_err(replay_error(path))?;
        if let Some(record) = opened.interrupted {
            if self.is_of_a_kernel() {
                let error = LinuxOpenError::Relocating;
                let path = path.clone();
                return Err(SessionError::Model { path, error });
            }
            let resized = recover(&mut device, record).map_err(failed)?;
            oracle.resized(resized.new_size.whole_sectors());
        }
        if let Some(size) = spec.size {
            self.resize_first(host, path, &mut device, size)?;
            oracle.resized(size.whole_sectors());
        }
        // What cannot be had from the start fails before the trace writes anything.
        if let Some(at) = self.options.resizes.iter().find(|at| at.request == 0) {
            let surroundings =
                surroundings(host, path, &device).map_err(host_error(path, "examining"))?;
            if let Err(error) = plan(&device, self.wish(at), surroundings) {
                return Err(replay_error(path)(ReplayError::Resize {
                    request: 0,
                    new_size: at.size,
                    error: not_planned(error),
                }));
            }
        }
        Ok(device)
    }

    /// The resizes that come between the requests.
    fn planned<H>(&self, host: &H, path: &Path) -> Vec<PlannedAt<H::File>>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
    {
        let resizes = self.options.resizes.iter().map(|at| {
            let sights = Sights::default();
            let resize = WishedResize::new(host.clone(), path, self.wish(at));
            PlannedAt {
                request: at.request,
                new_size: at.size,
                resize: Box::new(Observed::new(resize, sights.clone())),
                sights,
            }
        });
        resizes.collect()
    }

    /// Compares the device at the end, or what ended it early, and once more after `brings` has
    /// brought it up again. Returns the driver's statistics.
    fn compare<H: HostNames, B: BringsUp<H>, T>(
        &self,
        own: &OwnFile<'_, H>,
        brings: &B,
        target: T,
        ended_early: Option<ReplayError>,
        mut verify: Verify<'_, impl Initial>,
        start: &impl Fn(T::Driver) -> Result<T, SessionError>,
    ) -> Result<Statistics, SessionError>
    where
        T: Running<File = H::File, Driver = B::Driver>,
    {
        let path = &own.spec.file;
        // What a kernel's driver does wrong is what it is there to show, also where it ends the
        // replay.
        let is_finding = |error: &ReplayError| self.is_of_a_kernel() && error.is_of_driver();
        let statistics = target.statistics();
        let half = verify.oracle.capacity().0;
        let verified = |done| (self.progress)(Progress::Verified(done, 2 * half));
        let compared = match ended_early {
            Some(error) => {
                // What was done so far is kept as well as it can be; the first error is the one
                // to report.
                if let Ok(stopped) = target.stop() {
                    let _ = stopped.driver.close();
                }
                Err(NotVerified::Replay(error))
            }
            None => idle(target)
                .map_err(NotVerified::Replay)
                .and_then(|driver| verify.driver(driver, start, verified)),
        };
        match compared {
            Err(NotVerified::Replay(error)) if is_finding(&error) => {
                verify.ended_early(&error);
                Ok(statistics)
            }
            Err(error) => Err(in_verify(path)(error)),
            Ok(driver) => {
                let statistics = driver.statistics();
                let had = own.still_named(&driver)?;
                driver.close().map_err(|error| SessionError::Close {
                    path: path.to_owned(),
                    error,
                })?;
                verify.when = "after reopening";
                let verified = |done| (self.progress)(Progress::Verified(half + done, 2 * half));
                match own.reopen(brings, had)? {
                    Ok(reopened) => {
                        verify.is_not_interrupted(!reopened.interrupted);
                        match verify.driver(reopened.driver, start, verified) {
                            Err(NotVerified::Replay(error)) if is_finding(&error) => {
                                verify.ended_early(&error);
                            }
                            compared => drop(compared.map_err(in_verify(path))?),
                        }
                    }
                    Err(why) => verify.does_not_open(&why),
                }
                Ok(statistics)
            }
        }
    }

    fn wish(&self, at: &ResizeAt) -> Wish {
        Wish {
            new_size: at.size,
            strategy: at.strategy,
            shrink: self.options.shrink,
            online: true,
        }
    }

    /// The size that the device's specification asks for.
    fn resize_first<H: ImageHost + Clone>(
        &self,
        host: &H,
        path: &Path,
        device: &mut Ordered<H::File>,
        size: Bytes,
    ) -> Result<(), SessionError> {
        let wish = Wish {
            new_size: size,
            strategy: self.options.strategy,
            shrink: self.options.shrink,
            online: false,
        };
        let surroundings =
            surroundings(host, path, device).map_err(host_error(path, "examining"))?;
        let plan = plan(device, wish, surroundings).map_err(|error| SessionError::Plan {
            path: path.to_owned(),
            error,
        })?;
        PlannedResize::new(&plan, host.clone(), path, device)
            .and_then(|planned| device.resize(Box::new(planned)))
            .map_err(|error| SessionError::Resize {
                path: path.to_owned(),
                error,
            })?;
        Ok(())
    }
}

/// The right driver.
fn right<F>() -> OrderedBut<fn(Ordered<F>) -> Ordered<F>> {
    OrderedBut(std::convert::identity)
}

/// What ended a comparison of the whole device.
fn in_verify(path: &Path) -> impl Fn(NotVerified<SessionError>) -> SessionError + '_ {
    move |error| match error {
        NotVerified::Start(error) => error,
        NotVerified::Replay(error) => replay_error(path)(error),
    }
}

fn replay_error(path: &Path) -> impl Fn(ReplayError) -> SessionError + '_ {
    move |error| match error {
        ReplayError::Trace(error) => SessionError::Trace(error),
        error => SessionError::Replay {
            path: path.to_owned(),
            error: Box::new(error),
        },
    }
}

fn host_error<'a>(
    path: &'a Path,
    doing: &'static str,
) -> impl FnOnce(HostError) -> SessionError + 'a {
    move |error| SessionError::Host {
        path: path.to_owned(),
        doing,
        error,
    }
}
