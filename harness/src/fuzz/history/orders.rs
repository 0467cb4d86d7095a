//! The naive model of one sector: every way in which its requests can have taken effect, one
//! after the other. And the comparison of the history with it.

use std::collections::{BTreeMap, BTreeSet};

use driver::units::{Sector, SectorCount, SectorRange};
use proptest::prelude::*;

use crate::stamp::Stamp;

use super::super::disk_contents::DiskContents;
use super::{Change, Held, History, Moment, RequestOutcome};

/// A request that changes the sector, in the order of submission. The first one is none: it
/// is what the sector held before.
#[derive(Clone, Copy, Debug)]
struct Changing {
    held: Held,
    is_write: bool,
    ended: bool,
}

/// One way in which things can have gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// Which changes have taken effect.
    in_effect: Vec<bool>,
    /// What each read in flight has seen, if it has looked already.
    seen: BTreeMap<usize, Option<usize>>,
    /// The latest change that each flush in flight covers.
    covers: BTreeMap<usize, usize>,
    /// The latest durable change.
    durable: usize,
}

impl Way {
    fn latest(&self) -> usize {
        self.in_effect.iter().rposition(|&is| is).unwrap_or(0)
    }
}

/// All ways that fit what has been observed.
#[derive(Debug)]
struct Ways {
    changes: Vec<Changing>,
    ways: BTreeSet<Way>,
}

impl Ways {
    fn new(held: Held) -> Ways {
        let first = Changing {
            held,
            is_write: true,
            ended: true,
        };
        let way = Way {
            in_effect: vec![true],
            seen: BTreeMap::new(),
            covers: BTreeMap::new(),
            durable: 0,
        };
        Ways {
            changes: vec![first],
            ways: BTreeSet::from([way]),
        }
    }

    /// Whatever can happen without anybody noticing has happened or not.
    fn go_on(&mut self) {
        let mut open: Vec<Way> = self.ways.iter().cloned().collect();
        while let Some(way) = open.pop() {
            let mut next = Vec::new();
            for (change, changing) in self.changes.iter().enumerate() {
                // Nothing takes effect after what was submitted later.
                if !changing.ended && change > way.latest() {
                    let mut way = way.clone();
                    way.in_effect[change] = true;
                    next.push(way);
                }
            }
            for (&read, seen) in &way.seen {
                if seen.is_none() {
                    let mut way = way.clone();
                    let latest = way.latest();
                    way.seen.insert(read, Some(latest));
                    next.push(way);
                }
            }
            for way in next {
                if self.ways.insert(way.clone()) {
                    open.push(way);
                }
            }
        }
    }

    fn each(&mut self, change: impl Fn(&mut Way)) {
        let ways = std::mem::take(&mut self.ways).into_iter();
        self.ways = ways
            .map(|mut way| {
                change(&mut way);
                way
            })
            .collect();
    }

    fn submit_change(&mut self, held: Held, is_write: bool) -> usize {
        self.changes.push(Changing {
            held,
            is_write,
            ended: false,
        });
        self.each(|way| way.in_effect.push(false));
        self.changes.len() - 1
    }

    fn end_change(&mut self, change: usize, outcome: RequestOutcome) {
        self.go_on();
        self.changes[change].ended = true;
        if outcome != RequestOutcome::Failed && self.changes[change].is_write {
            self.ways.retain(|way| way.in_effect[change]);
        }
        if outcome == RequestOutcome::Durable {
            self.each(|way| way.durable = way.durable.max(change));
        }
    }

    fn submit_read(&mut self, read: usize) {
        self.go_on();
        self.each(|way| {
            way.seen.insert(read, None);
        });
    }

    /// Whether it may show this.
    fn end_read(&mut self, read: usize, held: Held) -> bool {
        self.go_on();
        let changes = &self.changes;
        self.ways.retain(|way| {
            let seen = way.seen.get(&read).copied().flatten();
            seen.is_some_and(|seen| changes[seen].held == held)
        });
        self.each(|way| {
            way.seen.remove(&read);
        });
        !self.ways.is_empty()
    }

    fn submit_flush(&mut self, flush: usize) {
        self.go_on();
        let changes = self.changes.clone();
        self.each(|way| {
            let covered = (0..changes.len()).filter(|&c| changes[c].ended && way.in_effect[c]);
            let latest = covered.max().unwrap_or(0);
            way.covers.insert(flush, latest);
        });
    }

    fn end_flush(&mut self, flush: usize) {
        self.each(|way| {
            let covered = way.covers.remove(&flush).unwrap_or(0);
            way.durable = way.durable.max(covered);
        });
    }

    /// Whether a crash may show this now.
    fn crash_may_show(&self, held: Held) -> bool {
        let later = |way: &Way| self.changes[way.durable..].iter().any(|c| c.held == held);
        self.ways.iter().any(later)
    }
}

/// A request in flight, as both know it.
#[derive(Clone, Copy, Debug)]
enum Flying {
    Change(usize, Moment),
    Read(usize, Moment),
    Flush(usize, Moment),
}

/// The most requests of each kind: with more, there are too many orders to try.
const CHANGES: usize = 5;
const READS: usize = 4;
const FLUSHES: usize = 2;

const SECTOR: SectorRange = SectorRange {
    start: Sector(0),
    count: SectorCount(1),
};

fn content(held: Held) -> Vec<u8> {
    let mut content = vec![0; 512];
    if let Held::Stamp(stamp) = held {
        stamp.fill(Sector(0), &mut content);
    }
    content
}

/// Plays what the numbers say to both. `distinct`: no two changes have the same content, and
/// then both have to agree; otherwise the history may allow more.
fn compare(numbers: &[(u8, u8, u8)], distinct: bool) {
    let first = Held::Stamp(Stamp::BACKING);
    let (mut history, mut ways) = (History::new([first].into_iter()), Ways::new(first));
    let mut flying = Vec::new();
    let (mut reads, mut flushes, mut has_discarded) = (0, 0, false);
    for &(what, pick, how) in numbers {
        match what % 8 {
            0 | 1 if ways.changes.len() <= CHANGES => {
                let zeros = !distinct && what >= 128;
                let held = match zeros {
                    true => Held::Zeros,
                    false => Held::Stamp(Stamp(ways.changes.len() as u32)),
                };
                let moment = history.submitted(SECTOR, Change::Write(held));
                flying.push(Flying::Change(ways.submit_change(held, true), moment));
            }
            2 if ways.changes.len() <= CHANGES && !(distinct && has_discarded) => {
                has_discarded = true;
                let moment = history.submitted(SECTOR, Change::Discard);
                let change = ways.submit_change(Held::Zeros, false);
                flying.push(Flying::Change(change, moment));
            }
            3 if reads < READS => {
                ways.submit_read(reads);
                flying.push(Flying::Read(reads, history.read_submitted()));
                reads += 1;
            }
            4 if flushes < FLUSHES => {
                ways.submit_flush(flushes);
                let moment = history.submitted(SectorRange::default(), Change::Nothing);
                flying.push(Flying::Flush(flushes, moment));
                flushes += 1;
            }
            5..8 if !flying.is_empty() => {
                let ending = flying.remove(usize::from(pick) % flying.len());
                match ending {
                    Flying::Change(change, moment) => {
                        let outcome = match how % 4 {
                            0 => RequestOutcome::Failed,
                            1 if ways.changes[change].is_write => RequestOutcome::Durable,
                            _ => RequestOutcome::Acknowledged,
                        };
                        ways.end_change(change, outcome);
                        history.ended(SECTOR, moment, outcome);
                        // No outcome contradicts what was read before.
                        assert!(!ways.ways.is_empty());
                    }
                    Flying::Read(read, moment) => {
                        let shown = usize::from(how) % ways.changes.len();
                        let held = ways.changes[shown].held;
                        let content = content(held);
                        let parts = std::iter::once(&content[..]);
                        let found = history.read(SECTOR, moment, parts, "");
                        let right = ways.end_read(read, held);
                        if distinct || right {
                            assert_eq!(found.is_ok(), right, "{found:?}");
                        }
                        if !right {
                            return;
                        }
                    }
                    Flying::Flush(flush, moment) => {
                        ways.end_flush(flush);
                        history.flushed(moment);
                    }
                }
            }
            _ => {}
        }
        for changing in &ways.changes {
            let content = content(changing.held);
            let mut looked_at = Vec::new();
            let seen = DiskContents::of(&content, &mut looked_at);
            let found = history.check_crash(SectorCount(1), seen, "");
            let right = ways.crash_may_show(changing.held);
            if distinct || right {
                assert_eq!(found.is_ok(), right, "{:?}: {found:?}", changing.held);
            }
        }
    }
}

fn numbers() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec(any::<(u8, u8, u8)>(), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_history_allows_just_what_some_order_of_the_requests_allows(numbers in numbers()) {
        compare(&numbers, true);
    }

    #[test]
    fn where_contents_are_alike_it_refuses_nothing_that_some_order_allows(numbers in numbers()) {
        compare(&numbers, false);
    }
}
