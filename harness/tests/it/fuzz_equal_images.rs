//! An image of a power cut that is what the kill at the same crash point has left is not judged
//! once more: whatever that image is, it would have been judged alike, by as many operations.

use harness::fuzz::case::{Case, DriverName, Resizer};
use harness::fuzz::check::check_image;
use harness::fuzz::generate::{Subject, generate};
use harness::fuzz::parts::Unwatched;
use harness::fuzz::scratch::Scratch;
use harness::fuzz::violation::Violation;
use harness::fuzz::world::{Observer, Point, Truth, World};
use harness::sim::{SimHost, Survivors};

/// Judges the kill at each crash point, and the power cut that everything survives.
struct Both<'a> {
    case: &'a Case,
    scratch: Scratch,
    alike: u64,
    other: u64,
    violations: u64,
}

impl Both<'_> {
    /// What is wrong with the image, and how many operations it took to say so.
    fn judge(&mut self, image: &SimHost, point: Point, truth: &Truth) -> (Option<String>, u64) {
        let scratch = &mut self.scratch;
        let checked = check_image(
            image,
            self.case,
            truth,
            point.phase,
            scratch,
            &mut Unwatched,
        );
        let violation = checked.err().map(|violation| violation.to_string());
        (violation, image.operations())
    }
}

impl Observer for Both<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        let unsynced = snapshot.unsynced();
        for survivors in [unsynced.everything(), Survivors::default()] {
            let image = snapshot.after_power_cut(&survivors).unwrap();
            if !image.is_found_like(snapshot) {
                self.other += 1;
                continue;
            }
            self.alike += 1;
            let killed = self.judge(&snapshot.after_kill(), point, truth);
            self.violations += u64::from(killed.0.is_some());
            assert_eq!(self.judge(&image, point, truth), killed, "{point:?}");
        }
        Ok(None)
    }
}

/// How many images were like the kill's and how many not, and how often something was wrong.
fn compare(subject: &Subject, cases: u64) -> (u64, u64, u64) {
    let mut sum = (0, 0, 0);
    for seed in 1..=cases {
        let case = generate(seed, subject);
        let mut both = Both {
            case: &case,
            scratch: Scratch::default(),
            alike: 0,
            other: 0,
            violations: 0,
        };
        // How the life itself ends is another question.
        let _ = World::new(&case).live(&case.lives[0], &mut both);
        sum.0 += both.alike;
        sum.1 += both.other;
        sum.2 += both.violations;
    }
    sum
}

#[test]
fn what_is_like_the_kill_is_judged_like_it() {
    let faults = Subject {
        faults: true,
        ..Subject::healthy(DriverName::Ordered)
    };
    let (alike, other, _) = compare(&faults, 60);
    assert!(alike > 500 && other > 500, "{alike} and {other}");
}

#[test]
fn so_is_what_is_wrong_with_it() {
    // Killed in the middle of its move, it leaves a disk that is neither the old nor the new one.
    let defective = Subject {
        resizer: Resizer::Spillner2003,
        ..Subject::healthy(DriverName::Ordered)
    };
    let (alike, _, violations) = compare(&defective, 60);
    assert!(alike > violations && violations > 0, "{violations}");
}
