//! Two processes at work on one image: between any two host operations of the one, the other
//! does something. No clock decides which comes first; every order is tried.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use driver::cow::Version;
use driver::open::{OpenError, temporary_name};
use driver::resize::{ResizeStep, Strategy};
use driver::units::Bytes;
use harness::sim::{FileContent, SimFile, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::create::{self, create};
use userhelper::image::open::{CowImageFile, Format, Trust, close};
use userhelper::image::recover::{Recovered, recover};
use userhelper::image::resize::{open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::PlannedResize;

use crate::image_crashes::story::go_on;
use crate::image_crashes::world::{
    BACKING, COW, Layout, TIME, assert_same, disk_of, host, install_cow, install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const NEW_LEN: u64 = LEN + 20 * 512;
const NEW: &str = "new";

/// A disk, and what it holds after the growth that all rebuilds here are about.
fn world(with_left_over: bool) -> (SimHost, Vec<u8>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (20, 12, Some(2)), (40, 3, None)],
    };
    let mut disk = install_cow(&host, COW, BACKING, layout);
    if with_left_over {
        let half = FileContent::from_bytes(b"half of a file");
        host.install(temporary_name(Path::new(COW)), half);
    }
    disk.resize(NEW_LEN as usize, 0);
    (host, disk)
}

fn finish(host: &SimHost, name: &str) -> Result<Recovered, ImageError> {
    recover(
        host,
        Path::new(name),
        Format::Cow,
        Trust::Follow,
        &mut go_on,
    )
}

/// A process that rebuilds the COW file.
struct Rebuilding {
    cow: CowImageFile<SimFile>,
}

impl Rebuilding {
    fn begin(host: &SimHost) -> Result<Rebuilding, ImageError> {
        let mut cow = open_for_resize(host, Path::new(COW), Trust::Follow, false)?;
        let wish = Wish {
            new_size: Bytes(NEW_LEN),
            strategy: Some(Strategy::Rebuild),
            shrink: Shrink::Refuse,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        let resize = PlannedResize::new(&plan, host.clone(), Path::new(COW), &cow.device).unwrap();
        cow.device.begin_resize(Box::new(resize));
        Ok(Rebuilding { cow })
    }

    /// Does one step; whether it was the last.
    fn step(&mut self) -> bool {
        match self.cow.device.step_resize() {
            ResizeStep::Ended(outcome) => {
                outcome.unwrap();
                true
            }
            _ => false,
        }
    }

    fn finish(mut self) {
        while !self.step() {}
        close(self.cow.device, Path::new(COW)).unwrap();
    }
}

fn check_grown(host: &SimHost, disk: &[u8]) {
    assert_same(&disk_of(host, COW).unwrap(), disk, "the disk");
    assert_eq!(host.paths(), [Path::new(COW), Path::new(BACKING)]);
}

/// The rebuild begins at any moment of the recovery, comes as far as this, and is going on when
/// the recovery ends.
fn a_rebuild_begins_during_a_recovery(with_left_over: bool, steps: usize) {
    let (before, disk) = world(with_left_over);
    let (mut begun, mut refused) = (0, 0);
    for at in 0.. {
        let host = before.after_kill();
        let slot = Rc::new(RefCell::new(None));
        let other = Rc::clone(&slot);
        host.meanwhile(at, move |host| {
            let rebuilding = Rebuilding::begin(host).map(|mut rebuilding| {
                for _ in 0..steps {
                    assert!(!rebuilding.step());
                }
                rebuilding
            });
            *other.borrow_mut() = Some(rebuilding);
        });
        let recovered = finish(&host, COW);
        let Some(rebuilding) = slot.borrow_mut().take() else {
            break;
        };
        match rebuilding {
            Ok(rebuilding) => {
                begun += 1;
                // Where it was first, the recovery is refused or finds nothing to do.
                if let Ok(recovered) = recovered {
                    assert_eq!(recovered, Recovered::default(), "before operation {at}");
                }
                rebuilding.finish();
                check_grown(&host, &disk);
            }
            Err(error) => {
                refused += 1;
                assert!(is_locked(&error), "before operation {at}: {error}");
                assert_eq!(recovered.unwrap().temporary, with_left_over);
            }
        }
    }
    assert!(begun > 0 && refused > 0, "{begun} begun, {refused} refused");
}

fn is_locked(error: &ImageError) -> bool {
    matches!(error, ImageError::Open(OpenError::Locked { .. }))
}

#[test]
fn a_recovery_leaves_a_rebuild_that_has_begun_meanwhile_its_file() {
    for steps in [1, 2, 3] {
        for with_left_over in [false, true] {
            a_rebuild_begins_during_a_recovery(with_left_over, steps);
        }
    }
}

#[test]
fn a_recovery_during_a_rebuild_is_refused() {
    for with_left_over in [false, true] {
        let (before, disk) = world(with_left_over);
        let mut refused = 0;
        for at in 0.. {
            let host = before.after_kill();
            let slot = Rc::new(RefCell::new(None));
            let other = Rc::clone(&slot);
            host.meanwhile(at, move |host| {
                *other.borrow_mut() = Some(finish(host, COW));
            });
            Rebuilding::begin(&host).unwrap().finish();
            check_grown(&host, &disk);
            match slot.borrow_mut().take() {
                None => break,
                // Before the rebuild has its lock, or after it has ended.
                Some(Ok(recovered)) => assert!(!recovered.temporary || with_left_over),
                Some(Err(error)) => {
                    refused += 1;
                    let replaced = OpenError::Replaced { path: COW.into() };
                    let replaced = ImageError::Open(replaced);
                    assert!(is_locked(&error) || error == replaced, "{error}");
                }
            }
        }
        assert!(refused > 10, "{refused} refused");
    }
}

fn make_new(host: &SimHost) -> Result<(), ImageError> {
    let (new, backing) = (Path::new(NEW), Path::new(BACKING));
    create(host, new, backing, create::Wish::default()).map(drop)
}

/// There is no file whose lock would keep the two apart: the creation may fail then, at its
/// beginning, and can be begun again.
#[test]
fn a_creation_and_a_recovery_of_its_name_spoil_nothing() {
    let (before, _) = world(false);
    let expected = stamped(LEN, Stamp::BACKING);
    let check = |host: &SimHost| {
        let made = make_new(host);
        if disk_of(host, NEW).is_err() {
            made.unwrap();
        }
        assert_same(&disk_of(host, NEW).unwrap(), &expected, "the new disk");
        assert_eq!(host.paths().len(), 3, "{:?}", host.paths());
    };
    let (mut failed, mut whole) = (0, 0);
    for at in 0.. {
        let host = before.after_kill();
        let slot = Rc::new(RefCell::new(None));
        let other = Rc::clone(&slot);
        host.meanwhile(at, move |host| {
            *other.borrow_mut() = Some(finish(host, NEW))
        });
        match make_new(&host) {
            Ok(()) => whole += 1,
            Err(error) => {
                failed += 1;
                assert!(
                    error.to_string().starts_with(".new.ubdlab-new: "),
                    "{error}"
                );
            }
        }
        check(&host);
        if slot.borrow().is_none() {
            break;
        }
    }
    assert!(
        failed <= 2 && whole > 10,
        "{failed} failed, {whole} did not"
    );
    for at in 0.. {
        let host = before.after_kill();
        let half = FileContent::from_bytes(b"half of a file");
        host.install(temporary_name(Path::new(NEW)), half);
        let slot = Rc::new(RefCell::new(None));
        let other = Rc::clone(&slot);
        host.meanwhile(at, move |host| *other.borrow_mut() = Some(make_new(host)));
        let recovered = finish(&host, NEW);
        let Some(made) = slot.borrow_mut().take() else {
            assert!(recovered.unwrap().temporary);
            break;
        };
        if let Err(error) = made {
            assert!(is_locked(&error), "{error}");
        }
        check(&host);
    }
}
