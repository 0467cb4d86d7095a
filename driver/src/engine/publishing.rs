//! When publications begin, and what becomes of the requests that wait for one.

use crate::blk::{HostFailure, Operation as Asked, Status};
use crate::host::{Action, FileRole, HostError, Operation};

use super::Engine;
use super::begun::Slot;
use super::publication::{Next, Publication, Published};
use super::relocating::TurnState;
use super::waiters::operation_of_publication;

impl Engine {
    /// Whether something waits for a publication that none under way keeps back.
    pub(super) fn wants_publication(&self) -> bool {
        let closes = self.closing && self.failure.is_none() && self.has_unpublished();
        self.publication.is_none() && (closes || !self.to_publish.is_empty())
    }

    /// Whether a publication comes before any other request. The requests that are there when it
    /// could begin go before it, so that they share it. Those that come later do not put it off,
    /// unless a relocation does.
    pub(super) fn publication_is_overdue(&mut self) -> bool {
        if self.relocating.turn != TurnState::No || !self.wants_publication() {
            return false;
        }
        let there = self.requests.waiting_count();
        *self.sharing.get_or_insert(there) == 0
    }

    /// The first operation of a publication, if something waits for one, the one before it has
    /// ended, and no relocation is due.
    pub(super) fn begin_publication(&mut self) -> Option<Operation> {
        if !self.wants_publication() {
            return None;
        }
        if self.relocating.keeps_publications_back() {
            return None;
        }
        self.sharing = None;
        let waiters = std::mem::take(&mut self.to_publish);
        if self.durability.failed {
            self.end_publication(waiters, Some(Status::IoError), None);
            return None;
        }
        let (publication, next) = Publication::begin(waiters, &mut self.published());
        match next {
            Next::Operation(action) => {
                self.publication = Some(publication);
                Some(operation_of_publication(action))
            }
            Next::Durable => {
                self.end_publication(publication.waiters, None, None);
                None
            }
        }
    }

    fn published(&mut self) -> Published<'_> {
        Published {
            map: &mut self.map,
            placement: &self.placement,
            durability: &mut self.durability,
            statistics: &mut self.statistics,
        }
    }

    pub(super) fn go_on_publishing(&mut self, ended: &Action, error: Option<HostError>) {
        let Some(mut publication) = self.publication.take() else {
            return;
        };
        let mut published = self.published();
        let Some(error) = error else {
            match publication.go_on(&mut published) {
                Next::Operation(action) => {
                    self.publishes = Some(action);
                    self.publication = Some(publication);
                }
                Next::Durable => self.end_publication(publication.waiters, None, None),
            }
            return;
        };
        publication.fail(&mut published);
        let (kind, at) = (ended.kind(), ended.range().start);
        let failure = self.host_failure(FileRole::Cow, kind, at, error);
        let status = Status::from(&failure.error);
        self.end_publication(publication.waiters, Some(status), Some(failure));
    }

    /// Completes those that waited for a publication: with `failed`, if they asked for durability.
    /// For any other the write itself is done, and nobody was promised more.
    fn end_publication(
        &mut self,
        waiters: Vec<Slot>,
        failed: Option<Status>,
        failure: Option<Box<HostFailure>>,
    ) {
        if self.closing {
            self.failure = failure.as_deref().cloned();
        }
        for slot in waiters {
            let asks = self.asks_for_durability(slot);
            let status = failed.filter(|_| asks);
            if status.is_some()
                && let Some(begun) = self.requests.get_mut(slot)
            {
                begun.failure = failure.clone();
            }
            self.end(slot, status.unwrap_or(Status::Ok));
        }
    }

    fn has_unpublished(&self) -> bool {
        self.durability.is_unsynced() || self.map.has_changes()
    }

    fn asks_for_durability(&mut self, slot: Slot) -> bool {
        let begun = self.requests.get_mut(slot);
        match begun.map(|begun| begun.request.operation) {
            Some(Asked::Flush | Asked::Write { fua: true }) => true,
            Some(Asked::Write { fua: false } | Asked::WriteZeroes) => self.synchronous,
            Some(Asked::Read | Asked::Discard) | None => false,
        }
    }
}
