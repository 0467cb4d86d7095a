//! A run that is gone through again, forwards: the directory at one moment after the other, and
//! what crashes leave of it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{self, Started};
use crate::sim::tree::{AtStake, Recorded, Tree, TreeChange};
use crate::sim::{Assumptions, InodeNumber};

use super::recipe::Recipe;

/// How long a run is gone through yet when everything is to end. Of a short one what was found is
/// told then.
const LAST_STEPS: Duration = Duration::from_millis(300);

/// A run that is gone through again.
pub(super) struct Replay<'a> {
    log: &'a [Recorded],
    pub(super) tree: Tree,
    at: usize,
    /// Of each node, the place of the last change that needs it.
    last_needed: BTreeMap<InodeNumber, usize>,
    /// What a power cut would put at stake now, once somebody has asked for it.
    at_stake: OnceCell<AtStake>,
    stop: &'a AtomicBool,
    /// Since when it is known that everything is to end.
    ends: Option<Started>,
}

impl<'a> Replay<'a> {
    /// From an empty directory on. Soon after `stop` says that everything is to end, it does.
    pub(super) fn new(
        log: &'a [Recorded],
        assumptions: Assumptions,
        stop: &'a AtomicBool,
    ) -> Replay<'a> {
        let changes = log.iter().enumerate();
        let needed = changes.flat_map(|(at, it)| it.change.needs().map(move |node| (node, at)));
        Replay {
            log,
            tree: Tree::of_a_list(assumptions),
            at: 0,
            last_needed: needed.collect(),
            at_stake: OnceCell::new(),
            stop,
            ends: None,
        }
    }

    /// Carries out what comes before the change with this number. It was carried out before on the
    /// same directory, and so does not fail. Whether it got there, and was not to end.
    pub(super) fn advance_to(&mut self, point: u64) -> bool {
        let end = usize::try_from(point).unwrap_or(usize::MAX);
        while let Some(recorded) = self.log.get(self.at).filter(|_| self.at < end) {
            if self.stop.load(Ordering::Relaxed)
                && self.ends.get_or_insert_with(clock::start).elapsed() > LAST_STEPS
            {
                return false;
            }
            self.carry_out(recorded);
        }
        true
    }

    fn carry_out(&mut self, recorded: &Recorded) {
        self.at_stake.take();
        let carried_out = self
            .tree
            .carry_out(self.at as u64, recorded.at, &recorded.change);
        assert!(
            carried_out.is_ok(),
            "a change that has succeeded once succeeds again: {recorded}: {carried_out:?}"
        );
        self.at += 1;
        if recorded.change.makes_names_durable() {
            let (last_needed, at) = (&self.last_needed, self.at);
            let is_needed = |node| last_needed.get(&node).is_some_and(|&last| last >= at);
            self.tree.forget_lost(is_needed);
        }
    }

    /// The change that comes next.
    pub(super) fn next(&self) -> Option<&'a TreeChange> {
        self.log.get(self.at).map(|recorded| &recorded.change)
    }

    /// What a power cut would put at stake now.
    pub(super) fn at_stake(&self) -> &AtStake {
        self.at_stake.get_or_init(|| self.tree.at_stake())
    }

    /// What a crash leaves now. `None` if there is no such image.
    pub(super) fn image(&self, recipe: &Recipe) -> Option<Tree> {
        match recipe {
            Recipe::Killed | Recipe::KilledWithin(_) => recipe.after_kill(&self.tree, self.next()),
            // Of what is at stake, there is no decision that would not fit.
            recipe => {
                let survivors = recipe.survivors(self.at_stake());
                self.tree.after_power_cut(&survivors).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;
    use driver::units::FileOffset;

    use super::*;
    use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT};

    const FILE: InodeNumber = InodeNumber(2);
    const OTHER: InodeNumber = InodeNumber(3);

    fn entry(name: &str) -> EntryName {
        EntryName {
            directory: ROOT,
            name: name.into(),
        }
    }

    fn create(node: InodeNumber, name: &str) -> TreeChange {
        TreeChange::Create {
            name: entry(name),
            node,
            what: NewNode::File,
            attributes: Attributes::default(),
        }
    }

    fn write(file: InodeNumber) -> TreeChange {
        TreeChange::Write {
            file,
            at: FileOffset(0),
            data: [1].into(),
        }
    }

    fn log(changes: impl IntoIterator<Item = TreeChange>) -> Vec<Recorded> {
        let recorded = |change| Recorded {
            kind: OperationKind::Write,
            at: Moment::default(),
            change,
        };
        changes.into_iter().map(recorded).collect()
    }

    /// A file without a name may be open, and the run say so later: then it has to be there still.
    #[test]
    fn what_is_lost_is_kept_as_long_as_the_run_needs_it() {
        let log = log([
            create(FILE, "f"),
            create(OTHER, "g"),
            write(FILE),
            TreeChange::Remove(entry("f")),
            TreeChange::SyncDirectory(ROOT),
            write(FILE),
            TreeChange::SyncDirectory(ROOT),
        ]);
        let never = AtomicBool::new(false);
        let mut replay = Replay::new(&log, Assumptions::default(), &never);
        let mut nodes = Vec::new();
        for point in 0..=log.len() as u64 {
            assert!(replay.advance_to(point));
            nodes.push(replay.tree.node_count());
        }
        assert_eq!(nodes, [1, 2, 3, 3, 3, 3, 3, 2]);
        assert_eq!(replay.tree.allocated(), 0);
    }

    #[test]
    fn what_is_at_stake_is_that_of_the_moment() {
        let log = log([create(FILE, "f"), write(FILE), TreeChange::SyncFile(FILE)]);
        let never = AtomicBool::new(false);
        let mut replay = Replay::new(&log, Assumptions::default(), &never);
        for (point, at_stake) in (0..).zip([&[][..], &[0], &[0, 1], &[0]]) {
            assert!(replay.advance_to(point));
            assert_eq!(replay.at_stake().indices(), at_stake);
        }
    }
}
