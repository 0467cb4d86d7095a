//! What an image tool does in one go is as much as it is told to. Whoever tells it little meets
//! every cut on a small device.

use std::ops::ControlFlow;
use std::path::Path;

use driver::blk::{Request, Tag};
use driver::cow::{PAGE_BYTES, SECTORS_PER_PAGE};
use driver::driver::Driver;
use driver::host::OperationKind;
use driver::open::{OpenOptions, create, open, temporary_name};
use driver::units::{Bytes, Sector, SectorCount};
use harness::plain_format::CowFile;
use harness::sim::{FileContent, SimHost};
use userhelper::at_once::AtOnce;
use userhelper::image::convert::{CowVersion, to_cow};
use userhelper::image::open::{Format, Image, Trust, open_image};

const COW: &str = "/disk/cow";
const BACKING: &str = "/disk/backing";
const NEW: &str = "/disk/new";
const ALIGNMENT: u32 = 4096;

/// A device whose bitmap has three pages and a sector, with a dirty sector in each page.
fn host() -> (SimHost, Vec<u64>) {
    let host = SimHost::default();
    let page = SECTORS_PER_PAGE.0;
    let size = SectorCount(3 * page + 1).bytes();
    host.install(BACKING, FileContent::hole(size));
    drop(create(&host, Path::new(COW), Path::new(BACKING), Some(ALIGNMENT)).unwrap());
    let spec = format!("ubda={COW},{BACKING}").parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let dirty = [7, page + 8, 3 * page - 1];
    for sector in dirty {
        let write = Request::write(Tag(0), Sector(sector), vec![0xda; 512]);
        device.serve(write).unwrap();
    }
    device.close().unwrap();
    (host, dirty.to_vec())
}

/// How long the writes are that a conversion writes the new bitmap with.
fn writes(at_once: AtOnce) -> Vec<Bytes> {
    let (host, dirty) = host();
    let mut image = open_image(&host, Path::new(COW), Format::Cow, Trust::Follow).unwrap();
    if let Image::Cow(cow) = &mut image {
        cow.at_once = at_once;
    }
    host.record();
    let version = CowVersion::V3 {
        alignment: ALIGNMENT,
    };
    let mut go_on = |_, _| ControlFlow::Continue(());
    let (backing, new) = (Path::new(BACKING), Path::new(NEW));
    to_cow(&host, &image, backing, version, new, &mut go_on).unwrap();
    let file = host.content(NEW).unwrap();
    let made = CowFile::open(&file).unwrap();
    // Whole blocks of 4 KiB.
    assert!(dirty.iter().all(|&sector| made.is_dirty(sector)));
    assert_eq!(made.dirty().len(), 3 * 8);
    let bitmap = made.layout.bitmap..made.layout.bitmap + made.layout.bitmap_len;
    let temporary = temporary_name(new);
    let calls = host.take_log().into_iter().map(|logged| logged.call);
    calls
        .filter(|call| call.kind == OperationKind::Write && *call.path == *temporary)
        .filter(|call| bitmap.contains(&call.range.start.0))
        .map(|call| call.range.len)
        .collect()
}

#[test]
fn a_conversion_writes_the_bitmap_in_pieces() {
    let page = Bytes(PAGE_BYTES as u64);
    let three = Bytes(3 * page.0);
    assert_eq!(writes(AtOnce::default()), [three]);
    assert_eq!(writes(AtOnce::of(Bytes(512))), [page; 3]);
    assert_eq!(writes(AtOnce::of(page + page)), [page + page, page]);
}
