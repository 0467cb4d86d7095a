//! A COW file that names a path of another machine, read over a file that the user names: its
//! header stays as it is.

use driver::cow::Version;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, expected_disk, header};

/// The time that the header has.
const TIME: u64 = 1_050_000_000;

/// Images of the versions that there are, over a file that lies elsewhere here, and its disk.
fn sandbox(version: Version) -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new();
    sandbox.write_backing("here.img", SIZE);
    let here = header(version, &sandbox.path("here.img"), SIZE);
    let elsewhere = std::path::Path::new("/their/machine/root.img");
    let there = here.with_backing(elsewhere, TIME as u32).unwrap();
    sandbox.write_image_under("cow", &there, &SOME);
    let disk = expected_disk(&sandbox.read("here.img"), &SOME);
    sandbox.write("disk", &disk);
    (sandbox, disk)
}

/// The commands, without what they make, which is `@new`.
const COMMANDS: [&[&str]; 6] = [
    &["merge", "@cow", "@new", "--backing", "@here.img"],
    &[
        "convert",
        "-f",
        "cow",
        "@cow",
        "@new",
        "--source-backing",
        "@here.img",
    ],
    &[
        "compare",
        "-f",
        "cow",
        "@cow",
        "@disk",
        "--backing",
        "@here.img",
    ],
    &["map", "@cow", "--backing", "@here.img"],
    &["check", "@cow", "--backing", "@here.img"],
    &[
        "resize",
        "@cow",
        "2M",
        "--dry-run",
        "--backing",
        "@here.img",
    ],
];

fn image<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["image"], command, more].concat()
}

/// Whether a damaged extension block can be written anew depends on the backing file's size: on
/// that of the file that the user names.
#[test]
fn a_damaged_extension_block_is_judged_by_the_file_that_is_named() {
    let (sandbox, _) = sandbox(Version::V3);
    let mut block = driver::cow::Extension::new(driver::units::Bytes(SIZE)).encode();
    block[20] ^= 1;
    sandbox.patch("cow", driver::cow::Extension::OFFSET.0 as usize, &block);
    sandbox.write_backing("longer.img", SIZE + 512);
    sandbox.touch("here.img", TIME + 7);
    for (backing, fault) in [
        (&["--backing", "@here.img"][..], "damaged-extension"),
        (&["--backing", "@longer.img"], "lost-extension"),
        (
            &["--backing", "@here.img", "--check-time"],
            "lost-extension",
        ),
        (&[], "lost-extension"),
    ] {
        let check = ["image", "check", "@cow", "--json"];
        let checked = sandbox.run(&[&check, backing].concat());
        assert_eq!(checked.status.code(), Some(2));
        let found = sandbox.text(&checked.stdout);
        assert!(
            found.contains(&format!("\"fault\": \"{fault}\"")),
            "{found}"
        );
    }
}

#[test]
fn every_command_that_reads_takes_another_backing_file() {
    for version in [Version::V1, Version::V2, Version::V3Wide, Version::V3] {
        let (sandbox, disk) = sandbox(version);
        let cow = sandbox.read("cow");
        // It may have been copied: its time does not count.
        sandbox.touch("here.img", TIME + 7);
        for command in COMMANDS {
            sandbox.succeeds(&image(command, &[]));
            assert!(sandbox.read("cow") == cow, "{version} {command:?}");
            if command.contains(&"@new") {
                assert!(sandbox.read("new") == disk, "{version} {command:?}");
                std::fs::remove_file(sandbox.path("new")).unwrap();
            }
        }
        let second = [
            "image",
            "compare",
            "@disk",
            "@cow",
            "-F",
            "cow",
            "-B",
            "@here.img",
        ];
        sandbox.succeeds(&second);
        // The time that is asked for is that of whichever file is named.
        let timed = [&second[..], &["--check-time"]].concat();
        let told = sandbox.run(&timed);
        assert_eq!(told.status.code(), Some(3));
        let told = sandbox.text(&told.stderr);
        assert!(told.contains("modified at 1050000007"), "{told}");
        let map = sandbox.succeeds(&image(COMMANDS[3], &[]));
        assert!(map.contains("@here.img\n"), "{map}");
        // Without it the header's is looked for, which is not there.
        let merge = ["image", "merge", "@cow", "@new"];
        assert_eq!(sandbox.run(&merge).status.code(), Some(3));
        let converted = ["--to", "v3"];
        sandbox.succeeds(&image(COMMANDS[1], &converted));
        assert_eq!(sandbox.disk("new", "here.img"), disk);
    }
}

#[test]
fn its_size_counts_always_and_its_time_on_request() {
    let (sandbox, _) = sandbox(Version::V3);
    for command in COMMANDS {
        sandbox.succeeds(&image(command, &["--check-time"]));
        let _ = std::fs::remove_file(sandbox.path("new"));
    }
    let refused = |more: &[&str], text: &str| {
        for command in COMMANDS {
            let before = sandbox.contents();
            let output = sandbox.run(&image(command, more));
            let status = if command[0] == "check" { 2 } else { 3 };
            assert_eq!(output.status.code(), Some(status), "{command:?}");
            let said = [output.stdout, output.stderr].concat();
            let said = sandbox.text(&said);
            assert!(said.contains(text), "{command:?}: {said}");
            assert!(sandbox.contents() == before, "{command:?}");
        }
    };
    sandbox.touch("here.img", TIME + 7);
    refused(&["--check-time"], "modified at 1050000007");
    sandbox.write_backing("here.img", SIZE + 512);
    refused(&[], &(SIZE + 512).to_string());
}

#[test]
fn what_writes_takes_the_backing_file_of_the_header_only() {
    let (sandbox, _) = sandbox(Version::V3);
    for (command, message) in [
        (
            &["merge", "@cow", "--in-place", "--backing", "@here.img"][..],
            "the argument '--in-place' cannot be used with '--backing <FILE>'",
        ),
        (
            &["check", "@cow", "--repair", "--backing", "@here.img"],
            "the argument '--repair' cannot be used with '--backing <FILE>'",
        ),
        (
            &["resize", "@cow", "2M", "--backing", "@here.img"],
            "the following required arguments were not provided:\n  --dry-run",
        ),
    ] {
        let before = sandbox.contents();
        let output = sandbox.run(&image(command, &[]));
        let told = sandbox.text(&output.stderr);
        assert!(told.starts_with(&format!("error: {message}\n")), "{told}");
        assert_eq!(output.status.code(), Some(2));
        assert!(sandbox.contents() == before);
    }
    for command in [
        &["convert", "-f", "raw", "@disk", "@new", "-b", "@here.img"][..],
        &["compare", "-f", "raw", "@disk", "@disk", "-b", "@here.img"],
        &["map", "-f", "raw", "@disk", "-b", "@here.img"],
    ] {
        let message = "@disk: a raw disk has no backing file that another could take the place of";
        sandbox.refuses(&image(command, &[]), message);
    }
}

/// Its header would be read as the disk's first sectors, as where a header is made to name it.
#[test]
fn what_begins_like_an_image_is_refused_unless_it_is_said_to_be_raw() {
    let (sandbox, _) = sandbox(Version::V3);
    let right = sandbox.read("here.img");
    sandbox.patch("here.img", 0, b"OOOM");
    let refusal = "@here.img: begins like a COW file, and a backing file is a raw disk: its header \
                   would be taken for the disk's first sectors. Merge it into a raw disk first \
                   (ubdlab image merge); --backing-format raw if it is a raw disk all the same";
    for command in COMMANDS {
        let command = image(command, &[]);
        let status = if command[1] == "check" { 1 } else { 3 };
        sandbox.fails(&command, status, &format!("ubdlab: {refusal}\n"));
        let told = [&command[..], &["--backing-format", "raw"]].concat();
        let done = sandbox.run(&told);
        let said = sandbox.text(&done.stderr);
        // Sector 0 is dirty, so that the disk is the same.
        assert_eq!(done.status.code(), Some(0), "{told:?}: {said}");
        let _ = std::fs::remove_file(sandbox.path("new"));
    }
    let second = ["compare", "@disk", "-F", "cow", "@cow", "-B", "@here.img"];
    sandbox.refuses(&image(&second, &[]), refusal);
    sandbox.run(&image(&second, &["--backing-format", "raw"]));
    sandbox.write("here.img", right);
    for command in COMMANDS {
        sandbox.succeeds(&image(command, &[]));
        let _ = std::fs::remove_file(sandbox.path("new"));
    }
}
