//! The tools that make a new file, from an image of every version.

use std::path::Path;

use driver::cow::Version;
use driver::host::OperationKind;
use driver::open::temporary_name;
use driver::units::Bytes;
use harness::sim::{Fault, FaultPlan, FaultRule, FileMatch, Occurrence, SimHost};
use harness::stamp::Stamp;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::{Wish, create};
use userhelper::image::open::{Format, Image, Trust, open_cow, open_image};

use super::story::{Story, Subject};
use crate::image_crashes::story::{Tool, go_on};
use crate::image_crashes::world::{
    BACKING, COW, Layout, TIME, disk_of, host, install_cow, install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const NEW: &str = "new";
const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3Wide, Version::V3];

fn world(version: Version) -> (SimHost, Vec<u8>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours: version == Version::V3,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (30, 12, None), (56, 9, Some(2))],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    (host, disk)
}

fn survives(name: &str, version: Version, subject: Subject, tool: Tool<'_>) {
    let (host, disk) = world(version);
    Story {
        name: &format!("{name}, {version}"),
        host,
        tool,
        file: NEW,
        subject,
        damaged: false,
        disks: vec![disk],
        done: &|_| {},
    }
    .survives_every_failure();
}

#[test]
fn creating() {
    let (host, _) = world(Version::V3);
    let wish = Wish {
        size: Some(Bytes(LEN + 20 * 512)),
        max_size: Some(Bytes(1 << 20)),
    };
    let mut disk = stamped(LEN, Stamp::BACKING);
    disk.resize(disk.len() + 20 * 512, 0);
    Story {
        name: "create",
        host,
        tool: &|host| match host.content(NEW) {
            None => create(host, Path::new(NEW), Path::new(BACKING), wish).map(drop),
            Some(_) => Ok(()),
        },
        file: NEW,
        subject: Subject::NewImage,
        damaged: false,
        disks: vec![disk],
        done: &|_| {},
    }
    .survives_every_failure();
}

#[test]
fn merging_into_a_new_file() {
    for version in VERSIONS {
        survives("merge", version, Subject::NewRaw, &|host| {
            let cow = open_cow(host, Path::new(COW), Trust::Follow)?;
            let image = Image::Cow(Box::new(cow));
            to_raw(host, &image, Path::new(NEW), &mut go_on).map(drop)
        });
    }
}

#[test]
fn converting() {
    for version in VERSIONS {
        survives("convert to raw", version, Subject::NewRaw, &|host| {
            let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
            to_raw(host, &image, Path::new(NEW), &mut go_on).map(drop)
        });
        for made in [CowVersion::V2, CowVersion::V3 { alignment: 4096 }] {
            let name = format!("convert to {made:?}");
            survives(&name, version, Subject::NewImage, &|host| {
                let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
                let (backing, new) = (Path::new(BACKING), Path::new(NEW));
                to_cow(host, &image, backing, made, new, &mut go_on).map(drop)
            });
        }
    }
}

/// A rename that a server has done without its answer coming through, and a directory that is not
/// synced: the file is there, whole.
#[test]
fn a_file_that_has_got_its_name_is_not_taken_away() {
    let (host, _) = world(Version::V3);
    let wish = Wish {
        size: None,
        max_size: None,
    };
    let made = |kind, nth, fault| {
        let host = host.after_kill();
        host.set_faults(FaultPlan::at([FaultRule {
            file: FileMatch::Any,
            kind: Some(kind),
            bytes: None,
            occurrence: Occurrence::Nth(nth),
            fault,
        }]));
        let told = create(&host, Path::new(NEW), Path::new(BACKING), wish).map(drop);
        assert_eq!(host.injected().len(), 1);
        let disk = disk_of(&host, NEW).unwrap();
        assert!(disk == stamped(LEN, Stamp::BACKING));
        let temporary = temporary_name(Path::new(NEW));
        assert!(!host.paths().contains(&temporary));
        told
    };
    made(OperationKind::Rename, 0, Fault::IoAfter).unwrap();
    // The first one is that of the backing file's directory.
    let error = made(OperationKind::SyncDirectory, 1, Fault::Io).unwrap_err();
    assert!(
        error.to_string().contains("syncing the directory"),
        "{error}"
    );
}
