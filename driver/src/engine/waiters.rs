//! Who waits for an operation: a part of a request, a publication or a relocation.

use crate::host::{Action, FileRole, Operation, Waiter};

use super::begun::Slot;

/// Who waits for the operations of publications.
pub(super) const PUBLICATION: Waiter = Waiter(u64::MAX);

/// Who waits for those of a relocation. Those of requests have lower numbers.
pub(super) const RELOCATION: Waiter = Waiter(u64::MAX - 1);

/// An operation of a publication.
pub(super) fn operation_of_publication(action: Action) -> Operation {
    Operation {
        waiter: PUBLICATION,
        file: FileRole::Cow,
        action,
    }
}

/// An operation of a part of the request in this place.
#[inline]
pub(super) fn operation_of_part(
    slot: Slot,
    part: u32,
    file: FileRole,
    action: Action,
) -> Operation {
    Operation {
        waiter: Waiter(u64::from(slot) << 32 | u64::from(part)),
        file,
        action,
    }
}

/// Which part of which request waits.
#[inline]
pub(super) fn who(waiter: Waiter) -> (Slot, u32) {
    ((waiter.0 >> 32) as Slot, waiter.0 as u32)
}
