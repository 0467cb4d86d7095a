//! A resize, and then the backing file made as long as the device: the crash table of
//! `userhelper/src/image/backing_change.rs`, with every strategy before it.

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

use super::story::{Story, go_on};
use super::world::{
    BACKING, COW, Layout, SIBLING, TIME, disk_of, host, install_cow, install_disk, stamped,
};

const SECTORS: u64 = 75;
const NEW: Bytes = Bytes((SECTORS + 20) * 512);

fn grow(host: &SimHost, strategy: Strategy) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_resize(host, path, Trust::Follow, true)?;
    if cow.device.geometry().unwrap().size != NEW {
        let wish = Wish {
            new_size: NEW,
            strategy: Some(strategy),
            shrink: Shrink::Refuse,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        carry_out(host, &mut cow, &plan, &mut go_on)?;
    }
    extend_backing(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

fn survives(name: &str, backing_len: u64, strategy: Strategy, version: Version) {
    let host = host();
    let below = stamped(backing_len, Stamp::BACKING);
    install_disk(&host, BACKING, &below, TIME);
    let layout = Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours: version == Version::V3,
        size: backing_len,
        dirty: &[(2, 1, Some(1)), (16, 20, Some(2)), (40, 6, None)],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    let sibling = install_cow(&host, SIBLING, BACKING, layout);
    // The part of a sector that the backing file ends with is in the first new one.
    let mut grown = disk.clone();
    grown.extend(&below[disk.len()..]);
    grown.resize(NEW.0 as usize, 0);
    let exceptions = Story {
        name,
        host,
        disks: vec![disk, grown],
        sibling: Some(sibling),
        tool: &|host| grow(host, strategy),
        exception: None,
        done: &|host| {
            assert_eq!(disk_of(host, COW).unwrap().len() as u64, NEW.0);
            let extended = host.content(BACKING).unwrap();
            assert_eq!(extended.length(), NEW);
            assert!(extended.to_bytes().starts_with(&below));
            assert!(disk_of(host, SIBLING).is_err(), "the sibling is refused");
        },
    }
    .survives_every_crash();
    assert_eq!(exceptions, 0);
}

#[test]
fn after_every_strategy() {
    for strategy in [Strategy::Headroom, Strategy::Rebuild, Strategy::Reflow] {
        let name = format!("extended after {strategy}");
        survives(&name, SECTORS * 512, strategy, Version::V3);
    }
}

#[test]
fn older_versions_are_rebuilt() {
    for version in [Version::V1, Version::V2, Version::V3Wide] {
        let name = format!("extended, {version}");
        survives(&name, SECTORS * 512, Strategy::Rebuild, version);
    }
}

#[test]
fn a_partial_last_sector() {
    let len = SECTORS * 512 + 100;
    for strategy in [Strategy::Headroom, Strategy::Rebuild, Strategy::Reflow] {
        let name = format!("partial, extended after {strategy}");
        survives(&name, len, strategy, Version::V3);
    }
}
