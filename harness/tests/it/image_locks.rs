//! Two processes at work on one backing file, or on one image: before any host operation of the
//! one, the other does all of its work, as far as the locks let it. What either has looked at
//! before its lock does not count.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use driver::cow::Version;
use driver::host::{Access, HostFile, HostNames, LockKind, OperationKind};
use driver::open::OpenError;
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset};
use harness::sim::{FileContent, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::check_and_repair;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::{Wish, create};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Image, Trust, close, open_image};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::image_host::ImageHost;
use userhelper::planner::{self, Shrink};

use crate::image_crashes::story::{Tool, go_on};
use crate::image_crashes::world::{
    BACKING, COW, Layout, OTHER, SIBLING, TIME, assert_same, disk_of, host, install_cow,
    install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const NEW: &str = "new";

/// Two COW files over one backing file, and another disk.
fn world() -> SimHost {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    install_disk(&host, OTHER, &stamped(LEN, Stamp(5)), TIME + 1000);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: LEN,
        dirty: &[(2, 4, Some(1)), (30, 8, Some(1))],
    };
    install_cow(&host, COW, BACKING, layout);
    let dirty = &[(50, 4, Some(2))];
    install_cow(&host, SIBLING, BACKING, Layout { dirty, ..layout });
    host
}

type Told = Result<(), ImageError>;

/// What the other process does.
type Other = fn(&SimHost) -> Told;

/// Runs `tool` with `other` before each of its host operations in turn, and lets `look` look at
/// the host, what the tool said, and what the other one said. How often each of them was refused.
fn at_every_moment(
    before: &SimHost,
    tool: Tool<'_>,
    other: Other,
    look: &dyn Fn(&SimHost, &Told, &Told),
) -> (u32, u32) {
    let (mut refused, mut other_refused) = (0, 0);
    for at in 0.. {
        let host = before.after_kill();
        let said = Rc::new(Cell::new(None));
        let slot = Rc::clone(&said);
        host.meanwhile(at, move |host| slot.set(Some(other(host))));
        let told = tool(&host);
        let Some(other_told) = said.take() else {
            assert!(told.is_ok(), "alone: {told:?}");
            return (refused, other_refused);
        };
        refused += u32::from(told.is_err());
        other_refused += u32::from(other_told.is_err());
        let _what = crate::world::explore::Context(format!("the other one before operation {at}"));
        look(&host, &told, &other_told);
    }
    unreachable!()
}

fn is_refused(told: &Told) {
    let expected = matches!(
        told,
        Err(ImageError::Open(
            OpenError::Locked { .. }
                | OpenError::Replaced { .. }
                | OpenError::BackingModified { .. }
                | OpenError::NotInChange { .. }
        ))
    );
    assert!(expected, "{told:?}");
}

fn merge_of(host: &SimHost, path: &str) -> Result<(), ImageError> {
    let path = Path::new(path);
    let mut cow = open_both(host, path, Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

fn merge_sibling(host: &SimHost) -> Result<(), ImageError> {
    merge_of(host, SIBLING)
}

#[test]
fn of_two_merges_in_place_one_is_refused() {
    let before = world();
    let disks = [COW, SIBLING].map(|name| disk_of(&before, name).unwrap());
    let merge = |host: &SimHost| merge_of(host, COW);
    let (refused, other_refused) =
        at_every_moment(&before, &merge, merge_sibling, &|host, told, other| {
            let (winner, loser, disk) = match (told, other) {
                (Ok(()), refused) => {
                    is_refused(refused);
                    (COW, SIBLING, &disks[0])
                }
                (refused, Ok(())) => {
                    is_refused(refused);
                    (SIBLING, COW, &disks[1])
                }
                neither => panic!("{neither:?}"),
            };
            let merged = host.content(BACKING).unwrap().to_bytes();
            assert_same(&merged, disk, "the backing file");
            assert_same(&disk_of(host, winner).unwrap(), disk, winner);
            assert!(
                host.content(loser) == before.content(loser),
                "{loser} has changed"
            );
            assert!(disk_of(host, loser).is_err());
        });
    assert!(
        refused > 3 && other_refused > 3,
        "{refused}, {other_refused}"
    );
}

#[test]
fn what_is_copied_is_the_disk_or_nothing() {
    let before = world();
    let disk = disk_of(&before, COW).unwrap();
    let copy = |host: &SimHost| {
        let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
        to_raw(host, &image, Path::new(NEW), &mut go_on).map(drop)
    };
    let (refused, other_refused) =
        at_every_moment(&before, &copy, merge_sibling, &|host, told, _| match told {
            Ok(()) => assert_same(&host.content(NEW).unwrap().to_bytes(), &disk, "the copy"),
            refused => {
                is_refused(refused);
                assert!(host.content(NEW).is_none());
            }
        });
    assert!(
        refused > 3 && other_refused > 3,
        "{refused}, {other_refused}"
    );
}

/// Another process writes to a disk that becomes a backing file, under its lock.
fn other_grows(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(OTHER);
    let failed = ImageError::host(path, "growing", FileOffset(0));
    let file = host.open(path, Access::ReadWrite).map_err(&failed)?;
    let locked = host.lock(&file, LockKind::Exclusive);
    locked.map_err(|_| OpenError::Locked {
        path: path.to_owned(),
    })?;
    file.set_len(Bytes(LEN + 512))
        .and_then(|()| host.sync_all(&file))
        .map_err(failed)
}

/// What a header records of a backing file is what that file was under the lock: a change before
/// that makes no difference, and one after it is noticed.
#[test]
fn a_header_records_what_the_backing_file_was_under_the_lock() {
    let tools: [(&str, Tool<'_>); 4] = [
        (NEW, &|host| {
            create(host, Path::new(NEW), Path::new(OTHER), Wish::default()).map(drop)
        }),
        (NEW, &|host| {
            let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
            let version = CowVersion::V3 { alignment: 4096 };
            let (other, new) = (Path::new(OTHER), Path::new(NEW));
            to_cow(host, &image, other, version, new, &mut go_on).map(drop)
        }),
        (COW, &|host| {
            let (cow, other) = (Path::new(COW), Path::new(OTHER));
            rebase(host, cow, other, Trust::Follow, &mut go_on).map(drop)
        }),
        (COW, &|host| {
            rebase_unsafely(host, Path::new(COW), Path::new(OTHER)).map(drop)
        }),
    ];
    for (made, tool) in tools {
        let before = world();
        let (refused, other_refused) =
            at_every_moment(&before, tool, other_grows, &|host, told, other| {
                assert!(told.is_ok() || other.is_ok());
                match (told, disk_of(host, made)) {
                    (Ok(()), Err(error)) => {
                        let late = matches!(error, OpenError::BackingModified { .. });
                        assert!(
                            late || matches!(error, OpenError::BackingSize { .. }),
                            "{error}"
                        );
                    }
                    (Ok(()), Ok(disk)) => assert!(disk.len() as u64 >= LEN),
                    (refused, _) => is_refused(refused),
                }
            });
        assert!(
            refused <= 1,
            "only where the two opened the file at once: {refused}"
        );
        assert!(other_refused > 3, "{made}: {other_refused}");
        // Before the lock, whichever operation comes next, the file grows and is taken as it is.
        let locked = operations(&before, tool, OperationKind::Lock, OTHER)[0];
        for at in 0..=locked {
            let host = before.after_kill();
            host.meanwhile(at, |host| other_grows(host).unwrap());
            tool(&host).unwrap();
            disk_of(&host, made).unwrap_or_else(|error| panic!("{made}, {at}: {error}"));
        }
    }
}

/// A raw disk is as long as it is while it is held, and has the format that it has then.
#[test]
fn a_raw_disk_is_what_it_is_under_the_lock() {
    let before = world();
    let open = |host: &SimHost| {
        let image = open_image(host, Path::new(OTHER), Format::Guess, Trust::Follow)?;
        let length = host.content(OTHER).unwrap().length();
        match &image {
            Image::Raw { .. } => assert_eq!(image.size(), length),
            Image::Cow(_) => assert!(host.content(OTHER) == host.content(COW)),
        }
        Ok(())
    };
    at_every_moment(&before, &open, other_grows, &|_, told, _| {
        assert!(told.is_ok(), "{told:?}");
    });
    let becomes_cow: Other = |host| {
        let cow = host.content(COW).unwrap().to_bytes();
        let file = host.open(Path::new(OTHER), Access::ReadWrite).unwrap();
        let locked = host.lock(&file, LockKind::Exclusive);
        locked.map_err(|_| OpenError::Locked { path: OTHER.into() })?;
        file.set_len(Bytes(cow.len() as u64)).unwrap();
        file.write_all_at(&cow, FileOffset(0)).unwrap();
        Ok(())
    };
    at_every_moment(&before, &open, becomes_cow, &|_, told, _| {
        assert!(told.is_ok(), "{told:?}");
    });
}

/// The numbers of the operations of this kind on this file when `tool` is alone.
fn operations(before: &SimHost, tool: Tool<'_>, kind: OperationKind, path: &str) -> Vec<u64> {
    let host = before.after_kill();
    host.record();
    tool(&host).unwrap();
    let log = host.take_log().into_iter().map(|logged| logged.call);
    log.filter(|operation| operation.kind == kind && *operation.path == *path)
        .map(|operation| operation.index)
        .collect()
}

/// Another file gets the backing file's name, with its size and time.
fn replace_backing(host: &SimHost) {
    host.install(BACKING, FileContent::from_bytes(&stamped(LEN, Stamp(9))));
    host.set_modified_seconds(BACKING, TIME);
}

/// Between the opening and the lock: what is merged into would have no name.
#[test]
fn a_backing_file_that_is_replaced_before_it_is_locked() {
    let before = world();
    let merge: Tool<'_> = &|host| merge_of(host, COW);
    let opened = operations(&before, merge, OperationKind::Open, BACKING)[0];
    let locked = operations(&before, merge, OperationKind::Lock, BACKING)[0];
    assert!(opened < locked);
    for at in opened + 1..=locked {
        let host = before.after_kill();
        host.meanwhile(at, replace_backing);
        let refused = merge(&host).unwrap_err();
        let replaced = matches!(refused, ImageError::Open(OpenError::Replaced { .. }));
        assert!(replaced, "before operation {at}: {refused}");
        assert!(host.content(COW) == before.content(COW));
        assert!(host.content(BACKING).unwrap().to_bytes() == stamped(LEN, Stamp(9)));
    }
}

/// A rebase opens the old backing file once more, to read it: from the moment that it was checked,
/// the disk is that one's.
#[test]
fn a_backing_file_that_is_replaced_during_a_rebase() {
    let before = world();
    let disk = disk_of(&before, COW).unwrap();
    let rebasing: Tool<'_> = &|host| {
        let (cow, other) = (Path::new(COW), Path::new(OTHER));
        rebase(host, cow, other, Trust::Follow, &mut go_on).map(drop)
    };
    let opened = operations(&before, rebasing, OperationKind::Open, BACKING);
    assert!(opened.len() > 1, "it is opened twice at least");
    let whole = before.after_kill();
    rebasing(&whole).unwrap();
    let mut refused = 0;
    for at in opened[0] + 1..whole.operations() {
        let host = before.after_kill();
        host.meanwhile(at, replace_backing);
        match rebasing(&host) {
            Ok(()) => assert_same(&disk_of(&host, COW).unwrap(), &disk, "the disk"),
            told => {
                is_refused(&told);
                refused += 1;
                assert!(host.content(COW) == before.content(COW));
            }
        }
    }
    assert!(refused > 0);
}

/// A COW file that is short, which a repair gives its length, and how it is after a resize that
/// was interrupted half-way.
fn short_and_half_resized() -> (SimHost, FileContent) {
    let host = world();
    let mut cow = host.content(COW).unwrap();
    cow.set_len(cow.length() - Bytes(10 * 512));
    host.install(COW, cow);
    let grow = |host: &SimHost| {
        let path = Path::new(COW);
        let mut cow = open_for_resize(host, path, Trust::Follow, false)?;
        let wish = planner::Wish {
            new_size: Bytes(LEN + 20 * 512),
            strategy: Some(Strategy::Reflow),
            shrink: Shrink::Refuse,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        carry_out(host, &mut cow, &plan, &mut go_on)
    };
    let whole = host.after_kill();
    grow(&whole).unwrap();
    let half = host.after_kill();
    half.crash_before_change(whole.changes() / 2);
    assert!(grow(&half).is_err());
    (host, half.content(COW).unwrap())
}

/// Another process begins a resize, and is interrupted, at any moment of a repair: what was found
/// before that is not mended after it.
#[test]
fn a_repair_mends_what_it_found_under_one_lock() {
    let (before, half) = short_and_half_resized();
    let disk = disk_of(&before, COW).unwrap();
    let (mut begun, mut refused) = (0, 0);
    for at in 0.. {
        let host = before.after_kill();
        let half = half.to_bytes();
        let locked = Rc::new(Cell::new(None));
        let slot = Rc::clone(&locked);
        host.meanwhile(at, move |host| {
            let file = host.open(Path::new(COW), Access::ReadWrite).unwrap();
            slot.set(Some(host.lock(&file, LockKind::Exclusive).is_err()));
            if slot.get() == Some(false) {
                file.set_len(Bytes(half.len() as u64)).unwrap();
                file.write_all_at(&half, FileOffset(0)).unwrap();
            }
        });
        let checked = check_and_repair(&host, Path::new(COW), Trust::Follow, &mut go_on);
        match locked.get() {
            None => break,
            Some(true) => refused += 1,
            Some(false) => begun += 1,
        }
        let told = checked.unwrap();
        assert_eq!(told.findings, [], "before operation {at}");
        let shown = disk_of(&host, COW).unwrap();
        assert_same(&shown[..disk.len()], &disk, "the disk");
    }
    assert!(begun > 3 && refused > 3, "{begun} begun, {refused} refused");
}
