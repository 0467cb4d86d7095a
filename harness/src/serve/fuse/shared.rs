//! What the threads of an endpoint share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::units::{Bytes, SECTOR_SIZE};
use fuser::Errno;
use userhelper::planner::{Shrink, Wish};

use super::super::budget::{Budget, Permit};
use super::super::export::Export;
use super::document::Documents;
use super::errors;
use super::inodes::Owner;

/// What the threads of an endpoint share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) export: Export,
    pub(super) owner: Owner,
    /// Where it is mounted, as in a message.
    pub(super) place: String,
    pub(super) documents: Documents,
    /// Room for [`super::requests::MOST_IN_FLIGHT`] requests.
    pub(super) slots: Arc<Budget>,
    /// Nothing more is taken.
    pub(super) is_ending: AtomicBool,
    /// Somebody else has unmounted it.
    pub(super) was_unmounted: AtomicBool,
}

impl Shared {
    pub(super) fn size(&self) -> u64 {
        self.export.capacity().bytes().0
    }

    /// Room for a request, which has to be waited for. `None` once nothing more is taken.
    pub(super) fn slot(&self) -> Option<Permit> {
        let slot = self.slots.take(1);
        (!self.is_ending.load(Ordering::SeqCst)).then_some(slot)
    }

    /// Makes the device as large as `size`, in bytes, and waits until it is.
    pub(super) fn resize(&self, size: u64) -> Result<(), Errno> {
        let about = self.export.about();
        let old = self.size();
        if size == old {
            return Ok(());
        }
        if about.read_only {
            return Err(Errno::EROFS);
        }
        if size < old && !about.allow_shrink {
            return Err(Errno::EPERM);
        }
        if !size.is_multiple_of(SECTOR_SIZE) {
            return Err(Errno::EINVAL);
        }
        let wish = Wish {
            new_size: Bytes(size),
            strategy: None,
            shrink: match about.allow_shrink {
                true => Shrink::KeepingData,
                false => Shrink::Refuse,
            },
            online: true,
        };
        let resized = self.export.resize(wish);
        match resized {
            Ok(_) => self.export.tell_resized(resized.as_ref()),
            Err(error) => {
                let place = &self.place;
                let line = format_args!("{place}: truncating disk to {}: {error}", Bytes(size));
                self.export.tell(&line);
                return Err(errors::of_resize(&error));
            }
        }
        Ok(())
    }
}
