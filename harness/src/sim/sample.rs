//! Survivors drawn at random, for cases with too many to enumerate. The caller brings
//! the generator, of which only [`below`] is asked, so that the same seed draws the same survivors
//! on every machine and with every version of the libraries.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::streams::below;

use super::enumerate::runs;
use super::survivors::{Survival, Survivors, Unsynced, UnsyncedFile, UnsyncedOperation};

/// How likely the fates of an unsynced operation are, in relation to each other. When
/// all are 0, everything is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivalWeights {
    /// It is lost.
    pub lost: u32,
    /// It survives whole.
    pub whole: u32,
    /// It is torn, if it can be; of names: some first changes survive.
    pub torn: u32,
}

impl SurvivalWeights {
    /// Weights for one case. They differ widely from case to case, because a defect may
    /// show only when nearly everything survives, or nearly nothing, or all is torn.
    pub fn draw<R: Rng + ?Sized>(rng: &mut R) -> Self {
        const PROFILES: [[u32; 3]; 6] = [
            [1, 1, 1],
            [1, 1, 0],
            [1, 15, 1],
            [15, 1, 1],
            [1, 1, 6],
            [0, 7, 1],
        ];
        let [lost, whole, torn] = PROFILES[below(rng, PROFILES.len() as u64) as usize];
        Self { lost, whole, torn }
    }

    /// Whether something survives that cannot be torn.
    pub(crate) fn survives<R: Rng + ?Sized>(self, rng: &mut R) -> bool {
        match self.fate(rng) {
            Fate::Lost => false,
            Fate::Whole => true,
            Fate::Torn => coin(rng),
        }
    }

    fn fate<R: Rng + ?Sized>(self, rng: &mut R) -> Fate {
        let [lost, whole, torn] = [self.lost, self.whole, self.torn].map(u64::from);
        match below(rng, (lost + whole + torn).max(1)) {
            drawn if drawn < lost => Fate::Lost,
            drawn if drawn < lost + whole => Fate::Whole,
            drawn if drawn < lost + whole + torn => Fate::Torn,
            _ => Fate::Lost,
        }
    }
}

enum Fate {
    Lost,
    Whole,
    Torn,
}

impl Unsynced {
    /// Draws survivors of a power cut.
    pub fn sample<R: Rng + ?Sized>(&self, weights: SurvivalWeights, rng: &mut R) -> Survivors {
        let mut survivors = Survivors::default();
        for file in &self.files {
            let operations = file.operations.iter();
            let decided = operations.map(|operation| survival(operation, weights, rng));
            survivors.files.insert(file.inode, decided.collect());
        }
        for names in &self.directories {
            let count = names.changes.len();
            let kept = if self.ordered_names {
                let prefix = match weights.fate(rng) {
                    Fate::Lost => 0,
                    Fate::Whole => count,
                    Fate::Torn => below(rng, count as u64 + 1) as usize,
                };
                (0..count).map(|place| place < prefix).collect()
            } else {
                (0..count).map(|_| weights.survives(rng)).collect()
            };
            survivors.names.insert(names.directory.to_path_buf(), kept);
        }
        for (&inode, times) in &self.times {
            let (fate, count) = (weights.fate(rng), times.len());
            let place = match fate {
                Fate::Lost => 0,
                Fate::Whole => count - 1,
                Fate::Torn => below(rng, count as u64) as usize,
            };
            survivors.times.insert(inode, times[place]);
        }
        survivors
    }

    /// Tears one of the operations that can be torn, if there are any, whatever `survivors` of
    /// these say of it.
    pub fn tear_one<R: Rng + ?Sized>(&self, survivors: &mut Survivors, rng: &mut R) {
        let tearable =
            |file: &UnsyncedFile| file.operations.iter().filter(|o| o.can_tear()).count();
        let count: usize = self.files.iter().map(tearable).sum();
        if count == 0 {
            return;
        }
        let mut left = below(rng, count as u64);
        for file in &self.files {
            for (position, operation) in file.operations.iter().enumerate() {
                if !operation.can_tear() {
                    continue;
                }
                if left == 0 {
                    let fates = survivors.files.entry(file.inode).or_default();
                    fates.resize(file.operations.len(), Survival::Lost);
                    fates[position] = torn(operation, rng);
                    return;
                }
                left -= 1;
            }
        }
    }
}

fn coin<R: Rng + ?Sized>(rng: &mut R) -> bool {
    below(rng, 2) == 1
}

fn survival<R: Rng + ?Sized>(
    operation: &UnsyncedOperation,
    weights: SurvivalWeights,
    rng: &mut R,
) -> Survival {
    match weights.fate(rng) {
        Fate::Lost => Survival::Lost,
        Fate::Whole => Survival::Whole,
        Fate::Torn if operation.can_tear() => torn(operation, rng),
        Fate::Torn => match coin(rng) {
            true => Survival::Whole,
            false => Survival::Lost,
        },
    }
}

/// A fate of an operation that can be torn.
fn torn<R: Rng + ?Sized>(operation: &UnsyncedOperation, rng: &mut R) -> Survival {
    let alone = operation.atoms == 1;
    match operation.may_leave_its_length && (alone || below(rng, 4) == 0) {
        true => Survival::Torn(Vec::new()),
        false => tear(operation.atoms, rng),
    }
}

/// Tears into at least one atom that survives and one that does not.
fn tear<R: Rng + ?Sized>(atoms: u64, rng: &mut R) -> Survival {
    /// Up to here each atom may decide for itself; what is longer is cut in few places.
    const SCATTERED: u64 = 256;
    let cut = 1 + below(rng, atoms - 1);
    Survival::Torn(match below(rng, 5) {
        0 => vec![(0, cut)],
        1 => vec![(cut, atoms)],
        // One atom survives.
        2 => vec![(cut, cut + 1)],
        // One is lost; it may be the last.
        3 => [(0, cut), (cut + 1, atoms)]
            .into_iter()
            .filter(|(from, to)| from < to)
            .collect(),
        _ if atoms <= SCATTERED => {
            let mut kept: Vec<bool> = (0..atoms).map(|_| coin(rng)).collect();
            // `cut` is never the first, so that these two are different.
            kept[cut as usize] = !kept[0];
            runs(kept.into_iter())
        }
        _ => {
            let end = cut + 1 + below(rng, atoms - cut);
            match coin(rng) {
                true => vec![(cut, end)],
                false if end < atoms => vec![(0, cut), (end, atoms)],
                false => vec![(0, cut)],
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn a_tear_is_never_all_or_nothing_and_always_in_order() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for round in 0..20_000 {
            let atoms = 2 + round % 300;
            let Survival::Torn(runs) = tear(atoms, &mut rng) else {
                panic!("a tear must be torn");
            };
            let kept: u64 = runs.iter().map(|(from, to)| to - from).sum();
            assert!(kept > 0 && kept < atoms, "{runs:?} of {atoms}");
            let mut behind = 0;
            for (from, to) in runs {
                assert!(behind <= from && from < to && to <= atoms);
                behind = to + 1;
            }
        }
    }

    #[test]
    fn weights_decide() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut fates = |lost, whole, torn| {
            let weights = SurvivalWeights { lost, whole, torn };
            let mut seen = [0; 3];
            for _ in 0..1000 {
                seen[weights.fate(&mut rng) as usize] += 1;
            }
            seen
        };
        assert_eq!(fates(1, 0, 0), [1000, 0, 0]);
        assert_eq!(fates(0, 1, 0), [0, 1000, 0]);
        assert_eq!(fates(0, 0, 1), [0, 0, 1000]);
        assert_eq!(fates(0, 0, 0), [1000, 0, 0]);
        assert!(fates(1, 1, 1).iter().all(|&seen| seen > 250));
    }
}
