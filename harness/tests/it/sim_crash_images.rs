//! Crash images of random histories: the same seed gives the same ones, none disturbs
//! another, and what was synced is in all of them.

use std::path::Path;

use driver::host::{Access, HostFile, HostNames, Replace};
use driver::units::{Bytes, FileOffset, FileRange};
use harness::sim::{
    Assumptions, FileContent, SimFile, SimHost, Survival, SurvivalWeights, Survivors, Tearing,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64, usize),
    SetLen(usize, u64),
    Punch(usize, u64, u64),
    Zero(usize, u64, u64),
    Sync(usize),
    Replace(usize, usize),
    SyncNames,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = || 0..NAMES.len();
    let at = || prop_oneof![0..20_000u64, (0..40u64).prop_map(|sector| sector * 512)];
    let len = || prop_oneof![1..9000u64, (1..18u64).prop_map(|sectors| sectors * 512)];
    let step = prop_oneof![
        6 => (file(), at(), len()).prop_map(|(file, at, len)| Step::Write(file, at, len as usize)),
        1 => (file(), at()).prop_map(|(file, len)| Step::SetLen(file, len)),
        1 => (file(), at(), len()).prop_map(|(file, at, len)| Step::Punch(file, at, len)),
        1 => (file(), at(), len()).prop_map(|(file, at, len)| Step::Zero(file, at, len)),
        2 => file().prop_map(Step::Sync),
        1 => (file(), file()).prop_map(|(from, to)| Step::Replace(from, to)),
        1 => Just(Step::SyncNames),
    ];
    proptest::collection::vec(step, 0..25)
}

fn open(host: &SimHost, file: usize) -> SimFile {
    let path = Path::new(NAMES[file]);
    host.open(path, Access::ReadWrite)
        .or_else(|_| host.create_new(path))
        .unwrap()
}

fn run(host: &SimHost, steps: &[Step]) {
    for (value, step) in (1..).zip(steps) {
        run_step(host, step, value);
    }
}

/// A write writes `value` all over.
fn run_step(host: &SimHost, step: &Step, value: u8) {
    let range = |at, len| FileRange::new(FileOffset(at), Bytes(len));
    match *step {
        Step::Write(file, at, len) => {
            let data = vec![value; len];
            open(host, file)
                .write_all_at(&data, FileOffset(at))
                .unwrap();
        }
        Step::SetLen(file, len) => open(host, file).set_len(Bytes(len)).unwrap(),
        Step::Punch(file, at, len) => open(host, file).punch_hole(range(at, len)).unwrap(),
        Step::Zero(file, at, len) => open(host, file).zero_range(range(at, len)).unwrap(),
        Step::Sync(file) => open(host, file).sync_data().unwrap(),
        Step::Replace(from, to) => {
            open(host, from);
            let (from, to) = (Path::new(NAMES[from]), Path::new(NAMES[to]));
            host.rename(from, to, Replace::Existing).unwrap();
        }
        Step::SyncNames => host.sync_directory_of(Path::new("a")).unwrap(),
    }
}

fn contents(host: &SimHost) -> Vec<(&'static str, Option<FileContent>)> {
    NAMES.map(|name| (name, host.content(name))).to_vec()
}

fn strict_and_weak() -> impl Strategy<Value = Assumptions> {
    let weak = Assumptions {
        atomic_unit: 8,
        ordered_names: false,
        atomic_set_len: false,
        length_follows_data: false,
        sync_persists: true,
        restart_after_failed_sync: false,
        failed_sync_keeps_content: false,
        kill_unit: 8,
        errors_are_final: false,
        steady_times: false,
        slow_clock: false,
        shares_extents: true,
        no_zero_range: false,
        tells_holes: true,
    };
    prop_oneof![Just(Assumptions::default()), Just(weak)]
}

proptest! {
    #[test]
    fn when_everything_is_synced_every_power_cut_leaves_everything(
        steps in steps(), assumptions in strict_and_weak(), seed: u64,
    ) {
        let host = SimHost::new(assumptions);
        run(&host, &steps);
        for file in 0..NAMES.len() {
            open(&host, file).sync_data().unwrap();
        }
        host.sync_directory_of(Path::new("a")).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let weights = SurvivalWeights::draw(&mut rng);
        for survivors in [Survivors::default(), host.unsynced().sample(weights, &mut rng)] {
            let after = host.after_power_cut(&survivors).unwrap();
            prop_assert_eq!(contents(&after), contents(&host));
        }
    }

    #[test]
    fn when_everything_survives_nothing_is_different(
        steps in steps(), assumptions in strict_and_weak(),
    ) {
        let host = SimHost::new(assumptions);
        run(&host, &steps);
        let survivors = host.unsynced().everything();
        let after = host.after_power_cut(&survivors).unwrap();
        prop_assert_eq!(contents(&after), contents(&host));
        let killed = host.after_kill();
        prop_assert_eq!(contents(&killed), contents(&host));
        prop_assert_eq!(killed.unsynced(), host.unsynced());
    }

    #[test]
    fn the_seed_gives_the_image_and_images_disturb_nobody(
        steps in steps(), assumptions in strict_and_weak(), seed: u64,
    ) {
        let [one, other] = [0, 1].map(|_| SimHost::new(assumptions));
        run(&one, &steps);
        run(&other, &steps);
        let before = contents(&one);
        let sample = |host: &SimHost| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let weights = SurvivalWeights::draw(&mut rng);
            let survivors = host.unsynced().sample(weights, &mut rng);
            (survivors.clone(), host.after_power_cut(&survivors).unwrap())
        };
        let (survivors, image) = sample(&one);
        let left = contents(&image);
        run(&image, &steps);
        prop_assert_eq!(&contents(&one), &before);
        let (again, image) = sample(&one);
        prop_assert_eq!(&again, &survivors);
        prop_assert_eq!(&contents(&image), &left);
        let (elsewhere, image) = sample(&other);
        prop_assert_eq!(elsewhere, survivors);
        prop_assert_eq!(contents(&image), left);
    }
}

/// The slow and obvious model: bytes in a vector, each decided on its own.
fn naive(before: &[u8], step: &Step, value: u8, survives: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut after = before.to_vec();
    let (at, len, value, extends) = match *step {
        Step::Write(_, at, len) => (at, len as u64, value, true),
        Step::Zero(_, at, len) => (at, len, 0, true),
        Step::Punch(_, at, len) => (at, len, 0, false),
        Step::SetLen(_, len) => {
            if survives(0) {
                after.resize(len as usize, 0);
            }
            return after;
        }
        _ => return after,
    };
    for byte in (at..at + len).filter(|byte| survives(byte / 512 - at / 512)) {
        if extends && after.len() as u64 <= byte {
            after.resize(byte as usize + 1, 0);
        }
        if let Some(there) = after.get_mut(byte as usize) {
            *there = value;
        }
    }
    after
}

proptest! {
    #[test]
    fn one_file_is_after_a_power_cut_what_the_naive_model_says(steps in steps(), seed: u64) {
        let host = SimHost::default();
        host.install("a", FileContent::default());
        let inode = host.inode("a").unwrap();
        let mut durable = Vec::new();
        let mut unsynced = Vec::new();
        for (value, step) in (1..).zip(&steps) {
            let step = match *step {
                Step::Write(_, at, len) => Step::Write(0, at, len),
                Step::SetLen(_, len) => Step::SetLen(0, len),
                Step::Punch(_, at, len) => Step::Punch(0, at, len),
                Step::Zero(_, at, len) => Step::Zero(0, at, len),
                _ => Step::Sync(0),
            };
            let same_length = matches!(
                step, Step::SetLen(_, len) if host.content("a").unwrap().length() == Bytes(len)
            );
            run_step(&host, &step, value);
            match step {
                Step::Sync(_) => {
                    let all = unsynced.drain(..);
                    durable = all.fold(durable, |file, (step, value)| {
                        naive(&file, &step, value, |_| true)
                    });
                }
                _ if same_length => {}
                step => unsynced.push((step, value)),
            }
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..8 {
            let weights = SurvivalWeights::draw(&mut rng);
            let survivors = host.unsynced().sample(weights, &mut rng);
            let none = Vec::new();
            let fates = survivors.files.get(&inode).unwrap_or(&none);
            prop_assert_eq!(fates.len(), unsynced.len());
            let mut expected = durable.clone();
            for ((step, value), fate) in unsynced.iter().zip(fates) {
                expected = naive(&expected, step, *value, |sector| match fate {
                    Survival::Lost => false,
                    Survival::Whole => true,
                    Survival::Torn(runs) => {
                        runs.iter().any(|&(from, to)| from <= sector && sector < to)
                    }
                });
            }
            let after = host.after_power_cut(&survivors).unwrap();
            prop_assert!(after.content("a").unwrap().to_bytes() == expected);
        }
    }
}

#[test]
fn a_dozen_operations_are_enumerated_whole() {
    let host = SimHost::default();
    host.install("a", FileContent::hole(Bytes(64 * 1024)));
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    for number in 0..12 {
        let at = FileOffset(u64::from(number) * 1024);
        file.write_all_at(&[number + 1; 1024], at).unwrap();
    }
    let unsynced = host.unsynced();
    let mut seen = std::collections::BTreeSet::new();
    for survivors in unsynced.subsets(Tearing::None).unwrap() {
        let after = host.after_power_cut(&survivors).unwrap();
        let bytes = after.content("a").unwrap().to_bytes();
        let kept = |number: usize| bytes[number * 1024] == number as u8 + 1;
        seen.insert((0..12).map(kept).collect::<Vec<bool>>());
    }
    assert_eq!(seen.len(), 4096);
    assert_eq!(unsynced.subset_count(Tearing::Every), Ok(1 << 24));
    assert_eq!(
        unsynced.subset_count(Tearing::One),
        Ok(4096 + 12 * 2 * 2048)
    );
}

/// What whoever starts anew can see makes the difference, and nothing else.
#[test]
fn a_power_cut_that_everything_survives_is_found_like_the_kill() {
    let host = SimHost::default();
    let file = host.create_new("a".as_ref()).unwrap();
    host.sync_directory_of("a".as_ref()).unwrap();
    file.write_all_at(&[1; 5000], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    file.punch_hole(FileRange::new(FileOffset(0), Bytes(4096)))
        .unwrap();
    let cut = |host: &SimHost, survivors| host.after_power_cut(&survivors).unwrap();
    let everything = || cut(&host, host.unsynced().everything());
    assert!(everything().is_found_like(&host));
    assert!(!cut(&host, Survivors::default()).is_found_like(&host));
    for (what, change) in [
        ("a byte", (|host| write(host, &[2], 4500)) as fn(&SimHost)),
        ("a length", |host| write(host, &[0], 6000)),
        ("zeros in the place of a hole", |host| write(host, &[0], 0)),
        ("a name", |host| {
            drop(host.create_new("b".as_ref()).unwrap())
        }),
        ("a time", |host| assert!(host.set_modified_seconds("a", 7))),
    ] {
        let other = everything();
        change(&other);
        assert!(!other.is_found_like(&host), "{what}");
        assert!(!host.is_found_like(&other), "{what}");
    }
}

fn write(host: &SimHost, data: &[u8], at: u64) {
    let file = host.open("a".as_ref(), Access::ReadWrite).unwrap();
    file.write_all_at(data, FileOffset(at)).unwrap();
}

/// What a kill in the middle of a write leaves is there for the next user, and a power cut can
/// still take it.
#[test]
fn a_kill_in_the_middle_of_a_write_leaves_whole_pages_of_it() {
    let host = SimHost::default();
    host.install("a", FileContent::from_bytes(&[1; 12_288]));
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    host.keep_snapshots();
    file.write_all_at(&[2; 9000], FileOffset(1000)).unwrap();
    file.set_len(Bytes(12_000)).unwrap();
    file.write_all_at(&[3; 512], FileOffset(0)).unwrap();
    let [long, cut, short] = &host.take_snapshots()[..] else {
        panic!("three changes");
    };
    for (snapshot, borders) in [(long, 2), (cut, 0), (short, 0), (&long.after_kill(), 0)] {
        assert_eq!(snapshot.pages_in_flight(), borders);
        for none in [0, borders + 1] {
            assert!(snapshot.after_kill_in_write(none).is_none(), "{none}");
        }
    }
    for (pages, end) in [(1, 4096), (2, 8192)] {
        let killed = long.after_kill_in_write(pages).unwrap();
        let mut expected = vec![1; 12_288];
        expected[1000..end].fill(2);
        assert_eq!(killed.content("a").unwrap().to_bytes(), expected);
        let after = killed.after_power_cut(&Survivors::default()).unwrap();
        assert_eq!(after.content("a").unwrap().to_bytes(), [1; 12_288]);
    }
    assert_eq!(long.content("a").unwrap().to_bytes(), [1; 12_288]);
}

#[test]
fn a_kill_has_another_unit_where_pages_are_not_assumed_to_be_whole() {
    let host = SimHost::new(Assumptions {
        kill_unit: 512,
        ..Assumptions::default()
    });
    host.install("a", FileContent::from_bytes(&[1; 2048]));
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    host.keep_snapshots();
    file.write_all_at(&[2; 1000], FileOffset(100)).unwrap();
    let snapshot = &host.take_snapshots()[0];
    assert_eq!(snapshot.pages_in_flight(), 2);
    for (number, end) in [(1, 512), (2, 1024)] {
        let killed = snapshot.after_kill_in_write(number).unwrap();
        let mut expected = vec![1; 2048];
        expected[100..end].fill(2);
        assert_eq!(killed.content("a").unwrap().to_bytes(), expected);
    }
}
