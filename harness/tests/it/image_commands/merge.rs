//! `merge`: into a new file as `uml_moo` does it, and into the backing file itself.

use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;

use driver::cow::Version;

use crate::support::cli::{Sandbox, output, side_by_side, ubdlab};
use crate::support::images::{SOME, VERSIONS, expected_disk, name_of, read};

#[test]
fn a_new_file_holds_what_the_disk_holds() {
    let sandbox = Sandbox::with_images();
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    for version in VERSIONS {
        let before = sandbox.contents();
        let cow = format!("@{}", name_of(version));
        let said = sandbox.succeeds(&["image", "merge", &cow, "@merged"]);
        assert_eq!(said, "@merged: 1 MiB, 1 MiB of it data\n");
        assert!(sandbox.read("merged") == expected, "{version}");
        std::fs::remove_file(sandbox.path("merged")).unwrap();
        assert!(sandbox.contents() == before, "nothing else was changed");
    }
}

#[test]
fn holes_stay_holes() {
    let sandbox = Sandbox::new();
    let backing = std::fs::File::create(sandbox.path("backing")).unwrap();
    backing.set_len(64 << 20).unwrap();
    backing.write_all_at(&[1; 8192], 16 << 20).unwrap();
    drop(backing);
    // 8 sectors are a block of the file system.
    let dirty: Vec<u64> = (80_000..80_032).collect();
    sandbox.write_image("cow", Version::V3, "backing", &dirty);
    let said = sandbox.succeeds(&["image", "merge", "@cow", "@merged"]);
    assert_eq!(said, "@merged: 64 MiB, 24 KiB of it data\n");
    let metadata = std::fs::metadata(sandbox.path("merged")).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    // Some file systems count a block of their own.
    let blocks = metadata.blocks();
    assert!((48..=64).contains(&blocks), "{blocks} blocks of 512 bytes");
    let expected = expected_disk(&sandbox.read("backing"), &dirty);
    assert!(sandbox.read("merged") == expected);
}

#[test]
fn a_device_larger_than_its_backing_file() {
    let sandbox = Sandbox::with_images();
    sandbox.succeeds(&["image", "resize", "@v3", "3M"]);
    let mut expected = expected_disk(&sandbox.read("backing"), &SOME);
    expected.resize(3 << 20, 0);
    sandbox.succeeds(&["image", "merge", "@v3", "@merged"]);
    assert!(sandbox.read("merged") == expected);
    sandbox.run(&["image", "merge", "@v3", "--in-place"]);
    assert!(sandbox.read("backing") == expected);
}

/// By whatever name: none of the files that are read is written over.
#[test]
fn the_sources_are_never_the_target() {
    let sandbox = Sandbox::with_images();
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    for (name, role) in [("backing", "backing file"), ("v3", "COW file")] {
        let target = sandbox.path(name);
        symlink(&target, sandbox.path("sub/link")).unwrap();
        symlink(".", sandbox.path("here")).unwrap();
        std::fs::hard_link(&target, sandbox.path("hard")).unwrap();
        for output in [
            format!("@{name}"),
            format!("@./{name}"),
            format!("@sub/../{name}"),
            format!("@here/{name}"),
            "@hard".to_owned(),
            "@sub/link".to_owned(),
            name.to_owned(),
            format!("./{name}"),
        ] {
            let absolute = match output.starts_with('@') {
                // A `.` is left out, a `..` may lead through a link and is not.
                true => output
                    .replace("./", ".\u{0}")
                    .replace("@.\u{0}", "@")
                    .replace('\u{0}', "/"),
                false => format!("@{name}"),
            };
            sandbox.refuses(
                &["image", "merge", "@v3", &output],
                &format!(
                    "{absolute}: is the {role} @{name} by another name: nothing is written over"
                ),
            );
        }
        for link in ["sub/link", "here", "hard"] {
            std::fs::remove_file(sandbox.path(link)).unwrap();
        }
    }
    sandbox.write("other", "something dear");
    let exists = "@other: exists already: nothing is written over";
    sandbox.refuses(&["image", "merge", "@v3", "@other"], exists);
    let exists = "@sub: exists already: nothing is written over";
    sandbox.refuses(&["image", "merge", "@v3", "@sub"], exists);
}

#[test]
fn in_place_the_backing_file_has_it_all_and_the_cow_file_nothing() {
    for version in VERSIONS {
        let sandbox = Sandbox::with_images();
        let expected = expected_disk(&sandbox.read("backing"), &SOME);
        let name = name_of(version);
        let run = sandbox.run(&["image", "merge", &format!("@{name}"), "--in-place"]);
        assert_eq!(run.status.code(), Some(0));
        let mut warning =
            "merging into @backing: every other COW file over it will be refused, by \
                           stock UML and by ubdlab\n"
                .to_owned();
        for other in VERSIONS.into_iter().filter(|other| *other != version) {
            warning += &format!("  breaks @{}\n", name_of(other));
        }
        assert_eq!(sandbox.text(&run.stderr), warning);
        assert_eq!(
            sandbox.text(&run.stdout),
            format!("@backing: 1 MiB, 4.50 KiB written into it; @{name} is empty now\n")
        );
        assert!(sandbox.read("backing") == expected, "{version}");
        assert!(sandbox.disk(name, "backing") == expected, "{version}");
        let cow = sandbox.read(name);
        assert!(read(&cow).dirty().is_empty());
        let info = sandbox.json(&["image", "info", &format!("@{name}")]);
        assert_eq!(info["backing_matches"], true, "{version}");
        assert_eq!(info["stock_uml"], "takes it");
        sandbox.succeeds(&["image", "check", &format!("@{name}")]);
        // The others are refused, whatever a second of the clock says.
        for other in VERSIONS.into_iter().filter(|other| *other != version) {
            let args = ["image", "check", &format!("@{}", name_of(other))];
            assert_eq!(sandbox.run(&args).status.code(), Some(2), "{other}");
        }
    }
}

/// A device whose size is no multiple of a sector, in every version.
#[test]
fn in_place_with_a_partial_last_sector() {
    for version in VERSIONS {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", 8192 + 200);
        sandbox.write_image("cow", version, "backing", &[0, 15]);
        let expected = expected_disk(&sandbox.read("backing"), &[0, 15]);
        sandbox.succeeds(&["image", "merge", "@cow", "@merged"]);
        assert!(sandbox.read("merged") == expected, "{version}");
        let run = sandbox.run(&["image", "merge", "@cow", "--in-place"]);
        assert_eq!(sandbox.text(&run.stderr).lines().nth(2), None, "{version}");
        assert_eq!(run.status.code(), Some(0), "{version}");
        assert!(sandbox.read("backing") == expected, "{version}");
        sandbox.succeeds(&["image", "check", "@cow"]);
    }
}

/// It was interrupted after some of the data had been written.
#[test]
fn begun_again_it_completes() {
    let sandbox = Sandbox::with_images();
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    sandbox.begin_merge("v3");
    sandbox.patch("backing", 0, &expected[..9 * 512]);
    // Other commands say what to do first; what only looks goes on.
    sandbox.refuses(
        &["image", "resize", "@v3", "2M"],
        "@v3: an interrupted change of the backing file has to be finished first: ubdlab image \
         recover @v3",
    );
    assert!(sandbox.disk("v3", "backing") == expected);
    sandbox.succeeds(&["image", "merge", "@v3", "@merged"]);
    assert!(sandbox.read("merged") == expected);
    let run = sandbox.run(&["image", "merge", "@v3", "--in-place"]);
    assert_eq!(run.status.code(), Some(0));
    assert!(sandbox.read("backing") == expected);
    sandbox.succeeds(&["image", "check", "@v3"]);
}

#[test]
fn both_files_are_locked() {
    side_by_side(&["v3", "backing"], |file| {
        side_by_side(&["@merged", "--in-place"], |target| {
            let sandbox = Sandbox::with_images();
            let _held = sandbox.hold(file);
            let locked = format!("@{file}: locked: a running UML or another ubdlab has it open");
            sandbox.refuses(&["image", "merge", "@v3", target], &locked);
        });
    });
}

/// Nothing is said of what would break where nothing is done.
#[test]
fn what_cannot_be_merged_in_place_is_refused_before_a_word_is_said() {
    // A file with a second name is not rebuilt as version 3.
    let sandbox = Sandbox::with_images();
    std::fs::hard_link(sandbox.path("v2"), sandbox.path("hard")).unwrap();
    sandbox.refuses(
        &["image", "merge", "@v2", "--in-place"],
        "@v2: rebuild cannot do this: only a regular file without a second name (hard link) can be \
         replaced",
    );
    // A backing file that cannot become as long as the disk.
    let sandbox = Sandbox::with_device();
    sandbox.succeeds(&["image", "resize", "@cow", "128M"]);
    let before = sandbox.contents();
    let program = ubdlab().get_program().to_owned();
    // In units of 512 or of 1024 bytes.
    let script = "ulimit -f 65536; exec \"$1\" image merge \"$2\" --in-place";
    let cow = sandbox.path("cow");
    let args = [
        OsStr::new("-c"),
        script.as_ref(),
        "sh".as_ref(),
        &program,
        cow.as_ref(),
    ];
    let done = output(Command::new("sh").args(args));
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(
        sandbox.text(&done.stderr),
        "ubdlab: @backing: byte 134217728: extending the backing file: the file would be larger \
         than the host allows\n"
    );
    assert!(before == sandbox.contents());
}
