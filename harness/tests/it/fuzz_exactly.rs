//! A case is run exactly as it says. One that cannot happen as it says is refused: otherwise it
//! would be another case, with another end, and most often with nothing wrong.

use harness::fuzz::case::{Case, End};
use harness::fuzz::exactly::{DoesNotFit, NotRight, run_exactly};
use harness::fuzz::explore::Search;
use harness::fuzz::story::tell;
use harness::sim::{BadSurvivors, InodeNumber, Survival, Survivors};
use serde_json::json;

use crate::support::cases::case;

/// The number of the COW file: the backing files come first.
const COW: InodeNumber = InodeNumber(3);

/// The positions of [`flushed`] at which its host changes: opening, the write, the flush, closing.
const WRITE: usize = 2;
const FLUSH: usize = 4;
const CLOSING: usize = 5;

/// A write that is flushed.
fn flushed() -> Case {
    case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": true, "dirty": [],
        },
        "lives": [{
            "actions": [
                { "write": { "start": 5, "count": 1, "fua": false } }, "drain", "flush", "drain",
            ],
            "end": "close",
        }],
    }))
}

fn killed(position: usize, change: usize) -> Case {
    let mut case = flushed();
    case.lives[0].end = End::Kill {
        position,
        change,
        pages: 0,
    };
    case
}

fn cut(position: usize, change: usize, kept: &[Survival]) -> Case {
    let mut case = flushed();
    let mut survivors = Survivors::default();
    survivors.files.insert(COW, kept.to_vec());
    case.lives[0].end = End::PowerCut {
        position,
        change,
        survivors,
    };
    case
}

fn misfit(case: &Case) -> DoesNotFit {
    let NotRight::DoesNotFit(error) = run_exactly(case).unwrap_err() else {
        panic!("the driver loses something");
    };
    // The story is told of the same run.
    assert_eq!(tell(case).unwrap_err(), error);
    error
}

#[test]
fn a_crash_that_comes_is_right() {
    for case in [
        flushed(),
        killed(0, 1),
        killed(WRITE, 0),
        killed(FLUSH, 2),
        killed(CLOSING, 0),
        cut(FLUSH, 0, &[Survival::Whole]),
        cut(FLUSH, 0, &[Survival::Lost]),
    ] {
        assert_eq!(run_exactly(&case), Ok(()), "{:?}", case.lives[0].end);
        assert_eq!(tell(&case).unwrap().violation, None);
    }
}

#[test]
fn a_crash_that_never_comes_is_refused() {
    for (position, change, there) in [
        (WRITE, 1, 1),
        (WRITE, 100, 1),
        // Submitting changes nothing.
        (1, 0, 0),
        // There is no such position.
        (CLOSING + 1, 0, 0),
        (usize::MAX, usize::MAX, 0),
    ] {
        let expected = DoesNotFit::NoSuchChange {
            life: 0,
            position,
            change,
            changes: there,
            came_up: true,
        };
        assert_eq!(misfit(&killed(position, change)), expected);
    }
    assert_eq!(
        misfit(&killed(WRITE, 7)).to_string(),
        "lives[0].end: found a crash before change 7 of position 2, expected one before changes 0 \
         to 0 of it: the case was edited, or another version of ubdlab has found it"
    );
}

#[test]
fn a_kill_in_the_middle_of_a_write_needs_a_write_that_is_so_long() {
    let in_the_write = |count, found| {
        let mut case = killed(WRITE, 0);
        let write = json!({ "write": { "start": 5, "count": count, "fua": false } });
        case.lives[0].actions[0] = serde_json::from_value(write).unwrap();
        if let End::Kill { pages, .. } = &mut case.lives[0].end {
            *pages = found;
        }
        case
    };
    // Sectors 5 to 20 lie in three pages of the file.
    for pages in 1..3 {
        let case = in_the_write(16, pages);
        assert_eq!(run_exactly(&case), Ok(()));
        let told = tell(&case).unwrap().to_string();
        assert!(
            told.contains("is killed in the middle of that write"),
            "{told}"
        );
        let json = serde_json::to_value(&case).unwrap();
        assert_eq!(serde_json::from_value::<Case>(json).unwrap(), case);
    }
    let misfits = [(1, 1, 0), (16, 3, 2)];
    for (count, found, most) in misfits {
        let expected = DoesNotFit::Pages {
            life: 0,
            found,
            most,
        };
        assert_eq!(misfit(&in_the_write(count, found)), expected);
    }
}

#[test]
fn survivors_of_another_host_are_refused() {
    let (too_many, torn) = (
        cut(FLUSH, 0, &[Survival::Whole, Survival::Whole]),
        cut(FLUSH, 0, &[Survival::Torn(vec![(0, 9)])]),
    );
    assert!(matches!(
        misfit(&too_many),
        DoesNotFit::Survivors {
            life: 0,
            error: BadSurvivors::FileCount {
                inode: COW,
                found: 2,
                expected: 1
            }
        }
    ));
    assert!(matches!(
        misfit(&torn),
        DoesNotFit::Survivors {
            error: BadSurvivors::Tear { .. },
            ..
        }
    ));
    let mut of_no_file = cut(FLUSH, 0, &[Survival::Whole]);
    if let End::PowerCut { survivors, .. } = &mut of_no_file.lives[0].end {
        survivors.files.insert(InodeNumber(99), Vec::new());
    }
    assert!(matches!(
        misfit(&of_no_file),
        DoesNotFit::Survivors {
            error: BadSurvivors::NoSuchFile(InodeNumber(99)),
            ..
        }
    ));
}

#[test]
fn a_life_that_does_not_come_up_cannot_crash_later() {
    let mut case = killed(WRITE, 0);
    case.image.bitmap_cut = Some(3);
    let error = misfit(&case);
    assert!(
        error
            .to_string()
            .contains("expected none, for the device did not come up")
    );
    // Refusing it is right, and is told so.
    case.lives[0].end = End::Close;
    assert_eq!(run_exactly(&case), Ok(()));
    let told = tell(&case).unwrap().to_string();
    assert!(told.contains("the device did not come up\n"), "{told}");
    assert!(!told.contains("the device was closed"), "{told}");
}

/// The lives before the last are run as they say in a search too.
#[test]
fn a_search_refuses_what_comes_before_it() {
    let mut case = killed(WRITE, 3);
    let last = case.lives[0].clone();
    case.lives.push(last);
    let error = Search::for_anything(1).of(&case).unwrap_err();
    assert!(matches!(
        error,
        DoesNotFit::NoSuchChange {
            life: 0,
            changes: 1,
            ..
        }
    ));
    // The last one crashes everywhere, whatever it says.
    case.lives.remove(0);
    assert_eq!(Search::for_anything(1).of(&case), Ok(None));
}
