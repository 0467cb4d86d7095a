//! The simulated host answers every operation as memory and as a real file system do, so
//! that what is found in it means something elsewhere. A failure names the seed.

use std::path::Path;

use crate::suite::{Extent, hosts_agree};
use driver::memory::MemoryHost;
use harness::sim::SimHost;
use userhelper::real_files::RealHost;

const EXTENT: Extent = Extent {
    operations: 400,
    reach: 1 << 20,
};

#[test]
fn simulated_and_memory_files_agree() {
    for seed in 0..16 {
        let simulated = (&SimHost::default(), Path::new("images"));
        hosts_agree(
            seed,
            EXTENT,
            (&MemoryHost::new(), Path::new("images")),
            simulated,
        );
    }
}

#[test]
fn simulated_and_real_files_agree() {
    for seed in 100..105 {
        let directory = tempfile::tempdir().unwrap();
        let simulated = (&SimHost::default(), Path::new("images"));
        hosts_agree(seed, EXTENT, (&RealHost, directory.path()), simulated);
    }
}
