//! `convert` between raw disks and COW files of every version.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use driver::cow::Version;
use harness::plain_format;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, VERSIONS, blocks_of, expected_disk, name_of, read};
use crate::support::share::share;

#[test]
fn every_version_to_raw() {
    let sandbox = Sandbox::with_images();
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    for version in VERSIONS {
        let cow = format!("@{}", name_of(version));
        for (target, more) in [("raw", &[][..]), ("asked", &["--to", "raw"])] {
            let target = format!("@{}-{target}", name_of(version));
            let args = ["image", "convert", &cow, &target];
            let said = sandbox.succeeds(&[&args[..], more].concat());
            assert_eq!(said, format!("{target}: 1 MiB, 1 MiB of it data\n"));
            assert!(sandbox.read(&target[1..]) == expected, "{version}");
        }
    }
}

/// It is made as asked, and nobody takes it for what its name says.
#[test]
fn a_raw_disk_that_is_called_like_a_cow_file_is_noted() {
    let sandbox = Sandbox::with_images();
    let note = "note: @new.COW is a raw disk: --to v3 makes a COW file, over the source's backing \
                file or --backing\n";
    for (more, told) in [
        (&[][..], note),
        (&["--to", "raw"], ""),
        (&["--to", "v3"], ""),
    ] {
        let done = sandbox.run(&[&["image", "convert", "@v3", "@new.COW"], more].concat());
        assert_eq!(done.status.code(), Some(0));
        assert_eq!(sandbox.text(&done.stderr), told, "{more:?}");
        std::fs::remove_file(sandbox.path("new.COW")).unwrap();
    }
}

#[test]
fn every_version_to_every_other() {
    let sandbox = Sandbox::with_images();
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    for version in VERSIONS {
        for to in ["v2", "v3"] {
            let (cow, target) = (name_of(version), format!("{}-{to}", name_of(version)));
            let args = [
                "image",
                "convert",
                &format!("@{cow}"),
                &format!("@{target}"),
            ];
            let said = sandbox.succeeds(&[&args[..], &["--to", to]].concat());
            assert_eq!(said, format!("@{target}: 1 MiB, 20 KiB of it data\n"));
            let new = sandbox.read(&target);
            let reader = read(&new);
            let expected_version = match to {
                "v2" => plain_format::Version::V2,
                _ => plain_format::Version::V3,
            };
            assert_eq!(reader.header.version, expected_version);
            assert_eq!(reader.dirty(), blocks_of(&SOME));
            let path = &read(&sandbox.read(cow)).header.path;
            assert_eq!(reader.header.path, *path);
            assert!(
                sandbox.disk(&target, "backing") == expected,
                "{version} to {to}"
            );
            sandbox.succeeds(&["image", "check", &format!("@{target}")]);
            let info = sandbox.json(&["image", "info", &format!("@{target}")]);
            assert_eq!(info["stock_uml"], "takes it");
        }
    }
}

/// Only the blocks of 4 KiB that differ from the backing file are stored.
#[test]
fn a_raw_disk_over_a_backing_file() {
    let sandbox = Sandbox::with_images();
    let disk = expected_disk(&sandbox.read("backing"), &SOME);
    sandbox.write("disk", &disk);
    for (to, more) in [
        ("v2", &["--to", "v2"][..]),
        ("v3", &["--to", "v3"]),
        ("by itself", &[]),
    ] {
        let args = ["image", "convert", "@disk", "@new", "--backing", "@backing"];
        let said = sandbox.succeeds(&[&args[..], more].concat());
        assert_eq!(said, "@new: 1 MiB, 20 KiB of it data\n", "{to}");
        assert_eq!(read(&sandbox.read("new")).dirty(), blocks_of(&SOME));
        assert!(sandbox.disk("new", "backing") == disk);
        sandbox.succeeds(&["image", "check", "@new"]);
        std::fs::remove_file(sandbox.path("new")).unwrap();
    }
}

/// A disk that is longer or shorter than the backing file it is to be put over.
#[test]
fn disks_of_other_sizes() {
    for size in [512, SIZE / 2, SIZE + 512, 2 * SIZE] {
        let sandbox = Sandbox::with_images();
        let mut disk = expected_disk(&sandbox.read("backing"), &SOME);
        disk.resize(size as usize, 5);
        sandbox.write("disk", &disk);
        sandbox.succeeds(&["image", "convert", "@disk", "@new", "--backing", "@backing"]);
        let backing = sandbox.read("backing");
        let new = sandbox.read("new");
        let seen = &backing[..backing.len().min(size as usize)];
        assert!(read(&new).disk(seen) == disk, "{size}");
        sandbox.succeeds(&["image", "compare", "@disk", "@new"]);
        sandbox.refuses(
            &[
                "image",
                "convert",
                "@disk",
                "@v2-new",
                "--backing",
                "@backing",
                "--to",
                "v2",
            ],
            &format!(
                "@v2-new: found {size} bytes, expected {SIZE} bytes: a version 2 COW file is as \
                 large as its backing file"
            ),
        );
    }
}

/// A disk that ends within a sector cannot have its end in a COW file, unless that end is what
/// the backing file has there too.
#[test]
fn a_partial_last_sector() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", 8192 + 200);
    sandbox.write_image("cow", Version::V3, "backing", &[0, 15]);
    let expected = expected_disk(&sandbox.read("backing"), &[0, 15]);
    for to in ["raw", "v2", "v3"] {
        let target = format!("@{to}");
        sandbox.succeeds(&["image", "convert", "@cow", &target, "--to", to]);
        sandbox.succeeds(&["image", "compare", "@cow", &target]);
    }
    assert!(sandbox.read("raw") == expected);
    let mut other = expected;
    other[8192 + 100] ^= 1;
    sandbox.write("disk", &other);
    let args = ["image", "convert", "@disk", "@new", "--backing", "@backing"];
    sandbox.refuses(
        &args,
        "@new: a COW file has whole sectors only: @disk has 8392 bytes, and the last 200 of them, \
         which differ from what @backing has there, would be lost: make it 8704 bytes large first, \
         with truncate --size",
    );
    // That is the way out.
    other.resize(8704, 0);
    sandbox.write("disk", &other);
    sandbox.succeeds(&args);
    sandbox.succeeds(&["image", "compare", "@disk", "@new"]);
}

#[test]
fn holes_stay_holes() {
    let sandbox = Sandbox::new();
    let backing = std::fs::File::create(sandbox.path("backing")).unwrap();
    backing.set_len(64 << 20).unwrap();
    drop(backing);
    sandbox.write_image("cow", Version::V2, "backing", &[4096]);
    for (to, most) in [("raw", 16), ("v2", 40), ("v3", 64)] {
        let target = format!("@{to}");
        sandbox.succeeds(&["image", "convert", "@cow", &target, "--to", to]);
        let blocks = std::fs::metadata(sandbox.path(to)).unwrap().blocks();
        assert!(blocks <= most, "{to}: {blocks} blocks of 512 bytes");
        sandbox.succeeds(&["image", "compare", "@cow", &target]);
    }
}

#[test]
fn the_sources_are_never_the_target() {
    let sandbox = Sandbox::with_images();
    std::fs::hard_link(sandbox.path("v3"), sandbox.path("hard")).unwrap();
    std::os::unix::fs::symlink("backing", sandbox.path("link")).unwrap();
    for (target, role, source) in [
        ("@hard", "COW file", "@v3"),
        ("@v3", "COW file", "@v3"),
        ("@link", "backing file", "@backing"),
    ] {
        for to in ["raw", "v2", "v3"] {
            sandbox.refuses(
                &["image", "convert", "@v3", target, "--to", to],
                &format!(
                    "{target}: is the {role} {source} by another name: nothing is written over"
                ),
            );
        }
    }
    sandbox.write("disk", [1; 512]);
    sandbox.refuses(
        &[
            "image",
            "convert",
            "@disk",
            "@link",
            "--backing",
            "@backing",
        ],
        "@link: is the backing file @backing by another name: nothing is written over",
    );
    let exists = "@v1: exists already: nothing is written over";
    sandbox.refuses(&["image", "convert", "@v3", "@v1"], exists);
}

#[test]
fn what_makes_no_sense() {
    let sandbox = Sandbox::with_images();
    sandbox.write("disk", [1; 512]);
    sandbox.refuses(
        &[
            "image",
            "convert",
            "@v3",
            "@new",
            "--to",
            "raw",
            "--backing",
            "@backing",
        ],
        "a raw disk has no backing file: --to raw and --backing exclude each other",
    );
    sandbox.refuses(
        &["image", "convert", "@disk", "@new", "--to", "v3"],
        "@disk: a raw disk, so --backing has to name the COW file's backing file",
    );
    let held = sandbox.hold("v3");
    let locked = "@v3: locked: a running UML or another ubdlab has it open";
    sandbox.refuses(&["image", "convert", "@v3", "@new"], locked);
    drop(held);
}

/// What a device was grown by is dirty, and holes: nothing of it is data in the new file either.
#[test]
fn a_grown_disk_is_converted_without_counting_its_holes_as_data() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.create_cow("cow", "backing");
    // The bitmap is written bit by bit.
    let (size, told) = share(("3T", "3 TiB"), ("300G", "300 GiB"));
    sandbox.succeeds(&["image", "resize", "@cow", size]);
    let convert = ["image", "convert", "-f", "cow", "@cow", "@new"];
    let said = sandbox.succeeds(&[&convert[..], &["--to", "v3", "--backing", "@backing"]].concat());
    let expected = format!("@new: {told}, 0 bytes of it data\n");
    assert!(said.starts_with(&expected), "{said}");
    for name in ["@cow", "@new"] {
        let info = sandbox.json(&["image", "info", name]);
        assert_eq!(info["dirty_data_bytes"], 0, "{name}");
    }
}

/// Sectors have numbers of more than 32 bits from 2 TiB on.
#[test]
fn data_on_both_sides_of_2_tib_stays_where_it_is() {
    const SIZE: u64 = 3 << 40;
    let sandbox = Sandbox::new();
    let large = |name| {
        let file = File::create_new(sandbox.path(name)).unwrap();
        file.set_len(SIZE).unwrap();
        file
    };
    large("backing");
    let disk = large("disk");
    let places = [0, (2 << 40) - 512, 2 << 40, SIZE - 512];
    for (place, byte) in places.into_iter().zip(1..) {
        disk.write_all_at(&[byte; 512], place).unwrap();
    }
    let to_cow = ["image", "convert", "@disk", "@cow", "--to", "v3"];
    sandbox.succeeds(&[&to_cow[..], &["--backing", "@backing"]].concat());
    // Blocks of 4 KiB: that at 0, the two at 2 TiB and the last.
    assert_eq!(
        sandbox.json(&["image", "info", "@cow"])["dirty_sectors"],
        4 * 8
    );
    sandbox.succeeds(&[
        "image", "convert", "-f", "cow", "@cow", "@again", "--to", "raw",
    ]);
    for name in ["disk", "again"] {
        let file = File::open(sandbox.path(name)).unwrap();
        for (place, byte) in places.into_iter().zip(1..) {
            let mut found = [0; 512];
            file.read_exact_at(&mut found, place).unwrap();
            assert_eq!(found, [byte; 512], "{name} at {place}");
        }
    }
    sandbox.succeeds(&["image", "compare", "-f", "cow", "@cow", "@disk"]);
}
