//! Why there is no plan.

use driver::exact_count;
use driver::resize::Strategy;
use driver::units::{Bytes, SECTOR_SIZE};

use crate::losses::{Loss, NotExamined};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A size that no device has.
    #[error(
        "found a new size of {}, expected a positive multiple of 512{}",
        exact_count(*.found, "byte"),
        nearest(*.found)
    )]
    BadSize {
        /// The size asked for.
        found: u64,
    },
    /// A smaller size, not asked for as such.
    #[error(
        "{} bytes are less than the device's {} bytes: a resize makes it smaller only with --shrink",
        .new.0, .old.0
    )]
    WouldShrink {
        /// The size now.
        old: Bytes,
        /// The size asked for.
        new: Bytes,
    },
    /// There is data past the new end.
    #[error("{0}: they would be lost (--lose-data says that this is meant)")]
    WouldLoseData(Loss),
    /// The device takes no writes.
    #[error("the device is read-only")]
    ReadOnly,
    /// An earlier reflow was interrupted.
    #[error("an interrupted resize has to be finished first")]
    Interrupted,
    /// No layout of a file fits.
    #[error("a device of {found} bytes fits into no COW file")]
    TooLarge {
        /// The size asked for.
        found: u64,
    },
    /// The strategy asked for cannot do it, or none can.
    #[error("{strategy} cannot do this: {why}")]
    Impossible {
        /// Which.
        strategy: Strategy,
        /// Why not.
        why: String,
    },
    /// A file of the device could not be examined.
    #[error(transparent)]
    NotExamined(#[from] NotExamined),
}

/// The sizes next to one that no device can have, as the end of a sentence.
fn nearest(size: u64) -> String {
    let below = size - size % SECTOR_SIZE;
    match (below, below.checked_add(SECTOR_SIZE)) {
        (0, Some(above)) => format!(": the nearest is {above}"),
        (_, Some(above)) => format!(": the nearest are {below} and {above}"),
        (_, None) => format!(": the nearest is {below}"),
    }
}
