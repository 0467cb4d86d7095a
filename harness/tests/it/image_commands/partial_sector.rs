//! A disk whose size is no multiple of 512 bytes has its last bytes in the backing file, and a COW
//! file has no room for them: every command keeps them, or refuses and says what to do first.

use driver::cow::Version;

use crate::support::cli::{Sandbox, ftrace};
use crate::support::images::{VERSIONS, expected_disk, name_of, read};

/// 16 sectors and 200 bytes.
const SIZE: u64 = 8192 + 200;

/// What is dirty: the first sector, and the last whole one.
const DIRTY: [u64; 2] = [0, 15];

/// Bytes that are nobody else's, for the last sectors of another backing file.
const OTHER: [u8; 512] = [0xa5; 512];

/// An image of each version over `backing`; what their disks hold. The older versions have bits
/// only for whole bytes of them: 16.
fn images() -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    for version in VERSIONS {
        sandbox.write_image(name_of(version), version, "backing", &DIRTY);
    }
    let disk = expected_disk(&sandbox.read("backing"), &DIRTY);
    assert!(disk[8192..].iter().any(|&byte| byte != 0));
    (sandbox, disk)
}

/// The disk as the slow reader sees it, as a merge makes it, and as the check finds it.
fn assert_disk(sandbox: &Sandbox, cow: &str, backing: &str, expected: &[u8]) {
    let path = format!("@{cow}");
    assert!(sandbox.disk(cow, backing) == expected, "{cow}");
    sandbox.succeeds(&["image", "check", &path]);
    sandbox.succeeds(&["image", "merge", &path, "@merged"]);
    assert!(sandbox.read("merged") == expected, "{cow}: merged");
    sandbox.succeeds(&["image", "compare", &path, "@merged"]);
    std::fs::remove_file(sandbox.path("merged")).unwrap();
}

#[test]
fn a_grow_by_every_strategy_keeps_the_last_bytes() {
    let strategies = [
        ("v3", "headroom"),
        ("v3", "rebuild"),
        ("v3", "reflow"),
        ("v2", "rebuild"),
        ("v1", "rebuild"),
        ("wide", "rebuild"),
    ];
    for (name, strategy) in strategies {
        for size in [8704_usize, 65_536] {
            let (sandbox, mut expected) = images();
            let before = sandbox.read("backing");
            let (cow, to) = (format!("@{name}"), size.to_string());
            sandbox.succeeds_with_notes(&["image", "resize", &cow, &to, "--strategy", strategy]);
            expected.resize(size, 0);
            assert_disk(&sandbox, name, "backing", &expected);
            let cow_file = sandbox.read(name);
            assert!(read(&cow_file).is_dirty(16), "{strategy}");
            assert!(sandbox.read("backing") == before, "{strategy}");
        }
    }
}

/// The sector that was a partial one is given to the guest whole, with its bytes.
#[test]
fn a_grow_while_requests_are_served_keeps_the_last_bytes() {
    for strategy in ["headroom", "rebuild", "reflow"] {
        let (sandbox, mut expected) = images();
        sandbox.write(
            "trace",
            ftrace(&[("R", 0, 16), ("WS", 3, 1), ("R", 15, 4), ("R", 0, 64)]),
        );
        let (device, at) = ("ubda=@v3", format!("2:32K:{strategy}"));
        let args = ["replay", "@trace", "--device", device, "--resize-at", &at];
        let report = sandbox.report(&args);
        assert_eq!(report["mismatches"], 0, "{strategy}");
        expected.resize(32 << 10, 0);
        let disk = sandbox.disk("v3", "backing");
        assert!(disk[16 * 512..] == expected[16 * 512..], "{strategy}");
    }
}

/// A raw disk has its last bytes in its one file.
#[test]
fn a_raw_disk_keeps_its_last_bytes() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("disk", SIZE);
    let mut expected = sandbox.read("disk");
    sandbox.write("trace", ftrace(&[("R", 0, 16), ("R", 0, 32)]));
    let args = ["replay", "@trace", "--device", "ubdad=@disk"];
    let report = sandbox.report(&[&args[..], &["--resize-at", "1:16K"]].concat());
    assert_eq!(report["mismatches"], 0);
    expected.resize(16 << 10, 0);
    assert!(sandbox.read("disk") == expected);
    sandbox.write_backing("disk", SIZE);
    sandbox.write("trace", ftrace(&[("R", 0, 16)]));
    let shrink = [&args[..], &["--resize-at", "0:8K", "--shrink"]].concat();
    sandbox.refuses(
        &shrink,
        "@disk: resize to 8192 bytes before request 0: 200 bytes of data lie past the new end, the \
         first at sector 16: they would be lost (--lose-data says that this is meant)",
    );
}

#[test]
fn sizes_within_a_sector_are_refused_with_the_nearest() {
    let (sandbox, _) = images();
    for (size, found, below, above) in [("-512", 7880, 7680, 8192), ("+1K", 9416, 9216, 9728)] {
        sandbox.refuses(
            &["image", "resize", "@v3", size, "--shrink"],
            &format!(
                "@v3: found a new size of {found} bytes, expected a positive multiple of 512: the \
                 nearest are {below} and {above}"
            ),
        );
    }
}

#[test]
fn a_shrink_by_the_partial_sector_alone_is_a_shrink() {
    for version in VERSIONS {
        let (sandbox, expected) = images();
        let name = name_of(version);
        let cow = format!("@{name}");
        sandbox.refuses(
            &["image", "resize", &cow, "8K"],
            &format!(
                "{cow}: 8192 bytes are less than the device's 8392 bytes: a resize makes it smaller \
                 only with --shrink"
            ),
        );
        let args = ["image", "resize", &cow, "8K", "--shrink"];
        let loss = "200 bytes of data lie past the new end, the first at sector 16 (0 of them in \
                    the COW file, 200 in the backing file)";
        let refused =
            format!("{cow}: {loss}: they would be lost (--lose-data says that this is meant)");
        sandbox.refuses(&args, &refused);
        sandbox.refuses(&[&args[..], &["--dry-run"]].concat(), &refused);
        let args = [&args[..], &["--lose-data"]].concat();
        let said = sandbox.succeeds(&[&args[..], &["--dry-run"]].concat());
        assert!(said.ends_with(&format!("loss       {loss}\n")), "{said}");
        sandbox.succeeds(&args);
        assert_disk(&sandbox, name, "backing", &expected[..8192]);
        // What is gone does not come back.
        sandbox.succeeds(&["image", "resize", &cow, "16K"]);
        let mut expected = expected[..8192].to_vec();
        expected.resize(16 << 10, 0);
        assert_disk(&sandbox, name, "backing", &expected);
    }
}

/// Zeros are what a grow brings.
#[test]
fn a_shrink_by_a_partial_sector_of_zeros_loses_nothing() {
    let sandbox = Sandbox::new();
    let mut backing = vec![1; SIZE as usize];
    backing[8192..].fill(0);
    sandbox.write("backing", &backing);
    sandbox.write_image("cow", Version::V3, "backing", &[]);
    sandbox.succeeds(&["image", "resize", "@cow", "8K", "--shrink"]);
    assert_disk(&sandbox, "cow", "backing", &backing[..8192]);
}

#[test]
fn a_rebase_that_would_change_the_last_bytes_is_refused() {
    for version in VERSIONS {
        let (sandbox, mut expected) = images();
        let name = name_of(version);
        let cow = format!("@{name}");
        let mut other = sandbox.read("backing");
        other[8192 + 100] ^= 1;
        sandbox.write("other", &other);
        let rebase = ["image", "rebase", &cow, "--backing", "@other"];
        sandbox.refuses(
            &rebase,
            &format!(
                "{cow}: a COW file has whole sectors only: {cow} has 8392 bytes, and the last 200 of \
                 them, which differ from what @other has there, would be lost: make it 8704 bytes \
                 large first, with ubdlab image resize"
            ),
        );
        assert_disk(&sandbox, name, "backing", &expected);
        // That is the way out.
        sandbox.succeeds(&["image", "resize", &cow, "8704"]);
        sandbox.succeeds(&rebase);
        expected.resize(8704, 0);
        assert_disk(&sandbox, name, "other", &expected);
    }
}

#[test]
fn a_rebase_to_the_same_last_bytes_keeps_them() {
    for version in VERSIONS {
        let (sandbox, expected) = images();
        let name = name_of(version);
        let cow = format!("@{name}");
        let mut other = sandbox.read("backing");
        other[5 * 512] ^= 1;
        sandbox.write("other", &other);
        sandbox.succeeds(&["image", "rebase", &cow, "--backing", "@other"]);
        assert_disk(&sandbox, name, "other", &expected);
    }
}

/// Longer, with the same bytes there or others; and shorter, with nothing there.
#[test]
fn a_rebase_to_a_file_of_another_size() {
    let (sandbox, expected) = images();
    let backing = sandbox.read("backing");
    let longer = [&backing[..], &OTHER, &OTHER].concat();
    sandbox.write("longer", longer);
    sandbox.succeeds(&["image", "rebase", "@v3", "--backing", "@longer"]);
    sandbox.succeeds(&["image", "compare", "@v3", "@wide"]);
    sandbox.write("others", [&backing[..8192], &OTHER, &OTHER].concat());
    sandbox.write("shorter", &backing[..8192]);
    for name in ["@others", "@shorter"] {
        let args = ["image", "rebase", "@v3", "--backing", name];
        let run = sandbox.run(&args);
        let stderr = sandbox.text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{name}");
        assert!(stderr.contains("the last 200 of them"), "{stderr}");
        sandbox.succeeds(&["image", "compare", "@v3", "@wide"]);
    }
    sandbox.refuses(
        &["image", "rebase", "@v3", "--backing", "@shorter", "--unsafe"],
        "@shorter: found 8192 bytes, expected 8392 bytes: a COW file has whole sectors only, and the \
         last bytes of a disk of another size are in its backing file",
    );
    // A grow goes on from there, without what lies after the disk's end in the longer file.
    sandbox.succeeds(&["image", "resize", "@v3", "16K"]);
    let mut expected = expected;
    expected.resize(16 << 10, 0);
    sandbox.succeeds(&["image", "merge", "@v3", "@merged"]);
    assert!(sandbox.read("merged") == expected);
}

/// A backing file that ends within a sector, under a device that goes on after it.
#[test]
fn a_new_image_larger_than_its_backing_file_keeps_the_last_bytes() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.succeeds(&[
        "image",
        "create",
        "@cow",
        "--backing",
        "@backing",
        "--size",
        "32K",
    ]);
    let mut expected = sandbox.read("backing");
    expected.resize(32 << 10, 0);
    assert_disk(&sandbox, "cow", "backing", &expected);
    let run = sandbox.run(&["image", "merge", "@cow", "--in-place"]);
    assert_eq!(run.status.code(), Some(0));
    assert!(sandbox.read("backing") == expected);
}

#[test]
fn a_merge_in_place_keeps_the_last_bytes() {
    for version in VERSIONS {
        let (sandbox, expected) = images();
        let cow = format!("@{}", name_of(version));
        let run = sandbox.run(&["image", "merge", &cow, "--in-place"]);
        assert_eq!(run.status.code(), Some(0), "{version}");
        assert!(sandbox.read("backing") == expected, "{version}");
        assert_disk(&sandbox, name_of(version), "backing", &expected);
    }
}

/// Cut short, with bits where only a partial sector's would be: nothing of the disk is touched.
#[test]
fn a_repair_keeps_the_last_bytes() {
    let (sandbox, expected) = images();
    let whole = sandbox.read("v3");
    let reader = read(&whole);
    let mut broken = whole.clone();
    broken[reader.layout.bitmap as usize + 2] |= 1;
    broken.truncate(reader.layout.data as usize + 8192);
    sandbox.write("v3", broken);
    let run = sandbox.run(&["image", "check", "@v3", "--repair"]);
    assert_eq!(run.status.code(), Some(0), "{}", sandbox.text(&run.stdout));
    assert!(sandbox.read("v3") == whole);
    assert_disk(&sandbox, "v3", "backing", &expected);
}

#[test]
fn a_comparison_sees_the_last_bytes() {
    let (sandbox, mut expected) = images();
    expected[8192 + 7] ^= 1;
    sandbox.write("disk", &expected);
    let run = sandbox.run(&["image", "compare", "@v3", "@disk"]);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(
        sandbox.text(&run.stdout),
        "the disks differ, first at byte 8199 (sector 16); 1 sector differs\n"
    );
}
