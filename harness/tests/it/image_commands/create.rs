//! New COW files: what stock tools would read in them, and where they come from.

use std::os::unix::fs::MetadataExt;

use harness::plain_format::Version;

use crate::support::cli::{SIZE, Sandbox, ftrace};
use crate::support::images::read;

#[test]
fn a_new_image_is_an_empty_one_with_room_to_grow() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let said = sandbox.succeeds(&["image", "create", "@cow", "--backing", "@backing"]);
    assert_eq!(
        said,
        "@cow: a device of 1 MiB over @backing, with room to grow to 4 GiB\nstock UML takes it\n"
    );
    let (cow, backing) = (sandbox.read("cow"), sandbox.read("backing"));
    let reader = read(&cow);
    let header = &reader.header;
    assert_eq!((header.version, header.size), (Version::V3, SIZE));
    let path = sandbox.path("backing");
    let mtime = std::fs::metadata(&path).unwrap().mtime();
    assert_eq!(i64::from(header.time), mtime);
    assert_eq!(header.path, path.as_os_str().as_encoded_bytes());
    assert_eq!(
        (reader.layout.bitmap, reader.layout.data),
        (1 << 20, 2 << 20)
    );
    assert_eq!(cow.len() as u64, reader.layout.end);
    assert_eq!(reader.disk(&backing[..]), backing);
    // The room is a hole.
    let blocks = std::fs::metadata(sandbox.path("cow")).unwrap().blocks();
    assert!(blocks <= 16, "{blocks} blocks of 512 bytes");
}

#[test]
fn of_a_device_whose_bitmap_has_one_word_it_is_said_that_stock_uml_hangs() {
    let sandbox = Sandbox::new();
    let hangs = "takes it, and hangs at the first write: Linux 6.1 does where the bitmap has 8 bytes \
                 or fewer, as on a device of up to 64 sectors";
    for (sectors, verdict) in [(64, hangs), (65, "takes it")] {
        sandbox.write_backing("backing", sectors * 512);
        let said = sandbox.succeeds(&["image", "create", "@cow", "--backing", "@backing"]);
        assert!(
            said.ends_with(&format!("\nstock UML {verdict}\n")),
            "{said}"
        );
        let info = sandbox.json(&["image", "info", "@cow"]);
        assert_eq!(info["stock_uml"], verdict);
        std::fs::remove_file(sandbox.path("cow")).unwrap();
    }
}

#[test]
fn the_room_to_grow_can_be_chosen() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    for (max_size, alignment) in [
        ("1M", 4096),
        ("16M", 4096),
        ("17M", 8192),
        ("4G", 1 << 20),
        ("256G", 64 << 20),
        ("2T", 512 << 20),
        // The most, as the documentation has it.
        ("4194288M", (1 << 30) - 4096),
    ] {
        let args = ["image", "create", "@cow", "--backing", "@backing"];
        sandbox.succeeds(&[&args[..], &["--max-size", max_size]].concat());
        let info = sandbox.json(&["image", "info", "@cow"]);
        assert_eq!(info["alignment"], alignment, "{max_size}");
        assert_eq!(info["stock_uml"], "takes it");
        let headroom = info["headroom_bytes"].as_u64().unwrap();
        assert!(headroom >= driver::size::parse_device_size(max_size).unwrap().0);
        std::fs::remove_file(sandbox.path("cow")).unwrap();
    }
}

#[test]
fn a_device_larger_than_its_backing_file_ends_in_zeros() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let args = ["image", "create", "@cow", "--backing", "@backing", "--size"];
    let said = sandbox.succeeds(&[&args[..], &["3M"]].concat());
    assert_eq!(
        said,
        "@cow: a device of 3 MiB over @backing, with room to grow to 4 GiB\n\
         stock UML refuses it: it has 3 MiB, its backing file 1 MiB\n"
    );
    let (cow, mut backing) = (sandbox.read("cow"), sandbox.read("backing"));
    let reader = read(&cow);
    assert_eq!(reader.header.size, 3 << 20);
    assert_eq!(reader.dirty(), (2048..3 * 2048).collect::<Vec<_>>());
    backing.resize(3 << 20, 0);
    assert_eq!(sandbox.disk("cow", "backing"), backing);
    sandbox.succeeds(&["image", "check", "@cow"]);
}

/// From wherever the process is: the header has the whole path.
#[test]
fn relative_paths_are_those_of_the_caller() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("a/b")).unwrap();
    sandbox.write_backing("a/backing", SIZE);
    sandbox.succeeds(&["image", "create", "a/b/cow", "--backing", "a/backing"]);
    let info = sandbox.json(&["image", "info", "@a/b/cow", "--format", "cow"]);
    assert_eq!(info["backing_matches"], true);
    let backing = sandbox.path("a/backing");
    assert_eq!(info["backing_file"], backing.to_str().unwrap());
    assert_eq!(info["backing_path"], backing.to_str().unwrap());
}

/// A backing file whose last sector is a partial one: that sector is nobody's.
#[test]
fn a_backing_file_with_a_partial_last_sector() {
    let sandbox = Sandbox::new();
    sandbox.write("backing", [7; 1000]);
    sandbox.succeeds(&["image", "create", "@cow", "--backing", "@backing"]);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["size_bytes"], 1000);
    assert_eq!(info["bitmap_bytes"], 1);
    assert_eq!(sandbox.disk("cow", "backing"), [7; 1000]);
    sandbox.succeeds(&["image", "check", "@cow"]);
    sandbox.succeeds(&["image", "merge", "@cow", "@merged"]);
    assert_eq!(sandbox.read("merged"), [7; 1000]);
}

#[test]
fn what_a_killed_creation_left_is_no_obstacle() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.write(".cow.ubdlab-new", "half a file");
    sandbox.succeeds(&["image", "create", "@cow", "--backing", "@backing"]);
    assert!(!sandbox.path(".cow.ubdlab-new").exists());
    sandbox.succeeds(&["image", "check", "@cow"]);
}

/// A disk in qcow2 is not what its bytes are.
#[test]
fn a_qcow2_image_is_no_backing_file_unless_it_is_said_to_be_raw() {
    let sandbox = Sandbox::new();
    let mut image = vec![0; SIZE as usize];
    image[..4].copy_from_slice(b"QFI\xfb");
    sandbox.write("backing", image);
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.refuses(
        &create,
        "@backing: begins like a qcow2 image, and a backing file is a raw disk: its header would be \
         taken for the disk's first sectors. Convert it into a raw disk first (qemu-img convert -O \
         raw); --backing-format raw if it is a raw disk all the same",
    );
    sandbox.succeeds(&[&create[..], &["--backing-format", "raw"]].concat());
    // Others make such files too, and what was said once is not written down.
    let checked = sandbox.run(&["image", "check", "@cow"]);
    assert_eq!(checked.status.code(), Some(0));
    let said = sandbox.text(&checked.stdout);
    assert!(said.contains(QCOW2_NOTE), "{said}");
}

const QCOW2_NOTE: &str = "the backing file @backing begins like a qcow2 image, and is read as a \
                          raw disk, by stock UML too";

/// What was said once to `create` may be forgotten by the time when it matters.
#[test]
fn each_command_that_opens_a_backing_file_says_that_it_begins_like_an_image() {
    let sandbox = Sandbox::new();
    let mut image = vec![0; SIZE as usize];
    image[..4].copy_from_slice(b"QFI\xfb");
    sandbox.write("backing", image);
    sandbox.write("trace", ftrace(&[("R", 8, 8)]));
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.succeeds(&[&create[..], &["--backing-format", "raw"]].concat());
    let rebase = ["image", "rebase", "@cow", "--backing", "@backing"];
    for args in [
        &["image", "info", "@cow", "-f", "cow"][..],
        &["image", "map", "@cow", "--backing", "@backing"],
        &["image", "convert", "@cow", "@raw", "-f", "cow"],
        &["image", "compare", "@cow", "@raw", "-f", "cow", "-F", "raw"],
        &["image", "compare", "@raw", "@cow", "-f", "raw", "-F", "cow"],
        &["image", "resize", "@cow", "2M", "--dry-run"],
        &["image", "merge", "@cow", "@merged"],
        &["image", "recover", "@cow", "-f", "cow"],
        &["replay", "@trace", "--device", "ubda=@cow"],
        &[&rebase[..], &["--backing-format", "raw"]].concat(),
        &["image", "resize", "@cow", "2M"],
        &["image", "resize", "@cow", "1M", "--shrink"],
        &["image", "merge", "@cow", "--in-place"],
    ] {
        let done = sandbox.run(args);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{args:?}: {said}");
        let note = format!("note: {QCOW2_NOTE}\n");
        assert_eq!(said.matches(&note).count(), 1, "{args:?}: {said}");
    }
    for args in [
        &["image", "info", "@cow", "-f", "cow", "--json"][..],
        &["replay", "@trace", "--device", "ubda=@cow", "--json"],
    ] {
        let report: serde_json::Value = serde_json::from_slice(&sandbox.run(args).stdout).unwrap();
        let note = report["backing_note"].as_str().unwrap();
        assert_eq!(sandbox.text(note.as_bytes()), QCOW2_NOTE, "{args:?}");
    }
    // Nobody has said that this is a COW file: nothing that it names is opened.
    assert!(sandbox.json(&["image", "info", "@cow"])["backing_note"].is_null());
}
