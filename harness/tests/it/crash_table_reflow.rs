//! The crash table of the reflow (`userhelper/src/reflow.rs`), row by row, and every crash of
//! it that there is.

use crate::world;
use crate::world::explore::Story;
use crate::world::rows::{After, found_after};
use crate::world::{Act, Device, Format, World, sectors};
use driver::cow::{Geometry, Version};
use driver::host::OperationKind;
use driver::ordered::Resize;
use driver::resize::ResizeError;
use harness::sim::{Fault, FaultPlan, FaultRule, SimFile};
use userhelper::reflow::Reflow;

type Prepared = Result<Box<dyn Resize<SimFile>>, ResizeError>;

/// 203 sectors: no multiple of 8, 64 or a page.
const OLD: u64 = 203;
const NEW: u64 = 331;

/// From alignment 4096 the data moves up by 40 sectors.
const ALIGNED: (u32, u32) = (4096, 16_384);
/// And here by 12, which are no whole pages: data at 8192 before and at 14,336 then.
const ODD: (u32, u32) = (2048, 7168);

fn layout(new_sectors: u64, alignment: u32) -> Geometry {
    Geometry::new(Version::V3, sectors(new_sectors), alignment).unwrap()
}

fn to(new: u64, alignment: u32, window: u64) -> impl Fn(&World, &Device) -> Prepared {
    move |_, device| {
        let reflow = Reflow::new(device, layout(new, alignment))?;
        Ok(Box::new(reflow.with_window(sectors(window))))
    }
}

fn story<'a>(
    name: &'a str,
    before: &'a World,
    resize: &'a dyn Fn(&World, &Device) -> Prepared,
) -> Story<'a> {
    Story {
        name,
        before,
        pending: &[],
        between: &[],
        resize,
        new_sectors: NEW,
    }
}

/// Dirty throughout, with a hole in it.
fn full(format: Format) -> World {
    World::new(OLD * 512, format).after(&[
        Act::Write(0, 128),
        Act::Write(128, 75),
        Act::Discard(40, 30),
    ])
}

/// Dirty here and there: the windows have gaps above them, longer than the distance too.
fn gaps(format: Format) -> World {
    World::new(OLD * 512, format).after(&[
        Act::Write(5, 3),
        Act::Write(60, 1),
        Act::Write(120, 20),
        Act::Discard(128, 8),
        Act::Write(190, 4),
    ])
}

const GUEST: [Act; 9] = [
    Act::Write(150, 30),
    Act::Write(20, 2),
    Act::Flush,
    Act::Write(194, 5),
    Act::Write(3, 40),
    Act::WriteFua(118, 4),
    Act::Discard(62, 40),
    Act::Zeroes(199, 4),
    Act::Read(0, 128),
];

#[test]
fn a_full_device_survives_every_crash() {
    for (old, new) in [ALIGNED, ODD] {
        let world = full(Format::Ours(old));
        story("full", &world, &to(NEW, new, 64)).survives_every_crash();
    }
}

#[test]
fn gaps_survive_every_crash() {
    for (old, new) in [ALIGNED, ODD] {
        let world = gaps(Format::Stock(old));
        story("gaps", &world, &to(NEW, new, 7)).survives_every_crash();
    }
}

#[test]
fn a_clean_device_survives_every_crash() {
    let world = World::new(OLD * 512 + 100, Format::Stock(4096));
    story("clean", &world, &to(NEW, 16_384, 64)).survives_every_crash();
}

/// The device ends within a sector, which is a whole one afterwards, and keeps its bytes.
#[test]
fn a_reflow_from_an_odd_size_survives_every_crash() {
    let world = World::new(OLD * 512 + 511, Format::Stock(4096))
        .after(&[Act::Write(90, 30), Act::Write(OLD - 4, 4)]);
    let resize = to(NEW, 16_384, 16);
    story("from odd", &world, &resize).survives_every_crash();
    Story {
        pending: &[Act::Write(OLD - 1, 1)],
        between: &GUEST,
        ..story("from odd under I/O", &world, &resize)
    }
    .survives_every_crash();
}

/// Each distance and each kind of device once; the campaigns of the fuzzer have them in every
/// combination.
fn worlds() -> [(World, u32); 2] {
    [
        (gaps(Format::Stock(ALIGNED.0)), ALIGNED.1),
        (full(Format::Ours(ODD.0)), ODD.1),
    ]
}

#[test]
fn a_reflow_under_io_survives_every_crash() {
    for (world, new) in worlds() {
        Story {
            pending: &[Act::Write(100, 9), Act::Write(193, 10)],
            between: &GUEST,
            ..story("under I/O", &world, &to(NEW, new, 16))
        }
        .survives_every_crash();
    }
}

#[test]
fn one_that_is_taken_up_under_io_survives_every_crash() {
    // The first crash falls here and there; what is left is the world that the guest and
    // the recovery go on in together.
    let first = gaps(Format::Ours(ODD.0));
    let resize = to(NEW, ODD.1, 16);
    for at in [8, 16, 24] {
        let world = first.restarted();
        world.host.crash_before_change(at);
        let told = story("first", &first, &resize).tell(world);
        let host = told
            .world
            .host
            .after_power_cut(&told.world.host.unsynced().everything());
        let world = World {
            host: host.unwrap(),
            model: told.world.model.clone(),
        };
        let again = |world: &World, device: &Device| -> Prepared {
            let record = world::record(&world.host).unwrap();
            Ok(Box::new(
                Reflow::resume(device, record)?.with_window(sectors(16)),
            ))
        };
        if !world::found(&world.host).unwrap().marked {
            continue;
        }
        Story {
            between: &GUEST,
            ..story("taken up", &world, &again)
        }
        .survives_every_crash();
    }
}

#[test]
fn a_reflow_given_up_at_any_step_leaves_the_files_as_they_were_or_a_mark() {
    for (old, new) in [ALIGNED, ODD] {
        for between in [&GUEST[..0], &GUEST[..]] {
            Story {
                between,
                ..story("given up", &gaps(Format::Stock(old)), &to(NEW, new, 32))
            }
            .may_be_given_up_at_every_step();
        }
    }
}

#[test]
fn a_failing_host_leaves_the_files_as_they_were_or_the_device_right() {
    for fault in [
        Fault::Io,
        Fault::NoSpace,
        Fault::FailedSync,
        Fault::ShortWrite(100),
        Fault::IoAfter,
    ] {
        for (world, new) in worlds() {
            let resize = to(NEW, new, 16);
            story("failing", &world, &resize).survives_every_failure(fault);
            Story {
                pending: &[Act::Write(193, 10)],
                between: &GUEST,
                ..story("failing under I/O", &world, &resize)
            }
            .survives_every_failure(fault);
        }
    }
}

/// What the guest flushes past the end of the file before the window is there stays.
#[test]
fn a_failing_resize_of_a_file_shorter_than_its_data_area_loses_nothing() {
    let past_end = [Act::Write(100, 4), Act::Flush, Act::Write(201, 2)];
    for (old, new) in [ALIGNED, ODD] {
        let world = World::new(OLD * 512, Format::Stock(old)).after(&[Act::Write(5, 3)]);
        let before = world.cut_to_data();
        for fault in [
            Fault::Io,
            Fault::NoSpace,
            Fault::FailedSync,
            Fault::ShortWrite(100),
        ] {
            for (pending, between) in [
                (&[][..], &[][..]),
                (&[], &past_end),
                (&past_end[..1], &past_end),
            ] {
                Story {
                    pending,
                    between,
                    ..story("failing, short file", &before, &to(NEW, new, 16))
                }
                .survives_every_failure(fault);
            }
        }
    }
}

#[test]
fn a_file_shorter_than_its_data_area_survives_every_crash() {
    let world = World::new(OLD * 512, Format::Stock(4096)).after(&[Act::Write(5, 3)]);
    let before = world.cut_to_data();
    Story {
        pending: &[Act::Write(60, 2)],
        between: &[Act::Write(100, 4), Act::Flush],
        ..story("short file", &before, &to(NEW, 16_384, 16))
    }
    .survives_every_crash();
}

#[test]
fn what_lies_past_an_odd_size_is_put_back() {
    let world = World::new(OLD * 512 + 100, Format::Stock(4096)).after(&[Act::Write(200, 3)]);
    let mut content = world.host.content(world::COW).unwrap();
    let tail = layout(OLD, 4096).data_end();
    content.write_at(&[7; 100], tail);
    world.host.install(world::COW, content);
    for fault in [Fault::Io, Fault::NoSpace] {
        story("odd", &world, &to(NEW, 16_384, 16)).survives_every_failure(fault);
    }
}

/// Where the copy of the first window cannot be cleared, the length and what is after the header
/// are put back all the same: the copy lies under clean sectors.
#[test]
fn a_reflow_whose_first_copy_cannot_be_cleared_puts_the_rest_back() {
    let before =
        World::new(OLD * 512, Format::Stock(4096)).after(&[Act::Write(0, 20), Act::Write(100, 3)]);
    let found = || world::found(&before.host).unwrap();
    let had = found();
    let mut injected = Vec::new();
    for nth in 0..12 {
        let before = before.restarted();
        let mut device = before.open().device;
        let resize = Reflow::new(&device, layout(NEW, 16_384)).unwrap();
        before.host.set_faults(FaultPlan::at([
            FaultRule::nth(world::COW, OperationKind::Write, nth, Fault::Io),
            FaultRule::nth(world::COW, OperationKind::PunchHole, 0, Fault::Io),
        ]));
        let _ = device.resize(Box::new(resize));
        let now = world::found(&before.host).unwrap();
        if before.host.injected().len() == 2 && !now.marked && now.size == had.size {
            injected.push(nth);
            assert_eq!(now, had, "write {nth}");
        }
    }
    assert!(!injected.is_empty());
}

/// What a reader finds after an operation: the size in sectors beside the mark, whether there is
/// one, and then the frontier of the journal. Stock readers refuse a marked size.
fn row(after: After) -> Vec<(u64, Option<u64>)> {
    let before = full(Format::Ours(4096));
    let resize = to(NEW, 16_384, 64);
    let found = found_after(&story("row", &before, &resize), after);
    let mut seen: Vec<_> = (found.into_iter().flatten())
        .map(|found| {
            assert_eq!(found.marked, found.stock_size > i64::MAX as u64);
            (found.size / 512, found.frontier.filter(|_| found.marked))
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

const HEADER: u64 = 0;
/// The two slots take turns.
const SLOTS: u64 = 4608;
const FIRST_RECORD: u64 = SLOTS;
const SECOND_RECORD: u64 = SLOTS;
/// The layouts' bitmaps and data; a window is 40 sectors.
const OLD_BITMAP: u64 = 8192;
const OLD_DATA: u64 = 12_288;
const NEW_BITMAP: u64 = 16_384;
const WINDOW: u64 = 40;

fn punch(at: u64) -> After {
    After {
        at: Some(at),
        ..After::new(OperationKind::PunchHole, "cow")
    }
}

#[test]
fn row_the_file_was_extended_extension_block_and_first_record_written() {
    assert_eq!(row(After::write(FIRST_RECORD)), [(OLD, None)]);
}

#[test]
fn row_the_header_was_marked() {
    let nothing_moved = (OLD, Some(OLD));
    assert_eq!(row(After::write(HEADER)), [(OLD, None), nothing_moved]);
}

#[test]
fn row_part_of_a_window_was_copied() {
    let copy = After::write(OLD_DATA + (OLD - WINDOW) * 512 + WINDOW * 512);
    assert_eq!(row(copy), [(OLD, Some(OLD))]);
}

#[test]
fn row_the_copy_was_synced() {
    // Opening took one sync, preparing and marking one each.
    let after = After::new(OperationKind::SyncData, "cow").nth(3);
    assert_eq!(row(after), [(OLD, Some(OLD))]);
}

#[test]
fn row_the_record_was_written() {
    // The first in this slot is the one with which both are prepared.
    let after = After::write(SECOND_RECORD).nth(1);
    assert_eq!(row(after), [(OLD, Some(OLD - WINDOW)), (OLD, Some(OLD))]);
}

#[test]
fn row_the_source_was_punched() {
    // All of the disk is dirty: what is punched is only where the new layout has no data, which
    // the sources of the last two windows reach. They are punched in whole blocks.
    let last_but_one = OLD % WINDOW;
    assert_eq!(row(punch(NEW_BITMAP)), [(OLD, Some(last_but_one))]);
}

#[test]
fn row_part_or_all_of_the_new_bitmap_was_written() {
    // The first punch there frees the source of a window.
    assert_eq!(row(punch(NEW_BITMAP).nth(1)), [(OLD, Some(0))]);
    assert_eq!(row(After::write(NEW_BITMAP)), [(OLD, Some(0))]);
}

#[test]
fn row_the_header_was_written() {
    let after = After::write(HEADER).nth(1);
    assert_eq!(row(after), [(OLD, Some(0)), (NEW, None)]);
}

#[test]
fn row_the_old_bitmap_was_punched() {
    assert_eq!(row(punch(OLD_BITMAP)), [(NEW, None)]);
}
