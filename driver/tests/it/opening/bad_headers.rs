//! COW files with a wrong header, or cut short.

use driver::open::OpenOptions;

use super::{bring_up, host_with, patched, refused, refused_with, try_open, v3, whole};

fn message(cow: &[u8]) -> String {
    refused(&host_with(cow), "ubda=/cow,/disk")
}

#[test]
fn a_file_that_is_shorter_than_its_header() {
    for (len, expected) in [(0, 8), (7, 8), (100, 4128), (4127, 4128)] {
        assert_eq!(
            message(&v3()[..len]),
            format!("/cow: byte {len}: the file ends here, its header needs {expected} bytes")
        );
    }
    let v1 = include_bytes!("../../golden/v1-little-endian.bin");
    assert_eq!(
        message(&v1[..279]),
        "/cow: byte 279: the file ends here, its header needs 280 bytes"
    );
}

#[test]
fn fields_that_cannot_be() {
    let sizes = "expected from 512 to 9223372036854775807";
    for (at, bytes, expected) in [
        (
            0,
            b"QFI\xfb".as_slice(),
            "byte 0: found magic 0x514649fb, expected 0x4f4f4f4d: not a COW file".to_owned(),
        ),
        (
            4,
            &[0, 0, 0, 4],
            "byte 4: found version 4, expected 1, 2 or 3".into(),
        ),
        (
            4,
            &[0; 4],
            "byte 4: found version 0, expected 1, 2 or 3".into(),
        ),
        (
            24,
            &[0; 4],
            "byte 24: found alignment 0, expected a positive multiple of 512".into(),
        ),
        (
            24,
            &[0, 0, 0, 3],
            "byte 24: found alignment 3, expected a positive multiple of 512".into(),
        ),
        (
            24,
            &384_u32.to_be_bytes(),
            "byte 24: found alignment 384, expected a positive multiple of 512".into(),
        ),
        (
            20,
            &[0; 4],
            "byte 20: found sector size 0, expected 512".into(),
        ),
        (
            20,
            &511_u32.to_be_bytes(),
            "byte 20: found sector size 511, expected 512".into(),
        ),
        (
            20,
            &4096_u32.to_be_bytes(),
            "byte 20: found sector size 4096, expected 512".into(),
        ),
        (
            28,
            &[0, 0, 0, 1],
            "byte 28: found COW format 1, expected 0 (bitmap)".into(),
        ),
        (
            12,
            &0_u64.to_be_bytes(),
            format!("byte 12: found device size 0 bytes, {sizes}"),
        ),
        (
            12,
            &511_u64.to_be_bytes(),
            format!("byte 12: found device size 511 bytes, {sizes}"),
        ),
        (
            12,
            &(1_u64 << 63).to_be_bytes(),
            format!("byte 12: found device size 9223372036854775808 bytes, {sizes}"),
        ),
    ] {
        let message = message(&patched(v3(), at, bytes));
        assert_eq!(message, format!("/cow: {expected}"));
    }
}

#[test]
fn sizes_that_no_file_has_room_for() {
    for size in [u64::MAX, (1 << 63) - 1] {
        assert_eq!(
            message(&patched(v3(), 12, &size.to_be_bytes())),
            "/cow: byte 12: a device of 9223372036854775807 bytes aligned to 4096 bytes \
             needs a COW file of more than 9223372036854775807 bytes"
        );
    }
    // In the other layouts the highest bit is no mark.
    let v2 = whole(include_bytes!("../../golden/v2.bin"), 8, 4096, 4608);
    assert_eq!(
        message(&patched(v2, 4108, &u64::MAX.to_be_bytes())),
        "/cow: byte 4108: found device size 18446744073709551615 bytes, \
         expected from 512 to 9223372036854775807"
    );
}

/// Nothing is allocated for a size that the file is not long enough for.
#[test]
fn a_huge_size_in_a_short_file() {
    assert_eq!(
        message(&patched(v3(), 12, &(1_u64 << 60).to_be_bytes())),
        "/cow: byte 45056: the file ends here, \
         its bitmap goes on up to byte 281474976718848"
    );
}

/// In the wide layout, the format has the place where V3 has its path.
#[test]
fn paths_that_are_none() {
    let endless = patched(v3(), 32, &[b'a'; 4096]);
    assert_eq!(
        message(&endless),
        "/cow: byte 32: the path of the backing file has no NUL at its end"
    );
    let empty = patched(v3(), 32, &[0; 4096]);
    assert_eq!(
        message(&empty),
        "/cow: byte 32: the path of the backing file is empty"
    );
    let wide = whole(
        include_bytes!("../../golden/v3-64-bit.bin"),
        36,
        4096,
        12288,
    );
    assert_eq!(
        message(&patched(wide, 36, &[0; 4096])),
        "/cow: byte 36: the path of the backing file is empty"
    );
}

#[test]
fn a_bitmap_or_data_cut_short() {
    assert_eq!(
        message(&v3()[..8199]),
        "/cow: byte 8199: the file ends here, its bitmap goes on up to byte 8200"
    );
    // Sector 63 is dirty, and not all there: the next write would fill it with a hole.
    assert_eq!(
        message(&v3()[..45055]),
        "/cow: byte 45055: the file ends here, its data goes on up to byte 45056"
    );
    // Nothing is missing where nothing is dirty.
    let clean = patched(v3(), 8192, &[0; 8]);
    bring_up(&host_with(&clean[..8200]), "ubda=/cow,/disk");
}

#[test]
fn an_unreadable_cow_file_is_a_raw_disk_only_with_the_flag_d() {
    let host = host_with(&[7; 1024]);
    let foreign = "/cow: byte 0: found magic 0x07070707, expected 0x4f4f4f4d: not a COW file";
    for spec in ["ubda=/cow", "ubda=/cow,/disk", "ubdar=/cow", "ubdac=/cow"] {
        assert_eq!(refused(&host, spec), foreign);
    }
    let mut raw = bring_up(&host, "ubdad=/cow");
    assert_eq!(super::read(&mut raw, 0, 2), [7, 7]);
    drop(raw);
    assert_eq!(
        refused(&host, "ubdad=/cow,/disk"),
        "/cow: the flag d says that it is a raw disk, which has no backing file, \
         but /disk is named as one"
    );
}

#[test]
fn a_directory_is_no_cow_file() {
    let host = host_with(&v3());
    host.add_directory("/images");
    assert_eq!(
        refused(&host, "ubdar=/images,/disk"),
        "/images: found a directory, expected a regular file or a block device"
    );
    assert_eq!(
        refused(&host, "ubda=/images,/disk"),
        "/images: opening: is a directory"
    );
}

/// No option makes a wrong header right.
#[test]
fn without_the_backing_file_the_header_is_checked_just_so() {
    let options = OpenOptions {
        without_backing: true,
        ..OpenOptions::default()
    };
    let host = host_with(&patched(v3(), 24, &[0; 4]));
    assert_eq!(
        refused_with(&host, "ubda=/cow", options),
        "/cow: byte 24: found alignment 0, expected a positive multiple of 512"
    );
}

/// Without the backing file nobody could tell whether the header's size is its own.
#[test]
fn a_damaged_extension_block_counts_when_the_backing_file_is_not_there() {
    let extension = driver::cow::Extension::new(driver::units::Bytes(32768));
    let mut block = extension.encode();
    block[20] ^= 1;
    let host = host_with(&patched(v3(), 4128, &block));
    let options = OpenOptions {
        without_backing: true,
        ..OpenOptions::default()
    };
    assert_eq!(
        refused_with(&host, "ubda=/cow", options),
        "/cow: byte 4128: found an extension block with a wrong checksum or version"
    );
    try_open(&host, "ubda=/cow", OpenOptions::default()).unwrap();
}
