//! What is asked of a device that is served: to be resized, and to finish a resize that was
//! interrupted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use driver::cow::JournalRecord;
use driver::ordered::{Desk, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized};
use driver::units::{Bytes, Sector};
use userhelper::image_host::ImageHost;
use userhelper::planner::{Plan, Wish};
use userhelper::progress::Progress;
use userhelper::real_files::{RealFile, RealHost};
use userhelper::reflow::{LIVE_WINDOW, Reflow};
use userhelper::resize::{WishedResize, plan_live};

use crate::device::{DeviceError, SentResize};
use crate::locked::locked;
use crate::serve::Export;

use super::planned::{Planned, Seen};
use super::{CannotResize, Grown};

impl Export {
    /// Tells `grown` of each new size from now on.
    pub fn when_resized(&self, grown: Grown) {
        locked(&self.resizing().watchers).push(grown);
    }

    /// Resizes the device while it is served, and waits until that has ended.
    ///
    /// # Errors
    /// See [`CannotResize`].
    pub fn resize(&self, wish: Wish) -> Result<Resized, CannotResize> {
        self.resize_with_notes(wish).map(|(resized, _)| resized)
    }

    /// As [`Export::resize`]; also what it cost beside time and space, which whoever runs the
    /// server has been told when it was planned.
    pub(in crate::serve) fn resize_with_notes(
        &self,
        wish: Wish,
    ) -> Result<(Resized, Vec<String>), CannotResize> {
        self.resizes()?;
        let planned = self.begin(wish.new_size, None)?;
        let (plans, tell) = (planned.clone(), self.teller());
        let seen = move |plan: &Plan, progress: Progress| {
            for note in &plan.notes {
                tell(&format_args!("note: {note}"));
            }
            plans.set(Seen::of(plan, progress));
        };
        let resize = WishedResize::new(RealHost, &self.about().path, wish).when_planned(seen);
        let resized = self.carry_out(Box::new(resize))?;
        let notes = planned.seen().map(|seen| seen.notes);
        Ok((resized, notes.unwrap_or_default()))
    }

    /// Plans a resize, and does nothing else.
    ///
    /// # Errors
    /// See [`CannotResize`].
    pub(in crate::serve) fn plan_resize(&self, wish: Wish) -> Result<Plan, CannotResize> {
        self.resizes()?;
        self.may_begin()?;
        self.resizing().has_room()?;
        let found = Arc::default();
        let looked = Looked {
            path: self.about().path.clone(),
            wish,
            found: Arc::clone(&found),
        };
        let reply = self.submissions().resize(Box::new(looked))?;
        // Of the plan it says nothing.
        let _ended: ResizeOutcome = reply.wait()?;
        let plan = locked(&found).take();
        Ok(plan.unwrap_or(Err(ResizeError::Abandoned))?)
    }

    fn resizes(&self) -> Result<(), CannotResize> {
        match self.about().resizes {
            true => Ok(()),
            false => Err(CannotResize::Never(
                "only the driver ordered resizes, and not a read-only device",
            )),
        }
    }

    /// Finishes a reflow that opening the device came upon, while it is served.
    ///
    /// # Errors
    /// See [`CannotResize`].
    pub fn finish(&self, record: JournalRecord) -> Result<Resized, CannotResize> {
        let planned = self.begin(record.new_size, Some(record.frontier))?;
        let resize = Resumed { record, planned };
        self.carry_out(Box::new(resize))
    }

    /// Leaves a reflow that opening the device came upon as it is, because the device takes no
    /// writes, and says so.
    pub fn leave(&self, record: &JournalRecord) {
        let old_size = self.capacity().bytes();
        self.resizing()
            .leave(old_size, record.new_size, record.frontier);
        self.tell(&format_args!(
            "an interrupted resize to {} is left as it is: read-only",
            record.new_size
        ));
    }

    fn may_begin(&self) -> Result<(), CannotResize> {
        if self.is_ending() {
            return Err(ResizeError::Abandoned.into());
        }
        // While it is resized nobody can tell.
        Ok(self.file_is_whole().map_err(ResizeError::Refused)?)
    }

    fn begin(&self, new_size: Bytes, taken_up_at: Option<Sector>) -> Result<Planned, CannotResize> {
        self.may_begin()?;
        let old_size = self.capacity().bytes();
        self.resizing().begin(old_size, new_size, taken_up_at)
    }

    /// Says how a resize has ended, to whoever runs the server.
    pub fn tell_resized(&self, ended: Result<&Resized, &CannotResize>) {
        match ended {
            Ok(resized) => self.tell(&format_args!(
                "resized from {} to {} by {}",
                resized.old_size, resized.new_size, resized.strategy
            )),
            Err(error @ CannotResize::Unfinished { .. }) => self.tell(error),
            Err(error @ (CannotResize::UnderWay(_) | CannotResize::Never(_))) => {
                self.tell(&format_args!("a resize was refused: {error}"));
            }
            // The device goes on as it is.
            Err(error) => self.tell(&format_args!("the resize has failed: {error}")),
        }
    }

    /// Gives up the resize under way, if there is one.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn give_up_resizes(&self) -> Result<(), DeviceError> {
        self.submissions().give_up_resizes()
    }

    fn carry_out(&self, resize: SentResize<RealFile>) -> Result<Resized, CannotResize> {
        let begun = self.submissions().resize(resize);
        let outcome = begun.and_then(|reply| reply.wait());
        let outcome: Result<ResizeOutcome, CannotResize> = outcome.map_err(CannotResize::from);
        // It may be another file now, and as long as it should be.
        self.watch_file();
        let resized = self
            .resizing()
            .end(outcome.and_then(|outcome| Ok(outcome?)));
        // Nothing was compared meanwhile.
        self.look_at_file();
        if resized.is_ok() {
            self.resizing().tell(self.capacity());
        }
        resized
    }
}

/// A resize that is planned when its turn comes, and then given up.
struct Looked {
    path: PathBuf,
    wish: Wish,
    found: Arc<Mutex<Option<Result<Plan, ResizeError>>>>,
}

impl Resize<RealFile> for Looked {
    fn begin(self: Box<Self>, desk: Desk<RealFile>) -> Procedure {
        Box::pin(async move {
            let Looked { path, wish, found } = *self;
            let planned = desk.look(move |here| plan_live(&RealHost, &path, here.device(), wish));
            *locked(&found) = Some(planned.await?);
            Err(ResizeError::Abandoned)
        })
    }
}

/// An interrupted reflow, which is looked at when its turn comes.
struct Resumed {
    record: JournalRecord,
    planned: Planned,
}

impl Resize<RealFile> for Resumed {
    fn begin(self: Box<Self>, desk: Desk<RealFile>) -> Procedure {
        Box::pin(async move {
            let Resumed { record, planned } = *self;
            let reflow = desk.look(move |here| Reflow::resume(here.device(), record));
            let reflow = reflow.await??.while_live(LIVE_WINDOW);
            planned.set(Seen::of_rest(reflow.progress()));
            Box::new(reflow.timed_by(|| RealHost.now_ns()))
                .begin(desk)
                .await
        })
    }
}
