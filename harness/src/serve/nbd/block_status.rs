//! What a client is told about extents.

use driver::units::SECTOR_SIZE;

use super::super::extents::Extent;
use super::message::{Request, block_status_chunk, command_flags};
use super::negotiation::MetaContext;

/// The most extents in an answer.
pub const MOST_EXTENTS: usize = 128;

/// Extents in an answer end here, so that their lengths fit: a whole number of sectors.
const LONGEST_EXTENTS: u64 = u32::MAX as u64 / SECTOR_SIZE * SECTOR_SIZE;

/// Flags of [`MetaContext::Allocation`]: nothing is allocated, and reads are zeros.
const HOLE_AND_ZERO: u32 = 3;

/// Flag of [`MetaContext::Dirty`].
const DIRTY: u32 = 1;

/// How many extents a request asks for at most.
pub(super) fn most_extents(request: &Request) -> usize {
    match request.flags & command_flags::REQ_ONE != 0 {
        true => 1,
        false => MOST_EXTENTS,
    }
}

/// The answer to a request about these extents, of which there is one at least.
pub(super) fn answer(request: &Request, contexts: &[MetaContext], extents: &[Extent]) -> Vec<u8> {
    let most = most_extents(request);
    let mut answer = Vec::new();
    for (number, context) in contexts.iter().enumerate() {
        let described = described(*context, extents, most);
        let is_last = number + 1 == contexts.len();
        let id = context.id();
        block_status_chunk(&mut answer, request.cookie, id, &described, is_last);
    }
    answer
}

/// The extents as one meta context has them, at most `most`; neighbours differ.
fn described(context: MetaContext, extents: &[Extent], most: usize) -> Vec<(u32, u32)> {
    let mut described: Vec<(u64, u32)> = Vec::new();
    let mut total = 0;
    for extent in extents {
        let flags = match context {
            MetaContext::Allocation if extent.hole => HOLE_AND_ZERO,
            MetaContext::Dirty if extent.dirty => DIRTY,
            _ => 0,
        };
        let length = extent.sectors.count.bytes().0.min(LONGEST_EXTENTS - total);
        total += length;
        if let Some(last) = described.last_mut().filter(|last| last.1 == flags) {
            last.0 += length;
        } else if length > 0 && described.len() < most {
            described.push((length, flags));
        } else {
            break;
        }
    }
    // No sum is longer than the longest.
    let fits = |(length, flags)| (length as u32, flags);
    described.into_iter().map(fits).collect()
}

#[cfg(test)]
mod tests {
    use driver::units::{Sector, SectorCount, SectorRange};

    use super::*;

    fn extent(start: u64, count: u64, dirty: bool, hole: bool) -> Extent {
        Extent {
            sectors: SectorRange::new(Sector(start), SectorCount(count)),
            dirty,
            hole,
        }
    }

    #[test]
    fn each_context_has_extents_of_its_own() {
        let extents = [
            extent(0, 1, true, false),
            extent(1, 2, false, false),
            extent(3, 1, false, true),
        ];
        let allocated = described(MetaContext::Allocation, &extents, 9);
        assert_eq!(allocated, [(1536, 0), (512, 3)]);
        let dirty = described(MetaContext::Dirty, &extents, 9);
        assert_eq!(dirty, [(512, 1), (1536, 0)]);
        assert_eq!(described(MetaContext::Dirty, &extents, 1), [(512, 1)]);
        // Longer than a length on the wire.
        let long = [
            extent(0, 1 << 24, true, false),
            extent(1 << 24, 8, true, false),
        ];
        let told = described(MetaContext::Dirty, &long, 9);
        assert_eq!(told, [(0xffff_fe00, 1)]);
    }
}
