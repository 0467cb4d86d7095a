//! The sector map against the slow and obvious model of it, one `bool` a sector, and
//! the edges that a fast one gets wrong.

use std::collections::BTreeSet;

use driver::cow::{
    MAX_SECTORS, PAGE_BYTES, PageSnapshot, PageState, Run, SECTORS_PER_PAGE, SectorMap, SectorState,
};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use proptest::prelude::*;
use proptest::sample::select;

const PAGE: u64 = SECTORS_PER_PAGE.0;

fn map(sectors: u64) -> SectorMap {
    SectorMap::new(SectorCount(sectors)).expect("small enough")
}

fn range(start: u64, end: u64) -> SectorRange {
    SectorRange::between(Sector(start)..Sector(end))
}

fn run(state: SectorState, start: u64, end: u64) -> Run {
    let range = range(start, end);
    Run { state, range }
}

use driver::cow::SectorState::{Clean, Dirty};

#[test]
fn a_new_map_is_one_clean_run() {
    let map = map(3 * PAGE + 7);
    assert_eq!(map.run_at(Sector(5)), run(Clean, 5, 3 * PAGE + 7));
    assert_eq!(map.next_dirty(Sector(0), Sector(u64::MAX)), None);
    assert_eq!(map.dirty_count(), SectorCount(0));
    assert!(!map.has_changes());
}

#[test]
fn a_raw_disk_is_one_dirty_run_without_a_page_on_the_heap() {
    let map = SectorMap::all_dirty(SectorCount(3 * PAGE + 7)).expect("small enough");
    assert_eq!(map.run_at(Sector(PAGE)), run(Dirty, PAGE, 3 * PAGE + 7));
    assert_eq!(map.dirty_count(), SectorCount(3 * PAGE + 7));
    assert_eq!(map.page_state(3), PageState::Dirty);
    assert!(map.memory_bytes() < Bytes(PAGE_BYTES as u64));
    let mut last = [0; 2];
    map.page_bytes(3, &mut last);
    assert_eq!(last, [0x7f, 0], "bits past the end of the device are 0");
}

#[test]
fn a_map_of_no_sectors_has_no_runs() {
    let mut map = map(0);
    assert_eq!(map.pages(), 0);
    assert_eq!(map.next_clean(Sector(0), Sector(9)), None);
    map.mark_dirty(range(0, 0));
    map.grow(SectorCount(9)).expect("small enough");
    assert_eq!(map.run_at(Sector(0)), run(Dirty, 0, 9));
    map.shrink(SectorCount(0));
    assert_eq!(map.dirty_count(), SectorCount(0));
}

#[test]
fn runs_end_at_and_go_on_across_words_and_pages() {
    let mut map = map(3 * PAGE);
    map.mark_dirty(range(64, 128));
    assert_eq!(map.run_at(Sector(0)), run(Clean, 0, 64));
    assert_eq!(map.run_at(Sector(64)), run(Dirty, 64, 128));
    assert_eq!(map.run_at(Sector(127)), run(Dirty, 127, 128));
    map.mark_dirty(range(PAGE - 1, 2 * PAGE + 1));
    assert_eq!(map.page_state(1), PageState::Dirty);
    let across = run(Dirty, PAGE - 1, 2 * PAGE + 1);
    assert_eq!(map.run_at(Sector(PAGE - 1)), across);
    assert_eq!(
        map.run_at(Sector(2 * PAGE + 1)),
        run(Clean, 2 * PAGE + 1, 3 * PAGE)
    );
    let runs: Vec<_> = map.dirty_runs(range(100, PAGE + 5)).collect();
    assert_eq!(runs, [range(100, 128), range(PAGE - 1, PAGE + 5)]);
}

#[test]
fn a_run_is_cut_at_its_limit() {
    let mut map = map(2 * PAGE);
    map.mark_dirty(range(10, PAGE + 10));
    assert_eq!(map.run_within(Sector(12), Sector(20)), run(Dirty, 12, 20));
    assert_eq!(map.run_within(Sector(12), Sector(130)), run(Dirty, 12, 130));
    assert_eq!(map.run_within(Sector(0), Sector(8)), run(Clean, 0, 8));
    assert_eq!(
        map.run_within(Sector(PAGE), Sector(u64::MAX)),
        run(Dirty, PAGE, PAGE + 10)
    );
}

#[test]
fn pages_collapse_when_their_sectors_agree_and_give_back_their_memory() {
    let mut map = map(4 * PAGE);
    let empty = map.memory_bytes();
    for page in 0..4 {
        map.mark_dirty(range(page * PAGE, page * PAGE + 1));
    }
    assert!(map.memory_bytes() > empty + Bytes(4 * PAGE_BYTES as u64));
    map.mark_dirty(range(1, PAGE));
    assert_eq!(map.page_state(0), PageState::Dirty);
    map.mark_clean(range(PAGE, PAGE + 1));
    assert_eq!(map.page_state(1), PageState::Clean);
    // The words of the pages left have moved; they must be found again.
    assert_eq!(
        map.run_at(Sector(2 * PAGE)),
        run(Dirty, 2 * PAGE, 2 * PAGE + 1)
    );
    assert_eq!(
        map.run_at(Sector(3 * PAGE)),
        run(Dirty, 3 * PAGE, 3 * PAGE + 1)
    );
}

#[test]
fn a_partial_last_page_with_all_its_sectors_dirty_is_dirty() {
    let mut map = map(PAGE + 65);
    map.mark_dirty(range(PAGE, PAGE + 64));
    assert_eq!(map.page_state(1), PageState::Mixed);
    map.mark_dirty(range(PAGE + 64, PAGE + 65));
    assert_eq!(map.page_state(1), PageState::Dirty);
    // A shrink may make it so as well.
    map.mark_clean(range(PAGE + 60, PAGE + 61));
    map.shrink(SectorCount(PAGE + 60));
    assert_eq!(map.page_state(1), PageState::Dirty);
    assert_eq!(map.dirty_count(), SectorCount(60));
}

#[test]
fn only_words_whose_value_changes_are_changed() {
    let mut map = map(2 * PAGE);
    map.mark_dirty(range(0, 8));
    assert_eq!(map.changed_words(), 1);
    drop(map.take_changes(Bytes(u64::MAX)));
    map.mark_dirty(range(2, 8));
    assert!(!map.has_changes());
    map.mark_dirty(range(0, 130));
    assert_eq!(map.changed_words(), 3);
    map.mark_dirty(range(0, PAGE));
    assert_eq!(map.changed_words(), 512);
    map.mark_dirty(range(0, 2 * PAGE));
    assert_eq!(map.changed_words(), 1024);
}

#[test]
fn a_snapshot_spans_the_changed_words_and_is_not_altered_by_later_marks() {
    let mut map = map(2 * PAGE);
    map.mark_dirty(range(PAGE + 64, PAGE + 65));
    map.mark_dirty(range(PAGE + 64 * 3, PAGE + 64 * 3 + 2));
    map.mark_dirty(range(9, 10));
    let taken = map.take_changes(Bytes(2 * PAGE_BYTES as u64));
    map.mark_dirty(range(PAGE + 128, PAGE + 192));
    assert_eq!(taken.len(), 2);
    assert_eq!(
        (taken[0].offset(), taken[0].bytes()),
        (Bytes(0), &[0, 2, 0, 0, 0, 0, 0, 0][..])
    );
    assert_eq!(taken[1].offset(), Bytes(PAGE_BYTES as u64 + 8));
    let mut expected = [0; 24];
    (expected[0], expected[16]) = (1, 3);
    assert_eq!(taken[1].bytes(), expected);
    assert_eq!((taken[1].page(), taken[1].changed_words()), (1, 2));
    assert_eq!(map.changed_words(), 1);
}

#[test]
fn a_snapshot_ends_with_the_bitmap_also_where_that_is_a_byte_short() {
    let mut map = map(75);
    map.mark_dirty(range(70, 75));
    let taken = map.clone().take_changes(Bytes(10));
    assert_eq!(
        (taken[0].offset(), taken[0].bytes()),
        (Bytes(8), &[0xc0, 0x07][..])
    );
    let taken = map.clone().take_changes(Bytes(9));
    assert_eq!(taken[0].bytes(), [0xc0]);
    assert_eq!(map.take_changes(Bytes(8)), []);
}

#[test]
fn restored_changes_are_taken_again_with_the_values_of_then() {
    let mut map = map(1000);
    map.mark_dirty(range(0, 1));
    let taken = map.take_changes(Bytes(125));
    map.mark_dirty(range(1, 2));
    map.restore_changes(&taken[0]);
    assert_eq!(map.changed_words(), 1);
    assert_eq!(map.take_changes(Bytes(125))[0].bytes()[0], 3);
    // Not past the end of a device that has been shrunk in between.
    map.mark_dirty(range(990, 1000));
    let taken = map.take_changes(Bytes(125));
    map.shrink(SectorCount(640));
    map.restore_changes(&taken[0]);
    assert!(!map.has_changes());
}

#[test]
fn loading_a_page_changes_nothing_on_disk() {
    let mut map = map(PAGE + 20);
    map.load_page(0, &[0xff; PAGE_BYTES]);
    assert_eq!(map.page_state(0), PageState::Dirty);
    map.load_page(1, &[0x00, 0x80, 0xff, 0xff]);
    assert_eq!(map.run_at(Sector(PAGE)), run(Clean, PAGE, PAGE + 15));
    assert_eq!(
        map.run_at(Sector(PAGE + 15)),
        run(Dirty, PAGE + 15, PAGE + 20)
    );
    assert_eq!(map.dirty_count(), SectorCount(PAGE + 5));
    assert!(!map.has_changes());
    map.load_page(0, &[1]);
    assert_eq!(map.run_at(Sector(1)), run(Clean, 1, PAGE + 15));
    // A bitmap that is a byte short says nothing of the last sectors: clean.
    map.load_page(1, &[0xff, 0xff]);
    assert_eq!(
        map.run_at(Sector(PAGE + 15)),
        run(Dirty, PAGE + 15, PAGE + 16)
    );
    map.load_page(1, &[0xff, 0xff, 0x0f]);
    assert_eq!(map.page_state(1), PageState::Dirty);
}

#[test]
fn two_tebibytes_with_a_gibibyte_dirty_take_little_memory() {
    let mut map = map(1 << 32);
    map.mark_dirty(range(1_000_001, 1_000_001 + (1 << 21)));
    assert_eq!(map.dirty_count(), SectorCount(1 << 21));
    assert!(
        map.memory_bytes() < Bytes(1 << 20),
        "{}",
        map.memory_bytes()
    );
    // Even in pieces of 4 KiB, the worst that can be made of it.
    let mut map = map_with_every_other_extent(1 << 32, 1 << 22);
    assert!(
        map.memory_bytes() < Bytes(2 << 20),
        "{}",
        map.memory_bytes()
    );
    drop(map.take_changes(Bytes(u64::MAX)));
    assert!(
        map.memory_bytes() < Bytes(2 << 20),
        "{}",
        map.memory_bytes()
    );
}

fn map_with_every_other_extent(sectors: u64, until: u64) -> SectorMap {
    let mut map = map(sectors);
    for start in (0..until).step_by(16) {
        map.mark_dirty(range(start, start + 8));
    }
    map
}

#[test]
fn a_hostile_size_is_refused_before_anything_is_allocated() {
    for sectors in [MAX_SECTORS.0 + 1, u64::MAX] {
        let error = SectorMap::new(SectorCount(sectors)).expect_err("too large");
        assert_eq!(
            (error.found, error.maximum),
            (SectorCount(sectors), MAX_SECTORS)
        );
        assert!(map(1).grow(SectorCount(sectors)).is_err());
    }
    let map = SectorMap::new(MAX_SECTORS).expect("the maximum itself is allowed");
    assert!(map.memory_bytes() <= Bytes((64 << 20) + 4096));
}

/// A bitmap can be longer than its map: it has room for a bit of a partial last sector.
#[test]
fn pages_past_the_last_one_are_clean() {
    let mut map = SectorMap::all_dirty(SectorCount(32768)).unwrap();
    assert_eq!(map.page_state(1), PageState::Clean);
    map.load_page(1, &[0xff; 3]);
    assert_eq!((map.pages(), map.dirty_count()), (1, SectorCount(32768)));
    let mut bytes = [7; 3];
    map.page_bytes(1, &mut bytes);
    assert_eq!(bytes, [0; 3]);
    let mut bytes = [7; 3];
    map.copy_bitmap(Bytes(4095), &mut bytes);
    assert_eq!(bytes, [0xff, 0, 0]);
    map.copy_bitmap(Bytes(u64::MAX - 2), &mut bytes);
    assert_eq!(bytes, [0; 3]);
}

#[test]
#[should_panic(expected = "sectors 9+18446744073709551615 do not lie in a map of 10 sectors")]
fn a_range_that_wraps_around_is_not_inside() {
    map(10).mark_dirty(SectorRange::new(Sector(9), SectorCount(u64::MAX)));
}

#[test]
#[should_panic(expected = "no run from sector 10 up to 10 in a map of 10 sectors")]
fn past_the_end_there_is_no_run() {
    map(10).run_at(Sector(10));
}

/// The model: slow and obvious.
struct Model {
    dirty: Vec<bool>,
    /// The bitmap on disk.
    published: Vec<u8>,
    changed: BTreeSet<usize>,
}

impl Model {
    fn new(sectors: usize, dirty: bool) -> Self {
        let dirty = vec![dirty; sectors];
        let published = bitmap(&dirty);
        Self {
            dirty,
            published,
            changed: BTreeSet::new(),
        }
    }

    fn mark(&mut self, start: usize, end: usize, dirty: bool) {
        for sector in start..end {
            if self.dirty[sector] != dirty {
                self.dirty[sector] = dirty;
                self.changed.insert(sector / 64);
            }
        }
    }

    /// The caller of a resize publishes the sectors that come or go, and these alone.
    fn resize(&mut self, sectors: usize) {
        let old = self.dirty.len();
        self.dirty.resize(sectors, true);
        self.published.resize(sectors.div_ceil(8), 0);
        for sector in old..sectors {
            self.published[sector / 8] |= 1 << (sector % 8);
        }
        for bit in sectors..self.published.len() * 8 {
            self.published[bit / 8] &= !(1 << (bit % 8));
        }
        self.changed.retain(|word| word * 64 < sectors);
    }

    fn load(&mut self, page: usize, bytes: &[u8]) {
        let first = page * PAGE as usize;
        for sector in first..self.dirty.len().min(first + PAGE as usize) {
            let byte = bytes.get((sector - first) / 8).unwrap_or(&0);
            self.dirty[sector] = byte >> (sector % 8) & 1 == 1;
        }
        let on_disk = bitmap(&self.dirty);
        let end = on_disk.len().min((page + 1) * PAGE_BYTES);
        self.published[page * PAGE_BYTES..end].copy_from_slice(&on_disk[page * PAGE_BYTES..end]);
    }

    fn publish(&mut self, snapshots: &[PageSnapshot]) {
        for snapshot in snapshots {
            let at = snapshot.offset().0 as usize;
            self.published[at..at + snapshot.bytes().len()].copy_from_slice(snapshot.bytes());
        }
    }

    fn run_at(&self, sector: usize, end: usize) -> Run {
        let state = self.dirty[sector];
        let len = self.dirty[sector..end]
            .iter()
            .take_while(|&&dirty| dirty == state)
            .count();
        let state = if state { Dirty } else { Clean };
        run(state, sector as u64, (sector + len) as u64)
    }

    fn next(&self, from: usize, until: usize, dirty: bool) -> Option<SectorRange> {
        let until = until.min(self.dirty.len());
        let start = (from..until).find(|&sector| self.dirty[sector] == dirty)?;
        Some(self.run_at(start, until).range)
    }

    fn runs(&self, from: usize, until: usize, dirty: bool) -> Vec<SectorRange> {
        let mut runs = Vec::new();
        let mut at = from;
        while let Some(run) = self.next(at, until, dirty) {
            at = run.end().0 as usize;
            runs.push(run);
        }
        runs
    }
}

fn bitmap(dirty: &[bool]) -> Vec<u8> {
    dirty
        .chunks(8)
        .map(|bits| {
            bits.iter()
                .rev()
                .fold(0, |byte, &bit| byte << 1 | u8::from(bit))
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Operation {
    Mark {
        at: usize,
        len: usize,
        dirty: bool,
    },
    Resize(usize),
    Load {
        page: usize,
        bytes: Vec<u8>,
    },
    Take,
    /// Taken, but the write fails; in between, this is marked.
    FailToWrite {
        at: usize,
        len: usize,
    },
}

/// Sizes and positions: mostly near the borders of bytes, words and pages.
fn place() -> impl Strategy<Value = usize> {
    let borders: Vec<usize> = [0, 8, 64, 128, 4096, 32768, 2 * 32768, 3 * 32768].into();
    prop_oneof![
        (select(borders), 0..10_usize).prop_map(|(border, by)| (border + by).saturating_sub(4)),
        0..300_usize,
        0..100_000_usize,
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (select(vec![0x00, 0xff]), select(vec![1, 7, 8, 4095, 4096]))
            .prop_map(|(byte, len)| vec![byte; len]),
        (place(), any::<u8>()).prop_map(|(at, byte)| {
            let mut bytes = vec![0xff; PAGE_BYTES];
            bytes[at % PAGE_BYTES] = byte;
            bytes
        }),
    ];
    prop_oneof![
        6 => (place(), place(), prop::bool::weighted(0.7))
            .prop_map(|(at, len, dirty)| Operation::Mark { at, len, dirty }),
        2 => place().prop_map(Operation::Resize),
        1 => (0..4_usize, bytes).prop_map(|(page, bytes)| Operation::Load { page, bytes }),
        2 => Just(Operation::Take),
        1 => (place(), place()).prop_map(|(at, len)| Operation::FailToWrite { at, len }),
    ]
}

fn mark(map: &mut SectorMap, model: &mut Model, at: usize, len: usize, dirty: bool) {
    let at = at.min(model.dirty.len());
    let end = (at + len).min(model.dirty.len());
    model.mark(at, end, dirty);
    let range = range(at as u64, end as u64);
    if dirty {
        map.mark_dirty(range);
    } else {
        map.mark_clean(range);
    }
}

fn apply(map: &mut SectorMap, model: &mut Model, operation: Operation) {
    match operation {
        Operation::Mark { at, len, dirty } => mark(map, model, at, len, dirty),
        Operation::Resize(sectors) => {
            if sectors >= model.dirty.len() {
                map.grow(SectorCount(sectors as u64)).expect("small enough");
            } else {
                map.shrink(SectorCount(sectors as u64));
            }
            model.resize(sectors);
        }
        Operation::Load { page, bytes } => {
            if page < map.pages() {
                map.load_page(page, &bytes);
                model.load(page, &bytes);
            }
        }
        Operation::Take => {
            let taken = map.take_changes(Bytes(model.published.len() as u64));
            assert!(taken.is_sorted_by_key(PageSnapshot::page));
            model.changed.clear();
            model.publish(&taken);
            assert!(
                model.published == bitmap(&model.dirty),
                "published something else"
            );
        }
        Operation::FailToWrite { at, len } => {
            let taken = map.take_changes(Bytes(model.published.len() as u64));
            mark(map, model, at, len, true);
            for snapshot in &taken {
                map.restore_changes(snapshot);
            }
        }
    }
}

fn compare(map: &SectorMap, model: &Model, places: &[usize]) {
    let sectors = model.dirty.len();
    let dirty = model.dirty.iter().filter(|&&dirty| dirty).count();
    assert_eq!(map.sectors(), SectorCount(sectors as u64));
    assert_eq!(map.dirty_count(), SectorCount(dirty as u64));
    assert_eq!(map.changed_words(), model.changed.len() as u64);
    assert_eq!(map.has_changes(), !model.changed.is_empty());

    let expected = bitmap(&model.dirty);
    let mut exported = vec![0xaa; expected.len()];
    for (page, bytes) in exported.chunks_mut(PAGE_BYTES).enumerate() {
        map.page_bytes(page, bytes);
        let start = page * PAGE as usize;
        let all = &model.dirty[start..sectors.min(start + PAGE as usize)];
        let state = match (all.contains(&true), all.contains(&false)) {
            (true, true) => PageState::Mixed,
            (true, false) => PageState::Dirty,
            _ => PageState::Clean,
        };
        assert_eq!(map.page_state(page), state, "page {page}");
    }
    assert!(exported == expected, "the pages exported differ");

    let runs = model.runs(0, sectors, true);
    let whole = SectorRange::new(Sector(0), SectorCount(u64::MAX));
    assert!(map.dirty_runs(whole).eq(runs.iter().copied()));
    let edges = runs
        .iter()
        .flat_map(|run| [run.start.0 as usize, run.end().0 as usize])
        .take(8);

    for at in places.iter().copied().chain(edges) {
        for until in places.iter().copied().chain([at + 1, at + 8, sectors]) {
            let (from, limit) = (Sector(at as u64), Sector(until as u64));
            assert_eq!(map.next_dirty(from, limit), model.next(at, until, true));
            assert_eq!(map.next_clean(from, limit), model.next(at, until, false));
            if at < until {
                let part = SectorRange::between(from..limit);
                for (runs, dirty) in [(map.dirty_runs(part), true), (map.clean_runs(part), false)] {
                    // The first one by one, which has to leave off where the rest goes on.
                    let mut rest = runs.clone();
                    let mut seen: Vec<_> = rest.by_ref().take(3).collect();
                    rest.for_each(|run| seen.push(run));
                    assert_eq!(seen, model.runs(at, until, dirty), "{part}, {dirty}");
                }
            }
            if at < until.min(sectors) {
                let expected = model.run_at(at, until.min(sectors));
                assert_eq!(map.run_within(from, limit), expected);
            }
        }
        if at < sectors {
            assert_eq!(map.run_at(Sector(at as u64)), model.run_at(at, sectors));
            assert_eq!(map.is_dirty(Sector(at as u64)), model.dirty[at]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_map_does_what_the_model_does(
        sectors in place(),
        raw in any::<bool>(),
        operations in proptest::collection::vec(operation(), 1..24),
        places in proptest::collection::vec(place(), 6),
    ) {
        let mut model = Model::new(sectors, raw);
        let new = if raw { SectorMap::all_dirty } else { SectorMap::new };
        let mut map = new(SectorCount(sectors as u64)).expect("small enough");
        compare(&map, &model, &places);
        for operation in operations {
            apply(&mut map, &mut model, operation);
            compare(&map, &model, &places);
        }
        apply(&mut map, &mut model, Operation::Take);
    }
}
