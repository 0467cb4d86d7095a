//! Merging in place and rebasing, in every version.

use std::path::Path;

use driver::cow::Version;
use driver::device_spec::DeviceSpec;
use driver::host::OperationKind;
use driver::open::{OpenOptions, open};
use driver::units::Sector;
use harness::sim::{Fault, FaultPlan, FaultRule, FileMatch, Occurrence, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, close, open_cow};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::recover::{Recovered, recover};

use super::story::{Story, Subject};
use crate::image_crashes::story::{Tool, go_on};
use crate::image_crashes::world::{
    BACKING, COW, Layout, OTHER, TIME, disk_of, host, install_cow, install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3Wide, Version::V3];

fn layout(version: Version, ours: bool) -> Layout<'static> {
    Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (30, 12, Some(2)), (50, 3, None)],
    }
}

/// Every version, and the two kinds of version 3.
fn layouts() -> impl Iterator<Item = Layout<'static>> {
    let old = VERSIONS.map(|version| layout(version, false));
    old.into_iter().chain([layout(Version::V3, true)])
}

fn merge(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_both(host, path, Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

#[test]
fn merging_in_place() {
    for layout in layouts() {
        let host = host();
        install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
        let disk = install_cow(&host, COW, BACKING, layout);
        Story {
            name: &format!("merge, {} (ours: {})", layout.version, layout.ours),
            host,
            tool: &merge,
            file: COW,
            subject: Subject::Image,
            damaged: false,
            disks: vec![disk.clone()],
            done: &|host| {
                let merged = host.content(BACKING).unwrap().to_bytes();
                assert!(merged.starts_with(&disk), "the backing file has the disk");
            },
        }
        .survives_every_failure();
    }
}

/// Other data than the old one's here and there, and a hole.
fn new_content() -> Vec<u8> {
    let mut content = stamped(LEN, Stamp::BACKING);
    content[20480..24576].fill(0);
    Stamp(7).fill(Sector(3), &mut content[3 * 512..5 * 512]);
    Stamp(7).fill(Sector(60), &mut content[60 * 512..64 * 512]);
    content
}

/// How an image goes over to another backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `rebase`: the disk stays what it is.
    Safely,
    /// `rebase --unsafe`: the disk changes with the backing file.
    Unsafely,
    /// `replay --switch-backing`: likewise, without a mark.
    Switched,
}

const EVERY_WAY: [How; 3] = [How::Safely, How::Unsafely, How::Switched];

/// From `old` to `new`. How many images did not open until they were recovered.
fn survives_rebase((old, new): (&str, &str), layout: Layout<'_>, how: How) -> u64 {
    let host = host();
    install_disk(&host, old, &stamped(LEN, Stamp::BACKING), TIME);
    install_disk(&host, new, &new_content(), TIME + 1000);
    let mut disks = vec![install_cow(&host, COW, old, layout)];
    if how != How::Safely {
        let other = host.after_kill();
        disks.push(install_cow(&other, COW, new, layout));
    }
    let expected = disks.last().unwrap().clone();
    let safe: Tool<'_> = &|host| {
        let (cow, new) = (Path::new(COW), Path::new(new));
        rebase(host, cow, new, Trust::Follow, &mut go_on).map(drop)
    };
    let by_header: Tool<'_> =
        &|host| rebase_unsafely(host, Path::new(COW), Path::new(new)).map(drop);
    let switched: Tool<'_> = &|host| {
        let spec = DeviceSpec {
            backing: Some(new.into()),
            ..DeviceSpec::of(Path::new(COW))
        };
        let options = OpenOptions {
            create: false,
            switch_backing: true,
            ..OpenOptions::default()
        };
        close(open(host, &spec, options)?.device, Path::new(COW))
    };
    Story {
        name: &format!(
            "rebase, {} (ours: {}), {how:?}, path of {}",
            layout.version,
            layout.ours,
            new.len()
        ),
        host,
        tool: match how {
            How::Safely => safe,
            How::Unsafely => by_header,
            How::Switched => switched,
        },
        file: COW,
        subject: Subject::Image,
        damaged: false,
        disks,
        done: &|host| {
            let cow = open_cow(&host.after_kill(), Path::new(COW), Trust::Follow).unwrap();
            assert_eq!(cow.backing_path, Path::new(new));
            assert!(disk_of(host, COW).unwrap() == expected);
        },
    }
    .survives_every_failure()
}

#[test]
fn rebasing() {
    for layout in layouts() {
        for how in EVERY_WAY {
            let refused = survives_rebase((BACKING, OTHER), layout, how);
            // The others change the header in one sector.
            assert_eq!(refused > 0, layout.version == Version::V2);
        }
    }
}

#[test]
fn rebasing_between_long_paths() {
    let path = |name: &str| format!("{}/{}/{name}", "x".repeat(250), "y".repeat(250));
    let (old, new) = (path("disk"), path("other"));
    for layout in layouts().filter(|layout| layout.version != Version::V1) {
        for how in EVERY_WAY {
            assert!(survives_rebase((&*old, &*new), layout, how) > 0);
        }
    }
}

/// What was called "nothing to recover" once.
#[test]
fn the_last_write_of_a_rebase_of_version_2_finds_the_disk_full() {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    install_disk(&host, OTHER, &new_content(), TIME + 1000);
    let disk = install_cow(&host, COW, BACKING, layout(Version::V2, false));
    // Of the header's writes the record is the first; then its first sector; then the rest.
    host.set_faults(FaultPlan::at([FaultRule {
        file: FileMatch::Path(COW.into()),
        kind: Some(OperationKind::Write),
        bytes: Some((0, Version::V2.header_len().0)),
        occurrence: Occurrence::From(2),
        fault: Fault::NoSpace,
    }]));
    let (cow, other) = (Path::new(COW), Path::new(OTHER));
    let error = rebase(&host, cow, other, Trust::Follow, &mut go_on).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cow: writing the header of the COW file, which `ubdlab image recover` \
         has to finish now, at byte 4096: no space left on the host"
    );
    let host = host.after_kill();
    assert_eq!(
        disk_of(&host, COW).unwrap_err().to_string(),
        "cow: byte 4050: the header is half changed to another backing file: \
         ubdlab image recover cow finishes that"
    );
    let recovered = recover(&host, cow, Format::Cow, Trust::Follow, &mut go_on).unwrap();
    let expected = Recovered {
        header: true,
        ..Recovered::default()
    };
    assert_eq!(recovered, expected);
    assert!(disk_of(&host, COW).unwrap() == disk);
    let cow = open_cow(&host, cow, Trust::Follow).unwrap();
    assert_eq!(cow.backing_path, other);
}
