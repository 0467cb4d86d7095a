//! The simulated host: what is durable, what a kill leaves, what a power cut can take.

use std::path::Path;

use driver::host::{
    Access, FileKind, HostError, HostFile, HostNames, LockKind, OperationKind, Replace,
};
use driver::units::{Bytes, FileOffset, FileRange};
use harness::sim::{
    Assumptions, BadSurvivors, FileContent, SimFile, SimHost, Survival, Survivors, Tearing,
};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn range(start: u64, len: u64) -> FileRange {
    FileRange::new(FileOffset(start), Bytes(len))
}

/// A host with one durable file `a` of two sectors of ones, and that file opened.
fn host_with_a_file() -> (SimHost, SimFile) {
    let host = SimHost::default();
    host.install("a", FileContent::from_bytes(&[1; 1024]));
    let file = host.open(path("a"), Access::ReadWrite).unwrap();
    (host, file)
}

fn bytes(host: &SimHost, name: &str) -> Option<Vec<u8>> {
    host.content(name).map(|content| content.to_bytes())
}

/// Every distinct content of `a` that a power cut can leave.
fn possible(host: &SimHost, tearing: Tearing) -> Vec<Option<Vec<u8>>> {
    let mut images = Vec::new();
    for survivors in host.unsynced().subsets(tearing).unwrap() {
        let image = bytes(&host.after_power_cut(&survivors).unwrap(), "a");
        if !images.contains(&image) {
            images.push(image);
        }
    }
    images
}

#[test]
fn what_is_synced_stays_and_what_is_not_may_go() {
    let (host, file) = host_with_a_file();
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[3; 512], FileOffset(512)).unwrap();
    assert_eq!(bytes(&host, "a"), Some([[2; 512], [3; 512]].concat()));
    let durable = [[2; 512], [1; 512]].concat();
    assert_eq!(host.durable_content("a").unwrap().to_bytes(), durable);

    let lost = host.after_power_cut(&Survivors::default()).unwrap();
    assert_eq!(bytes(&lost, "a"), Some(durable));
    let kept = host.after_power_cut(&host.unsynced().everything()).unwrap();
    assert_eq!(kept.content("a"), host.content("a"));
    assert_eq!(kept.unsynced().operation_count(), 0, "all is durable there");
}

#[test]
fn any_subset_survives_and_the_later_of_two_overlapping_writes_wins() {
    let (host, file) = host_with_a_file();
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    file.write_all_at(&[3; 1024], FileOffset(0)).unwrap();
    let whole = possible(&host, Tearing::None);
    let image = |first, second| Some([[first; 512], [second; 512]].concat());
    assert_eq!(whole, [image(1, 1), image(2, 1), image(3, 3)]);
    let torn = possible(&host, Tearing::Every);
    for expected in [
        image(1, 1),
        image(2, 1),
        image(3, 3),
        image(1, 3),
        image(2, 3),
        image(3, 1),
    ] {
        assert!(torn.contains(&expected));
    }
    assert_eq!(torn.len(), 6);
}

#[test]
fn a_cut_a_hole_and_a_zeroed_range_may_be_lost_like_any_write() {
    let (host, file) = host_with_a_file();
    file.punch_hole(range(0, 1024)).unwrap();
    assert_eq!(
        possible(&host, Tearing::Every),
        [[1, 1], [0, 1], [1, 0], [0, 0]].map(|[a, b]| Some([[a; 512], [b; 512]].concat()))
    );
    file.sync_data().unwrap();
    file.set_len(Bytes(512)).unwrap();
    assert_eq!(
        possible(&host, Tearing::Every),
        [Some(vec![0; 1024]), Some(vec![0; 512])],
        "a cut is atomic"
    );
    file.sync_data().unwrap();
    file.write_all_at(&[7; 512], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    file.zero_range(range(0, 512)).unwrap();
    assert_eq!(
        possible(&host, Tearing::None),
        [Some(vec![7; 512]), Some(vec![0; 512])]
    );
}

#[test]
fn the_page_cache_survives_a_kill_and_can_still_be_lost_later() {
    let (host, file) = host_with_a_file();
    file.write_all_at(&[2; 1024], FileOffset(0)).unwrap();
    host.lock(&file, LockKind::Exclusive).unwrap();
    let after = host.after_kill();
    assert_eq!(after.content("a"), host.content("a"));
    let again = after.open(path("a"), Access::ReadWrite).unwrap();
    after.lock(&again, LockKind::Exclusive).unwrap();
    let lost = after.after_power_cut(&Survivors::default()).unwrap();
    assert_eq!(bytes(&lost, "a"), Some(vec![1; 1024]));
    again.sync_data().unwrap();
    let kept = after.after_power_cut(&Survivors::default()).unwrap();
    assert_eq!(bytes(&kept, "a"), Some(vec![2; 1024]));
}

#[test]
fn the_host_before_and_the_hosts_after_a_crash_do_not_disturb_each_other() {
    let (host, file) = host_with_a_file();
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    let images = [
        host.after_kill(),
        host.after_kill(),
        host.after_power_cut(&host.unsynced().everything()).unwrap(),
    ];
    let before = bytes(&host, "a");
    for (value, image) in (10..).zip(&images) {
        let file = image.open(path("a"), Access::ReadWrite).unwrap();
        file.write_all_at(&[value; 100], FileOffset(500)).unwrap();
        file.sync_data().unwrap();
    }
    assert_eq!(bytes(&host, "a"), before);
    for (value, image) in (10..).zip(&images) {
        assert_eq!(bytes(image, "a").unwrap()[500..600], [value; 100]);
    }
    file.set_len(Bytes(0)).unwrap();
    file.sync_data().unwrap();
    assert_eq!(bytes(&images[0], "a").unwrap().len(), 1024);
}

#[test]
fn after_the_crash_point_nothing_happens_any_more() {
    let (host, file) = host_with_a_file();
    assert_eq!((host.operations(), host.changes()), (1, 0), "one open");
    host.crash_before_operation(3);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    file.read_exact_at(&mut [0; 512], FileOffset(0)).unwrap();
    assert!(!host.crashed());
    assert_eq!(file.write_at(&[3; 512], FileOffset(0)), Err(HostError::Io));
    assert!(host.crashed());
    assert_eq!(file.len(), Err(HostError::Io));
    assert_eq!(file.sync_data(), Err(HostError::Io));
    assert_eq!(host.remove(path("a")), Err(HostError::Io));
    assert!(host.open(path("a"), Access::ReadOnly).is_err());
    assert_eq!((host.operations(), host.changes()), (3, 1));
    assert_eq!(bytes(&host, "a"), Some([[2; 512], [1; 512]].concat()));
    assert!(!host.after_kill().crashed());
}

#[test]
fn crash_points_can_be_counted_in_changes_alone() {
    let (host, file) = host_with_a_file();
    host.crash_before_change(1);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    for _ in 0..10 {
        file.read_exact_at(&mut [0; 512], FileOffset(0)).unwrap();
        file.len().unwrap();
    }
    assert_eq!(file.sync_data(), Err(HostError::Io));
    assert_eq!(host.unsynced().operation_count(), 1);
}

/// Writes `b` and renames it over `a`, as image tools replace files.
fn replace(host: &SimHost, sync_before: bool) {
    let new = host.create_new(path("b")).unwrap();
    new.write_all_at(&[9; 512], FileOffset(0)).unwrap();
    if sync_before {
        new.sync_data().unwrap();
    }
    host.rename(path("b"), path("a"), Replace::Existing)
        .unwrap();
}

#[test]
fn a_rename_is_kept_or_lost_but_the_name_never_is() {
    let (host, _file) = host_with_a_file();
    replace(&host, true);
    let old = Some(vec![1; 1024]);
    let new = Some(vec![9; 512]);
    assert_eq!(possible(&host, Tearing::Every), [old, new.clone()]);
    host.sync_directory_of(path("a")).unwrap();
    assert_eq!(possible(&host, Tearing::Every), [new]);
    assert_eq!(host.paths(), [path("a")]);
}

#[test]
fn a_rename_before_a_sync_can_leave_an_empty_file_in_the_old_ones_place() {
    let (host, _file) = host_with_a_file();
    replace(&host, false);
    let images = possible(&host, Tearing::None);
    assert!(images.contains(&Some(Vec::new())));
    host.sync_directory_of(path("a")).unwrap();
    assert_eq!(
        possible(&host, Tearing::None),
        [Some(Vec::new()), Some(vec![9; 512])]
    );
}

#[test]
fn a_created_file_is_gone_until_its_name_is_synced() {
    let host = SimHost::default();
    let file = host.create_new(path("a")).unwrap();
    file.write_all_at(&[5; 512], FileOffset(0)).unwrap();
    file.sync_data().unwrap();
    assert_eq!(possible(&host, Tearing::None), [None, Some(vec![5; 512])]);
    host.sync_directory_of(path("a")).unwrap();
    assert_eq!(possible(&host, Tearing::None), [Some(vec![5; 512])]);
    host.remove(path("a")).unwrap();
    assert_eq!(possible(&host, Tearing::None), [Some(vec![5; 512]), None]);
}

#[test]
fn without_the_order_of_names_a_renamed_file_survives_its_own_creation() {
    let host = SimHost::new(Assumptions {
        ordered_names: false,
        ..Assumptions::default()
    });
    host.install("a", FileContent::from_bytes(&[1; 512]));
    replace(&host, true);
    let rename_only = Survivors {
        names: [("".into(), vec![false, true])].into(),
        ..Survivors::default()
    };
    let after = host.after_power_cut(&rename_only).unwrap();
    assert_eq!(after.paths(), [path("a")]);
    assert_eq!(bytes(&after, "a"), Some(vec![9; 512]));
}

#[test]
fn a_file_that_is_open_outlives_its_name_but_no_crash() {
    let (host, file) = host_with_a_file();
    host.remove(path("a")).unwrap();
    file.write_all_at(&[4; 512], FileOffset(0)).unwrap();
    assert_eq!(host.used(), Bytes(4096));
    host.sync_directory_of(path("a")).unwrap();
    assert_eq!(
        host.unsynced().operation_count(),
        0,
        "no name, nothing at stake"
    );
    drop(file);
    assert_eq!(host.used(), Bytes(0));
    assert!(
        host.after_power_cut(&Survivors::default())
            .unwrap()
            .paths()
            .is_empty()
    );
}

#[test]
fn survivors_that_do_not_fit_are_refused_with_the_numbers() {
    let (host, file) = host_with_a_file();
    let inode = file.inode();
    file.write_all_at(&[2; 1024], FileOffset(0)).unwrap();
    let refused = |decisions: Vec<Survival>| {
        let survivors = Survivors {
            files: [(inode, decisions)].into(),
            ..Survivors::default()
        };
        host.after_power_cut(&survivors).err()
    };
    assert_eq!(refused(vec![Survival::Torn(vec![(0, 1)])]), None);
    assert_eq!(
        refused(vec![]),
        Some(BadSurvivors::FileCount {
            inode,
            found: 0,
            expected: 1
        })
    );
    for runs in [vec![], vec![(0, 3)], vec![(1, 1)], vec![(1, 2), (0, 1)]] {
        assert_eq!(
            refused(vec![Survival::Torn(runs.clone())]),
            Some(BadSurvivors::Tear {
                inode,
                position: 0,
                atoms: 2,
                runs
            })
        );
    }
    let error = refused(vec![Survival::Torn(vec![(0, 3)])]).unwrap();
    assert_eq!(
        error.to_string(),
        "change 0 of file 1 has 2 atoms and cannot be torn into [(0, 3)]"
    );
}

#[test]
fn survivors_are_data_that_can_be_written_down() {
    let (host, file) = host_with_a_file();
    file.write_all_at(&[2; 1024], FileOffset(0)).unwrap();
    host.remove(path("a")).unwrap();
    let mut survivors = host.unsynced().everything();
    survivors
        .files
        .insert(file.inode(), vec![Survival::Torn(vec![(1, 2)])]);
    let text = serde_json::to_string(&survivors).unwrap();
    assert_eq!(
        text,
        r#"{"files":{"1":[{"torn":[[1,2]]}]},"names":{"":[true]}}"#
    );
    assert_eq!(serde_json::from_str::<Survivors>(&text).unwrap(), survivors);
}

#[test]
fn names_fail_as_on_a_real_host() {
    let (host, _file) = host_with_a_file();
    host.install("d/b", FileContent::default());
    assert_eq!(
        host.open(path("c"), Access::ReadOnly).unwrap_err(),
        HostError::NotFound
    );
    assert_eq!(
        host.create_new(path("./a")).unwrap_err(),
        HostError::AlreadyExists
    );
    assert_eq!(host.remove(path("c")), Err(HostError::NotFound));
    let rename = |from, to, replace| host.rename(path(from), path(to), replace);
    assert_eq!(
        rename("c", "a", Replace::Existing),
        Err(HostError::NotFound)
    );
    assert_eq!(
        rename("a", "d/a", Replace::Existing),
        Err(HostError::Os(18))
    );
    assert_eq!(
        rename("a", "a", Replace::Nothing),
        Err(HostError::AlreadyExists)
    );
    assert_eq!(rename("a", "a", Replace::Existing), Ok(()));
    assert_eq!(host.unsynced().operation_count(), 0);
}

#[test]
fn a_file_opened_for_reading_refuses_every_change() {
    let (host, writer) = host_with_a_file();
    let file = host.open(path("a"), Access::ReadOnly).unwrap();
    let refused = HostError::PermissionDenied;
    assert_eq!(file.write_at(&[0], FileOffset(0)), Err(refused.clone()));
    assert_eq!(file.set_len(Bytes(0)), Err(refused.clone()));
    assert_eq!(file.punch_hole(range(0, 512)), Err(refused.clone()));
    assert_eq!(file.zero_range(range(0, 512)), Err(refused.clone()));
    assert_eq!(host.lock(&file, LockKind::Exclusive), Err(refused));
    let end = FileOffset(i64::MAX as u64);
    assert_eq!(writer.write_at(&[0], end), Err(HostError::TooLarge));
    assert_eq!(file.read_at(&mut [0], end), Err(HostError::TooLarge));
}

#[test]
fn locks_exclude_other_descriptions_and_end_with_theirs() {
    let (host, first) = host_with_a_file();
    let second = host.open(path("a"), Access::ReadWrite).unwrap();
    host.lock(&first, LockKind::Shared).unwrap();
    host.lock(&second, LockKind::Shared).unwrap();
    assert_eq!(
        host.lock(&first, LockKind::Exclusive),
        Err(HostError::Locked)
    );
    drop(second);
    host.lock(&first, LockKind::Exclusive).unwrap();
    let third = host.open(path("a"), Access::ReadOnly).unwrap();
    assert_eq!(host.lock(&third, LockKind::Shared), Err(HostError::Locked));
    host.lock(&first, LockKind::Shared).unwrap();
    host.lock(&third, LockKind::Shared).unwrap();
}

#[test]
fn metadata_tells_files_apart_and_time_stands_still() {
    let (host, file) = host_with_a_file();
    let other = host.create_new(path("b")).unwrap();
    assert!(host.set_modified_seconds("a", 42) && !host.set_modified_seconds("c", 42));
    file.write_all_at(&[2; 512], FileOffset(1024)).unwrap();
    let [a, b] = [&file, &other].map(|file| host.metadata(file).unwrap());
    assert_ne!(a.identity, b.identity);
    assert_eq!((a.modified_seconds, b.modified_seconds), (42, 0));
    assert_eq!((a.len, a.kind), (Bytes(1536), FileKind::Regular));
    host.copy_attributes(&file, &other).unwrap();
    assert_eq!(host.metadata(&other).unwrap().modified_seconds, 0);
    assert!(host.set_kind("b", FileKind::Other));
    assert_eq!(host.metadata(&other).unwrap().kind, FileKind::Other);
}

#[test]
fn beneath_a_directory_nothing_leads_out_and_no_device_is_opened() {
    let host = SimHost::default();
    for name in ["d/a", "d/e/a", "a"] {
        drop(host.create_new(path(name)).unwrap());
    }
    let open = |name| {
        let opened = host.open_beneath(path("d"), path(name), Access::ReadWrite);
        opened.map(drop)
    };
    for inside in ["a", "./a", "e/a"] {
        assert_eq!(open(inside), Ok(()), "{inside}");
    }
    assert_eq!(open("none"), Err(HostError::NotFound));
    for file in ["a/", "e/a/."] {
        assert_eq!(open(file), Err(HostError::NOT_A_DIRECTORY), "{file}");
    }
    for outside in ["../a", "e/../a", "/d/a"] {
        assert_eq!(open(outside), Err(HostError::OutsideDirectory), "{outside}");
    }
    assert!(host.set_kind("d/a", FileKind::BlockDevice));
    assert_eq!(open("a"), Err(HostError::DeviceFile));
    host.open(path("d/a"), Access::ReadOnly).unwrap();
}

#[test]
fn the_log_tells_the_sequence_of_operations() {
    let (host, file) = host_with_a_file();
    host.record();
    file.write_all_at(&[2; 512], FileOffset(512)).unwrap();
    file.read_at(&mut [0; 4096], FileOffset(0)).unwrap();
    file.set_len(Bytes(100)).unwrap();
    file.sync_data().unwrap();
    host.rename(path("a"), path("b"), Replace::Nothing).unwrap();
    host.remove(path("a")).unwrap_err();
    let log = host.take_log();
    assert_eq!(log[0].call.kind, OperationKind::Write);
    let story: Vec<String> = log.iter().map(ToString::to_string).collect();
    assert_eq!(
        story,
        [
            "#1 write a 512+512 = 512",
            "#2 read a 0+4096 = 1024",
            "#3 set length a 100 = 0",
            "#4 sync data a = 0",
            "#5 rename a to b = 0",
            "#6 remove a: no such file or directory",
        ]
    );
    assert!(host.take_log().is_empty());
}
