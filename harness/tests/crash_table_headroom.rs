//! The crash tables of the resize within the headroom (`driver/src/ordered/headroom.rs`),
//! row by row, and every crash of it that there is.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::explore::{Start, Story};
use common::{Act, Device, Format, World, sectors};
use driver::ordered::Headroom;
use driver::resize::{Resize, ResizeError};
use harness::sim::{Fault, SimFile};

type Begun = Result<Box<dyn Resize<SimFile>>, ResizeError>;

/// 203 sectors: no multiple of 8, 64 or a page.
const OLD: u64 = 203;
const NEW: u64 = 1003;

fn to(new: u64) -> impl Fn(&World, &Device) -> Begun {
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
    for fault in [Fault::Io, Fault::NoSpace, Fault::FailedSync] {
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
