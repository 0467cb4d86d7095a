//! Names that stand for another file when they are opened once more.

use std::path::Path;

use driver::cow::Header;
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::Ordered;
use driver::resize::{ResizeError, ResizeStep, Strategy};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use userhelper::image::convert::{CowVersion, to_cow};
use userhelper::image::open::{Format, Image, Trust, open_image};
use userhelper::planner::{Shrink, Wish, plan};
use userhelper::resize::{PlannedResize, surroundings};

use crate::exercise::{BACKING, COW, SIZE, image};

/// A conversion over the source's own backing file takes its path out of a header. What was put
/// in its place since the image was opened is not what was checked then.
#[test]
fn a_backing_file_that_was_replaced_is_not_the_source_s_own() {
    let host = MemoryHost::new();
    let header = Header::v3(Path::new(BACKING), 0, Bytes(SIZE), 4096).unwrap();
    host.file(COW, &image(&header, &[(3, 2)]));
    host.file(BACKING, &[1; SIZE as usize]);
    let opened = open_image(&host, Path::new(COW), Format::Guess, Trust::Follow).unwrap();
    let Image::Cow(cow) = &opened else {
        panic!("it begins like a COW file");
    };
    let convert = |backing: &Path| {
        let version = CowVersion::V3 { alignment: 4096 };
        let (new, mut watch) = (Path::new("/disk/new"), |_, _| {
            std::ops::ControlFlow::Continue(())
        });
        to_cow(&host, &opened, backing, version, new, &mut watch).map(drop)
    };
    host.file(BACKING, &[2; SIZE as usize]);
    assert_eq!(
        convert(&cow.backing_path).unwrap_err().to_string(),
        "/disk/backing: replaced or removed by another process while it was opened: try again"
    );
    assert_eq!(host.contents("/disk/new"), None);
    // Another backing file is the user's own word.
    host.file("/disk/other", &[2; SIZE as usize]);
    convert(Path::new("/disk/other")).unwrap();
}

/// A device of 64 sectors, with sector 3 dirty, and its rebuild to 96, which has begun.
fn rebuild(host: &MemoryHost) -> Ordered<MemoryFile> {
    host.file(BACKING, &[1; 64 * 512]);
    drop(create(host, Path::new(COW), Path::new(BACKING), Some(4096)).unwrap());
    let spec = format!("ubda={COW},{BACKING}").parse().unwrap();
    let mut device = open(host, &spec, OpenOptions::default()).unwrap().device;
    let dirty = SectorRange::new(Sector(3), SectorCount(1));
    device
        .relocate(|desk| async move {
            desk.look(move |here| here.map_mut().mark_dirty(dirty))
                .await
        })
        .unwrap();
    let wish = Wish {
        new_size: SectorCount(96).bytes(),
        strategy: Some(Strategy::Rebuild),
        shrink: Shrink::Refuse,
        online: false,
    };
    let around = surroundings(host, Path::new(COW), &device).unwrap();
    let plan = plan(&device, wish, around).unwrap();
    let resize = PlannedResize::new(&plan, host.clone(), Path::new(COW), &device).unwrap();
    device.begin_resize(Box::new(resize));
    device
}

/// What somebody has put under the COW file's name while it was rebuilt is not renamed over.
#[test]
fn a_file_that_took_the_name_during_a_rebuild_keeps_it() {
    let host = MemoryHost::new();
    let mut device = rebuild(&host);
    assert_eq!(device.step_resize(), ResizeStep::Working);
    host.file(COW, b"somebody else's");
    let error = loop {
        match device.step_resize() {
            ResizeStep::Ended(Ok(_)) => panic!("it was renamed over the other file"),
            ResizeStep::Ended(Err(error)) => break error,
            _ => {}
        }
    };
    let why = "the COW file has lost its name meanwhile: somebody has moved it, removed it or given \
               the name to another file";
    assert_eq!(error, ResizeError::Refused(why.into()));
    assert_eq!(host.contents(COW).unwrap(), b"somebody else's");
    assert_eq!(device.capacity(), SectorCount(64));
}

/// A rebuild that ends early, after whatever step, leaves the map as long as the device: the next
/// resize makes it longer or shorter from there.
#[test]
fn a_rebuild_given_up_after_any_step_leaves_the_map_as_long_as_the_device() {
    for steps in 0.. {
        let host = MemoryHost::new();
        let mut device = rebuild(&host);
        let is_done = |step| matches!(step, ResizeStep::Ended(Ok(_)));
        if (0..steps).any(|_| is_done(device.step_resize())) {
            return;
        }
        device.give_up_resize();
        assert_eq!(device.map().sectors(), device.capacity(), "after {steps}");
    }
}
