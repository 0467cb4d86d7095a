//! Which crash images of a crash point are looked at. What is documented of this
//! ([`described`]) is made of the numbers here, and the coverage counts what came of them.

use crate::sim::{SurvivalWeights, Survivors, Tearing, Unsynced};
use crate::streams::Stream;

/// A crash point with at most this many power cuts has all of them looked at, in every case.
const FEW: u64 = 24;

/// The limit in a case that is looked at whole: every subset of twelve operations, with one of
/// them torn in each possible way.
const MANY: u64 = 1 << 16;

/// Survivors drawn at a crash point that has more than that, beside none and all.
const DRAWN: u64 = 10;

/// At least this many of the drawn survivors are torn, where something can tear. Where each subset
/// is looked at and not each way to tear, this many torn ones are drawn besides.
const TORN: u64 = 2;

/// A case is looked at whole if its first life has fewer actions than this.
pub(super) const SMALL: usize = 12;

/// The percentage of these cases that is looked at whole.
pub(super) const WHOLE_PERCENT: u64 = 6;

/// What is looked at of a crash point, for people: lines of at most 90 columns.
pub fn described() -> String {
    format!(
        "\
At a crash point the process is killed, before the next operation and, if that is a write
of several pages, after some of them; and the power is cut. Up to {FEW} power cuts are all
looked at: each subset of the unsynced operations, and each with one of them torn in each
possible way. If those are more, it is each subset, and {TORN} drawn ones that are torn. If
the subsets alone are more, it is nothing, everything, and {DRAWN} drawn ones, of which at
least {TORN} are torn if something can be. Of the cases with fewer than {SMALL} actions,
{WHOLE_PERCENT} % are looked at whole: the limit is {MANY} then. A device on which that would take
too long has fewer images drawn, and some of its crash points are left out."
    )
}

/// The power cuts of one crash point that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cuts {
    /// Each subset of the operations, and each with one of them torn in each possible way.
    EachTear,
    /// Each subset of the operations, and some that are torn.
    EachSubset { torn: u64 },
    /// Nothing survives, everything does, and some are drawn.
    Drawn { drawn: u64, torn: u64 },
}

/// What of a crash point is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection {
    cuts: Cuts,
    images: u64,
}

impl Selection {
    /// The selection for a crash point with `unsynced` at stake, in a case that can afford
    /// `affordable` images and that is looked at whole or not.
    pub(super) fn of(unsynced: &Unsynced, affordable: u64, whole: bool) -> Selection {
        let most = match whole {
            true => MANY.min(affordable.max(FEW)),
            false => FEW.min(affordable),
        };
        let torn = match unsynced.can_tear() {
            true => TORN,
            false => 0,
        };
        let count = |tearing| {
            let count = unsynced.subset_count(tearing);
            count.ok().filter(|count| *count <= most)
        };
        let (cuts, images) = match (count(Tearing::One), count(Tearing::None)) {
            (Some(count), _) => (Cuts::EachTear, count),
            (None, Some(count)) => (Cuts::EachSubset { torn }, count + torn),
            (None, None) => {
                let drawn = DRAWN.min(affordable).max(torn).max(1);
                (Cuts::Drawn { drawn, torn }, 2 + drawn)
            }
        };
        Selection {
            cuts,
            images: 1 + images,
        }
    }

    /// How many images that is, the kill included.
    pub(super) fn images(&self) -> u64 {
        self.images
    }

    /// The counter of the coverage for this kind of selection.
    pub(super) fn counter(&self) -> &'static str {
        match self.cuts {
            Cuts::EachTear => "crash_point_each_tear",
            Cuts::EachSubset { .. } => "crash_point_each_subset",
            Cuts::Drawn { .. } => "crash_point_drawn",
        }
    }

    /// The survivors that are enumerated.
    pub(super) fn enumerated<'u>(
        &self,
        unsynced: &'u Unsynced,
    ) -> impl Iterator<Item = Survivors> + 'u {
        let tearing = match self.cuts {
            Cuts::EachTear => Some(Tearing::One),
            Cuts::EachSubset { .. } => Some(Tearing::None),
            Cuts::Drawn { .. } => None,
        };
        let subsets = tearing.and_then(|tearing| unsynced.subsets(tearing).ok());
        subsets.into_iter().flatten()
    }

    /// The survivors that are not enumerated.
    pub(super) fn others(&self, unsynced: &Unsynced, rng: &mut Stream) -> Vec<Survivors> {
        let (drawn, torn) = match self.cuts {
            Cuts::EachTear => return Vec::new(),
            Cuts::EachSubset { torn } => (torn, torn),
            Cuts::Drawn { drawn, torn } => (drawn, torn),
        };
        let mut others = match self.cuts {
            Cuts::Drawn { .. } => vec![Survivors::default(), unsynced.everything()],
            _ => Vec::new(),
        };
        let mut whole = drawn - torn;
        for _ in 0..drawn {
            let mut survivors = draw(unsynced, rng);
            if torn > 0 && !survivors.are_torn() {
                match whole.checked_sub(1) {
                    Some(left) => whole = left,
                    None => unsynced.tear_one(&mut survivors, rng),
                }
            }
            others.push(survivors);
        }
        others
    }
}

/// Survivors of a power cut, drawn.
pub(super) fn draw(unsynced: &Unsynced, rng: &mut Stream) -> Survivors {
    let weights = SurvivalWeights::draw(rng);
    unsynced.sample(weights, rng)
}

#[cfg(test)]
mod tests {
    use driver::host::{HostFile, HostNames};
    use driver::units::FileOffset;

    use super::*;
    use crate::sim::SimHost;
    use crate::streams::stream;

    /// What is at stake after `writes` writes of `sectors` sectors each.
    fn unsynced(writes: u64, sectors: usize) -> Unsynced {
        let host = SimHost::default();
        let file = host.create_new("file".as_ref()).unwrap();
        host.sync_directory_of("file".as_ref()).unwrap();
        for number in 0..writes {
            let data = vec![1; 512 * sectors];
            file.write_all_at(&data, FileOffset(number << 20)).unwrap();
        }
        host.unsynced()
    }

    /// How many survivors are looked at, and how many of them are torn.
    fn looked_at(unsynced: &Unsynced, affordable: u64, whole: bool) -> (u64, u64) {
        let selection = Selection::of(unsynced, affordable, whole);
        let (mut all, mut torn) = (0, 0);
        let others = selection.others(unsynced, &mut stream(1, "selection"));
        for survivors in selection.enumerated(unsynced).chain(others) {
            all += 1;
            torn += u64::from(survivors.are_torn());
        }
        assert_eq!(selection.images(), 1 + all);
        (all, torn)
    }

    #[test]
    fn the_page_on_defects_says_what_is_looked_at() {
        let page = include_str!("../../../docs/defects.md");
        assert!(page.contains(&described()), "renew it: {}", described());
        assert!(described().lines().all(|line| line.len() <= 90));
    }

    #[test]
    fn a_point_that_can_tear_tears_however_much_is_at_stake() {
        for writes in 1..40 {
            for affordable in [0, 1, 5, u64::MAX] {
                let unsynced = unsynced(writes, 2);
                let (all, torn) = looked_at(&unsynced, affordable, false);
                assert!(torn >= 1, "{writes} writes, {affordable} images: {all}");
                assert!(all <= FEW + TORN, "{writes} writes: {all}");
            }
        }
    }

    #[test]
    fn few_are_all_looked_at_and_of_many_some() {
        // Two subsets and two ways to tear; 2^4 subsets, and TORN drawn; too many.
        assert_eq!(looked_at(&unsynced(1, 2), u64::MAX, false), (4, 2));
        assert_eq!(
            looked_at(&unsynced(4, 2), u64::MAX, false),
            (16 + TORN, TORN)
        );
        assert_eq!(looked_at(&unsynced(5, 2), u64::MAX, false).0, 2 + DRAWN);
        assert_eq!(looked_at(&unsynced(5, 1), u64::MAX, false), (2 + DRAWN, 0));
        // 2^12 subsets, and 12 times 2^11 with one torn in either way.
        let every = (1 << 12) + 12 * 2 * (1 << 11);
        assert_eq!(
            looked_at(&unsynced(12, 2), u64::MAX, true),
            (every, every - (1 << 12))
        );
        assert!(every <= MANY);
    }
}
