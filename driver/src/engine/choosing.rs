//! Which operation comes next: what has begun goes on before anything else begins.

use crate::blk::Request;
use crate::host::Operation;

use super::Engine;
use super::begun::Begun;
use super::plan::Where;
use super::waiters::{operation_of_part, operation_of_publication};

impl Engine {
    /// The next operation, if there is one that waits for no other.
    #[inline]
    pub(super) fn choose_operation(&mut self) -> Option<Operation> {
        if let Some(operation) = self.ready.pop_front() {
            return Some(operation);
        }
        if let Some(action) = self.publishes.take() {
            return Some(operation_of_publication(action));
        }
        if let Some(operation) = self.next_part() {
            return Some(operation);
        }
        while !self.closing && self.completed.is_empty() && !self.publication_is_overdue() {
            let Some(request) = self.requests.next(self.hold) else {
                break;
            };
            if let Some(operation) = self.begin(request) {
                return Some(operation);
            }
        }
        // Those that come after what is complete may share it.
        if !self.completed.is_empty() && !self.closing && !self.publication_is_overdue() {
            return None;
        }
        self.begin_publication()
    }

    /// Begins a request; its first operation, if it needs one.
    #[inline]
    fn begin(&mut self, request: Request) -> Option<Operation> {
        self.sharing = self.sharing.map(|left| left.saturating_sub(1));
        let range = match self.admission.check(&request) {
            Ok(range) => range,
            Err(status) => {
                let refused = self.completion(request, status, None);
                self.completed.push_back(refused);
                return None;
            }
        };
        let mut begun = Begun::new(request, range);
        let first = begun.begin_part(self.place());
        let more = begun.has_more_parts();
        let slot = self.requests.begin(begun);
        let Some((part, file, action)) = first else {
            self.took_effect(slot);
            return None;
        };
        if more {
            self.in_parts.push_back(slot);
        }
        Some(operation_of_part(slot, part, file, action))
    }

    /// The first operation of the next part of a request that has begun.
    fn next_part(&mut self) -> Option<Operation> {
        while let Some(&slot) = self.in_parts.front() {
            let place = Where {
                map: &self.map,
                placement: &self.placement,
            };
            let Some(begun) = self.requests.get_mut(slot) else {
                self.in_parts.pop_front();
                continue;
            };
            let next = begun.begin_part(place);
            let is_done = begun.is_done();
            if !begun.has_more_parts() {
                self.in_parts.pop_front();
            }
            if let Some((part, file, action)) = next {
                return Some(operation_of_part(slot, part, file, action));
            }
            // The parts that were left had no sectors.
            if is_done {
                self.took_effect(slot);
            }
        }
        None
    }

    #[inline]
    pub(super) fn place(&self) -> Where<'_> {
        Where {
            map: &self.map,
            placement: &self.placement,
        }
    }
}
