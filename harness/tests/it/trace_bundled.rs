//! The recorded traces in `traces/`: they open, they hold what was counted in the
//! kernel's text when they were recorded, and they are small enough to bundle.
//! A trace that is recorded again gets new numbers here and in `traces/README.md`.

use std::fs::File;
use std::path::{Path, PathBuf};

use harness::trace::{self, CompactReader, ReadOptions, Summary, summarize};

/// A trace and, from `grep` over the text it was converted from, its counts.
struct Bundled {
    name: &'static str,
    device_sectors: u64,
    requests: u64,
    reads: u64,
    writes: u64,
    flushes: u64,
    discards: u64,
    write_zeroes: u64,
    preflush_writes: u64,
    fua_writes: u64,
}

#[rustfmt::skip]
const BUNDLED: [Bundled; 6] = [
    Bundled { name: "ext4-unpack", device_sectors: 524_288, requests: 29_818, reads: 2_882, writes: 25_943,
        flushes: 24, discards: 965, write_zeroes: 4, preflush_writes: 62, fua_writes: 73 },
    Bundled { name: "sqlite-wal", device_sectors: 524_288, requests: 32_080, reads: 3_829, writes: 25_144,
        flushes: 3_069, discards: 2, write_zeroes: 36, preflush_writes: 205, fua_writes: 215 },
    Bundled { name: "xfs-copy", device_sectors: 655_360, requests: 7_961, reads: 92, writes: 7_847,
        flushes: 3, discards: 18, write_zeroes: 1, preflush_writes: 1_209, fua_writes: 1_206 },
    Bundled { name: "btrfs-snapshot", device_sectors: 1_048_576, requests: 12_554, reads: 46, writes: 10_582,
        flushes: 623, discards: 1_303, write_zeroes: 0, preflush_writes: 0, fua_writes: 609 },
    Bundled { name: "git-build", device_sectors: 786_432, requests: 19_498, reads: 2_592, writes: 16_828,
        flushes: 24, discards: 2, write_zeroes: 52, preflush_writes: 105, fua_writes: 121 },
    Bundled { name: "direct-random", device_sectors: 524_288, requests: 9_556, reads: 2_400, writes: 4_478,
        flushes: 2_078, discards: 300, write_zeroes: 300, preflush_writes: 0, fua_writes: 1_778 },
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces")
}

#[test]
fn every_bundled_trace_holds_what_was_recorded() {
    for bundled in &BUNDLED {
        let path = folder().join(bundled.name).with_extension("ubdtrace");
        let mut source = trace::open(&path, &ReadOptions::default()).unwrap();
        let description = source.description().clone();
        let device_sectors = description.device_size.unwrap().0;
        assert_eq!(device_sectors, bundled.device_sectors, "{}", bundled.name);
        assert!(description.text.contains("block_bio_queue"));

        let summary = summarize(&mut *source).unwrap();
        let expected = Summary {
            requests: bundled.requests,
            reads: bundled.reads,
            writes: bundled.writes,
            flushes: bundled.flushes,
            discards: bundled.discards,
            write_zeroes: bundled.write_zeroes,
            preflush_writes: bundled.preflush_writes,
            fua_writes: bundled.fua_writes,
            ..summary.clone()
        };
        assert_eq!(summary, expected, "{}", bundled.name);
        let of_each = bundled.reads
            + bundled.writes
            + bundled.flushes
            + bundled.discards
            + bundled.write_zeroes;
        assert_eq!(of_each, bundled.requests, "{}", bundled.name);
        assert!(summary.max_end_sector <= device_sectors, "{}", bundled.name);
        for survivor in [summary.flushes, summary.fua_writes, summary.discards] {
            assert!(survivor > 0, "{}", bundled.name);
        }

        let mut by_index = CompactReader::open(&path).unwrap();
        assert_eq!(by_index.records().unwrap(), bundled.requests);
    }
}

#[test]
fn the_folder_has_these_traces_and_each_is_below_a_mebibyte() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ubdtrace")
        {
            let length = File::open(&path).unwrap().metadata().unwrap().len();
            assert!(length < 1 << 20, "{} has {length} bytes", path.display());
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    let mut expected = BUNDLED.map(|bundled| bundled.name);
    expected.sort_unstable();
    assert_eq!(names, expected);
}
