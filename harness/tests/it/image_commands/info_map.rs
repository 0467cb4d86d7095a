//! What an image is and where it has what, told without disturbing anybody.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use driver::cow::{Geometry, Version};
use harness::figures::size;
use serde_json::{Value, json};

use crate::support::cli::{SIZE, Sandbox, output, ubdlab, ways_out};
use crate::support::images::{SOME, VERSIONS, header, name_of, read, written};

#[test]
fn every_field_of_every_version() {
    let sandbox = Sandbox::with_images();
    let path = sandbox.path("backing");
    for version in VERSIONS {
        let name = name_of(version);
        let cow = sandbox.read(name);
        let reader = read(&cow);
        let allocated = allocated(&sandbox, name);
        let info = sandbox.json(&["image", "info", &format!("@{name}")]);
        let v3 = version == Version::V3;
        // Only in the layout of today can it grow without being rebuilt: up to 8 bits for each
        // byte between bitmap and data.
        let headroom = if v3 { 4096 * 8 * 512 } else { SIZE };
        assert_eq!(
            info,
            json!({
                "format": "cow",
                "version": reader.header.version.number(),
                "version_name": version.to_string(),
                "size_bytes": SIZE,
                "sector_size": 512,
                "alignment": reader.header.alignment,
                "bitmap_offset": reader.layout.bitmap,
                "bitmap_bytes": 256,
                "data_offset": reader.layout.data,
                "dirty_sectors": SOME.len(),
                "dirty_data_bytes": 4608,
                "backing_file": path,
                "backing_path": path,
                "backing_size_bytes": SIZE,
                "backing_mtime": reader.header.time,
                "backing_matches": true,
                "backing_problem": null,
                "backing_note": null,
                "headroom_bytes": headroom,
                "resize_in_progress": false,
                "resize_to_bytes": null,
                "backing_change_in_progress": false,
                "file_bytes": cow.len(),
                "file_allocated_bytes": allocated,
                "stock_uml": "takes it",
            }),
            "{version}"
        );
    }
}

/// What the file takes on disk, as `du` counts it. It is synced first: some file systems give it
/// its blocks only then.
fn allocated(sandbox: &Sandbox, name: &str) -> u64 {
    let file = std::fs::File::open(sandbox.path(name)).unwrap();
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn an_image_in_words() {
    let sandbox = Sandbox::with_images();
    let len = size(sandbox.read("v3").len() as u64);
    let on_disk = size(allocated(&sandbox, "v3"));
    assert_eq!(
        sandbox.succeeds(&["image", "info", "@v3"]),
        format!(
            "format         V3\n\
             size           1 MiB\n\
             dirty          9 sectors, 4.50 KiB\n\
             layout         alignment 4096, bitmap of 256 bytes at byte 8192, data at byte 12288\n\
             file           {len} long, takes {on_disk} on disk\n\
             headroom       grows to 16 MiB without its data moving\n\
             backing file   @backing\n\
             \x20              it is the one that the file was made for\n\
             stock UML      takes it\n"
        )
    );
    let v2 = sandbox.succeeds(&["image", "info", "@v2"]);
    assert!(v2.contains("headroom       none: a resize rebuilds the file as V3\n"));
}

/// The headers that others wrote, over a file that is not there.
#[test]
fn the_golden_headers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver/tests/golden");
    let sandbox = Sandbox::new();
    for (name, version, dirty) in [
        ("v1-little-endian.bin", 1, 3),
        ("v1-big-endian.bin", 1, 3),
        ("v2.bin", 2, 3),
        ("v3.bin", 3, 3),
        ("v3-64-bit.bin", 3, 3),
        ("v3-uml_mkcow.bin", 3, 0),
    ] {
        let bytes = std::fs::read(golden.join(name)).unwrap();
        sandbox.write(name, bytes);
        let file = std::fs::File::options()
            .write(true)
            .open(sandbox.path(name));
        file.unwrap().set_len(12288 + 64 * 512).unwrap();
        let info = sandbox.json(&["image", "info", &format!("@{name}"), "-f", "cow"]);
        assert_eq!(info["version"], version, "{name}");
        assert_eq!(info["dirty_sectors"], dirty, "{name}");
        assert_eq!(info["size_bytes"], 32768, "{name}");
        assert_eq!(info["backing_file"], "/srv/uml/root.img", "{name}");
        assert_eq!(info["backing_mtime"], 1_060_000_000, "{name}");
        assert_eq!(info["backing_matches"], false, "{name}");
        let map = sandbox.json(&["image", "map", &format!("@{name}")]);
        let runs = map.as_array().unwrap();
        let dirty_runs = runs.iter().filter(|run| run["depth"] == 0);
        let starts: Vec<_> = dirty_runs.map(|run| run["start_bytes"].clone()).collect();
        let expected = [512, 8 * 512, 63 * 512];
        assert_eq!(starts, expected[..dirty], "{name}");
    }
}

/// Puts the disk together from the map alone.
fn disk_by_map(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    let map = sandbox.json(&["image", "map", &format!("@{name}")]);
    let number = |run: &Value, field: &str| run[field].as_u64().unwrap() as usize;
    let mut disk = Vec::new();
    for run in map.as_array().unwrap() {
        assert_eq!(number(run, "start_bytes"), disk.len(), "no gaps");
        let (from, len) = (number(run, "offset_bytes"), number(run, "length_bytes"));
        let file = std::fs::read(run["file"].as_str().unwrap()).unwrap();
        let (state, depth) = (run["state"].as_str().unwrap(), number(run, "depth"));
        assert!([("dirty", 0), ("clean", 1)].contains(&(state, depth)));
        let bytes = &file[from..from + len];
        assert!(run["zero"] == false || bytes.iter().all(|&byte| byte == 0));
        disk.extend(bytes);
    }
    disk
}

#[test]
fn the_map_leads_to_every_sector() {
    let sandbox = Sandbox::with_images();
    let expected = sandbox.disk("v3", "backing");
    assert_eq!(expected[700 * 512..701 * 512], written(700));
    for version in VERSIONS {
        let name = name_of(version);
        assert!(disk_by_map(&sandbox, name) == expected, "{name}");
    }
}

#[test]
fn a_map_in_words() {
    let sandbox = Sandbox::new();
    sandbox.write("backing", vec![1; 64 << 10]);
    let args = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.succeeds(&[&args[..], &["--size", "128K", "--max-size", "1M"]].concat());
    assert_eq!(
        sandbox.succeeds(&["image", "map", "@cow"]),
        "           start           length                 offset  file\n\
         \x20              0            65536 clean                0  @backing\n\
         \x20          65536            65536 dirty            77824  @cow (zeros)\n"
    );
}

#[test]
fn both_work_beside_a_running_uml() {
    let sandbox = Sandbox::with_images();
    for version in VERSIONS {
        let name = name_of(version);
        let cow = format!("@{name}");
        let _held = sandbox.hold(name);
        assert_eq!(sandbox.json(&["image", "info", &cow])["size_bytes"], SIZE);
        sandbox.succeeds(&["image", "map", &cow]);
    }
}

/// Whoever opened it to read would wait for one who writes.
#[test]
fn the_backing_file_is_not_opened() {
    let sandbox = Sandbox::new();
    let made = Command::new("mkfifo").arg(sandbox.path("fifo")).status();
    assert!(made.unwrap().success());
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    for (backing, path) in [
        ("fifo", sandbox.path("fifo")),
        ("directory", sandbox.path("directory")),
        ("character device", "/dev/tty".into()),
    ] {
        sandbox.write_image_under("cow", &header(Version::V3, &path, SIZE), &SOME);
        let info = sandbox.json(&["image", "info", "@cow", "--format", "cow"]);
        assert_eq!(info["backing_matches"], false, "{backing}");
        let problem = "is no regular file or block device";
        assert_eq!(info["backing_problem"], problem, "{backing}");
        sandbox.succeeds(&["image", "map", "@cow"]);
    }
}

#[test]
fn a_backing_file_that_may_not_be_read_is_described() {
    let sandbox = Sandbox::with_images();
    let mode = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(sandbox.path("backing"), mode).unwrap();
    // Root may read it all the same; nobody else may, and sees what root sees.
    let info = sandbox.json(&["image", "info", "@v3"]);
    assert_eq!(info["backing_matches"], true);
}

#[test]
fn each_way_in_which_a_backing_file_can_differ() {
    let sandbox = Sandbox::with_images();
    let problem = |sandbox: &Sandbox| {
        let info = sandbox.json(&["image", "info", "@v3"]);
        assert_eq!(info["backing_matches"], false);
        info["backing_problem"].as_str().unwrap().to_owned()
    };
    sandbox.patch("v3", 8, &1_060_000_000_u32.to_be_bytes());
    let found = problem(&sandbox);
    let path = |name: &str| sandbox.path(name).display().to_string();
    let ways_out = ways_out(&path("backing"), &path("v3"), 1_060_000_000);
    let expected = " and 2003-08-04 12:26:40 UTC). ";
    assert!(found.starts_with("was modified at "), "{found}");
    let way_out = "--format cow, if it is a COW file that you trust, says what to do";
    assert!(found.ends_with(&format!("{expected}{way_out}")), "{found}");
    let info = sandbox.json(&["image", "info", "@v3", "--format", "cow"]);
    let found = info["backing_problem"].as_str().unwrap();
    assert!(found.ends_with(&format!("{expected}{ways_out}")), "{found}");
    sandbox.write("backing", [0; 4096]);
    assert_eq!(problem(&sandbox), "has 4096 bytes, expected 1048576");
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    assert_eq!(problem(&sandbox), "no such file or directory");
}

#[test]
fn a_path_that_leads_outside_is_shown_and_not_followed() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    sandbox.write_backing("backing", SIZE);
    let inside = header(Version::V3, &sandbox.path("backing"), SIZE);
    let up = inside
        .with_backing(Path::new("../backing"), inside.backing_mtime)
        .unwrap();
    sandbox.write_image_under("sub/cow", &up, &SOME);
    let named = ["image", "info", "@sub/cow", "--format", "cow"];
    let info = sandbox.json(&named);
    assert_eq!(info["backing_file"], "../backing");
    assert_eq!(info["backing_matches"], true);
    let problem = "not looked at: its path leads outside the COW file's directory";
    let guessed = format!("{problem} (--format cow if it is a COW file that you trust)");
    for (args, problem) in [
        (&named[..3], &*guessed),
        (&[&named[..], &["--confine-backing"]].concat(), problem),
    ] {
        let info = sandbox.json(args);
        assert_eq!(info["backing_file"], "../backing");
        assert_eq!(info["backing_matches"], Value::Null);
        assert_eq!(info["backing_problem"], problem);
        // Nobody has looked, and it may not even be there.
        assert_eq!(
            info["stock_uml"],
            "takes it if its backing file is the right one"
        );
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let sandbox = Sandbox::new();
    // Escape sequences of 7 and 8 bits, a delete, and what turns the direction of writing.
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{9b}31m\u{7f}\u{202e}";
    let path = sandbox.path(evil);
    sandbox.write_image_under("cow", &header(Version::V3, &path, SIZE), &SOME);
    let escaped = r"\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{9b}31m\u{7f}\u{202e}";
    let shown = sandbox.succeeds(&["image", "info", "@cow"]);
    assert!(shown.contains(&format!("backing file   @{escaped}\n")));
    assert!(
        sandbox
            .succeeds(&["image", "map", "@cow"])
            .contains(escaped)
    );
    for args in [["image", "info", "@cow"], ["image", "map", "@cow"]] {
        let json = sandbox.succeeds(&[&args[..], &["--json"]].concat());
        let raw = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(json.chars().find(raw), None, "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        let file = value.get("backing_path").unwrap_or(&value[0]["file"]);
        let last = value.as_array().and_then(|runs| runs.last());
        let file = last.map_or(file, |_| &value[1]["file"]);
        assert_eq!(
            file.as_str().unwrap(),
            format!("@{evil}"),
            "read back, it is the path"
        );
    }
}

/// A directory of links, as people have who keep their images elsewhere.
#[test]
fn a_link_is_followed() {
    let sandbox = Sandbox::with_images();
    symlink("v3", sandbox.path("link")).unwrap();
    let info = sandbox.json(&["image", "info", "@link"]);
    assert_eq!(info["dirty_sectors"], SOME.len());
    // What the kernel calls it: a FIFO that nobody writes to, and that is not waited for.
    let made = Command::new("mkfifo").arg(sandbox.path("fifo")).status();
    assert!(made.unwrap().success());
    sandbox.refuses(
        &["image", "info", "@fifo"],
        "@fifo: found a FIFO, socket or character device, expected a regular file or a block device",
    );
}

/// `ubdlab image map ... | head` is no failure.
#[test]
fn a_reader_may_go_away() {
    let sandbox = Sandbox::new();
    sandbox.write("backing", vec![1; 4 << 20]);
    let every_other: Vec<u64> = (0..4096).map(|n| n * 2).collect();
    sandbox.write_image("cow", Version::V3, "backing", &every_other);
    let geometry = Geometry::of(&header(Version::V3, &sandbox.path("backing"), 4 << 20));
    assert_eq!(geometry.unwrap().capacity().0, 8192);
    for json in ["", "--json"] {
        let script = format!("set -o pipefail; \"$0\" image map \"$1\" {json} | head -c 100");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).arg(ubdlab().get_program());
        let run = output(bash.arg(sandbox.path("cow")));
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert_eq!((run.stdout.len(), run.stderr.len()), (100, 0));
    }
}
