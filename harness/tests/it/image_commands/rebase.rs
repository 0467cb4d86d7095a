//! `rebase`: another backing file under the same disk.

use std::fs::{File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use driver::cow::Version;

use crate::support::cli::{SIZE, Sandbox, side_by_side};
use crate::support::images::{SOME, VERSIONS, blocks_of, header, name_of, read};

/// As [`Sandbox::with_images`], with `other`: a backing file in which some sectors differ.
fn with_other() -> Sandbox {
    let sandbox = Sandbox::with_images();
    let mut other = sandbox.read("backing");
    for sector in [0, 1, 500, 501, 2046] {
        other[sector * 512] ^= 0xff;
    }
    sandbox.write("other", other);
    sandbox
}

/// The header names `backing` with its size and time.
fn is_over(sandbox: &Sandbox, cow: &str, backing: &str) {
    let path = sandbox.path(backing);
    let metadata = std::fs::metadata(&path).unwrap();
    let bytes = sandbox.read(cow);
    let reader = read(&bytes);
    assert_eq!(reader.header.path, path.as_os_str().as_encoded_bytes());
    assert_eq!(i64::from(reader.header.time), metadata.mtime());
    sandbox.succeeds(&["image", "check", &format!("@{cow}")]);
}

#[test]
fn the_disk_stays_what_it_is() {
    let sandbox = with_other();
    let expected = sandbox.disk("v3", "backing");
    for version in VERSIONS {
        let name = name_of(version);
        let said = sandbox.succeeds(&[
            "image",
            "rebase",
            &format!("@{name}"),
            "--backing",
            "@other",
        ]);
        // Three whole blocks, without the two sectors of them that were dirty already.
        assert_eq!(
            said,
            format!("@{name}: over @other now, 11 KiB copied in\n")
        );
        assert!(sandbox.disk(name, "other") == expected, "{version}");
        let mut dirty = blocks_of(&[0, 500, 2046]);
        dirty.extend(SOME);
        dirty.sort();
        dirty.dedup();
        assert_eq!(read(&sandbox.read(name)).dirty(), dirty);
        is_over(&sandbox, name, "other");
        // And back: what was copied in stays.
        sandbox.succeeds(&[
            "image",
            "rebase",
            &format!("@{name}"),
            "--backing",
            "@backing",
        ]);
        assert!(sandbox.disk(name, "backing") == expected, "{version}");
    }
}

/// Smaller or larger than the device: what lies past its end is in the COW file then.
#[test]
fn a_backing_file_of_another_size() {
    for size in [512, SIZE / 2, SIZE - 512, SIZE + 4096] {
        let sandbox = Sandbox::with_images();
        sandbox.write_backing("other", size);
        let expected = sandbox.disk("v3", "backing");
        sandbox.succeeds(&["image", "rebase", "@v3", "--backing", "@other"]);
        let other = sandbox.read("other");
        let seen = &other[..other.len().min(SIZE as usize)];
        assert!(read(&sandbox.read("v3")).disk(seen) == expected, "{size}");
        sandbox.succeeds(&["image", "check", "@v3"]);
        sandbox.succeeds(&["image", "merge", "@v3", "@merged"]);
        assert!(sandbox.read("merged") == expected);
        let before = sandbox.read("v2");
        let way_out = match size > SIZE {
            true => {
                ". If this one was made longer, a copy of it, COPY, that is cut to the size \
                 expected makes an image of version 3: ubdlab image convert -f cow COW NEW --to v3 \
                 --source-backing COPY; then NEW takes this one: ubdlab image rebase NEW --backing \
                 BACKING --unsafe"
            }
            false => "",
        };
        sandbox.refuses(
            &["image", "rebase", "@v2", "--backing", "@other"],
            &format!(
                "@other: found {size} bytes, expected {SIZE} bytes: a COW file before version 3 is \
                 as large as its backing file{way_out}"
            ),
        );
        assert!(sandbox.read("v2") == before);
    }
}

/// With `--unsafe` nothing but the header is written, and the old backing file need not be there.
#[test]
fn unsafely_for_a_file_that_was_moved() {
    for version in VERSIONS {
        let sandbox = Sandbox::with_images();
        let expected = sandbox.disk("v3", "backing");
        let name = name_of(version);
        std::fs::create_dir(sandbox.path("moved")).unwrap();
        std::fs::rename(sandbox.path("backing"), sandbox.path("moved/backing")).unwrap();
        let path = sandbox.path("moved/backing");
        let file = File::options().write(true).open(path).unwrap();
        let touched = UNIX_EPOCH + Duration::from_secs(1_060_000_000);
        file.set_times(FileTimes::new().set_modified(touched))
            .unwrap();
        let before = sandbox.read(name);
        let args = [
            "image",
            "rebase",
            &format!("@{name}"),
            "--backing",
            "@moved/backing",
        ];
        assert_eq!(sandbox.run(&args).status.code(), Some(3));
        assert!(sandbox.read(name) == before);
        let said = sandbox.succeeds(&[&args[..], &["--unsafe"]].concat());
        assert_eq!(
            said,
            format!("@{name}: over @moved/backing now, 0 bytes copied in\n")
        );
        is_over(&sandbox, name, "moved/backing");
        assert!(sandbox.disk(name, "moved/backing") == expected, "{version}");
        // After the header's block nothing was touched.
        assert!(sandbox.read(name)[5632..] == before[5632..]);
    }
}

/// A file that was touched: the same path, another time.
#[test]
fn unsafely_over_the_same_file() {
    let sandbox = Sandbox::with_images();
    sandbox.patch("v3", 8, &1_060_000_000_u32.to_be_bytes());
    assert_eq!(
        sandbox.run(&["image", "check", "@v3"]).status.code(),
        Some(2)
    );
    sandbox.succeeds(&[
        "image",
        "rebase",
        "@v3",
        "--backing",
        "@backing",
        "--unsafe",
    ]);
    is_over(&sandbox, "v3", "backing");
}

/// A file of version 2 knows its backing file by its own size. The way of docs/images.md.
#[test]
fn an_old_image_is_taken_along_after_its_backing_file_was_extended() {
    let sandbox = Sandbox::with_images();
    let mut expected = sandbox.disk("v2", "backing");
    expected.resize(2 * SIZE as usize, 0);
    let set_len = |name: &str, len: u64| {
        let file = File::options().write(true).open(sandbox.path(name));
        file.unwrap().set_len(len).unwrap();
    };
    set_len("backing", 2 * SIZE);
    let rebase = |cow: &'static str| ["image", "rebase", cow, "--backing", "@backing", "--unsafe"];
    sandbox.refuses(
        &rebase("@v2"),
        "@backing: found 2097152 bytes, expected 1048576 bytes: a COW file before version 3 is as \
         large as its backing file. If this one was made longer, a copy of it, COPY, that is cut \
         to the size expected makes an image of version 3: ubdlab image convert -f cow COW NEW \
         --to v3 --source-backing COPY; then NEW takes this one: ubdlab image rebase NEW --backing \
         BACKING --unsafe",
    );
    std::fs::copy(sandbox.path("backing"), sandbox.path("copy")).unwrap();
    set_len("copy", SIZE);
    let convert = ["image", "convert", "-f", "cow", "@v2", "@new", "--to", "v3"];
    sandbox.succeeds(&[&convert[..], &["--source-backing", "@copy"]].concat());
    sandbox.succeeds(&rebase("@new"));
    std::fs::remove_file(sandbox.path("copy")).unwrap();
    sandbox.succeeds(&["image", "resize", "@new", "2M"]);
    assert!(sandbox.disk("new", "backing") == expected);
    is_over(&sandbox, "new", "backing");
}

/// The extension of a backing file that was interrupted, after which it moved.
#[test]
fn unsafely_ends_what_was_interrupted() {
    let sandbox = with_other();
    sandbox.begin_merge("v3");
    sandbox.refuses(
        &["image", "rebase", "@v3", "--backing", "@other"],
        "@v3: an interrupted change of the backing file has to be finished first: ubdlab image \
         recover @v3",
    );
    sandbox.succeeds(&[
        "image",
        "rebase",
        "@v3",
        "--backing",
        "@backing",
        "--unsafe",
    ]);
    is_over(&sandbox, "v3", "backing");
}

#[test]
fn a_path_of_any_length_that_fits() {
    for version in VERSIONS {
        let sandbox = with_other();
        let expected = sandbox.disk("v3", "backing");
        let name = name_of(version);
        // Of 256 bytes in V1, and a name has at most 255: more than a sector in the others.
        let parts = if version == Version::V1 { 1 } else { 4 };
        let mut long = sandbox.path("");
        for _ in 0..parts {
            long.push("d".repeat(if version == Version::V1 { 150 } else { 200 }));
        }
        std::fs::create_dir_all(&long).unwrap();
        long.push("other");
        std::fs::rename(sandbox.path("other"), &long).unwrap();
        let relative = long
            .strip_prefix(sandbox.path(""))
            .unwrap()
            .to_str()
            .unwrap();
        let args = ["image", "rebase", &format!("@{name}"), "--backing"];
        sandbox.succeeds(&[&args[..], &[&format!("@{relative}")]].concat());
        is_over(&sandbox, name, relative);
        assert!(sandbox.disk(name, relative) == expected, "{version}");
    }
}

#[test]
fn files_that_cannot_back_it() {
    side_by_side(&[&[][..], &["--unsafe"]], |more| are_refused(more));
}

/// Such files are refused with these options too.
fn are_refused(more: &[&str]) {
    let sandbox = with_other();
    let refused = |backing: &str, message: &str| {
        let args = ["image", "rebase", "@v3", "--backing", backing];
        sandbox.refuses(&[&args[..], more].concat(), message);
    };
    refused("@v3", "@v3: its backing file @v3 is the COW file itself");
    refused(
        "@none",
        "@none: opening the backing file: no such file or directory",
    );
    refused(
        "/dev/zero",
        "/dev/zero: found a FIFO, socket or character device, expected a regular file or a block \
         device",
    );
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    refused(
        "@directory",
        "@directory: found a directory, expected a regular file or a block device",
    );
    sandbox.write("small", [0; 511]);
    refused(
        "@small",
        "@small: found 511 bytes, a backing file needs at least a sector of 512 bytes",
    );
    let held = sandbox.hold("v3");
    let locked = "@v3: locked: a running UML or another ubdlab has it open";
    refused("@other", locked);
    drop(held);
    let held = sandbox.hold("other");
    let locked = "@other: locked: a running UML or another ubdlab has it open";
    refused("@other", locked);
    drop(held);
}

#[test]
fn unsafely_a_shorter_file_is_refused() {
    let sandbox = Sandbox::with_images();
    sandbox.write_backing("other", SIZE / 2);
    sandbox.refuses(
        &["image", "rebase", "@v3", "--backing", "@other", "--unsafe"],
        "@v3: the backing file has 512 KiB, and nothing for sector 1026 and those after it",
    );
}

#[test]
fn a_cow_file_that_a_link_leads_to() {
    let sandbox = with_other();
    symlink("v3", sandbox.path("link")).unwrap();
    let expected = sandbox.disk("v3", "backing");
    sandbox.succeeds(&["image", "rebase", "@link", "--backing", "@other"]);
    assert!(
        std::fs::symlink_metadata(sandbox.path("link"))
            .unwrap()
            .is_symlink()
    );
    assert!(sandbox.disk("v3", "other") == expected);
}

/// Two large holes differ in nothing, and are not read.
#[test]
fn zeros_take_no_space() {
    let sandbox = Sandbox::new();
    let backing = File::create(sandbox.path("backing")).unwrap();
    backing.set_len(64 << 20).unwrap();
    let other = File::create(sandbox.path("other")).unwrap();
    other.set_len(64 << 20).unwrap();
    other.write_all_at(&[1; 16 << 20], 0).unwrap();
    let header = header(Version::V3, Path::new(&sandbox.path("backing")), 64 << 20);
    sandbox.write_image_under("cow", &header, &[]);
    let said = sandbox.succeeds(&["image", "rebase", "@cow", "--backing", "@other"]);
    assert_eq!(said, "@cow: over @other now, 16 MiB copied in\n");
    assert!(sandbox.disk("cow", "other").iter().all(|&byte| byte == 0));
    let blocks = std::fs::metadata(sandbox.path("cow")).unwrap().blocks();
    assert!(blocks < 100, "{blocks} blocks of 512 bytes");
}
