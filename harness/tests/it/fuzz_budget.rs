//! What a case may take, and what of it is looked at: a driver that goes on for ever is a finding,
//! a case that is dear is looked at in part, and one that is cut off says so.

use harness::fuzz::case::{Case, DriverName};
use harness::fuzz::explore::{Explored, explore_watched};
use harness::fuzz::generate::{Subject, generate};
use harness::fuzz::parts::{Part, Unwatched, Watch};
use serde_json::json;

use crate::support::cases::case;

/// Writes all over a device, without a flush.
fn writes(sectors: u64, count: u64) -> Case {
    let write = |n| json!({ "write": { "start": n * 97 % sectors, "count": 1, "fua": false } });
    let actions = (0..count).flat_map(|n| [write(n), json!("drain")]);
    case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": {
            "sectors": sectors, "version": "v3", "alignment": 4096, "extension": true, "dirty": [],
        },
        "lives": [{ "actions": actions.collect::<Vec<_>>(), "end": "close" }],
    }))
}

fn explored(case: &Case, watch: &mut dyn Watch) -> Explored {
    let explored = explore_watched(case, 1, &Subject::healthy(DriverName::Ordered), watch);
    assert!(explored.finding.is_none(), "{:?}", explored.finding);
    explored
}

/// Each image has 4 MiB to be read and compared, and there are some thousand.
#[test]
fn a_dear_case_is_looked_at_in_part() {
    const MIB: u64 = 1 << 20;
    let dear = explored(&writes(8192, 150), &mut Unwatched);
    let compared = dear.crash_images * 4 * MIB;
    // One image of this size counts eightfold, and 1 GiB is an allowance: a case takes a few.
    assert!(
        (200 * MIB..1500 * MIB).contains(&compared),
        "{} images",
        dear.crash_images
    );
    assert!(dear.coverage.count("crash_point_too_dear") > 50);
    let usual = explored(&writes(128, 150), &mut Unwatched);
    assert_eq!(usual.coverage.count("crash_point_too_dear"), 0);
    assert!(usual.crash_images > 1500, "{} images", usual.crash_images);
}

/// Whoever watches ends the work before some image.
struct CutsOff {
    images: u64,
    left: u64,
}

impl Watch for CutsOff {
    fn enter(&mut self, part: Part) {
        if part == Part::Recover {
            self.images += 1;
            self.left = self.left.saturating_sub(1);
        }
    }

    fn cuts_off(&mut self) -> bool {
        self.left == 0
    }
}

#[test]
fn a_case_is_cut_off_before_the_next_image() {
    let subject = Subject::healthy(DriverName::Ordered);
    for seed in 1..20 {
        let case = generate(seed, &subject);
        let mut all = CutsOff {
            images: 0,
            left: u64::MAX,
        };
        let whole = explored(&case, &mut all);
        assert!(!whole.cut_off);
        for most in [0, 1, 7] {
            let mut watch = CutsOff {
                images: 0,
                left: most,
            };
            let part = explored(&case, &mut watch);
            assert_eq!(part.cut_off, all.images > most, "seed {seed}");
            // What is found like an image that was judged counts, and is not judged again.
            assert!(watch.images <= most + 1, "seed {seed}: {}", watch.images);
            assert!(part.crash_images <= whole.crash_images);
        }
    }
}
