//! The bitmap of a new layout, piece by piece: what is wholly clean stays a hole, and a step
//! writes a bounded part of the rest.

use driver::cow::{Geometry, PAGE_BYTES, PageState, PagesAtOnce, SectorMap};
use driver::units::{Bytes, FileOffset};

/// A piece of the bitmap of `geometry` to be written.
#[derive(Debug)]
pub(crate) struct BitmapPiece {
    /// Where in the file.
    pub(crate) at: FileOffset,
    /// The first page after it.
    pub(crate) next_page: usize,
}

/// Fills `buffer` with the next piece of the bitmap from the page `from` on, of at most `most` and
/// with no bit past the device's end; `None` if the rest is a hole.
pub(crate) fn next_piece(
    map: &SectorMap,
    geometry: &Geometry,
    (from, most): (usize, PagesAtOnce),
    buffer: &mut Vec<u8>,
) -> Option<BitmapPiece> {
    let bitmap = geometry.mapped_bitmap();
    let pages = bitmap.len.0.div_ceil(PAGE_BYTES as u64) as usize;
    let clean = |page: &usize| map.page_state(*page) == PageState::Clean;
    let first = (from..pages).find(|page| !clean(page))?;
    let most = usize::try_from(most.count()).unwrap_or(usize::MAX);
    let limit = pages.min(first.saturating_add(most));
    let end = (first..limit).find(clean).unwrap_or(limit);
    let at = Bytes((first * PAGE_BYTES) as u64);
    let len = ((end - first) * PAGE_BYTES).min((bitmap.len - at).0 as usize);
    buffer.resize(len, 0);
    map.copy_bitmap(at, buffer);
    // The map may be longer than the device will be.
    let sectors_here = geometry.mapped().0 - at.0 * 8;
    if sectors_here < len as u64 * 8
        && let Some(last) = buffer.last_mut()
    {
        *last &= (1 << (sectors_here % 8)) - 1;
    }
    Some(BitmapPiece {
        at: bitmap.start + at,
        next_page: end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::cow::Version;
    use driver::units::{Sector, SectorCount, SectorRange};

    #[test]
    fn holes_are_left_out_and_bits_past_the_end_are_cleared() {
        let sectors = 3 * 32768 + 13;
        let mut map = SectorMap::new(SectorCount(4 * 32768)).unwrap();
        map.mark_dirty(SectorRange::new(Sector(5), SectorCount(1)));
        map.mark_dirty(SectorRange::new(Sector(3 * 32768), SectorCount(20)));
        let size = SectorCount(sectors).bytes();
        let geometry = Geometry::new(Version::V3, size, 1 << 20).unwrap();
        let mut buffer = Vec::new();
        let piece = next_piece(&map, &geometry, (0, PagesAtOnce::USUAL), &mut buffer).unwrap();
        assert_eq!((piece.at, piece.next_page), (FileOffset(1 << 20), 1));
        assert_eq!((buffer.len(), buffer[0]), (4096, 1 << 5));
        let piece = next_piece(&map, &geometry, (1, PagesAtOnce::USUAL), &mut buffer).unwrap();
        assert_eq!(piece.at, FileOffset((1 << 20) + 3 * 4096));
        assert_eq!(buffer, [0xff, 0x1f]);
        assert!(
            next_piece(
                &map,
                &geometry,
                (piece.next_page, PagesAtOnce::USUAL),
                &mut buffer
            )
            .is_none()
        );
    }

    #[test]
    fn a_piece_has_no_more_pages_than_it_may() {
        let mut map = SectorMap::new(SectorCount(3 * 32768)).unwrap();
        map.mark_dirty(SectorRange::new(Sector(0), SectorCount(3 * 32768)));
        let size = SectorCount(3 * 32768).bytes();
        let geometry = Geometry::new(Version::V3, size, 1 << 20).unwrap();
        let (mut buffer, mut page, mut pieces) = (Vec::new(), 0, Vec::new());
        while let Some(piece) = next_piece(&map, &geometry, (page, PagesAtOnce::of(2)), &mut buffer)
        {
            pieces.push((page, buffer.len()));
            page = piece.next_page;
        }
        assert_eq!(pieces, [(0, 8192), (2, 4096)]);
    }
}
