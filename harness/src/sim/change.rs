//! One change of a file's content: how it is carried out, and what of it is left
//! when the power was cut before it was synced.

use driver::host::OperationKind;
use driver::units::{Bytes, FileOffset, FileRange};

use super::assumptions::Assumptions;
use super::content::FileContent;
use super::page::PAGE_SIZE;
use super::payload::Payload;
use super::survivors::Survival;

/// A change of a file's content or length. A clone shares the data.
#[derive(Clone)]
pub(crate) enum Change {
    Write {
        at: FileOffset,
        data: Payload,
    },
    SetLen(Bytes),
    PunchHole(FileRange),
    ZeroRange(FileRange),
    /// The extents of another file, with what that had in them at the time.
    Clone {
        at: FileOffset,
        data: Payload,
    },
}

impl Change {
    pub(crate) fn kind(&self) -> OperationKind {
        match self {
            Change::Write { .. } => OperationKind::Write,
            Change::SetLen(_) => OperationKind::SetLen,
            Change::PunchHole(_) => OperationKind::PunchHole,
            Change::ZeroRange(_) => OperationKind::ZeroRange,
            Change::Clone { .. } => OperationKind::CloneRange,
        }
    }

    /// The bytes that it changes; of a new length, the empty range there.
    pub(crate) fn range(&self) -> FileRange {
        match self {
            Change::Write { at, data } | Change::Clone { at, data } => {
                FileRange::new(*at, Bytes(data.len() as u64))
            }
            Change::SetLen(len) => FileRange::new(FileOffset(len.0), Bytes(0)),
            Change::PunchHole(range) | Change::ZeroRange(range) => *range,
        }
    }

    /// How many borders between units of this many bytes of the file lie within it.
    pub(crate) fn borders(&self, unit: u64) -> u64 {
        let range = self.range();
        let units = range.end().0.div_ceil(unit) - range.start.0 / unit;
        units.saturating_sub(1)
    }

    /// Of a write, what lies before the border between such units within it that has this number,
    /// counted from 1.
    pub(crate) fn up_to_border(&self, unit: u64, number: u64) -> Option<Change> {
        let Change::Write { at, data } = self else {
            return None;
        };
        if !(1..=self.borders(unit)).contains(&number) {
            return None;
        }
        let border = (at.0 / unit + number) * unit;
        let data = data[..(border - at.0) as usize].into();
        Some(Change::Write { at: *at, data })
    }

    /// In how many parts, each of which survives or does not, a power cut may tear it.
    pub(crate) fn atoms(&self, assumptions: &Assumptions) -> u64 {
        match self {
            Change::SetLen(_) if assumptions.atomic_set_len => 1,
            Change::SetLen(_) => 2,
            _ => {
                let (range, unit) = (self.range(), self.unit(assumptions));
                range.end().0.div_ceil(unit) - range.start.0 / unit
            }
        }
    }

    /// The bytes, aligned to their own number, that survive together. Extents are shared in whole
    /// pages.
    fn unit(&self, assumptions: &Assumptions) -> u64 {
        match self {
            Change::Clone { .. } => assumptions.unit().max(PAGE_SIZE),
            _ => assumptions.unit(),
        }
    }

    /// Whether a new length can be all that it leaves.
    pub(crate) fn may_leave_its_length(&self, assumptions: &Assumptions) -> bool {
        !assumptions.length_follows_data
            && matches!(
                self,
                Change::Write { .. } | Change::ZeroRange(_) | Change::Clone { .. }
            )
    }

    /// Carries it out.
    pub(crate) fn apply(&self, content: &mut FileContent) {
        match self {
            Change::Write { at, data } => data.write_to(content, *at),
            Change::Clone { at, data } => content.share(data, *at),
            Change::SetLen(len) => content.set_len(*len),
            Change::PunchHole(range) => content.punch_hole(*range),
            Change::ZeroRange(range) => content.zero_range(*range),
        }
    }

    /// Carries out what survived of it.
    pub(crate) fn apply_survivor(
        &self,
        survival: &Survival,
        content: &mut FileContent,
        assumptions: &Assumptions,
    ) {
        match survival {
            Survival::Lost => {}
            Survival::Whole => self.apply(content),
            Survival::Torn(atoms) => {
                for &run in atoms {
                    self.apply_atoms(run, content, self.unit(assumptions));
                }
                if self.may_leave_its_length(assumptions) {
                    content.extend_to(self.range().end().0);
                }
            }
        }
    }

    fn apply_atoms(&self, (from, to): (u64, u64), content: &mut FileContent, unit: u64) {
        let whole = self.range();
        let base = whole.start.0 / unit;
        let part = || {
            let start = whole.start.0.max((base + from) * unit);
            let end = whole.end().0.min((base + to) * unit);
            FileRange::between(FileOffset(start)..FileOffset(end))
        };
        match self {
            Change::Write { at, data } => {
                let part = part();
                let (start, end) = (part.start - *at, part.end() - *at);
                content.write_at(&data[start.0 as usize..end.0 as usize], part.start);
            }
            Change::Clone { at, data } => {
                let part = part();
                let (start, end) = (part.start - *at, part.end() - *at);
                content.share(&data[start.0 as usize..end.0 as usize], part.start);
            }
            Change::PunchHole(_) => content.punch_hole(part()),
            Change::ZeroRange(_) => content.zero_range(part()),
            Change::SetLen(len) => {
                if (from..to).contains(&Self::CONTENT_OF_SET_LEN) {
                    content.discard_past(*len);
                }
                if (from..to).contains(&Self::LENGTH_OF_SET_LEN) {
                    content.set_length_only(*len);
                }
            }
        }
    }

    /// The atom of a new length that removes the content past it.
    const CONTENT_OF_SET_LEN: u64 = 0;
    /// The atom of a new length that is the length itself.
    const LENGTH_OF_SET_LEN: u64 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: u64, data: &[u8]) -> Change {
        Change::Write {
            at: FileOffset(at),
            data: data.into(),
        }
    }

    fn left_of(
        change: &Change,
        atoms: &[(u64, u64)],
        before: &[u8],
        rules: &Assumptions,
    ) -> Vec<u8> {
        let mut content = FileContent::from_bytes(before);
        change.apply_survivor(&Survival::Torn(atoms.to_vec()), &mut content, rules);
        content.to_bytes()
    }

    #[test]
    fn a_write_tears_at_the_sectors_of_the_file_not_at_its_own_start() {
        let rules = Assumptions::default();
        let change = write(500, &[7; 600]);
        assert_eq!(change.atoms(&rules), 3);
        let torn = left_of(&change, &[(0, 1), (2, 3)], &[1; 1200], &rules);
        let expected = [&[1; 500][..], &[7; 12], &[1; 512], &[7; 76], &[1; 100]].concat();
        assert_eq!(torn, expected);
    }

    #[test]
    fn a_torn_write_past_the_end_is_as_long_as_its_last_surviving_sector() {
        let rules = Assumptions::default();
        let change = write(0, &[7; 2048]);
        assert_eq!(
            left_of(&change, &[(1, 2)], &[], &rules),
            [[0; 512], [7; 512]].concat()
        );
        let weakened = Assumptions {
            length_follows_data: false,
            ..rules
        };
        assert_eq!(left_of(&change, &[], &[], &weakened), [0; 2048]);
    }

    #[test]
    fn a_sector_tears_only_where_that_is_allowed() {
        let change = write(0, &[7; 512]);
        assert_eq!(change.atoms(&Assumptions::default()), 1);
        let weakened = Assumptions {
            atomic_unit: 8,
            ..Assumptions::default()
        };
        assert_eq!(change.atoms(&weakened), 64);
        let torn = left_of(&change, &[(1, 2)], &[1; 24], &weakened);
        assert_eq!(torn, [[1; 8], [7; 8], [1; 8]].concat());
    }

    #[test]
    fn a_torn_cut_leaves_the_length_or_what_lay_past_it() {
        let weakened = Assumptions {
            atomic_set_len: false,
            ..Assumptions::default()
        };
        let change = Change::SetLen(Bytes(2));
        assert_eq!(change.atoms(&weakened), 2);
        assert_eq!(
            left_of(&change, &[(0, 1)], &[9; 4], &weakened),
            [9, 9, 0, 0]
        );
        let mut content = FileContent::from_bytes(&[9; 4]);
        change.apply_survivor(&Survival::Torn(vec![(1, 2)]), &mut content, &weakened);
        assert_eq!(content.to_bytes(), [9, 9]);
        content.set_len(Bytes(3));
        assert_eq!(content.to_bytes(), [9, 9, 9]);
    }
}
