//! The fuzzer's cases, as far as a real kernel can live them.

use crate::fuzz::case::{Case, DriverName};
use crate::fuzz::generate::{Subject, generate};
use crate::sim::{Assumptions, Fault};

/// A device of fewer sectors has one word of bitmap. Its first write hangs the kernel 6.1: the
/// driver steps back by a word, and reads the one before its bitmap. That one is in the hole before
/// a mapping of the kernel's, and UML takes a fault there for a mapping that is not up to date,
/// which it renews for ever. Each such case would cost a boot.
const LEAST_SECTORS: u64 = 65;

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
    if case.image.sectors < LEAST_SECTORS {
        case.image.sectors += LEAST_SECTORS - 1;
    }
    for life in &mut case.lives {
        // A kernel that is told once that discards are not supported sends none any more: the
        // cases that come after in the same boot would be without them.
        life.faults.retain(|rule| rule.fault != Fault::Unsupported);
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_a_kernel_have_two_words_of_bitmap_and_can_be_run() {
        for seed in 0..300 {
            let case = case_of(seed, true, Assumptions::default());
            assert!(case.image.sectors >= LEAST_SECTORS, "seed {seed}");
            assert_eq!(case.check(), Ok(()), "seed {seed}");
            assert!(case.defects.is_empty());
        }
    }
}
