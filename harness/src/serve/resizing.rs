//! Resizes of a device that is served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use driver::cow::JournalRecord;
use driver::ordered::{Desk, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, Sector, SectorCount};
use userhelper::image_host::ImageHost;
use userhelper::planner::{Plan, Wish};
use userhelper::progress::Progress;
use userhelper::real_files::{RealFile, RealHost};
use userhelper::reflow::{LIVE_WINDOW, Reflow};
use userhelper::resize::WishedResize;

use crate::clock::{self, Started};
use crate::device::{DeviceError, SentResize};
use crate::locked::locked;

use super::export::Export;
use super::status::{ResizeState, ResizeStatus};

/// Is told the new size after each resize, and may take its time. Whether it wants to hear of the
/// next one too.
pub type Grown = Arc<dyn Fn(SectorCount) -> bool + Send + Sync>;

/// Why a resize does not begin, or has ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotResize {
    /// One is under way.
    #[error("a resize to {} is under way: wait until it has ended", .0)]
    UnderWay(Bytes),
    /// The device does not resize.
    #[error("the device cannot be resized: {0}")]
    Never(&'static str),
    /// It has failed; the device has its old size, all its data, and goes on.
    #[error(transparent)]
    Failed(#[from] ResizeError),
    /// It has stopped when data had been moved already. The device has all its data and goes on
    /// with its old size.
    #[error(
        "the resize has stopped half-way, because data has moved already ({why}): the file says \
         so, and the next `ubdlab serve` finishes it while it serves, or `ubdlab image recover` \
         does; then the device has {new_size}"
    )]
    HalfMoved {
        /// Why it has stopped.
        why: String,
        /// What the device has when somebody has finished the move.
        new_size: Bytes,
    },
    /// The device does not go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// The resizes of a device, one after the other.
#[derive(Default)]
pub(super) struct Resizing {
    /// The one under way, or the latest.
    latest: Mutex<Option<Latest>>,
    /// How many have begun.
    begun: AtomicU64,
    watchers: Mutex<Vec<Grown>>,
}

struct Latest {
    old_size: Bytes,
    new_size: Bytes,
    started: Started,
    planned: Planned,
    /// Data had moved before it began: it finishes what was interrupted.
    resumes: bool,
    ended: Option<(u64, Ended)>,
}

/// How a resize has ended.
enum Ended {
    Well(Resized),
    Not(CannotResize),
    /// It was interrupted before, with this frontier, and stays so.
    Left(Sector),
}

impl Latest {
    /// Whether data has moved, which nothing moves back.
    fn has_moved(&self) -> bool {
        let seen = locked(&self.planned.0);
        let frontier = seen.as_ref().and_then(|seen| seen.progress.frontier());
        let end = Sector(0) + self.old_size.whole_sectors();
        self.resumes || frontier.is_some_and(|frontier| frontier < end)
    }
}

/// What a resize is planned to be, once it has been.
#[derive(Clone, Default)]
struct Planned(Arc<Mutex<Option<Seen>>>);

#[derive(Clone)]
struct Seen {
    strategy: String,
    /// Not known of a reflow that is taken up again.
    to_move: Option<Bytes>,
    notes: Vec<String>,
    progress: Progress,
}

impl Planned {
    fn set(&self, seen: Seen) {
        *locked(&self.0) = Some(seen);
    }
}

impl Latest {
    fn begun(old_size: Bytes, new_size: Bytes, resumes: bool) -> Latest {
        Latest {
            old_size,
            new_size,
            started: clock::start(),
            planned: Planned::default(),
            resumes,
            ended: None,
        }
    }
}

impl Resizing {
    pub(super) fn status(&self) -> Option<ResizeStatus> {
        let latest = locked(&self.latest);
        let latest = latest.as_ref()?;
        let seen = locked(&latest.planned.0).clone();
        let progress = seen.as_ref().map(|seen| seen.progress.clone());
        let (elapsed_ns, state) = match &latest.ended {
            None => (latest.started.elapsed_ns(), ResizeState::Running),
            Some((ns, Ended::Well(_))) => (*ns, ResizeState::Done),
            Some((ns, Ended::Left(_))) => (*ns, ResizeState::Left),
            Some((ns, Ended::Not(error))) => {
                let words = error.to_string();
                let state = match error {
                    CannotResize::HalfMoved { .. } => ResizeState::Unfinished { error: words },
                    _ => ResizeState::Failed { error: words },
                };
                (*ns, state)
            }
        };
        let frontier = match &latest.ended {
            Some((_, Ended::Left(frontier))) => Some(*frontier),
            _ => progress.as_ref().and_then(Progress::frontier),
        };
        let moved = match &latest.ended {
            Some((_, Ended::Well(resized))) => resized.moved,
            _ => progress.as_ref().map(Progress::passed).unwrap_or_default(),
        };
        Some(ResizeStatus {
            old_size_bytes: latest.old_size.0,
            new_size_bytes: latest.new_size.0,
            strategy: seen.as_ref().map(|seen| seen.strategy.clone()),
            moved_bytes: moved.0,
            to_move_bytes: seen
                .as_ref()
                .and_then(|seen| seen.to_move)
                .map(|most| most.0),
            frontier_sector: frontier.map(|sector| sector.0),
            notes: seen.map(|seen| seen.notes).unwrap_or_default(),
            elapsed_ns,
            state,
        })
    }

    fn begin(
        &self,
        old_size: Bytes,
        new_size: Bytes,
        resumes: bool,
    ) -> Result<Planned, CannotResize> {
        let mut latest = locked(&self.latest);
        if let Some(Latest {
            ended: None,
            new_size,
            ..
        }) = &*latest
        {
            return Err(CannotResize::UnderWay(*new_size));
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let begun = Latest::begun(old_size, new_size, resumes);
        let planned = begun.planned.clone();
        *latest = Some(begun);
        Ok(planned)
    }

    /// The resize under way has ended so; what is true of it then.
    fn end(&self, ended: Result<Resized, CannotResize>) -> Result<Resized, CannotResize> {
        let mut latest = locked(&self.latest);
        let Some(latest) = &mut *latest else {
            return ended;
        };
        let ended = ended.map_err(|error| match latest.has_moved() {
            true => CannotResize::HalfMoved {
                why: error.to_string(),
                new_size: latest.new_size,
            },
            false => error,
        });
        let noted = match &ended {
            Ok(resized) => Ended::Well(*resized),
            Err(error) => Ended::Not(error.clone()),
        };
        latest.ended = Some((latest.started.elapsed_ns(), noted));
        ended
    }

    /// How many have ended; `None` while one is under way.
    pub(super) fn count(&self) -> Option<u64> {
        let latest = locked(&self.latest);
        let is_under_way = matches!(&*latest, Some(Latest { ended: None, .. }));
        (!is_under_way).then(|| self.begun.load(Ordering::Relaxed))
    }

    fn tell(&self, capacity: SectorCount) {
        let watchers = locked(&self.watchers).clone();
        let has_gone = |grown: &Grown| !grown(capacity);
        let gone: Vec<_> = watchers.into_iter().filter(has_gone).collect();
        if !gone.is_empty() {
            let is_gone = |grown: &Grown| gone.iter().any(|gone| Arc::ptr_eq(gone, grown));
            locked(&self.watchers).retain(|grown| !is_gone(grown));
        }
    }
}

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
    pub(super) fn resize_with_notes(
        &self,
        wish: Wish,
    ) -> Result<(Resized, Vec<String>), CannotResize> {
        if !self.about().resizes {
            return Err(CannotResize::Never(
                "only the driver ordered resizes, and not a read-only device",
            ));
        }
        let planned = self.begin(wish.new_size, false)?;
        let (plans, tell) = (planned.clone(), self.teller());
        let seen = move |plan: &Plan, progress: Progress| {
            for note in &plan.notes {
                tell(&format_args!("note: {note}"));
            }
            plans.set(Seen {
                strategy: plan.strategy.to_string(),
                to_move: Some(plan.to_move),
                notes: plan.notes.clone(),
                progress,
            });
        };
        let resize = WishedResize::new(RealHost, &self.about().path, wish).when_planned(seen);
        let resized = self.carry_out(Box::new(resize))?;
        let seen = locked(&planned.0).clone();
        Ok((resized, seen.map(|seen| seen.notes).unwrap_or_default()))
    }

    /// Finishes a reflow that opening the device came upon, while it is served.
    ///
    /// # Errors
    /// See [`CannotResize`].
    pub fn finish(&self, record: JournalRecord) -> Result<Resized, CannotResize> {
        let planned = self.begin(record.new_size, true)?;
        let resize = Resumed { record, planned };
        self.carry_out(Box::new(resize))
    }

    /// Leaves a reflow that opening the device came upon as it is, because the device takes no
    /// writes, and says so.
    pub fn leave(&self, record: &JournalRecord) {
        let mut left = Latest::begun(self.capacity().bytes(), record.new_size, true);
        left.ended = Some((0, Ended::Left(record.frontier)));
        *locked(&self.resizing().latest) = Some(left);
        self.tell(&format_args!(
            "an interrupted resize to {} is left as it is: read-only",
            record.new_size
        ));
    }

    fn begin(&self, new_size: Bytes, resumes: bool) -> Result<Planned, CannotResize> {
        if self.is_ending() {
            return Err(ResizeError::Abandoned.into());
        }
        let old_size = self.capacity().bytes();
        self.resizing().begin(old_size, new_size, resumes)
    }

    /// Says how a resize has ended, to whoever runs the server.
    pub fn tell_resized(&self, ended: Result<&Resized, &CannotResize>) {
        match ended {
            Ok(resized) => self.tell(&format_args!(
                "resized from {} to {} by {}",
                resized.old_size, resized.new_size, resized.strategy
            )),
            Err(error @ CannotResize::HalfMoved { .. }) => self.tell(error),
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
        if resized.is_ok() {
            self.resizing().tell(self.capacity());
        }
        resized
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
            planned.set(Seen {
                strategy: Strategy::Reflow.to_string(),
                to_move: None,
                notes: Vec::new(),
                progress: reflow.progress(),
            });
            Box::new(reflow.timed_by(|| RealHost.now_ns()))
                .begin(desk)
                .await
        })
    }
}
