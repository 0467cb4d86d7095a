//! `uml_mkcow`, `uml_moo` and `qemu-img` beside the image commands.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use driver::units::Sector;
use harness::fuzz::build::cow_file;
use harness::fuzz::case::{Image, ImageVersion};
use harness::plain_format::{self, CowFile, Source, Version};
use harness::sim::FileContent;
use harness::stamp::Stamp;
use serde_json::Value;

use super::lab::{Lab, OnDisk, SECTOR, SIZE, assert_same, decode};

/// What is dirty in most of these images: both ends, a word's border, and a long run.
const DIRTY: [std::ops::Range<usize>; 4] = [0..1, 63..66, 8192..12_000, 32_767..32_768];

/// The backing file's content with the dirty sectors inverted.
fn with_dirty_sectors(backing: &[u8]) -> Vec<u8> {
    let mut wanted = backing.to_vec();
    for run in DIRTY {
        for byte in &mut wanted[run.start * 512..run.end * 512] {
            *byte = !*byte;
        }
    }
    wanted
}

fn check_info(lab: &Lab, dirty_sectors: u64) {
    let info = lab.sandbox.report(&["image", "info", "@cow"]);
    for (field, value) in [
        ("size_bytes", Value::from(SIZE)),
        ("sector_size", Value::from(512)),
        ("dirty_sectors", Value::from(dirty_sectors)),
        ("backing_size_bytes", Value::from(SIZE)),
        ("backing_matches", Value::from(true)),
        ("resize_in_progress", Value::from(false)),
    ] {
        assert_eq!(info[field], value, "{field} in {info}");
    }
}

#[test]
fn an_image_that_uml_mkcow_has_made_is_read_right() {
    let Some(lab) = Lab::with(&["uml_mkcow", "uml_moo"]) else {
        return;
    };
    lab.sandbox.write_backing("backing", SIZE);
    lab.run("uml_mkcow", &["@cow", "@backing"], &[0]);
    let backing = lab.sandbox.read("backing");
    assert_same("a new one", &lab.agreed_content("cow", "backing"), &backing);
    check_info(&lab, 0);
    let wanted = with_dirty_sectors(&backing);
    lab.write_differences(SECTOR, "cow", "backing", &wanted);
    let found = lab.agreed_content("cow", "backing");
    assert_same("one written to", &found, &wanted);
    check_info(&lab, DIRTY.map(|run| run.len() as u64).iter().sum());
}

/// The file system's superblock and its journal, at least.
#[test]
fn what_a_running_uml_has_written_is_read_right() {
    let programs = ["linux.uml", "uml_mkcow", "uml_moo", "mkfs.ext4", "e2fsck"];
    let Some(lab) = Lab::with(&programs) else {
        return;
    };
    lab.make_ext4("backing");
    lab.run("uml_mkcow", &["@cow", "@backing"], &[0]);
    // The second one is made by UML itself.
    for cow in ["cow", "by-uml"] {
        let ubda = lab.device(&format!("ubda=@{cow},@backing"));
        let console = lab.uml().mount(&lab.directory(), &ubda);
        assert!(crate::support::uml::has_mounted(&console), "{console}");
        lab.image(&["check", &format!("@{cow}")]);
        let content = lab.agreed_content(cow, "backing");
        assert!(content != lab.sandbox.read("backing"), "nothing is dirty");
        lab.sandbox.write("merged", content);
        lab.run("e2fsck", &["-fy", "@merged"], &[0, 1]);
        lab.run("e2fsck", &["-fn", "@merged"], &[0]);
    }
    check_info(
        &lab,
        decode(&lab.path("cow"), &lab.path("backing")).dirty_sectors,
    );
}

/// The largest one keeps the data just below the 2 GiB that stock tools reach.
#[test]
fn uml_moo_reads_our_images_of_every_alignment() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    lab.sandbox.write_backing("backing", SIZE);
    let wanted = with_dirty_sectors(&lab.sandbox.read("backing"));
    for shift in [12, 16, 20, 26, 29] {
        lab.make_cow("cow", "backing", Some(1 << shift), &wanted);
        let found = lab.agreed_content("cow", "backing");
        assert_same(&format!("alignment 2^{shift}"), &found, &wanted);
        std::fs::remove_file(lab.path("cow")).unwrap();
    }
}

/// With this alignment the bitmap's last byte, which the first sector past 16 MiB needs, takes a
/// page more. (Of version 2 this formula is another.)
#[test]
fn uml_moo_reads_our_images_of_sizes_that_fill_no_byte_of_the_bitmap() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    for more in [1, 7, 8, 9] {
        lab.sandbox.write_backing("backing", SIZE + more * 512);
        let mut wanted = with_dirty_sectors(&lab.sandbox.read("backing"));
        wanted[SIZE as usize..].fill(7);
        lab.make_cow("cow", "backing", Some(4096), &wanted);
        let found = lab.agreed_content("cow", "backing");
        assert_same(&format!("{more} sectors more"), &found, &wanted);
        std::fs::remove_file(lab.path("cow")).unwrap();
    }
}

/// The other COW file would show a mix of both otherwise. It is a second old at most, which is
/// all that the time in its header can tell.
#[test]
fn another_image_over_a_backing_file_that_was_merged_into_is_refused() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    lab.sandbox.write_backing("backing", SIZE);
    let wanted = with_dirty_sectors(&lab.sandbox.read("backing"));
    lab.make_cow("cow", "backing", None, &wanted);
    lab.make_cow("other", "backing", None, &wanted);
    lab.image(&["merge", "@cow", "--in-place"]);
    lab.run("uml_moo", &["@other", "@merged"], &[1]);
    let merge = ["image", "merge", "@other", "@merged"];
    assert_eq!(lab.sandbox.run(&merge).status.code(), Some(3));
    assert!(!lab.path("merged").exists());
}

#[test]
fn a_merge_in_place_makes_the_backing_file_that_uml_moo_makes() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    lab.sandbox.write_backing("ours", SIZE);
    lab.sandbox.write_backing("theirs", SIZE);
    let wanted = with_dirty_sectors(&lab.sandbox.read("ours"));
    for backing in ["ours", "theirs"] {
        lab.make_cow(&format!("{backing}.cow"), backing, None, &wanted);
    }
    lab.run("uml_moo", &["-d", "@theirs.cow"], &[0]);
    lab.image(&["merge", "@ours.cow", "--in-place"]);
    assert_same("uml_moo's", &lab.sandbox.read("theirs"), &wanted);
    assert_same("ours", &lab.sandbox.read("ours"), &wanted);
}

#[test]
fn qemu_img_finds_no_difference_between_converted_and_merged() {
    let Some(lab) = Lab::with(&["uml_moo", "qemu-img"]) else {
        return;
    };
    lab.sandbox.write_backing("backing", SIZE);
    let wanted = with_dirty_sectors(&lab.sandbox.read("backing"));
    lab.make_cow("cow", "backing", None, &wanted);
    lab.image(&["convert", "@cow", "@converted", "--to", "raw"]);
    lab.image(&["merge", "@cow", "@ours"]);
    lab.run("uml_moo", &["@cow", "@theirs"], &[0]);
    let compare = ["compare", "-f", "raw", "-F", "raw", "@converted"];
    for merged in ["@ours", "@theirs"] {
        lab.run("qemu-img", &[&compare[..], &[merged]].concat(), &[0]);
    }
    // It would have noticed, and so would we.
    lab.run("qemu-img", &[&compare[..], &["@backing"]].concat(), &[1]);
    let same = lab
        .sandbox
        .run(&["image", "compare", "@converted", "@theirs"]);
    assert_eq!(same.status.code(), Some(0));
    let different = lab
        .sandbox
        .run(&["image", "compare", "@converted", "@backing"]);
    assert_eq!(different.status.code(), Some(1));
}

#[test]
fn an_image_converted_from_a_raw_one_is_read_right() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    lab.sandbox.write_backing("backing", SIZE);
    let wanted = with_dirty_sectors(&lab.sandbox.read("backing"));
    lab.sandbox.write("raw", &wanted);
    let convert = [
        "convert",
        "@raw",
        "@cow",
        "--to",
        "v3",
        "--backing",
        "@backing",
    ];
    lab.image(&convert);
    let found = lab.agreed_content("cow", "backing");
    assert_same("the converted image", &found, &wanted);
}

/// The layout of the reader that has nothing of the driver's code, against the program that most
/// files were made by.
#[test]
fn a_file_of_uml_mkcow_is_laid_out_as_the_page_says() {
    let Some(lab) = Lab::with(&["uml_mkcow"]) else {
        return;
    };
    let sectors = [
        1, 7, 8, 9, 63, 64, 100, 105, 110, 4096, 32_767, 32_768, 32_769, 65_537,
    ];
    for sectors in sectors {
        lab.sandbox
            .write_backing("backing", sectors * SECTOR as u64);
        lab.run("uml_mkcow", &["@cow", "@backing"], &[0]);
        let cow = CowFile::open(OnDisk::open(&lab.path("cow"))).unwrap();
        assert_eq!(cow.header.version, Version::V3);
        assert_eq!((cow.layout.sectors, cow.header.alignment), (sectors, 4096));
        assert_eq!(cow.file_len(), cow.layout.end, "{sectors} sectors");
        assert!(cow.dirty().is_empty());
        std::fs::remove_file(lab.path("cow")).unwrap();
    }
}

/// What the fuzzer's cases begin with, by `uml_moo` and by the reader that has nothing of the
/// driver's code. (`uml_moo` was built for 64 bits: of the older versions it reads none right.)
#[test]
fn uml_moo_reads_the_images_that_the_fuzzer_builds() {
    let Some(lab) = Lab::with(&["uml_moo"]) else {
        return;
    };
    for (sectors, alignment) in [(16, 512), (100, 512), (105, 4096), (200, 8192), (4096, 512)] {
        let image = Image {
            extension: true,
            dirty: vec![(0, 3), (9, 1), (sectors - 5, 5)],
            ..Image::sound(sectors, ImageVersion::V3, alignment)
        };
        let mut backing = vec![0; sectors as usize * SECTOR];
        Stamp::BACKING.fill(Sector(0), &mut backing);
        lab.sandbox.write("backing", &backing);
        let (file, dirty) = cow_file(&image);
        lab.sandbox.write("cow", over(&file, &lab.path("backing")));
        let found = lab.agreed_content("cow", "backing");
        for (sector, content) in found.chunks(SECTOR).enumerate() {
            let stamp = if dirty[sector] {
                Stamp(1)
            } else {
                Stamp::BACKING
            };
            let at = Sector(sector as u64);
            assert!(stamp.is_in(at, content), "{sectors} sectors: {sector}");
        }
    }
}

/// The COW file over another backing file.
fn over(file: &FileContent, backing: &Path) -> Vec<u8> {
    let metadata = std::fs::metadata(backing).unwrap();
    let cow = CowFile::open(file).unwrap();
    let header = plain_format::Header {
        path: backing.as_os_str().as_encoded_bytes().to_vec(),
        time: metadata.mtime() as u32,
        ..cow.header.clone()
    };
    let mut bytes = vec![0; Source::len(file) as usize];
    file.read(0, &mut bytes);
    bytes[..header.bytes().len()].copy_from_slice(&header.bytes());
    bytes
}
