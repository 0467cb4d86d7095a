//! Programs under `ubdlab crash`, as black boxes: ubdlab's own image tools, which lose nothing, and
//! others, of which docs/results.md says what was found.

mod ours;
mod qemu;
mod sqlite;
mod uml_utilities;

use serde_json::Value;

use crate::support::cli::{PROGRAM, SIZE, Sandbox};
use crate::support::crash::{crash, found, work};
use crate::support::peers::peer;
use crate::support::share::share;

/// The sectors that are dirty in the COW file of [`images`]: both ends and a few between.
const DIRTY: [u64; 6] = [0, 1, 100, 101, 1000, 2047];

/// A directory `work` with a backing file and a COW file over it; beside it `disk`, which has the
/// content of that disk. `None` where nothing can be mounted.
fn images() -> Option<Sandbox> {
    let sandbox = work(&[])?;
    sandbox.write_backing("work/backing", SIZE);
    sandbox.create_cow("work/cow", "work/backing");
    sandbox.make_dirty_at("work/cow", &DIRTY);
    sandbox.succeeds(&["image", "convert", "@work/cow", "@disk", "--to", "raw"]);
    Some(sandbox)
}

/// Likewise, for a peer's program, whose path comes first.
fn images_for(peer_name: &str) -> Option<(String, Sandbox)> {
    let program = peer(peer_name)?;
    Some((program.to_str().unwrap().to_owned(), images()?))
}

/// What `ubdlab crash` finds, which ends with this status: at few moments, or at many where
/// everything is to be run. The end passes without a crash, and more than this many images were
/// different.
fn crashed(sandbox: &Sandbox, check: &str, command: &[&str], status: i32, images: u64) -> Value {
    let (points, most) = share(("80", "16"), ("16", "5"));
    let more = [
        "--json", "--jobs", "1", "--points", points, "--images", most,
    ];
    let report = found(&crash(sandbox, check, &more, command), status);
    assert_eq!(report["without_crash"]["passes"], true, "{report}");
    let checked = report["checked_images"].as_u64().unwrap();
    assert!(checked > images, "{command:?}: {report}");
    report
}

/// A check in a shell: that of the COW file `work/NAME`, and that it has the content of the disk
/// `expected`. It may have leaks at first (status 3), which a repair takes away, and nothing worse.
fn is_whole(name: &str, expected: &str) -> String {
    format!(
        "{PROGRAM} image check work/{name} >/dev/null; case $? in 0|3) ;; *) exit 7;; esac; \
         {PROGRAM} image check --repair work/{name} >/dev/null; \
         {PROGRAM} image check work/{name} && \
         {PROGRAM} image compare work/{name} {expected} >/dev/null"
    )
}
