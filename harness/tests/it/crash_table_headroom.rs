//! The crash tables of the resize within the headroom (`driver/src/ordered/headroom.rs`),
//! row by row, and every crash of it that there is.

use crate::world;
use crate::world::explore::{Start, Story};
use crate::world::rows::{After, found_after};
use crate::world::{Act, Device, Format, World, sectors};
use driver::cow::{Extension, ExtensionState};
use driver::host::OperationKind;
use driver::open::{OpenOptions, open};
use driver::ordered::{Before, Headroom, Resize};
use driver::resize::ResizeError;
use driver::units::Sector;
use harness::sim::{Call, Fault, FaultPlan, FaultRule, FileContent, SimFile, SimHost};

type Prepared = Result<Box<dyn Resize<SimFile>>, ResizeError>;

/// 203 sectors: no multiple of 8, 64 or a page.
const OLD: u64 = 203;
const NEW: u64 = 1003;

/// What a failing host does.
const FAULTS: [Fault; 5] = [
    Fault::Io,
    Fault::NoSpace,
    Fault::FailedSync,
    Fault::FailedSyncForSpace,
    Fault::IoAfter,
];

fn to(new: u64) -> impl Fn(&World, &Device) -> Prepared {
    move |_, device| Ok(Box::new(Headroom::new(device, sectors(new))?))
}

fn world(format: Format, sectors: u64) -> World {
    World::new(sectors * 512, format).after(&[
        Act::Write(0, 3),
        Act::Write(190, 13),
        Act::Discard(192, 2),
    ])
}

const GUEST: [Act; 8] = [
    Act::Write(195, 8),
    Act::Write(40, 2),
    Act::Flush,
    Act::Write(1, 1),
    Act::WriteFua(200, 2),
    Act::Discard(190, 3),
    Act::Zeroes(64, 2),
    Act::Read(180, 20),
];

fn survives(name: &str, before: &World, new_sectors: u64, acts: (&[Act], &[Act])) {
    let resize: Start<'_> = &to(new_sectors);
    Story {
        name,
        before,
        pending: acts.0,
        between: acts.1,
        resize,
        new_sectors,
    }
    .survives_every_crash();
}

#[test]
fn growing_survives_every_crash() {
    for (format, old, new) in [
        (Format::Ours(4096), OLD, NEW),
        (Format::Stock(4096), OLD, 204),
        (Format::Stock(2048), 192, 256),
        (Format::Stock(4096), 64, 65),
    ] {
        let world = World::new(old * 512, format).after(&[Act::Write(old - 2, 2)]);
        survives("grow", &world, new, (&[], &[]));
    }
}

/// The device ends within a sector, which is a whole one afterwards, and keeps its bytes.
#[test]
fn growing_from_an_odd_size_survives_every_crash() {
    for (format, old, odd, new) in [
        (Format::Ours(4096), OLD, 100, NEW),
        (Format::Stock(4096), 64, 1, 65),
        (Format::Stock(4096), 192, 511, 400),
    ] {
        let world = World::new(old * 512 + odd, format).after(&[Act::Write(old - 2, 2)]);
        survives("grow from odd", &world, new, (&[], &[]));
        let pending = [Act::Write(old - 1, 1)];
        let between = [Act::Write(old - 3, 3), Act::Flush, Act::Read(old - 4, 4)];
        survives("grow from odd", &world, new, (&pending, &between));
    }
}

#[test]
fn shrinking_from_an_odd_size_survives_every_crash() {
    let world = World::new(OLD * 512 + 100, Format::Ours(4096)).after(&[Act::Write(190, 13)]);
    survives("shrink from odd", &world, 193, (&[], &[]));
}

#[test]
fn a_resize_given_up_at_any_step_leaves_the_device_as_it_was() {
    for (old, odd, new) in [(OLD, 0, NEW), (OLD, 100, NEW), (OLD, 0, 64), (64, 0, 65)] {
        let before = World::new(old * 512 + odd, Format::Stock(4096));
        let before = before.after(&[Act::Write(old - 2, 2), Act::Write(3, 4)]);
        // No request is past the new end.
        let guest = if old == OLD && new > OLD {
            &GUEST[..]
        } else {
            &[]
        };
        for between in [&[], guest] {
            Story {
                name: "headroom, given up",
                before: &before,
                pending: &[],
                between,
                resize: &to(new),
                new_sectors: new,
            }
            .may_be_given_up_at_every_step();
        }
    }
}

#[test]
fn a_failing_host_leaves_a_device_of_an_odd_size_as_it_was() {
    let world = World::new(OLD * 512 + 100, Format::Stock(4096)).after(&[Act::Write(200, 3)]);
    for fault in FAULTS {
        Story {
            name: "failing grow from odd",
            before: &world,
            pending: &[],
            between: &[],
            resize: &to(NEW),
            new_sectors: NEW,
        }
        .survives_every_failure(fault);
    }
}

#[test]
fn growing_under_io_survives_every_crash() {
    let world = world(Format::Stock(4096), OLD);
    let pending = [Act::Write(196, 3), Act::Write(60, 10)];
    survives("grow under I/O", &world, NEW, (&pending, &GUEST));
}

#[test]
fn shrinking_survives_every_crash() {
    for format in [Format::Ours(4096), Format::Stock(4096)] {
        let world = world(format, OLD);
        survives("shrink", &world, 193, (&[Act::Write(188, 8)], &[]));
        survives("shrink", &world, 64, (&[Act::Write(60, 4)], &[]));
    }
}

#[test]
fn shrinking_under_io_survives_every_crash() {
    let world = world(Format::Stock(4096), OLD);
    let between = [
        Act::Write(185, 4),
        Act::Flush,
        Act::Write(3, 4),
        Act::WriteFua(187, 2),
    ];
    survives(
        "shrink under I/O",
        &world,
        189,
        (&[Act::Write(186, 3)], &between),
    );
}

#[test]
fn a_failing_host_leaves_the_files_as_they_were() {
    let (ours, stock) = (
        world(Format::Ours(4096), OLD),
        world(Format::Stock(4096), OLD),
    );
    for fault in FAULTS {
        for (before, new_sectors) in [
            (&ours, NEW),
            (&stock, NEW),
            (&stock, 204),
            (&ours, 100),
            (&stock, 100),
        ] {
            for between in [&[], &GUEST[..3]] {
                if new_sectors < OLD && !between.is_empty() {
                    continue;
                }
                Story {
                    name: "failing headroom",
                    before,
                    pending: &between[..between.len() / 3],
                    between,
                    resize: &to(new_sectors),
                    new_sectors,
                }
                .survives_every_failure(fault);
            }
        }
    }
}

/// What the guest flushes past the end of the file while the resize is under way stays.
#[test]
fn a_failing_resize_of_a_file_shorter_than_its_data_area_loses_nothing() {
    let past_end = [Act::Write(100, 4), Act::Flush, Act::Write(201, 2)];
    for format in [Format::Ours(4096), Format::Stock(4096)] {
        let world = World::new(OLD * 512, format).after(&[Act::Write(0, 3)]);
        let before = world.cut_to_data();
        for new_sectors in [NEW, 204, 150] {
            // A shrink would cut off what the guest writes past the new end.
            let between = if new_sectors < OLD {
                &past_end[..2]
            } else {
                &past_end
            };
            for fault in FAULTS {
                for (pending, between) in [
                    (&[][..], &[][..]),
                    (&[], between),
                    (&past_end[..1], between),
                ] {
                    Story {
                        name: "failing headroom, short file",
                        before: &before,
                        pending,
                        between,
                        resize: &to(new_sectors),
                        new_sectors,
                    }
                    .survives_every_failure(fault);
                }
            }
        }
    }
}

#[test]
fn a_file_shorter_than_its_data_area_survives_every_crash() {
    let world = World::new(OLD * 512, Format::Stock(4096)).after(&[Act::Write(0, 3)]);
    let before = world.cut_to_data();
    let past_end = [Act::Write(100, 4), Act::Flush];
    for new_sectors in [NEW, 150] {
        survives(
            "short file",
            &before,
            new_sectors,
            (&[Act::Write(60, 2)], &past_end),
        );
    }
}

/// The file of a raw disk may go on past its last whole sector.
#[test]
fn a_raw_disk_whose_growth_cannot_be_synced_keeps_its_partial_last_sector() {
    let content: Vec<u8> = (0..OLD * 512 + 100).map(|n| n as u8 | 1).collect();
    let host = SimHost::default();
    host.install("raw", FileContent::from_bytes(&content));
    host.settle();
    let spec = "ubdad=raw".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let failing = |call: &Call| (call.kind == OperationKind::SyncData).then_some(Fault::Io);
    host.set_faults(FaultPlan::default().and(failing));
    let grow = Headroom::new(&device, sectors(NEW)).unwrap();
    let error = device.resize(Box::new(grow)).unwrap_err();
    assert!(matches!(error, ResizeError::Host { .. }), "{error}");
    assert!(host.content("raw") == Some(FileContent::from_bytes(&content)));
}

/// A server has changed the length and its answer is lost: the length tells. Where that cannot be
/// looked at either, nothing is written any more.
#[test]
fn a_raw_disk_whose_length_was_changed_has_its_new_size_though_the_host_reports_an_error() {
    for (new_sectors, looks) in [(NEW, true), (8, true), (8, false)] {
        let host = SimHost::default();
        host.install("raw", FileContent::from_bytes(&[1; OLD as usize * 512]));
        let spec = "ubdad=raw".parse().unwrap();
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let resize = Headroom::new(&device, sectors(new_sectors)).unwrap();
        let changed = FaultRule::nth("raw", OperationKind::SetLen, 0, Fault::IoAfter);
        // The first look is at the old length.
        let look = FaultRule::nth("raw", OperationKind::Len, 1, Fault::Io);
        let faults = [Some(changed), (!looks).then_some(look)];
        host.set_faults(FaultPlan::at(faults.into_iter().flatten()));
        let outcome = device.resize(Box::new(resize));
        assert_eq!(outcome.is_ok(), looks, "{outcome:?}");
        assert_eq!(host.content("raw").unwrap().length(), sectors(new_sectors));
        assert_eq!(device.is_read_only(), !looks);
        assert_eq!(device.capacity().0, if looks { new_sectors } else { OLD });
    }
}

/// What takes the block away may have done so, or not, when the host reports an error: the next
/// resize must not rely on it.
#[test]
fn an_extension_block_whose_removal_failed_is_written_again() {
    let before = world(Format::Stock(4096), OLD);
    let mut device = before.open().device;
    let image = device.image().unwrap().clone();
    let kept = device
        .relocate(|desk| async move {
            let kept = Before::of(&desk, &image.geometry).await?;
            assert!(desk.need_extension(&image).await?);
            Ok(kept)
        })
        .unwrap();
    let lost = FaultRule::nth(world::COW, OperationKind::Write, 0, Fault::IoAfter);
    before.host.set_faults(FaultPlan::at([lost]));
    let put_back = device.relocate(|desk| async move { kept.put_back(&desk).await });
    assert!(put_back.is_err());
    let block = || {
        let mut block = [0; Extension::LEN];
        let content = before.host.content(world::COW).unwrap();
        content.read_at(&mut block, Extension::OFFSET);
        matches!(Extension::decode(&block), ExtensionState::Valid(_))
    };
    assert!(!block(), "it is gone, whatever the host says");
    let image = device.image().unwrap().clone();
    let written = device.relocate(|desk| async move { desk.need_extension(&image).await });
    assert_eq!(written, Ok(true));
    assert!(block());
}

/// Where the bits past the end cannot be cleared, the length and what is after the header are put
/// back all the same.
#[test]
fn a_grow_whose_bits_cannot_be_cleared_puts_the_rest_back() {
    // The first new bit is in a byte of its own, which is cleared by a punch.
    let before = world(Format::Stock(4096), 208);
    let mut device = before.open().device;
    let found = || world::found(&before.host).unwrap();
    let (had, resize) = (found(), Headroom::new(&device, sectors(NEW)).unwrap());
    before.host.set_faults(FaultPlan::at([
        FaultRule::nth(world::COW, OperationKind::SyncData, 0, Fault::FailedSync),
        FaultRule::nth(world::COW, OperationKind::PunchHole, 0, Fault::Io),
    ]));
    assert!(device.resize(Box::new(resize)).is_err());
    assert_eq!(before.host.injected().len(), 2);
    assert_eq!(found(), had);
}

/// The file is cut before it gets its length back: if it does not, that takes the bytes of a
/// partial last sector nevertheless from nobody.
#[test]
fn what_lies_past_an_odd_size_is_put_back_though_the_length_is_not() {
    let before = World::new(OLD * 512 + 100, Format::Stock(4096));
    let mut content = before.host.content(world::COW).unwrap();
    let geometry = before.open().device.geometry().unwrap();
    let tail = geometry.place_of(Sector(OLD));
    content.write_at(&[7; 100], tail);
    before.host.install(world::COW, content);
    for fault in [Fault::Io, Fault::IoAfter] {
        for nth in [0, 1] {
            let before = before.restarted();
            let mut device = before.open().device;
            let kept = device.relocate(|desk| async move { Before::of(&desk, &geometry).await });
            let kept = kept.unwrap();
            let rule = FaultRule::nth(world::COW, OperationKind::SetLen, nth, fault);
            before.host.set_faults(FaultPlan::at([rule]));
            let put_back = device.relocate(|desk| async move { kept.put_back(&desk).await });
            assert!(put_back.is_err(), "{fault:?}, {nth}");
            let found = world::bytes_at(&before.host, world::COW, tail, 100);
            assert_eq!(found, [7; 100], "{fault:?}, {nth}");
        }
    }
}

/// What readers find after an operation of a resize without I/O: sizes in sectors, and whether
/// there is an extension block.
fn row(new_sectors: u64, after: After) -> Vec<(u64, bool)> {
    let before = world(Format::Stock(4096), OLD);
    let story = Story {
        name: "row",
        before: &before,
        pending: &[],
        between: &[],
        resize: &to(new_sectors),
        new_sectors,
    };
    let mut seen: Vec<(u64, bool)> = (found_after(&story, after).into_iter().flatten())
        .inspect(|found| {
            assert!(!found.marked);
            assert_eq!(found.stock_size, found.size);
        })
        .map(|found| (found.size / 512, found.extension))
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

const HEADER: u64 = 0;
const EXTENSION: u64 = 4128;
/// Of the byte that old and new sectors share.
const BITS: u64 = 8192 + OLD / 8;

#[test]
fn row_growing_the_file_was_cut_to_its_data_and_extended() {
    let after = After::new(OperationKind::SetLen, "cow").nth(-1);
    assert_eq!(row(NEW, after), [(OLD, false)]);
}

#[test]
fn row_growing_the_extension_block_was_written() {
    let seen = row(NEW, After::write(EXTENSION));
    assert_eq!(seen, [(OLD, false), (OLD, true)]);
}

#[test]
fn row_growing_some_or_all_of_the_new_bits() {
    let mut seen = row(NEW, After::write(BITS));
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        [(OLD, false), (OLD, true)],
        "the old size, bits past its end or not"
    );
}

#[test]
fn row_growing_the_header_sector_was_written() {
    assert_eq!(row(NEW, After::write(HEADER)), [(OLD, true), (NEW, true)]);
}

#[test]
fn row_growing_the_last_sync() {
    let after = After::new(OperationKind::SyncData, "cow").nth(-1);
    assert_eq!(row(NEW, after), [(NEW, true)]);
}

#[test]
fn row_shrinking_the_extension_block_was_written() {
    let seen = row(100, After::write(EXTENSION));
    assert_eq!(seen, [(OLD, false), (OLD, true)]);
}

#[test]
fn row_shrinking_the_header_sector_was_written() {
    assert_eq!(row(100, After::write(HEADER)), [(100, true), (OLD, true)]);
}

#[test]
fn row_shrinking_the_bits_past_the_end_were_cleared_the_file_cut() {
    let after = After::new(OperationKind::PunchHole, "cow").nth(-1);
    assert_eq!(row(100, after), [(100, true)]);
    let after = After::new(OperationKind::SetLen, "cow").nth(-1);
    let mut seen = row(100, after);
    seen.dedup();
    assert_eq!(seen, [(100, true)]);
}

/// Stale bits and data past the end must not come back.
#[test]
fn growing_after_a_shrink_that_left_everything_behind_shows_zeros() {
    let before = world(Format::Ours(4096), OLD);
    let shrink = to(100);
    let story = Story {
        name: "shrink",
        before: &before,
        pending: &[],
        between: &[],
        resize: &shrink,
        new_sectors: 100,
    };
    // Only the header of the shrink is there.
    let after = After::new(OperationKind::SyncData, "cow").nth(-1);
    let (host, (mut model, _)) = world::rows::stop_after(&story, after);
    model.resized(100);
    let everything = host.unsynced().everything();
    let host = host.after_power_cut(&everything).unwrap();
    let world = World { host, model };
    for new in [120, OLD, NEW] {
        survives(
            "grow after shrink",
            &world,
            new,
            (&[Act::Write(90, 10)], &[]),
        );
    }
}
