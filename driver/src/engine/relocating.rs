//! What a relocation is at: its turn, during which no publication begins, and its operation under
//! way. It has one at a time.
//!
//! Its changes of the COW file count when they end, as those of requests do: a sync that began
//! before that does not cover them.

use crate::host::{Action, FileRole, HostResult, Operation};
use crate::units::SectorRange;

use super::publication::Covers;
use super::waiters::RELOCATION;
use super::{Engine, Hold};

/// Whether publications may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TurnState {
    /// They may.
    #[default]
    No,
    /// The next one waits once, so that the relocation can have its turn before it.
    Due,
    /// The relocation has its turn: none may.
    Has,
}

#[derive(Debug, Default)]
pub(super) struct Relocating {
    pub(super) turn: TurnState,
    /// What its sync covers that is under way.
    covers: Option<Covers>,
    /// Its operation that has ended.
    ended: Option<(Action, HostResult<()>)>,
}

impl Relocating {
    /// A relocation that waits does not keep the next publication back any more.
    pub(super) fn is_not_due(&mut self) {
        if self.turn == TurnState::Due {
            self.turn = TurnState::No;
        }
    }

    /// Whether no publication may begin now.
    pub(super) fn keeps_publications_back(&mut self) -> bool {
        let keeps = self.turn != TurnState::No;
        // It has its turn now, or does not come.
        self.is_not_due();
        keeps
    }
}

impl Engine {
    /// Whether a relocation has its turn from now on: no publication is under way, for it knows
    /// where the bitmap was when it began, and what is kept out has drained. None begins until
    /// [`Engine::end_turn`]. Otherwise the next publication waits for the relocation.
    pub(crate) fn begin_turn(&mut self) -> bool {
        let everything = self.hold == Hold::Everything;
        // Where all requests are kept out, those that have begun become durable first.
        let publishes = self.is_publishing() || everything && !self.to_publish.is_empty();
        self.relocating.turn = match !publishes && self.has_drained() {
            true => TurnState::Has,
            false if self.is_publishing() && !everything => TurnState::Due,
            false => TurnState::No,
        };
        self.relocating.turn == TurnState::Has
    }

    /// The relocation's turn is over: publications begin again.
    pub(crate) fn end_turn(&mut self) {
        self.relocating.turn = TurnState::No;
    }

    /// Whether no request under way is one that is kept out now.
    fn has_drained(&self) -> bool {
        let mut busy = self.requests.busy();
        !busy.any(|begun| self.hold.blocks(begun.request.operation, begun.range))
    }

    /// The sectors that requests under way write.
    pub(crate) fn being_written(&self) -> impl Iterator<Item = SectorRange> {
        let busy = self.requests.busy().filter(|begun| begun.changes());
        busy.map(|begun| begun.range)
    }

    /// The operation of a relocation, which begins now.
    pub(crate) fn relocate(&mut self, file: FileRole, action: Action) -> Operation {
        self.under_way += 1;
        if (file, &action) == (FileRole::Cow, &Action::SyncData) {
            self.statistics.syncs += 1;
            self.relocating.covers = Some(self.durability.begin_sync());
        }
        Operation {
            waiter: RELOCATION,
            file,
            action,
        }
    }

    /// The operation of a relocation has ended.
    pub(super) fn relocated(&mut self, file: FileRole, action: Action, result: HostResult<()>) {
        if file == FileRole::Cow && action.changes() {
            // One that failed may have done a part of it.
            self.durability.note_change();
        }
        if let Some(covers) = self.relocating.covers.take() {
            self.durability.end_sync(covers, result.is_ok());
        }
        self.relocating.ended = Some((action, result));
    }

    /// How a relocation's operation has ended, if it has.
    pub(crate) fn take_relocated(&mut self) -> Option<(Action, HostResult<()>)> {
        self.relocating.ended.take()
    }
}
