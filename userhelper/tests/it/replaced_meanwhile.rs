//! Names that stand for another file when they are opened once more.

use std::path::Path;

use driver::cow::Header;
use driver::memory::MemoryHost;
use driver::units::Bytes;
use userhelper::image::convert::{CowVersion, to_cow};
use userhelper::image::open::{Format, Image, Trust, open_image};

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
