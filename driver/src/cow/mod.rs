//! The copy-on-write format: header, geometry, and the map of dirty sectors.

mod sector_map;

pub use sector_map::SectorMap;
