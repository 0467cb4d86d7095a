//! The crash table of a publication (`driver/src/engine/publication.rs`), row by row, and every
//! crash of writes, flushes and discards without a resize.

use crate::world;
use crate::world::{Act, Format, World};
use driver::host::OperationKind;
use driver::ordered::Step;
use harness::sim::{SimHost, Tearing};

const SECTORS: u64 = 203;

/// Everything that can be left of `host` is opened and compared.
fn check_all(world: &World, host: &SimHost) -> u64 {
    let mut images = vec![host.after_kill()];
    for survivors in host.unsynced().subsets(Tearing::One).unwrap() {
        images.push(host.after_power_cut(&survivors).unwrap());
    }
    for image in &images {
        let mut device = world::try_open(image).unwrap().device;
        assert_eq!(world::capacity(&device), SECTORS);
        world.model.check_after_crash(&mut device);
    }
    images.len() as u64
}

#[test]
fn every_crash_of_writes_and_flushes_is_survived() {
    let before = World::new(SECTORS * 512, Format::Ours(4096)).after(&[Act::Write(0, 4)]);
    let acts = [
        Act::Write(2, 4),
        Act::Write(63, 2),
        Act::Flush,
        Act::Write(64, 3),
        Act::WriteFua(200, 3),
        Act::Discard(1, 4),
        Act::Zeroes(62, 2),
        Act::Flush,
        Act::Write(63, 1),
    ];
    let mut images = 0;
    for at in 2.. {
        let mut world = before.restarted();
        world.host.crash_before_change(at);
        let mut device = world.open().device;
        for act in acts {
            world.act(&mut device, act);
        }
        let host = world.host.clone();
        images += check_all(&world, &host);
        if !host.crashed() {
            break;
        }
    }
    println!("{images} crash images");
}

/// Sectors 3 (new) and 100 (new, in another word) are written, and a flush goes `step` steps.
fn flush_up_to(step: usize) -> (World, SimHost, Vec<OperationKind>) {
    let mut world = World::new(SECTORS * 512, Format::Ours(4096));
    let mut device = world.open().device;
    world.act(&mut device, Act::Write(3, 1));
    world.act(&mut device, Act::Write(100, 1));
    world.host.record();
    world.submit(&mut device, Act::Flush);
    for _ in 0..step {
        assert!(matches!(device.step(), Step::Working));
    }
    let kinds = world.host.take_log();
    let kinds = kinds.iter().map(|logged| logged.call.kind).collect();
    let host = world.host.clone();
    check_all(&world, &host);
    (world, host, kinds)
}

/// The bits that a power cut leaves of the new sectors, in every way that it can.
fn bits_left(host: &SimHost) -> Vec<bool> {
    let mut left = Vec::new();
    for survivors in host.unsynced().subsets(Tearing::Every).unwrap() {
        let image = host.after_power_cut(&survivors).unwrap();
        let device = world::try_open(&image).unwrap().device;
        left.push(device.map().is_dirty(driver::units::Sector(3)));
    }
    left.sort();
    left.dedup();
    left
}

#[test]
fn row_nothing_or_the_first_sync() {
    let (_, host, kinds) = flush_up_to(0);
    assert_eq!(kinds, []);
    assert_eq!(bits_left(&host), [false]);
    let (_, host, kinds) = flush_up_to(1);
    assert_eq!(kinds, [OperationKind::SyncData]);
    assert_eq!(bits_left(&host), [false]);
    assert_eq!(host.unsynced().operation_count(), 0);
}

#[test]
fn row_some_of_the_words() {
    let (_, host, kinds) = flush_up_to(2);
    assert_eq!(kinds, [OperationKind::SyncData, OperationKind::Write]);
    assert_eq!(bits_left(&host), [false, true]);
}

#[test]
fn row_the_second_sync() {
    let mut world = World::new(SECTORS * 512, Format::Ours(4096));
    let mut device = world.open().device;
    world.act(&mut device, Act::Write(3, 1));
    world.act(&mut device, Act::Write(100, 1));
    world.act(&mut device, Act::Flush);
    assert_eq!(bits_left(&world.host), [true]);
    check_all(&world, &world.host.clone());
}

/// Bits and data in the host's memory, the process killed: the next one shows the new
/// content, and its flush, with nothing written, still has to make it durable.
#[test]
fn what_a_killed_process_left_is_covered_by_the_next_flush() {
    let (mut world, host, _) = flush_up_to(2);
    world.host = host.after_kill();
    let mut device = world.open().device;
    assert!(device.map().is_dirty(driver::units::Sector(3)));
    world.act(&mut device, Act::Flush);
    drop(device);
    assert_eq!(bits_left(&world.host), [true]);
}
