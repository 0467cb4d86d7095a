//! What an image is, is named: a guest can write the header of a COW file to its raw disk, and
//! what it names there is a file of the host. A guess opens nothing outside the image's directory.

use std::path::Path;

use driver::cow::{BackingChange, Extension, Version};
use driver::units::Bytes;
use serde_json::{Value, json};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, expected_disk, header};

/// `guest`, a raw disk of a guest in a directory of disks, and `secret/key`, a file of the host.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["disks", "secret"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    sandbox.write("disks/guest", vec![b'g'; SIZE as usize]);
    sandbox.write("disks/key", vec![b'K'; SIZE as usize]);
    sandbox.write("secret/key", vec![b'K'; SIZE as usize]);
    sandbox.write_backing("disks/base", SIZE);
    sandbox
}

/// The guest writes a header to its first sectors, over this file of the host. Where `changing`,
/// size and time of that file do not matter.
fn guest_writes(sandbox: &Sandbox, backing: &Path, changing: bool) {
    let header = header(Version::V3, &sandbox.path("secret/key"), SIZE / 2);
    let header = header.with_backing(backing, header.backing_mtime).unwrap();
    let mut bytes = header.encode();
    let block = Extension {
        backing_size: Bytes(SIZE),
        change: changing.then(BackingChange::default),
    };
    bytes.extend(block.encode());
    // Nothing is dirty: all of the disk is the other file's.
    bytes.resize(12288, 0);
    sandbox.write("disks/guest", vec![b'g'; SIZE as usize]);
    sandbox.patch("disks/guest", 0, &bytes);
}

fn refused(path: &str, why: &str) -> String {
    format!(
        "@disks/guest: byte 32: begins like a COW file, and its header names the backing path {path}, \
         which {why}. It is not opened: nobody has said that this is a COW file, and a guest can \
         write such a header to its raw disk. --format cow if it is a COW file that you trust, \
         --format raw if it is the raw disk of a guest"
    )
}

/// What is said with whatever keeps a file from opening that only begins like a COW file.
const BEGINS_LIKE_COW: &str = ". It begins like a COW file, and nobody has said that it is one: \
    --format raw if it is a raw disk, --format cow if it is a COW file that you trust";

const GUESSING: [&[&str]; 5] = [
    &["convert", "@disks/guest", "@new"],
    &[
        "convert",
        "@disks/guest",
        "@new",
        "--backing",
        "@disks/base",
    ],
    &["convert", "@disks/guest", "@new", "--to", "v3"],
    &["compare", "@disks/guest", "@disks/base"],
    &["compare", "@disks/base", "@disks/guest"],
];

/// Every command that guesses refuses, and neither writes anything nor says what is in the file.
fn all_refuse(sandbox: &Sandbox, message: &str) {
    for args in GUESSING {
        let second = match args {
            ["compare", "@disks/base", _] => " (of the second image: --second-format)",
            _ => "",
        };
        let args = [&["image"], args].concat();
        sandbox.refuses(&args, &format!("{message}{second}"));
        // That the author is not trusted does not make a COW file of it.
        let confined = [&args[..], &["--confine-backing"]].concat();
        sandbox.refuses(&confined, &format!("{message}{second}"));
    }
}

#[test]
fn a_guest_reads_no_file_of_the_host() {
    let sandbox = sandbox();
    let outside = "leads outside the COW file's directory";
    let key = sandbox.path("secret/key");
    for changing in [false, true] {
        for path in [&*key, Path::new("../secret/key"), Path::new("/etc/passwd")] {
            guest_writes(&sandbox, path, changing);
            let shown = sandbox.text(path.as_os_str().as_encoded_bytes());
            match changing {
                false => all_refuse(&sandbox, &refused(&shown, outside)),
                true => all_refuse(
                    &sandbox,
                    &refused(
                        &shown,
                        "cannot be checked while a change of that file is recorded",
                    ),
                ),
            }
        }
    }
}

/// Beside the disk too, where the guest does not have to know size and time.
#[test]
fn a_guest_reads_no_file_beside_its_disk_by_saying_that_it_is_being_changed() {
    let sandbox = sandbox();
    let key = sandbox.path("disks/key");
    for path in [&*key, Path::new("key")] {
        guest_writes(&sandbox, path, true);
        let shown = sandbox.text(path.as_os_str().as_encoded_bytes());
        let unchecked = "cannot be checked while a change of that file is recorded";
        all_refuse(&sandbox, &refused(&shown, unchecked));
    }
}

/// A guest that names a file beside its disk, with a wrong time or size or one that is not there,
/// does not get the user told to change that file, or to make a backing file of it: path and time
/// are the guest's.
#[test]
fn a_guest_gives_no_advice() {
    let sandbox = sandbox();
    let time = mtime(&sandbox, "secret/key");
    sandbox.touch("disks/key", 1_060_000_001);
    let (guest, key) = ("@disks/guest", "@disks/key");
    let modified = format!(
        "{key}: modified at 1060000001, but the COW file {guest} was made for the content of {time} \
         {}{BEGINS_LIKE_COW}, which then says what to do about the time",
        driver::since_1970(&[1_060_000_001, time.into()])
    );
    guest_writes(&sandbox, Path::new("key"), false);
    all_refuse(&sandbox, &modified);
    let info = sandbox.succeeds(&["image", "info", guest]);
    for advice in ["touch -d", "--unsafe"] {
        assert!(!info.contains(advice), "{info}");
    }
    assert!(info.contains("--format cow, if it is a COW file that you trust"));
    // Who has said so is told.
    let named = sandbox.succeeds(&["image", "info", guest, "--format", "cow"]);
    assert!(named.contains("touch -d"), "{named}");
    sandbox.write("disks/key", [0; 1024]);
    let size = format!(
        "{key}: found 1024 bytes, but the COW file {guest} was made for {SIZE} bytes{BEGINS_LIKE_COW}"
    );
    all_refuse(&sandbox, &size);
    std::fs::remove_file(sandbox.path("disks/key")).unwrap();
    let missing = "opening the backing file: no such file or directory";
    all_refuse(&sandbox, &format!("{key}: {missing}{BEGINS_LIKE_COW}"));
    guest_writes(&sandbox, Path::new("guest"), false);
    let itself = format!("{guest}: its backing file {guest} is the COW file itself");
    all_refuse(&sandbox, &format!("{itself}{BEGINS_LIKE_COW}"));
}

fn mtime(sandbox: &Sandbox, name: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(sandbox.path(name)).unwrap();
    metadata.mtime() as u32
}

/// Whoever may write to the directory may have left a link there.
#[test]
fn a_guess_follows_no_link() {
    let sandbox = sandbox();
    std::os::unix::fs::symlink("../secret/key", sandbox.path("disks/link")).unwrap();
    std::os::unix::fs::symlink("../secret", sandbox.path("disks/down")).unwrap();
    for path in ["link", "down/key"] {
        guest_writes(&sandbox, Path::new(path), false);
        all_refuse(&sandbox, &refused(path, "goes through a symbolic link"));
    }
}

#[test]
fn named_as_raw_it_is_raw() {
    let sandbox = sandbox();
    guest_writes(&sandbox, &sandbox.path("secret/key"), true);
    let disk = sandbox.read("disks/guest");
    let convert = ["image", "convert", "-f", "raw", "@disks/guest"];
    sandbox.succeeds(&[&convert[..], &["@raw"]].concat());
    assert!(sandbox.read("raw") == disk);
    sandbox.succeeds(&[&convert[..], &["@cow", "--backing", "@disks/base"]].concat());
    assert!(sandbox.disk("cow", "disks/base") == disk);
    let compare = ["image", "compare", "-f", "raw", "@disks/guest"];
    for other in [&["-F", "raw", "@raw"][..], &["--second-format=cow", "@cow"]] {
        sandbox.succeeds(&[&compare[..], other].concat());
    }
    sandbox.refuses(
        &[&convert[..], &["@new", "--to", "v3"]].concat(),
        "@disks/guest: a raw disk, so --backing has to name the COW file's backing file",
    );
}

/// What is done all day stays possible: by its name, or where both files lie together.
#[test]
fn a_cow_file_that_is_trusted() {
    let sandbox = sandbox();
    let disk = expected_disk(&sandbox.read("disks/base"), &SOME);
    sandbox.write_image("elsewhere", Version::V3, "disks/base", &SOME);
    sandbox.succeeds(&["image", "merge", "@elsewhere", "@merged"]);
    assert!(sandbox.read("merged") == disk);
    for cow in ["--format=cow", "-fcow"] {
        sandbox.succeeds(&["image", "convert", "@elsewhere", "@raw", cow]);
        assert!(sandbox.read("raw") == disk);
        std::fs::remove_file(sandbox.path("raw")).unwrap();
        sandbox.succeeds(&["image", "compare", "@elsewhere", "@merged", cow]);
    }
    sandbox.succeeds(&["image", "compare", "@merged", "@elsewhere", "-F", "cow"]);
    // The new header's path comes out of the old one.
    sandbox.succeeds(&["image", "convert", "@elsewhere", "@v3", "-fcow", "--to=v3"]);
    assert!(sandbox.disk("v3", "disks/base") == disk);
    // Nothing need be named where the backing file lies beside or below.
    let relative = header(Version::V3, &sandbox.path("disks/base"), SIZE);
    for (name, path) in [
        ("above", Path::new("disks/base")),
        ("disks/beside", Path::new("./base")),
        ("disks/absolute", &sandbox.path("disks/base")),
    ] {
        let header = relative.with_backing(path, relative.backing_mtime).unwrap();
        sandbox.write_image_under(name, &header, &SOME);
        let cow = format!("@{name}");
        sandbox.succeeds(&["image", "convert", &cow, "@raw"]);
        assert!(sandbox.read("raw") == disk);
        std::fs::remove_file(sandbox.path("raw")).unwrap();
        sandbox.succeeds(&["image", "compare", &cow, "@merged"]);
        sandbox.succeeds(&["image", "compare", "@merged", &cow]);
    }
}

/// Named as a COW file, it has to be one.
#[test]
fn a_raw_disk_named_as_a_cow_file() {
    let sandbox = sandbox();
    let message =
        "@disks/base: byte 0: found magic 0x00000000, expected 0x4f4f4f4d: not a COW file";
    for args in [
        &["convert", "-f", "cow", "@disks/base", "@new"][..],
        &["compare", "-f", "cow", "@disks/base", "@disks/key"],
        &["compare", "-F", "cow", "@disks/key", "@disks/base"],
        &["info", "-f", "cow", "@disks/base"],
        &["map", "-f", "cow", "@disks/base"],
    ] {
        sandbox.refuses(&[&["image"], args].concat(), message);
    }
}

/// Not even whether a file of the host is there, or has which size, is told of what a guest named.
#[test]
fn info_looks_at_nothing_that_a_guest_named() {
    let sandbox = sandbox();
    let info = |more: &[&str]| sandbox.json(&[&["image", "info", "@disks/guest"], more].concat());
    let told = |path: &Path| {
        guest_writes(&sandbox, path, false);
        let info = info(&[]);
        assert_eq!(info["backing_matches"], Value::Null);
        info["backing_problem"].clone()
    };
    let (there, missing) = (sandbox.path("secret/key"), sandbox.path("secret/none"));
    assert_eq!(told(&there), told(&missing));
    guest_writes(&sandbox, &there, false);
    assert_eq!(info(&["--format", "cow"])["backing_matches"], true);
    let raw = info(&["--format", "raw"]);
    assert_eq!(raw, json!({"format": "raw", "size_bytes": SIZE}));
    assert_eq!(
        sandbox.succeeds(&["image", "info", "-f", "raw", "@disks/guest"]),
        "format         raw\nsize           1 MiB\n"
    );
}

/// No lock is taken, so that it works beside a running UML.
#[test]
fn a_map_of_a_raw_disk() {
    let sandbox = sandbox();
    guest_writes(&sandbox, &sandbox.path("secret/key"), true);
    let guest = std::fs::File::options()
        .write(true)
        .open(sandbox.path("disks/guest"));
    guest.unwrap().set_len(2 * SIZE).unwrap();
    let _held = sandbox.hold("disks/guest");
    let map = ["image", "map", "@disks/guest", "--format", "raw"];
    let file = sandbox.path("disks/guest");
    assert_eq!(
        sandbox.json(&map),
        json!([
            {"start_bytes": 0, "length_bytes": SIZE, "state": "raw", "depth": 0, "zero": false,
             "offset_bytes": 0, "file": file},
            {"start_bytes": SIZE, "length_bytes": SIZE, "state": "raw", "depth": 0, "zero": true,
             "offset_bytes": SIZE, "file": file},
        ])
    );
    sandbox.refuses(
        &[&map[..], &["--draw"]].concat(),
        "@disks/guest: a raw disk has no clean and dirty sectors to be drawn",
    );
}

/// A raw disk may begin like a COW file by chance, or because its guest wants it to.
#[test]
fn what_begins_like_a_cow_file_and_is_none_is_taken_as_raw_by_name() {
    let sandbox = sandbox();
    let guest = |version: u32| {
        let header = [&b"OOOM"[..], &version.to_be_bytes()].concat();
        sandbox.patch("disks/guest", 0, &header);
    };
    for version in [9, 3] {
        guest(version);
        let named = [
            "image",
            "convert",
            "@disks/guest",
            "@new",
            "--format",
            "cow",
        ];
        let output = sandbox.run(&named);
        let error = sandbox.text(&output.stderr);
        let error = error.strip_prefix("ubdlab: ").unwrap().trim_end();
        sandbox.refuses(&named, error);
        for args in GUESSING {
            let second = match args {
                ["compare", "@disks/base", _] => " (of the second image: --second-format)",
                _ => "",
            };
            let args = [&["image"], args].concat();
            sandbox.refuses(&args, &format!("{error}{BEGINS_LIKE_COW}{second}"));
        }
        let raw = [
            "image",
            "convert",
            "@disks/guest",
            "@new",
            "--format",
            "raw",
        ];
        sandbox.succeeds(&raw);
        std::fs::remove_file(sandbox.path("new")).unwrap();
    }
}

#[test]
fn formats_that_there_are_not() {
    let sandbox = sandbox();
    let option = "[possible values: raw, cow]\n\nFor more information, try '--help'.\n";
    sandbox.fails(
        &["image", "convert", "@disks/base", "@new", "-f", "vmdk"],
        2,
        &format!("error: invalid value 'vmdk' for '--format <FORMAT>'\n  {option}"),
    );
    sandbox.fails(
        &["image", "compare", "@disks/base", "@disks/key", "-F", "v3"],
        2,
        &format!("error: invalid value 'v3' for '--second-format <FORMAT>'\n  {option}"),
    );
}

/// What other programs keep disks in, and what a compressed file begins with. Their header and
/// tables are no sectors of a disk.
const OTHER_FORMATS: [(usize, &[u8], &str, &str); 11] = [
    (0, b"QFI\xfb", "a qcow2 image", CONVERT),
    (0, b"QED\0", "a QED image", CONVERT),
    (0, b"KDMV", "a VMDK image", CONVERT),
    (0, b"# Disk DescriptorFile\n", "a VMDK image", CONVERT),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", CONVERT),
    (0, b"vhdxfile", "a VHDX image", CONVERT),
    (0, b"conectix", "a VHD image", CONVERT),
    (0, b"\x1f\x8b\x08", "a file that gzip compressed", "gzip"),
    (0, b"\xfd7zXZ\0", "a file that xz compressed", "xz"),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "a file that zstd compressed",
        "zstd",
    ),
    (0, b"BZh91AY&SY", "a file that bzip2 compressed", "bzip2"),
];

const CONVERT: &str = "Convert it into a raw disk first (qemu-img convert -O raw)";

#[test]
fn an_image_of_another_format_is_no_raw_disk_unless_it_is_said_to_be_one() {
    let sandbox = Sandbox::new();
    sandbox.write("raw", [0; 65536]);
    for (at, magic, name, way_out) in OTHER_FORMATS {
        let mut image = vec![0; 65536];
        image[at..][..magic.len()].copy_from_slice(magic);
        sandbox.write("image", &image);
        let way_out = match way_out {
            CONVERT => CONVERT.to_owned(),
            program => format!("Decompress it first ({program} -dc <FILE >DISK)"),
        };
        let create = ["image", "create", "@cow", "--backing", "@image"];
        sandbox.refuses(
            &create,
            &format!(
                "@image: begins like {name}, and a backing file is a raw disk: its header would be \
                 taken for the disk's first sectors. {way_out}; --backing-format raw if it is a \
                 raw disk all the same"
            ),
        );
        let as_source = format!(
            "@image: begins like {name}, which would be read as a raw disk, header and all. \
             {way_out}; --format raw if it is a raw disk all the same"
        );
        let convert = ["image", "convert", "@image", "@out"];
        sandbox.refuses(&convert, &as_source);
        sandbox.refuses(&["image", "compare", "@image", "@raw"], &as_source);
        let second = format!("{as_source} (of the second image: --second-format)");
        sandbox.refuses(&["image", "compare", "@raw", "@image"], &second);
        assert!(!sandbox.path("out").exists() && !sandbox.path("cow").exists());
        // Who says so has it read as it is.
        sandbox.succeeds(&[&convert[..], &["--format", "raw"]].concat());
        assert!(sandbox.read("out") == image, "{name}");
        sandbox.succeeds(&[&create[..], &["--backing-format", "raw"]].concat());
        let compare = [
            "image", "compare", "@out", "@image", "-f", "raw", "-F", "raw",
        ];
        sandbox.succeeds(&compare);
        for made in ["out", "cow"] {
            std::fs::remove_file(sandbox.path(made)).unwrap();
        }
    }
}

/// Some have nothing before the disk, and a footer after it.
#[test]
fn an_image_that_ends_like_one_is_no_raw_disk_either() {
    let sandbox = Sandbox::new();
    for (magic, name, way_out) in [
        (
            &b"conectix"[..],
            "a VHD image of fixed size",
            "Convert it into a raw disk first (qemu-img convert -f vpc -O raw)",
        ),
        (b"koly", "a DMG image", CONVERT),
    ] {
        let mut image = vec![1; 65536 + 512];
        image[65536..][..magic.len()].copy_from_slice(magic);
        sandbox.write("image", &image);
        sandbox.refuses(
            &["image", "create", "@cow", "--backing", "@image"],
            &format!(
                "@image: ends like {name}, and a backing file is a raw disk: its footer would be \
                 taken for the disk's last sector. {way_out}; --backing-format raw if it is a raw \
                 disk all the same"
            ),
        );
        let convert = ["image", "convert", "@image", "@out"];
        sandbox.refuses(
            &convert,
            &format!(
                "@image: ends like {name}, which would be read as a raw disk, footer and all. \
                 {way_out}; --format raw if it is a raw disk all the same"
            ),
        );
        sandbox.succeeds(&[&convert[..], &["--format", "raw"]].concat());
        std::fs::remove_file(sandbox.path("out")).unwrap();
        // Anywhere else it is data.
        image.extend([1; 512]);
        sandbox.write("image", &image);
        sandbox.succeeds(&convert);
        std::fs::remove_file(sandbox.path("out")).unwrap();
    }
}
