//! Space that is given back: on hosts that cannot, or cannot tell holes, and where giving it back
//! fails or is interrupted, nothing else does.

use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::{Geometry, Header, Version};
use driver::host::{FileKind, OperationKind};
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset, FileRange};
use harness::sim::{
    Assumptions, Fault, FaultPlan, FaultRule, FileContent, FileMatch, Occurrence, SimHost,
};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::{Severity, check, check_and_repair};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, close, open_for_change};
use userhelper::image::recover::recover;
use userhelper::image::resize::{carry_out, extend_backing, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

use crate::image_crashes::story::go_on;
use crate::image_crashes::world::{
    BACKING, COW, Layout, TIME, disk_of, host, install_cow, install_disk, stamped,
};

/// More than a reflow moves data by, so that old and new places overlap.
const LEN: u64 = 12 << 20;

type Tool = fn(&SimHost) -> Result<(), ImageError>;

/// An image with little in it, on a host like this; what its disk holds.
fn world(host: &SimHost) -> Vec<u8> {
    install_disk(host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version: Version::V3,
        alignment: 65_536,
        ours: true,
        size: LEN,
        dirty: &[(0, 8, Some(1)), (4096, 64, Some(2)), (8000, 8, Some(3))],
    };
    install_cow(host, COW, BACKING, layout)
}

fn weak_host(weaken: impl FnOnce(&mut Assumptions)) -> SimHost {
    let mut assumptions = Assumptions {
        steady_times: false,
        ..Assumptions::default()
    };
    weaken(&mut assumptions);
    SimHost::new(assumptions)
}

fn geometry(host: &SimHost) -> Geometry {
    let header = Header::decode(&host.content(COW).unwrap().to_bytes()).unwrap();
    Geometry::of(&header).unwrap()
}

/// Changes the COW file from outside.
fn change(host: &SimHost, change: impl FnOnce(&mut FileContent, Geometry)) {
    let mut content = host.content(COW).unwrap();
    change(&mut content, geometry(host));
    let time = host.modified_seconds(BACKING).unwrap();
    host.install(COW, content);
    host.set_modified_seconds(BACKING, time);
}

/// No hole can be punched in the COW file from this byte on.
fn punching(fault: Fault, from: u64) -> FaultPlan {
    FaultPlan::at([FaultRule {
        file: FileMatch::Path(COW.into()),
        kind: Some(OperationKind::PunchHole),
        bytes: Some((from, u64::MAX)),
        occurrence: Occurrence::From(0),
        fault,
    }])
}

fn allocated(host: &SimHost) -> Bytes {
    host.content(COW).unwrap().allocated()
}

fn grow(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_change(host, path, Trust::Follow)?;
    let wish = Wish {
        new_size: Bytes(LEN + 512),
        strategy: Some(Strategy::Reflow),
        shrink: Shrink::Refuse,
        online: false,
    };
    let plan = plan_resize(host, &cow, wish)?;
    carry_out(host, &mut cow, &plan, &mut go_on)?;
    close(cow.device, path)
}

fn merge(host: &SimHost) -> Result<(), ImageError> {
    let mut cow = open_both(host, Path::new(COW), Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, Path::new(COW))
}

fn recovery(host: &SimHost) -> Result<(), ImageError> {
    recover(host, Path::new(COW), Format::Cow, Trust::Follow, &mut go_on).map(drop)
}

/// What is left when the tool is interrupted before each of its changes.
fn interrupted(host: &SimHost, tool: Tool) -> impl Iterator<Item = SimHost> {
    let whole = host.after_kill();
    tool(&whole).unwrap();
    let host = host.after_kill();
    (0..whole.changes()).map(move |at| {
        let crashed = host.after_kill();
        crashed.crash_before_change(at);
        assert!(tool(&crashed).is_err());
        crashed.after_kill()
    })
}

fn severity(host: &SimHost) -> Option<Severity> {
    let checked = check(host, Path::new(COW), Trust::Follow, &mut go_on);
    checked.unwrap().severity()
}

/// Network file systems without SEEK_DATA and without hole punching: to "give zeros back" would
/// write the file out to its whole length.
#[test]
fn holes_that_the_host_cannot_tell_are_not_filled_with_zeros() {
    let host = weak_host(|host| host.tells_holes = false);
    let disk = world(&host);
    assert!(allocated(&host) < Bytes(100 << 10));
    assert_eq!(severity(&host), None, "holes are no leak");
    let no_holes = || punching(Fault::Unsupported, 0);
    let (path, trust) = (Path::new(COW), Trust::Follow);
    host.set_faults(no_holes());
    let repaired = check_and_repair(&host, path, trust, &mut go_on).unwrap();
    assert_eq!((repaired.repaired, repaired.findings), (vec![], vec![]));
    assert!(allocated(&host) < Bytes(100 << 10), "nothing was written");
    let mut finished = 0;
    for host in interrupted(&host.after_kill(), grow).step_by(3) {
        host.set_faults(no_holes());
        recovery(&host).unwrap();
        // The room for the new bitmap is written with zeros, up to the data.
        let taken = allocated(&host);
        assert!(taken < Bytes(5 << 20), "it takes {taken}");
        let found = disk_of(&host, COW).unwrap();
        assert!(found[..disk.len()] == disk);
        finished += u64::from(found.len() > disk.len());
    }
    assert!(finished > 0, "the data was moved");
}

/// What takes space and is zeros is a leak, as far as the host says that it takes space.
#[test]
fn zeros_that_take_space_are_found_on_a_host_that_cannot_tell_holes() {
    for tells_holes in [true, false] {
        let host = weak_host(|host| host.tells_holes = tells_holes);
        let disk = world(&host);
        change(&host, |file, geometry| {
            let at = geometry.data_offset + Bytes(1 << 20);
            file.zero_range(FileRange::new(at, Bytes(512 << 10)));
        });
        let path = Path::new(COW);
        let checked = check(&host, path, Trust::Follow, &mut go_on).unwrap();
        let leaked = checked.findings[0].leaked;
        assert!(leaked <= Bytes(512 << 10), "{leaked}");
        assert!(leaked >= Bytes(384 << 10), "{leaked}");
        host.set_faults(punching(Fault::Unsupported, 0));
        let tried = check_and_repair(&host, path, Trust::Follow, &mut go_on).unwrap();
        assert_eq!(tried.repaired, [], "it says that it did what it could not");
        assert_eq!(tried.severity(), Some(Severity::Leak));
        host.set_faults(FaultPlan::default());
        let mended = check_and_repair(&host, path, Trust::Follow, &mut go_on).unwrap();
        assert_eq!(mended.repaired.len(), 1);
        assert_eq!(mended.findings, []);
        assert!(disk_of(&host, COW).unwrap() == disk);
        // A block device has no holes: all of it takes space.
        change(&host, |file, geometry| {
            let at = geometry.data_offset + Bytes(1 << 20);
            file.zero_range(FileRange::new(at, Bytes(512 << 10)));
        });
        host.set_kind(COW, FileKind::BlockDevice);
        assert_eq!(severity(&host), None);
    }
}

/// What cannot be given back does no harm, and does not keep a merge or a recovery from its end.
#[test]
fn a_host_that_fails_to_give_space_back_ends_the_change_all_the_same() {
    let host = host();
    let disk = world(&host);
    let merged = host.after_kill();
    // Its bitmap is cleared by punching too.
    let data = geometry(&host).data_offset.0;
    merged.set_faults(punching(Fault::Io, data));
    merge(&merged).unwrap();
    assert!(disk_of(&merged, COW).unwrap() == disk);
    assert_eq!(severity(&merged), Some(Severity::Leak));
    for tool in [merge as Tool, grow] {
        let whole = host.after_kill();
        tool(&whole).unwrap();
        let data = geometry(&whole).data_offset.0;
        let mut ended = 0;
        for host in interrupted(&host, tool) {
            ended += u64::from(severity(&host) == Some(Severity::Corruption));
            host.set_faults(punching(Fault::Io, data));
            recovery(&host).unwrap();
            host.set_faults(FaultPlan::default());
            assert!(disk_of(&host, COW).unwrap()[..disk.len()] == disk);
            assert!(severity(&host) <= Some(Severity::Leak));
        }
        assert!(ended > 0);
    }
}

/// A watcher that stops the tool when it has been asked this often.
fn stop_after(mut calls: u64) -> impl FnMut(Bytes, Bytes) -> ControlFlow<()> {
    move |_, _| match calls {
        0 => ControlFlow::Break(()),
        _ => {
            calls -= 1;
            ControlFlow::Continue(())
        }
    }
}

/// A recovery that is interrupted says what is true: whether it goes on when it is given again.
#[test]
fn an_interrupted_recovery_says_whether_it_goes_on() {
    let host = host();
    world(&host);
    change(&host, |file, geometry| {
        // Data that nobody reads, for the last stage to find.
        file.write_at(&[0xbb; 65_536], geometry.data_offset + Bytes(10 << 20));
    });
    let (mut goes_on, mut leaks) = (0, 0);
    for host in interrupted(&host, grow).step_by(2) {
        for calls in 0.. {
            let host = host.after_kill();
            let mut stop = stop_after(calls);
            let path = Path::new(COW);
            let told = recover(&host, path, Format::Cow, Trust::Follow, &mut stop);
            let again = recover(&host, path, Format::Cow, Trust::Follow, &mut go_on).unwrap();
            match told {
                Ok(_) => break,
                Err(ImageError::Interrupted) => {
                    goes_on += u64::from(again.resized.is_some());
                }
                Err(error @ ImageError::InterruptedFreeing { .. }) => {
                    assert!(
                        error
                            .to_string()
                            .contains("ubdlab image check cow --repair")
                    );
                    assert_eq!(again, Default::default(), "there is nothing to go on with");
                    leaks += u64::from(severity(&host) == Some(Severity::Leak));
                }
                Err(error) => panic!("{error}"),
            }
            check_and_repair(&host, path, Trust::Follow, &mut go_on).unwrap();
            assert_eq!(severity(&host), None);
        }
    }
    assert!(goes_on > 0 && leaks > 0, "{goes_on} and {leaks}");
}

/// Of an extension of the backing file nothing was to be given back: what lies in clean sectors
/// may be what a stock driver lost the bits of.
#[test]
fn only_a_merge_gives_back_what_lies_in_clean_sectors() {
    let extend = |host: &SimHost| {
        let mut cow = open_for_resize(host, Path::new(COW), Trust::Follow, true)?;
        extend_backing(host, &mut cow, &mut go_on)?;
        close(cow.device, Path::new(COW))
    };
    let host = host();
    world(&host);
    change(&host, |file, geometry| {
        file.write_at(&[0xbb; 65_536], geometry.data_offset + Bytes(1 << 20));
    });
    let wanted = host.content(COW).unwrap().to_bytes();
    let place = geometry(&host).data_offset + Bytes(1 << 20);
    let at = (place - FileOffset(0)).0 as usize;
    for host in interrupted(&host, extend) {
        recovery(&host).unwrap();
        let found = host.content(COW).unwrap().to_bytes();
        assert!(found[at..at + 65_536] == wanted[at..at + 65_536]);
    }
}

/// A copy without holes may have up to 2 GiB before the data: who looks through that can be
/// stopped, and says what it was reading.
#[test]
fn what_lies_before_the_data_is_looked_through_step_by_step() {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version: Version::V3,
        alignment: 8 << 20,
        ours: true,
        size: LEN,
        dirty: &[(4, 2, Some(1))],
    };
    install_cow(&host, COW, BACKING, layout);
    change(&host, |file, geometry| {
        let start = file.to_bytes()[..4096].to_vec();
        file.zero_range(FileRange::between(FileOffset(0)..geometry.data_offset));
        file.write_at(&start, FileOffset(0));
    });
    let (path, trust) = (Path::new(COW), Trust::Follow);
    for calls in 0..8 {
        let mut stop = stop_after(calls);
        let told = check(&host, path, trust, &mut stop).map(drop);
        assert_eq!(told, Err(ImageError::Interrupted), "{calls}");
    }
    host.set_faults(FaultPlan::at([FaultRule {
        file: FileMatch::Path(COW.into()),
        kind: Some(OperationKind::Read),
        bytes: Some((5 << 20, 6 << 20)),
        occurrence: Occurrence::From(1),
        fault: Fault::Io,
    }]));
    let told = check(&host, path, trust, &mut go_on)
        .unwrap_err()
        .to_string();
    assert!(told.contains("before the data area"), "{told}");
}
