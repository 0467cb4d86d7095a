//! What a sector should show, in few bytes, and whether some content is that.

use driver::units::Sector;

use super::Initial;
use crate::stamp::{Content, Coverage, Stamp, is_zero};

/// What a sector should show. Packed into 64 bits, because there is one a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u64);

/// The state's lower half is a stamp.
const STAMPED: u64 = 1 << 32;

/// The state's lower half is a checksum of content that was there at the start.
const CHECKSUM: u64 = 2 << 32;

/// The state's lower half is a checksum of data that came with the trace.
const DATA: u64 = 4 << 32;

/// Zeros.
const ZEROS: u64 = 3 << 32;

impl State {
    /// What was there at the start.
    pub(super) const UNTOUCHED: State = State(0);

    /// Zeros.
    pub(super) const ZEROS: State = State(ZEROS);

    /// A stamp.
    pub(super) fn stamped(stamp: Stamp) -> State {
        State(STAMPED | u64::from(stamp.0))
    }

    /// Content that was there at the start and has this CRC-32C.
    pub(super) fn checksum(checksum: u32) -> State {
        State(CHECKSUM | u64::from(checksum))
    }

    /// Data of the trace's own that has this CRC-32C.
    pub(super) fn data(checksum: u32) -> State {
        State(DATA | u64::from(checksum))
    }

    /// The state of `sector` in words. From `initial_end` on an untouched one shows zeros.
    pub(super) fn describe(
        self,
        sector: Sector,
        initial_end: Sector,
        initial: &impl Initial,
    ) -> String {
        let low = self.0 as u32;
        match self.0 & !u64::from(u32::MAX) {
            STAMPED => Content::Stamped(Stamp(low), sector).to_string(),
            CHECKSUM => format!("what was there at the start (CRC-32C {low:08x})"),
            DATA => format!("what the trace wrote there (CRC-32C {low:08x})"),
            ZEROS => "zeros".into(),
            _ if sector >= initial_end => "zeros: the device has grown here".into(),
            _ => initial.describe(sector),
        }
    }
}

/// The content of a sector, to be compared with what it should be.
pub(super) struct SectorContent<'a> {
    pub(super) sector: Sector,
    pub(super) content: &'a [u8],
    pub(super) coverage: Coverage,
    pub(super) initial_end: Sector,
    pub(super) is_discarded: bool,
}

impl SectorContent<'_> {
    /// Whether the content is what `state` says.
    #[inline]
    pub(super) fn is(&self, state: State, initial: &mut impl Initial) -> bool {
        let (sector, content) = (self.sector, self.content);
        if self.is_discarded && is_zero(content) {
            return true;
        }
        let low = state.0 as u32;
        match state.0 & !u64::from(u32::MAX) {
            STAMPED => self.coverage.shows(Stamp(low), sector, content),
            CHECKSUM | DATA => crc32c::crc32c(content) == low,
            ZEROS => is_zero(content),
            _ if sector >= self.initial_end => is_zero(content),
            _ => initial.is_in(sector, content),
        }
    }

    /// Whether the content, which is right, is zeros.
    #[inline]
    pub(super) fn is_zeros(&self, state: State, initial: &impl Initial) -> bool {
        let Some([0, 0, 0, 0, 0, 0, 0, 0]) = self.content.first_chunk() else {
            return false;
        };
        match state.0 & !u64::from(u32::MAX) {
            CHECKSUM | DATA => is_zero(self.content),
            // A stamp begins with other bytes.
            STAMPED | ZEROS => true,
            _ if self.sector >= self.initial_end => true,
            _ => initial.is_zeros(self.content),
        }
    }
}
