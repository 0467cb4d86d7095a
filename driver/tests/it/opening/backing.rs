//! Backing files that are not what the header says, or not to be followed.

use driver::cow::PagesAtOnce;
use driver::host::{Access, HostNames, LockKind};
use driver::open::{OpenOptions, Trust, reopen_backing};
use std::path::Path;

use super::{MTIME, bring_up, host_with, patched, read, refused, refused_with, v3, whole, write};

const CONFINED: OpenOptions = OpenOptions {
    create: true,
    switch_backing: false,
    trust: Trust::Confine,
    without_backing: false,
    writable_backing: false,
    instead: None,
    pages_at_once: PagesAtOnce::USUAL,
    backing_is_raw: false,
};

const SWITCH: OpenOptions = OpenOptions {
    trust: Trust::Follow,
    switch_backing: true,
    ..CONFINED
};

/// A V3 file over this backing path.
fn naming(path: &str) -> Vec<u8> {
    let mut field = [0; 4096];
    field[..path.len()].copy_from_slice(path.as_bytes());
    patched(v3(), 32, &field)
}

#[test]
fn a_backing_file_that_is_not_there() {
    let host = host_with(&v3());
    host.remove(Path::new("/disk")).unwrap();
    let missing = "/disk: opening the backing file: no such file or directory";
    assert_eq!(refused(&host, "ubda=/cow"), missing);
    assert_eq!(refused(&host, "ubda=/cow,/disk"), missing);
}

#[test]
fn a_backing_file_of_another_size() {
    let host = host_with(&v3());
    let content = host.contents("/disk").unwrap();
    for len in [32767, 32256, 0] {
        host.file("/disk", &content[..len]);
        host.set_modified("/disk", MTIME).unwrap();
        assert_eq!(
            refused(&host, "ubda=/cow"),
            format!("/disk: found {len} bytes, but the COW file /cow was made for 32768 bytes")
        );
    }
}

#[test]
fn a_backing_file_that_was_modified() {
    let host = host_with(&v3());
    host.set_modified("/disk", MTIME + 1).unwrap();
    for spec in ["ubda=/cow", "ubda=/cow,/disk", "ubdar=/cow"] {
        assert_eq!(
            refused(&host, spec),
            "/disk: modified at 1060000001, but the COW file /cow was made for the content of \
             1060000000 (seconds since 1970: 2003-08-04 12:26:41 and 2003-08-04 12:26:40 UTC). If \
             nothing but its time has changed, `touch -d @1060000000 /disk` sets that back. If it \
             is another file with the same content, `ubdlab image rebase /cow --backing /disk \
             --unsafe` takes it. Where the content has changed, both are wrong: the file system \
             on the disk would be damaged"
        );
    }
}

#[test]
fn a_directory_is_no_backing_file() {
    let host = host_with(&naming("/images"));
    host.add_directory("/images");
    assert_eq!(
        refused(&host, "ubda=/cow"),
        "/images: found a directory, expected a regular file or a block device"
    );
}

/// By its name in the header, on the command line, or by another name.
#[test]
fn the_cow_file_does_not_back_itself() {
    for (named, spec, shown) in [
        ("/cow", "ubda=/cow", "/cow"),
        ("/disk", "ubda=/cow,/cow", "/cow"),
        ("/./cow", "ubda=/cow", "/./cow"),
        ("cow", "ubdac=/cow", "/cow"),
    ] {
        assert_eq!(
            refused(&host_with(&naming(named)), spec),
            format!("/cow: its backing file {shown} is the COW file itself")
        );
    }
}

#[test]
fn a_path_that_leads_outside_is_not_followed_where_that_is_asked_for() {
    for path in [
        "../disk",
        "/elsewhere/disk",
        "sub/../../disk",
        "/images/../disk",
    ] {
        let host = driver::memory::MemoryHost::new();
        host.file("/images/cow", &naming(path));
        assert_eq!(
            refused_with(&host, "ubda=/images/cow", CONFINED),
            format!(
                "/images/cow: byte 32: the backing path {path} leads outside the COW file's \
                 directory, where --confine-backing does not follow it"
            )
        );
    }
    // Every layout says where its path is.
    let wide = whole(
        include_bytes!("../../golden/v3-64-bit.bin"),
        36,
        4096,
        12288,
    );
    let host = driver::memory::MemoryHost::new();
    host.file("/images/cow", &wide);
    assert_eq!(
        refused_with(&host, "ubda=/images/cow", CONFINED),
        "/images/cow: byte 36: the backing path /disk leads outside the COW file's directory, \
         where --confine-backing does not follow it"
    );
}

/// A host with `/disk` and its copy `/images/disk`, and a COW file `/images/cow` over this path.
fn images(path: &str) -> driver::memory::MemoryHost {
    let host = host_with(b"");
    host.file("/images/cow", &naming(path));
    host.file("/images/disk", &host.contents("/disk").unwrap());
    host.set_modified("/images/disk", MTIME).unwrap();
    host
}

#[test]
fn a_path_that_stays_inside_is_followed() {
    for options in [CONFINED, GUESSED] {
        for path in ["disk", "./disk", "/images/disk", "/images/./disk"] {
            super::try_open(&images(path), "ubda=/images/cow", options).unwrap();
        }
        // The command line is the user's own word.
        super::try_open(&images("/disk"), "ubda=/images/cow,/disk", options).unwrap();
    }
}

const GUESSED: OpenOptions = OpenOptions {
    trust: Trust::Guessed,
    ..CONFINED
};

/// A guest can write a header to its raw disk.
#[test]
fn a_guessed_cow_file_says_what_it_names_and_both_ways_out() {
    let message = |path: &str, why: &str| {
        format!(
            "/images/cow: byte 32: begins like a COW file, and its header names the backing path \
             {path}, which {why}. It is not opened: nobody has said that this is a COW file, and a \
             guest can write such a header to its raw disk. --format cow if it is a COW file that \
             you trust, --format raw if it is the raw disk of a guest"
        )
    };
    for path in ["/disk", "../disk", "x/../../disk"] {
        assert_eq!(
            refused_with(&images(path), "ubda=/images/cow", GUESSED),
            message(path, "leads outside the COW file's directory")
        );
    }
    // What the block says then can be made to fit many a file.
    let host = images("disk");
    let changing = driver::cow::Extension {
        change: Some(driver::cow::BackingChange::default()),
        ..driver::cow::Extension::new(driver::units::Bytes(32768))
    };
    let bytes = patched(naming("disk"), 4128, &changing.encode());
    host.file("/images/cow", &bytes);
    assert_eq!(
        refused_with(&host, "ubda=/images/cow", GUESSED),
        message(
            "disk",
            "cannot be checked while a change of that file is recorded"
        )
    );
}

/// A tool that reads the backing file beside the device gets the one that the device has.
#[test]
fn a_backing_file_that_is_opened_again_is_still_that_one() {
    for trust in [Trust::Follow, Trust::Confine, Trust::Guessed] {
        for spec in ["ubda=/images/cow", "ubda=/images/cow,/images/disk"] {
            let host = images("disk");
            let device = bring_up(&host, spec);
            let spec = spec.parse().unwrap();
            let again = || reopen_backing(&host, &spec, trust, &device);
            assert!(again().unwrap().is_some());
            host.file("/images/disk", &host.contents("/disk").unwrap());
            assert_eq!(
                again().map(drop).unwrap_err().to_string(),
                "/images/disk: replaced or removed by another process while it was opened: try again"
            );
        }
    }
    let host = host_with(b"");
    let (spec, raw) = (
        "ubdad=/disk".parse().unwrap(),
        bring_up(&host, "ubdad=/disk"),
    );
    assert!(
        reopen_backing(&host, &spec, Trust::Follow, &raw)
            .unwrap()
            .is_none()
    );
}

#[test]
fn files_that_others_use() {
    let host = host_with(&v3());
    let locked = |path: &str, kind| {
        let file = host.open(Path::new(path), Access::ReadWrite).unwrap();
        host.lock(&file, kind).unwrap();
        file
    };
    let other = locked("/cow", LockKind::Shared);
    let message = "/cow: locked: a running UML or another ubdlab has it open";
    assert_eq!(refused(&host, "ubda=/cow"), message);
    assert_eq!(refused(&host, "ubdad=/cow"), message);
    bring_up(&host, "ubdar=/cow");
    bring_up(&host, "ubdac=/cow");
    drop(other);
    let writer = locked("/disk", LockKind::Exclusive);
    assert_eq!(
        refused(&host, "ubda=/cow"),
        "/disk: locked: a running UML or another ubdlab has it open"
    );
    drop(writer);
    let _reader = locked("/disk", LockKind::Shared);
    let first = bring_up(&host, "ubda=/cow");
    assert_eq!(refused(&host, "ubda=/cow"), message);
    drop(first);
}

/// A host with a copy of the backing file, made a second later.
fn host_with_copy() -> driver::memory::MemoryHost {
    let host = host_with(&v3());
    host.file("/other", &host.contents("/disk").unwrap());
    host.set_modified("/other", MTIME + 1).unwrap();
    host
}

#[test]
fn another_backing_file_is_taken_only_when_the_switch_is_asked_for() {
    let host = host_with_copy();
    assert_eq!(
        refused(&host, "ubda=/cow,/other"),
        "/cow: its header names the backing file /disk, /other was asked for: \
         --switch-backing writes it into the header"
    );
    let before = host.contents("/cow").unwrap();
    let opened = super::try_open(&host, "ubda=/cow,/other", SWITCH).unwrap();
    drop(opened);
    // It is in the header now, and nothing else has changed.
    host.remove(Path::new("/disk")).unwrap();
    let mut device = bring_up(&host, "ubda=/cow");
    assert_eq!(read(&mut device, 0, 3), [0, 129, 2]);
    let mut expected = naming("/other");
    expected[8..12].copy_from_slice(&1_060_000_001_u32.to_be_bytes());
    assert!(host.contents("/cow").unwrap() == expected);
    assert!(before != expected);
}

/// Linux writes a V3 header over the bitmap of an old file.
#[test]
fn a_switch_keeps_the_layout_of_an_old_file() {
    let v1 = include_bytes!("../../golden/v1-big-endian.bin");
    let host = host_with_copy();
    host.file("/cow", &whole(v1, 8, 256, 512));
    drop(super::try_open(&host, "ubda=/cow,/other", SWITCH).unwrap());
    let mut device = bring_up(&host, "ubda=/cow");
    assert_eq!(read(&mut device, 0, 3), [0, 129, 2]);
    let long = format!("/{}", "x".repeat(255));
    host.file(&long, &host.contents("/disk").unwrap());
    drop(device);
    assert_eq!(
        refused_with(&host, &format!("ubda=/cow,{long}"), SWITCH),
        "/cow: byte 8: the path of the backing file is longer than its field"
    );
}

/// Without the record that ubdlab makes: what fits neither file can be switched again.
#[test]
fn a_switch_of_others_that_was_cut_short_is_completed_by_asking_again() {
    let v2 = whole(include_bytes!("../../golden/v2.bin"), 8, 4096, 4608);
    let host = host_with_copy();
    host.file("/cow", &patched(v2, 4104, &1_060_000_001_u32.to_be_bytes()));
    let refused = refused(&host, "ubda=/cow");
    assert!(
        refused.starts_with(
            "/disk: modified at 1060000000, but the COW file /cow was made for the content of \
             1060000001 (seconds since 1970: 2003-08-04 12:26:40 and 2003-08-04 12:26:41 UTC). "
        ),
        "{refused}"
    );
    drop(super::try_open(&host, "ubda=/cow,/other", SWITCH).unwrap());
    assert_eq!(read(&mut bring_up(&host, "ubda=/cow"), 0, 3), [0, 129, 2]);
}

#[test]
fn a_switch_to_a_file_of_another_size_is_refused() {
    let host = host_with_copy();
    host.file("/other", &[1; 512]);
    assert_eq!(
        refused_with(&host, "ubda=/cow,/other", SWITCH),
        "/other: found 512 bytes, but the COW file /cow was made for 32768 bytes"
    );
}

/// After a grow the header's size is the device's, and the extension block has the backing
/// file's. A backing file extended with its device is good too.
#[test]
fn the_extension_block_says_which_size_the_backing_file_has() {
    let extension = driver::cow::Extension::new(driver::units::Bytes(16384));
    let mut bytes = patched(v3(), 4128, &extension.encode());
    let host = host_with(&bytes);
    bring_up(&host, "ubda=/cow");
    let content = host.contents("/disk").unwrap();
    host.file("/disk", &content[..16384]);
    host.set_modified("/disk", MTIME).unwrap();
    let mut device = bring_up(&host, "ubda=/cow");
    assert_eq!(read(&mut device, 31, 1), [31]);
    assert_eq!(write(&mut device, 40, 240), driver::blk::Status::Ok);
    drop(device);
    host.file("/disk", &content[..24576]);
    host.set_modified("/disk", MTIME).unwrap();
    assert_eq!(
        refused(&host, "ubda=/cow"),
        "/disk: found 24576 bytes, but the COW file /cow was made for 16384 bytes"
    );
    // A block that is spoilt counts as none.
    bytes[4128 + 20] ^= 1;
    host.file("/cow", &bytes);
    assert_eq!(
        refused(&host, "ubda=/cow"),
        "/disk: found 24576 bytes, but the COW file /cow was made for 32768 bytes"
    );
}
