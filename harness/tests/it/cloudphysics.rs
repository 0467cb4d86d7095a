//! Two hours of a production machine's disk, whole, with two resizes on the way. In memory,
//! because the point is every request; `docs/results.md` has the run on files. The trace is
//! not part of the repository: without it the test says that it was skipped.

use std::path::{Path, PathBuf};

use driver::resize::Strategy;
use driver::units::Bytes;
use harness::replay::{Options, PastEnd, ResizeAt, Session};
use harness::trace::{self, ReadOptions};

fn shared_trace() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("UBDLAB_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("data/cloudphysics-io.vscsi");
    path.exists().then_some(path)
}

#[test]
fn replays_with_two_resizes_and_no_mismatch() {
    let Some(path) = shared_trace() else {
        eprintln!("skipped: there is no cloudphysics-io.vscsi (UBDLAB_SHARED names its parent)");
        return;
    };
    let resize = |request, size, strategy| ResizeAt {
        request,
        size: Bytes(size),
        strategy: Some(strategy),
    };
    let session = Session {
        trace: &|| trace::open(&path, &ReadOptions::default()),
        options: Options {
            past_end: PastEnd::Wrap,
            resizes: vec![
                resize(38_000, 2 << 30, Strategy::Headroom),
                resize(76_000, 3 << 30, Strategy::Reflow),
            ],
            ..Options::as_fast(16)
        },
        progress: &|_| {},
    };
    // Folded onto one gigabyte, so that the memory of a test machine holds it.
    let report = session.in_memory(Some(Bytes(1 << 30))).unwrap();
    assert_eq!(report.requests, 113_872);
    assert_eq!(report.mismatch_examples, Vec::<String>::new());
    assert_eq!(report.mismatches, 0);
    assert_eq!(report.resizes.len(), 2);
    assert_eq!(report.backing_unchanged, Some(true));
}
