//! What is a hole in one file of an image says nothing about the other.

use std::ops::ControlFlow;
use std::path::Path;

use driver::blk::{Request, Tag};
use driver::driver::Driver;
use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, create, open};
use driver::units::{Bytes, Sector};
use userhelper::image::convert::to_raw;
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
