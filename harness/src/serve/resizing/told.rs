//! How the latest resize is doing, for whoever asks.

use userhelper::progress::Progress;

use crate::locked::locked;
use crate::serve::status::{ResizeState, ResizeStatus};

use super::{CannotResize, Ended, Resizing};

impl Resizing {
    /// How the one under way is doing, or how the latest has ended.
    pub(in crate::serve) fn status(&self) -> Option<ResizeStatus> {
        let series = locked(&self.series);
        let latest = series.latest.as_ref()?;
        let seen = latest.planned.seen();
        let progress = seen.as_ref().map(|seen| seen.progress.clone());
        let (elapsed_ns, state) = match &latest.ended {
            None => (latest.started.elapsed_ns(), ResizeState::Running),
            Some((ns, Ended::Well(_))) => (*ns, ResizeState::Done),
            Some((ns, Ended::Left(_))) => (*ns, ResizeState::Left),
            Some((ns, Ended::Not(error))) => {
                let words = error.to_string();
                let state = match error {
                    CannotResize::Unfinished { .. } => ResizeState::Unfinished { error: words },
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
}
