//! The fuzzer's cases, as far as a real kernel can live them.

use crate::fuzz::build::layout;
use crate::fuzz::case::{BackingFile, Case, DriverName, End, Image};
use crate::fuzz::device::Opening;
use crate::fuzz::generate::{Subject, another_life, generate};
use crate::sim::{Assumptions, Fault};
use crate::streams::{below, stream};

/// Bytes of a word of the kernel's bitmap.
const WORD: u64 = 8;

/// Sectors of which a word has the bits.
const SECTORS_A_WORD: u64 = 64;

/// Whether a bitmap of this many bytes is one word. The first write to a device that has such a one
/// hangs the kernel 6.1: the driver steps back by a word, and reads the one before its bitmap. That
/// one is in the hole before a mapping of the kernel's, and UML takes a fault there for a mapping
/// that is not up to date, which it renews for ever. Each such case would cost a boot.
pub(super) fn is_one_word(bitmap_len: u64) -> bool {
    bitmap_len <= WORD
}

/// Likewise, of an image's. Those of V1 and V2 lack a byte where the number of sectors is no
/// multiple of eight: so one word may be that of 71 sectors.
fn has_one_word(image: &Image) -> bool {
    let of_file = layout(image).is_some_and(|layout| is_one_word(layout.bitmap_len));
    of_file || image.sectors <= SECTORS_A_WORD
}

/// The most sectors of a request that has one segment, which is a page of memory.
const ONE_SEGMENT: u64 = 8;

/// More sectors than a request of a case has.
const WHOLE: u64 = 1 << 20;

/// The most sectors of a read or write in the case of this seed. In every second case a request has
/// one segment only: where it has several, `last-run-offset` shows in most reads.
pub fn longest_request(seed: u64) -> u64 {
    match seed.is_multiple_of(2) {
        true => WHOLE,
        false => ONE_SEGMENT,
    }
}

/// One case of as many has a second life after a kill of the kernel. Each costs a boot.
const ONE_IN: u64 = 48;

/// The kill comes after at most as many changes, where that is a power of two drawn up to this one.
const LATEST_KILL: u64 = 64;

/// The case of this seed. What has to be true of it is what an honest driver keeps: so its driver
/// is the model without defects, which reads what a crash of the kernel leaves.
pub fn case_of(seed: u64, faults: bool, assumptions: Assumptions) -> Case {
    let subject = Subject {
        faults,
        assumptions,
        ..Subject::healthy(DriverName::Linux612)
    };
    let mut case = generate(seed, &subject);
    // The guest submits each request once.
    case.retries = false;
    if has_one_word(&case.image) {
        case.image.sectors += SECTORS_A_WORD;
    }
    for life in &mut case.lives {
        // A kernel that is told once that discards are not supported sends none any more: the
        // cases that come after in the same boot would be without them.
        life.faults.retain(|rule| rule.fault != Fault::Unsupported);
    }
    case
}

/// Now and then the case with a second life, which begins with what a kill in the first one has
/// left.
pub fn with_a_kill(seed: u64, mut case: Case) -> Case {
    let rng = &mut stream(seed, "kill of the kernel");
    // What has to be refused has nothing to live on for.
    let must_refuse = |life| Opening::of(&case, life, Opening::default()).must_refuse;
    let is_refused = case.lives.first().and_then(must_refuse).is_some();
    if is_refused || below(rng, ONE_IN) > 0 {
        return case;
    }
    let most = 2 << below(rng, u64::from(LATEST_KILL.ilog2()));
    let change = 1 + below(rng, most) as usize;
    for first in &mut case.lives {
        first.end = End::Kill {
            position: 0,
            change,
            pages: 0,
        };
    }
    let subject = Subject::healthy(DriverName::Linux612);
    let mut second = another_life(seed, 1, case.image.sectors, false, &subject);
    second.backing = BackingFile::AsItWas;
    case.lives.push(second);
    case
}

/// Whether a case that has been made smaller is one for a kernel.
pub fn can_be_lived(case: &Case) -> bool {
    !has_one_word(&case.image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::ImageVersion;

    #[test]
    fn the_cases_of_a_kernel_have_two_words_of_bitmap_and_can_be_run() {
        for seed in 0..300 {
            let case = case_of(seed, true, Assumptions::default());
            assert!(can_be_lived(&case), "seed {seed}");
            assert_eq!(case.check(), Ok(()), "seed {seed}");
            assert!(case.defects.is_empty());
        }
    }

    #[test]
    fn seventy_one_sectors_of_the_older_versions_have_one_word() {
        let mut case = case_of(1, false, Assumptions::default());
        for (sectors, version, can_be) in [
            (64, ImageVersion::V3, false),
            (65, ImageVersion::V3, true),
            (71, ImageVersion::V1, false),
            (71, ImageVersion::V2, false),
            (72, ImageVersion::V2, true),
        ] {
            case.image = Image::sound(sectors, version, 4096);
            assert_eq!(can_be_lived(&case), can_be, "{sectors} of {version:?}");
        }
    }
}
