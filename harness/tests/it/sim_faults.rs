//! Faults on the simulated host: what the caller is told, and what is on the disk.

use std::path::Path;

use driver::host::{Access, HostError, HostFile, HostNames, OperationKind, Replace};
use driver::units::{Bytes, FileOffset, FileRange};
use harness::sim::{
    Assumptions, Fault, FaultPlan, FaultRates, FaultRule, FileContent, FileMatch, Mishearing,
    Occurrence, SimFile, SimHost, Survivors,
};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

fn host_with_a_file(assumptions: Assumptions) -> (SimHost, SimFile) {
    let host = SimHost::new(assumptions);
    host.install("a", FileContent::from_bytes(&[1; 1024]));
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    (host, file)
}

fn with_faults(rules: impl IntoIterator<Item = FaultRule>) -> (SimHost, SimFile) {
    let (host, file) = host_with_a_file(Assumptions::default());
    host.set_faults(FaultPlan::at(rules));
    (host, file)
}

/// The content of `a` if nothing unsynced survives.
fn certain(host: &SimHost) -> Vec<u8> {
    let after = host.after_power_cut(&Survivors::default()).unwrap();
    after.content("a").unwrap().to_bytes()
}

fn sectors<const N: usize>(values: [u8; N]) -> Vec<u8> {
    values.into_iter().flat_map(|value| [value; 512]).collect()
}

#[test]
fn errors_and_short_transfers_hit_the_operation_they_are_planned_for() {
    let nth = |kind, n, fault| FaultRule::nth("a", kind, n, fault);
    let (host, file) = with_faults([
        nth(OperationKind::Write, 0, Fault::Io),
        nth(OperationKind::Write, 1, Fault::ShortWrite(100)),
        nth(OperationKind::Write, 3, Fault::ShortWrite(0)),
        nth(OperationKind::Write, 4, Fault::NoSpace),
        nth(OperationKind::Read, 0, Fault::ShortRead(7)),
        nth(OperationKind::Read, 1, Fault::ShortRead(0)),
    ]);
    let write = || file.write_at(&[2; 512], FileOffset(0));
    assert_eq!(write(), Err(HostError::Io));
    assert_eq!(
        host.unsynced().operation_count(),
        0,
        "a failed write has no effect"
    );
    assert_eq!(write(), Ok(100));
    assert_eq!(write(), Ok(512));
    assert_eq!(write(), Ok(0));
    assert_eq!(write(), Err(HostError::NoSpace));
    let read = || file.read_at(&mut [0; 512], FileOffset(0));
    assert_eq!((read(), read(), read()), (Ok(7), Ok(1), Ok(512)));
    let kinds: Vec<Fault> = host.injected().iter().map(|one| one.fault).collect();
    assert_eq!(
        kinds,
        [
            Fault::Io,
            Fault::ShortWrite(100),
            Fault::ShortWrite(0),
            Fault::NoSpace,
            Fault::ShortRead(7),
            Fault::ShortRead(0)
        ]
    );
    assert_eq!(host.injected()[1].call.index, 2);
}

#[test]
fn what_a_failed_sync_gave_up_stays_visible_and_no_later_sync_saves_it() {
    let failed = FaultRule::nth("a", OperationKind::SyncData, 0, Fault::FailedSync);
    let (host, file) = with_faults([failed]);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    assert_eq!(file.sync_data(), Err(HostError::Io));
    file.write_all_at(&[3; 512], FileOffset(512)).unwrap();
    assert_eq!(file.sync_data(), Ok(()));
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([2, 3]));
    assert_eq!(certain(&host), sectors([1, 3]));
    assert_eq!(
        host.durable_content("a").unwrap().to_bytes(),
        sectors([1, 3])
    );
    let at_stake = host.unsynced();
    assert_eq!(at_stake.operation_count(), 1);
    assert!(at_stake.files[0].operations[0].orphaned);
    let lucky = host.after_power_cut(&at_stake.everything()).unwrap();
    assert_eq!(lucky.content("a"), host.content("a"));

    // What overwrites it and is synced is safe, whether the orphan survived or not.
    file.write_all_at(&[4; 512], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    for survivors in [Survivors::default(), at_stake.everything()] {
        let after = host.after_power_cut(&survivors).unwrap();
        assert_eq!(after.content("a").unwrap().to_bytes(), sectors([4, 3]));
    }
    // A kill does not bring it back into the care of later syncs either.
    let killed = host.after_kill();
    assert!(killed.unsynced().files[0].operations[0].orphaned);
}

#[test]
fn a_sync_that_fails_for_want_of_space_gives_up_what_it_should_have_written() {
    let failed = FaultRule::nth("a", OperationKind::SyncData, 0, Fault::FailedSyncForSpace);
    let (host, file) = with_faults([failed]);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    assert_eq!(file.sync_data(), Err(HostError::NoSpace));
    assert_eq!(file.sync_data(), Ok(()));
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([2, 1]));
    assert_eq!(certain(&host), sectors([1, 1]));
}

#[test]
fn a_write_without_an_answer_has_had_its_effect() {
    let write = FaultRule::nth("a", OperationKind::Write, 0, Fault::IoAfter);
    let (host, file) = with_faults([write]);
    assert_eq!(
        file.write_all_at(&[2; 512], FileOffset(0)),
        Err(HostError::Io)
    );
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([2, 1]));
    file.sync_data().unwrap();
    assert_eq!(certain(&host), sectors([2, 1]));
}

/// It arrives after the next change of its file, and survives a kill on its way there.
#[test]
fn where_an_error_is_not_final_a_failed_write_goes_over_what_came_after_it() {
    let write = FaultRule::nth("a", OperationKind::Write, 0, Fault::IoAfter);
    let (host, file) = host_with_a_file(Assumptions {
        errors_are_final: false,
        ..Assumptions::default()
    });
    host.set_faults(FaultPlan::at([write]));
    let late = file.write_all_at(&[2; 512], FileOffset(0));
    assert_eq!(late, Err(HostError::Io));
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([1, 1]));
    drop(file);
    for host in [host.after_kill(), host] {
        let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
        for expected in [[2, 3], [3, 3]] {
            file.write_all_at(&[3; 1024], FileOffset(0)).unwrap();
            let found = host.content("a").unwrap();
            assert_eq!(found.to_bytes(), sectors(expected));
        }
        file.sync_data().unwrap();
        assert_eq!(certain(&host), sectors([3, 3]));
    }
}

#[test]
fn where_it_is_not_assumed_to_stay_what_a_failed_sync_gave_up_is_gone() {
    let host = SimHost::new(Assumptions {
        failed_sync_keeps_content: false,
        ..Assumptions::default()
    });
    host.install("a", FileContent::from_bytes(&sectors([1, 1])));
    let failed = FaultRule::nth("a", OperationKind::SyncData, 1, Fault::FailedSync);
    host.set_faults(FaultPlan::at([failed]));
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[3; 1024], FileOffset(0)).unwrap();
    assert_eq!(file.sync_data(), Err(HostError::Io));
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([2, 1]));
    assert_eq!(host.unsynced().operation_count(), 0);
}

#[test]
fn a_hole_punched_in_part_and_a_rename_without_an_answer_have_had_their_effect() {
    let punch = FaultRule::nth("a", OperationKind::PunchHole, 0, Fault::InPart(512));
    let rename = FaultRule::nth("a", OperationKind::Rename, 0, Fault::IoAfter);
    let (host, file) = with_faults([punch, rename]);
    let range = FileRange::new(FileOffset(0), Bytes(1024));
    file.write_all_at(&[2; 1024], FileOffset(0)).unwrap();
    assert_eq!(file.punch_hole(range), Err(HostError::Io));
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([0, 2]));
    let renamed = host.rename(Path::new("a"), Path::new("b"), Replace::Nothing);
    assert_eq!(renamed, Err(HostError::Io));
    assert_eq!(host.paths(), [Path::new("b")]);
}

#[test]
fn an_operation_whose_answer_is_lost_has_had_its_effect() {
    let lost = |kind| FaultRule::nth("a", kind, 0, Fault::IoAfter);
    let kinds = [
        OperationKind::Write,
        OperationKind::ZeroRange,
        OperationKind::SetLen,
        OperationKind::SyncData,
        OperationKind::Remove,
        OperationKind::SyncDirectory,
    ];
    let (host, file) = with_faults(kinds.map(lost));
    let range = FileRange::new(FileOffset(0), Bytes(512));
    let (failed, path) = (Err(HostError::Io), Path::new("a"));
    assert_eq!(file.write_all_at(&[2; 1024], FileOffset(512)), failed);
    assert_eq!(file.zero_range(range), failed);
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([0, 2, 2]));
    assert_eq!(file.set_len(Bytes(1024)), failed);
    assert_eq!(file.sync_data(), failed);
    assert_eq!(certain(&host), sectors([0, 2]));
    assert_eq!(host.remove(path), failed);
    assert_eq!(host.sync_directory_of(path), failed);
    let after = host.after_power_cut(&Survivors::default()).unwrap();
    assert!(after.paths().is_empty());
}

#[test]
fn who_mishears_a_host_goes_on_as_if_it_had_said_something_else() {
    let punch = FaultRule::nth("a", OperationKind::PunchHole, 0, Fault::InPart(512));
    let rename = FaultRule::nth("a", OperationKind::Rename, 0, Fault::IoAfter);
    let (host, file) = with_faults([punch, rename]);
    host.mishear(Mishearing {
        takes_for_durable: None,
        takes_for_done: Some(|injected| matches!(injected.fault, Fault::InPart(_))),
        misses_renames: true,
    });
    let range = FileRange::new(FileOffset(0), Bytes(1024));
    file.punch_hole(range).unwrap();
    assert_eq!(host.content("a").unwrap().to_bytes(), sectors([0, 1]));
    let (from, to) = (Path::new("a"), Path::new("b"));
    assert_eq!(host.rename(from, to, Replace::Nothing), Err(HostError::Io));
    assert_eq!(host.is_name_of(to, &file), Ok(false));
    assert_eq!(host.is_name_of(to, &file), Ok(true), "it looks again");
}

#[test]
fn a_sync_that_only_returns_an_error_can_be_repeated() {
    let (host, file) = with_faults([FaultRule::nth("a", OperationKind::SyncData, 0, Fault::Io)]);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    assert_eq!(file.sync_data(), Err(HostError::Io));
    assert_eq!(certain(&host), sectors([1, 1]));
    file.sync_data().unwrap();
    assert_eq!(certain(&host), sectors([2, 1]));
}

#[test]
fn a_lying_sync_says_yes_and_an_honest_one_makes_up_for_it() {
    let (host, file) = with_faults([FaultRule::nth(
        "a",
        OperationKind::SyncData,
        0,
        Fault::LyingSync,
    )]);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    assert_eq!(file.sync_data(), Ok(()));
    assert_eq!(certain(&host), sectors([1, 1]));
    file.sync_data().unwrap();
    assert_eq!(certain(&host), sectors([2, 1]));
}

#[test]
fn where_syncs_do_not_persist_all_of_them_lie() {
    let (host, file) = host_with_a_file(Assumptions {
        sync_persists: false,
        ..Assumptions::default()
    });
    let new = host.create_new(Path::new("b")).unwrap();
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    for _ in 0..2 {
        file.sync_data().unwrap();
        new.sync_data().unwrap();
        host.sync_directory_of(Path::new("b")).unwrap();
    }
    assert_eq!(certain(&host), sectors([1, 1]));
    let after = host.after_power_cut(&Survivors::default()).unwrap();
    assert_eq!(after.paths(), [Path::new("a")]);
}

#[test]
fn a_failed_sync_of_a_directory_can_be_repeated_and_a_lying_one_is_not_noticed() {
    let sync = |n, fault| FaultRule::nth("b", OperationKind::SyncDirectory, n, fault);
    let (host, _file) = with_faults([sync(0, Fault::FailedSync), sync(1, Fault::LyingSync)]);
    let b = Path::new("b");
    host.create_new(b).unwrap();
    let survives = || {
        let after = host.after_power_cut(&Survivors::default()).unwrap();
        after.inode(b).is_some()
    };
    assert_eq!(host.sync_directory_of(b), Err(HostError::Io));
    assert!(!survives());
    assert_eq!(host.sync_directory_of(b), Ok(()));
    assert!(!survives());
    assert_eq!(host.sync_directory_of(b), Ok(()));
    assert!(survives());
}

#[test]
fn a_host_may_not_support_holes_at_all() {
    let (_host, file) = with_faults([FaultRule {
        file: FileMatch::Any,
        kind: Some(OperationKind::PunchHole),
        bytes: None,
        occurrence: Occurrence::From(0),
        fault: Fault::Unsupported,
    }]);
    for _ in 0..3 {
        let hole = FileRange::new(FileOffset(0), Bytes(512));
        assert_eq!(file.punch_hole(hole), Err(HostError::Unsupported));
        assert_eq!(file.zero_range(hole), Ok(()));
    }
}

#[test]
fn a_full_host_takes_what_fits_and_then_nothing_until_space_is_freed() {
    let (host, file) = host_with_a_file(Assumptions::default());
    host.set_capacity(Some(Bytes(3 * 4096)));
    assert_eq!(host.used(), Bytes(4096));
    assert_eq!(file.write_at(&[2; 20_000], FileOffset(0)), Ok(3 * 4096));
    assert_eq!(
        file.write_at(&[2; 512], FileOffset(3 * 4096)),
        Err(HostError::NoSpace)
    );
    assert_eq!(
        file.write_at(&[3; 512], FileOffset(0)),
        Ok(512),
        "no new space"
    );
    let range = FileRange::new(FileOffset(4 * 4096), Bytes(4096));
    assert_eq!(file.zero_range(range), Err(HostError::NoSpace));
    file.set_len(Bytes(1 << 40)).unwrap();
    file.punch_hole(FileRange::new(FileOffset(4096), Bytes(4096)))
        .unwrap();
    assert_eq!(file.zero_range(range), Ok(()));
    assert_eq!(host.used(), Bytes(3 * 4096));
    let after = host.after_kill();
    let other = after.create_new(Path::new("b")).unwrap();
    assert_eq!(other.write_at(&[1], FileOffset(0)), Err(HostError::NoSpace));
    after.remove(Path::new("a")).unwrap();
    assert_eq!(other.write_at(&[1], FileOffset(0)), Ok(1));
}

/// Runs a fixed sequence; what came of each operation, and the faults as rules.
fn run(plan: FaultPlan) -> (Vec<String>, Vec<FaultRule>) {
    let (host, file) = host_with_a_file(Assumptions::default());
    host.record();
    host.set_faults(plan);
    let mut buffer = [0; 512];
    for round in 0..200 {
        let at = FileOffset(round % 5 * 512);
        let _ = file.write_at(&[round as u8; 512], at);
        let _ = file.read_at(&mut buffer, at);
        let _ = file.sync_data();
    }
    let opened = 1;
    let rules = host.injected().into_iter();
    let rules = rules.map(|one| FaultRule::at_operation(one.call.index - opened, one.fault));
    let log = host.take_log();
    (
        log.iter().map(ToString::to_string).collect(),
        rules.collect(),
    )
}

#[test]
fn faults_by_rate_follow_from_the_seed_and_can_be_repeated_by_place() {
    let rates = FaultRates {
        io: 30_000,
        no_space: 30_000,
        short_read: 100_000,
        short_write: 100_000,
        failed_sync: 50_000,
        ..FaultRates::default()
    };
    let by_rate = |seed| {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        run(FaultPlan::default().and_by_rate(rates, rng))
    };
    let (story, rules) = by_rate(1);
    assert!(rules.len() > 20);
    assert_eq!(by_rate(1), (story.clone(), rules.clone()));
    assert_ne!(by_rate(2).0, story);
    let text = serde_json::to_string(&rules).unwrap();
    let read_back: Vec<FaultRule> = serde_json::from_str(&text).unwrap();
    assert_eq!(run(FaultPlan::at(read_back)), (story, rules));
}
