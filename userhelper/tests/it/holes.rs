//! What is a hole in one file of an image says nothing about the other, and takes its place there
//! where one is merged into the other.

use std::ops::ControlFlow;
use std::path::Path;

use driver::blk::{Request, Tag};
use driver::driver::Driver;
use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, create, open};
use driver::units::{Bytes, Sector, SectorCount};
use userhelper::at_once::AtOnce;
use userhelper::image::convert::to_raw;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, open_image};

const LEN: u64 = 4 << 20;

/// The backing file is a hole from its start to its end. The COW file has the data of a run so long
/// that the host is asked where it is, at offsets at which the backing file has that hole.
#[test]
fn data_of_a_cow_file_where_its_backing_file_has_a_hole() {
    let host = MemoryHost::new();
    host.file("disk", b"").set_len(Bytes(LEN)).unwrap();
    drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let written = vec![0xda; 512 << 10];
    let request = Request::write(Tag(0), Sector(64), written.clone());
    device.serve(request).unwrap();
    device.close().unwrap();

    let image = open_image(&host, Path::new("cow"), Format::Cow, Trust::Follow).unwrap();
    let mut watch = |_, _| ControlFlow::Continue(());
    to_raw(&host, &image, Path::new("raw"), &mut watch).unwrap();
    let mut expected = vec![0; LEN as usize];
    expected[64 * 512..][..written.len()].copy_from_slice(&written);
    assert!(host.contents("raw").unwrap() == expected);
}

/// A dirty run begins with data and ends with a hole, whether it is merged in one go or in many.
/// The hole is zeros in the backing file, too, where that had data.
#[test]
fn a_merge_makes_zeros_of_a_hole_at_the_end_of_a_range() {
    // Longer than what is read without a look for holes.
    let half = SectorCount(256);
    for at_once in [AtOnce::default(), AtOnce::of(Bytes(8192))] {
        let host = MemoryHost::new();
        let below = vec![0xb1; LEN as usize];
        host.file("disk", &below);
        drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
        let spec = "ubda=cow,disk".parse().unwrap();
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let (data, zeros) = (Sector(64), Sector(64) + half);
        let written = vec![0xda; half.bytes().0 as usize];
        let requests = [
            Request::write(Tag(0), data, written.clone()),
            Request::write_zeroes(Tag(1), zeros, half),
            Request::discard(Tag(2), zeros, half),
        ];
        for request in requests {
            device.serve(request).unwrap();
        }
        device.close().unwrap();

        let mut cow = open_both(&host, Path::new("cow"), Trust::Follow).unwrap();
        cow.at_once = at_once;
        let hole = cow.device.geometry().unwrap().place_of(zeros);
        let next = cow.device.cow().next_data(hole).unwrap();
        assert!(next.is_none_or(|next| next.start >= hole + half.bytes()));
        in_place(&host, &mut cow, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let mut expected = below;
        let (start, len) = (data.bytes().0 as usize, written.len());
        expected[start..start + len].copy_from_slice(&written);
        expected[start + len..start + 2 * len].fill(0);
        assert!(host.contents("disk").unwrap() == expected, "{at_once:?}");
    }
}
