//! What is wrong with a read, or with what is there after a crash, as a violation.

use driver::exact_count;
use driver::units::{SECTOR_SIZE, Sector, SectorCount};

use super::super::violation::{Kind, Shown, Violation};
use super::held::Held;
use super::versions::Version;
use crate::stamp::Content;

/// Whether a read of `count` sectors brought just that, in parts of whole sectors.
pub(super) fn check_length<'c>(
    count: SectorCount,
    parts: impl Iterator<Item = &'c [u8]>,
    when: &str,
) -> Result<(), Violation> {
    let (mut found, mut whole) = (0, true);
    for part in parts {
        found += part.len() as u64;
        whole &= (part.len() as u64).is_multiple_of(SECTOR_SIZE);
    }
    let expected = count.bytes().0;
    let what = match found == expected {
        true if whole => return Ok(()),
        true => format!(
            "the read brought {} in parts of sectors",
            exact_count(found, "byte")
        ),
        false => format!(
            "the read brought {}, expected {expected}",
            exact_count(found, "byte")
        ),
    };
    Err(Violation::new(Kind::WrongLength, when, what))
}

/// What is wrong with a sector; it is `past` if it shows a version that it may not show now.
pub(super) fn violation(
    versions: &[Version],
    sector: Sector,
    content: &[u8],
    when: &str,
    allowed: impl Fn(&Version) -> bool,
    past: Kind,
) -> Violation {
    let found = Content::of(content);
    let kind = match found {
        _ if versions.iter().any(|v| v.held.is_in(sector, content)) => past,
        Content::Zeros => Kind::Zeros,
        Content::Stamped(_, at) if at != sector => Kind::Misplaced,
        Content::Stamped(..) => Kind::LostWrite,
        Content::Foreign => Kind::Foreign,
    };
    let allowed = versions.iter().filter(|v| allowed(v));
    let mut allowed: Vec<Held> = allowed.map(|v| v.held).collect();
    allowed.dedup();
    let words: Vec<String> = allowed.iter().map(|&held| held.describe(sector)).collect();
    let what = format!("found {found}, expected {}", words.join(" or "));
    let violation = Violation::new(kind, when, what).of_sector(sector.0);
    let allowed = allowed.into_iter().filter_map(|held| held.content(sector));
    violation.showing(Shown {
        found,
        allowed: allowed.collect(),
    })
}
