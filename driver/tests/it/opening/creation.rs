//! A COW file that is not there is created: whole, or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use driver::cow::{Extension, ExtensionState, Geometry, Header};
use driver::host::{Access, HostError, HostNames, LockKind};
use driver::memory::MemoryHost;
use driver::open::{OpenError, OpenOptions, create, create_whole, temporary_name};
use driver::units::Bytes;

use super::{MTIME, bring_up, host, read, refused, refused_with, write};

#[test]
fn nothing_to_create_from() {
    assert_eq!(
        refused(&host(), "ubda=/cow"),
        "/cow: no such file; name the backing file to have it created"
    );
    assert_eq!(
        refused(&MemoryHost::new(), "ubda=/cow,/disk"),
        "/disk: opening the backing file: no such file or directory"
    );
    let host = host();
    host.add_directory("/images");
    assert_eq!(
        refused(&host, "ubda=/cow,/images"),
        "/images: found a directory, expected a regular file or a block device"
    );
    host.file("/other", &[0; 511]);
    assert_eq!(
        refused(&host, "ubda=/cow,/other"),
        "/other: found 511 bytes, a backing file needs at least a sector of 512 bytes"
    );
}

#[test]
fn what_is_only_read_is_not_created() {
    let missing = "/cow: opening: no such file or directory";
    assert_eq!(refused(&host(), "ubdar=/cow,/disk"), missing);
    assert_eq!(refused(&host(), "ubdad=/cow"), missing);
    let options = OpenOptions {
        create: false,
        ..OpenOptions::default()
    };
    assert_eq!(refused_with(&host(), "ubda=/cow,/disk", options), missing);
}

#[test]
fn a_created_file_is_complete() {
    let host = host();
    drop(bring_up(&host, "ubda=/cow,/disk"));
    let bytes = host.contents("/cow").unwrap();
    let header = Header::decode(&bytes[..4136]).unwrap();
    let expected = Header::v3(Path::new("/disk"), MTIME as u32, Bytes(32768), 1 << 20);
    assert_eq!(Ok(&header), expected.as_ref());
    let block = bytes[4128..4608].try_into().unwrap();
    let backing_size = Bytes(32768);
    let extension = Extension::new(backing_size);
    assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
    let geometry = Geometry::of(&header).unwrap();
    assert_eq!(bytes.len() as u64, geometry.data_end().0);
    assert!(bytes[4608..].iter().all(|&byte| byte == 0));
    assert_eq!(format!("{host:?}"), r#"{"/cow", "/disk"}"#);
    assert_eq!(read(&mut bring_up(&host, "ubda=/cow"), 62, 2), [62, 63]);
}

#[test]
fn what_a_crash_left_behind_is_replaced() {
    let host = host();
    let temporary = temporary_name(Path::new("/cow"));
    assert_eq!(temporary, Path::new("/.cow.ubdlab-new"));
    host.file(&temporary, &[0xff; 1 << 22]);
    let mut device = bring_up(&host, "ubda=/cow,/disk");
    assert_eq!(read(&mut device, 0, 2), [0, 1]);
    write(&mut device, 1, 200);
    device.close().unwrap();
    assert_eq!(format!("{host:?}"), r#"{"/cow", "/disk"}"#);
    assert_eq!(read(&mut bring_up(&host, "ubda=/cow"), 0, 3), [0, 200, 2]);
}

#[test]
fn what_another_is_just_creating_is_left_alone() {
    let host = host();
    let other = host.file("/.cow.ubdlab-new", b"half of a header");
    host.lock(&other, LockKind::Exclusive).unwrap();
    assert_eq!(
        refused(&host, "ubda=/cow,/disk"),
        "/.cow.ubdlab-new: locked: a running UML or another ubdlab has it open"
    );
}

/// The device would not come up, so nothing is created for it.
#[test]
fn a_backing_file_that_is_locked_for_writing_leaves_no_cow_file() {
    let host = host();
    let writer = host.open(Path::new("/disk"), Access::ReadWrite).unwrap();
    host.lock(&writer, LockKind::Exclusive).unwrap();
    assert_eq!(
        refused(&host, "ubda=/cow,/disk"),
        "/disk: locked: a running UML or another ubdlab has it open"
    );
}

#[test]
fn an_existing_file_is_never_replaced() {
    let host = host();
    host.file("/cow", b"precious");
    let error = create(&host, Path::new("/cow"), Path::new("/disk"), None);
    assert_eq!(
        error.map(drop).map_err(|error| error.to_string()),
        Err("/cow: creating: the file exists already".into())
    );
    assert_eq!(host.contents("/cow").unwrap(), b"precious");
    assert_eq!(host.contents("/.cow.ubdlab-new"), None);
}

#[test]
fn an_alignment_that_cannot_be() {
    let host = host();
    let error = create(&host, Path::new("/cow"), Path::new("/disk"), Some(384));
    assert_eq!(
        error.map(drop).map_err(|error| error.to_string()),
        Err("/cow: byte 24: found alignment 384, expected a positive multiple of 512".into())
    );
    assert_eq!(format!("{host:?}"), r#"{"/disk"}"#);
}

/// `images/cow` names its backing file from `images` on, as a reader will look for it.
#[test]
fn a_relative_backing_path_is_named_from_the_cow_files_directory() {
    let host = MemoryHost::new();
    host.file("images/disk", &[5; 1024]);
    drop(bring_up(&host, "ubda=images/cow,images/disk"));
    let bytes = host.contents("images/cow").unwrap();
    let header = Header::decode(&bytes[..4136]).unwrap();
    assert_eq!(header.backing_path(), Path::new("disk"));
    assert_eq!(read(&mut bring_up(&host, "ubda=images/cow"), 1, 1), [5]);
}

/// Where only the host could tell how to get from here to there, the user has to say it.
#[test]
fn a_relative_backing_path_beside_an_absolute_cow_file_is_refused() {
    let host = MemoryHost::new();
    host.file("disk", &[5; 1024]);
    assert_eq!(
        refused(&host, "ubda=/images/cow,disk"),
        "/images/cow: no relative path from its directory to the backing file disk is known: \
         give an absolute one"
    );
}

/// Without this a header anybody wrote could show a terminal whatever it likes.
#[test]
fn control_characters_in_a_name_are_escaped() {
    let error = OpenError::NothingToCreateFrom {
        path: "a\u{1b}[2J".into(),
    };
    assert!(error.to_string().starts_with("a\\u{1b}[2J: "));
}

/// Neither an error nor a panic of whoever fills the file leaves it behind.
#[test]
fn what_cannot_be_filled_is_not_left_behind() {
    let host = host();
    let temporary = temporary_name(Path::new("/new"));
    let left = || host.open(&temporary, Access::ReadOnly).map(drop);
    let error = create_whole(&host, Path::new("/new"), &[], |_| {
        assert_eq!(left(), Ok(()));
        Err(OpenError::NothingToCreateFrom {
            path: "/new".into(),
        })
    });
    assert!(error.is_err());
    assert_eq!(left(), Err(HostError::NotFound));
    let panics =
        || create_whole::<_, OpenError>(&host, Path::new("/new"), &[], |_| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(left(), Err(HostError::NotFound));
    create_whole::<_, OpenError>(&host, Path::new("/new"), &[], |_| Ok(())).unwrap();
    assert_eq!(left(), Err(HostError::NotFound));
}
