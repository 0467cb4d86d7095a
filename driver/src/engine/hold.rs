//! Which requests a relocation keeps out.

use crate::blk::Operation;
use crate::units::SectorRange;

/// Which requests have to wait. One that waits keeps back only those that overlap with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None.
    Nothing,
    /// Those that touch these sectors.
    Window(SectorRange),
    /// All, flushes too.
    Everything,
}

impl Hold {
    #[inline]
    pub(super) fn blocks(self, operation: Operation, range: SectorRange) -> bool {
        match self {
            Hold::Nothing => false,
            Hold::Window(window) => operation != Operation::Flush && window.overlaps(range),
            Hold::Everything => true,
        }
    }
}
