//! Whatever ends a tool in the middle, its temporary file goes with it.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::exercise::{BACKING, COW, SIZE, image};
use driver::cow::{Geometry, Header, Version};
use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostError, HostNames};
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, open, temporary_name};
use driver::resize::{ResizeStep, Strategy};
use driver::units::{Bytes, SectorCount};
use userhelper::image::Watcher;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::open::{Format, Trust, open_image};
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};
use userhelper::rebuild::Rebuild;

const OUTPUT: &str = "/disk/output";

fn host() -> MemoryHost {
    let host = MemoryHost::new();
    let header = Header::v3(Path::new(BACKING), 0, Bytes(SIZE), 4096).unwrap();
    host.file(COW, &image(&header, &[(0, 4), (50, 4)]));
    host.file(BACKING, &[0x11; SIZE as usize]);
    host
}

/// Runs the tool with a watcher that stops it, and with one that panics.
fn ends(tool: impl Fn(&MemoryHost, &mut dyn Watcher) -> bool) {
    let host = host();
    let stops = &mut |_: Bytes, _: Bytes| ControlFlow::Break(());
    assert!(!tool(&host, stops), "stopped");
    assert_nothing_is_left(&host);
    let panics = || {
        tool(&host, &mut |_: Bytes, _: Bytes| -> ControlFlow<()> {
            panic!("on purpose")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_nothing_is_left(&host);
    assert!(tool(
        &host,
        &mut |_: Bytes, _: Bytes| ControlFlow::Continue(())
    ));
}

fn assert_nothing_is_left(host: &MemoryHost) {
    let paths = [COW, OUTPUT].map(|path| temporary_name(Path::new(path)));
    for path in paths.iter().map(AsRef::as_ref).chain([Path::new(OUTPUT)]) {
        let opened = host.open(path, Access::ReadOnly).map(drop);
        assert_eq!(opened, Err(HostError::NotFound), "{}", path.display());
    }
}

#[test]
fn a_conversion_that_stops_or_panics_leaves_nothing() {
    ends(|host, watch| {
        let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow).unwrap();
        to_raw(host, &image, Path::new(OUTPUT), watch).is_ok()
    });
    let version = CowVersion::V3 { alignment: 4096 };
    ends(|host, watch| {
        let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow).unwrap();
        let backing = Path::new(BACKING);
        to_cow(host, &image, backing, version, Path::new(OUTPUT), watch).is_ok()
    });
}

#[test]
fn a_rebuild_that_stops_or_panics_leaves_nothing() {
    let wish = Wish {
        new_size: SectorCount(80).bytes(),
        strategy: Some(Strategy::Rebuild),
        shrink: Shrink::Refuse,
        online: false,
    };
    ends(|host, watch| {
        let mut cow = open_for_resize(host, Path::new(COW), Trust::Follow, false).unwrap();
        let plan = plan_resize(host, &cow, wish).unwrap();
        carry_out(host, &mut cow, &plan, watch).is_ok()
    });
}

/// As the resize of a device that is closed while it is resized.
#[test]
fn a_rebuild_that_is_dropped_at_any_step_leaves_nothing() {
    let new = Geometry::new(Version::V3, SectorCount(80).bytes(), 4096).unwrap();
    for steps in 0.. {
        let host = host();
        let spec = DeviceSpec::of(Path::new(COW));
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let rebuild = Rebuild::new(host.clone(), Path::new(COW), &device, new).unwrap();
        device.begin_resize(Box::new(rebuild));
        for _ in 0..steps {
            if let ResizeStep::Ended(outcome) = device.step_resize() {
                outcome.unwrap();
                assert!(steps > 3, "there are steps to stop at");
                assert_nothing_is_left(&host);
                let reopened = open(&host, &spec, OpenOptions::default());
                assert!(reopened.is_err(), "the device holds the new file");
                drop(device);
                let reopened = open(&host, &spec, OpenOptions::default()).unwrap();
                assert_eq!(reopened.device.capacity(), SectorCount(80));
                return;
            }
        }
        drop(device);
        assert_nothing_is_left(&host);
    }
}
