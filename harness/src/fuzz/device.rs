//! The device of a case, whichever driver runs it.

use driver::blk::{Completion, Limits, Request};
use driver::cow::{JournalRecord, PagesAtOnce};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::executor::Executor;
use driver::host::Finished;
use driver::linux::{self, Defects, Kernel, LinuxOpenError, LinuxUbd, OpenSpec};
use driver::open::{OpenOptions, open};
use driver::ordered::{Ordered, Statistics};
use driver::resize::ResizeStep;
use driver::units::{Bytes, SectorCount};
use userhelper::at_once::AtOnce;

use crate::sim::{SimFile, SimHost};

use super::beside::Beside;
use super::case::{BackingFile, Case, DriverName, Life};
use super::defect::CaseDefect;
use super::doubles::{Doubled, StepsDevice};
use super::paths::{BACKING, COW, OTHER_BACKING};
use super::put_in;

pub use driver::driver::{NotServed, Step};

/// A running device.
pub enum Device {
    /// Run by the correct driver.
    Ordered(Box<Ordered<SimFile>>),
    /// Run by the correct driver, its host operations side by side.
    SideBySide(Box<Ordered<SimFile>>, Beside),
    /// Run by the correct driver, with something wrong between it and its user; its host operations
    /// side by side, if there is something for that.
    Double(Box<Doubled<SimFile>>, Option<Beside>),
    /// Run by the model of a kernel's.
    Linux(Box<LinuxUbd<SimFile>>),
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
        let at_once = (life.at_once).map_or(AtOnce::default(), |len| AtOnce::of(Bytes(len)));
        Opening {
            switched: life.backing == BackingFile::Switched,
            must_refuse,
            synchronous: life.synchronous,
            pending_words: life.pending_words,
            at_once,
        }
    }

    fn backing(self) -> &'static str {
        match self.switched {
            true => OTHER_BACKING,
            false => BACKING,
        }
    }
}

/// How much of a bitmap the driver reads or writes in one go, where a resize does this much: what
/// is usual, where that is usual.
pub(super) fn pages_at_once(at_once: AtOnce) -> PagesAtOnce {
    match at_once == AtOnce::default() {
        true => PagesAtOnce::USUAL,
        false => at_once.pages(),
    }
}

impl Device {
    /// Brings up the case's device from what is on `host`.
    ///
    /// # Errors
    /// The driver's words, or that it cannot have a defect of the case.
    pub fn open(
        host: &SimHost,
        case: &Case,
        opening: Opening,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        Device::open_remembering(host, case, opening, None)
    }

    /// As [`Device::open`], by a kernel whose memory still holds this header of an opening before.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_remembering(
        host: &SimHost,
        case: &Case,
        opening: Opening,
        remembered: Option<Vec<u8>>,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        // What the driver cannot have would run as if it were not there.
        case.check_defects().map_err(DidNotOpen::refused)?;
        let creates = Device::creates(host, case);
        match case.driver {
            DriverName::Ordered => {
                let names_backing = opening.switched || creates;
                let options = OpenOptions {
                    create: creates,
                    switch_backing: opening.switched,
                    pages_at_once: pages_at_once(opening.at_once),
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
                put_in::when_opened(&case.defects, &mut opened.device);
                let device = Box::new(opened.device);
                let device = match put_in::of_driver(&case.defects) {
                    Some(double) => Device::Double(Box::new(Doubled::new(device, double)), None),
                    None => Device::Ordered(device),
                };
                Ok((device, opened.interrupted))
            }
            DriverName::Linux612 => {
                Device::open_linux(host, case, opening, Kernel::Linux6_12, remembered)
            }
            DriverName::Linux26 => {
                Device::open_linux(host, case, opening, Kernel::Linux2_6, remembered)
            }
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
        remembered: Option<Vec<u8>>,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        let creates = Device::creates(host, case);
        let names_backing = opening.switched || creates || !case.kernel.cow_alone;
        let backing = names_backing.then(|| opening.backing().as_ref());
        let spec = OpenSpec {
            kernel,
            pipe_capacity: case.kernel.pipe_capacity,
            remembered,
            ..OpenSpec::default()
        };
        let defects = kernel_defects(case);
        let opened = linux::bring_up(host, COW.as_ref(), backing, &spec, defects);
        let device = opened.map_err(|error| DidNotOpen {
            died: matches!(error, LinuxOpenError::Died(_)),
            ..DidNotOpen::refused(error)
        })?;
        Ok((Device::Linux(Box::new(device)), None))
    }

    /// From now on its host operations go side by side, where the driver can do that.
    pub fn go_side_by_side(self, beside: Beside) -> Device {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) => {
                Device::SideBySide(device, beside)
            }
            Device::Double(device, _) => Device::Double(device, Some(beside)),
            Device::Linux(_) => self,
        }
    }

    /// Whether whoever uses the device goes on now, rather than that the device takes a step
    /// first. It `acts` if what comes next is more than a request.
    pub(super) fn goes_on(&mut self, acts: bool) -> bool {
        match self {
            Device::SideBySide(device, beside) => beside.goes_on(device, acts),
            Device::Double(device, Some(beside)) => {
                let device = device.ordered();
                device.is_none_or(|device| beside.goes_on(device, acts))
            }
            Device::Ordered(_) | Device::Double(_, None) | Device::Linux(_) => true,
        }
    }

    /// Whether its host operations go side by side.
    pub fn is_side_by_side(&self) -> bool {
        matches!(self, Device::SideBySide(..) | Device::Double(_, Some(_)))
    }

    /// How many of its host operations are under way.
    pub fn under_way(&self) -> usize {
        match self {
            Device::SideBySide(_, beside) | Device::Double(_, Some(beside)) => beside.under_way(),
            Device::Ordered(_) | Device::Double(_, None) | Device::Linux(_) => 0,
        }
    }

    /// The sectors it offers.
    pub fn capacity(&self) -> u64 {
        self.driver().capacity().0
    }

    /// The sectors that can be written: in V1 and V2 the last few may have no bit.
    pub fn writable(&self) -> u64 {
        self.driver().writable().0
    }

    /// One step of the resize under way; see [`Ordered::step_resize`].
    pub fn step_resize(&mut self) -> ResizeStep {
        if let Device::SideBySide(device, beside) = self {
            return beside.step_resize(device);
        }
        let device = self.resizable();
        device.map_or(ResizeStep::Idle, |device| device.step_resize())
    }

    /// Whether [`Device::next_completed`] tells of all requests that have ended: a double may come
    /// between its device and whoever waits for completions.
    pub(super) fn tells_ends(&self) -> bool {
        match self {
            Device::Ordered(_) | Device::SideBySide(..) => true,
            Device::Double(device, _) => device.tells_ends(),
            Device::Linux(_) => false,
        }
    }

    /// The completion of a request that has ended, without a step.
    pub(super) fn next_completed(&mut self) -> Option<Completion> {
        match self {
            Device::SideBySide(device, beside) => beside.next_completed(device),
            Device::Double(device, Some(beside)) => device
                .ordered()
                .and_then(|device| beside.next_completed(device)),
            other => other.driver_mut().next_completion(),
        }
    }

    /// No resize has another step.
    pub(super) fn no_more_resizes(&mut self) {
        if let Device::Double(device, _) = self {
            device.no_more_resizes();
        }
    }

    /// The device itself, for a resize; the kernels' drivers have none.
    pub fn resizable(&mut self) -> Option<&mut Ordered<SimFile>> {
        self.driver_mut().ordered()
    }

    fn driver(&self) -> &dyn Driver<File = SimFile> {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) => &**device,
            Device::Double(device, _) => &**device,
            Device::Linux(device) => &**device,
        }
    }

    fn driver_mut(&mut self) -> &mut dyn Driver<File = SimFile> {
        match self {
            Device::Ordered(device) | Device::SideBySide(device, _) => &mut **device,
            Device::Double(device, _) => &mut **device,
            Device::Linux(device) => &mut **device,
        }
    }
}

impl Driver for Device {
    type File = SimFile;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.driver_mut().submit(request)
    }

    fn step(&mut self) -> Step {
        match self {
            Device::SideBySide(device, beside) => beside.step(device).into(),
            Device::Double(device, Some(beside)) => device.step_on(beside),
            other => other.driver_mut().step(),
        }
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<SimFile>) {
        self.driver_mut().begin_on(executor);
    }

    fn finish(&mut self, finished: Finished) {
        self.driver_mut().finish(finished);
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.driver_mut().next_completion()
    }

    fn is_busy(&self) -> bool {
        self.driver().is_busy()
    }

    fn death(&self) -> Option<String> {
        self.driver().death()
    }

    fn capacity(&self) -> SectorCount {
        self.driver().capacity()
    }

    fn writable(&self) -> SectorCount {
        self.driver().writable()
    }

    fn limits(&self) -> Limits {
        self.driver().limits()
    }

    fn statistics(&self) -> Statistics {
        self.driver().statistics()
    }

    fn is_publishing(&self) -> bool {
        self.driver().is_publishing()
    }

    fn dirty_count(&self) -> SectorCount {
        self.driver().dirty_count()
    }

    fn ordered(&mut self) -> Option<&mut Ordered<SimFile>> {
        self.resizable()
    }

    fn close(self) -> Result<(), String> {
        match self {
            Device::Ordered(device) => Driver::close(*device),
            Device::SideBySide(mut device, mut beside) => {
                beside.end_all(&mut device);
                Driver::close(*device)
            }
            Device::Double(mut device, mut beside) => {
                if let (Some(beside), Some(device)) = (&mut beside, device.ordered()) {
                    beside.end_all(device);
                }
                Driver::close(*device)
            }
            Device::Linux(device) => Driver::close(*device),
        }
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

/// The defects of a kernel's driver that a case has.
fn kernel_defects(case: &Case) -> Defects {
    let of_kernel = case.defects.iter().filter_map(|defect| match defect {
        CaseDefect::Kernel(defect) => Some(*defect),
        CaseDefect::Resize(_) | CaseDefect::Double(_) => None,
    });
    of_kernel.collect()
}

/// The specification of every case's device.
pub fn spec() -> DeviceSpec {
    DeviceSpec::of(COW)
}

#[cfg(test)]
mod tests {
    use super::super::generate::{Subject, generate};
    use super::*;

    #[test]
    fn a_defect_of_another_driver_is_refused() {
        let foreign = [
            (DriverName::Ordered, "flush-noop"),
            (DriverName::Linux612, "forward-copy"),
            (DriverName::Linux26, "failed-opening-empties"),
        ];
        for (driver, name) in foreign {
            let mut case = generate(1, &Subject::healthy(driver));
            case.defects = vec![name.parse().unwrap()];
            let opened = Device::open(&SimHost::default(), &case, Opening::default());
            let Err(refused) = opened else {
                panic!("{} has {name}", driver.name());
            };
            let driver = driver.name();
            let why = format!("defects: found {name}, expected defects that {driver} can have");
            assert_eq!(refused, DidNotOpen::refused(why));
        }
    }
}
