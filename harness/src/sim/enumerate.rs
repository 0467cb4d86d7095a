//! All survivors of a power cut, one by one, for cases small enough to look at every
//! one of them. The order is fixed: the same host gives the same sequence.

use super::survivors::{Survival, Survivors, Unsynced, UnsyncedNames, UnsyncedOperation};

/// Which torn operations an enumeration includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tearing {
    /// None: each operation is lost or survives whole.
    None,
    /// Each subset, and each subset with one operation torn in each possible way.
    One,
    /// Everything: each subset of the atoms of all operations.
    Every,
}

/// There are more survivors than anyone would enumerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ways in which {operations} unsynced operations can survive do not fit in 64 bits")]
pub struct TooManySurvivors {
    /// How many operations there are.
    pub operations: usize,
}

impl Unsynced {
    /// How many survivors [`Unsynced::subsets`] gives.
    pub fn subset_count(&self, tearing: Tearing) -> Result<u64, TooManySurvivors> {
        let too_many = TooManySurvivors {
            operations: self.operation_count(),
        };
        let mut digits = self.digits(tearing).ok_or(too_many)?;
        let product = |digits: &[Digit]| {
            (digits.iter()).try_fold(1u64, |count, digit| count.checked_mul(digit.choices))
        };
        let mut count = product(&digits);
        for place in self.tearable(tearing, &digits) {
            let whole = digits[place];
            digits[place] = whole.torn_only().ok_or(too_many)?;
            count = count
                .zip(product(&digits))
                .and_then(|(a, b)| a.checked_add(b));
            digits[place] = whole;
        }
        count.ok_or(too_many)
    }

    /// All survivors, from nothing to everything, those with torn operations included
    /// as told.
    pub fn subsets(&self, tearing: Tearing) -> Result<Subsets<'_>, TooManySurvivors> {
        let left = self.subset_count(tearing)?;
        let digits = self.digits(tearing).unwrap_or_default();
        Ok(Subsets {
            unsynced: self,
            tearable: self.tearable(tearing, &digits),
            values: vec![0; digits.len()],
            digits,
            torn: None,
            left,
        })
    }

    /// One digit for each operation on a file, then for each independent decision about names, and
    /// then for each file's time; `None` if a digit has more choices than can be counted.
    fn digits(&self, tearing: Tearing) -> Option<Vec<Digit>> {
        let files = self.files.iter().flat_map(|file| &file.operations);
        let mut digits = files
            .map(|operation| Digit::of(operation, tearing))
            .collect::<Option<Vec<_>>>()?;
        for directory in &self.directories {
            let changes = directory.changes.len();
            let (digit, count) = match self.ordered_names {
                true => (Digit::plain(changes as u64 + 1), 1),
                false => (Digit::plain(2), changes),
            };
            digits.extend(vec![digit; count]);
        }
        let times = self.times.values();
        digits.extend(times.map(|times| Digit::plain(times.len() as u64)));
        Some(digits)
    }

    /// The digits that are torn one at a time, in phases of their own.
    fn tearable(&self, tearing: Tearing, digits: &[Digit]) -> Vec<usize> {
        // As `UnsyncedOperation::can_tear` has it.
        let torn = |digit: &Digit| digit.atoms > 1 || digit.may_leave_its_length;
        (0..digits.len())
            .filter(|&place| tearing == Tearing::One && torn(&digits[place]))
            .collect()
    }
}

/// One decision: how many ways there are and what a value stands for.
#[derive(Clone, Copy, Debug)]
struct Digit {
    choices: u64,
    atoms: u64,
    may_leave_its_length: bool,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// 0 is lost, the last choice is whole, or a count, for names.
    Plain,
    /// A bit mask of the atoms that survive; after all masks, the length alone.
    Mask,
    /// As [`Meaning::Mask`], without lost and whole.
    TornOnly,
}

impl Digit {
    fn plain(choices: u64) -> Self {
        Self {
            choices,
            atoms: 1,
            may_leave_its_length: false,
            meaning: Meaning::Plain,
        }
    }

    fn of(operation: &UnsyncedOperation, tearing: Tearing) -> Option<Self> {
        let plain = Self {
            atoms: operation.atoms,
            may_leave_its_length: operation.may_leave_its_length,
            ..Self::plain(2)
        };
        match tearing {
            Tearing::None | Tearing::One => Some(plain),
            Tearing::Every => Some(Self {
                choices: plain.masks()? + u64::from(plain.may_leave_its_length),
                meaning: Meaning::Mask,
                ..plain
            }),
        }
    }

    fn torn_only(self) -> Option<Self> {
        Some(Self {
            choices: self.masks()? - 2 + u64::from(self.may_leave_its_length),
            meaning: Meaning::TornOnly,
            ..self
        })
    }

    /// The number of masks of the atoms.
    fn masks(self) -> Option<u64> {
        (self.atoms < 63).then(|| 1 << self.atoms)
    }

    fn survival(self, value: u64) -> Survival {
        let mask = match self.meaning {
            Meaning::Plain if value == 0 => return Survival::Lost,
            Meaning::Plain => return Survival::Whole,
            // The last choice is the length alone, where there is such a thing.
            _ if self.may_leave_its_length && value + 1 == self.choices => {
                return Survival::Torn(Vec::new());
            }
            Meaning::Mask => value,
            Meaning::TornOnly => value + 1,
        };
        survival_of_mask(mask, self.atoms)
    }
}

/// What a mask of the surviving atoms stands for.
fn survival_of_mask(mask: u64, atoms: u64) -> Survival {
    let full = (1u64 << atoms) - 1;
    match mask {
        0 => Survival::Lost,
        _ if mask == full => Survival::Whole,
        _ => Survival::Torn(runs((0..atoms).map(|atom| mask >> atom & 1 == 1))),
    }
}

/// The runs of `true`.
pub(crate) fn runs(kept: impl Iterator<Item = bool>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (atom, _) in (0..).zip(kept).filter(|(_, kept)| *kept) {
        match runs.last_mut() {
            Some((_, end)) if *end == atom => *end += 1,
            _ => runs.push((atom, atom + 1)),
        }
    }
    runs
}

/// Iterator over all survivors; see [`Unsynced::subsets`].
#[derive(Clone, Debug)]
pub struct Subsets<'a> {
    unsynced: &'a Unsynced,
    digits: Vec<Digit>,
    values: Vec<u64>,
    /// The places still to be torn one at a time.
    tearable: Vec<usize>,
    /// The place that is being torn, and its digit when it is not.
    torn: Option<(usize, Digit)>,
    left: u64,
}

impl Subsets<'_> {
    fn survivors(&self) -> Survivors {
        let mut survivors = Survivors::default();
        let mut digits = self.digits.iter().zip(&self.values);
        for file in &self.unsynced.files {
            let survival = |(digit, &value): (&Digit, &u64)| digit.survival(value);
            let decided = digits.by_ref().take(file.operations.len()).map(survival);
            survivors.files.insert(file.inode, decided.collect());
        }
        for UnsyncedNames { directory, changes } in &self.unsynced.directories {
            let count = changes.len();
            let kept = match self.unsynced.ordered_names {
                true => {
                    let prefix = digits.next().map_or(0, |(_, &value)| value as usize);
                    (0..count).map(|place| place < prefix).collect()
                }
                false => (digits.by_ref().take(count))
                    .map(|(_, &value)| value == 1)
                    .collect(),
            };
            survivors.names.insert(directory.to_path_buf(), kept);
        }
        for ((&inode, times), (_, &value)) in self.unsynced.times.iter().zip(digits) {
            survivors.times.insert(inode, times[value as usize]);
        }
        survivors
    }

    fn advance(&mut self) {
        for (digit, value) in self.digits.iter().zip(&mut self.values) {
            *value += 1;
            if *value < digit.choices {
                return;
            }
            *value = 0;
        }
        if let Some((place, digit)) = self.torn.take() {
            self.digits[place] = digit;
        }
        if let Some(place) = self.tearable.pop() {
            let digit = self.digits[place];
            self.torn = Some((place, digit));
            self.digits[place] = digit.torn_only().unwrap_or(digit);
        }
    }
}

impl Iterator for Subsets<'_> {
    type Item = Survivors;

    fn next(&mut self) -> Option<Survivors> {
        self.left = self.left.checked_sub(1)?;
        let survivors = self.survivors();
        self.advance();
        Some(survivors)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use driver::host::OperationKind;
    use driver::units::FileRange;

    use super::super::names::NameChange;

    use super::super::survivors::{InodeNumber, UnsyncedFile};
    use super::*;

    fn unsynced(files: &[&[u64]], names: usize, ordered_names: bool) -> Unsynced {
        let operation = |atoms| UnsyncedOperation {
            index: 0,
            kind: OperationKind::Write,
            range: FileRange::default(),
            atoms,
            may_leave_its_length: false,
            orphaned: false,
        };
        let path = || std::path::Path::new("d").into();
        let change = |inode| NameChange::Remove {
            path: path(),
            inode: InodeNumber(inode),
        };
        Unsynced {
            files: (0..)
                .zip(files)
                .map(|(inode, atoms)| UnsyncedFile {
                    inode: InodeNumber(inode),
                    path: path(),
                    operations: atoms.iter().copied().map(operation).collect(),
                })
                .collect(),
            directories: vec![UnsyncedNames {
                directory: path(),
                changes: (0..names as u64).map(change).collect(),
            }],
            times: BTreeMap::new(),
            ordered_names,
        }
    }

    /// Checks that all are different, and that their number, which is returned, is as announced.
    fn count(unsynced: &Unsynced, tearing: Tearing) -> u64 {
        let all: Vec<Survivors> = unsynced.subsets(tearing).unwrap().collect();
        let different: BTreeSet<String> = all
            .iter()
            .map(|one| serde_json::to_string(one).unwrap())
            .collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(unsynced.subset_count(tearing), Ok(all.len() as u64));
        assert_eq!(unsynced.subsets(tearing).unwrap().size_hint().0, all.len());
        all.len() as u64
    }

    #[test]
    fn n_operations_have_two_to_the_n_subsets() {
        assert_eq!(
            count(&unsynced(&[&[1, 8, 3], &[64, 1]], 0, true), Tearing::None),
            32
        );
        assert_eq!(count(&unsynced(&[&[8; 12]], 0, true), Tearing::None), 4096);
        assert_eq!(count(&unsynced(&[], 0, true), Tearing::None), 1);
    }

    #[test]
    fn names_are_a_prefix_or_any_subset() {
        assert_eq!(count(&unsynced(&[&[1]], 3, true), Tearing::None), 2 * 4);
        assert_eq!(count(&unsynced(&[&[1]], 3, false), Tearing::None), 2 * 8);
    }

    #[test]
    fn every_subset_of_the_atoms_is_every_way_to_tear() {
        assert_eq!(
            count(&unsynced(&[&[3, 2], &[1]], 1, true), Tearing::Every),
            1 << 7
        );
    }

    #[test]
    fn tearing_one_at_a_time_adds_each_mask_of_each_operation() {
        // Eight subsets, and for the two that tear their 6 and 2 masks times 4.
        let unsynced = unsynced(&[&[3, 2], &[1]], 0, true);
        assert_eq!(count(&unsynced, Tearing::One), 8 + (6 + 2) * 4);
    }

    #[test]
    fn a_length_that_survives_alone_is_one_more_way() {
        let mut unsynced = unsynced(&[&[2, 1]], 0, true);
        for operation in &mut unsynced.files[0].operations {
            operation.may_leave_its_length = true;
        }
        assert_eq!(count(&unsynced, Tearing::None), 4);
        assert_eq!(count(&unsynced, Tearing::One), 4 + 3 * 2 + 2);
        assert_eq!(count(&unsynced, Tearing::Every), 5 * 3);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let unsynced = unsynced(&[&[64]], 0, true);
        assert!(unsynced.subsets(Tearing::None).is_ok());
        for tearing in [Tearing::One, Tearing::Every] {
            assert!(unsynced.subsets(tearing).is_err());
        }
    }
}
