//! What a repair and a recovery mend, on a file as an interruption left it, and which backing file
//! they take for the right one.

use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::{Extension, Geometry, Header};
use driver::memory::MemoryHost;
use driver::units::Bytes;
use userhelper::image::check::{Fault, check_and_repair};
use userhelper::image::open::{Format, Trust};
use userhelper::image::recover::recover;

use crate::exercise::{BACKING, COW, SIZE, image};

const MTIME: i64 = 1_060_000_000;

/// The size of a device whose sectors are no multiple of eight.
const ODD: u64 = 61 * 512;

fn header(size: u64) -> Header {
    Header::v3(Path::new(BACKING), MTIME as u32, Bytes(size), 4096).unwrap()
}

/// A host with this COW file, over a backing file of this length and time.
fn host(cow: &[u8], len: u64, mtime: i64) -> MemoryHost {
    let host = MemoryHost::new();
    host.file(COW, cow);
    host.file(BACKING, &vec![5; len as usize]);
    host.set_modified(BACKING, mtime).unwrap();
    host
}

/// A grow within the headroom that was cut off before its header has written bits of sectors that
/// the device does not have, and has made the file longer. A recovery takes both back.
#[test]
fn what_a_headroom_resize_left_is_settled_by_a_recovery() {
    let (header, path) = (header(ODD), Path::new(COW));
    let right = image(&header, &[(3, 2)]);
    let geometry = Geometry::of(&header).unwrap();
    let end = geometry.bitmap().end().0 as usize;
    let is_settled = |left: &[u8], was_left: bool| {
        let host = host(left, SIZE, MTIME);
        let mut go_on = |_, _| ControlFlow::Continue(());
        let recovered = recover(&host, path, Format::Cow, Trust::Follow, &mut go_on).unwrap();
        assert_eq!(recovered.past_end, was_left);
        assert!(host.contents(COW).unwrap() == right);
    };
    is_settled(&right, false);
    // Sectors 56 to 60 have their bits in the last byte.
    let (mut bit, mut next_byte, mut longer) = (right.clone(), right.clone(), right.clone());
    bit[end - 1] |= 1 << 5;
    next_byte[end] = 0xff;
    longer.resize(right.len() + 4096, 0);
    let mut all = next_byte.clone();
    all[end - 1] |= 7 << 5;
    all.resize(right.len() + 512, 0);
    for left in [bit, next_byte, longer, all] {
        is_settled(&left, true);
    }
}

/// A damaged extension block is written anew where the backing file is the one that the header
/// names, as it was: its size is what the block said. Of any other file nobody knows that.
#[test]
fn a_block_is_not_mended_with_another_backing_file() {
    let (header, path) = (header(SIZE), Path::new(COW));
    let at = Extension::OFFSET.0 as usize;
    let block = Extension::new(Bytes(SIZE)).encode();
    let right = image(&header, &[(3, 2)]);
    assert!(right[at..].starts_with(&block));
    let mut damaged = right.clone();
    damaged[at + 12] ^= 0xff;
    let mend = |host: &MemoryHost| {
        let mut go_on = |_, _| ControlFlow::Continue(());
        check_and_repair(host, path, Trust::Follow, &mut go_on).unwrap()
    };
    let same = host(&damaged, SIZE, MTIME);
    assert_eq!(mend(&same).repaired[0].fault, Fault::DamagedExtension);
    assert!(same.contents(COW).unwrap() == right);
    let missing = MemoryHost::new();
    missing.file(COW, &damaged);
    for other in [
        host(&damaged, SIZE, MTIME + 1),
        host(&damaged, SIZE - 512, MTIME),
        host(&damaged, 2 * SIZE, MTIME),
        missing,
    ] {
        let checked = mend(&other);
        assert_eq!(checked.repaired, []);
        assert_eq!(checked.findings[0].fault, Fault::LostExtension);
        assert!(other.contents(COW).unwrap() == damaged, "it was changed");
    }
}

/// A repair of what has nothing to do with the backing file leaves the one that is named as it is,
/// also where that is another one by now.
#[test]
fn a_repair_leaves_the_backing_file_that_is_named() {
    let (header, path) = (header(ODD), Path::new(COW));
    let right = image(&header, &[(3, 2)]);
    let end = Geometry::of(&header).unwrap().bitmap().end().0 as usize;
    let mut left = right.clone();
    left[end] = 1;
    for (len, mtime, expected) in [
        (SIZE, MTIME, None),
        (SIZE, MTIME + 1, Some(Fault::BackingChanged)),
        (SIZE + 512, MTIME, Some(Fault::BackingChanged)),
    ] {
        let host = host(&left, len, mtime);
        let mut go_on = |_, _| ControlFlow::Continue(());
        let checked = check_and_repair(&host, path, Trust::Follow, &mut go_on).unwrap();
        let faults: Vec<Fault> = checked.findings.iter().map(|found| found.fault).collect();
        assert_eq!(faults, Vec::from_iter(expected));
        assert_eq!(checked.repaired[0].fault, Fault::BitsPastEnd);
        assert!(host.contents(COW).unwrap() == right);
        assert!(host.contents(BACKING).unwrap() == vec![5; len as usize]);
    }
}
