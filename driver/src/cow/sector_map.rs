//! The map of dirty sectors.

/// The map of dirty sectors.
#[derive(Debug)]
pub struct SectorMap;
