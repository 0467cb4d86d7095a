//! One life of a device, from when it has come up to when it is closed: what the guest does next,
//! who else opens the files meanwhile, and how the life ends.

use std::collections::BTreeMap;

use driver::blk::Operation;
use driver::driver::Driver;
use driver::host::{Access, HostNames, LockKind};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};

use crate::sim::FaultRule;

use super::super::case::{DriverName, Stimulus};
use super::super::check::read_all;
use super::super::device::Device;
use super::super::excuses::Work;
use super::super::history::Change;
use super::super::put_in;
use super::super::resizer::{ActiveResize, Asked};
use super::super::signature::{Act, Phase};
use super::super::violation::{Kind, Violation};
use super::changing_size::{FailedResize, settle_size};
use super::looking::{BeforeResize, CameUp};
use super::serving::{Flying, said};
use super::{Observer, Point, Stop, World};

/// A life under way.
pub(super) struct Living<'w, 'a, 'o> {
    pub(super) world: &'w mut World<'a>,
    pub(super) observer: &'o mut dyn Observer,
    pub(super) device: Device,
    pub(super) resize: Option<ActiveResize>,
    pub(super) resizes_begun: u32,
    /// The latest resize is to cut off the partial last sector, and no more.
    pub(super) cuts_partial: bool,
    /// What the host had when the device had come up.
    pub(super) came_up: CameUp,
    /// The COW file before the latest resize.
    pub(super) before_resize: Option<BeforeResize>,
    pub(super) flying: BTreeMap<u32, Flying>,
    /// What failed, and is to be submitted once more.
    pub(super) failed: Vec<(Operation, SectorRange)>,
    /// The latest resize, if it failed and no flush has settled the size since.
    pub(super) failed_resize: Option<FailedResize>,
    pub(super) position: usize,
    pub(super) changes: usize,
    /// Faults that count from the first resize on.
    pub(super) resize_faults: &'o [FaultRule],
    /// How many sectors the first segment of a request has; `None` where it has only one.
    pub(super) segments_of: Option<u64>,
    /// The guest goes on asking for the sectors that a shrink is to take from it.
    pub(super) keeps_asking: bool,
    /// A resize is given up with requests under way when the device is closed.
    pub(super) gives_up_at_once: bool,
}

impl Living<'_, '_, '_> {
    /// Does something, when the order of what goes side by side says so.
    pub(super) fn go_on_with(&mut self, action: Stimulus) -> Result<(), Stop> {
        // What takes steps itself goes on at once.
        if !matches!(action, Stimulus::Step | Stimulus::Drain) {
            while !self.device.goes_on(!action.is_request()) {
                self.step()?;
            }
        }
        self.act(action)
    }

    fn act(&mut self, action: Stimulus) -> Result<(), Stop> {
        for (operation, range) in std::mem::take(&mut self.failed) {
            self.world.coverage.hit("failed_request_retried");
            self.submit_piece(operation, range, true)?;
        }
        let range = |start, count| SectorRange::new(Sector(start), SectorCount(count));
        match action {
            Stimulus::Read { start, count } => self.submit(Operation::Read, range(start, count)),
            Stimulus::Write { start, count, fua } => {
                self.submit(Operation::Write { fua }, range(start, count))
            }
            Stimulus::Flush => self.submit(Operation::Flush, SectorRange::default()),
            Stimulus::Discard { start, count } => {
                self.submit(Operation::Discard, range(start, count))
            }
            Stimulus::WriteZeroes { start, count } => {
                self.submit(Operation::WriteZeroes, range(start, count))
            }
            Stimulus::Step => self.step().map(drop),
            Stimulus::Drain => self.drain(),
            Stimulus::OpenAgain => self.open_again(),
            Stimulus::Resize {
                sectors,
                strategy,
                window,
                alignment,
                odd,
            } => self.begin_resize(Asked {
                sectors,
                bytes: SectorCount(sectors).bytes() + Bytes(odd),
                strategy,
                window,
                alignment,
                at_once: self.world.truth.opening.at_once,
            }),
            Stimulus::StepResize => self.step_resize().map(drop),
            Stimulus::FinishResize => {
                while self.step_resize()? {}
                Ok(())
            }
        }
    }

    /// Shows the crash points of what was just done, before anybody is told of it.
    pub(super) fn show(&mut self, phase: Phase) -> Result<(), Stop> {
        self.world.phase = phase;
        let snapshots = self.world.host.take_snapshots();
        if self.device.under_way() > 0 && !snapshots.is_empty() {
            self.world.coverage.hit("crash_with_operations_under_way");
        }
        for snapshot in snapshots {
            let point = Point {
                position: self.position,
                change: self.changes,
                phase,
            };
            self.changes += 1;
            self.world.look(self.observer, point, &snapshot)?;
        }
        Ok(())
    }

    /// Somebody else opens the device, by the same names.
    fn open_again(&mut self) -> Result<(), Stop> {
        let world = &*self.world;
        let opened = Device::open(&world.host, world.case, world.truth.opening);
        self.show(Phase::Request)?;
        self.world.coverage.hit("second_opener");
        match opened {
            Err(_) => self.open_backing_to_write(),
            Ok(_) => {
                let what = "it is open, and was opened once more";
                let violation = Violation::new(Kind::NotExcluded, "opening it again", what);
                Err(violation.by(Act::Open).into())
            }
        }
    }

    /// Somebody wants to write to the backing file, as a merge of another image over it does.
    fn open_backing_to_write(&mut self) -> Result<(), Stop> {
        let world = &mut *self.world;
        if world.case.driver != DriverName::Ordered || world.case.image.raw {
            return Ok(());
        }
        let Some(path) = world.named_backing() else {
            return Ok(());
        };
        let Ok(file) = world.host.open(path.as_ref(), Access::ReadWrite) else {
            return Ok(());
        };
        world.coverage.hit("second_opener_of_the_backing_file");
        match world.host.lock(&file, LockKind::Exclusive) {
            Err(_) => Ok(()),
            Ok(()) => {
                let what = "the backing file is in use, and was locked by somebody to be written";
                let violation = Violation::new(Kind::NotExcluded, "opening it again", what);
                Err(violation.by(Act::Open).with_error(what).into())
            }
        }
    }

    pub(super) fn close(mut self) -> Result<(), Stop> {
        // A resize under way is given up: that is what a process that ends does.
        self.drain_for_close()?;
        self.read_whole()?;
        let Living {
            world,
            device,
            position,
            mut changes,
            observer,
            mut failed_resize,
            came_up,
            ..
        } = self;
        let capacity = device.capacity();
        let phase = Phase::Closing;
        world.phase = phase;
        world.begin(Work::Usual);
        let closed = device.close();
        for snapshot in world.host.take_snapshots() {
            let point = Point {
                position,
                change: changes,
                phase,
            };
            changes += 1;
            world.look(observer, point, &snapshot)?;
        }
        match closed {
            Ok(()) => {
                put_in::after_closing(&world.case.defects, &world.host);
                // A clean close is as good as a flush.
                let history = &mut world.truth.history;
                let moment = history.submitted(SectorRange::default(), Change::Nothing);
                history.flushed(moment);
                settle_size(world, &mut failed_resize, capacity, None, moment)?;
                Living::check_closed(world, &came_up)?;
            }
            Err(error) if world.excuses.close(&world.host, &error) => {}
            Err(error) => {
                let what = format!("{error}, and no fault explains it");
                let violation = Violation::new(Kind::WrongStatus, "closing", what);
                return Err(violation.by(Act::Close).with_error(error).into());
            }
        }
        // What the last change of a life has done, no later change shows.
        let point = Point {
            position,
            change: changes,
            phase,
        };
        let host = world.host.clone();
        world.look(observer, point, &host)
    }

    /// Lets everything end that was submitted.
    fn drain_for_close(&mut self) -> Result<(), Stop> {
        self.device.no_more_resizes();
        if !self.gives_up_at_once {
            self.drain()?;
        }
        if let (Some(resize), Some(device)) = (&mut self.resize, self.device.resizable()) {
            self.world.coverage.hit("closed_under_a_resize");
            if !self.flying.is_empty() {
                self.world
                    .coverage
                    .hit("resize_given_up_with_requests_under_way");
            }
            // It puts things back, or leaves them for a recovery.
            resize.given_up = true;
            device.abandon_resize();
            while self.resize.is_some() && (self.step_resize()? || self.step()?) {}
        }
        self.drain()?;
        let Some((number, flown)) = self.flying.first_key_value() else {
            return Ok(());
        };
        let what = format!(
            "request {number}, {}, does not complete: the device has nothing to do",
            said(flown.operation, flown.range)
        );
        let violation = Violation::new(Kind::WrongCompletion, "before closing", what);
        Err(violation.by(Act::of(flown.operation)).into())
    }

    /// What the guest sees last, of all sectors.
    fn read_whole(&mut self) -> Result<(), Stop> {
        let when = "reading the whole device before closing";
        let moment = self.world.truth.history.read_submitted();
        self.world.begin(Work::Usual);
        let mut content = Vec::new();
        let read = read_all(&mut self.device, &mut content);
        let excused = (read.as_ref()).is_err_and(|error| self.world.excuses_read(error));
        let history = &mut self.world.truth.history;
        match read {
            Ok(()) => {
                let count = SectorCount(self.device.capacity());
                let whole = SectorRange::new(Sector(0), count);
                history.read(whole, moment, std::iter::once(&content[..]), when)?;
            }
            Err(_) if excused => history.read_failed(moment),
            Err(violation) => return Err(violation.into()),
        }
        Ok(())
    }
}
