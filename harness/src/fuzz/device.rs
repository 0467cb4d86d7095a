//! The device of a case, whichever driver runs it.

use driver::blk::{Completion, Limits, Request};
use driver::cow::JournalRecord;
use driver::device_spec::DeviceSpec;
use driver::executor::{Executor, Wait};
use driver::linux::{self, Defects, Kernel, LinuxOpenError, LinuxUbd, OpenSpec};
use driver::open::{OpenOptions, open};
use driver::ordered::{self, Hold, Ordered};
use driver::units::Bytes;
use userhelper::at_once::AtOnce;

use crate::sim::{SideBySide, SimFile, SimHost};

use super::case::{BackingFile, Case, DriverName, Life};
use super::doubles::{self, Defective};
use super::procedure_2003::ResizeDefect;

/// The COW file of every case.
pub const COW: &str = "/disk/cow";
/// The backing file of every case.
pub const BACKING: &str = "/disk/backing";
/// A copy of the backing file under another name: a life may open the device with it.
pub const OTHER_BACKING: &str = "/disk/backing2";
/// One with other contents and the same size, where a case rebases.
pub const THIRD_BACKING: &str = "/disk/backing3";
/// A shorter one with other contents, where a case rebases to a file far away: its path is so long
/// that it goes over the end of the header's first sector.
pub const FAR_BACKING: &str = "/disk/far/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    backing4";
/// When it was modified last.
pub const BACKING_SECONDS: i64 = 1_000_000_000;

/// A running device.
pub enum Device {
    /// Run by the correct driver.
    Ordered(Box<Ordered<SimFile>>),
    /// Run by the correct driver, its host operations side by side.
    SideBySide(Box<Ordered<SimFile>>, SideBySide),
    /// Run by the correct driver, with something wrong between it and its user.
    Double(Box<Ordered<SimFile>>, Box<dyn Defective<SimFile>>),
    /// Run by the model of a kernel's.
    Linux(Box<LinuxUbd<SimFile>>),
}

/// What one step of a device came to.
#[derive(Debug)]
pub enum Step {
    /// Nothing is queued.
    Idle,
    /// Nothing can be done before a relocation has had its turn.
    Blocked,
    /// There is more to do.
    Working,
    /// A request is finished.
    Completed(Completion),
    /// The driver died.
    Died(String),
}

impl From<ordered::Step> for Step {
    fn from(step: ordered::Step) -> Step {
        match step {
            ordered::Step::Idle => Step::Idle,
            ordered::Step::Blocked => Step::Blocked,
            ordered::Step::Working => Step::Working,
            ordered::Step::Completed(completion) => Step::Completed(completion),
        }
    }
}

/// Why a device could not be brought up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidNotOpen {
    /// The driver's words.
    pub why: String,
    /// The driver did not refuse; it died.
    pub died: bool,
}

impl DidNotOpen {
    fn refused(why: impl ToString) -> DidNotOpen {
        DidNotOpen {
            why: why.to_string(),
            died: false,
        }
    }
}

/// Steps that one request may take on a device that has nothing else to do, beside those for each
/// of its sectors.
const MOST_STEPS: u64 = 10_000;
const STEPS_A_SECTOR: u64 = 16;

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCarriedOut {
    /// It is not taken, or not completed, and there is nothing more to do.
    Stalls,
    /// There is always more to do.
    DoesNotEnd,
}

/// How a device is opened, and whether it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Name the other backing file.
    pub switched: bool,
    /// Why a driver has to refuse it, if it has to.
    pub must_refuse: Option<&'static str>,
    /// Flag `s`.
    pub synchronous: bool,
    /// Words of the bitmap that may wait for a publication.
    pub pending_words: Option<u64>,
    /// How much a resize, or what finishes one, does in one go.
    pub at_once: AtOnce,
}

impl Opening {
    /// How the device of a life is opened; `before` is how it was opened in the life before.
    pub fn of(case: &Case, life: &Life, before: Opening) -> Opening {
        let image = &case.image;
        let must_refuse = match life.backing {
            // A file that is created now is made for the backing file as it is now.
            _ if image.missing => None,
            BackingFile::Modified { .. } => Some("the backing file was modified"),
            _ if image.bitmap_cut.is_some() => Some("the file ends within its bitmap"),
            _ if image.data_cut.is_some() => Some("the file ends within its dirty data"),
            _ if image.patched.is_some() => Some("a field of the header is wrong"),
            // The other backing file is not the one that was modified.
            BackingFile::Switched => None,
            // What was modified once stays so.
            BackingFile::AsItWas => before.must_refuse,
        };
        Opening {
            switched: life.backing == BackingFile::Switched,
            must_refuse,
            synchronous: life.synchronous,
            pending_words: life.pending_words,
            at_once: (life.at_once).map_or(AtOnce::default(), |len| AtOnce::of(Bytes(len))),
        }
    }

    fn backing(self) -> &'static str {
        match self.switched {
            true => OTHER_BACKING,
            false => BACKING,
        }
    }
}

impl Device {
    /// Brings up the case's device from what is on `host`.
    ///
    /// # Errors
    /// The driver's words.
    pub fn open(
        host: &SimHost,
        case: &Case,
        opening: Opening,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        let creates = Device::creates(host, case);
        match case.driver {
            DriverName::Ordered => {
                let names_backing = opening.switched || creates;
                let options = OpenOptions {
                    create: creates,
                    switch_backing: opening.switched,
                    ..OpenOptions::default()
                };
                let spec = DeviceSpec {
                    backing: names_backing.then(|| opening.backing().into()),
                    synchronous: opening.synchronous,
                    data: case.image.raw,
                    ..spec()
                };
                let mut opened = open(host, &spec, options).map_err(DidNotOpen::refused)?;
                if let Some(words) = opening.pending_words {
                    opened.device.set_pending_words(words);
                }
                doubles::when_opened(&case.defects, &mut opened.device);
                let device = Box::new(opened.device);
                let device = match doubles::of_driver(&case.defects) {
                    Some(double) => Device::Double(device, double),
                    None => Device::Ordered(device),
                };
                Ok((device, opened.interrupted))
            }
            DriverName::Linux612 => Device::open_linux(host, case, opening, Kernel::Linux6_12),
            DriverName::Linux26 => Device::open_linux(host, case, opening, Kernel::Linux2_6),
        }
    }

    /// Whether opening has to create the COW file. Only then is a backing file named that is not to
    /// be switched to: the file may name another one by now than it was created for.
    fn creates(host: &SimHost, case: &Case) -> bool {
        case.image.missing && host.inode(COW).is_none()
    }

    fn open_linux(
        host: &SimHost,
        case: &Case,
        opening: Opening,
        kernel: Kernel,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        let creates = Device::creates(host, case);
        let names_backing = opening.switched || creates || !case.kernel.cow_alone;
        let backing = names_backing.then(|| opening.backing().as_ref());
        let spec = OpenSpec {
            kernel,
            pipe_capacity: case.kernel.pipe_capacity,
            ..OpenSpec::default()
        };
        let defects = kernel_defects(case).map_err(DidNotOpen::refused)?;
        let opened = linux::bring_up(host, COW.as_ref(), backing, &spec, defects);
        let device = opened.map_err(|error| DidNotOpen {
            died: matches!(error, LinuxOpenError::Died(_)),
            ..DidNotOpen::refused(error)
        })?;
        Ok((Device::Linux(Box::new(device)), None))
    }

    /// From now on its host operations go side by side, in an order that `seed` decides on; where
    /// the driver can do that.
    pub fn go_side_by_side(self, seed: u64) -> Device {
        match self {
            Device::Ordered(device) => {
                let most = 2 + (seed % 7) as usize;
                Device::SideBySide(device, SideBySide::new(seed, most))
            }
            other => other,
        }
    }

    /// Whether its host operations go side by side.
    pub fn is_side_by_side(&self) -> bool {
        matches!(self, Device::SideBySide(..))
    }

    /// How many of its host operations are under way.
    pub fn under_way(&self) -> usize {
        match self {
            Device::SideBySide(_, under_way) => under_way.under_way(),
            Device::Ordered(_) | Device::Double(..) | Device::Linux(_) => 0,
        }
    }

    /// Submits a request; it comes back if there is no room.
    ///
    /// # Errors
    /// The request.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) => device.submit(request),
            Device::Double(device, double) => double.submit(device, request),
            Device::Linux(device) => device.submit(request),
        }
    }

    /// One step.
    pub fn step(&mut self) -> Step {
        match self {
            Device::Ordered(device) => device.step().into(),
            Device::SideBySide(device, under_way) => step_side_by_side(device, under_way),
            Device::Double(device, double) => double.step(device).into(),
            Device::Linux(device) => match device.step() {
                linux::Step::Idle => Step::Idle,
                linux::Step::Working => Step::Working,
                linux::Step::Completed(completion) => Step::Completed(completion),
                linux::Step::Died(death) => Step::Died(death.to_string()),
            },
        }
    }

    /// The sectors it offers.
    pub fn capacity(&self) -> u64 {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                device.capacity().0
            }
            Device::Linux(device) => device.capacity().0,
        }
    }

    /// The sectors that can be written: in V1 and V2 the last few may have no bit.
    pub fn writable(&self) -> u64 {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                let mapped = device.geometry().map(|geometry| geometry.mapped());
                mapped.unwrap_or(device.capacity()).0
            }
            Device::Linux(device) => device.writable().0,
        }
    }

    /// The limits that requests are cut to.
    pub fn limits(&self) -> Limits {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                device.limits()
            }
            Device::Linux(device) => device.limits(),
        }
    }

    /// Whether a flush is half done.
    pub fn is_publishing(&self) -> bool {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                device.is_publishing()
            }
            Device::Linux(_) => false,
        }
    }

    /// Makes everything durable and closes it; queued requests are dropped.
    ///
    /// # Errors
    /// The driver's words: not everything is durable.
    pub fn close(self) -> Result<(), String> {
        match self {
            Device::Ordered(device) => device.close().map(drop).map_err(|e| e.to_string()),
            Device::SideBySide(mut device, mut under_way) => {
                while let Ok(Some(ended)) = under_way.finished(Wait::ForOne) {
                    device.finish(ended);
                }
                device.close().map(drop).map_err(|e| e.to_string())
            }
            Device::Double(device, mut double) => double.close(*device),
            Device::Linux(device) => device.close().map(drop).map_err(|e| e.to_string()),
        }
    }

    /// The device itself, for a resize; the kernels' drivers have none.
    pub fn resizable(&mut self) -> Option<&mut Ordered<SimFile>> {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                Some(device)
            }
            Device::Linux(_) => None,
        }
    }

    /// Lets requests go on after a resize was given up.
    pub fn release(&mut self) {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) | Device::Double(device, _) => {
                device.set_hold(Hold::Nothing);
            }
            Device::Linux(_) => {}
        }
    }

    /// Carries out one request on a device that has nothing else to do.
    ///
    /// # Errors
    /// Why it does not complete.
    pub fn carry_out(&mut self, request: Request) -> Result<Completion, NotCarriedOut> {
        let mut steps = MOST_STEPS + request.range().count.0.saturating_mul(STEPS_A_SECTOR);
        let mut step = |device: &mut Device| {
            steps = steps.checked_sub(1).ok_or(NotCarriedOut::DoesNotEnd)?;
            Ok(device.step())
        };
        let mut submitted = self.submit(request);
        while let Err(back) = submitted {
            // A pipe smaller than the request takes it in parts.
            match (step(self)?, &self) {
                (Step::Working, Device::Linux(_)) => submitted = self.submit(back),
                _ => return Err(NotCarriedOut::Stalls),
            }
        }
        loop {
            match step(self)? {
                Step::Completed(completion) => return Ok(completion),
                Step::Working => {}
                Step::Idle | Step::Blocked | Step::Died(_) => return Err(NotCarriedOut::Stalls),
            }
        }
    }
}

/// One begin or one end of an operation, if there is any.
fn step_side_by_side(device: &mut Ordered<SimFile>, under_way: &mut SideBySide) -> Step {
    let complete = |device: &mut Ordered<SimFile>| device.next_completion().map(Step::Completed);
    if let Some(completed) = complete(device) {
        return completed;
    }
    let before = under_way.under_way();
    if !under_way.ends_next() {
        device.begin_on(under_way);
        if let Some(completed) = complete(device) {
            return completed;
        }
    }
    if under_way.under_way() > before {
        return Step::Working;
    }
    match under_way.finished(Wait::ForOne) {
        Ok(Some(ended)) => {
            device.finish(ended);
            complete(device).unwrap_or(Step::Working)
        }
        Ok(None) if device.is_busy() => Step::Blocked,
        Ok(None) => Step::Idle,
        Err(died) => Step::Died(died.what),
    }
}

/// Whether a refused request has to come again as it is: the kernel's drivers put it back on
/// their queue.
pub fn requeues(case: &Case) -> bool {
    case.driver != DriverName::Ordered
}

/// Whether the driver of a case knows discards, and writes of zeros.
pub fn discards(case: &Case) -> bool {
    case.driver != DriverName::Linux26
}

/// The defects of a kernel's driver that a case names.
///
/// # Errors
/// The name that is none.
pub fn kernel_defects(case: &Case) -> Result<Defects, String> {
    let parsed = case.defects.iter().map(|name| name.parse());
    let parsed: Result<Vec<linux::Defect>, _> = parsed.collect();
    parsed
        .map(|defects| defects.into_iter().collect())
        .map_err(|error| error.to_string())
}

/// Whether there are such defects as a case names, for its driver.
///
/// # Errors
/// The name that is none.
pub fn check_defects(case: &Case) -> Result<(), String> {
    let mut names = case.defects.iter();
    names.try_for_each(|name| check_defect(case.driver, name))
}

/// Whether `driver` can have a defect of this name: one of its own, one of a resize under it, or
/// a double of it.
///
/// # Errors
/// That there is none.
pub fn check_defect(driver: DriverName, name: &str) -> Result<(), String> {
    match driver {
        DriverName::Ordered if doubles::named(name).is_some() => Ok(()),
        DriverName::Ordered => {
            let parsed = name.parse::<ResizeDefect>();
            parsed.map(drop).map_err(|error| error.to_string())
        }
        DriverName::Linux612 | DriverName::Linux26 => {
            let parsed = name.parse::<linux::Defect>();
            parsed.map(drop).map_err(|error| error.to_string())
        }
    }
}

/// The specification of every case's device.
pub fn spec() -> DeviceSpec {
    DeviceSpec::of(COW)
}
