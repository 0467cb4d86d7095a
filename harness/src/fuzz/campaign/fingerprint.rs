//! What tells builds of the program apart that have one version: which cases they make of a few
//! seeds, and what comes of them. A generator, a driver or a judge that was changed shows in that.
//! A change that none of these cases comes across does not.

use std::sync::OnceLock;

use driver::linux::Defects;

use super::super::case::DriverName;
use super::super::defect::CaseDefect;
use super::super::explore::Explored;
use super::super::generate::generate;
use super::super::subject::Subject;
use super::one;

/// Seeds whose cases are made.
const MADE: u64 = 32;

/// Seeds whose cases are run as well, which takes some milliseconds each.
const RUN: u64 = 3;

/// That of this build.
pub(super) fn of_this_build() -> u32 {
    static OF_THIS_BUILD: OnceLock<u32> = OnceLock::new();
    *OF_THIS_BUILD.get_or_init(compute)
}

fn compute() -> u32 {
    let mut crc = 0;
    let kernel = Defects::LINUX_6_12.iter().map(CaseDefect::Kernel);
    let linux = Subject {
        defects: kernel.collect(),
        ..Subject::healthy(DriverName::Linux612)
    };
    for mut subject in [Subject::healthy(DriverName::Ordered), linux] {
        subject.faults = true;
        for seed in 1..=MADE {
            crc = with(crc, &generate(seed, &subject));
        }
        for seed in 1..=RUN {
            crc = with_outcome(crc, &one(seed, &subject));
        }
    }
    crc
}

/// The checksum of this after what `crc` is of.
fn with(crc: u32, what: &impl serde::Serialize) -> u32 {
    let text = serde_json::to_string(what).unwrap_or_default();
    crc32c::crc32c_append(crc, text.as_bytes())
}

fn with_outcome(crc: u32, explored: &Explored) -> u32 {
    let Explored {
        host_operations,
        crash_images,
        coverage,
        finding,
        cut_off: _,
    } = explored;
    with(crc, &(host_operations, crash_images, coverage, finding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_always_has_the_same_one() {
        assert_eq!(compute(), compute());
    }

    #[test]
    fn what_comes_of_a_case_is_in_it() {
        let usual = one(1, &Subject::healthy(DriverName::Ordered));
        let of = |change: fn(&mut Explored)| {
            let mut explored = usual.clone();
            change(&mut explored);
            with_outcome(0, &explored)
        };
        let usual = of(|_| {});
        assert_ne!(of(|it| it.host_operations += 1), usual);
        assert_ne!(of(|it| it.crash_images += 1), usual);
        assert_ne!(of(|it| it.coverage.hit("crash_kill")), usual);
    }
}
