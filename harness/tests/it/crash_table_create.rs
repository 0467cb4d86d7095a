//! The crash table of creating a COW file (`driver/src/open/create.rs`), row by row, and every
//! failure on the way.

use std::path::Path;

use crate::world::{BACKING, COW, Format, World, capacity, found, try_open};
use driver::host::OperationKind;
use driver::open::{create, temporary_name};
use harness::sim::{Fault, FaultPlan, SimHost, Tearing};

const SECTORS: u64 = 203;

/// A backing file and nothing else.
fn host() -> (World, SimHost) {
    let world = World::new(SECTORS * 512, Format::Stock(4096));
    let host = SimHost::default();
    host.install(BACKING, world.host.content(BACKING).unwrap());
    host.set_modified_seconds(BACKING, 1_060_000_000);
    (world, host)
}

fn make(host: &SimHost) -> bool {
    create(host, Path::new(COW), Path::new(BACKING), Some(4096)).is_ok()
}

/// Crashes after the last operation of a kind; whether there is a COW file on each disk that can
/// be left. Each is then brought up, which makes one where there is none.
fn files_after(kind: OperationKind) -> Vec<bool> {
    let (_, whole) = host();
    whole.record();
    assert!(make(&whole));
    let log = whole.take_log();
    let changes = log.iter().filter(|logged| logged.call.kind.is_change());
    let place = changes.enumerate().filter(|(_, l)| l.call.kind == kind);
    let (change, _) = place.last().unwrap();
    let (world, host) = host();
    host.crash_before_change(change as u64 + 1);
    make(&host);
    let mut seen = Vec::new();
    let unsynced = host.unsynced();
    let mut images = vec![host.after_kill()];
    let cuts = unsynced.subsets(Tearing::One).unwrap();
    images.extend(cuts.map(|survivors| host.after_power_cut(&survivors).unwrap()));
    for image in images {
        if let Some(found) = found(&image) {
            assert_eq!((found.stock_size, found.extension), (SECTORS * 512, true));
        }
        seen.push(image.content(COW).is_some());
        let mut device = try_open(&image).unwrap().device;
        assert_eq!(capacity(&device), SECTORS);
        world.model.check_after_crash(&mut device);
        assert!(image.content(temporary_name(Path::new(COW))).is_none());
    }
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn row_anything_before_the_rename() {
    for kind in [
        OperationKind::CreateNew,
        OperationKind::Write,
        OperationKind::SetLen,
        OperationKind::SyncData,
    ] {
        assert_eq!(files_after(kind), [false], "{kind}");
    }
}

#[test]
fn row_the_rename() {
    assert_eq!(files_after(OperationKind::Rename), [false, true]);
}

#[test]
fn row_the_sync_of_the_directory() {
    assert_eq!(files_after(OperationKind::SyncDirectory), [true]);
}

#[test]
fn a_failure_before_the_name_is_there_leaves_nothing() {
    for fault in [
        Fault::Io,
        Fault::NoSpace,
        Fault::FailedSync,
        Fault::ShortWrite(0),
    ] {
        for at in 0..20 {
            let (_, host) = host();
            let mut count = 0;
            host.set_faults(FaultPlan::default().and(move |_| {
                count += 1;
                (count == at + 1).then_some(fault)
            }));
            let made = make(&host);
            let injected = host.injected();
            let Some(injected) = injected.first() else {
                continue;
            };
            assert!(!made, "{injected:?}");
            if injected.call.kind != OperationKind::SyncDirectory {
                assert_eq!(host.paths(), [Path::new(BACKING)], "{injected:?}");
            }
        }
    }
}
