//! The copy-on-write format: header, geometry, extension block, journal, and the map of
//! dirty sectors. Pure: nothing here reads or writes a file. `docs/format.md` specifies
//! the bytes.

mod backing_change;
mod extension;
mod fields;
mod geometry;
mod header;
mod header_change;
mod header_record;
mod journal;
mod pages_at_once;
mod sector_map;

pub use backing_change::{
    BackingChange, InPlace, LONGEST_SAMPLED_RANGE, MOST_SAMPLED_RANGES, OtherBacking, Sample,
    SampledRange,
};
pub use extension::{Extension, ExtensionState};
pub use fields::{LONGEST_HEADER, Version};
pub(crate) use fields::{MAGIC, VERSION_AT};
pub use geometry::{FileTooLarge, Geometry, LARGEST_STOCK_OFFSET};
pub use header::{ByteOrder, Header, HeaderError};
pub use header_change::{HeaderChange, HeaderPiece};
pub use journal::JournalRecord;
pub use pages_at_once::PagesAtOnce;
pub use sector_map::{
    MAX_SECTORS, MapTooLarge, PAGE_BYTES, PageSnapshot, PageState, Run, Runs, SECTORS_PER_PAGE,
    SectorMap, SectorState,
};
