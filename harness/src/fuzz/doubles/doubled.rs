//! A driver with a double between it and its user.

use driver::blk::{Completion, Limits, Request};
use driver::driver::{Driver, ReadPlace, Step};
use driver::executor::Executor;
use driver::host::{Finished, HostFile};
use driver::ordered::{Ordered, Statistics};
use driver::units::{SectorCount, SectorRange};

use super::{Defective, Driven, StepsDevice};

/// The driver and its double. The double comes between where the driver is stepped.
pub struct Doubled<F: HostFile> {
    device: Box<Ordered<F>>,
    double: Box<dyn Defective<F>>,
}

impl<F: HostFile> Doubled<F> {
    /// Puts `double` before `device`.
    pub fn new(device: Box<Ordered<F>>, double: Box<dyn Defective<F>>) -> Doubled<F> {
        Doubled { device, double }
    }

    /// Whether requests end when those of the device do.
    pub(in super::super) fn tells_ends(&self) -> bool {
        self.double.tells_ends()
    }

    /// No resize has another step.
    pub(in super::super) fn no_more_resizes(&mut self) {
        self.double.no_more_resizes();
    }

    /// One step of the double, where `beside` takes those of the driver.
    pub(in super::super) fn step_on(&mut self, beside: &mut dyn StepsDevice<F>) -> Step {
        let mut driven = Driven::new(&mut self.device, Some(beside));
        self.double.step(&mut driven).into()
    }
}

impl<F: HostFile> Driver for Doubled<F> {
    type File = F;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.double.submit(&mut self.device, request)
    }

    fn step(&mut self) -> Step {
        let mut driven = Driven::new(&mut self.device, None);
        self.double.step(&mut driven).into()
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<F>) {
        self.device.begin_on(executor);
    }

    fn finish(&mut self, finished: Finished) {
        self.device.finish(finished);
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.device.next_completion()
    }

    fn is_busy(&self) -> bool {
        self.device.is_busy()
    }

    fn capacity(&self) -> SectorCount {
        self.device.capacity()
    }

    fn writable(&self) -> SectorCount {
        Driver::writable(&*self.device)
    }

    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn statistics(&self) -> Statistics {
        self.device.statistics()
    }

    fn is_publishing(&self) -> bool {
        self.device.is_publishing()
    }

    fn dirty_count(&self) -> SectorCount {
        self.device.map().dirty_count()
    }

    fn ordered(&mut self) -> Option<&mut Ordered<F>> {
        Some(&mut self.device)
    }

    fn read_place(&self, range: SectorRange) -> Option<ReadPlace<'_, F>> {
        self.device.read_place(range)
    }

    fn close(mut self) -> Result<(), String> {
        self.double.close(*self.device)
    }
}
