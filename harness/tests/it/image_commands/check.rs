//! `check` finds each fault and names it, and `--repair` mends what needs no guess and leaves
//! everything else byte for byte.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use driver::cow::{Extension, Header, JournalRecord, Version};
use driver::units::{Bytes, Sector};
use serde_json::Value;

use crate::support::cli::{ALIGNMENT, SIZE, Sandbox, ftrace, ways_out};
use crate::support::images::{SOME, VERSIONS, expected_disk, header, name_of};

/// Where bitmap and data of the V3 image are.
const BITMAP: usize = 8192;
const DATA: usize = 12288;

/// Runs the check, which has to end with this status; what it reports.
fn check(sandbox: &Sandbox, args: &[&str], status: i32) -> Value {
    let output = sandbox.run(&[&["image", "check"], args, &["--json"]].concat());
    let stderr = sandbox.text(&output.stderr);
    assert_eq!((stderr.as_str(), output.status.code()), ("", Some(status)));
    serde_json::from_str(&sandbox.text(&output.stdout)).unwrap()
}

/// The faults in a list of a report, each with its place.
fn faults(report: &Value, list: &str) -> Vec<(String, u64)> {
    let findings = report[list].as_array().unwrap().iter();
    let fault = |finding: &Value| {
        let name = finding["fault"].as_str().unwrap().to_owned();
        (name, finding["offset_bytes"].as_u64().unwrap())
    };
    findings.map(fault).collect()
}

fn fault(name: &str, at: usize) -> (String, u64) {
    (name.to_owned(), at as u64)
}

/// The check finds just this fault, in words too, ends with this status, and changes nothing;
/// nor does a repair.
fn finds_for_good(sandbox: &Sandbox, cow: &str, status: i32, name: &str, at: usize, text: &str) {
    let before = sandbox.contents();
    let path = format!("@{cow}");
    for args in [&[path.as_str()][..], &[&path, "--repair"]] {
        let report = check(sandbox, args, status);
        assert_eq!(faults(&report, "findings"), [fault(name, at)]);
        assert_eq!(report["findings"][0]["text"], text);
        assert_eq!(faults(&report, "repaired"), []);
        assert!(sandbox.contents() == before, "{name}: nothing was changed");
    }
    let severity = match status {
        2 => "corruption",
        _ => "note",
    };
    let summary = match status {
        2 => "corrupt: 1 fault",
        _ => "no fault",
    };
    let output = sandbox.run(&["image", "check", &path]);
    assert_eq!(
        sandbox.text(&output.stdout),
        format!("{path}: byte {at}: {severity}: {text}\n{path}: {summary}\n")
    );
    assert_eq!(output.status.code(), Some(status));
}

/// The check finds just this fault, a repair mends it, and after that there is none. What the
/// disk holds and what the header says stays as it is.
fn finds_and_mends(sandbox: &Sandbox, cow: &str, status: i32, name: &str, at: usize) {
    let path = format!("@{cow}");
    let before = sandbox.contents();
    let report = check(sandbox, &[&path], status);
    assert_eq!(faults(&report, "findings"), [fault(name, at)]);
    assert!(sandbox.contents() == before, "a check changes nothing");
    let repaired = check(sandbox, &[&path, "--repair"], 0);
    assert_eq!(faults(&repaired, "repaired"), [fault(name, at)]);
    assert_eq!(faults(&repaired, "findings"), []);
    assert_eq!(faults(&check(sandbox, &[&path], 0), "findings"), []);
    let after = sandbox.contents();
    let cow = sandbox.path(cow);
    for (other, content) in before.iter().filter(|(path, _)| **path != cow) {
        assert!(after[other] == *content, "{other:?} was changed");
    }
    assert_eq!(before.len(), after.len());
}

/// The bytes in which two files differ.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    let both = before.iter().zip(after).enumerate();
    let differ = both.filter(|(_, (a, b))| a != b);
    differ.map(|(at, _)| at).collect()
}

fn set_len(sandbox: &Sandbox, name: &str, len: u64) {
    let file = File::options().write(true).open(sandbox.path(name));
    file.unwrap().set_len(len).unwrap();
}

fn mtime(sandbox: &Sandbox, name: &str) -> i64 {
    std::fs::metadata(sandbox.path(name)).unwrap().mtime()
}

#[test]
fn sound_images_have_no_fault() {
    let sandbox = Sandbox::with_images();
    for version in VERSIONS {
        let path = format!("@{}", name_of(version));
        let before = sandbox.contents();
        for args in [&[path.as_str()][..], &[&path, "--repair"]] {
            let report = check(&sandbox, args, 0);
            assert_eq!(faults(&report, "findings"), []);
            assert_eq!(faults(&report, "repaired"), []);
            assert_eq!(report["corruptions"], 0);
            assert_eq!(report["leaks"], 0);
        }
        assert!(sandbox.contents() == before);
        let words = sandbox.succeeds(&["image", "check", &path]);
        assert_eq!(words, format!("{path}: no fault\n"));
    }
}

#[test]
fn a_header_that_is_none() {
    for (at, patch, text) in [
        (4, 4_u32, "byte 4: found version 4, expected 1, 2 or 3"),
        (20, 1024, "byte 20: found sector size 1024, expected 512"),
        (
            24,
            0,
            "byte 24: found alignment 0, expected a positive multiple of 512",
        ),
        (
            24,
            384,
            "byte 24: found alignment 384, expected a positive multiple of 512",
        ),
        (28, 7, "byte 28: found COW format 7, expected 0 (bitmap)"),
        (
            12,
            (1 << 31) - 1,
            "byte 12: a device of 8796093018113 MiB aligned to 4096 bytes needs a COW file \
             of more than 9223372036854775807 bytes",
        ),
    ] {
        let sandbox = Sandbox::with_images();
        sandbox.patch("v3", at, &patch.to_be_bytes());
        finds_for_good(&sandbox, "v3", 2, "bad-header", 0, text);
    }
}

#[test]
fn a_bitmap_cut_short() {
    let sandbox = Sandbox::with_images();
    for (version, start) in [("v1", 280), ("v2", 4120), ("v3", 8192), ("wide", 8192)] {
        set_len(&sandbox, version, start + 255);
        let text = format!(
            "the file ends here, its bitmap goes on up to byte {}",
            start + 256
        );
        let at = start as usize + 255;
        finds_for_good(&sandbox, version, 2, "bitmap-cut-short", at, &text);
    }
}

#[test]
fn a_data_area_cut_short() {
    let sandbox = Sandbox::with_images();
    for (version, data) in [("v1", 1024), ("v2", 4608), ("v3", 12288), ("wide", 12288)] {
        let whole = data + SIZE;
        set_len(&sandbox, version, whole - 1);
        let text = format!("the file ends here, its data goes on up to byte {whole}");
        let at = whole as usize - 1;
        finds_for_good(&sandbox, version, 2, "data-cut-short", at, &text);
    }
}

/// Without a dirty sector there, nothing is lost: the file gets its length.
#[test]
fn a_file_that_is_short_and_has_everything() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    for version in VERSIONS {
        sandbox.write_image("cow", version, "backing", &SOME[..4]);
        let before = sandbox.read("cow");
        let len = before.len() - SIZE as usize + 11 * 512;
        set_len(&sandbox, "cow", len as u64);
        finds_and_mends(&sandbox, "cow", 2, "file-short", len);
        assert!(sandbox.read("cow") == before, "{version}");
    }
}

#[test]
fn bits_past_the_end() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE - 3 * 512);
    for version in [Version::V3, Version::V3Wide] {
        sandbox.write_image("cow", version, "backing", &SOME[..4]);
        let before = sandbox.read("cow");
        // The last byte of the bitmap has bits for five sectors only.
        let last = BITMAP + 255;
        for (at, byte) in [(last, 0b0010_0000), (last + 1, 1), (DATA - 1, 0x80)] {
            sandbox.patch("cow", at, &[byte]);
            finds_and_mends(&sandbox, "cow", 2, "bits-past-end", at);
            assert!(sandbox.read("cow") == before, "{version}: just that bit");
        }
    }
}

/// In the old versions the bitmap rounds down. That was so always, and is no fault.
#[test]
fn sectors_without_a_bit() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE + 3 * 512);
    for version in [Version::V1, Version::V2] {
        sandbox.write_image("cow", version, "backing", &SOME);
        let at = sandbox.read("cow").len() - (SIZE as usize + 3 * 512);
        let start = if version == Version::V1 { 280 } else { 4120 };
        assert!(start + 256 <= at);
        let text = format!(
            "the last 3 sectors have no bit, as in every {version} file of such a size: they cannot \
             be written"
        );
        finds_for_good(&sandbox, "cow", 0, "short-bitmap", start + 256, &text);
    }
}

/// As `cp --sparse=never` leaves it, an archive without the option for holes, or a copy by way of a
/// file system that has none.
#[test]
fn a_copy_without_its_holes_is_given_them_back() {
    let sandbox = Sandbox::with_device();
    sandbox.succeeds(&["replay", "@trace", "--device", "ubda=@cow"]);
    let content = sandbox.read("cow");
    std::fs::write(sandbox.path("copy"), &content).unwrap();
    // Some file systems give a file its blocks only when it is synced.
    let taken = |name: &str| {
        let file = File::open(sandbox.path(name)).unwrap();
        file.sync_all().unwrap();
        file.metadata().unwrap().blocks() * 512
    };
    assert!(taken("copy") >= SIZE);
    let dirty = Bytes(4096);
    // All of the data area but what was written.
    let leaked = Bytes(SIZE) - dirty;
    let at = 3 * u64::from(ALIGNMENT) + dirty.0;
    let text = format!("{leaked} of zeros where holes would do");
    let output = sandbox.run(&["image", "check", "@copy"]);
    assert_eq!(
        sandbox.text(&output.stdout),
        format!("@copy: byte {at}: leak: {text}\n@copy: {leaked} can be reclaimed with --repair\n")
    );
    assert_eq!(output.status.code(), Some(3));
    let info = sandbox.json(&["image", "info", "@copy"]);
    assert_eq!(info["file_bytes"], content.len());
    assert_eq!(info["file_allocated_bytes"], taken("copy"));
    sandbox.succeeds(&["image", "check", "@copy", "--repair"]);
    assert!(sandbox.read("copy") == content);
    assert!(taken("copy") <= taken("cow") + 64 * 1024);
    sandbox.succeeds(&["image", "check", "@copy"]);
}

#[test]
fn a_backing_file_that_is_missing_or_another() {
    let sandbox = Sandbox::with_images();
    sandbox.touch("backing", 1_060_000_001);
    let found = |sandbox: &Sandbox, version, name, at, text: &str| {
        finds_for_good(sandbox, version, 2, name, at, text);
    };
    let mtime = std::fs::metadata(sandbox.path("v3")).unwrap().mtime() as u32;
    for (version, at, time_at) in [("v2", 8, 4104), ("v3", 32, 8), ("wide", 36, 8)] {
        sandbox.patch(version, time_at, &mtime.to_be_bytes());
        let text = format!(
            "the backing file @backing was modified at 1060000001, expected {mtime} {}. {}",
            driver::since_1970(&[1_060_000_001, mtime.into()]),
            ways_out("@backing", &format!("@{version}"), u64::from(mtime))
        );
        found(&sandbox, version, "backing-changed", at, &text);
    }
    sandbox.write("backing", [1; 512]);
    let text = "the backing file @backing has 512 bytes, expected 1048576";
    found(&sandbox, "v1", "backing-changed", 8, text);
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    let text = "the backing file @backing: no such file or directory";
    found(&sandbox, "wide", "backing-missing", 36, text);
    std::fs::create_dir(sandbox.path("backing")).unwrap();
    let text = "the backing file @backing is no regular file or block device";
    found(&sandbox, "v3", "backing-changed", 32, text);
}

#[test]
fn a_backing_file_that_is_not_to_be_followed() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    sandbox.write_backing("backing", SIZE);
    sandbox.write_image("sub/cow", Version::V3, "backing", &SOME);
    let report = check(&sandbox, &["@sub/cow", "--confine-backing"], 2);
    assert_eq!(faults(&report, "findings"), [fault("backing-outside", 32)]);
    check(&sandbox, &["@sub/cow"], 0);
}

/// What was written while a bit was set that is clear now, or was never acknowledged.
#[test]
fn stale_data_in_clean_sectors() {
    let sandbox = Sandbox::with_images();
    let expected = sandbox.disk("v3", "backing");
    let blocks = |name| std::fs::metadata(sandbox.path(name)).unwrap().blocks();
    for (name, data) in [("v3", DATA), ("wide", DATA)] {
        let before = (sandbox.read(name), blocks(name));
        let file = File::options().write(true).open(sandbox.path(name));
        let at = data + 64 * 512;
        file.unwrap()
            .write_all_at(&[0xee; 32 << 10], at as u64)
            .unwrap();
        let words = sandbox.run(&["image", "check", &format!("@{name}")]);
        assert_eq!(
            sandbox.text(&words.stdout),
            format!(
                "@{name}: byte {at}: leak: 32 KiB of data in clean sectors, which are read from the \
                 backing file\n@{name}: 32 KiB can be reclaimed with --repair\n"
            )
        );
        let report = check(&sandbox, &[&format!("@{name}")], 3);
        assert_eq!(
            (&report["leaks"], &report["corruptions"]),
            (&1.into(), &0.into())
        );
        assert_eq!(report["leaked_bytes"], 32 << 10);
        finds_and_mends(&sandbox, name, 3, "stale-data", at);
        assert!(sandbox.read(name) == before.0);
        // Of 64 blocks of 512 bytes; the file system may keep one of its own for the list of them.
        assert!(blocks(name) <= before.1 + 8, "its space is free again");
        assert!(sandbox.disk(name, "backing") == expected);
    }
}

#[test]
fn data_past_the_end() {
    let sandbox = Sandbox::with_images();
    for version in VERSIONS {
        let name = name_of(version);
        let before = sandbox.read(name);
        let longer = [&before[..], &[1; 5000]].concat();
        sandbox.write(name, longer);
        finds_and_mends(&sandbox, name, 3, "trailing-data", before.len());
        assert!(sandbox.read(name) == before, "{version}");
    }
}

/// It may still be of use, as long as something else is wrong.
#[test]
fn space_is_not_given_back_while_anything_is_corrupt() {
    let sandbox = Sandbox::with_images();
    let longer = [&sandbox.read("v3")[..], &[1; 5000]].concat();
    sandbox.write("v3", longer);
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    let before = sandbox.contents();
    let report = check(&sandbox, &["@v3", "--repair"], 2);
    let found: Vec<_> = faults(&report, "findings");
    assert_eq!(
        found,
        [
            fault("backing-missing", 32),
            fault("trailing-data", DATA + SIZE as usize)
        ]
    );
    assert_eq!(
        (&report["corruptions"], &report["leaks"]),
        (&1.into(), &1.into())
    );
    assert_eq!(faults(&report, "repaired"), []);
    assert!(sandbox.contents() == before);
}

/// Past 2 GiB stock Linux finds nothing, and ubdlab does.
#[test]
fn data_out_of_the_reach_of_stock_linux() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let reachable = header(Version::V3, &sandbox.path("backing"), SIZE);
    let alignment = 1 << 30;
    let beyond = Header {
        alignment,
        ..reachable
    };
    sandbox.write_image_under("cow", &beyond, &SOME);
    // Two gigabytes of holes are not to be read by a test: no before and after here.
    let report = check(&sandbox, &["@cow", "--repair"], 0);
    assert_eq!(
        faults(&report, "findings"),
        [fault("beyond-stock-limit", 12)]
    );
    assert_eq!(
        report["findings"][0]["text"],
        "the data starts at byte 2147483648, past the 2 GiB that stock Linux can reach"
    );
    let info = sandbox.json(&["image", "info", "@cow"]);
    let verdict = "cannot reach its data, which starts at byte 2147483648, past 2 GiB";
    assert_eq!(info["stock_uml"], verdict);
}

/// A device of 1 MiB on its way to 64 MiB, with nothing moved yet.
pub(crate) fn interrupted_reflow(sandbox: &Sandbox) -> Vec<u8> {
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    let record = JournalRecord {
        sequence: 1,
        frontier: Sector(SIZE / 512),
        old_size: Bytes(SIZE),
        old_alignment: ALIGNMENT,
        new_size: Bytes(4 << 20),
        new_alignment: 1 << 20,
    };
    let marked = header(Version::V3, &sandbox.path("backing"), SIZE);
    let marked = Header {
        relocating: true,
        ..marked
    };
    let new_end = record.new_geometry().unwrap().data_end();
    set_len(sandbox, "cow", new_end.0);
    sandbox.patch("cow", 0, &marked.encode());
    sandbox.patch("cow", 4128, &Extension::new(Bytes(SIZE)).encode());
    sandbox.patch("cow", record.slot_offset().0 as usize, &record.encode());
    expected
}

#[test]
fn an_interrupted_resize() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let mut expected = interrupted_reflow(&sandbox);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["resize_in_progress"], true);
    assert_eq!(info["resize_to_bytes"], 4 << 20);
    assert_eq!(info["size_bytes"], SIZE);
    let verdict = "refuses it: a resize is in progress";
    assert_eq!(info["stock_uml"], verdict);
    let info = sandbox.succeeds(&["image", "info", "@cow"]);
    let headroom = "\nheadroom       not known before the interrupted resize is finished\n";
    assert!(info.contains(headroom), "{info}");
    let output = sandbox.run(&["image", "check", "@cow"]);
    let found = sandbox.text(&output.stdout);
    let nothing_moved = "a resize to 4 MiB was interrupted before anything was moved";
    assert!(found.contains(nothing_moved), "{found}");
    finds_and_mends(&sandbox, "cow", 2, "interrupted-resize", 4608);
    expected.resize(4 << 20, 0);
    assert!(sandbox.disk("cow", "backing") == expected);
}

#[test]
fn a_journal_that_says_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    interrupted_reflow(&sandbox);
    sandbox.patch("cow", 4608, &[0; 1024]);
    let text = "an interrupted resize is recorded, but neither journal slot holds a valid record";
    finds_for_good(&sandbox, "cow", 2, "bad-journal", 4608, text);
}

#[test]
fn an_interrupted_merge() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    let expected = sandbox.disk("cow", "backing");
    sandbox.begin_merge("cow");
    let begun = mtime(&sandbox, "backing");
    // A power cut may turn the time back.
    sandbox.touch("backing", 1_060_000_001);
    assert_eq!(
        sandbox.json(&["image", "info", "@cow"])["backing_change_in_progress"],
        true
    );
    finds_and_mends(&sandbox, "cow", 2, "interrupted-backing-change", 4128);
    assert!(sandbox.disk("cow", "backing") == expected);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["backing_mtime"], mtime(&sandbox, "backing"));
    assert!(mtime(&sandbox, "backing") > begun, "nobody else takes it");
    assert_eq!(info["backing_matches"], true);
}

/// Random data under the name of a backing file that was being merged into.
#[test]
fn another_backing_file_after_an_interrupted_merge() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    sandbox.begin_merge("cow");
    let right = sandbox.read("backing");
    sandbox.write("backing", vec![0x5a; SIZE as usize]);
    // Sector 0 is dirty.
    let text = "a change of the backing file @backing was interrupted, and this is not the file that \
                it was about: byte 512: found another content than the change found or was to write";
    let before = sandbox.contents();
    for args in [&["@cow"][..], &["@cow", "--repair"]] {
        let report = check(&sandbox, args, 2);
        assert_eq!(
            faults(&report, "findings"),
            [fault("backing-changed", 4128)]
        );
        assert_eq!(report["findings"][0]["text"], text);
        assert_eq!(faults(&report, "repaired"), []);
    }
    let refused = "@backing: byte 512: found another content than the change found or was to \
                   write, so it is not the backing file that an interrupted change of the COW file \
                   @cow was about. Put that one there; if this is the right one all the same: \
                   ubdlab image rebase --unsafe";
    for args in [
        &["image", "recover", "@cow"][..],
        &["image", "merge", "@cow", "--in-place"],
        &["image", "merge", "@cow", "@new"],
        &["image", "convert", "@cow", "@new", "--format", "cow"],
        &["image", "compare", "@cow", "@backing", "--format", "cow"],
        &["image", "resize", "@cow", "2M"],
        &["image", "rebase", "@cow", "--backing", "@backing"],
        &["replay", "@trace", "--device", "ubda=@cow"],
    ] {
        sandbox.write("trace", ftrace(&[("WS", 0, 8)]));
        sandbox.refuses(args, refused);
    }
    std::fs::remove_file(sandbox.path("trace")).unwrap();
    assert!(sandbox.contents() == before);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["backing_matches"], Value::Null);
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    let report = check(&sandbox, &["@cow", "--repair"], 2);
    assert_eq!(
        faults(&report, "findings"),
        [fault("backing-missing", 4128)]
    );
    // The right one again.
    sandbox.write("backing", right);
    let expected = sandbox.disk("cow", "backing");
    finds_and_mends(&sandbox, "cow", 2, "interrupted-backing-change", 4128);
    assert!(sandbox.disk("cow", "backing") == expected);
}

/// A backing file whose path is not to be followed cannot be told from another one.
#[test]
fn an_interrupted_merge_with_a_backing_file_elsewhere() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    sandbox.write_backing("backing", SIZE);
    sandbox.write_image("sub/cow", Version::V3, "backing", &SOME);
    sandbox.begin_merge("sub/cow");
    let before = sandbox.contents();
    let args = ["@sub/cow", "--confine-backing", "--repair"];
    let report = check(&sandbox, &args, 2);
    let expected = [
        fault("interrupted-backing-change", 4128),
        fault("backing-outside", 32),
    ];
    assert_eq!(faults(&report, "findings"), expected);
    assert_eq!(faults(&report, "repaired"), []);
    assert!(sandbox.contents() == before);
}

/// The block is written anew where the backing file tells what it said.
#[test]
fn a_damaged_extension_block() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let args = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.succeeds(&args);
    let before = sandbox.read("cow");
    sandbox.patch("cow", 4140, &[0xff]);
    finds_and_mends(&sandbox, "cow", 2, "damaged-extension", 4128);
    assert!(changed(&before, &sandbox.read("cow")).is_empty());
    // Of a larger device it does not: its backing file may have had any size.
    std::fs::remove_file(sandbox.path("cow")).unwrap();
    sandbox.succeeds(&[&args[..], &["--size", "2M"]].concat());
    sandbox.patch("cow", 4140, &[0xff]);
    let text = "the extension block has a wrong checksum or version, and with it the size of the \
                backing file is lost";
    finds_for_good(&sandbox, "cow", 2, "lost-extension", 4128, text);
}

#[test]
fn a_check_that_could_not_be_carried_out() {
    let sandbox = Sandbox::with_images();
    let held = sandbox.hold("v3");
    let message = "ubdlab: @v3: locked: a running UML or another ubdlab has it open\n";
    sandbox.fails(&["image", "check", "@v3"], 1, message);
    sandbox.fails(&["image", "check", "@v3", "--repair"], 1, message);
    drop(held);
    let message = "ubdlab: @none: opening: no such file or directory\n";
    sandbox.fails(&["image", "check", "@none"], 1, message);
    sandbox.fails(&["image", "check", "@none", "--json"], 1, message);
}

/// A file that cannot be the backing file is a finding, also in the middle of a change of it, and
/// not a check that could not be carried out.
#[test]
fn a_backing_file_that_is_none() {
    let of_cow = |sandbox: &Sandbox| header(Version::V3, &sandbox.path("backing"), SIZE);
    for marked in [false, true] {
        let (at, which) = match marked {
            false => (32, "the backing file"),
            true => (4128, "the backing file, which was being changed,"),
        };
        let named = |sandbox: &Sandbox, name: &str| {
            let path = sandbox.path(name);
            let named = sandbox.text(path.as_os_str().as_encoded_bytes());
            which.replacen("file", &format!("file {named}"), 1)
        };
        for (name, is) in [
            ("directory", "is no regular file or block device"),
            ("cow", "is the COW file itself"),
        ] {
            let sandbox = Sandbox::with_images();
            std::fs::create_dir(sandbox.path("directory")).unwrap();
            let of_cow = of_cow(&sandbox);
            let header = of_cow.with_backing(&sandbox.path(name), of_cow.backing_mtime);
            sandbox.write_image_under("cow", &header.unwrap(), &SOME);
            if marked {
                let block = Extension {
                    backing_size: Bytes(SIZE),
                    change: Some(driver::cow::BackingChange::default()),
                };
                sandbox.patch("cow", 4128, &block.encode());
            }
            let text = format!("{} {is}", named(&sandbox, name));
            finds_for_good(&sandbox, "cow", 2, "backing-changed", at, &text);
        }
    }
}

/// As a user who may not read it.
#[test]
fn a_backing_file_that_may_not_be_read_while_it_is_being_changed() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let sandbox = Sandbox::with_images();
    sandbox.begin_merge("v3");
    let modes = [("", 0o755), ("v3", 0o644), ("backing", 0o600)];
    for (name, mode) in modes {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(sandbox.path(name), mode).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = crate::support::cli::ubdlab();
        command.args(sandbox.args(args)).uid(NOBODY).gid(NOBODY);
        command.output()
    };
    if !run(&["--version"]).is_ok_and(|run| run.status.success()) {
        eprintln!("skipped: only root runs a program as somebody else");
        return;
    }
    let checked = run(&["image", "check", "@v3"]).unwrap();
    assert_eq!(
        sandbox.text(&checked.stdout),
        "@v3: byte 4128: corruption: the backing file @backing, which was being changed: permission \
         denied\n@v3: corrupt: 1 fault\n"
    );
    assert_eq!(checked.status.code(), Some(2));
}
