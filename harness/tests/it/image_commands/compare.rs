//! `compare` says whether two disks hold the same, whatever they are made of.

use driver::cow::Version;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, VERSIONS, expected_disk, name_of};

/// What the comparison says; it ends with this status.
fn compare(sandbox: &Sandbox, a: &str, b: &str, status: i32) -> String {
    let mut said = String::new();
    // Whichever comes first.
    for (a, b) in [(a, b), (b, a)] {
        let run = sandbox.run(&["image", "compare", &format!("@{a}"), &format!("@{b}")]);
        assert_eq!(run.status.code(), Some(status), "{a} and {b}");
        assert_eq!(sandbox.text(&run.stderr), "");
        said = sandbox.text(&run.stdout);
    }
    said
}

#[test]
fn every_version_holds_the_same() {
    let sandbox = Sandbox::with_images();
    let disk = expected_disk(&sandbox.read("backing"), &SOME);
    sandbox.write("disk", disk);
    let before = sandbox.contents();
    for version in VERSIONS {
        for other in ["disk", "v1", "v3"] {
            let said = compare(&sandbox, name_of(version), other, 0);
            assert_eq!(said, "the disks hold the same\n");
        }
    }
    assert!(sandbox.contents() == before);
}

#[test]
fn the_first_difference_is_named() {
    let sandbox = Sandbox::with_images();
    let mut disk = expected_disk(&sandbox.read("backing"), &SOME);
    for at in [700 * 512 + 3, 701 * 512, 1500 * 512 + 511] {
        disk[at] ^= 1;
    }
    sandbox.write("disk", disk);
    for version in VERSIONS {
        assert_eq!(
            compare(&sandbox, name_of(version), "disk", 1),
            "the disks differ, first at byte 358403 (sector 700); 3 sectors differ\n"
        );
    }
}

/// COW files over the same backing file differ in what is in them, and it may be the same.
#[test]
fn two_images_over_one_backing_file() {
    let sandbox = Sandbox::with_images();
    sandbox.write_image("less", Version::V3, "backing", &SOME[1..]);
    assert_eq!(
        compare(&sandbox, "v2", "less", 1),
        "the disks differ, first at byte 0 (sector 0); 1 sector differs\n"
    );
}

/// Past the shorter one's end there has to be nothing but zeros.
#[test]
fn disks_of_different_sizes() {
    let sandbox = Sandbox::with_images();
    let disk = expected_disk(&sandbox.read("backing"), &SOME);
    for more in [1, 200, 512, 100_000, 1 << 20] {
        let mut longer = disk.clone();
        longer.resize(disk.len() + more, 0);
        sandbox.write("disk", &longer);
        let said = compare(&sandbox, "disk", "v3", 0);
        assert!(said.starts_with("the sizes differ: "), "{said}");
        let same = "\nthe disks hold the same up to the shorter one's end, and zeros after it\n";
        assert!(said.ends_with(same), "{said}");
        *longer.last_mut().unwrap() = 1;
        sandbox.write("disk", &longer);
        let at = longer.len() - 1;
        let said = compare(&sandbox, "disk", "v3", 1);
        let expected = format!(
            "\nthe disks differ, first at byte {at} (sector {}); 1 sector differs\n",
            at / 512
        );
        assert!(said.ends_with(&expected), "{said}");
    }
    sandbox.succeeds(&["image", "resize", "@v3", "2M"]);
    let said = compare(&sandbox, "v2", "v3", 0);
    assert!(said.ends_with("one's end, and zeros after it\n"), "{said}");
}

#[test]
fn partial_last_sectors() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", 8192 + 200);
    sandbox.write_image("cow", Version::V3, "backing", &[0, 15]);
    let mut disk = expected_disk(&sandbox.read("backing"), &[0, 15]);
    sandbox.write("disk", &disk);
    compare(&sandbox, "cow", "disk", 0);
    disk[8192 + 199] ^= 1;
    sandbox.write("disk", &disk);
    assert_eq!(
        compare(&sandbox, "cow", "disk", 1),
        "the disks differ, first at byte 8391 (sector 16); 1 sector differs\n"
    );
}

#[test]
fn a_disk_with_itself() {
    let sandbox = Sandbox::with_images();
    for name in ["v2", "v3", "backing"] {
        assert_eq!(
            compare(&sandbox, name, name, 0),
            "the disks hold the same\n"
        );
    }
    assert_eq!(SIZE, sandbox.read("backing").len() as u64);
}

#[test]
fn nothing_that_somebody_has_open() {
    let sandbox = Sandbox::with_images();
    let _held = sandbox.hold("v3");
    let locked = "@v3: locked: a running UML or another ubdlab has it open";
    sandbox.refuses(&["image", "compare", "@v3", "@v2"], locked);
    sandbox.refuses(&["image", "compare", "@v2", "@v3"], locked);
    sandbox.refuses(
        &["image", "compare", "@v2", "@none"],
        "@none: opening: no such file or directory",
    );
}
