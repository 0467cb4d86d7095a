//! Where a driver reads sectors.

use crate::host::FileRole;
use crate::units::{FileOffset, SectorRange};

/// Where sectors are read.
#[derive(Debug)]
pub struct ReadPlace<'a, F> {
    /// Which of the device's files: the COW file where they are dirty.
    pub role: FileRole,
    /// The file, if there is one.
    pub file: Option<&'a F>,
    /// Where in it the first of them is.
    pub at: FileOffset,
    /// The sectors.
    pub sectors: SectorRange,
}
