//! At which moments of a run it is crashed.

use std::collections::BTreeSet;

use crate::sim::tree::{Recorded, TreeChange};

/// The moments, each as the number of changes that were carried out before it, in order. All of
/// them from `from` to the end of `log`, if there are not more than `most`. Otherwise those around
/// syncs and changes of names come first, and the others are spread over the run.
pub(super) fn points(log: &[Recorded], from: u64, most: u64) -> Vec<u64> {
    let end = log.len() as u64;
    let all = from..=end;
    let count = end.saturating_sub(from) + 1;
    if count <= most {
        return all.collect();
    }
    // The end is one of them.
    let most = most.saturating_sub(1);
    let before_the_end = from..end;
    let decisive = before_the_end.clone().filter(|&point| {
        let at = |point: u64| log.get(usize::try_from(point).unwrap_or(usize::MAX));
        let before = point.checked_sub(1).filter(|&it| it >= from).and_then(at);
        [before, at(point)]
            .into_iter()
            .flatten()
            .any(|it| decides(&it.change))
    });
    // Some are left for what lies between them.
    let decisive: Vec<u64> = decisive.collect();
    let mut chosen: BTreeSet<u64> = spread(&decisive, most - most / 4).into_iter().collect();
    let others: Vec<u64> = before_the_end.filter(|it| !chosen.contains(it)).collect();
    chosen.extend(spread(&others, most - chosen.len() as u64));
    chosen.insert(end);
    chosen.into_iter().collect()
}

/// Whether what is durable, or which names there are, is different after it.
fn decides(change: &TreeChange) -> bool {
    match change {
        TreeChange::Write { .. }
        | TreeChange::PunchHole { .. }
        | TreeChange::Reserve { .. }
        | TreeChange::SetAttributes { .. } => false,
        TreeChange::SetLen { .. }
        | TreeChange::Create { .. }
        | TreeChange::Link { .. }
        | TreeChange::Remove(_)
        | TreeChange::Rename { .. }
        | TreeChange::SyncFile(_)
        | TreeChange::FailSync(_)
        | TreeChange::SyncDirectory(_)
        | TreeChange::Settle => true,
    }
}

/// At most `most` of them, at equal distances.
pub(super) fn spread(all: &[u64], most: u64) -> Vec<u64> {
    let count = all.len() as u64;
    if count <= most {
        return all.to_vec();
    }
    let place = |number: u64| (u128::from(number) * u128::from(count) / u128::from(most)) as usize;
    (0..most).map(|number| all[place(number)]).collect()
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;
    use driver::units::FileOffset;

    use super::*;
    use crate::sim::InodeNumber;
    use crate::sim::tree::Moment;

    fn log(changes: impl Iterator<Item = TreeChange>) -> Vec<Recorded> {
        let recorded = |change| Recorded {
            kind: OperationKind::Write,
            at: Moment::default(),
            change,
        };
        changes.map(recorded).collect()
    }

    fn write() -> TreeChange {
        TreeChange::Write {
            file: InodeNumber(2),
            at: FileOffset(0),
            data: [1].into(),
        }
    }

    #[test]
    fn a_short_run_is_crashed_everywhere() {
        let log = log(std::iter::repeat_with(write).take(5));
        assert_eq!(points(&log, 2, 4), [2, 3, 4, 5]);
        assert_eq!(points(&log, 5, 4), [5]);
    }

    #[test]
    fn of_a_long_run_the_moments_around_syncs_come_first_and_the_rest_is_spread() {
        let change = |number| match number {
            70 => TreeChange::SyncFile(InodeNumber(2)),
            _ => write(),
        };
        let log = log((0..100).map(change));
        let points = points(&log, 0, 12);
        assert_eq!(points.len(), 12);
        assert!([70, 71, 100].iter().all(|point| points.contains(point)));
        assert!(points.iter().filter(|&&point| point < 50).count() > 3);
        assert!(points.is_sorted());
    }

    #[test]
    fn there_are_as_many_points_as_asked_for_with_the_end_among_them() {
        let sync = || TreeChange::SyncFile(InodeNumber(2));
        let writes = log((0..1000).map(|_| write()));
        let syncs = log((0..1000).map(|_| sync()));
        let one_sync = log((0..1000).map(|number| match number {
            999 => sync(),
            _ => write(),
        }));
        for log in [writes, syncs, one_sync] {
            for most in 1..=10 {
                let points = points(&log, 0, most);
                assert_eq!((points.len() as u64, points.last()), (most, Some(&1000)));
            }
        }
    }
}
