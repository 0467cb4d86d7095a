//! A device of a case whose host operations go side by side: one begin or one end of an operation
//! a step. A [`Meddler`] may be put between the device and whoever carries the operations out.

use driver::blk::Completion;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, Operation};
use driver::ordered::{Ordered, Step};
use driver::resize::ResizeStep;

use crate::sim::{Happened, SideBySide, SimFile};

use super::doubles::{Beneath, Meddler, StepsDevice};

/// What is under way of a device.
#[derive(Debug)]
pub struct Beside {
    under_way: SideBySide,
    meddler: Option<Box<dyn Meddler>>,
    /// A request that was complete before anybody asked.
    completed: Option<Completion>,
}

impl Beside {
    /// Nothing, so far; `meddler` comes between.
    pub fn new(under_way: SideBySide, meddler: Option<Box<dyn Meddler>>) -> Beside {
        Beside {
            under_way,
            meddler,
            completed: None,
        }
    }

    /// How many operations are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.under_way()
    }

    /// Whether whoever uses the device goes on now, rather than that the device takes a step
    /// first. It `acts` if what comes next may ask something of the host itself.
    pub(super) fn goes_on(&mut self, device: &mut Ordered<SimFile>, acts: bool) -> bool {
        if !self.under_way.is_decided() {
            return true;
        }
        while self.begin_one(device) {}
        if self.completed.is_none() {
            self.completed = device.next_completion();
        }
        let is_told = self.meddler.as_ref().is_some_and(|it| it.has_news());
        !is_told && self.completed.is_none() && self.under_way.goes_on(acts)
    }

    /// The completion of a request that has ended, without a step.
    pub(super) fn next_completed(&mut self, device: &mut Ordered<SimFile>) -> Option<Completion> {
        self.completed.take().or_else(|| device.next_completion())
    }

    /// One step of the resize under way, whose operation goes side by side with those of requests.
    /// Where orders are decided, or a meddler takes what it sees for a request's, it is carried
    /// out where it is given: there would be too many orders otherwise.
    pub(super) fn step_resize(&mut self, device: &mut Ordered<SimFile>) -> ResizeStep {
        match self.under_way.is_decided() || self.meddler.is_some() {
            true => device.step_resize(),
            false => device.step_resize_on(&mut self.under_way),
        }
    }

    /// Lets all end that is under way.
    pub(super) fn end_all(&mut self, device: &mut Ordered<SimFile>) {
        if let Some(meddler) = &mut self.meddler {
            meddler.close(Beneath::new(device, &mut self.under_way));
        }
        loop {
            match self.happen(device) {
                Happened::Nothing => return,
                Happened::Effect => {}
                Happened::End(finished) => device.finish(finished),
            }
        }
    }

    /// Begins an operation, if the device has one. Whether it had.
    fn begin_one(&mut self, device: &mut Ordered<SimFile>) -> bool {
        let Some(meddler) = &mut self.meddler else {
            let before = self.under_way.under_way();
            device.begin_on(&mut self.under_way);
            return self.under_way.under_way() > before;
        };
        let mut taken = Taken(None);
        device.begin_on(&mut taken);
        let Some((operation, files)) = taken.0 else {
            return false;
        };
        let under_way = &mut self.under_way;
        meddler.begin(operation, &files, Beneath::new(device, under_way));
        true
    }

    fn happen(&mut self, device: &Ordered<SimFile>) -> Happened {
        let under_way = &mut self.under_way;
        match &mut self.meddler {
            Some(meddler) => meddler.happen(Beneath::new(device, under_way)),
            None => under_way.happen(),
        }
    }
}

impl StepsDevice<SimFile> for Beside {
    /// One begin or one end of an operation, if there is any. Where orders are decided, all begin
    /// that can, and one takes effect or ends.
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Step {
        let complete = |device: &mut Ordered<SimFile>| device.next_completion();
        if let Some(completed) = self.completed.take().or_else(|| complete(device)) {
            return Step::Completed(completed);
        }
        if !self.under_way.ends_next() {
            let mut begun = self.begin_one(device);
            if let Some(completed) = complete(device) {
                return Step::Completed(completed);
            }
            if begun && !self.under_way.is_decided() {
                return Step::Working;
            }
            while begun {
                begun = self.begin_one(device);
            }
            if let Some(completed) = complete(device) {
                return Step::Completed(completed);
            }
        }
        match self.happen(device) {
            Happened::End(finished) => {
                device.finish(finished);
                complete(device).map_or(Step::Working, Step::Completed)
            }
            Happened::Effect => Step::Working,
            Happened::Nothing if device.is_busy() => Step::Blocked,
            Happened::Nothing => Step::Idle,
        }
    }
}

/// Takes one operation, and does not carry it out.
struct Taken(Option<(Operation, Files<SimFile>)>);

impl Executor<SimFile> for Taken {
    fn room(&self) -> usize {
        usize::from(self.0.is_none())
    }

    fn under_way(&self) -> usize {
        usize::from(self.0.is_some())
    }

    fn begin(&mut self, operation: Operation, files: &Files<SimFile>) {
        self.0 = Some((operation, files.clone()));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(None)
    }
}
