//! Resizes of a device that is served, one after the other: which of them is under way, and what
//! came of it.

mod asked;
mod planned;
mod told;

use std::sync::{Arc, Mutex};

use driver::resize::{ResizeError, Resized};
use driver::units::{Bytes, Sector, SectorCount};

use crate::clock::{self, Started};
use crate::device::DeviceError;
use crate::locked::locked;

use planned::Planned;

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
    /// It has stopped, and the file says that it is to be finished. The device has all its data and
    /// its old size. It takes no writes where nobody knows what the journal says.
    #[error(
        "the resize has stopped: {why}. {}: the next `ubdlab serve` finishes the move while it \
         serves, or `ubdlab image recover` does; then the device has {new_size}",
        how_far(*.is_half_moved)
    )]
    Unfinished {
        /// Why it has stopped.
        why: String,
        /// Some of the data is at its new place.
        is_half_moved: bool,
        /// What the device has when somebody has finished the move.
        new_size: Bytes,
    },
    /// The device does not go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn how_far(is_half_moved: bool) -> &'static str {
    match is_half_moved {
        true => "The file is half moved",
        false => "Nothing is moved, but the file says that the move has begun",
    }
}

/// The resizes of a device, one after the other.
#[derive(Default)]
pub(super) struct Resizing {
    series: Mutex<Series>,
    watchers: Mutex<Vec<Grown>>,
}

/// Those that have begun.
#[derive(Default)]
struct Series {
    /// The one under way, or the latest.
    latest: Option<Latest>,
    /// How many have begun.
    begun: u64,
}

impl Series {
    /// Whether one more may begin.
    fn have_room(&self) -> Result<(), CannotResize> {
        let Some(latest) = &self.latest else {
            return Ok(());
        };
        match &latest.ended {
            None => Err(CannotResize::UnderWay(latest.new_size)),
            // It has to be finished first, and stays what the status tells.
            Some((_, Ended::Not(stopped @ CannotResize::Unfinished { .. }))) => {
                Err(stopped.clone())
            }
            Some(_) => Ok(()),
        }
    }
}

struct Latest {
    old_size: Bytes,
    new_size: Bytes,
    started: Started,
    planned: Planned,
    /// Of one that was interrupted and is taken up again: the frontier that it begins with.
    taken_up_at: Option<Sector>,
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
    fn begin(old_size: Bytes, new_size: Bytes, taken_up_at: Option<Sector>) -> Latest {
        Latest {
            old_size,
            new_size,
            started: clock::start(),
            planned: Planned::default(),
            taken_up_at,
            ended: None,
        }
    }

    /// Whether data has moved, which nothing moves back.
    fn is_half_moved(&self) -> bool {
        let frontier = self.planned.frontier().or(self.taken_up_at);
        let end = Sector(0) + self.old_size.whole_sectors();
        frontier.is_some_and(|frontier| frontier < end)
    }

    /// What is true of one that has ended because of `error`.
    fn stopped(&self, error: CannotResize) -> CannotResize {
        let is_half_moved = self.is_half_moved();
        match error {
            // It says all that is known: nobody has looked at the file since then.
            CannotResize::Device(_) => error,
            error if is_half_moved || self.taken_up_at.is_some() => CannotResize::Unfinished {
                why: error.to_string(),
                is_half_moved,
                new_size: self.new_size,
            },
            error => error,
        }
    }
}

impl Resizing {
    /// One begins, unless another is under way. The file of one that is taken up again says that
    /// its frontier is `taken_up_at`.
    fn begin(
        &self,
        old_size: Bytes,
        new_size: Bytes,
        taken_up_at: Option<Sector>,
    ) -> Result<Planned, CannotResize> {
        let mut series = locked(&self.series);
        series.have_room()?;
        let latest = Latest::begin(old_size, new_size, taken_up_at);
        let planned = latest.planned.clone();
        *series = Series {
            latest: Some(latest),
            begun: series.begun + 1,
        };
        Ok(planned)
    }

    /// Whether one could begin now.
    fn has_room(&self) -> Result<(), CannotResize> {
        locked(&self.series).have_room()
    }

    /// One that was interrupted with this frontier stays so.
    fn leave(&self, old_size: Bytes, new_size: Bytes, frontier: Sector) {
        let mut left = Latest::begin(old_size, new_size, Some(frontier));
        left.ended = Some((0, Ended::Left(frontier)));
        locked(&self.series).latest = Some(left);
    }

    /// The resize under way has ended so; what is true of it then.
    fn end(&self, ended: Result<Resized, CannotResize>) -> Result<Resized, CannotResize> {
        let mut series = locked(&self.series);
        let Some(latest) = &mut series.latest else {
            return ended;
        };
        let ended = ended.map_err(|error| latest.stopped(error));
        let noted = match &ended {
            Ok(resized) => Ended::Well(*resized),
            Err(error) => Ended::Not(error.clone()),
        };
        latest.ended = Some((latest.started.elapsed_ns(), noted));
        ended
    }

    /// How many have ended; `None` while one is under way.
    pub(super) fn count(&self) -> Option<u64> {
        let series = locked(&self.series);
        let is_under_way = matches!(&series.latest, Some(Latest { ended: None, .. }));
        (!is_under_way).then_some(series.begun)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::ResizeState;

    const OLD_SIZE: Bytes = Bytes(1 << 20);
    const NEW_SIZE: Bytes = Bytes(4 << 20);
    const END: Sector = Sector(2048);

    /// A resize that has ended because of `error`: what is true of it, and what the status says.
    fn stopped(taken_up_at: Option<Sector>, error: CannotResize) -> (CannotResize, ResizeState) {
        let resizing = Resizing::default();
        resizing.begin(OLD_SIZE, NEW_SIZE, taken_up_at).unwrap();
        let stopped = resizing.end(Err(error)).unwrap_err();
        (stopped, resizing.status().unwrap().state)
    }

    #[test]
    fn the_reason_why_one_has_stopped_comes_first_and_then_what_is_true_of_the_file() {
        let given_up = || CannotResize::Failed(ResizeError::Abandoned);
        assert_eq!(stopped(None, given_up()).0, given_up());
        for (taken_up_at, says) in [
            (Sector(100), "The file is half moved"),
            (
                END,
                "Nothing is moved, but the file says that the move has begun",
            ),
        ] {
            let (stopped, state) = stopped(Some(taken_up_at), given_up());
            let error = stopped.to_string();
            let begins = format!("the resize has stopped: the resize was given up. {says}: the ");
            assert!(error.starts_with(&begins), "{error}");
            assert!(error.ends_with("then the device has 4 MiB"), "{error}");
            assert_eq!(state, ResizeState::Unfinished { error });
        }
    }

    #[test]
    fn one_that_is_unfinished_keeps_others_back_and_stays_what_is_told() {
        let resizing = Resizing::default();
        resizing.begin(OLD_SIZE, NEW_SIZE, Some(END)).unwrap();
        let stopped = resizing.end(Err(ResizeError::Abandoned.into()));
        let stopped = stopped.unwrap_err();
        let refused = resizing.begin(OLD_SIZE, Bytes(2 << 20), None).err();
        assert_eq!(refused, Some(stopped.clone()));
        let status = resizing.status().unwrap();
        assert_eq!(status.new_size_bytes, NEW_SIZE.0);
        let error = stopped.to_string();
        assert_eq!(status.state, ResizeState::Unfinished { error });
    }

    #[test]
    fn a_device_that_does_not_go_on_says_so_however_far_the_resize_was() {
        let died = || CannotResize::Device(DeviceError::Stopped);
        for taken_up_at in [None, Some(Sector(100)), Some(END)] {
            let (stopped, state) = stopped(taken_up_at, died());
            assert_eq!(stopped, died());
            let error = died().to_string();
            assert_eq!(state, ResizeState::Failed { error });
        }
    }

    #[test]
    fn one_begins_when_the_one_before_has_ended() {
        let resizing = Resizing::default();
        assert_eq!(resizing.count(), Some(0));
        resizing.begin(OLD_SIZE, NEW_SIZE, None).unwrap();
        assert_eq!(resizing.count(), None);
        let refused = resizing.begin(OLD_SIZE, Bytes(2 << 20), None).err();
        assert_eq!(refused, Some(CannotResize::UnderWay(NEW_SIZE)));
        resizing
            .end(Err(ResizeError::Abandoned.into()))
            .unwrap_err();
        assert_eq!(resizing.count(), Some(1));
        resizing.begin(OLD_SIZE, NEW_SIZE, None).unwrap();
    }
}
