//! The crash table of the rebuild (`userhelper/src/rebuild.rs`), row by row, and every crash
//! of it that there is.

use crate::world;
use crate::world::explore::Story;
use crate::world::rows::{After, found_after};
use crate::world::{Act, Device, Format, World, sectors};
use driver::cow::{Geometry, Version};
use driver::host::OperationKind;
use driver::ordered::Resize;
use driver::resize::ResizeError;
use harness::sim::{Fault, SimFile};
use userhelper::rebuild::Rebuild;

type Prepared = Result<Box<dyn Resize<SimFile>>, ResizeError>;

const OLD: u64 = 203;

fn to(new: u64) -> impl Fn(&World, &Device) -> Prepared {
    move |world, device| {
        let geometry = Geometry::new(Version::V3, sectors(new), 16_384).unwrap();
        let host = world.host.clone();
        let rebuild = Rebuild::new(host, world::COW.as_ref(), device, geometry)?;
        Ok(Box::new(rebuild))
    }
}

const FORMATS: [Format; 5] = [
    Format::Ours(4096),
    Format::Stock(512),
    Format::Old(Version::V1),
    Format::Old(Version::V2),
    Format::Old(Version::V3Wide),
];

fn world(format: Format) -> World {
    World::new(OLD * 512, format).after(&[
        Act::Write(0, 3),
        Act::Write(90, 70),
        Act::Discard(100, 20),
        Act::Write(197, 3),
    ])
}

const GUEST: [Act; 5] = [
    Act::Write(150, 8),
    Act::Flush,
    Act::Write(88, 3),
    Act::WriteFua(10, 2),
    Act::Read(0, 128),
];

fn survives(before: &World, new_sectors: u64, pending: &[Act], between: &[Act]) {
    Story {
        name: "rebuild",
        before,
        pending,
        between,
        resize: &to(new_sectors),
        new_sectors,
    }
    .survives_every_crash();
}

#[test]
fn growing_every_version_survives_every_crash() {
    for format in FORMATS {
        survives(&world(format), 331, &[], &[]);
        survives(&world(format), 331, &[Act::Write(196, 4)], &GUEST);
    }
}

/// The device ends within a sector, which is a whole one afterwards, and keeps its bytes.
#[test]
fn growing_every_version_from_an_odd_size_survives_every_crash() {
    for format in FORMATS {
        let world = World::new(OLD * 512 + 100, format).after(&[Act::Write(190, 6)]);
        survives(&world, 331, &[Act::Write(194, 4)], &[]);
        survives(&world, 204, &[], &[]);
    }
}

#[test]
fn shrinking_survives_every_crash() {
    for format in FORMATS {
        survives(&world(format), 199, &[Act::Write(196, 4)], &GUEST);
        survives(&world(format), 101, &[], &[]);
    }
}

#[test]
fn a_rebuild_given_up_at_any_step_leaves_the_files_as_they_were() {
    for format in [Format::Stock(512), Format::Old(Version::V2)] {
        for (between, new_sectors) in [(&GUEST[..0], 331), (&GUEST[..], 331), (&GUEST[..0], 160)] {
            Story {
                name: "rebuild, given up",
                before: &world(format),
                pending: &[],
                between,
                resize: &to(new_sectors),
                new_sectors,
            }
            .may_be_given_up_at_every_step();
        }
    }
}

#[test]
fn a_failing_host_leaves_the_files_as_they_were() {
    for fault in [
        Fault::Io,
        Fault::NoSpace,
        Fault::FailedSync,
        Fault::ShortWrite(100),
    ] {
        for format in FORMATS {
            for (pending, between) in [(&GUEST[..0], &GUEST[..0]), (&GUEST[..1], &GUEST[..])] {
                for new_sectors in [331, 160] {
                    Story {
                        name: "failing rebuild",
                        before: &world(format),
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
fn a_rename_that_was_done_and_reports_an_error_was_done() {
    for between in [&GUEST[..0], &GUEST[..]] {
        Story {
            name: "rebuild, the answer to its rename lost",
            before: &world(Format::Stock(512)),
            pending: &[],
            between,
            resize: &to(331),
            new_sectors: 331,
        }
        .survives_every_failure(Fault::IoAfter);
    }
}

#[test]
fn a_file_shorter_than_its_data_area_survives_crashes_and_failures() {
    let past_end = [Act::Write(100, 4), Act::Flush];
    for format in [Format::Stock(512), Format::Old(Version::V2)] {
        let before = World::new(OLD * 512, format)
            .after(&[Act::Write(5, 3)])
            .cut_to_data();
        survives(&before, 331, &past_end, &past_end);
        for fault in [Fault::Io, Fault::NoSpace, Fault::FailedSync] {
            for (pending, between) in [(&[][..], &[][..]), (&past_end[..1], &past_end)] {
                Story {
                    name: "failing rebuild, short file",
                    before: &before,
                    pending,
                    between,
                    resize: &to(331),
                    new_sectors: 331,
                }
                .survives_every_failure(fault);
            }
        }
    }
}

/// The sizes in sectors that readers can find after an operation; every image is then rebuilt
/// again, which leaves no temporary file.
fn row(after: After) -> Vec<u64> {
    let before = world(Format::Stock(4096));
    let story = Story {
        name: "row",
        before: &before,
        pending: &[],
        between: &[],
        resize: &to(331),
        new_sectors: 331,
    };
    let found = found_after(&story, after).into_iter();
    let mut sizes: Vec<u64> = found.map(|found| found.unwrap().stock_size / 512).collect();
    sizes.dedup();
    sizes
}

const TEMPORARY: &str = "ubdlab-new";

#[test]
fn row_the_new_file_was_created_filled_in_part_or_whole() {
    assert_eq!(row(After::new(OperationKind::CreateNew, TEMPORARY)), [OLD]);
    assert_eq!(
        row(After::new(OperationKind::Write, TEMPORARY).nth(2)),
        [OLD]
    );
    assert_eq!(
        row(After::new(OperationKind::Write, TEMPORARY).nth(-1)),
        [OLD]
    );
}

#[test]
fn row_the_new_file_was_synced() {
    assert_eq!(row(After::new(OperationKind::SyncData, TEMPORARY)), [OLD]);
}

#[test]
fn row_the_rename() {
    assert_eq!(
        row(After::new(OperationKind::Rename, TEMPORARY)),
        [OLD, 331]
    );
}

#[test]
fn row_the_sync_of_the_directory() {
    let after = After::new(OperationKind::SyncDirectory, "cow").nth(-1);
    assert_eq!(row(after), [331]);
}
