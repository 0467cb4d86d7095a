//! Every image tool on one file, whatever it holds. Shared by the property tests here and the
//! fuzz target in `fuzz/`.

use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::{Extension, Geometry, Header, SectorMap};
use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};
use userhelper::image::Watcher;
use userhelper::image::check::{check, check_and_repair};
use userhelper::image::compare::compare;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::info::info;
use userhelper::image::map::mapped_runs;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, open_image, open_unlocked};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::recover::recover;
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

pub(crate) const COW: &str = "/disk/cow";
pub(crate) const BACKING: &str = "/disk/backing";
const OTHER: &str = "/disk/other";

/// The size of the backing file that the image is exercised with.
pub(crate) const SIZE: u64 = 64 * 512;

/// A tool that asks this often whether it is to go on does not end.
const MOST_STEPS: u64 = 1_000_000;

/// Exercises every tool on a file of these bytes, each on a fresh host.
///
/// # Panics
/// If a tool panics, does not end, or reports what it then cannot mend.
pub(crate) fn exercise(bytes: &[u8]) {
    let path = Path::new(COW);
    let host = host(bytes);
    let mut steps = 0;
    let mut watch = |_: Bytes, _: Bytes| {
        steps += 1;
        assert!(steps < MOST_STEPS, "it does not end");
        ControlFlow::Continue(())
    };
    for trust in [Trust::Follow, Trust::Confine, Trust::Guessed] {
        let _ = info(&host, path, trust);
    }
    if let Ok(opened) = open_unlocked(&host, path, Format::Cow) {
        let mut at = Sector(0);
        for run in mapped_runs(&opened.device) {
            let run = run.expect("memory does not fail");
            assert!(run.range.start == at && !run.range.is_empty(), "no gaps");
            at = run.range.end();
        }
        assert_eq!(at, Sector(0) + opened.device.capacity());
    }
    let before = host.contents(COW);
    let _ = check(&host, path, Trust::Follow, &mut watch);
    for format in [Format::Guess, Format::Raw] {
        let _ = open_image(&host, path, format, Trust::Follow);
    }
    if let Ok(image) = open_image(&host, path, Format::Cow, Trust::Follow) {
        let again = open_image(&host, path, Format::Cow, Trust::Follow).expect("it opened before");
        let compared = compare(&host, &image, &again, &mut watch).expect("memory does not fail");
        assert_eq!(compared.first, None);
        let _ = to_raw(&host, &image, Path::new("/disk/raw"), &mut watch);
        for (version, name) in [
            (CowVersion::V2, "/disk/v2"),
            (CowVersion::V3 { alignment: 4096 }, "/disk/v3"),
        ] {
            let made = to_cow(
                &host,
                &image,
                Path::new(BACKING),
                version,
                Path::new(name),
                &mut watch,
            );
            if made.is_ok() {
                let made = open_image(&host, Path::new(name), Format::Cow, Trust::Follow);
                let made = made.expect("made by us");
                let compared = compare(&host, &image, &made, &mut watch);
                assert_eq!(compared.expect("memory does not fail").first, None);
            }
        }
    }
    assert_eq!(host.contents(COW), before, "looking changes nothing");
    repair(bytes, &mut watch);
    change(bytes, &mut watch);
}

/// What can be mended is mended the first time.
fn repair(bytes: &[u8], watch: &mut dyn Watcher) {
    let host = host(bytes);
    let path = Path::new(COW);
    if let Ok(checked) = check_and_repair(&host, path, Trust::Follow, watch) {
        let again = check_and_repair(&host, path, Trust::Follow, watch);
        let again = again.expect("it could be checked before");
        assert_eq!(again.repaired, [], "after {checked:?}");
        assert_eq!(again.findings, checked.findings);
    }
}

fn change(bytes: &[u8], watch: &mut dyn Watcher) {
    let path = Path::new(COW);
    let _ = recover(&host(bytes), path, Format::Cow, Trust::Follow, watch);
    let _ = rebase(&host(bytes), path, Path::new(OTHER), Trust::Follow, watch);
    let _ = rebase_unsafely(&host(bytes), path, Path::new(OTHER));
    let host_for_merge = host(bytes);
    if let Ok(mut cow) = open_both(&host_for_merge, path, Trust::Follow) {
        let _ = in_place(&host_for_merge, &mut cow, watch);
    }
    for strategy in [
        None,
        Some(driver::resize::Strategy::Rebuild),
        Some(driver::resize::Strategy::Reflow),
    ] {
        let host = host(bytes);
        if let Ok(mut cow) = open_for_resize(&host, path, Trust::Follow, false) {
            let size = cow.device.capacity() + SectorCount(8);
            let wish = Wish {
                new_size: size.bytes(),
                strategy,
                shrink: Shrink::Refuse,
                online: false,
            };
            if let Ok(plan) = plan_resize(&host, &cow, wish) {
                let _ = carry_out(&host, &mut cow, &plan, watch);
            }
        }
    }
}

/// A host with the image, its backing file, and another one.
pub(crate) fn host(bytes: &[u8]) -> MemoryHost {
    let host = MemoryHost::new();
    host.file(COW, bytes);
    let content = |salt: u8| {
        (0..SIZE)
            .map(|n| (n / 512) as u8 ^ salt)
            .collect::<Vec<u8>>()
    };
    host.file(BACKING, &content(0x11));
    host.file(OTHER, &content(0x22));
    host
}

/// A good image with some dirty sectors, as this header has it.
pub(crate) fn image(header: &Header, dirty: &[(u64, u64)]) -> Vec<u8> {
    let geometry = Geometry::of(header).expect("a small image");
    let host = MemoryHost::new();
    let file = host.file(COW, &header.encode());
    if header.version == driver::cow::Version::V3 && Extension::fits(&geometry) {
        let block = Extension::new(Bytes(SIZE)).encode();
        file.write_all_at(&block, Extension::OFFSET)
            .expect("memory");
    }
    let mut map = SectorMap::new(geometry.capacity()).expect("a small image");
    for &(start, count) in dirty {
        map.mark_dirty(SectorRange::new(Sector(start), SectorCount(count)));
        for sector in start..start + count {
            let content = [sector as u8 | 0x80; 512];
            let at = geometry.place_of(Sector(sector));
            file.write_all_at(&content, at).expect("memory");
        }
    }
    let mut bits = vec![0; geometry.bitmap_len.0 as usize];
    map.copy_bitmap(Bytes(0), &mut bits);
    file.write_all_at(&bits, geometry.bitmap_offset)
        .expect("memory");
    file.set_len(geometry.data_end() - FileOffset(0))
        .expect("memory");
    host.contents(COW).expect("just written")
}
