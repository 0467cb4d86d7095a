//! Shrinking a finding to the fewest lost operations: one after the other survives after all, as
//! long as the check still says the same of what is left. An image of which it says something else
//! is of another kind, which has a finding of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::figures::grouped;
use crate::sim::tree::{AtStake, Tree, TreeSurvivors};
use crate::sim::{InodeNumber, Survival};

use super::command::Ran;
use super::kind::Kind;
use super::recipe::Recipe;
use super::verdicts::{Verdict, Verdicts};

/// The most checks that the shrinking of one finding takes.
const MOST_CHECKS: usize = 200;

/// The most images that are made for it. Most of them are alike, and are not checked.
const MOST_IMAGES: usize = 2000;

/// A finding as far as it was shrunk.
#[derive(Debug)]
pub(super) struct Shrunk {
    pub(super) recipe: Recipe,
    /// What the check says of it.
    pub(super) ran: Ran,
    /// Why it may lose more than it takes.
    pub(super) not_fewest: Option<NotFewest>,
}

/// Why the shrinking of a finding has ended before nothing more could survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFewest {
    /// Everything was to end.
    Stopped,
    /// It has taken as many checks as it may.
    Checks,
    /// It has made as many images as it may.
    Images,
}

/// As the reason in a sentence.
impl fmt::Display for NotFewest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotFewest::Stopped => f.write_str("stopped"),
            NotFewest::Checks => write!(f, "ended after {MOST_CHECKS} checks"),
            NotFewest::Images => write!(f, "ended after {} images", grouped(MOST_IMAGES as u64)),
        }
    }
}

/// Shrinks what the crash has lost, with `tree` at its moment. `check` says what the check does of
/// an image, if it can be run, of which `verdicts` has nothing.
pub(super) fn shrink(
    check: &mut dyn FnMut(Tree) -> Option<Ran>,
    verdicts: &mut Verdicts,
    tree: &Tree,
    recipe: Recipe,
    ran: Ran,
    stop: &AtomicBool,
) -> Shrunk {
    if matches!(recipe, Recipe::Killed | Recipe::KilledWithin(_)) {
        return Shrunk {
            recipe,
            ran,
            not_fewest: None,
        };
    }
    let at_stake = tree.at_stake();
    let survivors = whole(&at_stake, recipe.survivors(&at_stake));
    let mut shrinking = Shrinking {
        check,
        verdicts,
        tree,
        stop,
        decisions: decisions(&at_stake),
        // What is lost with an earlier change of names is not to be told as what survived.
        survivors: with_effect(tree, survivors),
        kind: Kind::of(&ran),
        ran,
        image: None,
        checks: 0,
        images: 0,
        not_fewest: None,
    };
    shrinking.image = shrinking
        .image_of(&shrinking.survivors)
        .map(|it| it.digest());
    loop {
        let fewer = shrinking.lose_fewer();
        let less = shrinking.tear_less();
        if !(fewer || less) || !shrinking.may_go_on() {
            break;
        }
    }
    Shrunk {
        recipe: Recipe::Exactly(shrinking.survivors),
        ran: shrinking.ran,
        not_fewest: shrinking.not_fewest,
    }
}

/// With a decision about everything.
pub(super) fn whole(at_stake: &AtStake, mut survivors: TreeSurvivors) -> TreeSurvivors {
    for file in &at_stake.files.files {
        let fates = survivors.files.entry(file.inode).or_default();
        fates.resize(file.operations.len(), Survival::Lost);
    }
    survivors.names.resize(at_stake.names.len(), false);
    survivors
}

fn with_effect(tree: &Tree, mut survivors: TreeSurvivors) -> TreeSurvivors {
    survivors.names = tree.surviving(&survivors);
    survivors
}

/// A change at stake.
#[derive(Clone, Copy)]
enum Decision {
    /// The one with this place among those of the file, and how many atoms it has.
    File(InodeNumber, usize, u64),
    /// The one with this place among those of names.
    Name(usize),
}

/// All of them, in the order of the run.
fn decisions(at_stake: &AtStake) -> Vec<Decision> {
    let names = at_stake.names.iter().enumerate();
    let mut decisions: Vec<(u64, Decision)> = names
        .map(|(place, &index)| (index, Decision::Name(place)))
        .collect();
    for file in &at_stake.files.files {
        let operations = file.operations.iter().enumerate();
        decisions.extend(operations.map(|(place, operation)| {
            let decision = Decision::File(file.inode, place, operation.atoms);
            (operation.index, decision)
        }));
    }
    decisions.sort_by_key(|(index, _)| *index);
    decisions
        .into_iter()
        .map(|(_, decision)| decision)
        .collect()
}

impl Decision {
    fn survives(self, survivors: &TreeSurvivors) -> bool {
        match self {
            Decision::File(inode, place, _) => {
                fate(survivors, inode, place).is_none_or(|fate| *fate == Survival::Whole)
            }
            Decision::Name(place) => survivors.names.get(place).is_none_or(|kept| *kept),
        }
    }

    fn survive(self, survivors: &mut TreeSurvivors) {
        match self {
            Decision::File(inode, place, _) => set_fate(survivors, inode, place, Survival::Whole),
            Decision::Name(place) => {
                if let Some(kept) = survivors.names.get_mut(place) {
                    *kept = true;
                }
            }
        }
    }
}

fn fate(survivors: &TreeSurvivors, inode: InodeNumber, place: usize) -> Option<&Survival> {
    survivors.files.get(&inode)?.get(place)
}

fn set_fate(survivors: &mut TreeSurvivors, inode: InodeNumber, place: usize, becomes: Survival) {
    let fates = survivors.files.get_mut(&inode);
    if let Some(fate) = fates.and_then(|fates| fates.get_mut(place)) {
        *fate = becomes;
    }
}

struct Shrinking<'a> {
    check: &'a mut dyn FnMut(Tree) -> Option<Ran>,
    verdicts: &'a mut Verdicts,
    tree: &'a Tree,
    stop: &'a AtomicBool,
    decisions: Vec<Decision>,
    /// What survives so far.
    survivors: TreeSurvivors,
    /// What the check says of it.
    ran: Ran,
    /// What of that stays.
    kind: Kind,
    /// The digest of its image.
    image: Option<u128>,
    checks: usize,
    images: usize,
    /// Why something was not attempted.
    not_fewest: Option<NotFewest>,
}

impl Shrinking<'_> {
    /// Whether something more is attempted. That is asked where there is something.
    fn may_go_on(&mut self) -> bool {
        let why = if self.stop.load(Ordering::Relaxed) {
            NotFewest::Stopped
        } else if self.checks >= MOST_CHECKS {
            NotFewest::Checks
        } else if self.images >= MOST_IMAGES {
            NotFewest::Images
        } else {
            return true;
        };
        self.not_fewest.get_or_insert(why);
        false
    }

    fn image_of(&self, survivors: &TreeSurvivors) -> Option<Tree> {
        self.tree.after_power_cut(survivors).ok()
    }

    /// Goes on with these survivors, which are more than before, if the check says the same of what
    /// they leave. Whether it has.
    fn attempt(&mut self, attempted: TreeSurvivors) -> bool {
        let attempted = with_effect(self.tree, attempted);
        if attempted == self.survivors || !self.may_go_on() {
            return false;
        }
        let Some(image) = self.image_of(&attempted) else {
            return false;
        };
        self.images += 1;
        let digest = image.digest();
        // Of one that is alike the check says what it has said.
        if self.image != Some(digest) {
            match self.verdict(digest, image) {
                Some(Verdict::Fails(ran)) if Kind::of(&ran) == self.kind => {
                    self.ran = Ran::clone(&ran);
                }
                _ => return false,
            }
        }
        (self.survivors, self.image) = (attempted, Some(digest));
        true
    }

    /// What the check says of an image, if that is known or can be had.
    fn verdict(&mut self, digest: u128, image: Tree) -> Option<Verdict> {
        if let Some(known) = self.verdicts.get(digest) {
            return Some(known);
        }
        self.checks += 1;
        let ran = (self.check)(image)?;
        self.verdicts.note(digest, ran)
    }

    /// Lets what was lost survive: all of it, halves of it, and smaller and smaller parts, until
    /// there is nothing that could survive alone. Whether something has.
    fn lose_fewer(&mut self) -> bool {
        let mut some = false;
        let mut size = self.lost().len();
        while size > 0 && self.may_go_on() {
            let mut changed = false;
            for part in self.lost().chunks(size) {
                let mut attempted = self.survivors.clone();
                for decision in part {
                    decision.survive(&mut attempted);
                }
                changed |= self.attempt(attempted);
            }
            some |= changed;
            size = match (size, changed) {
                (1, true) => 1,
                // What one part has needed may have gone with another: the next size is tried
                // on what is left.
                (size, _) => (size / 2).min(self.lost().len()),
            };
        }
        some
    }

    /// What has not survived whole, in order.
    fn lost(&self) -> Vec<Decision> {
        let decisions = self.decisions.iter();
        let lost = decisions.filter(|decision| !decision.survives(&self.survivors));
        lost.copied().collect()
    }

    /// Lets more survive of what is torn: what each tear has lost in one go, halves of that, and
    /// smaller and smaller parts. Whether something has.
    fn tear_less(&mut self) -> bool {
        let mut some = false;
        for decision in self.lost() {
            let Decision::File(inode, place, atoms) = decision else {
                continue;
            };
            let Some(Survival::Torn(runs)) = fate(&self.survivors, inode, place) else {
                continue;
            };
            let mut open = between(runs, atoms);
            while let Some((from, to)) = open.pop().filter(|_| self.may_go_on()) {
                let Some(Survival::Torn(runs)) = fate(&self.survivors, inode, place) else {
                    break;
                };
                let becomes = Survival::Torn(with_run(runs, (from, to)));
                let mut attempted = self.survivors.clone();
                set_fate(&mut attempted, inode, place, becomes);
                let middle = from + (to - from) / 2;
                match self.attempt(attempted) {
                    true => some = true,
                    false if middle > from => open.extend([(middle, to), (from, middle)]),
                    false => {}
                }
            }
        }
        some
    }
}

/// What lies between these runs of atoms, which ascend, and of which `atoms` is the end.
fn between(runs: &[(u64, u64)], atoms: u64) -> Vec<(u64, u64)> {
    let starts = [0].into_iter().chain(runs.iter().map(|run| run.1));
    let ends = runs.iter().map(|run| run.0).chain([atoms]);
    starts.zip(ends).filter(|(from, to)| from < to).collect()
}

/// These runs, ascending, and one more.
fn with_run(runs: &[(u64, u64)], (mut from, mut to): (u64, u64)) -> Vec<(u64, u64)> {
    let mut together = Vec::with_capacity(runs.len() + 1);
    for &(start, end) in runs {
        match start > to || end < from {
            true => together.push((start, end)),
            false => (from, to) = (from.min(start), to.max(end)),
        }
    }
    together.push((from, to));
    together.sort_unstable();
    together
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use driver::units::FileOffset;

    use super::super::command::End;
    use super::*;
    use crate::sim::Assumptions;
    use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT, TreeChange};

    const SECTOR: u64 = 512;

    /// A directory with these files, whose names are durable, and a write of this length to each.
    fn written(files: u64, len: u64) -> Tree {
        let mut tree = Tree::new(Assumptions::default());
        let mut index = 0;
        let mut carry_out = |change: &TreeChange| {
            tree.carry_out(index, Moment::default(), change).unwrap();
            index += 1;
        };
        for file in 0..files {
            carry_out(&TreeChange::Create {
                name: EntryName {
                    directory: ROOT,
                    name: file.to_string().into(),
                },
                node: number(file),
                what: NewNode::File,
                attributes: Attributes::default(),
            });
        }
        carry_out(&TreeChange::SyncDirectory(ROOT));
        for file in 0..files {
            carry_out(&TreeChange::Write {
                file: number(file),
                at: FileOffset(0),
                data: vec![7; len as usize].into(),
            });
        }
        tree
    }

    fn number(file: u64) -> InodeNumber {
        InodeNumber(ROOT.0 + 1 + file)
    }

    fn ran(passes: bool) -> Ran {
        Ran {
            end: End::Exited(ExitStatus::from_raw(if passes { 0 } else { 1 << 8 })),
            said: Vec::new(),
            reached: BTreeSet::new(),
        }
    }

    /// Whether a file has its content, at this sector.
    fn has(image: &Tree, file: u64, sector: u64) -> bool {
        let content = image.content(number(file)).unwrap();
        content.holds(&[7], FileOffset(sector * SECTOR))
    }

    /// What is left of these survivors, and the number of checks, where the check passes as said.
    fn shrunk(tree: &Tree, recipe: Recipe, passes: impl Fn(&Tree) -> bool) -> (Vec<Survival>, u64) {
        let never = AtomicBool::new(false);
        let mut checks = 0;
        let mut check = |image: Tree| {
            checks += 1;
            Some(ran(passes(&image)))
        };
        let mut none = Verdicts::default();
        let shrunk = shrink(&mut check, &mut none, tree, recipe, ran(false), &never);
        assert_eq!(shrunk.not_fewest, None);
        let survivors = shrunk.recipe.survivors(&tree.at_stake());
        (survivors.files.into_values().flatten().collect(), checks)
    }

    #[test]
    fn one_of_many_lost_writes_is_left_after_few_checks() {
        let tree = written(300, 1);
        for cause in [0, 150, 299] {
            let (fates, checks) = shrunk(&tree, Recipe::Nothing, |image| has(image, cause, 0));
            let lost = fates.iter().filter(|fate| **fate != Survival::Whole);
            assert_eq!(lost.count(), 1, "{cause}");
            assert_eq!(fates[cause as usize], Survival::Lost);
            assert!(checks < 30, "{checks} checks");
        }
    }

    /// The first one can survive only after the second has.
    #[test]
    fn what_could_not_survive_alone_is_tried_again() {
        let tree = written(3, 1);
        let passes = |image: &Tree| has(image, 2, 0) || has(image, 0, 0) && !has(image, 1, 0);
        let (fates, _) = shrunk(&tree, Recipe::Nothing, passes);
        let expected = [Survival::Whole, Survival::Whole, Survival::Lost];
        assert_eq!(fates, expected);
    }

    /// In each directory what comes after a loss is lost. What another one has lost comes back.
    #[test]
    fn what_is_lost_of_one_directory_leaves_the_names_of_others() {
        let mut tree = Tree::new(Assumptions::default());
        let mut index = 0;
        let mut make = |directory, name: &str, node: u64, what| {
            let change = TreeChange::Create {
                name: EntryName {
                    directory,
                    name: name.into(),
                },
                node: number(node),
                what,
                attributes: Attributes::default(),
            };
            tree.carry_out(index, Moment::default(), &change).unwrap();
            index += 1;
        };
        let (one, other) = (number(0), number(1));
        make(ROOT, "one", 0, NewNode::Directory);
        make(ROOT, "other", 1, NewNode::Directory);
        for (node, directory, name) in [
            (2, one, "1"),
            (3, other, "1"),
            (4, one, "2"),
            (5, other, "2"),
            (6, one, "3"),
            (7, other, "3"),
        ] {
            make(directory, name, node, NewNode::File);
        }
        let never = AtomicBool::new(false);
        let mut check = |image: Tree| Some(ran(image.lookup(one, "2".as_ref()).is_ok()));
        let mut none = Verdicts::default();
        let shrunk = shrink(
            &mut check,
            &mut none,
            &tree,
            Recipe::Nothing,
            ran(false),
            &never,
        );
        let survivors = shrunk.recipe.survivors(&tree.at_stake());
        // One loses its second name and what comes after that.
        let expected = [true, true, true, true, false, true, false, true];
        assert_eq!(survivors.names, expected);
    }

    #[test]
    fn of_a_torn_write_no_more_is_lost_than_it_takes() {
        let tree = written(1, 8 * SECTOR);
        let torn = Survival::Torn(vec![(0, 1), (7, 8)]);
        let recipe = Recipe::Exactly(TreeSurvivors {
            files: [(number(0), vec![torn])].into(),
            names: Vec::new(),
        });
        let (fates, _) = shrunk(&tree, recipe, |image| has(image, 0, 5));
        assert_eq!(fates, [Survival::Torn(vec![(0, 5), (6, 8)])]);
    }

    /// Of many writes each has to be lost, or everything was to end while one was checked.
    #[test]
    fn what_is_not_shrunk_to_the_end_says_why() {
        let tree = written(300, 1);
        let why = |stops: bool| {
            let stop = AtomicBool::new(false);
            let mut none = Verdicts::default();
            let mut check = |image: Tree| {
                stop.store(stops, Ordering::Relaxed);
                Some(ran((0..300).any(|file| has(&image, file, 0))))
            };
            let nothing = Recipe::Nothing;
            let shrunk = shrink(&mut check, &mut none, &tree, nothing, ran(false), &stop);
            shrunk.not_fewest
        };
        assert_eq!(why(false), Some(NotFewest::Checks));
        assert_eq!(why(true), Some(NotFewest::Stopped));
    }

    #[test]
    fn runs_of_atoms_are_put_together() {
        assert_eq!(with_run(&[(1, 2), (4, 6)], (2, 4)), [(1, 6)]);
        assert_eq!(
            with_run(&[(1, 2), (8, 9)], (4, 6)),
            [(1, 2), (4, 6), (8, 9)]
        );
        assert_eq!(between(&[(1, 2), (4, 6)], 6), [(0, 1), (2, 4)]);
        assert_eq!(between(&[], 2), [(0, 2)]);
    }
}
