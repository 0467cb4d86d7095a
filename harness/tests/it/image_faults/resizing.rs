//! Growing and shrinking, by every strategy and in every version, with the backing file extended
//! and without.

use std::path::Path;

use driver::cow::Version;
use driver::resize::Strategy;
use driver::units::Bytes;
use harness::sim::SimHost;
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::open::{Trust, close};
use userhelper::image::resize::{carry_out, extend_backing, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

use super::story::{Story, Subject};
use crate::image_crashes::story::go_on;
use crate::image_crashes::world::{
    BACKING, COW, Layout, TIME, disk_of, host, install_cow, install_disk, stamped,
};

const SECTORS: u64 = 75;
const LEN: u64 = SECTORS * 512;

#[derive(Clone, Copy, Debug)]
struct Growth {
    to: u64,
    strategy: Strategy,
    extend: bool,
}

fn resize(host: &SimHost, growth: Growth) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_resize(host, path, Trust::Follow, growth.extend)?;
    let new_size = Bytes(growth.to * 512);
    if cow.device.geometry().unwrap().size != new_size {
        let wish = Wish {
            new_size,
            strategy: Some(growth.strategy),
            shrink: Shrink::LosingData,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        carry_out(host, &mut cow, &plan, &mut go_on)?;
    }
    if growth.extend {
        extend_backing(host, &mut cow, &mut go_on)?;
    }
    close(cow.device, path)
}

fn survives(version: Version, ours: bool, growth: Growth) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours,
        size: LEN,
        dirty: &[(2, 1, Some(1)), (16, 20, Some(2)), (40, 6, None)],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    let mut resized = disk.clone();
    resized.resize(growth.to as usize * 512, 0);
    Story {
        name: &format!("{version} (ours: {ours}), {growth:?}"),
        host,
        tool: &|host| resize(host, growth),
        file: COW,
        subject: Subject::Image,
        damaged: false,
        disks: vec![disk, resized.clone()],
        done: &|host| {
            assert!(
                disk_of(host, COW).unwrap() == resized,
                "done, and not resized"
            );
            if growth.extend {
                let extended = host.content(BACKING).unwrap();
                assert_eq!(extended.length(), Bytes(growth.to * 512));
            }
        },
    }
    .survives_every_failure();
}

const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3Wide, Version::V3];
const STRATEGIES: [Strategy; 3] = [Strategy::Headroom, Strategy::Rebuild, Strategy::Reflow];

#[test]
fn growing_by_each_strategy() {
    for strategy in STRATEGIES {
        for (ours, extend) in [(true, false), (true, true), (false, false)] {
            let to = SECTORS + 20;
            let growth = Growth {
                to,
                strategy,
                extend,
            };
            survives(Version::V3, ours, growth);
        }
    }
}

#[test]
fn shrinking_by_each_strategy() {
    for strategy in [Strategy::Headroom, Strategy::Rebuild] {
        for ours in [true, false] {
            let growth = Growth {
                to: SECTORS - 33,
                strategy,
                extend: false,
            };
            survives(Version::V3, ours, growth);
        }
    }
}

#[test]
fn older_versions() {
    for version in VERSIONS {
        for (to, extend) in [(SECTORS + 20, true), (SECTORS - 33, false)] {
            let growth = Growth {
                to,
                strategy: Strategy::Rebuild,
                extend,
            };
            survives(version, false, growth);
        }
    }
}
