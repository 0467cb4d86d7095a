//! `recover` finishes what was interrupted, and says what that was.

use std::os::unix::fs::FileExt;

use driver::cow::{BackingChange, Extension, HeaderChange, HeaderPiece, JournalRecord, Version};
use driver::units::{Bytes, Sector};

use crate::support::cli::{ALIGNMENT, SIZE, Sandbox};
use crate::support::images::{SOME, VERSIONS, expected_disk, header, name_of};

const NOTHING: &str = "nothing to recover";

/// `v2` in the middle of a rebase from `backing` to `other`, with the sector of the time written.
pub(crate) fn with_half_changed_header() -> Sandbox {
    let sandbox = Sandbox::with_images();
    let backing = sandbox.read("backing");
    sandbox.write("other", &backing);
    let other = sandbox.path("other");
    let file = std::fs::File::options()
        .write(true)
        .open(sandbox.path("v2"))
        .unwrap();
    // Another time than the backing file's, which may have been made in this second too.
    let change = HeaderChange::new(&sandbox.read("v2"), &other, mtime(&sandbox) + 7).unwrap();
    let put = |piece: &HeaderPiece| file.write_all_at(&piece.bytes, piece.at.0).unwrap();
    put(&change.record[0]);
    put(change.header.last().unwrap());
    let other = std::fs::File::options().write(true).open(other).unwrap();
    let time = std::time::Duration::from_secs(u64::from(mtime(&sandbox)) + 7);
    other.set_modified(std::time::UNIX_EPOCH + time).unwrap();
    sandbox
}

fn mtime(sandbox: &Sandbox) -> u32 {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(sandbox.path("backing")).unwrap();
    metadata.mtime() as u32
}

#[test]
fn a_half_changed_header() {
    let sandbox = with_half_changed_header();
    let refused = |args: &[&str]| {
        let output = sandbox.run(args);
        let message = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        let expected = ": the header is half changed to another backing file: ubdlab image \
                        recover @v2 finishes that\n";
        assert!(message.starts_with("ubdlab: @v2: byte 4"), "{message}");
        assert!(message.ends_with(expected), "{message}");
    };
    // Nothing believes what stands there, not even a command that only looks.
    for args in [
        &["image", "info", "@v2"][..],
        &["image", "map", "@v2"],
        &["image", "compare", "@v2", "@backing"],
        &["image", "convert", "@v2", "@out"],
    ] {
        refused(&[args, &["--format", "cow"]].concat());
        // Nobody has said that it is a COW file: a guest's raw disk is not to be changed.
        let output = sandbox.run(args);
        let message = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("half changed"), "{message}");
        assert!(!message.contains("recover"), "{message}");
        let expected = "--format cow if it is a COW file that you trust, which then says what \
                        finishes the change\n";
        assert!(message.ends_with(expected), "{message}");
    }
    for args in [
        &["image", "merge", "@v2", "@out"][..],
        &["image", "merge", "@v2", "--in-place"],
        &["image", "resize", "@v2", "2M"],
        &["image", "rebase", "@v2", "--backing", "@backing"],
        &[
            "image",
            "rebase",
            "@v2",
            "--backing",
            "@backing",
            "--unsafe",
        ],
    ] {
        refused(args);
    }
    let found = sandbox.run(&["image", "check", "@v2"]);
    assert_eq!(found.status.code(), Some(2));
    assert!(sandbox.text(&found.stdout).contains("half changed"));
    assert_eq!(
        sandbox.succeeds(&["image", "recover", "@v2"]),
        "@v2: finished the change of its header to another backing file\n"
    );
    let info = sandbox.json(&["image", "info", "@v2"]);
    let backing = info["backing_path"].as_str().unwrap();
    assert_eq!(backing, sandbox.path("other").to_str().unwrap());
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    assert!(sandbox.disk("v2", "other") == expected);
    assert_eq!(
        sandbox.succeeds(&["image", "recover", "@v2"]),
        format!("@v2: {NOTHING}\n")
    );
}

#[test]
fn a_repair_finishes_a_half_changed_header_too() {
    let sandbox = with_half_changed_header();
    let repaired = sandbox.run(&["image", "check", "@v2", "--repair"]);
    assert_eq!(repaired.status.code(), Some(0));
    assert!(sandbox.text(&repaired.stdout).contains("half changed"));
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    assert!(sandbox.disk("v2", "other") == expected);
}

#[test]
fn a_new_file_that_never_got_its_name() {
    let sandbox = Sandbox::with_images();
    let names: Vec<&str> = VERSIONS.map(name_of).into_iter().chain(["out"]).collect();
    for name in names {
        let left = format!(".{name}.ubdlab-new");
        sandbox.write(&left, "half a file");
        let path = format!("@{name}");
        assert_eq!(
            sandbox.succeeds(&["image", "recover", &path]),
            format!("{path}: removed a new file that was never finished\n")
        );
        assert!(!sandbox.path(&left).exists());
    }
    // Of what was never begun nothing is known.
    let missing = "@out: opening: no such file or directory, nor is there @.out.ubdlab-new, which an \
                   interrupted creation would have left: there is nothing to recover";
    sandbox.refuses(&["image", "recover", "@out"], missing);
    assert_eq!(
        sandbox.succeeds(&["image", "recover", "@v3"]),
        format!("@v3: {NOTHING}\n")
    );
}

/// Between the two halves of a rename on a host that can only give a second name first.
#[test]
fn a_new_file_that_has_both_names() {
    let sandbox = Sandbox::with_images();
    let before = sandbox.read("v3");
    std::fs::hard_link(sandbox.path("v3"), sandbox.path(".v3.ubdlab-new")).unwrap();
    assert_eq!(
        sandbox.succeeds(&["image", "recover", "@v3"]),
        "@v3: removed a new file that was never finished\n"
    );
    assert!(sandbox.read("v3") == before && !sandbox.path(".v3.ubdlab-new").exists());
}

#[test]
fn a_new_file_that_is_being_written() {
    let sandbox = Sandbox::with_images();
    for name in ["v3", "out"] {
        let left = format!(".{name}.ubdlab-new");
        sandbox.write(&left, "half a file");
        let _writer = sandbox.hold(&left);
        let path = format!("@{name}");
        sandbox.run(&["image", "recover", &path]);
        assert!(sandbox.path(&left).exists(), "{name}");
    }
}

#[test]
fn a_path_too_long_to_be_changed_under_a_record() {
    let sandbox = Sandbox::with_images();
    let mut long = sandbox.path("");
    for _ in 0..11 {
        long.push("d".repeat(200));
    }
    // Longer than what one call of the system takes is no path at all; this one is.
    std::fs::create_dir_all(&long).unwrap();
    let other = long.join("other");
    std::fs::copy(sandbox.path("backing"), &other).unwrap();
    let other_text = other.to_str().unwrap();
    for unsafely in [false, true] {
        let mut args = vec!["image", "rebase", "@v3", "--backing", other_text];
        args.extend(unsafely.then_some("--unsafe"));
        let before = sandbox.read("v3");
        let output = sandbox.run(&args);
        let message = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(
            message.contains("name the new one by a shorter path"),
            "{message}"
        );
        assert!(sandbox.read("v3") == before, "the header was changed");
    }
    // The way out that it names.
    std::os::unix::fs::symlink(&other, sandbox.path("short")).unwrap();
    sandbox.succeeds(&["image", "rebase", "@v3", "--backing", "@short"]);
}

/// What a guest writes to the start of its raw disk, which was merged into a new file since.
fn guest_writes(sandbox: &Sandbox, interrupted: &str) {
    let mut header = header(Version::V3, &sandbox.path("backing"), SIZE / 2);
    header.relocating = interrupted == "reflow";
    let mut disk = header.encode();
    disk.resize(SIZE as usize, b'g');
    disk[8192..12288].fill(0);
    let block = Extension {
        backing_size: Bytes(SIZE),
        change: (interrupted == "change").then(BackingChange::default),
    };
    let at = Extension::OFFSET.0 as usize;
    disk[at..at + Extension::LEN].copy_from_slice(&block.encode());
    if interrupted == "reflow" {
        let record = JournalRecord {
            sequence: 1,
            frontier: Sector(SIZE / 2 / 512),
            old_size: Bytes(SIZE / 2),
            new_size: Bytes(SIZE / 2),
            old_alignment: ALIGNMENT,
            new_alignment: 4 * ALIGNMENT,
        };
        let at = record.slot_offset().0 as usize;
        disk[at..at + 512].copy_from_slice(&record.encode());
    }
    sandbox.write("merged.img", disk);
}

/// What is said of a raw disk that is longer than the header that its guest wrote says.
const PAST_END: &str = "@merged.img: byte 536576: 500 KiB past the end of the data area. It begins like a COW \
     file, nobody has said that it is one, and its header does not say that anything was \
     interrupted: --format cow if it is a COW file, which this would change, --format raw if it is \
     a raw disk. Nothing was changed";

/// A new file has its name, and is complete: what a guest wrote into it says nothing about it.
#[test]
fn a_complete_raw_file() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let nothing = format!("@merged.img: {NOTHING}\n");
    for content in [&b"any disk"[..], b"OOO", b""] {
        sandbox.write("merged.img", content);
        for args in [
            &["image", "recover", "@merged.img"][..],
            &["image", "recover", "--format", "raw", "@merged.img"],
        ] {
            assert_eq!(sandbox.succeeds(args), nothing);
        }
        sandbox.write(".merged.img.ubdlab-new", "half a file");
        assert_eq!(
            sandbox.succeeds(&["image", "recover", "@merged.img"]),
            "@merged.img: removed a new file that was never finished\n"
        );
        assert!(sandbox.read("merged.img") == content);
    }
}

/// Following what stands there would give `backing` another time, and write into the new file.
#[test]
fn a_complete_raw_file_with_what_an_interruption_leaves_in_a_cow_file() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let time = mtime(&sandbox);
    for interrupted in ["nothing", "reflow", "change"] {
        guest_writes(&sandbox, interrupted);
        let before = sandbox.contents();
        let raw = ["image", "recover", "@merged.img", "-f", "raw"];
        assert_eq!(sandbox.succeeds(&raw), format!("@merged.img: {NOTHING}\n"));
        assert!(sandbox.contents() == before, "{interrupted}: written");
        assert_eq!(mtime(&sandbox), time, "{interrupted}: the backing file");
        // The attack is one: taken for a COW file, it is followed.
        let guess = ["image", "recover", "@merged.img"];
        let cow = [&guess[..], &["--format", "cow"]].concat();
        // Nothing but a mark in the header makes a guess of it.
        let is_marked = interrupted != "nothing";
        if !is_marked {
            sandbox.refuses(&guess, PAST_END);
        }
        let recover = if is_marked { &guess[..] } else { &cow };
        assert!(!sandbox.succeeds(recover).contains(NOTHING));
        assert!(sandbox.contents() != before, "{interrupted}");
    }
}
