//! Memory and a real file system answer every operation alike. If they do not, the
//! failure names the seed; `HOSTS_AGREE_SEED=N cargo test -p userhelper --test it
//! hosts_agree` runs that one alone.

use std::path::Path;

use crate::suite::{Extent, hosts_agree};
use driver::memory::MemoryHost;
use userhelper::real_files::RealHost;

fn memory_and_real_agree(seed: u64, extent: Extent) {
    let directory = tempfile::tempdir().unwrap();
    hosts_agree(
        seed,
        extent,
        (&MemoryHost::new(), Path::new("images")),
        (&RealHost, directory.path()),
    );
}

#[test]
fn memory_and_real_files_agree() {
    let extent = Extent {
        operations: 400,
        reach: 1 << 20,
    };
    match std::env::var("HOSTS_AGREE_SEED") {
        Ok(seed) => memory_and_real_agree(seed.parse().unwrap(), extent),
        Err(_) => (0..32).for_each(|seed| memory_and_real_agree(seed, extent)),
    }
}

#[test]
fn they_agree_where_files_are_long_and_sparse() {
    let extent = Extent {
        operations: 60,
        reach: 40 << 20,
    };
    (0..6).for_each(|seed| memory_and_real_agree(seed, extent));
}

/// The suite itself has to notice: a host is compared with one that already has a file.
#[test]
#[should_panic(expected = "seed 1, operation")]
fn a_difference_is_noticed() {
    let extent = Extent {
        operations: 400,
        reach: 1 << 20,
    };
    let other = MemoryHost::new();
    other.file("images/cow", b"one more");
    hosts_agree(
        1,
        extent,
        (&MemoryHost::new(), Path::new("images")),
        (&other, Path::new("images")),
    );
}
