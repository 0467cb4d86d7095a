//! What a driver has taken for done and its host has not done, in a recording: which of two defects
//! a finding then shows.

use std::collections::{BTreeMap, BTreeSet};

use driver::host::OperationKind;
use driver::linux::Defect;
use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::fuzz::build::layout;
use crate::fuzz::case::Case;
use crate::fuzz::paths::COW;
use crate::fuzz::recorded::{
    GuestRequest, GuestWord, HostRecord, Piece, Recording, Witnessed, content, numbered_after,
    requests_after,
};
use crate::fuzz::signature::Act;
use crate::fuzz::violation::{Kind, Violation};
use crate::stamp::Content;

/// The defect by which the driver has taken for done what its host has not done, if the sector
/// shows that: a change of it has ended well, or a read that has brought zeros, while the host did
/// not do an operation on its data, or on the words that have its bit. If the host wrote nothing
/// and said no error, that is [`Defect::ZeroWriteIsSuccess`]. If it has failed, it is
/// [`Defect::SharedErrno`], provided that no request has heard of it: all that were in flight then
/// have ended well.
pub(super) fn taken_for_done(
    case: &Case,
    recordings: &[Recording],
    violation: &Violation,
) -> Option<Defect> {
    let may_show = matches!(
        violation.kind,
        Kind::LostWrite | Kind::Zeros | Kind::StaleRead
    );
    let layout = layout(&case.image).filter(|_| may_show)?;
    let sector = violation.sector.filter(|&it| it < layout.with_bit)?;
    let places = Places {
        data: layout.place(sector),
        bit: layout.bitmap + layout.bit(sector).0,
        below: Sector(sector).bytes().0,
    };
    for (at, (life, recording)) in case.lives.iter().zip(recordings).enumerate() {
        let sectors = case.image.sectors;
        let requests = requests_after(numbered_after(at), life, sectors, recording.longest);
        let mut in_flight = BTreeSet::new();
        // What was not done, and the requests that were in flight then.
        let mut undone = Vec::new();
        // The requests that have ended well, and whether the sector may show what became of them.
        let mut ended_well = BTreeMap::new();
        for witnessed in &recording.witnessed {
            match witnessed {
                Witnessed::Guest(GuestWord::Submitted { number }) => {
                    in_flight.insert(*number);
                }
                Witnessed::Host(record) => {
                    let defect = places.defect_of(record);
                    undone.extend(defect.map(|defect| (defect, in_flight.clone())));
                }
                Witnessed::Guest(GuestWord::Ended {
                    number,
                    errno,
                    brought,
                }) => {
                    in_flight.remove(number);
                    if errno.is_none() {
                        let asked = requests.get(number);
                        let shows = asked.is_some_and(|asked| shows(violation, asked, brought));
                        ended_well.insert(*number, shows);
                    }
                }
                Witnessed::Guest(_) => {}
            }
        }
        let explains = |(defect, beside): &(Defect, BTreeSet<u32>)| {
            let mut ends = beside.iter().map(|number| ended_well.get(number).copied());
            let is_unheard = *defect != Defect::SharedErrno || ends.clone().all(|it| it.is_some());
            is_unheard && ends.any(|shows| shows == Some(true))
        };
        if let Some((defect, _)) = undone.iter().find(|it| explains(it)) {
            return Some(*defect);
        }
    }
    None
}

/// Where a sector is.
struct Places {
    /// Its data in the COW file.
    data: u64,
    /// The byte with its bit there.
    bit: u64,
    /// Its data in the backing file.
    below: u64,
}

impl Places {
    /// The defect of a driver that takes this for done, if it was to do something to the sector and
    /// was not done. A write of zeros does not count: where the host cannot make them, the block
    /// layer has them written, and the guest hears no error.
    fn defect_of(&self, record: &HostRecord) -> Option<Defect> {
        let kind = record.kind().ok()?;
        let defect = match record.errno {
            Some(_) => Defect::SharedErrno,
            None if kind == OperationKind::Write && record.done == 0 => Defect::ZeroWriteIsSuccess,
            None => return None,
        };
        let asked = record.at..record.at.saturating_add(record.len);
        let is_of_cow = record.path == COW;
        let is_of_sector = match kind {
            OperationKind::Write => asked.contains(&self.data) || asked.contains(&self.bit),
            OperationKind::PunchHole => asked.contains(&self.data),
            OperationKind::Read if is_of_cow => asked.contains(&self.data),
            OperationKind::Read => return asked.contains(&self.below).then_some(defect),
            _ => false,
        };
        (is_of_cow && is_of_sector).then_some(defect)
    }
}

/// Whether the sector of a violation may show what became of a request that has ended well: a
/// change of it, or the read that is wrong, if that has brought zeros.
fn shows(violation: &Violation, asked: &GuestRequest, brought: &[Piece]) -> bool {
    let Some(sector) = violation.sector.map(Sector) else {
        return false;
    };
    if !asked
        .range()
        .overlaps(SectorRange::new(sector, SectorCount(1)))
    {
        return false;
    }
    if asked.operation().is_change() {
        return true;
    }
    let is_wrong_read = violation.signature.operation == Some(Act::Read);
    let content = content(brought).unwrap_or_default();
    let begin = (sector - asked.range().start).bytes().0 as usize;
    let sector = content.get(begin..begin + SECTOR_SIZE as usize);
    is_wrong_read && sector.is_some_and(|sector| Content::of(sector) == Content::Zeros)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fuzz::case::{Image, ImageVersion, Stimulus};
    use crate::fuzz::paths::BACKING;
    use crate::fuzz::recorded::Ending;
    use crate::kernel::case::case_of;
    use crate::sim::Assumptions;

    /// A life of 128 sectors with these actions.
    pub(in crate::kernel) fn case_with(actions: Vec<Stimulus>) -> Case {
        let mut case = case_of(1, false, Assumptions::default());
        case.image = Image::sound(128, ImageVersion::V3, 4096);
        case.lives[0].actions = actions;
        case
    }

    pub(in crate::kernel) fn recording_with(witnessed: Vec<Witnessed>) -> Recording {
        Recording {
            kernel: "a test's".into(),
            longest: 128,
            witnessed,
            ending: Ending::Whole,
        }
    }

    fn submitted(number: u32) -> Witnessed {
        Witnessed::Guest(GuestWord::Submitted { number })
    }

    pub(in crate::kernel) fn ended(
        number: u32,
        errno: Option<i32>,
        brought: Vec<Piece>,
    ) -> Witnessed {
        Witnessed::Guest(GuestWord::Ended {
            number,
            errno,
            brought,
        })
    }

    /// The host has done `done` bytes of an operation.
    fn host(
        kind: &str,
        path: &str,
        (at, len): (u64, u64),
        done: u64,
        errno: Option<i32>,
    ) -> Witnessed {
        Witnessed::Host(HostRecord {
            kind: kind.into(),
            path: path.into(),
            at,
            len,
            done,
            data: None,
            errno,
        })
    }

    // Of a write of sectors 70 and 71: its data, and the two words that have its bits.
    const DATA: (u64, u64) = (12288 + 70 * 512, 1024);
    const WORDS: (u64, u64) = (8192, 16);

    #[test]
    fn what_the_host_has_not_written_is_known_by_its_data_and_by_its_bit() {
        let case = case_with(vec![Stimulus::Write {
            start: 70,
            count: 2,
            fua: false,
        }]);
        let vain = Some(Defect::ZeroWriteIsSuccess);
        let unheard = Some(Defect::SharedErrno);
        for (said, expected) in [(None, vain), (Some(5), unheard), (Some(28), unheard)] {
            let named = |sector, kind, place, done, errno| {
                let recording = recording_with(vec![
                    submitted(1002),
                    host("write", COW, place, done, said),
                    ended(1002, errno, Vec::new()),
                ]);
                let violation = Violation::new(kind, "then", "what").of_sector(sector);
                taken_for_done(&case, &[recording], &violation)
            };
            assert_eq!(named(71, Kind::Zeros, DATA, 0, None), expected);
            assert_eq!(named(71, Kind::LostWrite, WORDS, 0, None), expected);
            // Another sector, another kind, an error that the guest has heard, and other places.
            assert_eq!(named(72, Kind::Zeros, DATA, 0, None), None);
            assert_eq!(named(71, Kind::Misplaced, DATA, 0, None), None);
            assert_eq!(named(71, Kind::Zeros, DATA, 0, Some(5)), None);
            assert_eq!(named(71, Kind::Zeros, (DATA.0, 512), 0, None), None);
            assert_eq!(named(71, Kind::Zeros, (0, 4128), 0, None), None);
            // What was done in part, and without an error, is done in part.
            let in_part = expected.filter(|it| *it == Defect::SharedErrno);
            assert_eq!(named(71, Kind::Zeros, DATA, 512, None), in_part);
        }
    }

    #[test]
    fn a_failure_that_another_request_may_have_heard_is_not_taken_for_unheard() {
        let write = |start| Stimulus::Write {
            start,
            count: 2,
            fua: false,
        };
        let case = case_with(vec![write(70), write(80)]);
        let violation = Violation::new(Kind::LostWrite, "then", "what").of_sector(71);
        for (other, expected) in [
            (
                vec![ended(1003, None, Vec::new())],
                Some(Defect::SharedErrno),
            ),
            (vec![ended(1003, Some(5), Vec::new())], None),
            (vec![], None),
        ] {
            // The two words have the bits of both.
            let mut witnessed = vec![submitted(1002), submitted(1003)];
            witnessed.push(host("write", COW, WORDS, 0, Some(5)));
            witnessed.push(ended(1002, None, Vec::new()));
            witnessed.extend(other);
            let recordings = [recording_with(witnessed)];
            assert_eq!(taken_for_done(&case, &recordings, &violation), expected);
        }
    }

    #[test]
    fn a_failure_that_a_read_has_not_heard_is_known_by_the_zeros_that_it_has_brought() {
        let case = case_with(vec![Stimulus::Read {
            start: 70,
            count: 2,
        }]);
        let named = |act, path, place, brought| {
            let recording = recording_with(vec![
                submitted(1002),
                host("read", path, place, 0, Some(5)),
                ended(1002, None, vec![brought]),
            ]);
            let violation = Violation::new(Kind::Zeros, "then", "zeros").of_sector(71);
            taken_for_done(&case, &[recording], &violation.by(act))
        };
        let below = (70 * 512, 1024);
        let unheard = Some(Defect::SharedErrno);
        let zeros = || Piece::Zeros(2);
        assert_eq!(named(Act::Read, COW, DATA, zeros()), unheard);
        assert_eq!(named(Act::Read, BACKING, below, zeros()), unheard);
        // Another place, a read that has brought something, and what is read after a crash.
        assert_eq!(named(Act::Read, BACKING, DATA, zeros()), None);
        assert_eq!(named(Act::Read, COW, below, zeros()), None);
        let stamped = Piece::Stamped {
            stamp: 7,
            first: 70,
            count: 2,
        };
        assert_eq!(named(Act::Read, COW, DATA, stamped), None);
        assert_eq!(named(Act::ReadAll, COW, DATA, zeros()), None);
    }

    #[test]
    fn a_failure_to_make_zeros_is_made_good_by_the_block_layer() {
        let range = |start| (start, 2);
        let (zeros, discard) = (range(70), range(80));
        let case = case_with(vec![
            Stimulus::WriteZeroes {
                start: zeros.0,
                count: zeros.1,
            },
            Stimulus::Discard {
                start: discard.0,
                count: discard.1,
            },
        ]);
        let named = |number, kind: &str, (start, count): (u64, u64)| {
            let place = (12288 + start * 512, count * 512);
            let recording = recording_with(vec![
                submitted(number),
                host(kind, COW, place, 0, Some(95)),
                ended(number, None, Vec::new()),
            ]);
            let violation = Violation::new(Kind::LostWrite, "then", "what").of_sector(start);
            taken_for_done(&case, &[recording], &violation)
        };
        assert_eq!(named(1002, "zero_range", zeros), None);
        let unheard = Some(Defect::SharedErrno);
        assert_eq!(named(1003, "punch_hole", discard), unheard);
    }
}
