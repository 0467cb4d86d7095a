//! Everything within one second of the host's clock: a backing file that is changed does not get
//! back a time that another COW file has recorded, at whatever moment the change ends.

use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::Version;
use driver::open::OpenError;
use driver::resize::ResizeError;
use driver::units::Bytes;
use harness::sim::{Assumptions, SimHost};
use harness::stamp::Stamp;
use userhelper::image::backing_change::LONGEST_WAIT;
use userhelper::image::check::{Fault, check, check_and_repair};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, close};
use userhelper::image::recover::recover;
use userhelper::image::resize::{extend_backing, open_for_resize};
use userhelper::image::{ImageError, Wait, Watcher};
use userhelper::image_host::ImageHost;

use super::story::{Story, Tool, finish, go_on};
use super::world::{
    BACKING, COW, Layout, Run, SIBLING, TIME, disk_of, install_cow, install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const GROWN: u64 = LEN + 20 * 512;
const FIRST: &str = "first";
const DIRTY: &[Run] = &[(2, 4, Some(1)), (30, 8, None)];
/// What a grown device has past its backing file's end is dirty.
const GROWN_DIRTY: &[Run] = &[(2, 4, Some(1)), (75, 20, None)];

/// A host on which the backing file has just been made, in the second `now`.
fn host_at(now: i64) -> SimHost {
    let host = SimHost::new(Assumptions {
        steady_times: false,
        slow_clock: true,
        ..Assumptions::default()
    });
    host.advance_clock(now);
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    host
}

fn layout(size: u64, dirty: &[Run]) -> Layout<'_> {
    Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size,
        dirty,
    }
}

fn merge_of(host: &SimHost, path: &str) -> Result<(), ImageError> {
    let path = Path::new(path);
    let mut cow = open_both(host, path, Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

fn merge(host: &SimHost) -> Result<(), ImageError> {
    merge_of(host, COW)
}

fn extend(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_resize(host, path, Trust::Follow, true)?;
    extend_backing(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

/// Every crash of the tool, and of the recovery after it: the sibling, which recorded the second
/// that it is, is refused or shows what it is to show.
fn sibling_never_shows_another_disk(name: &str, host: SimHost, size: u64, tool: Tool<'_>) {
    let sibling = disk_of(&host, SIBLING).unwrap();
    sibling_never_shows(name, host, sibling, size, tool);
}

fn sibling_never_shows(name: &str, host: SimHost, sibling: Vec<u8>, size: u64, tool: Tool<'_>) {
    let dirty = if size > LEN { GROWN_DIRTY } else { DIRTY };
    let disk = install_cow(&host, COW, BACKING, layout(size, dirty));
    let exceptions = Story {
        name,
        host,
        disks: vec![disk],
        sibling: Some(sibling),
        tool,
        exception: None,
        done: &|host| {
            let refused = disk_of(host, SIBLING).unwrap_err();
            let told = matches!(
                refused,
                OpenError::BackingModified { .. } | OpenError::BackingSize { .. }
            );
            assert!(told, "{refused}");
            let path = Path::new(SIBLING);
            let checked = check(host, path, Trust::Follow, &mut go_on).unwrap();
            assert_eq!(checked.findings[0].fault, Fault::BackingChanged);
        },
    }
    .survives_every_crash();
    assert_eq!(exceptions, 0);
}

/// In the second in which the backing file was made, and in later ones.
#[test]
fn a_merge_in_place() {
    for now in [TIME, TIME + 1, TIME + 100] {
        let host = host_at(now);
        install_cow(&host, SIBLING, BACKING, layout(LEN, &[]));
        let name = format!("merge, {} s later", now - TIME);
        sibling_never_shows_another_disk(&name, host, LEN, &merge);
    }
}

#[test]
fn an_extension_of_the_backing_file() {
    let host = host_at(TIME);
    install_cow(&host, SIBLING, BACKING, layout(LEN, &[]));
    sibling_never_shows_another_disk("extension", host, GROWN, &extend);
}

/// Of two merges within a second, the second one gave the time back that was there before the
/// first.
#[test]
fn a_second_merge_in_place() {
    let host = host_at(TIME);
    let sibling = install_cow(&host, SIBLING, BACKING, layout(LEN, &[]));
    install_cow(&host, FIRST, BACKING, layout(LEN, &[(40, 3, Some(6))]));
    merge_of(&host, FIRST).unwrap();
    assert!(disk_of(&host, SIBLING).is_err());
    sibling_never_shows("second merge", host, sibling, LEN, &merge);
}

/// Merges and recoveries, one after the other: no time comes twice, and none is far ahead.
#[test]
fn no_time_comes_back() {
    let host = host_at(TIME);
    let mut times = vec![TIME];
    for round in 0..30 {
        install_cow(&host, COW, BACKING, layout(LEN, DIRTY));
        if round % 3 == 0 {
            merge(&host).unwrap();
        } else {
            // Killed while the data is written, or before anything is.
            let whole = host.after_kill();
            merge(&whole).unwrap();
            let half = host.after_kill();
            half.crash_before_change(whole.changes() * (round % 3) / 4 + 4);
            assert!(merge(&half).is_err());
            times.push(half.modified_seconds(BACKING).unwrap());
            let recovering = half.after_kill();
            assert!(finish(&recovering).unwrap().backing_change);
            install_disk(
                &host,
                BACKING,
                &recovering.content(BACKING).unwrap().to_bytes(),
                0,
            );
            host.set_modified_seconds(BACKING, recovering.modified_seconds(BACKING).unwrap());
            host.advance_clock(recovering.now_seconds());
        }
        let time = host.modified_seconds(BACKING).unwrap();
        assert!(
            times.iter().all(|&earlier| earlier < time),
            "{times:?}, then {time}"
        );
        assert!(time - host.now_seconds() <= 1, "not far ahead");
        times.push(time);
    }
}

/// Notes what is waited for: how many seconds, and whether they are too many.
#[derive(Default)]
struct Waits {
    told: Vec<(i64, bool)>,
    /// Says that it is enough, when asked during a wait.
    impatient: bool,
}

impl Watcher for Waits {
    fn progress(&mut self, _: Bytes, _: Bytes) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn waits(&mut self, wait: Wait<'_>) {
        assert_eq!(wait.backing, Path::new(BACKING));
        self.told.push((wait.seconds, wait.too_long));
    }

    fn goes_on(&mut self) -> ControlFlow<()> {
        match self.impatient {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Whoever ends a wait gets the image back as it was, or still marked.
#[test]
fn a_wait_that_is_interrupted() {
    let host = host_at(TIME - 3);
    let disk = install_cow(&host, COW, BACKING, layout(LEN, DIRTY));
    let path = Path::new(COW);
    let mut waits = Waits {
        impatient: true,
        ..Waits::default()
    };
    let before = host.content(COW).unwrap();
    let mut cow = open_both(&host, path, Trust::Follow).unwrap();
    let told = in_place(&host, &mut cow, &mut waits).map(drop);
    drop(cow);
    assert_eq!(told, Err(ImageError::Interrupted));
    assert_eq!(waits.told, [(4, false)]);
    assert!(host.content(COW).unwrap() == before);
    assert_eq!(host.modified_seconds(BACKING), Some(TIME));
    // Marked, with a backing file whose time lies ahead.
    let whole = host.after_kill();
    merge(&whole).unwrap();
    let half = host.after_kill();
    half.crash_before_change(whole.changes() / 2);
    assert!(merge(&half).is_err());
    let half = half.after_kill();
    half.set_modified_seconds(BACKING, half.now_seconds() + 5);
    for repair in [false, true] {
        let mut waits = Waits {
            impatient: true,
            ..Waits::default()
        };
        let host = half.after_kill();
        let told = match repair {
            true => check_and_repair(&host, path, Trust::Follow, &mut waits).map(drop),
            false => recover(&host, path, Format::Cow, Trust::Follow, &mut waits).map(drop),
        };
        assert_eq!(told, Err(ImageError::Interrupted));
        assert_eq!(waits.told, [(5, false)]);
        assert!(disk_of(&host, COW).unwrap() == disk);
        assert!(finish(&host).unwrap().backing_change);
    }
}

/// What somebody has set years ahead is not waited for.
#[test]
fn a_time_that_lies_ahead() {
    for (ahead, waited) in [
        (0, true),
        (1, true),
        (LONGEST_WAIT - 1, true),
        (LONGEST_WAIT, false),
    ] {
        let host = host_at(TIME - ahead);
        install_cow(&host, COW, BACKING, layout(LEN, DIRTY));
        let mut waits = Waits::default();
        let mut cow = open_both(&host, Path::new(COW), Trust::Follow).unwrap();
        in_place(&host, &mut cow, &mut waits).unwrap();
        assert_eq!(waits.told[0], (ahead + 1, !waited));
        let now = host.now_seconds();
        assert_eq!(
            now > TIME,
            waited,
            "{ahead} s ahead: the clock is at {}",
            now - TIME
        );
        assert!(host.modified_seconds(BACKING).unwrap() > TIME);
    }
}

/// The last time that a header can tell from the one before is the first one again.
#[test]
fn a_time_at_the_end_of_32_bits() {
    let last = i64::from(u32::MAX);
    let host = host_at(last);
    host.set_modified_seconds(BACKING, last);
    let sibling = install_cow(&host, SIBLING, BACKING, layout(LEN, &[]));
    let disk = install_cow(&host, COW, BACKING, layout(LEN, DIRTY));
    merge(&host).unwrap();
    assert!(host.modified_seconds(BACKING).unwrap() > last);
    assert!(disk_of(&host, COW).unwrap() == disk);
    assert!(disk_of(&host, SIBLING).is_err() && disk != sibling);
}

/// The end of all times is refused, and nothing is changed.
#[test]
fn no_time_after_the_last_one() {
    let host = host_at(TIME);
    host.set_modified_seconds(BACKING, i64::MAX);
    let disk = install_cow(&host, COW, BACKING, layout(LEN, DIRTY));
    let old = host.content(BACKING).unwrap();
    let cow = host.content(COW).unwrap();
    let refused = merge(&host).unwrap_err();
    assert!(
        matches!(
            &refused,
            ImageError::Resize {
                error: ResizeError::Refused(_),
                ..
            }
        ),
        "{refused}"
    );
    assert!(host.content(BACKING).unwrap() == old && host.content(COW).unwrap() == cow);
    assert!(disk_of(&host, COW).unwrap() == disk);
}
