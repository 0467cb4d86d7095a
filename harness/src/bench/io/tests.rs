//! Each row with several requests in flight is measured once in small. How fast anything is, no
//! test looks at.

use std::process::Command;

use driver::units::Bytes;

use super::*;
use crate::bench::Unit;

const SMALL: Scale = Scale {
    cold: Bytes(4 << 20),
    warm: Bytes(1 << 20),
    reads: 256,
    flushed: Bytes(1 << 20),
    flushes: 32,
    runs: 1,
};

const READS: &str = "4 KiB read, ";

/// The rows that are asked for, with operations carried out so.
fn measured(only: &Only, io: Io) -> Vec<Row> {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut rows = Vec::new();
    let mut each = |more| rows.extend(more);
    shared_flush::measure(directory, only, &SMALL, &mut each).unwrap();
    deep::measure(directory, only, io, &SMALL, &mut each).unwrap();
    cold_replay::measure(directory, only, io, &SMALL, &mut each).unwrap();
    rows
}

/// The names that `bench io --list` has for them.
fn names() -> Vec<String> {
    let (nowhere, only) = (Path::new("/nowhere"), Only::none());
    let mut each = |_| panic!("no row was asked for");
    shared_flush::measure(nowhere, &only, &SMALL, &mut each).unwrap();
    deep::measure(nowhere, &only, Io::Auto, &SMALL, &mut each).unwrap();
    cold_replay::measure(nowhere, &only, Io::Auto, &SMALL, &mut each).unwrap();
    only.refused()
}

fn is_skipped(row: &Row) -> bool {
    let baseline = row.baseline.as_deref().unwrap_or_default();
    baseline.contains("skipped, needs")
}

fn stands_beside(row: &Row, what: &str) -> bool {
    row.baseline.as_deref().is_some_and(|it| it.contains(what))
}

#[test]
fn every_row_with_several_requests_in_flight_has_its_figures() {
    let rows = measured(&Only::default(), Io::Auto);
    for name in names() {
        // A row of each executor has its name at the end.
        let of_name = rows.iter().filter(|row| row.name.starts_with(&name));
        assert!(of_name.count() > 0, "no row of {name}");
    }
    for row in rows.iter().filter(|row| !is_skipped(row)) {
        assert!(row.value.is_finite() && row.value > 0.0, "{row:?}");
        let figures = [row.baseline_value, row.ratio];
        assert!(
            figures
                .iter()
                .flatten()
                .all(|it| it.is_finite() && *it > 0.0),
            "{row:?}"
        );
        assert_eq!(row.baseline.is_some(), row.baseline_value.is_some());
        assert_eq!(row.target.is_some(), row.met.is_some(), "{row:?}");
        if row.unit == Unit::PerSecond {
            assert!(row.baseline_value.is_some(), "{row:?}");
        }
    }
}

#[test]
fn each_way_to_read_without_a_device_and_each_mode_of_qcow2_stands_beside_the_device() {
    let only = Only::containing(Some("over a backing file, depth 32"));
    let rows = measured(&only, Io::Threads);
    let has_qemu = Command::new("qemu-img").arg("--version").output().is_ok();
    let reads = |cache: &str| -> Vec<&Row> {
        let of_cache = |row: &&Row| row.name.contains(cache) && row.name.contains(READS);
        let reads = rows.iter().filter(of_cache).filter(|row| !is_skipped(row));
        reads.filter(|row| row.io.is_some()).collect()
    };
    for (cache, has_peer) in [("cold", has_qemu), ("warm", false)] {
        let rows = reads(cache);
        assert!(stands_any(&rows, "without a device, bare threads"));
        let best = "threads; without a device, best of all ways, ";
        assert!(
            rows.iter()
                .any(|row| stands_beside(row, best) && row.target == Some(0.9))
        );
        assert_eq!(stands_any(&rows, "qcow2, threads"), has_peer, "{cache}");
    }
    // What was asked for by name carried them out.
    let by = rows.iter().filter_map(|row| row.io);
    let by: Vec<_> = by.map(|taken| taken.name()).collect();
    assert!(!by.is_empty() && by.iter().all(|name| *name == "threads"));
}

fn stands_any(rows: &[&Row], what: &str) -> bool {
    rows.iter().any(|row| stands_beside(row, what))
}
