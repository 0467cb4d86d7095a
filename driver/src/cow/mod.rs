//! The copy-on-write format: header, geometry, and the map of dirty sectors.

pub mod sector_map;

pub use sector_map::SectorMap;
