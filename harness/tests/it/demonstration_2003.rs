//! The demonstration of 2003, again: a disk of 210,819,584 bytes, whose sector count is no
//! multiple of 8, is grown to 314,572,800 bytes while recorded I/O goes on, by every strategy,
//! on real files. Nothing may be lost.

use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use driver::resize::Strategy;
use driver::units::{Bytes, SectorCount};
use harness::replay::{Options, PastEnd, Report, ResizeAt, Session};
use harness::trace::{self, ReadOptions};
use userhelper::real_files::RealHost;

const OLD: Bytes = Bytes(210_819_584);
const NEW: Bytes = Bytes(314_572_800);

fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../traces")
        .join(name)
}

fn grow(strategy: Strategy, alignment: Option<u32>, directory: &Path) -> Report {
    let path = bundled("ext4-unpack.ubdtrace");
    let session = Session {
        trace: &|| trace::open(&path, &ReadOptions::default()),
        options: Options {
            past_end: PastEnd::Wrap,
            resizes: vec![ResizeAt {
                request: 12_000,
                size: NEW,
                strategy: Some(strategy),
            }],
            alignment,
            ..Options::as_fast(32)
        },
        progress: &|_| {},
    };
    session.on_files(directory, Some(OLD)).unwrap()
}

fn check(strategy: Strategy, alignment: Option<u32>) {
    let directory = tempfile::tempdir().unwrap();
    let report = grow(strategy, alignment, directory.path());
    assert_eq!(report.mismatch_examples, Vec::<String>::new());
    assert_eq!(report.mismatches, 0);
    assert_eq!(report.backing_unchanged, Some(true));
    assert_eq!(report.requests, 29_818);
    let new_sectors = NEW.whole_sectors().0;
    assert_eq!(
        report.sectors_verified,
        report.sectors_read + 2 * new_sectors
    );
    let [resize] = &report.resizes[..] else {
        panic!("{:?}", report.resizes);
    };
    assert_eq!(resize.strategy, strategy.to_string());
    assert_eq!((resize.old_bytes, resize.new_bytes), (OLD.0, NEW.0));
    assert_eq!(resize.moved_bytes > 0, strategy != Strategy::Headroom);

    let spec = format!("ubda={}", directory.path().join("device.cow").display());
    let spec: DeviceSpec = spec.parse().unwrap();
    let opened = open(&RealHost, &spec, OpenOptions::default()).unwrap();
    assert!(opened.interrupted.is_none());
    assert_eq!(opened.device.capacity(), SectorCount(614_400));
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn by_headroom() {
    check(Strategy::Headroom, None);
}

#[test]
fn by_rebuild() {
    check(Strategy::Rebuild, Some(4096));
}

#[test]
fn by_reflow() {
    check(Strategy::Reflow, Some(4096));
}
